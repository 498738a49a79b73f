import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * A Java producer and consumer that push their metrics: it writes and reads ten records of a topic, prints the client instance ids of both,
 * works until a line comes in, and closes them.
 */
public final class Telemetry {
    private Telemetry() {}

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0];
        String topic = args[1];
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("client.id", "java");
        settings.put("group.id", "java-group");
        settings.put("client.rack", "north");
        settings.put("auto.offset.reset", "earliest");
        var text = new StringSerializer();
        var read = new StringDeserializer();
        try (var producer = new KafkaProducer<String, String>(settings, text, text);
                var consumer = new KafkaConsumer<String, String>(settings, read, read)) {
            consumer.subscribe(List.of(topic));
            for (int index = 0; index < 10; index++) {
                producer.send(new ProducerRecord<>(topic, "value")).get();
            }
            int seen = 0;
            while (seen < 10) {
                seen += consumer.poll(Duration.ofMillis(100)).count();
            }
            consumer.commitSync();
            System.out.println(producer.clientInstanceId(Duration.ofSeconds(30)));
            System.out.println(consumer.clientInstanceId(Duration.ofSeconds(30)));
            System.out.flush();
            while (System.in.available() == 0) {
                consumer.poll(Duration.ofMillis(50));
            }
        }
    }
}
