// Partitions prints the partitions that sarama and franz-go choose for the keys and partition counts on stdin
// (KEY-IN-HEX<tab>COUNT), as PARTITIONER<tab>KEY<tab>COUNT<tab>PARTITION.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	type pair struct {
		key   string
		count int
	}
	var pairs []pair
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var next pair
		// An empty key has nothing before the tab.
		if _, err := fmt.Sscanf(lines.Text(), "%s\t%d", &next.key, &next.count); err != nil {
			next.key = ""
			if _, err := fmt.Sscanf(lines.Text(), "\t%d", &next.count); err != nil {
				panic(err)
			}
		}
		pairs = append(pairs, next)
	}
	hashers := []struct {
		name string
		make sarama.PartitionerConstructor
	}{
		{"sarama", sarama.NewHashPartitioner},
		{"sarama_reference", sarama.NewReferenceHashPartitioner},
	}
	for _, hasher := range hashers {
		partitioner := hasher.make("t")
		for _, each := range pairs {
			key, err := hex.DecodeString(each.key)
			if err != nil {
				panic(err)
			}
			message := &sarama.ProducerMessage{Topic: "t", Key: sarama.ByteEncoder(key)}
			partition, err := partitioner.Partition(message, int32(each.count))
			if err != nil {
				panic(err)
			}
			fmt.Printf("%s\t%s\t%d\t%d\n", hasher.name, each.key, each.count, partition)
		}
	}
	// A nil hasher is franz-go's default, which is Kafka's murmur2.
	partitioner := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for _, each := range pairs {
		key, err := hex.DecodeString(each.key)
		if err != nil {
			panic(err)
		}
		if key == nil {
			key = []byte{}
		}
		fmt.Printf("franz\t%s\t%d\t%d\n", each.key, each.count, partitioner.Partition(&kgo.Record{Key: key}, each.count))
	}
}
