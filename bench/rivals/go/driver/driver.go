// Package driver is what the drivers of Go clients share: arguments, the shape of every mode, latencies, the line of
// results. A driver is one Client; this package must not know which.
//
//	arguments ──▶ Job ──▶ modes (modes.go, flowing.go) ──▶ outcome ──▶ one line of JSON
//	                        │  asks a Client for a Sender, an Enqueuer, a Consumer, or to produce at its best
package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
)

// Client is one client library. Each method is written with the client's own documentation open: what it advises for
// throughput is what runs. Whoever builds a client writes down in settings what it sets, in the client's own names.
type Client interface {
	// Produce sends all records as fast as it goes, and has the result of each counted. What it builds before
	// StartMeasuring is not measured.
	Produce(job *Job, producing *Producing, records *Records, results *Results, settings Settings) (*Measured, error)
	// Sender is for records that are awaited one by one.
	Sender(job *Job, producing *Producing, settings Settings) (Sender, error)
	// Enqueuer is for records whose results come later.
	Enqueuer(job *Job, producing *Producing, settings Settings) (Enqueuer, error)
	// Consumer is of all partitions of the topic, from their beginning.
	Consumer(job *Job, consume *Consume, settings Settings) (Consumer, error)
}

// Sender sends one record and returns when it is acknowledged. Many goroutines share it.
type Sender interface {
	Send(value []byte) error
}

// Enqueuer hands over one record and returns; done is called with its result.
type Enqueuer interface {
	Enqueue(value []byte, done func(error))
}

// Consumer reads until ctx is done or it fails. Each goroutine that reads asks for a sink of its own.
type Consumer interface {
	Run(ctx context.Context, newSink func() *Sink) error
}

// Processor is a Client that reads as the member of a group and writes to another topic, until all is committed.
type Processor interface {
	Process(job *Job, process *Process, producing *Producing, settings Settings) error
}

// Pauser is a Consumer whose partitions any goroutine may pause and resume.
type Pauser interface {
	SetPaused(topic string, partition int32, isPaused bool) error
}

// Settings is what was set, in the client's own names.
type Settings map[string]any

// Unsupported is an option that this client cannot honour; it says what the client lacks.
type Unsupported string

func (u Unsupported) Error() string { return string(u) }

// Run is the whole of a driver's main: it exits with 0 after a line of results, 1 for a failure, 2 for arguments that
// make no sense, 3 for an option that the client cannot honour. The version is that of the module in the build;
// beneath names the library that the module binds, if it only does that.
func Run(name, module, beneath string, client Client) {
	job, err := parse(os.Args[1:])
	if err != nil {
		fail(err, 2)
	}
	outcome, err := run(job, client)
	var unsupported Unsupported
	switch {
	case errors.As(err, &unsupported):
		fail(err, 3)
	case err != nil:
		fail(err, 1)
	}
	version := versionOf(module)
	if beneath != "" {
		version = fmt.Sprintf("%s (%s)", version, beneath)
	}
	outcome.print(name, version, job.Mode)
}

func fail(err error, code int) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(code)
}

func versionOf(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return dependency.Version[1:]
		}
	}
	return "unknown"
}
