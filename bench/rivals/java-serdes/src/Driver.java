import io.apicurio.registry.serde.avro.AvroKafkaDeserializer;
import io.apicurio.registry.serde.avro.AvroKafkaSerializer;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.JsonDecoder;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Apache Kafka's own client with Apicurio's serdes, in Confluent's framing: writes flights to a topic with their schema, or reads
 * them. Arguments are those of {@code ../python/flights.py}. The registry's address is that of Confluent's API, next to which is
 * Apicurio's own.
 */
public final class Driver {
    private final Map<String, String> options = new HashMap<>();
    private final String mode;
    private final long records;

    private Driver(String[] arguments) {
        mode = arguments[0];
        for (int index = 1; index + 1 < arguments.length; index += 2) {
            options.put(arguments[index].substring(2), arguments[index + 1]);
        }
        records = Long.parseLong(options.get("records"));
    }

    public static void main(String[] arguments) throws Exception {
        Driver driver = new Driver(arguments);
        if (!driver.options.get("format").equals("avro")) {
            System.err.println("the driver has Avro only");
            System.exit(3);
        }
        System.out.println(driver.mode.equals("produce") ? driver.produce() : driver.consume());
        System.exit(0);
    }

    private Map<String, Object> settings() {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", options.get("bootstrap"));
        settings.put("apicurio.registry.url", options.get("registry").replace("/ccompat/v7", "/registry/v2"));
        settings.put("apicurio.registry.as-confluent", true);
        // What Confluent's API of Apicurio calls an id.
        settings.put("apicurio.registry.use-id", "contentId");
        settings.put("apicurio.registry.auto-register", true);
        settings.put("apicurio.registry.auto-register.if-exists", "RETURN_OR_UPDATE");
        return settings;
    }

    private String line(long failed, double seconds, long distance) {
        return String.format(
                "{\"client\":\"kafka-clients\",\"version\":\"%s\",\"mode\":\"%s\",\"records\":%d,\"failed\":%d,"
                        + "\"seconds\":%.6f,\"settings\":{\"distance\":%d}}",
                version(), mode, records, failed, seconds, distance);
    }

    private static String version() {
        try (InputStream file = KafkaProducer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            Properties properties = new Properties();
            properties.load(file);
            return properties.getProperty("version");
        } catch (IOException | NullPointerException unknown) {
            return "unknown";
        }
    }

    private List<GenericRecord> flights(Schema schema) throws Exception {
        List<GenericRecord> flights = new ArrayList<>();
        for (String line : Files.readAllLines(Path.of(options.get("flights")))) {
            JsonDecoder decoder = DecoderFactory.get().jsonDecoder(schema, inAvrosJson(line));
            flights.add(new GenericDatumReader<GenericRecord>(schema).read(null, decoder));
        }
        return flights;
    }

    /** Avro's JSON names the branch of a union. */
    private static String inAvrosJson(String line) {
        return line.replaceAll("\"(dep_time|dep_delay|arr_time|arr_delay|air_time)\":(-?\\d+)", "\"$1\":{\"int\":$2}")
                .replaceAll("\"tailnum\":(\"[^\"]*\")", "\"tailnum\":{\"string\":$1}");
    }

    private String produce() throws Exception {
        Schema schema = new Schema.Parser().parse(Files.readString(Path.of(options.get("schema"))));
        List<GenericRecord> flights = flights(schema);
        AtomicLong failed = new AtomicLong();
        AvroKafkaSerializer<GenericRecord> serializer = new AvroKafkaSerializer<>();
        Map<String, Object> settings = settings();
        serializer.configure(settings, false);
        settings.put("acks", "all");
        String topic = options.get("topic");
        try (KafkaProducer<byte[], GenericRecord> producer =
                new KafkaProducer<>(settings, new ByteArraySerializer(), serializer)) {
            long began = System.nanoTime();
            for (long sent = 0; sent < records; sent++) {
                GenericRecord flight = flights.get((int) (sent % flights.size()));
                producer.send(new ProducerRecord<>(topic, flight), (metadata, error) -> {
                    if (error != null) {
                        failed.incrementAndGet();
                    }
                });
            }
            producer.flush();
            return line(failed.get(), (System.nanoTime() - began) / 1e9, 0);
        }
    }

    private String consume() {
        AvroKafkaDeserializer<GenericRecord> deserializer = new AvroKafkaDeserializer<>();
        Map<String, Object> settings = settings();
        deserializer.configure(settings, false);
        settings.put("enable.auto.commit", false);
        try (KafkaConsumer<byte[], GenericRecord> consumer =
                new KafkaConsumer<>(settings, new ByteArrayDeserializer(), deserializer)) {
            long began = System.nanoTime();
            TopicPartition partition = new TopicPartition(options.get("topic"), 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long read = 0;
            long distance = 0;
            while (read < records) {
                for (ConsumerRecord<byte[], GenericRecord> record : consumer.poll(Duration.ofSeconds(1))) {
                    if (read == records) {
                        break;
                    }
                    GenericRecord flight = record.value();
                    distance += (Integer) flight.get("distance") + flight.get("carrier").toString().length();
                    read++;
                }
            }
            return line(0, (System.nanoTime() - began) / 1e9, distance);
        }
    }
}
