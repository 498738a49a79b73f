import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.ParameterizedType;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.TreeSet;
import java.util.zip.CRC32;
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;

import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.BaseRecords;
import org.apache.kafka.common.record.internal.MemoryRecords;

/**
 * What Kafka's own encoder writes, for our decoder and encoder to be compared with.
 *
 * <p>Run by {@code cargo xtask oracle}, with a directory, {@code write} or {@code check}, and the names of the generated
 * message classes. It leaves two files there:
 *
 * <ul>
 *   <li>{@code facts.txt}: every API key with its versions and header versions, every error code, one a line.
 *   <li>{@code messages.bin.gz}: messages with seeded content, as entries of
 *     <pre>
 *     name: int8 length, bytes      version: int16      content: int32 length, bytes
 *     others: int16 count, of: version int16, length int32 (-1: refused), CRC-32 int32
 *     </pre>
 *     where {@code others} tells what comes of the decoded message when it is written at each other version: that is
 *     how a field which a version lacks is dropped or refused.
 * </ul>
 *
 * <p>It fails unless every field of every version was once written with other than its default.
 */
public final class Oracle {
    /** Full messages per version; beside them one of defaults, and one per field that sets little else. */
    private static final int RANDOM_PER_VERSION = 2;

    private final DataOutputStream out;
    private final TreeSet<String> fieldsSeen = new TreeSet<>();
    private final TreeSet<String> fieldsSet = new TreeSet<>();

    private Oracle(DataOutputStream out) {
        this.out = out;
    }

    public static void main(String[] args) throws Exception {
        Path directory = Path.of(args[0]);
        byte[] facts = facts().getBytes(StandardCharsets.UTF_8);
        byte[] messages = messages(Arrays.asList(args).subList(2, args.length));
        if (args[1].equals("check")) {
            check(directory.resolve("facts.txt"), Files.readAllBytes(directory.resolve("facts.txt")), facts);
            try (var in = new GZIPInputStream(Files.newInputStream(directory.resolve("messages.bin.gz")))) {
                check(directory.resolve("messages.bin.gz"), in.readAllBytes(), messages);
            }
            return;
        }
        Files.createDirectories(directory);
        Files.write(directory.resolve("facts.txt"), facts);
        try (var gzip = new BestGzip(Files.newOutputStream(directory.resolve("messages.bin.gz")))) {
            gzip.write(messages);
        }
    }

    private static void check(Path path, byte[] committed, byte[] written) {
        if (!Arrays.equals(committed, written)) {
            throw new IllegalStateException(path + " is not what the oracle writes");
        }
    }

    private static final class BestGzip extends GZIPOutputStream {
        BestGzip(java.io.OutputStream out) throws IOException {
            super(out);
            def.setLevel(9);
        }
    }

    // Facts.

    private static String facts() {
        StringBuilder text = new StringBuilder();
        for (ApiKeys key : ApiKeys.values()) {
            text.append("api ").append(key.id).append(' ').append(key.name);
            if (key.hasValidVersion()) {
                text.append(' ').append(key.oldestVersion()).append(' ').append(key.latestVersion(false));
                for (short version : key.allVersions()) {
                    text.append(' ').append(version).append(':').append(key.requestHeaderVersion(version));
                    text.append(':').append(key.responseHeaderVersion(version));
                }
            }
            text.append('\n');
        }
        for (Errors error : Errors.values()) {
            String retriable = error.exception() instanceof RetriableException ? "retriable" : "final";
            text.append("error ").append(error.code()).append(' ').append(error.name());
            text.append(' ').append(retriable).append('\n');
        }
        return text.toString();
    }

    // Messages.

