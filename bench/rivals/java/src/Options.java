import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;

/** The command line: a mode, then {@code --name value} pairs. */
final class Options {
    /** Options that are settings of the client, with its names for them. */
    private static final Map<String, String> PRODUCING = Map.of("codec", "compression.type", "acks", "acks",
        "idempotent", "enable.idempotence", "linger-ms", "linger.ms", "batch-bytes", "batch.size");
    private static final Map<String, String> FETCHING =
        Map.of("partition-fetch-bytes", "max.partition.fetch.bytes", "fetch-bytes", "fetch.max.bytes");

    /** What each mode takes, besides --bootstrap, --topic and --tls. */
    private static final Map<String, Set<String>> MODES = Map.of(
        "produce", with(true, false, "records", "values", "keys", "transaction-records"),
        "process", with(true, false, "records", "group", "to", "interval-ms", "exactly-once"),
        "send", with(true, false, "tasks", "seconds", "values"),
        "pace", with(true, false, "rate", "seconds", "values"),
        "consume", with(false, true, "records", "partitions", "retain", "pause", "slow", "idle-topics", "group",
            "pause-each"),
        "flip", with(false, false, "seconds", "idle-topics", "idle-partitions", "tasks", "flips"),
        "resume", with(false, false, "seconds", "idle-topics"),
        "follow", with(false, false, "seconds", "idle-topics", "group"),
        "latency", with(true, true, "rate", "seconds", "values"));

    final String mode;
    private final Map<String, String> given = new HashMap<>();

    Options(String[] arguments) {
        mode = arguments.length == 0 ? "" : arguments[0];
        Set<String> taken = MODES.get(mode);
        if (taken == null) {
            throw new IllegalArgumentException("no mode is called " + mode);
        }
        for (int index = 1; index < arguments.length; index += 2) {
            String name = arguments[index].replaceFirst("^--", "");
            if (name.equals("pause-each") || name.equals("exactly-once")) {
                given.put(name, "");
                index--;
                continue;
            }
            if (!taken.contains(name) || index + 1 == arguments.length) {
                throw new IllegalArgumentException(arguments[index] + ": unexpected");
            }
            given.put(name, arguments[index + 1]);
        }
        if (mode.equals("produce")) {
            Map.of("codec", "none", "acks", "all", "idempotent", "true", "linger-ms", "5", "batch-bytes", "1000000")
                .forEach(given::putIfAbsent);
        }
        // The word leaves them as the client has them.
        given.values().removeIf("default"::equals);
        if (mode.equals("consume")) {
            Map.of("partition-fetch-bytes", "10485760", "fetch-bytes", "52428800").forEach(given::putIfAbsent);
        }
    }

    private static Set<String> with(boolean producing, boolean fetching, String... names) {
        List<String> all = new ArrayList<>(List.of(names));
        all.addAll(List.of("bootstrap", "topic", "tls"));
        all.addAll(producing ? PRODUCING.keySet() : Set.of());
        all.addAll(fetching ? FETCHING.keySet() : Set.of());
        return Set.copyOf(all);
    }

    String text(String name) {
        String value = given.get(name);
        if (value == null) {
            throw new IllegalArgumentException("--" + name + " is missing");
        }
        return value;
    }

    long number(String name) {
        return Long.parseLong(text(name));
    }

    /** A number, or -1 if the option is not given. */
    int optional(String name) {
        return Integer.parseInt(given.getOrDefault(name, "-1"));
    }

    String optionalText(String name) {
        return given.get(name);
    }

    long nanos() {
        return (long) (Double.parseDouble(text("seconds")) * 1e9);
    }

    /** The lines of a file, or null if the option is not given. */
    byte[][] lines(String name) throws IOException {
        String path = given.get(name);
        if (path == null) {
            return null;
        }
        String text = Files.readString(Path.of(path), StandardCharsets.ISO_8859_1);
        return text.lines().map(line -> line.getBytes(StandardCharsets.ISO_8859_1)).toArray(byte[][]::new);
    }

    /** Where the brokers are, and how to speak to them. */
    Map<String, Object> connecting() {
        Map<String, Object> connecting = new HashMap<>(Map.of("bootstrap.servers", text("bootstrap")));
        if (given.containsKey("tls")) {
            connecting.putAll(Map.of("security.protocol", "SSL", "ssl.truststore.type", "PEM",
                "ssl.truststore.location", given.get("tls")));
        }
        return connecting;
    }

    /** What the producer is told; what is not given stays at its default. */
    TreeMap<String, Object> producing() {
        return settings(PRODUCING);
    }

    /** What the consumer is told; what is not given stays at its default. */
    TreeMap<String, Object> fetching() {
        return settings(FETCHING);
    }

    private TreeMap<String, Object> settings(Map<String, String> names) {
        TreeMap<String, Object> settings = new TreeMap<>();
        names.forEach((option, setting) -> {
            if (given.containsKey(option)) {
                settings.put(setting, given.get(option));
            }
        });
        return settings;
    }
}
