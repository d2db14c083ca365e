// The Java client against a broker, as tests/clients/README.md says. `admin` is in AdminRound.java.

import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Client {
    /** What passed of one partition, as lines {@code key TAB value LF}. */
    private static final class Seen {
        long count;
        long first = -1;
        long last = -1;
        final MessageDigest lines;

        Seen() throws Exception {
            lines = MessageDigest.getInstance("SHA-256");
        }

        void add(int partition, long offset, byte[] key, byte[] value) {
            if (offset <= last) {
                throw new IllegalStateException("partition " + partition + ": offset " + offset + " came after " + last);
            }
            first = count == 0 ? offset : first;
            count += 1;
            last = offset;
            lines.update(key);
            lines.update((byte) '\t');
            lines.update(value);
            lines.update((byte) '\n');
        }
    }

    private static void print(Map<Integer, Seen> found) {
        found.forEach((partition, seen) -> System.out.printf("partition=%d count=%d first=%d last=%d sha256=%s%n",
            partition, seen.count, seen.first, seen.last, HexFormat.of().formatHex(seen.lines.digest())));
    }

    public static void main(String[] words) {
        try {
            Map<String, String> options = new HashMap<>(Map.of("partition", "all", "from", "earliest", "until", "end",
                "compression", "none", "timeout", "300s", "protocol", "classic"));
            for (int at = 1; at + 1 < words.length; at += 2) {
                options.put(words[at].substring(2), words[at + 1]);
            }
            switch (words[0]) {
                case "read" -> read(options);
                case "write" -> write(options);
                case "group" -> group(options);
                case "admin" -> AdminRound.run(options.get("bootstrap"), options.get("topic"), timeout(options));
                default -> throw new IllegalArgumentException("no such command: " + words[0]);
            }
        } catch (Exception error) {
            System.err.println("java: " + error);
            System.exit(1);
        }
    }

    private static Duration timeout(Map<String, String> options) {
        return Duration.ofSeconds(Long.parseLong(options.get("timeout").replace("s", "")));
    }

    private static void read(Map<String, String> options) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", options.get("bootstrap"));
        // A reset would skip or repeat records in silence.
        properties.put("auto.offset.reset", "none");
        properties.put("enable.auto.commit", "false");
        properties.put("max.poll.records", "20000");
        properties.put("max.partition.fetch.bytes", "8388608");
        Instant deadline = Instant.now().plus(timeout(options));
        Map<Integer, Seen> found = new TreeMap<>();
        try (var consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> chosen = new ArrayList<>();
            for (var info : consumer.partitionsFor(options.get("topic"))) {
                if (options.get("partition").equals("all") || options.get("partition").equals("" + info.partition())) {
                    chosen.add(new TopicPartition(info.topic(), info.partition()));
                    found.put(info.partition(), new Seen());
                }
            }
            if (chosen.isEmpty()) {
                throw new IllegalArgumentException("the topic has no partition " + options.get("partition"));
            }
            Map<TopicPartition, Long> starts = new HashMap<>(consumer.beginningOffsets(chosen));
            Map<TopicPartition, Long> ends = new HashMap<>(consumer.endOffsets(chosen));
            if (!options.get("from").equals("earliest")) {
                starts.replaceAll((partition, offset) -> Long.parseLong(options.get("from")));
            }
            if (!options.get("until").equals("end")) {
                ends.replaceAll((partition, offset) -> Long.parseLong(options.get("until")));
            }
            List<TopicPartition> left = new ArrayList<>(chosen);
            left.removeIf(partition -> starts.get(partition) >= ends.get(partition));
            consumer.assign(left);
            left.forEach(partition -> consumer.seek(partition, starts.get(partition)));
            while (!left.isEmpty()) {
                if (Instant.now().isAfter(deadline)) {
                    throw new TimeoutException("not at the end in time: " + left);
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) {
                        found.get(record.partition()).add(record.partition(), record.offset(), record.key(), record.value());
                    }
                }
                left.removeIf(partition -> consumer.position(partition) >= ends.get(partition));
            }
        }
        print(found);
    }

    private static void write(Map<String, String> options) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", options.get("bootstrap"));
        properties.put("acks", "all");
        properties.put("enable.idempotence", "true");
        properties.put("compression.type", options.get("compression"));
        properties.put("linger.ms", "20");
        properties.put("delivery.timeout.ms", "" + timeout(options).toMillis());
        Map<Integer, Seen> found = new TreeMap<>();
        AtomicReference<Exception> failure = new AtomicReference<>();
        try (var producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
             InputStream input = new BufferedInputStream(System.in, 1 << 20)) {
            for (byte[][] line = line(input); line != null; line = line(input)) {
                byte[] key = line[0];
                byte[] value = line[1];
                // Callbacks of one partition come in the order of its offsets, all on one thread.
                producer.send(new ProducerRecord<>(options.get("topic"), key, value), (metadata, error) -> {
                    try {
                        if (error != null) {
                            throw error;
                        }
                        if (!found.containsKey(metadata.partition())) {
                            found.put(metadata.partition(), new Seen());
                        }
                        found.get(metadata.partition()).add(metadata.partition(), metadata.offset(), key, value);
                    } catch (Exception problem) {
                        failure.compareAndSet(null, problem);
                    }
                });
            }
            producer.flush();
        }
        if (failure.get() != null) {
            throw failure.get();
        }
        print(found);
    }

    /** What a member has to read, told each time that it changes. */
    private static final class Owned implements ConsumerRebalanceListener {
        private final TreeSet<Integer> partitions = new TreeSet<>();

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> now) {
            now.forEach(partition -> partitions.add(partition.partition()));
            tell();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> gone) {
            gone.forEach(partition -> partitions.remove(partition.partition()));
            tell();
        }

        private void tell() {
            System.out.println("assigned="
                + partitions.stream().map(String::valueOf).collect(Collectors.joining(",")));
        }
    }

    /** Reads as a member of a group, and commits what it has read, until stdin closes. */
    private static void group(Map<String, String> options) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", options.get("bootstrap"));
        properties.put("group.id", options.get("group"));
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        // Java 3.9 knows `consumer` as a preview.
        properties.put("group.protocol", options.get("protocol"));
        if (options.get("protocol").equals("classic")) {
            properties.put("heartbeat.interval.ms", "500");
        }
        if (options.containsKey("instance")) {
            properties.put("group.instance.id", options.get("instance"));
        }
        AtomicBoolean leave = new AtomicBoolean();
        Thread watch = new Thread(() -> {
            try {
                System.in.transferTo(java.io.OutputStream.nullOutputStream());
            } catch (java.io.IOException ended) {
                // As good as closed.
            }
            leave.set(true);
        });
        watch.setDaemon(true);
        watch.start();
        Instant deadline = Instant.now().plus(timeout(options));
        Map<Integer, Seen> found = new TreeMap<>();
        long read = 0;
        try (var consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(options.get("topic")), new Owned());
            while (!leave.get()) {
                if (Instant.now().isAfter(deadline)) {
                    throw new TimeoutException("not asked to leave in time");
                }
                var records = consumer.poll(Duration.ofMillis(200));
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    if (!found.containsKey(record.partition())) {
                        found.put(record.partition(), new Seen());
                    }
                    found.get(record.partition()).add(record.partition(), record.offset(), record.key(), record.value());
                    read += 1;
                }
                if (!records.isEmpty()) {
                    consumer.commitSync();
                    System.out.println("read=" + read);
                }
            }
        }
        print(found);
    }

    /** Key and value of the next line, or null at the end. */
    private static byte[][] line(InputStream input) throws Exception {
        ByteArrayOutputStream key = null;
        ByteArrayOutputStream part = new ByteArrayOutputStream();
        for (int next = input.read(); next >= 0; next = input.read()) {
            if (next == '\n') {
                if (key == null) {
                    throw new IllegalArgumentException("a line has no tab");
                }
                return new byte[][] {key.toByteArray(), part.toByteArray()};
            }
            if (next == '\t' && key == null) {
                key = part;
                part = new ByteArrayOutputStream();
            } else {
                part.write(next);
            }
        }
        if (part.size() > 0 || key != null) {
            throw new IllegalArgumentException("the last line has no end");
        }
        return null;
    }
}