    private static byte[] messages(List<String> classNames) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        Oracle oracle = new Oracle(new DataOutputStream(bytes));
        for (String name : classNames) {
            oracle.message(Class.forName(name).asSubclass(Message.class));
        }
        oracle.fieldsSeen.removeAll(oracle.fieldsSet);
        if (!oracle.fieldsSeen.isEmpty()) {
            throw new IllegalStateException("only defaults were written of " + oracle.fieldsSeen);
        }
        return bytes.toByteArray();
    }

    private void message(Class<? extends Message> type) throws Exception {
        Message example = create(type);
        short low = example.lowestSupportedVersion();
        short high = example.highestSupportedVersion();
        Schema[] schemas = (Schema[]) type.getField("SCHEMAS").get(null);
        TreeSet<String> paths = new TreeSet<>();
        for (short version = low; version <= high; version++) {
            entry(example, version, low, high);
            for (int round = 0; round < RANDOM_PER_VERSION; round++) {
                Filler filler = new Filler(type, version + "/" + round, null);
                entry(filler.message(schemas[version]), version, low, high);
            }
            paths(schemas[version], type.getSimpleName(), paths);
        }
        fieldsSeen.addAll(paths);
        for (String path : paths) {
            TreeSet<Short> having = new TreeSet<>();
            for (short version = low; version <= high; version++) {
                TreeSet<String> here = new TreeSet<>();
                paths(schemas[version], type.getSimpleName(), here);
                if (here.contains(path)) {
                    having.add(version);
                }
            }
            for (short version : new TreeSet<>(List.of(having.first(), having.last()))) {
                Filler filler = new Filler(type, path + version, path);
                entry(filler.message(schemas[version]), version, low, high);
            }
        }
    }

    private static Message create(Class<? extends Message> type) throws ReflectiveOperationException {
        return type.getConstructor().newInstance();
    }

    private static void paths(Schema schema, String path, Collection<String> found) {
        for (BoundField field : schema.fields()) {
            if (field.def.type instanceof TaggedFields tagged) {
                tagged.fields().values().forEach(each -> paths(each.type, path + "." + each.name, found));
            } else {
                paths(field.def.type, path + "." + field.def.name, found);
            }
        }
    }

    private static void paths(Type type, String path, Collection<String> found) {
        found.add(path);
        Type element = type.arrayElementType().orElse(type);
        if (element instanceof Schema schema) {
            paths(schema, path, found);
        }
    }

    private void entry(Message message, short version, short low, short high) throws Exception {
        byte[] content = encode(message, version);
        Message decoded = create(message.getClass());
        decoded.read(new ByteBufferAccessor(ByteBuffer.wrap(content)), version);
        if (!Arrays.equals(encode(decoded, version), content)) {
            throw new IllegalStateException(message.getClass() + " does not survive version " + version);
        }
        byte[] name = message.getClass().getSimpleName().replaceAll("Data$", "").getBytes(StandardCharsets.UTF_8);
        out.writeByte(name.length);
        out.write(name);
        out.writeShort(version);
        out.writeInt(content.length);
        out.write(content);
        out.writeShort(high - low);
        for (short other = low; other <= high; other++) {
            if (other != version) {
                other(decoded, other);
            }
        }
    }

    private void other(Message message, short version) throws IOException {
        out.writeShort(version);
        try {
            byte[] content = encode(message, version);
            CRC32 crc = new CRC32();
            crc.update(content);
            out.writeInt(content.length);
            out.writeInt((int) crc.getValue());
        } catch (UnsupportedVersionException | NullPointerException refused) {
            // A null where the version allows none surfaces as a NullPointerException in the Java encoder.
            out.writeInt(-1);
            out.writeInt(0);
        }
    }

    private static byte[] encode(Message message, short version) {
        return MessageUtil.byteBufferToArray(MessageUtil.toByteBufferAccessor(message, version).buffer());
    }

    /** Fills a message at random, or all but one field of it with defaults. */
    private final class Filler {
        private final Class<? extends Message> root;
        private final Random random;
        /** The path of the one field to set, or null to set them all. */
        private final String target;

        Filler(Class<? extends Message> root, String seed, String target) {
            this.root = root;
            this.random = new Random((root.getSimpleName() + seed).hashCode());
            this.target = target;
        }

        Message message(Schema schema) throws ReflectiveOperationException {
            Message message = create(root);
            fill(message, schema, root.getSimpleName());
            return message;
        }

        private void fill(Object struct, Schema schema, String path) throws ReflectiveOperationException {
            for (BoundField field : schema.fields()) {
                if (field.def.type instanceof TaggedFields tagged) {
                    for (Map.Entry<Integer, org.apache.kafka.common.protocol.types.Field> each : tagged.fields().entrySet()) {
                        set(struct, each.getValue().name, each.getValue().type, path, 2);
                    }
                    if (target == null && chance(4)) {
                        unknownTags(((Message) struct).unknownTaggedFields());
                    }
                } else {
                    set(struct, field.def.name, field.def.type, path, 8);
                }
            }
        }

        /** Sets a field: the target and what leads to it, or without a target all but one in {@code odds}. */
        private void set(Object struct, String name, Type type, String path, int odds)
                throws ReflectiveOperationException {
            String here = path + "." + name;
            boolean isWanted = target == null
                ? !chance(odds)
                : target.equals(here) || target.startsWith(here + ".");
            Field field = field(struct.getClass(), name);
            Object initial = field.get(struct);
            if (initial == null && !type.isNullable()) {
                // Records that must not be null are so by default all the same, and cannot be written then.
                initial = MemoryRecords.EMPTY;
                field.set(struct, initial);
            }
            if (!isWanted) {
                return;
            }
            Object value = value(type, field.getGenericType(), here, initial);
            // A field that stands alone is there to differ.
            for (int tries = 0; target != null && Objects.deepEquals(value, initial) && tries < 100; tries++) {
                value = value(type, field.getGenericType(), here, initial);
            }
            field.set(struct, value);
            if (!Objects.deepEquals(value, initial)) {
                fieldsSet.add(here);
            }
        }

        private void unknownTags(List<RawTaggedField> tags) {
            int count = chance(20) ? 130 : 1 + random.nextInt(3);
            int tag = 100;
            for (int index = 0; index < count; index++) {
                tag += 1 + random.nextInt(chance(4) ? 100_000 : 50);
                tags.add(new RawTaggedField(tag, bytes(count > 3 ? 1 : 20)));
            }
        }

        private Object value(Type type, java.lang.reflect.Type javaType, String path, Object initial)
                throws ReflectiveOperationException {
            boolean leadsToTarget = target != null && !target.equals(path);
            if (type.isNullable() && !leadsToTarget && chance(4)) {
                return null;
            }
            if (type.arrayElementType().isPresent()) {
                return array(type.arrayElementType().get(), javaType, path);
            }
            if (type instanceof Schema schema) {
                Object struct = ((Class<?>) javaType).getConstructor().newInstance();
                fill(struct, schema, path);
                if (target != null && target.equals(path)) {
                    fillOne(struct, schema, path);
                }
                return struct;
            }
            return primitive(type, (Class<?>) javaType);
        }

        /** A struct that is itself the target differs by its first field that can. */
        private void fillOne(Object struct, Schema schema, String path) throws ReflectiveOperationException {
            for (BoundField field : schema.fields()) {
                if (!(field.def.type instanceof TaggedFields)) {
                    Field javaField = field(struct.getClass(), field.def.name);
                    if (javaField.getType().isPrimitive()) {
                        javaField.set(struct, primitive(field.def.type, javaField.getType()));
                        return;
                    }
                }
            }
        }

        @SuppressWarnings("unchecked")
        private Object array(Type element, java.lang.reflect.Type javaType, String path)
                throws ReflectiveOperationException {
            Class<?> elementClass;
            Collection<Object> array;
            if (javaType instanceof ParameterizedType list) {
                elementClass = (Class<?>) list.getActualTypeArguments()[0];
                array = new ArrayList<>();
            } else {
                Class<?> collection = (Class<?>) javaType;
                ParameterizedType parent = (ParameterizedType) collection.getGenericSuperclass();
                elementClass = (Class<?>) parent.getActualTypeArguments()[0];
                array = (Collection<Object>) collection.getConstructor().newInstance();
            }
            int length = random.nextInt(4);
            if (target != null) {
                length = 1;
            } else if (!(element instanceof Schema) && chance(30)) {
                length = 130;
            }
            for (int index = 0; index < length; index++) {
                if (element instanceof Schema schema) {
                    Object struct = elementClass.getConstructor().newInstance();
                    fill(struct, schema, path);
                    array.add(struct);
                } else {
                    array.add(primitive(element, elementClass));
                }
            }
            return array;
        }

        private Object primitive(Type type, Class<?> javaClass) {
            if (type == Type.UINT16) {
                return (int) integer(0, 65_535);
            } else if (type == Type.UNSIGNED_INT32) {
                return integer(0, 4_294_967_295L);
            } else if (javaClass == boolean.class) {
                return random.nextBoolean();
            } else if (javaClass == byte.class || javaClass == Byte.class) {
                return (byte) integer(Byte.MIN_VALUE, Byte.MAX_VALUE);
            } else if (javaClass == short.class || javaClass == Short.class) {
                return (short) integer(Short.MIN_VALUE, Short.MAX_VALUE);
            } else if (javaClass == int.class || javaClass == Integer.class) {
                return (int) integer(Integer.MIN_VALUE, Integer.MAX_VALUE);
            } else if (javaClass == long.class || javaClass == Long.class) {
                return integer(Long.MIN_VALUE, Long.MAX_VALUE);
            } else if (javaClass == double.class) {
                double[] some = {0, -0.0, 1.5, -1e300, Double.MIN_VALUE, Double.POSITIVE_INFINITY};
                return some[random.nextInt(some.length)];
            } else if (javaClass == Uuid.class) {
                return chance(6) ? Uuid.ZERO_UUID : new Uuid(random.nextInt(9), random.nextLong());
            } else if (javaClass == String.class) {
                return text();
            } else if (javaClass == byte[].class) {
                return bytes(30);
            } else if (javaClass == ByteBuffer.class) {
                return ByteBuffer.wrap(bytes(30));
            } else if (javaClass == BaseRecords.class) {
                return MemoryRecords.readableRecords(ByteBuffer.wrap(bytes(30)));
            }
            throw new IllegalStateException("no values for " + javaClass);
        }

        private long integer(long min, long max) {
            return switch (random.nextInt(8)) {
                case 0 -> min;
                case 1 -> max;
                case 2 -> Math.max(min, -1);
                case 3 -> 0;
                default -> Math.max(min, Math.min(max, random.nextInt(300) - 50));
            };
        }

        private String text() {
            if (chance(500)) {
                return "k".repeat(Short.MAX_VALUE);
            } else if (chance(30)) {
                return "ä€".repeat(40);
            } else if (chance(8)) {
                return "";
            }
            String[] some = {"orders", "größe", "消息", "\uD83D\uDC8C", "a.b-c_d", "\0", "group-7"};
            return some[random.nextInt(some.length)] + (chance(3) ? random.nextInt(100) : "");
        }

        /** Mostly short; now and then as long as what the writer links, or empty. */
        private byte[] bytes(int max) {
            byte[] bytes = new byte[chance(15) ? 512 + random.nextInt(200) : random.nextInt(max)];
            Arrays.fill(bytes, (byte) random.nextInt());
            return bytes;
        }

        private boolean chance(int in) {
            return random.nextInt(in) == 0;
        }
    }

    /** The Java field that carries the schema's {@code snake_case} one. */
    private static Field field(Class<?> type, String snake) {
        String wanted = snake.replace("_", "");
        for (Field field : type.getDeclaredFields()) {
            if (field.getName().equalsIgnoreCase(wanted)) {
                field.setAccessible(true);
                return field;
            }
        }
        throw new IllegalStateException(type + " has no field " + snake);
    }
}
