import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Drives Confluent's Parallel Consumer: a function that looks at a record, and sleeps if the record takes some work, as its README
 * has it. Options: {@code pipeline --bootstrap --topic --records --reading none|key|partition --work-us --tasks --group}, and
 * {@code --stamped}: values begin with the time at which they were to be sent, and what they took is measured from there.
 */
public final class Driver {
    private static volatile long sink;

    public static void main(String[] arguments) throws Exception {
        Map<String, String> given = new HashMap<>();
        for (int index = 1; index < arguments.length; index++) {
            String name = arguments[index].replaceFirst("^--", "");
            given.put(name, name.equals("stamped") ? "" : arguments[++index]);
        }
        long wanted = Long.parseLong(given.get("records"));
        long work = Long.parseLong(given.getOrDefault("work-us", "0"));
        boolean isStamped = given.containsKey("stamped");
        Properties properties = new Properties();
        properties.put("bootstrap.servers", given.get("bootstrap"));
        properties.put("group.id", given.getOrDefault("group", "bench"));
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", isStamped ? "latest" : "earliest");
        ProcessingOrder order = switch (given.get("reading")) {
            case "none" -> ProcessingOrder.UNORDERED;
            case "key" -> ProcessingOrder.KEY;
            default -> ProcessingOrder.PARTITION;
        };
        KafkaConsumer<byte[], byte[]> consumer =
            new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        ParallelConsumerOptions<byte[], byte[]> options = ParallelConsumerOptions.<byte[], byte[]>builder()
            .ordering(order).ignoreReflectiveAccessExceptionsForAutoCommitDisabledCheck(true).maxConcurrency(Integer.parseInt(given.get("tasks"))).consumer(consumer).build();
        ParallelStreamProcessor<byte[], byte[]> processor =
            ParallelStreamProcessor.createEosStreamProcessor(options);
        processor.subscribe(List.of(given.get("topic")));
        AtomicLong seen = new AtomicLong();
        long[] times = new long[2];
        Latencies latencies = new Latencies();
        Thread main = Thread.currentThread();
        processor.poll(context -> {
            ConsumerRecord<byte[], byte[]> record = context.getSingleConsumerRecord();
            byte[] value = record.value();
            sink = value[0] + value[value.length - 1] + (record.key() == null ? 0 : record.key().length);
            if (work > 0) {
                try {
                    Thread.sleep(work / 1000, (int) (work % 1000) * 1000);
                } catch (InterruptedException interrupted) {
                    throw new IllegalStateException(interrupted);
                }
            }
            if (isStamped) {
                long now = System.currentTimeMillis() * 1_000_000L;
                latencies.add(now - ByteBuffer.wrap(value).order(ByteOrder.LITTLE_ENDIAN).getLong());
            }
            long count = seen.incrementAndGet();
            if (count == 1) {
                times[0] = System.nanoTime();
            }
            if (count == wanted) {
                times[1] = System.nanoTime();
                main.interrupt();
            }
        });
        try {
            Thread.sleep(Long.parseLong(given.getOrDefault("limit-ms", "150000")));
            // Not all: what was processed until now counts.
            times[1] = System.nanoTime();
        } catch (InterruptedException all) {
            // As it should be.
        }
        long records = Math.min(seen.get(), wanted);
        System.out.printf("{\"client\":\"parallel-consumer\",\"records\":%d,\"seconds\":%s,\"latency_us\":%s}%n", records,
            (times[1] - times[0]) / 1e9, latencies.report());
        System.exit(0);
    }

    /** Milliseconds, which is what the clock has. */
    private static final class Latencies {
        private final AtomicLongArray counts = new AtomicLongArray(100_000);

        void add(long nanoseconds) {
            counts.incrementAndGet((int) Math.max(0, Math.min(nanoseconds / 1_000_000, counts.length() - 1)));
        }

        String report() {
            long all = 0;
            for (int index = 0; index < counts.length(); index++) {
                all += counts.get(index);
            }
            return all == 0 ? "null" : "{\"p50\":%d,\"p99\":%d}".formatted(at(all / 2) * 1000, at(all * 99 / 100) * 1000);
        }

        private long at(long rank) {
            long before = 0;
            for (int index = 0; index < counts.length(); index++) {
                before += counts.get(index);
                if (before > rank) {
                    return index;
                }
            }
            return counts.length();
        }
    }
}
