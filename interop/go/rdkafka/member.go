package main

import (
	"slices"
	"strings"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"milena.invalid/interop/lines"
)

// member is in a group until it is told to leave: interop/src/member.rs.
func member(joining lines.Joining) {
	journal := lines.NewJournal()
	told := lines.Told()
	config := kafka.ConfigMap{
		"bootstrap.servers":  strings.Join(joining.Brokers, ","),
		"group.id":           joining.Group,
		"auto.offset.reset":  "earliest",
		"enable.auto.commit": false,
		"fetch.wait.max.ms":  100,
	}
	if joining.Protocols[0] == "consumer" {
		config["group.protocol"] = "consumer"
	} else {
		// librdkafka offers only assignors of one kind: in a list with others, the cooperative one is left out.
		offered := joining.Protocols
		if len(offered) > 1 {
			offered = slices.DeleteFunc(offered, func(name string) bool { return name == "cooperative-sticky" })
		}
		config["partition.assignment.strategy"] = strings.Join(offered, ",")
		config["session.timeout.ms"] = int(joining.Session.Milliseconds())
		config["heartbeat.interval.ms"] = int(joining.Heartbeat.Milliseconds())
	}
	if joining.Instance != "" {
		config["group.instance.id"] = joining.Instance
	}
	consumer, err := kafka.NewConsumer(&config)
	lines.Check(err)

	// What was read and is not committed yet: a rebalance may keep it from being committed at once.
	last := map[int32]kafka.Offset{}
	commit := func() {
		var offsets []kafka.TopicPartition
		for partition, offset := range last {
			offsets = append(offsets, kafka.TopicPartition{Topic: &joining.Topic, Partition: partition, Offset: offset + 1})
		}
		if len(offsets) == 0 {
			return
		}
		committed, err := consumer.CommitOffsets(offsets)
		if err != nil {
			journal.Say("error", err.Error())
			return
		}
		for _, partition := range committed {
			if partition.Error != nil {
				journal.Say("error", partition.Error.Error())
				continue
			}
			delete(last, partition.Partition)
			journal.Committed(partition.Partition, int64(partition.Offset))
		}
	}
	// Called by Poll and by Close.
	rebalance := func(_ *kafka.Consumer, event kafka.Event) error {
		switch event := event.(type) {
		case kafka.AssignedPartitions:
			journal.Partitions("assigned", numbers(event.Partitions))
		case kafka.RevokedPartitions:
			journal.Flush()
			what := "lost"
			if !consumer.AssignmentLost() {
				commit()
				what = "revoked"
			}
			for _, partition := range event.Partitions {
				delete(last, partition.Partition)
			}
			journal.Partitions(what, numbers(event.Partitions))
		}
		return nil
	}
	lines.Check(consumer.Subscribe(joining.Topic, rebalance))
	journal.Say("started")
	for leaving := false; !leaving; {
		select {
		case <-told:
			leaving = true
			continue
		default:
		}
		// A wait only for the first record: librdkafka gives them one by one.
		wait := 100
		for range 500 {
			event := consumer.Poll(wait)
			if event == nil {
				break
			}
			switch event := event.(type) {
			case *kafka.Message:
				wait = 0
				if err := event.TopicPartition.Error; err != nil {
					journal.Say("error", err.Error())
					continue
				}
				journal.Record(event.TopicPartition.Partition, int64(event.TopicPartition.Offset), event.Value)
				last[event.TopicPartition.Partition] = event.TopicPartition.Offset
			case kafka.Error:
				journal.Say("error", event.Error())
			}
		}
		journal.Flush()
		commit()
	}
	lines.Check(consumer.Close())
	journal.Say("closed")
}

func numbers(partitions []kafka.TopicPartition) []int32 {
	var numbers []int32
	for _, partition := range partitions {
		numbers = append(numbers, partition.Partition)
	}
	slices.Sort(numbers)
	return numbers
}
