// Drives confluent-kafka-go (github.com/confluentinc/confluent-kafka-go), which binds the librdkafka it brings along.
//
// As its documentation advises: Produce (not the deprecated channel) with delivery reports over Events, read by a
// goroutine of its own, reports without key and value; no bound on how many records a batch holds but its bytes, as
// librdkafka's INTRODUCTION has it for high throughput. Poll to consume (the channel is deprecated), partitions assigned
// at the beginning. A record is kept as it is: Poll has copied it.
package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"milena/bench/rivals/driver"
)

func main() {
	_, version := kafka.LibraryVersion()
	driver.Run("confluent-kafka-go", "github.com/confluentinc/confluent-kafka-go/v2", "librdkafka "+version, client{})
}

type client struct{}

func (client) Produce(job *driver.Job, producing *driver.Producing, records *driver.Records, results *driver.Results, settings driver.Settings) (*driver.Measured, error) {
	if producing.BatchBytes != nil {
		settings["batch.num.messages"] = 1_000_000
	}
	producer, err := connect(job, producing, settings)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	go func() {
		for event := range producer.Events() {
			if report, ok := event.(*kafka.Message); ok {
				results.Count(report.TopicPartition.Error)
			}
		}
	}()
	if producing.InTransactions() {
		if err := producer.InitTransactions(nil); err != nil {
			return nil, err
		}
	}
	measuring, sent := driver.StartMeasuring(), 0
	anywhere := kafka.TopicPartition{Topic: &job.Topic, Partition: kafka.PartitionAny}
	for key, value, ok := records.Next(); ok; key, value, ok = records.Next() {
		if producing.InTransactions() && sent%*producing.TransactionRecords == 0 {
			if sent > 0 {
				if err := producer.CommitTransaction(nil); err != nil {
					return nil, err
				}
			}
			if err := producer.BeginTransaction(); err != nil {
				return nil, err
			}
		}
		sent++
		if err := produce(producer, &kafka.Message{TopicPartition: anywhere, Key: key, Value: value}); err != nil {
			return nil, err
		}
	}
	if producing.InTransactions() {
		if err := producer.CommitTransaction(nil); err != nil {
			return nil, err
		}
	}
	results.Wait()
	return measuring.Stop(), nil
}

