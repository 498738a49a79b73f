// Dead letters by their writers' own classes: Spring Kafka's recoverer and that of @RetryableTopic, and Kafka Streams' handler.
//
// DeadLetters BOOTSTRAP writes to the topics spring-dlt, spring-twice-dlt, retryable-dlt and streams-dlq. The records that fail come
// from partition 1, offset 42, of the topic "orders".

import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.LogAndContinueExceptionHandler;
import org.apache.kafka.streams.errors.internals.DefaultErrorHandlerContext;
import org.apache.kafka.streams.processor.TaskId;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.ListenerExecutionFailedException;
import org.springframework.kafka.retrytopic.RetryableLetters;

public final class DeadLetters {
    private static final byte[] KEY = "42".getBytes(StandardCharsets.UTF_8);
    private static final byte[] VALUE = "created".getBytes(StandardCharsets.UTF_8);
    private static final long TIMESTAMP = 1_700_000_000_000L;

    public static void main(String[] args) throws Exception {
        Map<String, Object> config = new HashMap<>();
        config.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        DefaultKafkaProducerFactory<byte[], byte[]> factory =
            new DefaultKafkaProducerFactory<>(config, new ByteArraySerializer(), new ByteArraySerializer());
        KafkaTemplate<byte[], byte[]> template = new KafkaTemplate<>(factory);
        try {
            spring(template);
            RetryableLetters.write(template, record("orders", 1, 42, traced()), failure("no such customer"));
            for (ProducerRecord<byte[], byte[]> record : streams()) {
                template.send(record).get();
            }
        } finally {
            factory.destroy();
        }
    }

    private static ConsumerRecord<byte[], byte[]> record(String topic, int partition, long offset, Headers headers) {
        return new ConsumerRecord<>(topic, partition, offset, TIMESTAMP, TimestampType.CREATE_TIME, KEY.length, VALUE.length,
            KEY, VALUE, headers, java.util.Optional.empty());
    }

    private static Headers traced() {
        Headers headers = new RecordHeaders();
        headers.add("trace", "7f".getBytes(StandardCharsets.UTF_8));
        return headers;
    }

    private static Exception failure(String text) {
        return new ListenerExecutionFailedException("Listener failed", "billing", new IllegalStateException(text));
    }

    private static void spring(KafkaTemplate<byte[], byte[]> template) {
        DeadLetterPublishingRecoverer once =
            new DeadLetterPublishingRecoverer(template, (r, e) -> new TopicPartition("spring-dlt", 0));
        once.accept(record("orders", 1, 42, traced()), null, failure("no such customer"));
        // A letter whose listener fails as well: its headers are those of both failures.
        DeadLetterPublishingRecoverer again =
            new DeadLetterPublishingRecoverer(template, (r, e) -> new TopicPartition("spring-twice-dlt", 0));
        Headers headers = traced();
        KafkaTemplate<byte[], byte[]> kept = new KafkaTemplate<>(template.getProducerFactory()) {
            @Override
            public java.util.concurrent.CompletableFuture<org.springframework.kafka.support.SendResult<byte[], byte[]>> send(
                    ProducerRecord<byte[], byte[]> record) {
                record.headers().forEach(headers::add);
                return super.send(record);
            }
        };
        new DeadLetterPublishingRecoverer(kept, (r, e) -> new TopicPartition("spring-dlt", 0))
            .accept(record("orders", 1, 42, new RecordHeaders()), null, failure("the first failure"));
        again.accept(record("spring-dlt", 0, 1, headers), null, failure("the second failure"));
    }

    private static List<ProducerRecord<byte[], byte[]>> streams() {
        LogAndContinueExceptionHandler handler = new LogAndContinueExceptionHandler();
        handler.configure(Map.of(StreamsConfig.ERRORS_DEAD_LETTER_QUEUE_TOPIC_NAME_CONFIG, "streams-dlq"));
        ConsumerRecord<byte[], byte[]> record = record("orders", 1, 42, traced());
        DefaultErrorHandlerContext context = new DefaultErrorHandlerContext(null, "orders", 1, 42, record.headers(),
            "source", new TaskId(0, 1), TIMESTAMP, KEY, VALUE);
        return handler.handleError(context, record, new IllegalStateException("not JSON")).deadLetterQueueRecords();
    }
}
