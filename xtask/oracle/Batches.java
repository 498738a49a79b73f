import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;

import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.RecordBatch;

/**
 * Record batches and message sets of Kafka's own encoder, for our reader to read and our builder to equal.
 *
 * <p>Run by {@code cargo xtask oracle}, with a directory and {@code write} or {@code check}. It leaves {@code
 * batches.bin.gz} there, entries of
 *
 * <pre>
 * magic, gzip, append time, transactional, marker (0 none, 1 commit, 2 abort): int8 each
 * base offset, producer id: int64   epoch: int16   base sequence, leader epoch: int32   append time: int64
 * count: int32, of: offset, timestamp, timestamp as the producer gave it: int64   key, value: nullable   headers: int32 count, of: key, value: nullable
 * batch: int32 length, bytes
 * </pre>
 *
 * where nullable bytes follow an int32 length, -1 for null.
 */
public final class Batches {
    private static final int PER_KIND = 12;
    private static final long APPEND_TIME = 1_700_000_999_000L;

    private final Random random = new Random(20261121);
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    private final DataOutputStream out = new DataOutputStream(bytes);

    private Batches() {}

    public static void main(String[] args) throws Exception {
        Path file = Path.of(args[0]).resolve("batches.bin.gz");
        byte[] written = new Batches().all();
        if (args[1].equals("check")) {
            try (var in = new GZIPInputStream(Files.newInputStream(file))) {
                if (!Arrays.equals(in.readAllBytes(), written)) {
                    throw new IllegalStateException(file + " is not what the oracle writes");
                }
            }
            return;
        }
        Files.createDirectories(file.getParent());
        try (var gzip = new GZIPOutputStream(Files.newOutputStream(file)) {{ def.setLevel(9); }}) {
            gzip.write(written);
        }
    }

    private byte[] all() throws IOException {
        for (byte magic = 0; magic <= 2; magic++) {
            for (boolean gzip : new boolean[] {false, true}) {
                for (boolean appendTime : magic == 0 ? new boolean[] {false} : new boolean[] {false, true}) {
                    for (int index = 0; index < PER_KIND; index++) {
                        batch(magic, gzip, appendTime, index);
                    }
                }
            }
        }
        marker(ControlRecordType.COMMIT);
        marker(ControlRecordType.ABORT);
        return bytes.toByteArray();
    }

    /** One of every third has gaps in its offsets, as compaction leaves them; of magic 2 every second is a producer's. */
    private void batch(byte magic, boolean gzip, boolean appendTime, int index) throws IOException {
        long baseOffset = index == 0 ? 0 : random.nextLong() >>> (20 + random.nextInt(40));
        boolean stamped = magic == 2 && index % 2 == 0;
        boolean transactional = stamped && index % 4 == 0;
        long producerId = stamped ? random.nextLong() >>> 1 : RecordBatch.NO_PRODUCER_ID;
        short epoch = stamped ? (short) random.nextInt(Short.MAX_VALUE) : RecordBatch.NO_PRODUCER_EPOCH;
        int sequence = stamped ? random.nextInt() >>> 1 : RecordBatch.NO_SEQUENCE;
        int leaderEpoch = magic == 2 && index % 3 == 0 ? random.nextInt(1000) : RecordBatch.NO_PARTITION_LEADER_EPOCH;
        head(magic, gzip, appendTime, transactional, 0, baseOffset, producerId, epoch, sequence, leaderEpoch);

        TimestampType timestamps = magic == 0 ? TimestampType.NO_TIMESTAMP_TYPE
                : appendTime ? TimestampType.LOG_APPEND_TIME : TimestampType.CREATE_TIME;
        Compression compression = gzip ? Compression.gzip().build() : Compression.NONE;
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 16), magic, compression, timestamps,
                baseOffset, APPEND_TIME, producerId, epoch, sequence, transactional, leaderEpoch);
        int count = index == 1 ? 1 : 1 + random.nextInt(index == 2 ? 300 : 20);
        out.writeInt(count);
        long offset = baseOffset;
        long time = 1_700_000_000_000L;
        for (int record = 0; record < count; record++) {
            time += random.nextInt(5) == 0 ? random.nextInt() : random.nextInt(100);
            long timestamp = magic == 0 ? RecordBatch.NO_TIMESTAMP : Math.max(time, 0);
            byte[] key = nullable(30);
            byte[] value = nullable(200);
            Header[] headers = headers(magic);
            out.writeLong(offset);
            out.writeLong(appendTime ? APPEND_TIME : timestamp);
            // With append time the producer's own timestamps are still in the deltas.
            out.writeLong(timestamp);
            write(key);
            write(value);
            out.writeInt(headers.length);
            for (Header header : headers) {
                write(header.key().getBytes(StandardCharsets.UTF_8));
                write(header.value());
            }
            builder.appendWithOffset(offset, timestamp, key, value, headers);
            offset += 1 + (index % 3 == 2 ? random.nextInt(3) : 0);
        }
        finish(builder.build());
    }

    private void marker(ControlRecordType type) throws IOException {
        int coordinatorEpoch = 31;
        head((byte) 2, false, false, true, type == ControlRecordType.COMMIT ? 1 : 2, 4242, 4001, (short) 3, -1, 5);
        out.writeInt(0);
        var marker = new EndTransactionMarker(type, coordinatorEpoch);
        finish(MemoryRecords.withEndTransactionMarker(4242, APPEND_TIME, 5, 4001, (short) 3, marker));
    }

    private void head(byte magic, boolean gzip, boolean appendTime, boolean transactional, int marker, long baseOffset,
            long producerId, short epoch, int sequence, int leaderEpoch) throws IOException {
        out.writeByte(magic);
        out.writeBoolean(gzip);
        out.writeBoolean(appendTime);
        out.writeBoolean(transactional);
        out.writeByte(marker);
        out.writeLong(baseOffset);
        out.writeLong(producerId);
        out.writeShort(epoch);
        out.writeInt(sequence);
        out.writeInt(leaderEpoch);
        out.writeLong(APPEND_TIME);
    }

    private void finish(MemoryRecords records) throws IOException {
        ByteBuffer buffer = records.buffer().duplicate();
        byte[] encoded = new byte[buffer.remaining()];
        buffer.get(encoded);
        write(encoded);
    }

    /** Null, empty, and lengths on both sides of where their varint gets longer. */
    private byte[] nullable(int most) {
        int length = switch (random.nextInt(8)) {
            case 0 -> -1;
            case 1 -> 0;
            case 2 -> 62 + random.nextInt(4);
            case 3 -> random.nextInt(40) == 0 ? 8190 + random.nextInt(4) : 1;
            default -> random.nextInt(most);
        };
        if (length < 0) {
            return null;
        }
        byte[] content = new byte[length];
        // One byte repeated, so that the committed file is small.
        Arrays.fill(content, (byte) random.nextInt());
        return content;
    }

    private Header[] headers(byte magic) {
        Header[] headers = new Header[magic < 2 || random.nextInt(2) == 0 ? 0 : random.nextInt(4)];
        for (int index = 0; index < headers.length; index++) {
            headers[index] = new RecordHeader("größe" + index % 2, nullable(20));
        }
        return headers;
    }

    private void write(byte[] content) throws IOException {
        out.writeInt(content == null ? -1 : content.length);
        if (content != null) {
            out.write(content);
        }
    }
}
