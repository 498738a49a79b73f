package io.confluent.parallelconsumer.offsets;

import java.util.*;

/**
 * Writes what each encoder of Confluent's Parallel Consumer makes of some maps, a line each: name, encoding, base, last finished
 * offset and unfinished ones (both counted from the base), text. It is in their package, whose encoders are not public.
 *
 * <pre>
 * mvn dependency:copy-dependencies -DoutputDirectory=jars     # of io.confluent.parallelconsumer:parallel-consumer-core:0.5.3.2
 * javac -cp 'jars/*' -d out Golden.java
 * java -cp 'out:jars/*' io.confluent.parallelconsumer.offsets.Golden > parallel_consumer.txt
 * </pre>
 */
public class Golden {
    public static void main(String[] args) throws Exception {
        OffsetSimultaneousEncoder.compressionForced = true;
        Map<String, long[]> maps = new LinkedHashMap<>();
        TreeSet<Long> few = new TreeSet<>(List.of(1000L, 1003L, 1004L, 1010L));
        print("few", 1000, 1015, few);
        Random random = new Random(15);
        TreeSet<Long> half = new TreeSet<>();
        half.add(7_000_000_000L);
        for (long at = 7_000_000_001L; at < 7_000_000_300L; at++) if (random.nextBoolean()) half.add(at);
        half.remove(7_000_000_299L);
        print("half", 7_000_000_000L, 7_000_000_299L, half);
        TreeSet<Long> one = new TreeSet<>(List.of(5L));
        print("one", 5, 2_005, one);
    }

    static void print(String name, long base, long last, TreeSet<Long> unfinished) throws Exception {
        OffsetSimultaneousEncoder encoder = new OffsetSimultaneousEncoder(base, last, unfinished);
        encoder.addByteBufferEncoder();
        encoder.invoke();
        for (Map.Entry<OffsetEncoding, byte[]> of : encoder.getEncodingMap().entrySet()) {
            byte[] packed = encoder.packEncoding(new EncodedOffsetPair(of.getKey(), java.nio.ByteBuffer.wrap(of.getValue())));
            String text = OffsetSimpleSerialisation.base64(packed);
            StringJoiner offsets = new StringJoiner(",");
            unfinished.forEach(at -> offsets.add(Long.toString(at - base)));
            System.out.println(String.join(" ", name, of.getKey().name(), "" + base, "" + (last - base), offsets.toString(), text));
        }
    }
}
