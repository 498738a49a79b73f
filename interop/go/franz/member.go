package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"milena.invalid/interop/lines"
)

// member is in a group until it is told to leave: interop/src/member.rs.
func member(joining lines.Joining) {
	journal := lines.NewJournal()
	told := lines.Told()
	balancers := map[string]kgo.GroupBalancer{
		"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer(), "sticky": kgo.StickyBalancer(),
		"cooperative-sticky": kgo.CooperativeStickyBalancer(),
	}
	say := func(what string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, topics map[string][]int32) {
			journal.Partitions(what, topics[joining.Topic])
		}
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(joining.Brokers...),
		kgo.ConsumerGroup(joining.Group),
		kgo.ConsumeTopics(joining.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(joining.Session),
		kgo.HeartbeatInterval(joining.Heartbeat),
		kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(say("assigned")),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, topics map[string][]int32) {
			// What a rebalance kept from being committed.
			if err := client.CommitUncommittedOffsets(ctx); err != nil {
				journal.Say("error", err.Error())
			}
			journal.Partitions("revoked", topics[joining.Topic])
		}),
		kgo.OnPartitionsLost(say("lost")),
	}
	if joining.Protocols[0] == "consumer" {
		options = append(options, kgo.ServerSideBalancer())
	} else {
		var chosen []kgo.GroupBalancer
		for _, name := range joining.Protocols {
			chosen = append(chosen, balancers[name])
		}
		options = append(options, kgo.Balancers(chosen...))
	}
	if joining.Instance != "" {
		options = append(options, kgo.InstanceID(joining.Instance))
	}
	client, err := kgo.NewClient(options...)
	lines.Check(err)
	journal.Say("started")
	for leaving := false; !leaving; {
		select {
		case <-told:
			leaving = true
			continue
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		fetches := client.PollRecords(ctx, 500)
		cancel()
		for _, failed := range fetches.Errors() {
			if !errors.Is(failed.Err, context.DeadlineExceeded) {
				journal.Say("error", failed.Err.Error())
			}
		}
		last := map[int32]int64{}
		fetches.EachRecord(func(r *kgo.Record) {
			journal.Record(r.Partition, r.Offset, r.Value)
			last[r.Partition] = r.Offset
		})
		journal.Flush()
		if len(last) > 0 {
			if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
				journal.Say("error", err.Error())
			} else {
				for partition, offset := range last {
					journal.Committed(partition, offset+1)
				}
			}
		}
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
	journal.Say("closed")
}
