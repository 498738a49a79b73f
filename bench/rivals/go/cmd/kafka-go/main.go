// Drives kafka-go (github.com/segmentio/kafka-go).
//
// As its documentation advises: an asynchronous Writer with a Completion function, many messages to a call of
// WriteMessages, batches of more than its usual 100. An asynchronous Writer takes whatever it is given, so we stop at
// some number of records without result. Single records by a synchronous Writer. One Reader per partition, without a
// group, each with a goroutine that calls ReadMessage. A record is kept as it is: ReadMessage has copied it.
package main

import (
	"context"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/semaphore"

	"milena/bench/rivals/driver"
)

func main() {
	driver.Run("kafka-go", "github.com/segmentio/kafka-go", "", client{})
}

type client struct{}

func (client) Produce(job *driver.Job, producing *driver.Producing, records *driver.Records, results *driver.Results, settings driver.Settings) (*driver.Measured, error) {
	writer, err := newWriter(job, producing, settings)
	if err != nil {
		return nil, err
	}
	ctx, unanswered := context.Background(), semaphore.NewWeighted(unansweredMax)
	writer.Async = true
	writer.BatchSize = batchRecords
	settings["BatchSize"] = writer.BatchSize
	writer.Completion = func(messages []kafka.Message, err error) {
		results.CountMany(int64(len(messages)), err)
		unanswered.Release(int64(len(messages)))
	}
	measuring := driver.StartMeasuring()
	messages := make([]kafka.Message, 0, callRecords)
	write := func() error {
		if err := unanswered.Acquire(ctx, int64(len(messages))); err != nil {
			return err
		}
		err := writer.WriteMessages(ctx, messages...)
		messages = messages[:0]
		return err
	}
	for key, value, ok := records.Next(); ok; key, value, ok = records.Next() {
		messages = append(messages, kafka.Message{Key: key, Value: value})
		if len(messages) == callRecords {
			if err := write(); err != nil {
				return nil, err
			}
		}
	}
	if err := write(); err != nil {
		return nil, err
	}
	results.Wait()
	return measuring.Stop(), nil
}

const (
	// A batch of small records that is full. A Writer sets this much aside for each batch it begins, so more costs
	// memory whatever the batch will hold.
	batchRecords  = 10_000
	unansweredMax = 100_000
	callRecords   = 1000
)

func newWriter(job *driver.Job, producing *driver.Producing, settings driver.Settings) (*kafka.Writer, error) {
	if producing.Idempotent != nil && *producing.Idempotent {
		return nil, driver.Unsupported("kafka-go has no idempotent producer")
	}
	// Its default sends keyed records anywhere; this one as Java does.
	writer := &kafka.Writer{Addr: kafka.TCP(job.Bootstrap...), Topic: job.Topic, Balancer: kafka.Murmur2Balancer{}}
	settings["Balancer"] = "Murmur2Balancer"
	if codec := producing.Codec; codec != nil {
		writer.Compression = codecs[*codec]
		settings["Compression"] = *codec
	}
	if acks := producing.Acks; acks != nil {
		writer.RequiredAcks = acksNamed[*acks]
		settings["RequiredAcks"] = *acks
	} else {
		// Its default does not wait for an acknowledgement at all, which is not what anyone here measures.
		writer.RequiredAcks = kafka.RequireAll
		settings["RequiredAcks"] = "all"
	}
	if linger := producing.Linger; linger != nil {
		writer.BatchTimeout = *linger
		settings["BatchTimeout"] = linger.String()
	}
	if bytes := producing.BatchBytes; bytes != nil {
		writer.BatchBytes = int64(*bytes)
		settings["BatchBytes"] = *bytes
	}
	return writer, nil
}

var (
	codecs = map[string]kafka.Compression{
		"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd,
	}
	acksNamed = map[string]kafka.RequiredAcks{"all": kafka.RequireAll, "1": kafka.RequireOne}
)

func (client) Sender(job *driver.Job, producing *driver.Producing, settings driver.Settings) (driver.Sender, error) {
	writer, err := newWriter(job, producing, settings)
	return sender{writer}, err
}

type sender struct{ writer *kafka.Writer }

func (s sender) Send(value []byte) error {
	return s.writer.WriteMessages(context.Background(), kafka.Message{Value: value})
}

func (client) Enqueuer(job *driver.Job, producing *driver.Producing, settings driver.Settings) (driver.Enqueuer, error) {
	writer, err := newWriter(job, producing, settings)
	if err != nil {
		return nil, err
	}
	writer.Async = true
	writer.Completion = func(messages []kafka.Message, err error) {
		for _, message := range messages {
			message.WriterData.(func(error))(err)
		}
	}
	return enqueuer{writer}, nil
}

type enqueuer struct{ writer *kafka.Writer }

func (e enqueuer) Enqueue(value []byte, done func(error)) {
	if err := e.writer.WriteMessages(context.Background(), kafka.Message{Value: value, WriterData: done}); err != nil {
		done(err)
	}
}

func (client) Consumer(job *driver.Job, consume *driver.Consume, settings driver.Settings) (driver.Consumer, error) {
	if consume.Group != nil {
		return nil, driver.Unsupported("kafka-go has no cooperative assignment")
	}
	if consume.Pause != nil || consume.PauseEach != nil {
		return nil, driver.Unsupported("kafka-go cannot pause a partition")
	}
	connection, err := kafka.Dial("tcp", job.Bootstrap[0])
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	partitions, err := connection.ReadPartitions(consume.Topics(job)...)
	if err != nil {
		return nil, err
	}
	c := &consumer{consume: consume}
	for _, partition := range partitions {
		config := kafka.ReaderConfig{Brokers: job.Bootstrap, Topic: partition.Topic, Partition: partition.ID}
		if bytes := consume.PartitionFetchBytes; bytes != nil {
			config.MaxBytes = *bytes
			settings["MaxBytes"] = *bytes
		}
		c.readers = append(c.readers, kafka.NewReader(config))
	}
	return c, nil
}

type consumer struct {
	consume *driver.Consume
	readers []*kafka.Reader
}

func (c *consumer) Run(ctx context.Context, newSink func() *driver.Sink) error {
	failed := make(chan error, len(c.readers))
	for _, reader := range c.readers {
		go func() { failed <- c.read(ctx, reader, newSink()) }()
	}
	return <-failed
}

func (c *consumer) read(ctx context.Context, reader *kafka.Reader, sink *driver.Sink) error {
	for {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			return err
		}
		if sink.Take(int32(message.Partition), message.Value) {
			sink.Keep(message)
		}
		sink.Publish()
		if c.consume.IsSlow(int32(message.Partition)) {
			time.Sleep(time.Millisecond)
		}
	}
}
