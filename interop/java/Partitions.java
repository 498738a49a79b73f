import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HexFormat;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

/**
 * Prints the partitions that Java's client chooses for the keys and partition counts on stdin (KEY-IN-HEX, a tab, COUNT), as
 * PARTITIONER, KEY, COUNT, PARTITION with tabs between.
 */
public final class Partitions {
    private Partitions() {}

    public static void main(String[] args) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] pair = line.split("\t");
            byte[] key = HexFormat.of().parseHex(pair[0]);
            int partition = BuiltInPartitioner.partitionForKey(key, Integer.parseInt(pair[1]));
            System.out.println("java\t" + line + "\t" + partition);
        }
    }
}
