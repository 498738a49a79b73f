import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Drives Apache Kafka's own client.
 *
 * <p>As its documentation advises: one producer for all threads, {@code send} with a callback, {@code flush} at the end;
 * {@code poll} in a loop over manually assigned partitions. A slow partition is handed to a thread of its own and paused
 * while that works, as KafkaConsumer's documentation has it. A record is kept as it is: its value is an array of its
 * own.
 */
public final class Driver {
    private static final long STALLED = 30_000_000_000L;
    /** A fetch that includes a paused partition is answered within this time. */
    private static final long SETTLE = 50_000_000L;

    private final Options options;
    private final Map<String, Object> settings = new TreeMap<>();
    private final Latencies latencies = new Latencies();
    private final AtomicLong acknowledged = new AtomicLong();
    private final AtomicLong failed = new AtomicLong();
    private final byte[][] values;
    private long records;
    private long bytes;
    private double seconds;

    private Driver(Options options) throws Exception {
        this.options = options;
        byte[][] lines = options.lines("values");
        byte[] dots = new byte[100];
        Arrays.fill(dots, (byte) '.');
        values = lines == null ? new byte[][] {dots} : lines;
    }

    /** Exits with 0 after a line of results, 1 for a failure, 2 for arguments that make no sense, 3 for what it lacks. */
    public static void main(String[] arguments) {
        try {
            Driver driver = new Driver(new Options(arguments));
            driver.run();
            System.out.println(driver.line());
            System.exit(0);
        } catch (IllegalArgumentException usage) {
            System.err.println(usage.getMessage());
            System.exit(2);
        } catch (UnsupportedOperationException lacking) {
            System.err.println(lacking.getMessage());
            System.exit(3);
        } catch (Exception failure) {
            System.err.println(failure);
            System.exit(1);
        }
    }

    private void run() throws Exception {
        switch (options.mode) {
            case "produce" -> produce();
            case "process" -> process();
            case "send" -> send();
            case "pace" -> pace();
            case "consume" -> consume();
            case "resume" -> resume();
            case "follow" -> follow();
            case "flip" -> throw new UnsupportedOperationException("KafkaConsumer is for one thread alone");
            default -> latency();
        }
    }

