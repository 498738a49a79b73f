package driver

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// What the goroutines do in a window.
const (
	still = iota
	paced // Each flips at the rate of the command line.
	free  // Each flips as fast as it can.
)

const (
	// A window, of which the beginning does not count.
	settle = 50 * time.Millisecond
	window = 500 * time.Millisecond
)

// Goroutines pause and resume idle partitions while other partitions are read at full rate. Short windows without
// flips, with flips at a fixed rate, and with as many as go follow one another.
func flip(job *Job, client Client, settings Settings) (*outcome, error) {
	consumer, err := client.Consumer(job, &job.consume, settings)
	if err != nil {
		return nil, err
	}
	pauser, ok := consumer.(Pauser)
	if !ok {
		return nil, Unsupported("its partitions cannot be paused by several goroutines")
	}
	sinks := &sinks{prototype: func() *Sink { return newSink(&job.consume, nil) }}
	running := start(consumer, sinks)
	defer running.stop()
	if err := running.until(func() bool { records, _ := sinks.sum(); return records > 0 }, sinks); err != nil {
		return nil, err
	}
	var phase, flips atomic.Int64
	for task := range job.tasks {
		var own []int32
		for partition := task; partition < *job.consume.IdlePartitions; partition += job.tasks {
			own = append(own, int32(partition))
		}
		go flipAll(&flipper{pauser, *job.consume.IdleTopic, own, 0, true}, &phase, &flips, job.flips)
	}
	time.Sleep(window)
	measuring := StartMeasuring()
	before, _ := sinks.sum()
	var records, flipped [free + 1][]float64
	for round := 0; time.Since(measuring.start) < job.duration; round++ {
		for step := range free + 1 {
			now := (round + step) % (free + 1)
			phase.Store(int64(now))
			time.Sleep(settle)
			was, _ := sinks.sum()
			began, wasFlipped := time.Now(), flips.Load()
			time.Sleep(window)
			seconds := time.Since(began).Seconds()
			is, _ := sinks.sum()
			records[now] = append(records[now], float64(is-was)/seconds)
			flipped[now] = append(flipped[now], float64(flips.Load()-wasFlipped)/seconds)
		}
	}
	phase.Store(still)
	measured := measuring.Stop()
	after, _ := sinks.sum()
	time.Sleep(settle)
	all := make([]int32, *job.consume.IdlePartitions)
	for partition := range all {
		all[partition] = int32(partition)
	}
	found := map[string]float64{
		"share": share(records[paced], records[still]), "per_second": median(flipped[paced]),
		"free_share": share(records[free], records[still]), "free_per_second": median(flipped[free]),
		"ns": (&flipper{pauser, *job.consume.IdleTopic, all, 0, true}).nanoseconds(),
	}
	settings["tasks"], settings["flips"] = job.tasks, job.flips
	return &outcome{after - before, 0, 0, measured, nil, found, settings}, nil
}

// A goroutine's partitions: it pauses all of them one after another, then resumes them, and begins again.
type flipper struct {
	pauser    Pauser
	topic     string
	own       []int32
	next      int
	isPausing bool
}

func (f *flipper) flip() {
	if err := f.pauser.SetPaused(f.topic, f.own[f.next], f.isPausing); err != nil {
		fail(fmt.Errorf("%s-%d: %w", f.topic, f.own[f.next], err), 1)
	}
	if f.next++; f.next == len(f.own) {
		f.next, f.isPausing = 0, !f.isPausing
	}
}

// The time of one flip, by one goroutine that does nothing else, while the partitions that have records are read.
func (f *flipper) nanoseconds() float64 {
	start, flips := time.Now(), 0
	for time.Since(start) < window {
		for range 100 {
			f.flip()
		}
		flips += 100
	}
	return float64(time.Since(start).Nanoseconds()) / float64(flips)
}

