import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * Fills topics and reads results, for {@code run.py}: one process for all measurements, so that its own code is warm. It knows
 * nothing of the systems but the ids of their processes.
 *
 * <pre>
 *  open    ─▶ two topics; the warm-up is there, the main part in a transaction that is still open
 *  warm    ─▶ results of the warm-up have come                              (the system was started meanwhile)
 *  release ─▶ the transaction is committed: the whole backlog is there at once; until the last result has come
 *  live    ─▶ bids at a steady rate, each with the time when it was handed to the client; until the last result
 *  check   ─▶ every record of the results' topic is held against the events, and nothing is missing
 * </pre>
 *
 * <p>A line of blanks-separated words is a command, a line of JSON its answer. Usage: {@code java Probe BROKERS}.
 */
public final class Probe {
    /** Between the last result and the reading of CPU time: a checkpoint that is still to come belongs to the work. */
    private static final int SETTLE_MS = 1500;
    /** Between heartbeats, while the last windows are waited for. */
    private static final int BEAT_MS = 200;
    /** For a broker to hear of a topic. */
    private static final Duration SERVED_PATIENCE = Duration.ofSeconds(60);
    private static final ObjectMapper JSON = new ObjectMapper();

    private final String brokers;
    private final Admin admin;
    private Bids bids;
    private Answers answers;
    private String input;
    private String output;
    private Tail tail;
    /** Its transaction holds the main part until it is released. */
    private KafkaProducer<byte[], byte[]> filler;
    private KafkaProducer<byte[], byte[]> live;
    /** Why a bid has not arrived, if any has not. */
    private final AtomicReference<Exception> lost = new AtomicReference<>();

    private Probe(String brokers) {
        this.brokers = brokers;
        Properties properties = new Properties();
        properties.put(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        admin = Admin.create(properties);
    }

    public static void main(String[] args) throws Exception {
        Probe probe = new Probe(args[0]);
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            Map<String, Object> answer = new LinkedHashMap<>();
            try {
                probe.obey(line.split(" "), answer);
            } catch (Exception e) {
                answer.clear();
                answer.put("error", e.getClass().getSimpleName() + ": " + e.getMessage());
            }
            System.out.println(JSON.writeValueAsString(answer));
            System.out.flush();
        }
        // When nobody commands any more.
        System.exit(0);
    }

    private void obey(String[] words, Map<String, Object> answer) throws Exception {
        switch (words[0]) {
            case "version" -> answer.put("version", AppInfoParser.getVersion());
            case "open" -> open(words);
            case "warm" -> warm(Long.parseLong(words[1]), answer);
            case "release" -> release(Long.parseLong(words[1]), answer);
            case "live" -> live(Long.parseLong(words[1]), Integer.parseInt(words[2]), answer);
            case "check" -> answer.put("results", check());
            case "close" -> close();
            case "prove" -> answer.put("refused", Proof.prove());
            default -> throw new IllegalArgumentException("no command " + words[0]);
        }
    }

    /** On a crowded machine a broker may know nothing yet of a topic that it has just made. */
    private void awaitServed(Map<TopicPartition, OffsetSpec> served) throws Exception {
        long until = System.nanoTime() + SERVED_PATIENCE.toNanos();
        while (true) {
            try {
                admin.listOffsets(served).all().get();
                return;
            } catch (ExecutionException e) {
                if (!(e.getCause() instanceof UnknownTopicOrPartitionException) || System.nanoTime() > until) {
                    throw e;
                }
                Thread.sleep(100);
            }
        }
    }

