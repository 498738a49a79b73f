package driver

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// Results of records that were sent, counted wherever the client reports them.
type Results struct {
	acknowledged, failed atomic.Int64
	sent                 int64
	all                  chan struct{}
}

func newResults(sent int64) *Results { return &Results{sent: sent, all: make(chan struct{})} }

// Count takes one record's result; the first failure is told on standard error.
func (r *Results) Count(err error) { r.CountMany(1, err) }

// CountMany takes the result that many records have together.
func (r *Results) CountMany(records int64, err error) {
	counter := &r.acknowledged
	if err != nil {
		counter = &r.failed
		if r.failed.Load() == 0 {
			fmt.Fprintln(os.Stderr, "a record failed:", err)
		}
	}
	counter.Add(records)
	if r.acknowledged.Load()+r.failed.Load() == r.sent {
		select {
		case <-r.all:
		default:
			close(r.all)
		}
	}
}

// Wait returns when every record has its result.
func (r *Results) Wait() { <-r.all }

// Measuring is the measured part of a run, while it lasts.
type Measuring struct {
	start  time.Time
	memory runtime.MemStats
}

// StartMeasuring starts the clock.
func StartMeasuring() *Measuring {
	m := new(Measuring)
	runtime.ReadMemStats(&m.memory)
	m.start = time.Now()
	return m
}

// Stop stops the clock.
func (m *Measuring) Stop() *Measured {
	seconds := time.Since(m.start).Seconds()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return &Measured{seconds, memory.Mallocs - m.memory.Mallocs, memory.TotalAlloc - m.memory.TotalAlloc}
}

// Measured is what the measured part took.
type Measured struct {
	seconds                     float64
	allocations, allocatedBytes uint64
}

type outcome struct {
	records, failed, bytes int64
	measured               *Measured
	latencies              *latencies
	flips                  map[string]float64
	settings               Settings
}

func (o *outcome) print(client, version, mode string) {
	line := map[string]any{
		"client": client, "version": version, "mode": mode,
		"records": o.records, "failed": o.failed, "bytes": o.bytes, "seconds": o.measured.seconds,
		"allocations": o.measured.allocations, "allocated_bytes": o.measured.allocatedBytes,
		"latency_us": nil, "flips": o.flips, "settings": o.settings,
	}
	if o.latencies != nil {
		line["latency_us"] = o.latencies.report()
	}
	text, err := json.Marshal(line)
	if err != nil {
		fail(err, 1)
	}
	fmt.Println(string(text))
}