func flipAll(own *flipper, phase, flips *atomic.Int64, rate float64) {
	due := time.NewTicker(time.Duration(float64(time.Second) / rate))
	for {
		switch phase.Load() {
		case still:
			<-due.C
		case paced:
			<-due.C
			own.flip()
			flips.Add(1)
		default:
			own.flip()
			flips.Add(1)
		}
	}
}

func share(with, without []float64) float64 {
	shares := make([]float64, len(with))
	for round := range with {
		shares[round] = with[round] / without[round]
	}
	return median(shares)
}

func median(values []float64) float64 {
	slices.Sort(values)
	if len(values) == 0 {
		return 0
	}
	return values[len(values)/2]
}

// Measures the time from resuming a partition until all is delivered that was written to it while it was paused. The
// other partitions have no records, so the broker holds their fetch back.
func resume(job *Job, client Client, settings Settings) (*outcome, error) {
	consumer, err := client.Consumer(job, &job.consume, settings)
	if err != nil {
		return nil, err
	}
	pauser, ok := consumer.(Pauser)
	if !ok {
		return nil, Unsupported("its partitions cannot be paused")
	}
	enqueuer, err := client.Enqueuer(job, &job.producing, Settings{})
	if err != nil {
		return nil, err
	}
	resumed := &resumed{arrived: make(chan time.Time, 1)}
	sinks := &sinks{prototype: func() *Sink { return &Sink{apart: -1, resumed: resumed} }}
	running := start(consumer, sinks)
	defer running.stop()
	latencies, count := new(latencies), int64(0)
	measuring := StartMeasuring()
	// The first cycle shows that everything is connected.
	for cycle := int64(1); cycle == 1 || time.Since(measuring.start) < job.duration; cycle++ {
		resumed.wanted.Store(cycle)
		if err := pauser.SetPaused(job.Topic, 0, true); err != nil {
			return nil, err
		}
		// The first record comes with the fetch that is in flight; a client may keep it. The second one does not.
		for _, number := range []int64{0, cycle} {
			if err := warmUp(enqueuer, stamped([]byte("written while paused"), number)); err != nil {
				return nil, err
			}
			time.Sleep(settle)
		}
		start := time.Now()
		if err := pauser.SetPaused(job.Topic, 0, false); err != nil {
			return nil, err
		}
		select {
		case at := <-resumed.arrived:
			if cycle > 1 {
				latencies.record(at.Sub(start))
				count++
			}
		case err := <-running.failed:
			return nil, err
		case <-time.After(stalled):
			return nil, fmt.Errorf("nothing came for %s after resuming", stalled)
		}
		if cycle == 1 {
			measuring = StartMeasuring()
		}
	}
	return &outcome{count, 0, 0, measuring.Stop(), latencies, nil, settings}, nil
}

// Tells when the record of a number arrives.
type resumed struct {
	wanted  atomic.Int64
	arrived chan time.Time
}

func (r *resumed) take(value []byte) {
	if len(value) >= 8 && int64(binary.LittleEndian.Uint64(value)) == r.wanted.Load() {
		r.arrived <- time.Now()
	}
}

// Reads what another process writes meanwhile, and measures the time from when a record was to be sent to its delivery.
func follow(job *Job, client Client, settings Settings) (*outcome, error) {
	// What was written before everything was set up does not count.
	arrivals := newArrivals(math.MaxInt64)
	sinks := &sinks{prototype: func() *Sink { return newSink(&job.consume, arrivals) }}
	consumer, err := client.Consumer(job, &job.consume, settings)
	if err != nil {
		return nil, err
	}
	running := start(consumer, sinks)
	defer running.stop()
	if err := running.until(arrivals.isAny.Load, sinks); err != nil {
		return nil, err
	}
	measuring := StartMeasuring()
	arrivals.began.Store(time.Now().UnixNano())
	is := func() bool { return time.Since(measuring.start) >= job.duration }
	if err := running.until(is, sinks); err != nil {
		return nil, err
	}
	measured := measuring.Stop()
	records, bytes := sinks.sum()
	return &outcome{records, 0, bytes, measured, &arrivals.latencies, nil, settings}, nil
}