// Waits while the queue is full, as its example does, but not for a second.
func produce(producer *kafka.Producer, message *kafka.Message) error {
	for {
		err := producer.Produce(message, nil)
		var refused kafka.Error
		if !errors.As(err, &refused) || refused.Code() != kafka.ErrQueueFull {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func connect(job *driver.Job, producing *driver.Producing, settings driver.Settings) (*kafka.Producer, error) {
	settings["go.delivery.report.fields"] = "none"
	if producing.Codec != nil {
		settings["compression.type"] = *producing.Codec
	}
	if producing.Acks != nil {
		settings["acks"] = *producing.Acks
	}
	if producing.Idempotent != nil {
		settings["enable.idempotence"] = *producing.Idempotent
	}
	if producing.Linger != nil {
		settings["linger.ms"] = int(producing.Linger.Milliseconds())
	}
	if producing.BatchBytes != nil {
		settings["batch.size"] = *producing.BatchBytes
	}
	if producing.InTransactions() {
		settings["transactional.id"] = driver.TransactionalID
	}
	return kafka.NewProducer(config(job, settings))
}

func config(job *driver.Job, settings driver.Settings) *kafka.ConfigMap {
	config := kafka.ConfigMap{"bootstrap.servers": strings.Join(job.Bootstrap, ",")}
	if job.Authority != "" {
		config["security.protocol"], config["ssl.ca.location"] = "SSL", job.Authority
	}
	for name, value := range settings {
		config[name] = value
	}
	return &config
}

func (client) Sender(job *driver.Job, producing *driver.Producing, settings driver.Settings) (driver.Sender, error) {
	return newProducer(job, producing, settings)
}

func (client) Enqueuer(job *driver.Job, producing *driver.Producing, settings driver.Settings) (driver.Enqueuer, error) {
	return newProducer(job, producing, settings)
}

func newProducer(job *driver.Job, producing *driver.Producing, settings driver.Settings) (*producer, error) {
	connected, err := connect(job, producing, settings)
	if err != nil {
		return nil, err
	}
	go func() {
		for event := range connected.Events() {
			if report, ok := event.(*kafka.Message); ok {
				report.Opaque.(func(error))(report.TopicPartition.Error)
			}
		}
	}()
	return &producer{connected, kafka.TopicPartition{Topic: &job.Topic, Partition: kafka.PartitionAny}}, nil
}

type producer struct {
	*kafka.Producer
	anywhere kafka.TopicPartition
}

func (p *producer) Send(value []byte) error {
	result := make(chan error, 1)
	p.Enqueue(value, func(err error) { result <- err })
	return <-result
}

func (p *producer) Enqueue(value []byte, done func(error)) {
	message := &kafka.Message{TopicPartition: p.anywhere, Value: value, Opaque: done}
	if err := produce(p.Producer, message); err != nil {
		done(err)
	}
}

func (client) Consumer(job *driver.Job, consume *driver.Consume, settings driver.Settings) (driver.Consumer, error) {
	if consume.Slow != nil {
		return nil, driver.Unsupported("confluent-kafka-go does not hand over one partition apart from the others")
	}
	if consume.Group != nil {
		settings["group.id"] = *consume.Group
		settings["auto.offset.reset"] = "earliest"
		if consume.IsMoving {
			settings["partition.assignment.strategy"] = "cooperative-sticky"
			settings["heartbeat.interval.ms"] = int(driver.HeartbeatInterval.Milliseconds())
		}
	} else {
		// librdkafka wants a group even where partitions are assigned by hand; nobody joins it.
		settings["group.id"] = "bench"
		settings["enable.auto.commit"] = false
	}
	// The default of a second is how long a partition rests whenever 100 000 records are ahead of us, which with fetches
	// of this size they soon are.
	settings["fetch.queue.backoff.ms"] = 5
	if consume.PartitionFetchBytes != nil {
		settings["max.partition.fetch.bytes"] = *consume.PartitionFetchBytes
	}
	if consume.FetchBytes != nil {
		settings["fetch.max.bytes"] = *consume.FetchBytes
	}
	connected, err := kafka.NewConsumer(config(job, settings))
	if err != nil {
		return nil, err
	}
	if consume.Group != nil {
		return consumer{connected, consume}, connected.SubscribeTopics(consume.Topics(job), nil)
	}
	var assignment []kafka.TopicPartition
	for _, topic := range consume.Topics(job) {
		of, err := partitions(connected, topic)
		if err != nil {
			return nil, err
		}
		assignment = append(assignment, of...)
	}
	if err := connected.Assign(assignment); err != nil {
		return nil, err
	}
	if consume.Pause != nil {
		paused := []kafka.TopicPartition{{Topic: &job.Topic, Partition: int32(*consume.Pause)}}
		if err := connected.Pause(paused); err != nil {
			return nil, err
		}
	}
	return consumer{connected, consume}, nil
}

func partitions(consumer *kafka.Consumer, topic string) ([]kafka.TopicPartition, error) {
	metadata, err := consumer.GetMetadata(&topic, false, 10_000)
	if err != nil {
		return nil, err
	}
	var all []kafka.TopicPartition
	for _, partition := range metadata.Topics[topic].Partitions {
		all = append(all, kafka.TopicPartition{Topic: &topic, Partition: partition.ID, Offset: kafka.OffsetBeginning})
	}
	return all, nil
}

type consumer struct {
	*kafka.Consumer
	consume *driver.Consume
}

func (c consumer) SetPaused(topic string, partition int32, isPaused bool) error {
	partitions := []kafka.TopicPartition{{Topic: &topic, Partition: partition}}
	if isPaused {
		return c.Pause(partitions)
	}
	return c.Resume(partitions)
}

func (c consumer) Run(ctx context.Context, newSink func() *driver.Sink) error {
	sink, counts := newSink(), map[int32]int{}
	for ctx.Err() == nil {
		switch event := c.Poll(100).(type) {
		case *kafka.Message:
			if sink.Take(event.TopicPartition.Partition, event.Value) {
				sink.Keep(event)
			}
			sink.Publish()
			if c.consume.PauseEach == nil {
				continue
			}
			partition := event.TopicPartition
			if counts[partition.Partition]++; counts[partition.Partition]%driver.BatchRecords == 0 {
				if err := c.SetPaused(*partition.Topic, partition.Partition, true); err != nil {
					return err
				}
				time.AfterFunc(driver.PausedFor, func() { _ = c.SetPaused(*partition.Topic, partition.Partition, false) })
			}
		case kafka.Error:
			if event.IsFatal() {
				return event
			}
		}
	}
	return ctx.Err()
}
