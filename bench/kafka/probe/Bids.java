import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.utils.Utils;

/**
 * The events of a run: which there are is a function of their number alone, so that they need not be kept to know what
 * each job has to answer.
 *
 * <pre>
 *  number     0 .. warm .. warm+main | one for each partition | live .. | one for each partition
 *  what       bids                   | closers, a minute on   | bids    | closers, a minute on
 * </pre>
 *
 * <p>A bid is about 200 bytes of JSON under its auction as key. Event time goes on by {@code 1000 / rate} ms from bid to
 * bid; one bid in eight is late by up to a second, which is less than the four seconds that jobs wait. A closer has an
 * event time that closes all windows before it; its auction is negative and its price 0, so that no job's answer about
 * bids has anything of it.
 */
final class Bids {
    /** 2026-01-01 00:00:00. */
    static final long T0 = 1_767_225_600_000L;
    static final int DISORDER_MS = 1000;
    /** How long jobs wait for what is late. */
    static final int WAIT_MS = 4000;
    /** The filter lets through what costs as much: half of the bids. */
    static final int PRICE_LEAST = 5000;
    static final int PRICES = 10_000;
    private static final long PAUSE_MS = 60_000;
    private static final String[] CHANNELS = {"Google", "Facebook", "Baidu", "Apple"};
    private static final byte[] LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789".getBytes(StandardCharsets.US_ASCII);

    final int warm;
    final int main;
    final int live;
    final int rate;
    final int keys;
    final int partitions;
    /** The event time of the first closers, and of the last ones. */
    final long pause;
    final long end;
    private final int[] partitionOf;

    Bids(int warm, int main, int live, int rate, int keys, int partitions) {
        this.warm = warm;
        this.main = main;
        this.live = live;
        this.rate = rate;
        this.keys = keys;
        this.partitions = partitions;
        pause = roundUp(T0 + (long) (warm + main) * 1000 / rate + PAUSE_MS);
        end = roundUp(pause + (long) live * 1000 / rate + PAUSE_MS + WAIT_MS + DISORDER_MS);
        partitionOf = new int[keys];
        for (int key = 0; key < keys; key++) {
            // As the client's own partitioner does it.
            partitionOf[key] = Utils.toPositive(Utils.murmur2(key(key))) % partitions;
        }
    }

    /** To a bound of all windows. */
    private static long roundUp(long ms) {
        return (ms + 9999) / 10_000 * 10_000;
    }

    int firstCloser() {
        return warm + main;
    }

    int firstLive() {
        return warm + main + partitions;
    }

    int lastCloser() {
        return firstLive() + live;
    }

    int all() {
        return lastCloser() + partitions;
    }

    boolean closes(int id) {
        return id >= lastCloser() || (id >= firstCloser() && id < firstLive());
    }

    private static long mixed(long id) {
        long z = (id + 1) * 0x9E3779B97F4A7C15L;
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    int auction(int id) {
        if (closes(id)) {
            return -1 - partition(id);
        }
        return (int) ((mixed(id) >>> 8) % keys);
    }

    int price(int id) {
        return closes(id) ? 0 : (int) ((mixed(id) >>> 24) % PRICES);
    }

    int bidder(int id) {
        return (int) ((mixed(id) >>> 40) % 1_000_000);
    }

    String channel(int id) {
        return CHANNELS[(int) (mixed(id) & 3)];
    }

    int partition(int id) {
        if (id >= lastCloser()) {
            return id - lastCloser();
        }
        if (id >= firstCloser() && id < firstLive()) {
            return id - firstCloser();
        }
        return partitionOf[auction(id)];
    }

    long ts(int id) {
        if (id >= lastCloser()) {
            return end;
        }
        if (id >= firstCloser() && id < firstLive()) {
            return pause;
        }
        long at = id < firstCloser() ? T0 + (long) id * 1000 / rate
                : pause + WAIT_MS + (long) (id - firstLive()) * 1000 / rate;
        long mixed = mixed(~id);
        return (mixed & 7) == 0 ? Math.max(at - (mixed >>> 8) % DISORDER_MS, T0) : at;
    }

    static byte[] key(int auction) {
        return Integer.toString(auction).getBytes(StandardCharsets.US_ASCII);
    }

    String url(int id) {
        return "https://www.nexmark.com/" + letters(id, 1, 14) + "/item.htm?query=1";
    }

    String extra(int id) {
        return letters(id, 2, 24);
    }

    private static String letters(int id, int of, int length) {
        byte[] made = new byte[length];
        long mixed = mixed(((long) of << 40) + id);
        for (int n = 0; n < length; n++) {
            if (n % 10 == 0) {
                mixed = mixed(mixed);
            }
            made[n] = LETTERS[(int) ((mixed >>> (n % 10 * 6)) & 63) % LETTERS.length];
        }
        return new String(made, StandardCharsets.US_ASCII);
    }

    byte[] value(int id) {
        return ("{\"id\":" + id + ",\"auction\":" + auction(id) + ",\"bidder\":" + bidder(id) + ",\"price\":" + price(id)
                + ",\"channel\":\"" + channel(id) + "\",\"url\":\"" + url(id) + "\",\"ts\":" + ts(id) + ",\"extra\":\""
                + extra(id) + "\"}").getBytes(StandardCharsets.US_ASCII);
    }
}