    private void produce() throws Exception {
        long count = options.number("records");
        byte[][] keys = options.lines("keys");
        String topic = options.text("topic");
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            Callback callback = (metadata, error) -> count(error);
            int transaction = options.optional("transaction-records");
            if (transaction > 0) {
                producer.initTransactions();
            }
            long start = System.nanoTime();
            int value = 0;
            int key = 0;
            for (long index = 0; index < count; index++) {
                if (transaction > 0 && index % transaction == 0) {
                    if (index > 0) {
                        producer.commitTransaction();
                    }
                    producer.beginTransaction();
                }
                byte[] keyed = keys == null ? null : keys[key];
                producer.send(new ProducerRecord<>(topic, keyed, values[value]), callback);
                bytes += values[value].length;
                value = value + 1 == values.length ? 0 : value + 1;
                key = keys == null || key + 1 == keys.length ? 0 : key + 1;
            }
            if (transaction > 0) {
                producer.commitTransaction();
            }
            producer.flush();
            stop(start);
        }
        if (acknowledged.get() + failed.get() != count) {
            throw new IllegalStateException(acknowledged + " acknowledged and " + failed + " failed of " + count);
        }
        records = acknowledged.get();
    }

    /** Reads as the only member of a group and writes each value to another topic. */
    private void process() {
        long wanted = options.number("records");
        boolean isExactlyOnce = options.optionalText("exactly-once") != null;
        long interval = options.number("interval-ms") * 1_000_000;
        settings.put("exactly once", isExactlyOnce);
        String to = options.text("to");
        Callback callback = (metadata, error) -> count(error);
        try (KafkaProducer<byte[], byte[]> producer = producer(); KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            if (isExactlyOnce) {
                producer.initTransactions();
            }
            Reading reading = new Reading(consumer, options);
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            long start = 0;
            for (long until = 0; records < wanted || !offsets.isEmpty();) {
                ConsumerRecords<byte[], byte[]> polled = reading.poll();
                if (offsets.isEmpty() && !polled.isEmpty()) {
                    long now = System.nanoTime();
                    start = start == 0 ? now : start;
                    until = now + interval;
                    if (isExactlyOnce) {
                        producer.beginTransaction();
                    }
                }
                for (ConsumerRecord<byte[], byte[]> record : polled) {
                    producer.send(new ProducerRecord<>(to, record.value()), callback);
                    records++;
                    bytes += record.value().length;
                }
                offsets.putAll(polled.nextOffsets());
                if (!offsets.isEmpty() && (records >= wanted || System.nanoTime() >= until)) {
                    if (isExactlyOnce) {
                        producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                        producer.commitTransaction();
                    } else {
                        producer.flush();
                        consumer.commitSync(offsets);
                    }
                    offsets.clear();
                }
            }
            stop(start);
        }
    }

    private void send() throws Exception {
        KafkaProducer<byte[], byte[]> producer = producer();
        producer.send(record(values[0])).get();
        long start = System.nanoTime();
        long end = start + options.nanos();
        List<Thread> threads = new ArrayList<>();
        for (long task = 0; task < options.number("tasks"); task++) {
            long first = task;
            threads.add(new Thread(() -> sendUntil(producer, first, end)));
        }
        threads.forEach(Thread::start);
        for (Thread thread : threads) {
            thread.join();
        }
        stop(start);
        countSent();
    }

    private void sendUntil(KafkaProducer<byte[], byte[]> producer, long first, long end) {
        // Threads begin at different lines, so that no two send the same value at the same time.
        for (long index = first, start; (start = System.nanoTime()) < end; index++) {
            try {
                producer.send(record(value(index))).get();
                count(null);
            } catch (Exception error) {
                count(error);
            }
            latencies.record(System.nanoTime() - start);
        }
    }

    private void pace() throws Exception {
        KafkaProducer<byte[], byte[]> producer = producer();
        producer.send(record(values[0])).get();
        long start = System.nanoTime();
        onTime(start, (index, offset) -> producer.send(record(value(index)), (metadata, error) -> {
            latencies.record(System.nanoTime() - start - offset);
            count(error);
        }));
        producer.flush();
        stop(start);
        countSent();
    }

    private void consume() {
        long wanted = options.number("records");
        long start = System.nanoTime();
        Reading reading = new Reading(consumer(), options);
        for (long last = start, seen = 0; reading.records < wanted;) {
            reading.pollAndTake();
            if (reading.records > seen) {
                seen = reading.records;
                last = System.nanoTime();
            } else if (System.nanoTime() - last > STALLED) {
                throw new IllegalStateException("nothing came for long after " + seen + " records");
            }
        }
        stop(start);
        records = reading.records;
        bytes = reading.bytes;
    }

    /**
     * The time from resuming a partition until all is delivered that was written to it while it was paused. The other
     * partitions have no records, so the broker holds their fetch back.
     */
    private void resume() throws Exception {
        KafkaConsumer<byte[], byte[]> consumer = consumer();
        Reading reading = new Reading(consumer, options);
        KafkaProducer<byte[], byte[]> producer = producer();
        List<TopicPartition> partition = List.of(new TopicPartition(options.text("topic"), 0));
        long start = System.nanoTime();
        // The first cycle shows that everything is connected.
        for (long cycle = 1; cycle == 1 || System.nanoTime() - start < options.nanos(); cycle++) {
            consumer.pause(partition);
            // The first record comes with the fetch that is in flight; a client may keep it. The second one does not.
            for (long number : new long[] {0, cycle}) {
                producer.send(record(stamped(values[0], number))).get();
                long end = System.nanoTime() + SETTLE;
                for (long left; (left = end - System.nanoTime()) > 0;) {
                    consumer.poll(Duration.ofNanos(left));
                }
            }
            long resumed = System.nanoTime();
            consumer.resume(partition);
            for (boolean isHere = false; !isHere;) {
                for (ConsumerRecord<byte[], byte[]> record : reading.poll()) {
                    isHere |= intended(record) == cycle;
                }
            }
            if (cycle == 1) {
                start = System.nanoTime();
            } else {
                latencies.record(System.nanoTime() - resumed);
                records++;
            }
        }
        stop(start);
    }

    /** Reads what another process writes meanwhile: the time from when a record was to be sent to its delivery. */
    private void follow() {
        Reading reading = new Reading(consumer(), options);
        long start = 0;
        // What was written before everything was set up does not count.
        long began = Long.MAX_VALUE;
        while (start == 0 || System.nanoTime() - start < options.nanos()) {
            for (ConsumerRecord<byte[], byte[]> record : reading.poll()) {
                long arrived = now();
                if (start == 0) {
                    start = System.nanoTime();
                    began = arrived;
                }
                bytes += record.value().length;
                if (intended(record) >= began) {
                    latencies.record(arrived - intended(record));
                    records++;
                }
            }
        }
        stop(start);
    }

    private void latency() throws Exception {
        Reading reading = new Reading(consumer(), options);
        KafkaProducer<byte[], byte[]> producer = producer();
        long began = now();
        producer.send(record(stamped(values[0], 0))).get();
        for (boolean isWarm = false; !isWarm;) {
            for (ConsumerRecord<byte[], byte[]> record : reading.poll()) {
                isWarm |= intended(record) == 0;
            }
        }
        long count = count();
        long start = System.nanoTime();
        long startOfDay = now();
        Thread sending = new Thread(() -> onTime(start, (index, offset) -> producer.send(
            record(stamped(value(index), startOfDay + offset)), (metadata, error) -> count(error))));
        sending.start();
        long end = start + options.nanos() + STALLED;
        while (records + failed.get() < count && System.nanoTime() < end) {
            for (ConsumerRecord<byte[], byte[]> record : reading.poll()) {
                long arrived = now();
                long intended = intended(record);
                // What was in the topic before is passed over.
                if (intended >= began && intended <= arrived) {
                    latencies.record(arrived - intended);
                    records++;
                    bytes += record.value().length;
                }
            }
        }
        sending.join();
        stop(start);
        if (records + failed.get() < count) {
            throw new IllegalStateException("only " + records + " of " + count + " records came back");
        }
    }

    /** Whatever is done to record {@code index}, which is meant to be sent {@code offset} nanoseconds from the start. */
    private interface Sending {
        void send(long index, long offset);
    }

    /**
     * Sends at a constant rate, whatever the client does, so a client that holds up its caller is charged for all who
     * had to wait behind. Above 1000 records a second they are intended in bursts, one every millisecond: no timer is
     * finer than that in every language here.
     */
    private void onTime(long start, Sending sending) {
        long rate = options.number("rate");
        for (long index = 0; index < count(); index++) {
            long offset = rate > 1000 ? index * 1000 / rate * 1_000_000 : index * 1_000_000_000 / rate;
            for (long early; (early = start + offset - System.nanoTime()) > 0;) {
                LockSupport.parkNanos(early);
            }
            sending.send(index, offset);
        }
    }

    private long count() {
        return (long) (options.number("rate") * (options.nanos() / 1e9));
    }

    private void count(Exception error) {
        if (error == null) {
            acknowledged.incrementAndGet();
        } else if (failed.getAndIncrement() == 0) {
            System.err.println("a record failed: " + error);
        }
    }

    private void countSent() {
        records = acknowledged.get();
        for (long index = 0; index < records; index++) {
            bytes += value(index).length;
        }
    }

    private void stop(long start) {
        seconds = (System.nanoTime() - start) / 1e9;
    }

    private byte[] value(long index) {
        return values[(int) (index % values.length)];
    }

    private ProducerRecord<byte[], byte[]> record(byte[] value) {
        return new ProducerRecord<>(options.text("topic"), value);
    }

    private static byte[] stamped(byte[] value, long nanos) {
        byte[] stamped = Arrays.copyOf(value, Math.max(value.length, Long.BYTES));
        ByteBuffer.wrap(stamped).order(ByteOrder.LITTLE_ENDIAN).putLong(nanos);
        return stamped;
    }

    private static long intended(ConsumerRecord<byte[], byte[]> record) {
        byte[] value = record.value();
        return value.length < Long.BYTES ? -1 : ByteBuffer.wrap(value).order(ByteOrder.LITTLE_ENDIAN).getLong();
    }

    private static long now() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1_000_000_000 + now.getNano();
    }

    private KafkaProducer<byte[], byte[]> producer() {
        Map<String, Object> producing = options.producing();
        if (options.optionalText("exactly-once") != null || options.optional("transaction-records") > 0) {
            // The same for all clients: the last one's transactions are over when the next one begins.
            producing.put("transactional.id", "bench");
        }
        settings.putAll(producing);
        producing.putAll(options.connecting());
        return new KafkaProducer<>(producing, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        Map<String, Object> fetching = options.fetching();
        fetching.put("max.poll.records", "10000");
        if (options.optionalText("group") != null) {
            fetching.put("group.id", options.text("group"));
            fetching.put("auto.offset.reset", "earliest");
            if (options.mode.equals("process")) {
                fetching.put("enable.auto.commit", "false");
                fetching.put("isolation.level", "read_committed");
            }
            if (options.mode.equals("follow")) {
                fetching.put("partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
                fetching.put("heartbeat.interval.ms", "300");
            }
        }
        settings.putAll(fetching);
        fetching.putAll(options.connecting());
        return new KafkaConsumer<>(fetching, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** As the jar says. */
    private static String version() throws IOException {
        Properties properties = new Properties();
        try (InputStream file = KafkaProducer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            properties.load(file);
        }
        return properties.getProperty("version");
    }

    private String line() throws IOException {
        List<String> set = new ArrayList<>();
        settings.forEach((name, value) -> set.add("\"" + name + "\":\"" + value + "\""));
        return ("{\"client\":\"kafka-clients\",\"version\":\"%s\",\"mode\":\"%s\",\"records\":%d,\"failed\":%d,"
            + "\"bytes\":%d,\"seconds\":%s,\"allocations\":null,\"allocated_bytes\":null,\"latency_us\":%s,"
            + "\"settings\":{%s}}").formatted(version(), options.mode, records, failed.get(), bytes,
            seconds, latencies.report(), String.join(",", set));
    }
}
