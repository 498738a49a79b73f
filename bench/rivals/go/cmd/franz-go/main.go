// Drives franz-go (github.com/twmb/franz-go/pkg/kgo).
//
// As its documentation and its own bench example advise: Produce with promises, records out of a sync.Pool and back
// into it in the promise, a buffer of records that batches of this size do not exhaust (MaxBufferedRecords); single
// records by ProduceSync. Partitions are consumed directly, EachRecord over what PollFetches returns. A slow partition
// is handed to a goroutine of its own and paused (PauseFetchPartitions) while that works. A record is kept as it is:
// there is no copying one.
package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"milena/bench/rivals/driver"
)

func main() {
	driver.Run("franz-go", "github.com/twmb/franz-go", "", franz{})
}

type franz struct{}

func (franz) Produce(job *driver.Job, producing *driver.Producing, records *driver.Records, results *driver.Results, settings driver.Settings) (*driver.Measured, error) {
	var options []kgo.Opt
	if producing.BatchBytes != nil {
		options = append(options, kgo.MaxBufferedRecords(maxBufferedRecords))
		settings["MaxBufferedRecords"] = maxBufferedRecords
	}
	client, err := connect(job, producing, settings, options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx := context.Background()
	pool := sync.Pool{New: func() any { return new(kgo.Record) }}
	promise := func(record *kgo.Record, err error) {
		results.Count(err)
		*record = kgo.Record{}
		pool.Put(record)
	}
	measuring, sent := driver.StartMeasuring(), 0
	for key, value, ok := records.Next(); ok; key, value, ok = records.Next() {
		if producing.InTransactions() && sent%*producing.TransactionRecords == 0 {
			if err := next(ctx, client, sent > 0); err != nil {
				return nil, err
			}
		}
		record := pool.Get().(*kgo.Record)
		record.Key, record.Value = key, value
		client.Produce(ctx, record, promise)
		sent++
	}
	if producing.InTransactions() {
		if err := commit(ctx, client); err != nil {
			return nil, err
		}
	} else if err := client.Flush(ctx); err != nil {
		return nil, err
	}
	results.Wait()
	return measuring.Stop(), nil
}

// Begins a transaction, after the last one is committed.
func next(ctx context.Context, client *kgo.Client, isOpen bool) error {
	if isOpen {
		if err := commit(ctx, client); err != nil {
			return err
		}
	}
	return client.BeginTransaction()
}

func commit(ctx context.Context, client *kgo.Client) error {
	if err := client.Flush(ctx); err != nil {
		return err
	}
	return client.EndTransaction(ctx, kgo.TryCommit)
}

func (franz) Sender(job *driver.Job, producing *driver.Producing, settings driver.Settings) (driver.Sender, error) {
	client, err := connect(job, producing, settings)
	return producer{client}, err
}

func (franz) Enqueuer(job *driver.Job, producing *driver.Producing, settings driver.Settings) (driver.Enqueuer, error) {
	client, err := connect(job, producing, settings)
	return producer{client}, err
}

type producer struct{ client *kgo.Client }

func (p producer) Send(value []byte) error {
	return p.client.ProduceSync(context.Background(), kgo.SliceRecord(value)).FirstErr()
}

func (p producer) Enqueue(value []byte, done func(error)) {
	p.client.Produce(context.Background(), kgo.SliceRecord(value), func(_ *kgo.Record, err error) { done(err) })
}

func connect(job *driver.Job, producing *driver.Producing, settings driver.Settings, options ...kgo.Opt) (*kgo.Client, error) {
	encrypted, err := encryption(job)
	if err != nil {
		return nil, err
	}
	options = append(options, kgo.SeedBrokers(job.Bootstrap...), kgo.DefaultProduceTopic(job.Topic))
	options = append(options, encrypted...)
	if codec := producing.Codec; codec != nil {
		options = append(options, kgo.ProducerBatchCompression(codecs[*codec]))
		settings["ProducerBatchCompression"] = *codec
	}
	if acks := producing.Acks; acks != nil {
		options = append(options, kgo.RequiredAcks(acksNamed[*acks]))
		settings["RequiredAcks"] = *acks
	}
	if producing.Idempotent != nil && !*producing.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
		settings["DisableIdempotentWrite"] = true
	}
	if linger := producing.Linger; linger != nil {
		options = append(options, kgo.ProducerLinger(*linger))
		settings["ProducerLinger"] = linger.String()
	}
	if bytes := producing.BatchBytes; bytes != nil {
		options = append(options, kgo.ProducerBatchMaxBytes(int32(*bytes)))
		settings["ProducerBatchMaxBytes"] = *bytes
	}
	if producing.InTransactions() {
		options = append(options, kgo.TransactionalID(driver.TransactionalID))
		settings["TransactionalID"] = driver.TransactionalID
	}
	return kgo.NewClient(options...)
}

