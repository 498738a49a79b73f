package main

import (
	"context"
	"fmt"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"milena.invalid/interop/lines"
)

// transact copies records within transactions. Each third transaction is aborted, and what it read is read again.
func transact(bootstrap, input, output, id string, count int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline)
	defer cancel()
	consumer, err := kafka.NewConsumer(settings(bootstrap, kafka.ConfigMap{
		"group.id":           id,
		"enable.auto.commit": false,
		"auto.offset.reset":  "earliest",
		"isolation.level":    "read_committed",
		"fetch.wait.max.ms":  100,
	}))
	lines.Check(err)
	producer, err := kafka.NewProducer(settings(bootstrap, kafka.ConfigMap{
		"transactional.id":       id,
		"transaction.timeout.ms": 20000,
	}))
	lines.Check(err)
	go func() {
		for event := range producer.Events() {
			// Records of aborted transactions may be purged.
			if failed, is := event.(kafka.Error); is && failed.IsFatal() {
				lines.Check(failed)
			}
		}
	}()
	lines.Check(producer.InitTransactions(ctx))
	lines.Check(consumer.SubscribeTopics([]string{input}, nil))
	copied := 0
	for round := 1; copied < count; round++ {
		messages := read(ctx, consumer, 7)
		lines.Check(producer.BeginTransaction())
		next := map[int32]kafka.TopicPartition{}
		for _, m := range messages {
			from := m.TopicPartition
			to := kafka.TopicPartition{Topic: &output, Partition: from.Partition}
			lines.Check(producer.Produce(&kafka.Message{
				TopicPartition: to, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value, Headers: m.Headers,
			}, nil))
			next[from.Partition] = kafka.TopicPartition{Topic: &input, Partition: from.Partition, Offset: from.Offset + 1}
		}
		var offsets []kafka.TopicPartition
		for _, offset := range next {
			offsets = append(offsets, offset)
		}
		group, err := consumer.GetConsumerGroupMetadata()
		lines.Check(err)
		lines.Check(producer.SendOffsetsToTransaction(ctx, offsets, group))
		if round%3 != 0 {
			lines.Check(producer.CommitTransaction(ctx))
			copied += len(messages)
			continue
		}
		producer.Flush(int(deadline.Milliseconds()))
		lines.Check(producer.AbortTransaction(ctx))
		assigned, err := consumer.Assignment()
		lines.Check(err)
		committed, err := consumer.Committed(assigned, int(deadline.Milliseconds()))
		lines.Check(err)
		for _, partition := range committed {
			if partition.Offset < 0 {
				partition.Offset = kafka.OffsetBeginning
			}
			lines.Check(consumer.Seek(partition, int(deadline.Milliseconds())))
		}
	}
	fmt.Fprintf(out, "copied\t%d\n", copied)
	producer.Close()
	lines.Check(consumer.Close())
}

// read reads up to a number of messages, and at least one.
func read(ctx context.Context, consumer *kafka.Consumer, most int) []*kafka.Message {
	var messages []*kafka.Message
	for len(messages) < most {
		lines.Check(ctx.Err())
		m, err := consumer.ReadMessage(200 * time.Millisecond)
		if err == nil {
			messages = append(messages, m)
		} else if !err.(kafka.Error).IsTimeout() {
			lines.Check(err)
		} else if len(messages) > 0 {
			break
		}
	}
	return messages
}
