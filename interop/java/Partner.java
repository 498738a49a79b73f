import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Kafka's own client as a test partner. interop/src/partner.rs says what each command reads and writes; the Go programs
 * beside this one do the same with franz-go and librdkafka.
 */
public final class Partner {
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    private static final Duration PATIENCE = Duration.ofSeconds(60);

    private Partner() {}

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "produce" -> produce(args[1], args[2], args[3]);
            case "consume" ->
                    consume(args[1], args[2], Integer.parseInt(args[3]), Integer.parseInt(args[4]), "read_uncommitted");
            case "consume-committed" ->
                    consume(args[1], args[2], Integer.parseInt(args[3]), Integer.parseInt(args[4]), "read_committed");
            case "values" -> values(args[1], args[2], args[3]);
            case "transact" -> transact(args[1], args[2], args[3], args[4], Integer.parseInt(args[5]));
            case "admin" -> admin(args[1], args[2]);
            default -> throw new IllegalArgumentException("no command " + args[0]);
        }
        OUT.flush();
    }

    private static Properties settings(String bootstrap) {
        Properties settings = new Properties();
        String[] lines = bootstrap.split("\n");
        settings.put("bootstrap.servers", lines[0]);
        for (int i = 1; i < lines.length; i++) {
            String[] pair = lines[i].split("=", 2);
            settings.put(pair[0], pair[1].replace("\t", "\n"));
        }
        return settings;
    }

    private static void produce(String bootstrap, String topic, String codec) throws Exception {
        Properties settings = settings(bootstrap);
        settings.put("compression.type", codec);
        settings.put("linger.ms", "20");
        settings.put("delivery.timeout.ms", "20000");
        settings.put("request.timeout.ms", "10000");
        var bytes = new ByteArraySerializer();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                String[] field = line.split("\t", -1);
                List<Header> headers = new ArrayList<>();
                if (!field[4].isEmpty()) {
                    for (String header : field[4].split(",", -1)) {
                        String[] part = header.split("=", -1);
                        String name = new String(unhex(part[0]), StandardCharsets.UTF_8);
                        headers.add(new RecordHeader(name, unhex(part[1])));
                    }
                }
                sent.add(producer.send(new ProducerRecord<>(
                        topic,
                        Integer.parseInt(field[0]),
                        Long.parseLong(field[1]),
                        unhex(field[2]),
                        unhex(field[3]),
                        headers)));
            }
            for (Future<RecordMetadata> future : sent) {
                RecordMetadata at = future.get();
                OUT.println(at.partition() + "\t" + at.offset());
            }
        }
    }

    private static void consume(String bootstrap, String topic, int partitions, int count, String isolation) {
        Properties settings = settings(bootstrap);
        settings.put("isolation.level", isolation);
        settings.put("auto.offset.reset", "none");
        var bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            Collection<TopicPartition> assigned = new ArrayList<>();
            for (int partition = 0; partition < partitions; partition++) {
                assigned.add(new TopicPartition(topic, partition));
            }
            consumer.assign(assigned);
            consumer.seekToBeginning(assigned);
            long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
            int seen = 0;
            while (seen < count && System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    seen++;
                    List<String> headers = new ArrayList<>();
                    for (Header header : record.headers()) {
                        byte[] name = header.key().getBytes(StandardCharsets.UTF_8);
                        headers.add(hex(name) + "=" + hex(header.value()));
                    }
                    OUT.println(String.join(
                            "\t",
                            Integer.toString(record.partition()),
                            Long.toString(record.offset()),
                            Long.toString(record.timestamp()),
                            hex(record.key()),
                            hex(record.value()),
                            String.join(",", headers)));
                }
            }
            for (var end : byNumber(consumer.endOffsets(assigned)).entrySet()) {
                OUT.println("end\t" + end.getKey() + "\t" + end.getValue());
            }
        }
    }

    /** Prints partition, offset and value of all records that a topic has now. Values are text without line ends. */
    private static void values(String bootstrap, String topic, String isolation) {
        Properties settings = settings(bootstrap);
        settings.put("isolation.level", isolation);
        settings.put("auto.offset.reset", "none");
        settings.put("max.poll.records", "5000");
        var bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            List<TopicPartition> assigned = consumer.partitionsFor(topic).stream()
                    .map(partition -> new TopicPartition(topic, partition.partition()))
                    .toList();
            consumer.assign(assigned);
            consumer.seekToBeginning(assigned);
            Map<TopicPartition, Long> ends = consumer.endOffsets(assigned);
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("no record came for " + PATIENCE);
                }
                StringBuilder text = new StringBuilder();
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    text.append(record.partition()).append('\t').append(record.offset()).append('\t');
                    text.append(new String(record.value(), StandardCharsets.UTF_8)).append('\n');
                    deadline = System.nanoTime() + PATIENCE.toNanos();
                }
                OUT.print(text);
            }
            for (var end : byNumber(ends).entrySet()) {
                OUT.println("end\t" + end.getKey() + "\t" + end.getValue());
            }
        }
    }

    /** Copies records within transactions. Each third transaction is aborted, and what it read is read again. */
    private static void transact(String bootstrap, String input, String output, String id, int count) {
        Properties reading = settings(bootstrap);
        reading.put("group.id", id);
        reading.put("enable.auto.commit", "false");
        reading.put("auto.offset.reset", "earliest");
        reading.put("isolation.level", "read_committed");
        reading.put("max.poll.records", "7");
        Properties writing = settings(bootstrap);
        writing.put("transactional.id", id);
        writing.put("transaction.timeout.ms", "20000");
        var bytes = new ByteArraySerializer();
        var unbytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(reading, unbytes, unbytes);
                KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(writing, bytes, bytes)) {
            producer.initTransactions();
            consumer.subscribe(List.of(input));
            long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
            int copied = 0;
            for (int round = 1; copied < count && System.nanoTime() < deadline; ) {
                var records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) {
                    continue;
                }
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new TreeMap<>(Partner::byName);
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    producer.send(new ProducerRecord<>(
                            output,
                            record.partition(),
                            record.timestamp(),
                            record.key(),
                            record.value(),
                            record.headers()));
                    var partition = new TopicPartition(record.topic(), record.partition());
                    offsets.put(partition, new OffsetAndMetadata(record.offset() + 1));
                }
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                if (round++ % 3 == 0) {
                    producer.flush();
                    producer.abortTransaction();
                    consumer.committed(consumer.assignment()).forEach((partition, committed) -> {
                        if (committed == null) {
                            consumer.seekToBeginning(List.of(partition));
                        } else {
                            consumer.seek(partition, committed);
                        }
                    });
                } else {
                    producer.commitTransaction();
                    copied += records.count();
                }
            }
            OUT.println("copied\t" + copied);
        }
    }

    private static int byName(TopicPartition one, TopicPartition other) {
        return one.toString().compareTo(other.toString());
    }

    private static Map<Integer, Long> byNumber(Map<TopicPartition, Long> offsets) {
        Map<Integer, Long> byNumber = new TreeMap<>();
        offsets.forEach((partition, offset) -> byNumber.put(partition.partition(), offset));
        return byNumber;
    }

    /** Walks a topic's life; each line says what the broker answered. */
    private static void admin(String bootstrap, String topic) throws Exception {
        Properties settings = settings(bootstrap);
        try (Admin admin = Admin.create(settings)) {
            List<String> topics = List.of(topic);
            NewTopic wanted = new NewTopic(topic, 3, (short) 1).configs(Map.of("max.message.bytes", "3600000"));
            say("create", () -> admin.createTopics(List.of(wanted)).all().get());
            say("create again", () -> admin.createTopics(List.of(wanted)).all().get());
            // Real Kafka says that a topic is created before every part of it knows.
            long deadline = System.nanoTime() + Duration.ofSeconds(10).toNanos();
            while (!admin.listTopics().names().get().contains(topic) && System.nanoTime() < deadline) {
                Thread.sleep(20);
            }
            say("listed", () -> admin.listTopics().names().get().contains(topic));
            TopicDescription description = admin.describeTopics(topics).allTopicNames().get().get(topic);
            OUT.println("partitions\t" + description.partitions().size());
            OUT.println("replicas\t" + description.partitions().get(0).replicas().size());
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            OUT.println("max.message.bytes\t" + config.get("max.message.bytes").value());
            OUT.println("cleanup.policy\t" + config.get("cleanup.policy").value());
            TopicPartition first = new TopicPartition(topic, 0);
            say("latest", () -> admin.listOffsets(Map.of(first, OffsetSpec.latest())).all().get().get(first).offset());
            say("nodes", () -> admin.describeCluster().nodes().get().size());
            say("delete", () -> admin.deleteTopics(topics).all().get());
            say("delete again", () -> admin.deleteTopics(topics).all().get());
        }
    }

    private interface Step {
        Object run() throws Exception;
    }

    private static void say(String what, Step step) throws Exception {
        String answer;
        try {
            Object value = step.run();
            answer = value == null ? "ok" : value.toString();
        } catch (ExecutionException e) {
            answer = e.getCause().getClass().getSimpleName();
        }
        OUT.println(what + "\t" + answer);
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? "-" : HexFormat.of().formatHex(bytes);
    }

    private static byte[] unhex(String text) {
        return text.equals("-") ? null : HexFormat.of().parseHex(text);
    }
}