// As its example of exactly once: a GroupTransactSession. Its promises, and those of the records that are written at
// least once, keep the first error.
func (franz) Process(job *driver.Job, process *driver.Process, producing *driver.Producing, settings driver.Settings) error {
	options := []kgo.Opt{
		kgo.SeedBrokers(job.Bootstrap...), kgo.ConsumerGroup(process.Group), kgo.ConsumeTopics(job.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.DefaultProduceTopic(process.To), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(maxBufferedRecords), kgo.ProducerLinger(*producing.Linger),
		kgo.ProducerBatchMaxBytes(int32(*producing.BatchBytes)),
	}
	ctx := context.Background()
	var poll func(context.Context) kgo.Fetches
	var begin, end func() error
	var produce func(context.Context, *kgo.Record, func(*kgo.Record, error))
	var first kgo.FirstErrPromise
	if process.IsExactlyOnce {
		session, err := kgo.NewGroupTransactSession(append(options, kgo.TransactionalID(driver.TransactionalID), kgo.RequireStableFetchOffsets())...)
		if err != nil {
			return err
		}
		defer session.Close()
		poll, begin, produce = session.PollFetches, session.Begin, session.Produce
		end = func() error {
			committed, err := session.End(ctx, kgo.TransactionEndTry(first.Err() == nil))
			if err == nil && !committed {
				err = fmt.Errorf("a transaction is aborted: %v", first.Err())
			}
			return err
		}
	} else {
		client, err := kgo.NewClient(append(options, kgo.DisableAutoCommit())...)
		if err != nil {
			return err
		}
		defer client.Close()
		poll, produce = client.PollFetches, client.Produce
		begin = func() error { return nil }
		end = func() error {
			if err := client.Flush(ctx); err != nil {
				return err
			}
			if err := first.Err(); err != nil {
				return err
			}
			return client.CommitUncommittedOffsets(ctx)
		}
	}
	pool := sync.Pool{New: func() any { return new(kgo.Record) }}
	promise := func(record *kgo.Record, err error) {
		first.Promise()(record, err)
		*record = kgo.Record{}
		pool.Put(record)
	}
	for isOpen := false; !process.IsDone() || isOpen; {
		fetches := poll(ctx)
		for _, failed := range fetches.Errors() {
			return fmt.Errorf("%s-%d: %w", failed.Topic, failed.Partition, failed.Err)
		}
		if !isOpen {
			process.Begin()
			if err := begin(); err != nil {
				return err
			}
			isOpen = true
		}
		fetches.EachRecord(func(read *kgo.Record) {
			record := pool.Get().(*kgo.Record)
			record.Value = read.Value
			produce(ctx, record, promise)
			process.Count(read.Value)
		})
		if process.IsDue() {
			if err := end(); err != nil {
				return err
			}
			isOpen = false
		}
	}
	return nil
}

func encryption(job *driver.Job) ([]kgo.Opt, error) {
	config, err := job.TLS()
	if config == nil {
		return nil, err
	}
	return []kgo.Opt{kgo.DialTLSConfig(config)}, nil
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

var acksNamed = map[string]kgo.Acks{"all": kgo.AllISRAcks(), "1": kgo.LeaderAck()}

func (franz) Consumer(job *driver.Job, consume *driver.Consume, settings driver.Settings) (driver.Consumer, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(job.Bootstrap...), kgo.ConsumeTopics(consume.Topics(job)...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}
	encrypted, err := encryption(job)
	if err != nil {
		return nil, err
	}
	options = append(options, encrypted...)
	if consume.Group != nil {
		options = append(options, kgo.ConsumerGroup(*consume.Group))
		settings["ConsumerGroup"] = *consume.Group
	}
	if consume.IsMoving {
		// Cooperative-sticky is its default.
		options = append(options, kgo.HeartbeatInterval(driver.HeartbeatInterval))
		settings["HeartbeatInterval"] = driver.HeartbeatInterval.String()
	}
	if bytes := consume.PartitionFetchBytes; bytes != nil {
		options = append(options, kgo.FetchMaxPartitionBytes(int32(*bytes)))
		settings["FetchMaxPartitionBytes"] = *bytes
	}
	if bytes := consume.FetchBytes; bytes != nil {
		options = append(options, kgo.FetchMaxBytes(int32(*bytes)))
		settings["FetchMaxBytes"] = *bytes
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	if consume.Pause != nil {
		client.PauseFetchPartitions(map[string][]int32{job.Topic: {int32(*consume.Pause)}})
	}
	return consumer{client, consume}, nil
}

type consumer struct {
	client  *kgo.Client
	consume *driver.Consume
}

func (c consumer) Run(ctx context.Context, newSink func() *driver.Sink) error {
	sink := newSink()
	for {
		fetches := c.client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return err
		}
		for _, failed := range fetches.Errors() {
			return fmt.Errorf("%s-%d: %w", failed.Topic, failed.Partition, failed.Err)
		}
		fetches.EachPartition(func(partition kgo.FetchTopicPartition) {
			if c.consume.IsSlow(partition.Partition) {
				c.pauseFor(partition)
				return
			}
			partition.EachRecord(func(record *kgo.Record) {
				if sink.Take(record.Partition, record.Value) {
					sink.Keep(record)
				}
			})
			sink.Publish()
			if c.consume.PauseEach != nil {
				c.pauseFor(partition)
			}
		})
		sink.Publish()
	}
}

// A worker takes a millisecond for what a poll brought of one partition, and lets the others go on meanwhile.
func (c consumer) pauseFor(partition kgo.FetchTopicPartition) {
	paused := map[string][]int32{partition.Topic: {partition.Partition}}
	c.client.PauseFetchPartitions(paused)
	time.AfterFunc(driver.PausedFor, func() { c.client.ResumeFetchPartitions(paused) })
}

func (c consumer) SetPaused(topic string, partition int32, isPaused bool) error {
	partitions := map[string][]int32{topic: {partition}}
	if isPaused {
		c.client.PauseFetchPartitions(partitions)
	} else {
		c.client.ResumeFetchPartitions(partitions)
	}
	return nil
}

// Some batches of the usual size for each of some partitions. The default of 10 000 is one batch of small records; the
// bench example's 250 MiB cost twice the memory here and gained nothing.
const maxBufferedRecords = 100_000
