// Command rdkafka is librdkafka as a test partner: interop/src/partner.rs says what each command reads and writes.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"milena.invalid/interop/lines"
)

const deadline = 30 * time.Second

var out = bufio.NewWriter(os.Stdout)

func main() {
	args := os.Args[1:]
	switch args[0] {
	case "produce":
		produce(args[1], args[2], args[3])
	case "consume":
		consume(args[1], args[2], lines.Number(args[3]), lines.Number(args[4]), "read_uncommitted")
	case "consume-committed":
		consume(args[1], args[2], lines.Number(args[3]), lines.Number(args[4]), "read_committed")
	case "transact":
		transact(args[1], args[2], args[3], args[4], lines.Number(args[5]))
	case "admin":
		admin(args[1], args[2])
	case "member":
		member(lines.Join(args[1:]))
	default:
		lines.Check(fmt.Errorf("no command %q", args[0]))
	}
	lines.Check(out.Flush())
}

// settings adds the lines of bootstrap, which are its servers and then settings by librdkafka's names.
func settings(bootstrap string, config kafka.ConfigMap) *kafka.ConfigMap {
	all := strings.Split(bootstrap, "\n")
	config["bootstrap.servers"] = all[0]
	for _, line := range all[1:] {
		name, value, _ := strings.Cut(line, "=")
		config[name] = strings.ReplaceAll(value, "\t", "\n")
	}
	return &config
}

func produce(bootstrap, topic, codec string) {
	producer, err := kafka.NewProducer(settings(bootstrap, kafka.ConfigMap{
		"enable.idempotence": true,
		"compression.codec":  codec,
		"linger.ms":          20,
		"message.timeout.ms": 20000,
	}))
	lines.Check(err)
	records, err := lines.Read(os.Stdin)
	lines.Check(err)
	delivered := make(chan kafka.Event, len(records))
	for i, r := range records {
		message := &kafka.Message{
			TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: r.Partition},
			Timestamp:      time.UnixMilli(r.Timestamp),
			Key:            r.Key,
			Value:          r.Value,
			Opaque:         i,
		}
		for _, h := range r.Headers {
			message.Headers = append(message.Headers, kafka.Header{Key: h.Name, Value: h.Value})
		}
		lines.Check(producer.Produce(message, delivered))
	}
	offsets := make([]kafka.Offset, len(records))
	for range records {
		message := (<-delivered).(*kafka.Message)
		lines.Check(message.TopicPartition.Error)
		offsets[message.Opaque.(int)] = message.TopicPartition.Offset
	}
	for i, r := range records {
		fmt.Fprintf(out, "%d\t%d\n", r.Partition, offsets[i])
	}
	producer.Close()
}

func consume(bootstrap, topic string, partitions, count int, isolation string) {
	consumer, err := kafka.NewConsumer(settings(bootstrap, kafka.ConfigMap{
		"group.id":           "unused: partitions are assigned by hand",
		"enable.auto.commit": false,
		"isolation.level":    isolation,
		"check.crcs":         true,
		"fetch.wait.max.ms":  100,
	}))
	lines.Check(err)
	var assigned []kafka.TopicPartition
	for partition := range partitions {
		assigned = append(assigned, kafka.TopicPartition{
			Topic: &topic, Partition: int32(partition), Offset: kafka.OffsetBeginning,
		})
	}
	lines.Check(consumer.Assign(assigned))
	until := time.Now().Add(deadline)
	for seen := 0; seen < count; seen++ {
		m, err := consumer.ReadMessage(time.Until(until))
		lines.Check(err)
		record := lines.Record{
			Partition: m.TopicPartition.Partition, Offset: int64(m.TopicPartition.Offset),
			Timestamp: m.Timestamp.UnixMilli(), Key: m.Key, Value: m.Value,
		}
		for _, h := range m.Headers {
			record.Headers = append(record.Headers, lines.Header{Name: h.Key, Value: h.Value})
		}
		lines.Write(out, record)
	}
	for partition := range partitions {
		_, high, err := consumer.QueryWatermarkOffsets(topic, int32(partition), int(deadline.Milliseconds()))
		lines.Check(err)
		fmt.Fprintf(out, "end\t%d\t%d\n", partition, high)
	}
	lines.Check(consumer.Close())
}

// admin walks a topic's life; each line says what the broker answered.
func admin(bootstrap, topic string) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	adm, err := kafka.NewAdminClient(settings(bootstrap, kafka.ConfigMap{}))
	lines.Check(err)
	defer adm.Close()
	create := func() string {
		answers, err := adm.CreateTopics(ctx, []kafka.TopicSpecification{{
			Topic: topic, NumPartitions: 3, ReplicationFactor: 1, Config: map[string]string{"max.message.bytes": "3600000"},
		}}, kafka.SetAdminOperationTimeout(10*time.Second))
		lines.Check(err)
		return code(answers[0].Error)
	}
	remove := func() string {
		answers, err := adm.DeleteTopics(ctx, []string{topic}, kafka.SetAdminOperationTimeout(10*time.Second))
		lines.Check(err)
		return code(answers[0].Error)
	}
	metadata := func() *kafka.Metadata {
		answer, err := adm.GetMetadata(nil, true, int(deadline.Milliseconds()))
		lines.Check(err)
		return answer
	}
	listed := func() bool {
		_, found := metadata().Topics[topic]
		return found
	}
	fmt.Fprintf(out, "create\t%s\n", create())
	fmt.Fprintf(out, "create again\t%s\n", create())
	fmt.Fprintf(out, "listed\t%t\n", lines.Eventually(listed))
	described := metadata().Topics[topic]
	fmt.Fprintf(out, "partitions\t%d\n", len(described.Partitions))
	fmt.Fprintf(out, "replicas\t%d\n", len(described.Partitions[0].Replicas))
	configs, err := adm.DescribeConfigs(ctx, []kafka.ConfigResource{{Type: kafka.ResourceTopic, Name: topic}})
	lines.Check(err)
	for _, name := range []string{"max.message.bytes", "cleanup.policy"} {
		fmt.Fprintf(out, "%s\t%s\n", name, configs[0].Config[name].Value)
	}
	first := kafka.TopicPartition{Topic: &topic, Partition: 0}
	var latest kafka.Offset
	lines.Eventually(func() bool {
		ends, err := adm.ListOffsets(ctx, map[kafka.TopicPartition]kafka.OffsetSpec{first: kafka.LatestOffsetSpec})
		lines.Check(err)
		for _, end := range ends.ResultInfos {
			latest = end.Offset
			return end.Error.Code() == kafka.ErrNoError
		}
		return false
	})
	fmt.Fprintf(out, "latest\t%d\n", latest)
	fmt.Fprintf(out, "nodes\t%d\n", len(metadata().Brokers))
	fmt.Fprintf(out, "delete\t%s\n", remove())
	fmt.Fprintf(out, "delete again\t%s\n", remove())
}

func code(err kafka.Error) string {
	if err.Code() == kafka.ErrNoError {
		return "ok"
	}
	return fmt.Sprint(err.Code())
}