    // open JOB INPUT OUTPUT PARTITIONS WARM MAIN LIVE RATE KEYS
    private void open(String[] words) throws Exception {
        int[] numbers = Arrays.stream(words, 4, 10).mapToInt(Integer::parseInt).toArray();
        lost.set(null);
        input = words[2];
        output = words[3];
        bids = new Bids(numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[0]);
        answers = new Answers(Answers.Job.of(words[1]), bids);
        Map<String, String> settings = Map.of("retention.ms", "-1", "file.delete.delay.ms", "1000");
        admin.createTopics(List.of(new NewTopic(input, bids.partitions, (short) 1).configs(settings),
                new NewTopic(output, bids.partitions, (short) 1).configs(settings))).all().get();
        // Created is not yet served: a partition that answers has its leader.
        Map<TopicPartition, OffsetSpec> served = new LinkedHashMap<>();
        partitions(input).forEach(p -> served.put(p, OffsetSpec.earliest()));
        partitions(output).forEach(p -> served.put(p, OffsetSpec.earliest()));
        awaitServed(served);
        try (KafkaProducer<byte[], byte[]> warmer = producer(null)) {
            for (int id = 0; id < bids.warm; id++) {
                send(warmer, id, null);
            }
        }
        allArrived();
        filler = producer(input + "-filler");
        filler.initTransactions();
        filler.beginTransaction();
        for (int id = bids.warm; id < bids.firstLive(); id++) {
            send(filler, id, null);
        }
        filler.flush();
        allArrived();
        tail = new Tail(brokers, partitions(output));
    }

    private void send(KafkaProducer<byte[], byte[]> producer, int id, Long millis) {
        producer.send(new ProducerRecord<>(input, bids.partition(id), millis, Bids.key(bids.auction(id)), bids.value(id)),
                (sent, failed) -> {
                    if (failed != null) {
                        lost.compareAndSet(null, failed);
                    }
                });
    }

    /** What is missing in the topic would be looked for in the results. */
    private void allArrived() {
        if (lost.get() != null) {
            throw new IllegalStateException("bids have not arrived in the topic: " + lost.get());
        }
    }

