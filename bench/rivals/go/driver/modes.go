package driver

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"
)

func run(job *Job, client Client) (*outcome, error) {
	settings := Settings{}
	switch job.Mode {
	case "produce":
		return produce(job, client, settings)
	case "send":
		return send(job, client, settings)
	case "pace":
		return pace(job, client, settings)
	case "process":
		return process(job, client, settings)
	case "consume":
		return consume(job, client, settings)
	case "flip":
		return flip(job, client, settings)
	case "resume":
		return resume(job, client, settings)
	case "follow":
		return follow(job, client, settings)
	default:
		return latency(job, client, settings)
	}
}

func produce(job *Job, client Client, settings Settings) (*outcome, error) {
	results := newResults(job.records)
	records := &Records{values: job.values, keys: job.keys, left: job.records}
	measured, err := client.Produce(job, &job.producing, records, results, settings)
	if err != nil {
		return nil, err
	}
	acknowledged, failed := results.acknowledged.Load(), results.failed.Load()
	if acknowledged+failed != job.records {
		return nil, fmt.Errorf("%d records were sent, %d acknowledged and %d failed", job.records, acknowledged, failed)
	}
	return &outcome{acknowledged, failed, job.values.bytesOf(job.records), measured, nil, nil, settings}, nil
}

// Reads as the only member of a group and writes each value to another topic.
func process(job *Job, client Client, settings Settings) (*outcome, error) {
	processor, ok := client.(Processor)
	if !ok {
		return nil, Unsupported("its driver has no groups with transactions")
	}
	settings["interval"], settings["exactly once"] = job.process.Interval.String(), job.process.IsExactlyOnce
	job.process.wanted, job.process.measuring = job.records, StartMeasuring()
	if err := processor.Process(job, &job.process, &job.producing, settings); err != nil {
		return nil, err
	}
	measured := job.process.measuring.Stop()
	return &outcome{job.process.records, 0, job.process.bytes, measured, nil, nil, settings}, nil
}

func send(job *Job, client Client, settings Settings) (*outcome, error) {
	sender, err := client.Sender(job, &job.producing, settings)
	if err != nil {
		return nil, err
	}
	// One record and its acknowledgement, so that connecting is not part of anyone's latency.
	if err := sender.Send(job.values.At(0)); err != nil {
		return nil, err
	}
	results, latencies := newResults(-1), new(latencies)
	measuring := StartMeasuring()
	end := time.Now().Add(job.duration)
	var running sync.WaitGroup
	for task := range job.tasks {
		running.Go(func() {
			// Tasks begin at different lines, so that no two send the same value at the same time.
			for index := int64(task); ; index++ {
				start := time.Now()
				if start.After(end) {
					return
				}
				results.Count(sender.Send(job.values.At(index)))
				latencies.record(time.Since(start))
			}
		})
	}
	running.Wait()
	measured := measuring.Stop()
	records := results.acknowledged.Load()
	return &outcome{records, results.failed.Load(), job.values.bytesOf(records), measured, latencies, nil, settings}, nil
}

func pace(job *Job, client Client, settings Settings) (*outcome, error) {
	enqueuer, err := client.Enqueuer(job, &job.producing, settings)
	if err != nil {
		return nil, err
	}
	if err := warmUp(enqueuer, job.values.At(0)); err != nil {
		return nil, err
	}
	latencies := new(latencies)
	measuring := StartMeasuring()
	schedule := startSchedule(job.rate, job.duration)
	results := newResults(schedule.count)
	schedule.each(func(index int64, intended time.Time) {
		enqueuer.Enqueue(job.values.At(index), func(err error) {
			latencies.record(time.Since(intended))
			results.Count(err)
		})
	})
	results.Wait()
	measured := measuring.Stop()
	records := results.acknowledged.Load()
	return &outcome{records, results.failed.Load(), job.values.bytesOf(records), measured, latencies, nil, settings}, nil
}

