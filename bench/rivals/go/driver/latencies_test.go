package driver

import (
	"math"
	"testing"
	"time"
)

func TestABucketIsWithinAHundredthOfWhatFallsIntoIt(t *testing.T) {
	for bit := range 64 {
		for _, nanos := range []uint64{1 << bit, 1<<bit + 1<<bit/3, math.MaxUint64 >> bit} {
			said := middle(bucket(nanos))
			if max(said, nanos)-min(said, nanos) > nanos/128 {
				t.Errorf("%d ns reads as %d ns", nanos, said)
			}
		}
	}
}

func TestPercentilesAreThoseOfTheSortedList(t *testing.T) {
	var l latencies
	for micros := range 1000 {
		l.record(time.Duration(micros+1) * time.Microsecond)
	}
	report := l.report()
	for name, expected := range map[string]float64{"p50": 500, "p90": 900, "p99": 990, "max": 1000} {
		if math.Abs(report[name]-expected) > expected/100 {
			t.Errorf("%s: %f", name, report[name])
		}
	}
}
