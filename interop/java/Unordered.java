import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import io.confluent.parallelconsumer.internal.DrainingCloseable.DrainingMode;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Confluent's Parallel Consumer in a group that is moved to another client: {@code Unordered BOOTSTRAP GROUP TOPIC COUNT EVERY}. It
 * processes the first COUNT records without an order. Each EVERYth one never ends. When all others have ended it stops, which commits. It
 * prints {@code done}, a tab and the offset of each that has ended, and then {@code closed}.
 */
public final class Unordered {
    public static void main(String[] arguments) throws Exception {
        String topic = arguments[2];
        int count = Integer.parseInt(arguments[3]);
        int every = Integer.parseInt(arguments[4]);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        properties.put("group.id", arguments[1]);
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        KafkaConsumer<byte[], byte[]> consumer =
            new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        int stuck = (count + every - 1) / every;
        ParallelStreamProcessor<byte[], byte[]> processor = ParallelStreamProcessor.createEosStreamProcessor(
            ParallelConsumerOptions.<byte[], byte[]>builder()
                .consumer(consumer)
                .ordering(ProcessingOrder.UNORDERED)
                .commitMode(CommitMode.PERIODIC_CONSUMER_SYNC)
                .commitInterval(Duration.ofMillis(100))
                .ignoreReflectiveAccessExceptionsForAutoCommitDisabledCheck(true)
                .maxConcurrency(stuck + 16)
                .shutdownTimeout(Duration.ofSeconds(2))
                .build());
        processor.subscribe(List.of(topic));
        CountDownLatch left = new CountDownLatch(count - stuck);
        processor.poll(context -> {
            long offset = context.offset();
            if (offset % every == 0 && offset < count) {
                try {
                    Thread.sleep(Long.MAX_VALUE);
                } catch (InterruptedException interrupted) {
                    throw new IllegalStateException(interrupted);
                }
            }
            synchronized (System.out) {
                System.out.println("done\t" + offset);
            }
            left.countDown();
        });
        if (!left.await(60, TimeUnit.SECONDS)) {
            throw new IllegalStateException(left.getCount() + " records have not ended");
        }
        processor.close(Duration.ofSeconds(30), DrainingMode.DONT_DRAIN);
        System.out.println("closed");
        System.exit(0);
    }
}
