import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/** A consumer of all partitions of a topic from their beginning, and what it has read. */
final class Reading {
    private static final Duration WAIT = Duration.ofMillis(100);
    private static final Duration PAUSED_FOR = Duration.ofMillis(1);

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final TopicPartition slow;
    private final int retainEvery;
    private final boolean isPausedEach;
    private final Queue<Paused> paused = new ArrayDeque<>();
    private final List<ConsumerRecord<byte[], byte[]>> retained = new ArrayList<>();
    private final ExecutorService slowWorker = Executors.newSingleThreadExecutor(task -> {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    });
    private Future<?> slowWork;
    private int untilRetained;
    int touched;
    long records;
    long bytes;

    Reading(KafkaConsumer<byte[], byte[]> consumer, Options options) {
        this.consumer = consumer;
        String topic = options.text("topic");
        int slowPartition = options.optional("slow");
        slow = slowPartition < 0 ? null : new TopicPartition(topic, slowPartition);
        retainEvery = options.optional("retain");
        untilRetained = retainEvery;
        isPausedEach = options.optionalText("pause-each") != null;
        List<String> topics = new ArrayList<>(List.of(topic));
        if (options.optionalText("idle-topics") != null) {
            topics.add(options.optionalText("idle-topics"));
        }
        if (options.optionalText("group") != null) {
            consumer.subscribe(topics);
            return;
        }
        List<TopicPartition> assignment = topics.stream().flatMap(of -> partitions(of).stream()).toList();
        consumer.assign(assignment);
        consumer.seekToBeginning(assignment);
        if (options.optional("pause") >= 0) {
            consumer.pause(List.of(new TopicPartition(topic, options.optional("pause"))));
        }
    }

    private List<TopicPartition> partitions(String topic) {
        return consumer.partitionsFor(topic).stream().map(of -> new TopicPartition(topic, of.partition())).toList();
    }

    ConsumerRecords<byte[], byte[]> poll() {
        return consumer.poll(paused.isEmpty() ? WAIT : PAUSED_FOR);
    }

    /** A partition is paused for a millisecond after each batch, which a worker takes. */
    private void pauseEach(ConsumerRecords<byte[], byte[]> polled) {
        for (TopicPartition partition : polled.partitions()) {
            consumer.pause(List.of(partition));
            paused.add(new Paused(partition, System.nanoTime() + PAUSED_FOR.toNanos()));
        }
        while (!paused.isEmpty() && paused.peek().until() <= System.nanoTime()) {
            consumer.resume(List.of(paused.remove().partition()));
        }
    }

    private record Paused(TopicPartition partition, long until) {
    }

    /** Polls once and takes what came. */
    void pollAndTake() {
        ConsumerRecords<byte[], byte[]> polled = poll();
        if (slow == null) {
            for (ConsumerRecord<byte[], byte[]> record : polled) {
                take(record);
            }
            if (isPausedEach) {
                pauseEach(polled);
            }
            return;
        }
        for (TopicPartition partition : polled.partitions()) {
            if (partition.equals(slow)) {
                consumer.pause(List.of(slow));
                slowWork = slowWorker.submit(() -> {
                    Thread.sleep(1);
                    return null;
                });
            } else {
                polled.records(partition).forEach(this::take);
            }
        }
        if (slowWork != null && slowWork.isDone()) {
            slowWork = null;
            consumer.resume(List.of(slow));
        }
    }

    private void take(ConsumerRecord<byte[], byte[]> record) {
        byte[] value = record.value();
        records++;
        bytes += value.length;
        touched ^= value[0] ^ value[value.length - 1];
        if (retainEvery > 0 && --untilRetained == 0) {
            untilRetained = retainEvery;
            retained.add(record);
        }
    }
}
