package driver

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Job is what to do, and where.
type Job struct {
	Mode      string
	Bootstrap []string
	Topic     string

	producing Producing
	consume   Consume
	values    *Lines
	keys      *Lines
	records   int64
	tasks     int
	rate      int64
	duration  time.Duration
}

// Producing is what a producer is told; what is nil stays at the client's default.
type Producing struct {
	Codec      *string
	Acks       *string
	Idempotent *bool
	Linger     *time.Duration
	BatchBytes *int
}

// Consume is what a consumer is told; what is nil stays at the client's default, or is not wanted.
type Consume struct {
	Partitions          *int
	PartitionFetchBytes *int
	FetchBytes          *int
	Retain              *int
	Pause               *int
	Slow                *int
	IdleTopic           *string
}

// IsPaused says whether partition is the one that is assigned and paused.
func (c *Consume) IsPaused(partition int32) bool { return is(c.Pause, partition) }

// IsSlow says whether partition is the one whose every batch takes a millisecond.
func (c *Consume) IsSlow(partition int32) bool { return is(c.Slow, partition) }

func is(chosen *int, partition int32) bool { return chosen != nil && int32(*chosen) == partition }

var (
	producingOptions = []string{"codec", "acks", "idempotent", "linger-ms", "batch-bytes"}
	fetchingOptions  = []string{"partition-fetch-bytes", "fetch-bytes"}
	// What each mode needs, and what it takes besides.
	modes = map[string]struct{ required, optional []string }{
		"produce": {[]string{"records", "values"}, append([]string{"keys"}, producingOptions...)},
		"send":    {[]string{"tasks", "seconds", "values"}, producingOptions},
		"pace":    {[]string{"rate", "seconds", "values"}, producingOptions},
		"consume": {[]string{"records"}, append([]string{"partitions", "retain", "pause", "slow", "idle-topics"}, fetchingOptions...)},
		"latency": {[]string{"rate", "seconds"}, slices.Concat([]string{"values"}, producingOptions, fetchingOptions)},
	}
)

func parse(arguments []string) (*Job, error) {
	if len(arguments) == 0 {
		return nil, errors.New("a mode is wanted: produce, send, pace, consume or latency")
	}
	job := &Job{Mode: arguments[0]}
	mode, ok := modes[job.Mode]
	if !ok {
		return nil, fmt.Errorf("%s: produce, send, pace, consume or latency is wanted", job.Mode)
	}
	job.defaults()
	flags, bootstrap := job.flags(), ""
	flags.StringVar(&bootstrap, "bootstrap", "", "")
	if err := flags.Parse(arguments[1:]); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("%s: unexpected", flags.Arg(0))
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	required := append([]string{"bootstrap", "topic"}, mode.required...)
	for _, name := range required {
		if !given[name] {
			return nil, fmt.Errorf("--%s is missing", name)
		}
	}
	for name := range given {
		if !slices.Contains(required, name) && !slices.Contains(mode.optional, name) {
			return nil, fmt.Errorf("%s does not take --%s", job.Mode, name)
		}
	}
	job.Bootstrap = strings.Split(bootstrap, ",")
	return job, nil
}

func (job *Job) defaults() {
	switch job.Mode {
	case "produce":
		job.producing = Producing{new("none"), new("all"), new(true), new(5 * time.Millisecond), new(1_000_000)}
	case "consume":
		job.consume = Consume{PartitionFetchBytes: new(10_485_760), FetchBytes: new(52_428_800)}
	case "latency":
		job.values = &Lines{lines: [][]byte{[]byte(strings.Repeat(".", 100))}}
	}
}

func (job *Job) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&job.Topic, "topic", "", "")
	flags.Int64Var(&job.records, "records", 0, "")
	flags.IntVar(&job.tasks, "tasks", 0, "")
	flags.Int64Var(&job.rate, "rate", 0, "")
	flags.Func("seconds", "", func(text string) (err error) {
		job.duration, err = time.ParseDuration(text + "s")
		return err
	})
	flags.Func("values", "", lines(&job.values))
	flags.Func("keys", "", lines(&job.keys))
	flags.Func("codec", "", oneOf(&job.producing.Codec, "none", "gzip", "snappy", "lz4", "zstd"))
	flags.Func("acks", "", oneOf(&job.producing.Acks, "all", "1"))
	flags.Func("idempotent", "", scan(&job.producing.Idempotent))
	flags.Func("linger-ms", "", orDefault(&job.producing.Linger, func(text string) error {
		linger, err := time.ParseDuration(text + "ms")
		job.producing.Linger = &linger
		return err
	}))
	flags.Func("batch-bytes", "", orDefault(&job.producing.BatchBytes, scan(&job.producing.BatchBytes)))
	flags.Func("partitions", "", scan(&job.consume.Partitions))
	flags.Func("partition-fetch-bytes", "", scan(&job.consume.PartitionFetchBytes))
	flags.Func("fetch-bytes", "", scan(&job.consume.FetchBytes))
	flags.Func("retain", "", scan(&job.consume.Retain))
	flags.Func("pause", "", scan(&job.consume.Pause))
	flags.Func("slow", "", scan(&job.consume.Slow))
	flags.Func("idle-topics", "", scan(&job.consume.IdleTopic))
	return flags
}

func lines(to **Lines) func(string) error {
	return func(path string) (err error) {
		*to, err = readLines(path)
		return err
	}
}

func oneOf(to **string, names ...string) func(string) error {
	return func(text string) error {
		*to = &text
		if !slices.Contains(names, text) {
			return fmt.Errorf("one of %v is wanted", names)
		}
		return nil
	}
}

// The word default leaves an option as the client has it.
func orDefault[T any](to **T, set func(string) error) func(string) error {
	return func(text string) error {
		if text == "default" {
			*to = nil
			return nil
		}
		return set(text)
	}
}

func scan[T any](to **T) func(string) error {
	return func(text string) error {
		*to = new(T)
		_, err := fmt.Sscan(text, *to)
		return err
	}
}
