import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;

/**
 * The jobs of {@code bench/kafka} as one would write them with Kafka Streams: values through Jackson, state in RocksDB with its
 * changelog, windows that give their result once, when they have closed. Bids lie under their auction in the topic, so nothing has
 * to be sent through the broker a second time before it is counted.
 *
 * <p>Usage: {@code java Jobs BROKERS filter|tumble|hop exactly_once_v2|at_least_once INPUT OUTPUT NAME STATE THREADS}.
 */
public final class Jobs {
    /** What a topic has of a bid. */
    public static final class Bid {
        public long id;
        public long auction;
        public long bidder;
        public long price;
        public String channel;
        public String url;
        public long ts;
        public String extra;
    }

    /** The result of a window. */
    public static final class Count {
        public long auction;
        public long window_start;
        public long window_end;
        public long bids;
    }

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration LATE = Duration.ofSeconds(4);

    private Jobs() {
    }

    private static <T> Serde<T> json(Class<T> type) {
        ObjectReader reader = JSON.readerFor(type);
        ObjectWriter writer = JSON.writerFor(type);
        return Serdes.serdeFrom((topic, value) -> {
            try {
                return value == null ? null : writer.writeValueAsBytes(value);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }, (topic, bytes) -> {
            try {
                return bytes == null ? null : reader.readValue(bytes);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        });
    }

    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[5]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, args[2]);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "1000");
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[6]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, args[7]);
        // By itself it reads so only where it works exactly once.
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.ISOLATION_LEVEL_CONFIG), "read_committed");
        StreamsBuilder builder = new StreamsBuilder();
        if (args[1].equals("filter")) {
            filter(builder, args[3], args[4]);
        } else {
            Duration size = Duration.ofSeconds(args[1].equals("tumble") ? 5 : 10);
            Duration slide = Duration.ofSeconds(args[1].equals("tumble") ? 5 : 2);
            windows(builder, TimeWindows.ofSizeAndGrace(size, LATE).advanceBy(slide), args[3], args[4]);
        }
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        CountDownLatch end = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(e -> {
            e.printStackTrace();
            Runtime.getRuntime().halt(1);
            return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(Duration.ofSeconds(5));
            end.countDown();
        }));
        streams.start();
        end.await();
    }

    private static void filter(StreamsBuilder builder, String input, String output) {
        Serde<Bid> bids = json(Bid.class);
        builder.stream(input, Consumed.with(Serdes.ByteArray(), bids))
                .filter((key, bid) -> bid.price >= 5000)
                .to(output, Produced.with(Serdes.ByteArray(), bids));
    }

    private static void windows(StreamsBuilder builder, TimeWindows windows, String input, String output) {
        Serde<Bid> bids = json(Bid.class);
        KStream<String, Bid> read = builder.stream(input, Consumed.with(Serdes.String(), bids)
                .withTimestampExtractor((record, partitionTime) -> ((Bid) record.value()).ts));
        read.groupByKey(Grouped.with(Serdes.String(), bids))
                .windowedBy(windows)
                .count()
                .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()))
                .toStream()
                .map(Jobs::result)
                .to(output, Produced.with(Serdes.String(), json(Count.class)));
    }

    private static KeyValue<String, Count> result(Windowed<String> window, Long bids) {
        Count count = new Count();
        count.auction = Long.parseLong(window.key());
        count.window_start = window.window().start();
        count.window_end = window.window().end();
        count.bids = bids;
        return KeyValue.pair(window.key(), count);
    }
}
