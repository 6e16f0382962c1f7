import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Kafka's own client, told by lines what to do: what tests know of a topic comes from it, and not from the client that is
 * tested.
 *
 * <pre>
 *   topic NAME PARTITIONS REPLICAS key=value,..   makes a topic
 *   grow NAME PARTITIONS                          gives it more partitions
 *   leader NAME PARTITION                         the id of the broker that leads it
 *   whole BROKERS                                 `true` if so many brokers are up and every copy of every partition is in sync
 *   send NAME PARTITION KEY VALUE                 no answer: it is on its way
 *   flush                                         everything sent has arrived; the number of records so far
 *   read NAME                                     the records that are committed and were not read before
 *   again NAME                                    all records that are committed, read by a new client
 *   open NAME SECONDS                             `true` once a transaction is open in the topic
 *   closed NAME SECONDS                           `true` once none is
 * </pre>
 *
 * Words are separated by tabs; NULL is the letter N behind a backslash. Each command but `send` is answered by lines
 * that begin with a tab, if there are any, and then one with `ok ..` or `error ..`.
 */
public final class Client {
    private static final String NULL = "\\N";
    /** How long anything may take while brokers fail. */
    private static final String PATIENCE_MILLIS = "120000";
    /** And a question that is asked again by whoever wants to know. */
    private static final String ASKING_MILLIS = "15000";

