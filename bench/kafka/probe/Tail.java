import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads results while they come, as anybody would who reads what is committed. While a backlog is worked off it counts
 * only, since it has its CPU from the same machine; in the live part it keeps what came and when.
 */
final class Tail implements AutoCloseable {
    /** A result, and the clock when it had come. */
    record Come(long at, byte[] value) {
    }

    /** How long a system may go without a result before it is given up. */
    private static final int SECONDS_MAX = 180;

    private final KafkaConsumer<byte[], byte[]> consumer;
    private final Thread thread;
    private final List<Come> kept = new ArrayList<>();
    private volatile boolean keeps;
    private volatile boolean closed;
    private volatile Exception failed;
    private long count;
    private long wanted = Long.MAX_VALUE;
    private long reachedAt;

    Tail(String brokers, List<TopicPartition> partitions) {
        consumer = consumer(brokers, partitions);
        thread = new Thread(this::read, "tail");
        thread.setDaemon(true);
        thread.start();
    }

    /** A client that sees what is committed, from the first record on. */
    static KafkaConsumer<byte[], byte[]> consumer(String brokers, List<TopicPartition> partitions) {
        Properties properties = new Properties();
        properties.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        properties.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
        properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        properties.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        properties.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, "20000");
        // What is committed is asked for again at once: nobody's results wait for the reader.
        properties.put(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG, "20");
        var made = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        made.assign(partitions);
        made.seekToBeginning(partitions);
        return made;
    }

    private void read() {
        try {
            while (!closed) {
                var records = consumer.poll(Duration.ofMillis(50));
                if (records.isEmpty()) {
                    continue;
                }
                long at = System.currentTimeMillis();
                if (keeps) {
                    for (ConsumerRecord<byte[], byte[]> record : records) {
                        kept.add(new Come(at, record.value()));
                    }
                }
                synchronized (this) {
                    count += records.count();
                    if (count >= wanted && reachedAt == 0) {
                        reachedAt = at;
                        notifyAll();
                    }
                }
            }
        } catch (Exception e) {
            failed = e;
        } finally {
            consumer.close();
        }
    }

    /** Waits for so many results in all, and says when they had come. */
    long await(long results, long pid) throws Exception {
        long until = System.currentTimeMillis() + SECONDS_MAX * 1000L;
        synchronized (this) {
            long before = count;
            wanted = results;
            reachedAt = count >= results ? System.currentTimeMillis() : 0;
            while (reachedAt == 0) {
                wait(200);
                if (failed != null) {
                    throw failed;
                }
                if (!Usage.alive(pid)) {
                    throw new IllegalStateException("the process has ended before its results were there");
                }
                if (count > before) {
                    before = count;
                    until = System.currentTimeMillis() + SECONDS_MAX * 1000L;
                }
                if (System.currentTimeMillis() > until) {
                    throw new IllegalStateException(
                            "no result for " + SECONDS_MAX + " s; there are " + count + ", and " + results + " were to come");
                }
            }
            return reachedAt;
        }
    }

    synchronized long count() {
        return count;
    }

    void keep() {
        keeps = true;
    }

    /** What has come since {@link #keep}; no more is read. */
    List<Come> kept() throws InterruptedException {
        close();
        return kept;
    }

    @Override
    public void close() throws InterruptedException {
        closed = true;
        thread.join(10_000);
    }
}
