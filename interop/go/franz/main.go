// Command franz is franz-go as a test partner: interop/src/partner.rs says what each command reads and writes.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"milena.invalid/interop/lines"
)

var out = bufio.NewWriter(os.Stdout)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	args := os.Args[1:]
	switch args[0] {
	case "produce":
		produce(ctx, args[1], args[2], args[3])
	case "consume":
		consume(ctx, args[1], args[2], lines.Number(args[3]), lines.Number(args[4]))
	case "admin":
		admin(ctx, args[1], args[2])
	case "member":
		member(lines.Join(args[1:]))
	default:
		lines.Check(fmt.Errorf("no command %q", args[0]))
	}
	lines.Check(out.Flush())
}

func produce(ctx context.Context, bootstrap, topic, codec string) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	client, err := kgo.NewClient(append(
		settings(bootstrap),
		kgo.ProducerBatchCompression(codecs[codec]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(20*time.Millisecond),
	)...)
	lines.Check(err)
	defer client.Close()
	records, err := lines.Read(os.Stdin)
	lines.Check(err)
	var batch []*kgo.Record
	for _, r := range records {
		record := &kgo.Record{
			Topic: topic, Partition: r.Partition, Timestamp: time.UnixMilli(r.Timestamp), Key: r.Key, Value: r.Value,
		}
		for _, h := range r.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		batch = append(batch, record)
	}
	results := client.ProduceSync(ctx, batch...)
	lines.Check(results.FirstErr())
	// Results come in the order of acknowledgement; the records themselves know where they are.
	for _, record := range batch {
		fmt.Fprintf(out, "%d\t%d\n", record.Partition, record.Offset)
	}
}

func consume(ctx context.Context, bootstrap, topic string, partitions, count int) {
	offsets := map[int32]kgo.Offset{}
	for partition := range partitions {
		offsets[int32(partition)] = kgo.NewOffset().AtStart()
	}
	client, err := kgo.NewClient(append(
		settings(bootstrap),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}),
	)...)
	lines.Check(err)
	defer client.Close()
	for seen := 0; seen < count; {
		fetches := client.PollFetches(ctx)
		lines.Check(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			seen++
			record := lines.Record{
				Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value,
			}
			for _, h := range r.Headers {
				record.Headers = append(record.Headers, lines.Header{Name: h.Key, Value: h.Value})
			}
			lines.Write(out, record)
		})
	}
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	lines.Check(err)
	for partition := range partitions {
		end, _ := ends.Lookup(topic, int32(partition))
		fmt.Fprintf(out, "end\t%d\t%d\n", partition, end.Offset)
	}
}

// admin walks a topic's life; each line says what the broker answered.
func admin(ctx context.Context, bootstrap, topic string) {
	client, err := kgo.NewClient(settings(bootstrap)...)
	lines.Check(err)
	defer client.Close()
	adm := kadm.NewClient(client)
	size := "3600000"
	create := func() string {
		answer, err := adm.CreateTopic(ctx, 3, 1, map[string]*string{"max.message.bytes": &size}, topic)
		if err == nil {
			err = answer.Err
		}
		return code(err)
	}
	remove := func() string {
		answers, err := adm.DeleteTopics(ctx, topic)
		lines.Check(err)
		return code(answers[topic].Err)
	}
	listed := func() bool {
		topics, err := adm.ListTopics(ctx)
		lines.Check(err)
		return topics.Has(topic)
	}
	fmt.Fprintf(out, "create\t%s\n", create())
	fmt.Fprintf(out, "create again\t%s\n", create())
	fmt.Fprintf(out, "listed\t%t\n", lines.Eventually(listed))
	topics, err := adm.ListTopics(ctx, topic)
	lines.Check(err)
	fmt.Fprintf(out, "partitions\t%d\n", len(topics[topic].Partitions))
	fmt.Fprintf(out, "replicas\t%d\n", topics[topic].Partitions.NumReplicas())
	configs, err := adm.DescribeTopicConfigs(ctx, topic)
	lines.Check(err)
	for _, name := range []string{"max.message.bytes", "cleanup.policy"} {
		for _, config := range configs[0].Configs {
			if config.Key == name {
				fmt.Fprintf(out, "%s\t%s\n", name, config.MaybeValue())
			}
		}
	}
	var latest int64
	lines.Eventually(func() bool {
		ends, err := adm.ListEndOffsets(ctx, topic)
		lines.Check(err)
		end, found := ends.Lookup(topic, 0)
		latest = end.Offset
		return found && end.Err == nil
	})
	fmt.Fprintf(out, "latest\t%d\n", latest)
	cluster, err := adm.BrokerMetadata(ctx)
	lines.Check(err)
	fmt.Fprintf(out, "nodes\t%d\n", len(cluster.Brokers))
	fmt.Fprintf(out, "delete\t%s\n", remove())
	fmt.Fprintf(out, "delete again\t%s\n", remove())
}

func code(err error) string {
	if err == nil {
		return "ok"
	}
	if typed := kerr.TypedErrorForCode(kerrCode(err)); typed != nil {
		return typed.Message
	}
	return err.Error()
}

func kerrCode(err error) int16 {
	if typed, ok := err.(*kerr.Error); ok {
		return typed.Code
	}
	return -1
}