    private final String brokers;
    private final PrintStream out = new PrintStream(
        new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16), false, StandardCharsets.UTF_8);
    private final Admin admin;
    private final Map<String, KafkaConsumer<String, String>> readers = new HashMap<>();
    private KafkaProducer<String, String> producer;
    private long sent = 0;
    private final AtomicReference<Exception> lost = new AtomicReference<>();

    private Client(String brokers) {
        this.brokers = brokers;
        Properties p = common();
        p.put("default.api.timeout.ms", ASKING_MILLIS);
        this.admin = Admin.create(p);
    }

    private Properties common() {
        Properties p = new Properties();
        p.put("bootstrap.servers", brokers);
        p.put("default.api.timeout.ms", PATIENCE_MILLIS);
        // A broker that stands still is left after this time.
        p.put("request.timeout.ms", "5000");
        p.put("reconnect.backoff.max.ms", "500");
        return p;
    }

    public static void main(String[] args) throws Exception {
        Client client = new Client(args[0]);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8), 1 << 16);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            client.answer(line.split("\t", -1));
        }
        // Whoever talks to it is gone: nothing is worth waiting for.
        Runtime.getRuntime().halt(0);
    }

    private void answer(String[] words) {
        try {
            String said = act(words);
            if (said != null) {
                out.println("ok " + said);
            }
        } catch (Exception e) {
            Throwable why = e.getCause() == null ? e : e.getCause();
            if (!words[0].equals("send")) {
                out.println("error " + why.toString().replace('\n', ' '));
            } else {
                lost.compareAndSet(null, e);
            }
        }
        out.flush();
    }

    private String act(String[] words) throws Exception {
        switch (words[0]) {
            case "topic":
                return makeTopic(words[1], Integer.parseInt(words[2]), Short.parseShort(words[3]), words[4]);
            case "grow":
                admin.createPartitions(
                    Map.of(words[1], NewPartitions.increaseTo(Integer.parseInt(words[2]))),
                    new CreatePartitionsOptions().timeoutMs(Integer.parseInt(PATIENCE_MILLIS))).all().get();
                return "";
            case "leader":
                return orElse("-1", () -> leader(words[1], Integer.parseInt(words[2])));
            case "whole":
                return orElse("false", () -> String.valueOf(whole(Integer.parseInt(words[1]))));
            case "send":
                send(words[1], words[2], words[3], words[4]);
                return null;
            case "flush":
                return flush();
            case "read":
                return read(readers.computeIfAbsent(words[1], this::reader), words[1]);
            case "again":
                try (KafkaConsumer<String, String> reader = reader(words[1])) {
                    return read(reader, words[1]);
                }
            case "open":
                return String.valueOf(transaction(words[1], true, Double.parseDouble(words[2])));
            case "closed":
                return String.valueOf(transaction(words[1], false, Double.parseDouble(words[2])));
            default:
                throw new IllegalArgumentException("no command: " + words[0]);
        }
    }

    /** Where nobody answers in time, the question stays open. */
    private static String orElse(String unknown, Callable<String> ask) throws Exception {
        try {
            return ask.call();
        } catch (ExecutionException e) {
            if (e.getCause() instanceof RetriableException) {
                return unknown;
            }
            throw e;
        }
    }

    private String makeTopic(String name, int partitions, short replicas, String settings) throws Exception {
        Map<String, String> configs = new HashMap<>();
        for (String setting : settings.split(",")) {
            if (!setting.isEmpty()) {
                configs.put(setting.substring(0, setting.indexOf('=')), setting.substring(setting.indexOf('=') + 1));
            }
        }
        admin.createTopics(List.of(new NewTopic(name, partitions, replicas).configs(configs))).all().get();
        return "";
    }

    private TopicDescription described(String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private String leader(String topic, int partition) throws Exception {
        TopicPartitionInfo info = described(topic).partitions().get(partition);
        return info.leader() == null ? "-1" : String.valueOf(info.leader().id());
    }

    private boolean whole(int brokers) throws Exception {
        if (admin.describeCluster().nodes().get().size() < brokers) {
            return false;
        }
        Set<String> names = admin.listTopics(new org.apache.kafka.clients.admin.ListTopicsOptions().listInternal(true)).names().get();
        for (TopicDescription topic : admin.describeTopics(names).allTopicNames().get().values()) {
            for (TopicPartitionInfo partition : topic.partitions()) {
                if (partition.leader() == null || partition.isr().size() < partition.replicas().size()) {
                    return false;
                }
            }
        }
        return true;
    }

    private void send(String topic, String partition, String key, String value) throws Exception {
        if (producer == null) {
            Properties p = common();
            // Sent again for as long as it takes, stored once, and in order.
            p.put("acks", "all");
            p.put("enable.idempotence", "true");
            p.put("delivery.timeout.ms", "600000");
            p.put("max.block.ms", "600000");
            p.put("linger.ms", "5");
            p.put("max.request.size", "20971520");
            producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer());
        }
        String k = key.equals(NULL) ? null : key;
        String v = value.equals(NULL) ? null : value;
        producer.send(new ProducerRecord<>(topic, Integer.parseInt(partition), k, v), (done, e) -> {
            if (e != null) {
                lost.compareAndSet(null, e);
            }
        });
        sent++;
    }

    private String flush() throws Exception {
        if (producer != null) {
            producer.flush();
        }
        if (lost.get() != null) {
            throw lost.get();
        }
        return String.valueOf(sent);
    }

    private KafkaConsumer<String, String> reader(String topic) {
        Properties p = common();
        p.put("isolation.level", "read_committed");
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "none");
        p.put("max.poll.records", "10000");
        return new KafkaConsumer<>(p, new StringDeserializer(), new StringDeserializer());
    }

    /** Up to what is committed now. Partitions that have come since the last time are read from their beginning. */
    private String read(KafkaConsumer<String, String> reader, String topic) throws Exception {
        List<TopicPartition> all = new ArrayList<>();
        reader.partitionsFor(topic).forEach(p -> all.add(new TopicPartition(topic, p.partition())));
        Map<TopicPartition, Long> at = new HashMap<>();
        for (TopicPartition known : reader.assignment()) {
            at.put(known, reader.position(known));
        }
        reader.assign(all);
        for (TopicPartition partition : all) {
            if (at.containsKey(partition)) {
                reader.seek(partition, at.get(partition));
            } else {
                reader.seekToBeginning(List.of(partition));
            }
        }
        Map<TopicPartition, Long> ends = reader.endOffsets(all);
        long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(Long.parseLong(PATIENCE_MILLIS));
        Set<TopicPartition> left = new HashSet<>(all);
        while (true) {
            left.removeIf(p -> reader.position(p) >= ends.get(p));
            if (left.isEmpty()) {
                return "";
            }
            if (System.nanoTime() > until) {
                throw new IllegalStateException(left + " do not come to their ends " + ends);
            }
            for (ConsumerRecord<String, String> r : reader.poll(Duration.ofMillis(50))) {
                String key = r.key() == null ? NULL : r.key();
                String value = r.value() == null ? NULL : r.value();
                out.println("\t" + r.partition() + "\t" + r.offset() + "\t" + key + "\t" + value);
            }
        }
    }

    /** Waits until a transaction is open in the topic, or until none is. */
    private boolean transaction(String topic, boolean wanted, double seconds) throws Exception {
        long until = System.nanoTime() + (long) (seconds * 1e9);
        Map<TopicPartition, OffsetSpec> ask = new HashMap<>();
        described(topic).partitions().forEach(p -> ask.put(new TopicPartition(topic, p.partition()), OffsetSpec.latest()));
        do {
            long committed = sum(ask, IsolationLevel.READ_COMMITTED);
            boolean open = committed < sum(ask, IsolationLevel.READ_UNCOMMITTED);
            if (open == wanted) {
                return true;
            }
            Thread.sleep(1);
        } while (System.nanoTime() < until);
        return false;
    }

    private long sum(Map<TopicPartition, OffsetSpec> ask, IsolationLevel isolation) throws Exception {
        return admin.listOffsets(ask, new ListOffsetsOptions(isolation)).all().get().values().stream()
            .mapToLong(found -> found.offset()).sum();
    }
}
