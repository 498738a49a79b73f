package driver

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Job is what to do, and where.
type Job struct {
	Mode      string
	Bootstrap []string
	Topic     string
	// A file with the certificate of the authority to trust. Without one, nothing is encrypted.
	Authority string

	producing Producing
	consume   Consume
	process   Process
	values    *Lines
	keys      *Lines
	records   int64
	tasks     int
	rate      int64
	flips     float64
	duration  time.Duration
}

// Producing is what a producer is told; what is nil stays at the client's default.
type Producing struct {
	Codec      *string
	Acks       *string
	Idempotent *bool
	Linger     *time.Duration
	BatchBytes *int
	// TransactionRecords is how many records a transaction has.
	TransactionRecords *int
}

// InTransactions says whether records are sent in transactions.
func (p *Producing) InTransactions() bool { return p.TransactionRecords != nil }

// TransactionalID is the same for all clients: the last one's transactions are over when the next one begins.
const TransactionalID = "bench"

// Process is what a processor is told. It counts what is processed.
type Process struct {
	Group, To     string
	Interval      time.Duration
	IsExactlyOnce bool

	wanted, records, bytes int64
	until                  time.Time
	measuring              *Measuring
}

// Begin begins an interval with what was polled. The time is measured from the first one on.
func (p *Process) Begin() {
	if p.records == 0 {
		p.measuring = StartMeasuring()
	}
	p.until = time.Now().Add(p.Interval)
}

// Count counts a record that is processed.
func (p *Process) Count(value []byte) {
	p.records++
	p.bytes += int64(len(value))
}

// IsDue says whether it is time to commit.
func (p *Process) IsDue() bool { return p.IsDone() || !time.Now().Before(p.until) }

// IsDone says whether all records are processed.
func (p *Process) IsDone() bool { return p.records >= p.wanted }

// Consume is what a consumer is told; what is nil stays at the client's default, or is not wanted.
type Consume struct {
	Partitions          *int
	PartitionFetchBytes *int
	FetchBytes          *int
	Retain              *int
	Pause               *int
	Slow                *int
	IdleTopic           *string
	IdlePartitions      *int
	// Group is read in as its member, with commits in the background.
	Group *string
	// IsMoving says that partitions move between members: then all clients use cooperative-sticky assignment, and a
	// heartbeat every HeartbeatInterval.
	IsMoving bool
	// PauseEach has a partition paused for PausedFor after each batch.
	PauseEach *bool
}

// HeartbeatInterval lets a rebalance begin soon.
const HeartbeatInterval = 300 * time.Millisecond

// PausedFor is how long a worker takes for a batch.
const PausedFor = time.Millisecond

// BatchRecords is a batch, for clients that hand over single records.
const BatchRecords = 100

// Topics are those that are read.
func (c *Consume) Topics(job *Job) []string {
	if c.IdleTopic == nil {
		return []string{job.Topic}
	}
	return []string{job.Topic, *c.IdleTopic}
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
		"produce": {[]string{"records", "values"}, append([]string{"keys", "transaction-records"}, producingOptions...)},
		"process": {[]string{"records", "group", "to"}, append([]string{"interval-ms", "exactly-once"}, producingOptions...)},
		"send":    {[]string{"tasks", "seconds", "values"}, producingOptions},
		"pace":    {[]string{"rate", "seconds", "values"}, producingOptions},
		"consume": {[]string{"records"}, append([]string{"partitions", "retain", "pause", "slow", "idle-topics", "group", "pause-each"}, fetchingOptions...)},
		"flip":    {[]string{"idle-topics", "idle-partitions", "tasks", "flips", "seconds"}, nil},
		"resume":  {[]string{"idle-topics", "seconds"}, nil},
		"follow":  {[]string{"idle-topics", "seconds"}, []string{"group"}},
		"latency": {[]string{"rate", "seconds"}, slices.Concat([]string{"values"}, producingOptions, fetchingOptions)},
	}
)

const modeNames = "produce, process, send, pace, consume, latency, flip, resume or follow"

func parse(arguments []string) (*Job, error) {
	if len(arguments) == 0 {
		return nil, errors.New("a mode is wanted: " + modeNames)
	}
	job := &Job{Mode: arguments[0]}
	mode, ok := modes[job.Mode]
	if !ok {
		return nil, fmt.Errorf("%s: %s is wanted", job.Mode, modeNames)
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
		if name != "tls" && !slices.Contains(required, name) && !slices.Contains(mode.optional, name) {
			return nil, fmt.Errorf("%s does not take --%s", job.Mode, name)
		}
	}
	job.Bootstrap = strings.Split(bootstrap, ",")
	return job, nil
}

// TLS returns what a client in Go needs to speak it, or nil if it should not.
func (job *Job) TLS() (*tls.Config, error) {
	if job.Authority == "" {
		return nil, nil
	}
	text, err := os.ReadFile(job.Authority)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate", job.Authority)
	}
	return &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS13}, nil
}

func (job *Job) defaults() {
	switch job.Mode {
	case "produce":
		job.producing = Producing{new("none"), new("all"), new(true), new(5 * time.Millisecond), new(1_000_000), nil}
	case "process":
		job.process.Interval = 100 * time.Millisecond
	case "consume":
		job.consume = Consume{PartitionFetchBytes: new(10_485_760), FetchBytes: new(52_428_800)}
	case "follow":
		job.consume.IsMoving = true
	case "latency":
		job.values = &Lines{lines: [][]byte{[]byte(strings.Repeat(".", 100))}}
	}
}

func (job *Job) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&job.Topic, "topic", "", "")
	flags.StringVar(&job.Authority, "tls", "", "")
	flags.Int64Var(&job.records, "records", 0, "")
	flags.IntVar(&job.tasks, "tasks", 0, "")
	flags.Int64Var(&job.rate, "rate", 0, "")
	flags.Float64Var(&job.flips, "flips", 0, "")
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
	flags.Func("transaction-records", "", scan(&job.producing.TransactionRecords))
	flags.StringVar(&job.process.To, "to", "", "")
	flags.BoolVar(&job.process.IsExactlyOnce, "exactly-once", false, "")
	flags.Func("interval-ms", "", func(text string) (err error) {
		job.process.Interval, err = time.ParseDuration(text + "ms")
		return err
	})
	flags.Func("partitions", "", scan(&job.consume.Partitions))
	flags.Func("partition-fetch-bytes", "", scan(&job.consume.PartitionFetchBytes))
	flags.Func("fetch-bytes", "", scan(&job.consume.FetchBytes))
	flags.Func("retain", "", scan(&job.consume.Retain))
	flags.Func("pause", "", scan(&job.consume.Pause))
	flags.Func("slow", "", scan(&job.consume.Slow))
	flags.Func("idle-topics", "", scan(&job.consume.IdleTopic))
	flags.Func("idle-partitions", "", scan(&job.consume.IdlePartitions))
	flags.Func("group", "", func(text string) error {
		job.consume.Group, job.process.Group = &text, text
		return nil
	})
	flags.BoolFunc("pause-each", "", func(string) error { job.consume.PauseEach = new(true); return nil })
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
