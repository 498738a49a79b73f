import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;

/**
 * A histogram that any number of threads fill: 128 buckets for every doubling, so that what it says is within 0.8 % of
 * what was measured.
 */
final class Latencies {
    private static final int PRECISION = 7;

    private final AtomicLongArray buckets = new AtomicLongArray((64 - PRECISION + 1) << PRECISION);
    private final AtomicLong max = new AtomicLong();

    void record(long nanos) {
        long latency = Math.max(nanos, 0);
        buckets.incrementAndGet(bucket(latency));
        max.accumulateAndGet(latency, Math::max);
    }

    /** Percentiles in microseconds, as JSON; null when there are none. */
    String report() {
        long total = 0;
        for (int index = 0; index < buckets.length(); index++) {
            total += buckets.get(index);
        }
        if (total == 0) {
            return "null";
        }
        return "{\"p50\":%s,\"p90\":%s,\"p99\":%s,\"p999\":%s,\"max\":%s}".formatted(quantile(0.5, total),
            quantile(0.9, total), quantile(0.99, total), quantile(0.999, total), micros(max.get()));
    }

    private double quantile(double q, long total) {
        long rank = (long) Math.ceil(q * total);
        long seen = 0;
        for (int index = 0; index < buckets.length(); index++) {
            seen += buckets.get(index);
            if (seen >= rank) {
                return micros(Math.min(middle(index), max.get()));
            }
        }
        return micros(max.get());
    }

    /** The highest bits: their number, then the seven after the leading one. */
    private static int bucket(long nanos) {
        int shift = Math.max(64 - Long.numberOfLeadingZeros(nanos) - PRECISION - 1, 0);
        return (shift << PRECISION) + (int) (nanos >> shift);
    }

    /** The middle of what falls into the bucket of this index. */
    private static long middle(int index) {
        if (index < 1 << PRECISION) {
            return index;
        }
        int shift = (index >> PRECISION) - 1;
        return ((long) (index - (shift << PRECISION)) << shift) + (1L << shift) / 2;
    }

    private static double micros(long nanos) {
        return nanos / 1000.0;
    }
}
