import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * Kafka's own encoder of message sets, which no producer of its newest release sends any more: reads lines as
 * Partner's produce does and writes the set to standard output. Arguments: magic (0 or 1), codec, base offset, and
 * CREATE_TIME or LOG_APPEND_TIME.
 */
public final class MessageSets {
    private static final long APPEND_TIME = 1_700_000_999_000L;

    private MessageSets() {}

    public static void main(String[] args) throws Exception {
        byte magic = Byte.parseByte(args[0]);
        Compression compression = Compression.of(args[1]).build();
        TimestampType timestamps = magic == 0 ? TimestampType.NO_TIMESTAMP_TYPE : TimestampType.valueOf(args[3]);
        var builder = MemoryRecords.builder(
                ByteBuffer.allocate(1 << 20), magic, compression, timestamps, Long.parseLong(args[2]), APPEND_TIME);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] field = line.split("\t", -1);
            long timestamp = magic == 0 ? -1 : Long.parseLong(field[1]);
            builder.append(timestamp, unhex(field[2]), unhex(field[3]));
        }
        Channels.newChannel(System.out).write(builder.build().buffer());
        System.out.flush();
    }

    private static byte[] unhex(String text) {
        return text.equals("-") ? null : HexFormat.of().parseHex(text);
    }
}
