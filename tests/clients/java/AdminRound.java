// The Java admin client: a topic made, described, altered, grown and deleted, as tests/clients/README.md says.

import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

final class AdminRound {
    // What it must print is known to `xtask/src/administration.rs`.
    private static final Map<String, String> CREATED = Map.of("retention.ms", "3600000");
    private static final Map<String, String> ALTERED = Map.of("segment.bytes", "2097152");
    private static final int PARTITIONS = 2;
    private static final int MORE_PARTITIONS = 4;
    private static final Duration LOOK_EVERY = Duration.ofMillis(20);

    private final Admin admin;
    private final String topic;
    private final ConfigResource resource;
    private final Instant deadline;

    private AdminRound(Admin admin, String topic, Duration timeout) {
        this.admin = admin;
        this.topic = topic;
        this.resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        this.deadline = Instant.now().plus(timeout);
    }

    static void run(String bootstrap, String topic, Duration timeout) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            new AdminRound(admin, topic, timeout).run();
        }
    }

    private void run() throws Exception {
        NewTopic created = new NewTopic(topic, Optional.of(PARTITIONS), Optional.empty()).configs(CREATED);
        admin.createTopics(List.of(created)).all().get();
        tell("created", PARTITIONS, CREATED);
        List<AlterConfigOp> changes = new ArrayList<>();
        ALTERED.forEach((name, value) ->
            changes.add(new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET)));
        admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get();
        Map<String, String> both = new TreeMap<>(CREATED);
        both.putAll(ALTERED);
        tell("altered", PARTITIONS, both);
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(MORE_PARTITIONS))).all().get();
        tell("grown", MORE_PARTITIONS, Map.of());
        admin.deleteTopics(List.of(topic)).all().get();
        tell("deleted", 0, Map.of());
    }

    /** Waits until the topic is as wanted, and then says how it is. */
    private void tell(String step, int partitions, Map<String, String> wanted) throws Exception {
        while (true) {
            int count = partitions();
            Map<String, String> found = new TreeMap<>();
            if (count > 0 && !wanted.isEmpty()) {
                var described = admin.describeConfigs(List.of(resource)).all().get().get(resource);
                wanted.keySet().forEach(name -> found.put(name, described.get(name).value()));
            }
            if (count == partitions && found.equals(wanted)) {
                StringBuilder line = new StringBuilder(step + " partitions=" + count);
                found.forEach((name, value) -> line.append(" ").append(name).append("=").append(value));
                System.out.println(line);
                return;
            }
            // Apache Kafka answers before its own metadata shows a change.
            if (Instant.now().isAfter(deadline)) {
                throw new TimeoutException(step + ": " + topic + " has " + count + " partitions and " + found);
            }
            Thread.sleep(LOOK_EVERY.toMillis());
        }
    }

    /** None where the topic is not listed. */
    private int partitions() throws Exception {
        if (!admin.listTopics().names().get().contains(topic)) {
            return 0;
        }
        try {
            return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
        } catch (ExecutionException error) {
            // What is listed and what is there are two views of Apache Kafka's.
            if (error.getCause() instanceof UnknownTopicOrPartitionException) {
                return 0;
            }
            throw error;
        }
    }
}
