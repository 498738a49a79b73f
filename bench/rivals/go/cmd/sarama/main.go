// Drives sarama (github.com/IBM/sarama).
//
// As its documentation and its own producer-performance tool advise: AsyncProducer with both result channels drained by
// goroutines of their own, Flush.Frequency and Flush.Bytes for what others call linger and batch; single records by
// SyncProducer. One PartitionConsumer per partition, each with a goroutine that ranges over Messages. A record is kept
// as it is: there is no copying one.
package main

import (
	"context"
	"time"

	"github.com/IBM/sarama"

	"milena/bench/rivals/driver"
)

func main() {
	driver.Run("sarama", "github.com/IBM/sarama", "", client{})
}

type client struct{}

func (client) Produce(job *driver.Job, producing *driver.Producing, records *driver.Records, results *driver.Results, settings driver.Settings) (*driver.Measured, error) {
	producer, err := connect(job, producing, settings)
	if err != nil {
		return nil, err
	}
	defer producer.AsyncClose()
	go func() {
		for range producer.Successes() {
			results.Count(nil)
		}
	}()
	go func() {
		for failed := range producer.Errors() {
			results.Count(failed.Err)
		}
	}()
	measuring := driver.StartMeasuring()
	for key, value, ok := records.Next(); ok; key, value, ok = records.Next() {
		message := &sarama.ProducerMessage{Topic: job.Topic, Value: sarama.ByteEncoder(value)}
		if key != nil {
			message.Key = sarama.ByteEncoder(key)
		}
		producer.Input() <- message
	}
	results.Wait()
	return measuring.Stop(), nil
}

func connect(job *driver.Job, producing *driver.Producing, settings driver.Settings) (sarama.AsyncProducer, error) {
	config, err := producerConfig(producing, settings)
	if err != nil {
		return nil, err
	}
	return sarama.NewAsyncProducer(job.Bootstrap, config)
}

func producerConfig(producing *driver.Producing, settings driver.Settings) (*sarama.Config, error) {
	config := newConfig(settings)
	config.Producer.Return.Successes = true
	if codec := producing.Codec; codec != nil {
		if err := config.Producer.Compression.UnmarshalText([]byte(*codec)); err != nil {
			return nil, err
		}
		settings["Producer.Compression"] = *codec
	}
	if acks := producing.Acks; acks != nil {
		config.Producer.RequiredAcks = acksNamed[*acks]
		settings["Producer.RequiredAcks"] = *acks
	}
	if idempotent := producing.Idempotent; idempotent != nil {
		config.Producer.Idempotent = *idempotent
		settings["Producer.Idempotent"] = *idempotent
		if *idempotent {
			// It refuses to be idempotent with more.
			config.Net.MaxOpenRequests = 1
			settings["Net.MaxOpenRequests"] = 1
		}
	}
	if linger := producing.Linger; linger != nil {
		config.Producer.Flush.Frequency = *linger
		settings["Producer.Flush.Frequency"] = linger.String()
	}
	if bytes := producing.BatchBytes; bytes != nil {
		config.Producer.Flush.Bytes = *bytes
		settings["Producer.Flush.Bytes"] = *bytes
	}
	return config, nil
}

// Its default protocol version is older than idempotence and zstd.
func newConfig(settings driver.Settings) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	settings["Version"] = config.Version.String()
	return config
}

var acksNamed = map[string]sarama.RequiredAcks{"all": sarama.WaitForAll, "1": sarama.WaitForLocal}

func (client) Sender(job *driver.Job, producing *driver.Producing, settings driver.Settings) (driver.Sender, error) {
	config, err := producerConfig(producing, settings)
	if err != nil {
		return nil, err
	}
	producer, err := sarama.NewSyncProducer(job.Bootstrap, config)
	return sender{producer, job.Topic}, err
}

type sender struct {
	producer sarama.SyncProducer
	topic    string
}

func (s sender) Send(value []byte) error {
	_, _, err := s.producer.SendMessage(&sarama.ProducerMessage{Topic: s.topic, Value: sarama.ByteEncoder(value)})
	return err
}

func (client) Enqueuer(job *driver.Job, producing *driver.Producing, settings driver.Settings) (driver.Enqueuer, error) {
	producer, err := connect(job, producing, settings)
	if err != nil {
		return nil, err
	}
	go func() {
		for message := range producer.Successes() {
			message.Metadata.(func(error))(nil)
		}
	}()
	go func() {
		for failed := range producer.Errors() {
			failed.Msg.Metadata.(func(error))(failed.Err)
		}
	}()
	return enqueuer{producer, job.Topic}, nil
}

type enqueuer struct {
	producer sarama.AsyncProducer
	topic    string
}

func (e enqueuer) Enqueue(value []byte, done func(error)) {
	e.producer.Input() <- &sarama.ProducerMessage{Topic: e.topic, Value: sarama.ByteEncoder(value), Metadata: done}
}

func (client) Consumer(job *driver.Job, consume *driver.Consume, settings driver.Settings) (driver.Consumer, error) {
	if consume.Group != nil {
		return nil, driver.Unsupported("sarama has no cooperative assignment")
	}
	config := newConfig(settings)
	if bytes := consume.PartitionFetchBytes; bytes != nil {
		config.Consumer.Fetch.Default = int32(*bytes)
		settings["Consumer.Fetch.Default"] = *bytes
	}
	if bytes := consume.FetchBytes; bytes != nil {
		// Its bound on a whole response is of the package.
		sarama.MaxResponseSize = max(sarama.MaxResponseSize, int32(*bytes))
	}
	saramaConsumer, err := sarama.NewConsumer(job.Bootstrap, config)
	if err != nil {
		return nil, err
	}
	c := &consumer{consume: consume, byName: map[string][]sarama.PartitionConsumer{}}
	for _, topic := range consume.Topics(job) {
		partitions, err := saramaConsumer.Partitions(topic)
		if err != nil {
			return nil, err
		}
		for _, partition := range partitions {
			reading, err := saramaConsumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
			if err != nil {
				return nil, err
			}
			if topic == job.Topic && consume.IsPaused(partition) {
				reading.Pause()
			}
			c.byName[topic] = append(c.byName[topic], reading)
		}
	}
	return c, nil
}

type consumer struct {
	consume *driver.Consume
	byName  map[string][]sarama.PartitionConsumer // In the order of their numbers.
}

func (c *consumer) SetPaused(topic string, partition int32, isPaused bool) error {
	if isPaused {
		c.byName[topic][partition].Pause()
	} else {
		c.byName[topic][partition].Resume()
	}
	return nil
}

func (c *consumer) Run(ctx context.Context, newSink func() *driver.Sink) error {
	for _, partitions := range c.byName {
		for _, partition := range partitions {
			go c.read(partition, newSink())
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func (c *consumer) read(partition sarama.PartitionConsumer, sink *driver.Sink) {
	count := 0
	for message := range partition.Messages() {
		if sink.Take(message.Partition, message.Value) {
			sink.Keep(message)
		}
		sink.Publish()
		if c.consume.IsSlow(message.Partition) {
			time.Sleep(time.Millisecond)
		}
		if count++; c.consume.PauseEach != nil && count%driver.BatchRecords == 0 {
			partition.Pause()
			time.AfterFunc(driver.PausedFor, partition.Resume)
		}
	}
}
