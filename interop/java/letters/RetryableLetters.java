// The dead letter of @RetryableTopic. It is in Spring's package because a type that it needs is not public.

package org.springframework.kafka.retrytopic;

import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.springframework.kafka.core.KafkaOperations;

public final class RetryableLetters {
    private RetryableLetters() {
    }

    public static void write(KafkaOperations<?, ?> template, ConsumerRecord<?, ?> record, Exception failure) {
        DestinationTopic next = new DestinationTopic("retryable-dlt", new DestinationTopic.Properties(0, "-dlt",
            DestinationTopic.Type.DLT, 3, 1, DltStrategy.FAIL_ON_ERROR, template, (n, e) -> true, -1));
        DestinationTopic main = new DestinationTopic("orders", new DestinationTopic.Properties(0, "",
            DestinationTopic.Type.MAIN, 3, 1, DltStrategy.FAIL_ON_ERROR, template, (n, e) -> true, -1));
        DestinationTopicResolver resolver = new DestinationTopicResolver() {
            @Override
            public DestinationTopic resolveDestinationTopic(String id, String topic, Integer attempt, Exception e, long at) {
                return next;
            }

            @Override
            public void addDestinationTopics(String id, List<DestinationTopic> topics) {
            }

            @Override
            public DestinationTopic getDestinationTopicByName(String id, String topic) {
                return topic.equals("orders") ? main : next;
            }

            @Override
            public DestinationTopic getNextDestinationTopicFor(String id, String topic) {
                return next;
            }
        };
        new DeadLetterPublishingRecovererFactory(resolver).create("listener")
            .accept(record, null, failure);
    }
}