    private KafkaProducer<byte[], byte[]> producer(String transaction) {
        Properties properties = new Properties();
        properties.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        if (transaction != null) {
            properties.put(ProducerConfig.TRANSACTIONAL_ID_CONFIG, transaction);
            properties.put(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG, "900000");
        }
        properties.put(ProducerConfig.BATCH_SIZE_CONFIG, "65536");
        // With several, those behind one that a new partition refuses may be taken before it, and then it never is.
        properties.put(ProducerConfig.MAX_IN_FLIGHT_REQUESTS_PER_CONNECTION, "1");
        // On a machine that has much else to do a broker may take its time; nothing is given up for that.
        properties.put(ProducerConfig.REQUEST_TIMEOUT_MS_CONFIG, "120000");
        properties.put(ProducerConfig.DELIVERY_TIMEOUT_MS_CONFIG, "600000");
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private List<TopicPartition> partitions(String topic) {
        List<TopicPartition> all = new ArrayList<>();
        for (int partition = 0; partition < bids.partitions; partition++) {
            all.add(new TopicPartition(topic, partition));
        }
        return all;
    }

    private void warm(long pid, Map<String, Object> answer) throws Exception {
        tail.await(answers.whenWarm, pid);
        answer.put("cpu_ms", Usage.cpuMs(pid));
    }

    private void release(long pid, Map<String, Object> answer) throws Exception {
        long before = Usage.cpuMs(pid);
        filler.commitTransaction();
        // Before this moment nobody sees anything; the answer to the commit comes a few ms later.
        long from = System.currentTimeMillis();
        live = producer(null);
        long last = untilResults(answers.whenMain, bids.firstCloser(), pid);
        filler.close();
        filler = null;
        Thread.sleep(SETTLE_MS);
        answer.put("wall_ms", last - from);
        answer.put("cpu_ms", Usage.cpuMs(pid) - before);
        answer.put("results", answers.whenMain - answers.whenWarm);
    }

    /**
     * Waits for so many results. Meanwhile closers come again and again, as in a topic that is not silent: some systems look at
     * their windows only when a record comes.
     */
    private long untilResults(long results, int firstCloser, long pid) throws Exception {
        AtomicReference<Boolean> done = new AtomicReference<>(false);
        Thread beats = new Thread(() -> {
            while (!done.get()) {
                for (int partition = 0; partition < bids.partitions; partition++) {
                    send(live, firstCloser + partition, null);
                }
                LockSupport.parkNanos(BEAT_MS * 1_000_000L);
            }
        });
        beats.start();
        try {
            return tail.await(results, pid);
        } finally {
            done.set(true);
            beats.join();
        }
    }

    // The first `settle` seconds are not measured.
    private void live(long pid, int settle, Map<String, Object> answer) throws Exception {
        long[] appended = new long[bids.live];
        tail.keep();
        long before = Usage.cpuMs(pid);
        long from = System.nanoTime();
        int sent = 0;
        while (sent < bids.live) {
            long due = Math.min((System.nanoTime() - from) * bids.rate / 1_000_000_000L, bids.live);
            for (; sent < due; sent++) {
                long now = System.currentTimeMillis();
                appended[sent] = now;
                send(live, bids.firstLive() + sent, now);
            }
            LockSupport.parkNanos(1_000_000L);
        }
        double seconds = (System.nanoTime() - from) / 1e9;
        long cpu = Usage.cpuMs(pid) - before;
        for (int id = bids.lastCloser(); id < bids.all(); id++) {
            send(live, id, null);
        }
        untilResults(answers.whenAll, bids.lastCloser(), pid);
        allArrived();
        answer.put("cpu_ms", cpu);
        answer.put("seconds", seconds);
        answer.put("peak_kb", Usage.peakKb(pid));
        live.close();
        live = null;
        long[] waits = answers.job == Answers.Job.FILTER ? waits(appended, settle) : windowWaits(appended, settle);
        if (waits.length == 0) {
            throw new IllegalStateException("no result was measured: give the live part more --seconds");
        }
        Arrays.sort(waits);
        answer.put("measured", waits.length);
        for (double part : new double[] {0.5, 0.99, 1}) {
            int at = (int) Math.min(waits.length - 1, Math.ceil(part * waits.length) - 1);
            answer.put("p" + Math.round(part * 100), waits[at]);
        }
    }

    /** From the append of a bid to the reading of it behind the filter. */
    private long[] waits(long[] appended, int settle) throws Exception {
        List<Long> waits = new ArrayList<>();
        for (Tail.Come come : tail.kept()) {
            int n = Answers.parsed(come.value()).get("id").intValue() - bids.firstLive();
            if (n >= settle * bids.rate && n < bids.live) {
                waits.add(come.at() - appended[n]);
            }
        }
        return waits.stream().mapToLong(Long::longValue).toArray();
    }

    /**
     * From the append of the bid that closed a window to the reading of a result of it. A window is closed once every partition
     * has had a bid of its end and the four seconds that late ones are waited for; the last of these bids closes it.
     */
    private long[] windowWaits(long[] appended, int settle) throws Exception {
        Map<Long, Long> closedAt = new LinkedHashMap<>();
        long slide = answers.job.slide;
        long first = (bids.pause + settle * 1000L + slide - 1) / slide * slide;
        long[] newest = new long[bids.partitions];
        long end = first;
        for (int n = 0; n < bids.live; n++) {
            int id = bids.firstLive() + n;
            newest[bids.partition(id)] = Math.max(newest[bids.partition(id)], bids.ts(id));
            while (n >= settle * bids.rate && Arrays.stream(newest).min().getAsLong() - Bids.WAIT_MS >= end) {
                closedAt.put(end, appended[n]);
                end += slide;
            }
        }
        List<Long> waits = new ArrayList<>();
        for (Tail.Come come : tail.kept()) {
            JsonNode row = Answers.parsed(come.value());
            Long closed = closedAt.get(Answers.time(row.get("window_end")));
            if (closed != null && row.get("auction").intValue() >= 0) {
                waits.add(come.at() - closed);
            }
        }
        return waits.stream().mapToLong(Long::longValue).toArray();
    }

    private long check() throws Exception {
        try (var consumer = Tail.consumer(brokers, partitions(output))) {
            Map<TopicPartition, OffsetSpec> latest = new LinkedHashMap<>();
            partitions(output).forEach(p -> latest.put(p, OffsetSpec.latest()));
            var committed = admin.listOffsets(latest, new ListOffsetsOptions(IsolationLevel.READ_COMMITTED)).all().get();
            while (committed.entrySet().stream().anyMatch(e -> consumer.position(e.getKey()) < e.getValue().offset())) {
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    answers.take(record.value());
                }
            }
        }
        return answers.complete();
    }

    private void close() throws Exception {
        if (tail != null) {
            tail.close();
            tail = null;
        }
        for (var producer : Arrays.asList(filler, live)) {
            if (producer != null) {
                producer.close(Duration.ZERO);
            }
        }
        filler = null;
        live = null;
        admin.deleteTopics(List.of(input, output)).all().get();
    }
}
