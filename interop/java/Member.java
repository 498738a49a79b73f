import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Kafka's own client as a member of a group, until it is told to leave: interop/src/member.rs. */
public final class Member implements ConsumerRebalanceListener {
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    private final KafkaConsumer<byte[], byte[]> consumer;

    private Member(KafkaConsumer<byte[], byte[]> consumer) {
        this.consumer = consumer;
    }

    public static void main(String[] args) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("group.id", args[1]);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("fetch.max.wait.ms", "100");
        if (args[3].equals("consumer")) {
            settings.put("group.protocol", "consumer");
        } else {
            settings.put(
                    "partition.assignment.strategy",
                    Stream.of(args[3].split(",")).map(Member::assignor).collect(Collectors.joining(",")));
            settings.put("session.timeout.ms", args[4]);
            settings.put("heartbeat.interval.ms", args[5]);
        }
        if (!args[6].equals("-")) {
            settings.put("group.instance.id", args[6]);
        }
        AtomicBoolean told = new AtomicBoolean();
        Thread input = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (IOException e) {
                // The end of the input, however it comes, tells the member to leave.
            }
            told.set(true);
        });
        input.setDaemon(true);
        input.start();

        var bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            consumer.subscribe(List.of(args[2]), new Member(consumer));
            say("started");
            while (!told.get()) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    line("record", record.partition(), record.offset(), new String(record.value(), StandardCharsets.UTF_8));
                }
                OUT.flush();
                if (!records.isEmpty() && commit(consumer)) {
                    for (TopicPartition partition : records.partitions()) {
                        say("committed", partition.partition(), last(records.records(partition)).offset() + 1);
                    }
                }
            }
        }
        say("closed");
    }

    /** Commits all that was read. While a cooperative rebalance goes on the client refuses to, and it is done later. */
    private static boolean commit(KafkaConsumer<byte[], byte[]> consumer) {
        try {
            consumer.commitSync();
            return true;
        } catch (KafkaException e) {
            say("error", e);
            return false;
        }
    }

    private static <T> T last(List<T> list) {
        return list.get(list.size() - 1);
    }

    private static String assignor(String name) {
        String assignor =
                switch (name) {
                    case "range" -> "RangeAssignor";
                    case "roundrobin" -> "RoundRobinAssignor";
                    case "sticky" -> "StickyAssignor";
                    case "cooperative-sticky" -> "CooperativeStickyAssignor";
                    default -> throw new IllegalArgumentException("no assignor " + name);
                };
        return "org.apache.kafka.clients.consumer." + assignor;
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        partitions("assigned", partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        commit(consumer);
        partitions("revoked", partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        partitions("lost", partitions);
    }

    private static void partitions(String what, Collection<TopicPartition> partitions) {
        say(what, partitions.stream().map(p -> "" + p.partition()).sorted().collect(Collectors.joining(",")));
    }

    private static void say(Object... words) {
        line(words);
        OUT.flush();
    }

    private static void line(Object... words) {
        Instant now = Instant.now();
        OUT.print(now.getEpochSecond() * 1_000_000 + now.getNano() / 1_000);
        for (Object word : words) {
            OUT.print("\t" + word);
        }
        OUT.print("\n");
    }
}
