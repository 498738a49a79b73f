package driver

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Latencies is a histogram that any number of goroutines fill: 128 buckets for every doubling, so that what it says is
// within 0.8 % of what was measured.
type latencies struct {
	buckets [(64 - precision + 1) << precision]atomic.Uint64
	max     atomic.Uint64
}

const precision = 7

func (l *latencies) record(latency time.Duration) {
	nanos := uint64(max(latency, 0))
	l.buckets[bucket(nanos)].Add(1)
	for seen := l.max.Load(); nanos > seen && !l.max.CompareAndSwap(seen, nanos); seen = l.max.Load() {
	}
}

// Percentiles in microseconds; nil when there are none.
func (l *latencies) report() map[string]float64 {
	var total uint64
	for index := range l.buckets {
		total += l.buckets[index].Load()
	}
	if total == 0 {
		return nil
	}
	return map[string]float64{
		"p50": l.quantile(0.5, total), "p90": l.quantile(0.9, total), "p99": l.quantile(0.99, total),
		"p999": l.quantile(0.999, total), "max": micros(l.max.Load()),
	}
}

func (l *latencies) quantile(q float64, total uint64) float64 {
	rank, seen := uint64(math.Ceil(q*float64(total))), uint64(0)
	for index := range l.buckets {
		if seen += l.buckets[index].Load(); seen >= rank {
			return micros(min(middle(uint64(index)), l.max.Load()))
		}
	}
	return micros(l.max.Load())
}

// The highest bits of nanos: their number, then the seven after the leading one.
func bucket(nanos uint64) uint64 {
	shift := max(bits.Len64(nanos)-precision-1, 0)
	return uint64(shift)<<precision + nanos>>shift
}

// The middle of what falls into the bucket of this index.
func middle(index uint64) uint64 {
	if index < 1<<precision {
		return index
	}
	shift := index>>precision - 1
	return (index-shift<<precision)<<shift + 1<<shift/2
}

func micros(nanos uint64) float64 { return float64(nanos) / 1000 }