func consume(job *Job, client Client, settings Settings) (*outcome, error) {
	sinks := &sinks{prototype: func() *Sink { return newSink(&job.consume, nil) }}
	measuring := StartMeasuring()
	consumer, err := client.Consumer(job, &job.consume, settings)
	if err != nil {
		return nil, err
	}
	running := start(consumer, sinks)
	defer running.stop()
	if err := running.until(func() bool { records, _ := sinks.sum(); return records >= job.records }, sinks); err != nil {
		return nil, err
	}
	measured := measuring.Stop()
	records, bytes := sinks.sum()
	return &outcome{records, 0, bytes, measured, nil, nil, settings}, nil
}

func latency(job *Job, client Client, settings Settings) (*outcome, error) {
	arrivals := newArrivals(time.Now().UnixNano())
	sinks := &sinks{prototype: func() *Sink { return newSink(&job.consume, arrivals) }}
	consumer, err := client.Consumer(job, &job.consume, settings)
	if err != nil {
		return nil, err
	}
	ofProducer := Settings{}
	enqueuer, err := client.Enqueuer(job, &job.producing, ofProducer)
	if err != nil {
		return nil, err
	}
	maps.Copy(settings, ofProducer)
	running := start(consumer, sinks)
	defer running.stop()
	if err := warmUp(enqueuer, stamped(job.values.At(0), 0)); err != nil {
		return nil, err
	}
	if err := running.until(arrivals.isWarm.Load, sinks); err != nil {
		return nil, err
	}
	measuring := StartMeasuring()
	schedule := startSchedule(job.rate, job.duration)
	results := newResults(schedule.count)
	schedule.each(func(index int64, intended time.Time) {
		enqueuer.Enqueue(stamped(job.values.At(index), intended.UnixNano()), results.Count)
	})
	results.Wait()
	all := func() bool { records, _ := sinks.sum(); return records+results.failed.Load() >= schedule.count }
	if err := running.until(all, sinks); err != nil {
		return nil, err
	}
	measured := measuring.Stop()
	records, bytes := sinks.sum()
	return &outcome{records, results.failed.Load(), bytes, measured, &arrivals.latencies, nil, settings}, nil
}

func newSink(consume *Consume, arrivals *arrivals) *Sink {
	sink := &Sink{apart: -1, arrivals: arrivals}
	if consume.Slow != nil {
		sink.apart = int32(*consume.Slow)
	}
	if consume.Retain != nil {
		sink.retain, sink.untilRetained = *consume.Retain, *consume.Retain
	}
	return sink
}

// One record and its acknowledgement, so that connecting is not part of anyone's latency.
func warmUp(enqueuer Enqueuer, value []byte) error {
	acknowledged := make(chan error, 1)
	enqueuer.Enqueue(value, func(err error) { acknowledged <- err })
	select {
	case err := <-acknowledged:
		return err
	case <-time.After(stalled):
		return fmt.Errorf("the first record is not acknowledged within %s", stalled)
	}
}

// A consumer at work.
type running struct {
	stop   context.CancelFunc
	failed chan error
}

func start(consumer Consumer, sinks *sinks) running {
	ctx, stop := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() { failed <- consumer.Run(ctx, sinks.add) }()
	return running{stop, failed}
}

// Until waits until is says so, as long as records keep coming.
func (r running) until(is func() bool, sinks *sinks) error {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	last, since := int64(0), time.Now()
	for !is() {
		select {
		case err := <-r.failed:
			return fmt.Errorf("the consumer ended early: %w", err)
		case <-look.C:
		}
		if records, _ := sinks.sum(); records > last {
			last, since = records, time.Now()
		} else if time.Since(since) > stalled {
			return fmt.Errorf("nothing came for %s after %d records", stalled, records)
		}
	}
	return nil
}

// A client that has done nothing for this long will not.
const stalled = 30 * time.Second
