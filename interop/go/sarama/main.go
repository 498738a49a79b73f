// Command sarama is sarama as a producer of golden batches: interop/src/partner.rs says what produce reads and writes.
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"

	"github.com/IBM/sarama"

	"milena.invalid/interop/lines"
)

func main() {
	args := os.Args[1:]
	if args[0] != "produce" {
		lines.Check(fmt.Errorf("no command %q", args[0]))
	}
	produce(args[1], args[2], args[3])
}

func produce(bootstrap, topic, codec string) {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Flush.Frequency = 20 * time.Millisecond
	lines.Check(config.Producer.Compression.UnmarshalText([]byte(codec)))
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, config)
	lines.Check(err)
	records, err := lines.Read(os.Stdin)
	lines.Check(err)
	var messages []*sarama.ProducerMessage
	for _, r := range records {
		message := &sarama.ProducerMessage{Topic: topic, Partition: r.Partition, Timestamp: time.UnixMilli(r.Timestamp)}
		if r.Key != nil {
			message.Key = sarama.ByteEncoder(r.Key)
		}
		if r.Value != nil {
			message.Value = sarama.ByteEncoder(r.Value)
		}
		for _, h := range r.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(h.Name), Value: h.Value})
		}
		messages = append(messages, message)
	}
	lines.Check(producer.SendMessages(messages))
	out := bufio.NewWriter(os.Stdout)
	for _, message := range messages {
		fmt.Fprintf(out, "%d\t%d\n", message.Partition, message.Offset)
	}
	lines.Check(out.Flush())
	lines.Check(producer.Close())
}
