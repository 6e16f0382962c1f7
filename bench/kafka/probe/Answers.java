import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.util.BitSet;
import java.util.Locale;

/**
 * What a job has to answer, made from the events by counting, and whether an answer is that.
 *
 * <p>A result is compared by its meaning (numbers, times), not by its text, since each system writes JSON in its own way.
 * Windows that hold closers only are left out of the comparison, and counted where results are waited for.
 */
final class Answers {
    /** What a job is: its windows, or none for the filter. */
    enum Job {
        FILTER(0, 0), TUMBLE(5000, 5000), HOP(10_000, 2000);

        final int size;
        final int slide;

        Job(int size, int slide) {
            this.size = size;
            this.slide = slide;
        }

        static Job of(String name) {
            return valueOf(name.toUpperCase(Locale.ROOT));
        }
    }

    /** An answer that is not the right one. */
    static final class Wrong extends RuntimeException {
        Wrong(String what) {
            super(what);
        }
    }

    private static final ObjectMapper JSON = new ObjectMapper();

    final Job job;
    private final Bids bids;
    /** Of the filter: the bids that go through. */
    private final BitSet through = new BitSet();
    private final BitSet seen = new BitSet();
    /** Of windows: how many bids there are, by window and auction. The first window ends a slide behind {@link Bids#T0}. */
    private int[][] counts = {};
    /** Results that are there once the warm-up, the main part and everything has been read. */
    long whenWarm;
    long whenMain;
    long whenAll;

    Answers(Job job, Bids bids) {
        this.job = job;
        this.bids = bids;
        if (job == Job.FILTER) {
            filter();
        } else {
            windows();
        }
    }

    private void filter() {
        for (int id = 0; id < bids.all(); id++) {
            if (bids.price(id) >= Bids.PRICE_LEAST) {
                through.set(id);
                whenWarm += id < bids.warm ? 1 : 0;
                whenMain += id < bids.firstCloser() ? 1 : 0;
                whenAll++;
            }
        }
    }

    private void windows() {
        counts = new int[(int) ((bids.end - Bids.T0 + job.size) / job.slide) + 1][bids.keys];
        long[] newest = new long[bids.partitions];
        for (int id = 0; id < bids.lastCloser(); id++) {
            if (id == bids.warm) {
                // Only what is sure to be closed by then: each partition has gone beyond it.
                long to = Long.MAX_VALUE;
                for (long newestOf : newest) {
                    to = Math.min(to, newestOf - Bids.WAIT_MS);
                }
                whenWarm = results(to);
            }
            if (id == bids.firstCloser()) {
                whenMain = results(Long.MAX_VALUE);
            }
            if (bids.closes(id)) {
                continue;
            }
            long ts = bids.ts(id);
            int partition = bids.partition(id);
            newest[partition] = Math.max(newest[partition], ts);
            int auction = bids.auction(id);
            int last = (int) Math.floorDiv(ts - Bids.T0 + job.size - job.slide, job.slide);
            for (int window = last; window > last - job.size / job.slide && window >= 0; window--) {
                counts[window][auction]++;
            }
        }
        // The closers before the live part are themselves in windows, which those behind it close.
        whenAll = results(Long.MAX_VALUE) + (long) bids.partitions * (job.size / job.slide);
    }

    long endOf(int window) {
        return Bids.T0 + (window + 1L) * job.slide;
    }

    private long results(long to) {
        long results = 0;
        for (int window = 0; window < counts.length && endOf(window) <= to; window++) {
            for (int count : counts[window]) {
                results += count > 0 ? 1 : 0;
            }
        }
        return results;
    }

    /** Takes a result in; says so if it is wrong or comes a second time. */
    void take(byte[] value) throws Exception {
        JsonNode row = JSON.readTree(value);
        if (job == Job.FILTER) {
            int id = row.get("id").intValue();
            JsonNode wanted = JSON.readTree(bids.value(id));
            if (!through.get(id) || !row.equals(wanted)) {
                throw new Wrong("bid " + id + ": " + row + ", and it is " + wanted);
            }
            if (seen.get(id)) {
                throw new Wrong("bid " + id + " comes twice");
            }
            seen.set(id);
            return;
        }
        int auction = row.get("auction").intValue();
        if (auction < 0) {
            return;
        }
        long end = time(row.get("window_end"));
        int window = (int) ((end - Bids.T0) / job.slide) - 1;
        if (time(row.get("window_start")) != end - job.size || window < 0 || window >= counts.length) {
            throw new Wrong("no window is like that of " + row);
        }
        int at = window * bids.keys + auction;
        if (seen.get(at)) {
            throw new Wrong("a window and its key come twice: " + row);
        }
        if (row.get("bids").longValue() != counts[window][auction]) {
            throw new Wrong(row + ", and there are " + counts[window][auction]);
        }
        seen.set(at);
    }

    /** That nothing is missing. */
    long complete() {
        if (job == Job.FILTER) {
            through.andNot(seen);
            if (!through.isEmpty()) {
                throw new Wrong(through.cardinality() + " bids are missing, such as " + through.nextSetBit(0));
            }
            return seen.cardinality();
        }
        long wanted = results(Long.MAX_VALUE);
        if (seen.cardinality() != wanted) {
            throw new Wrong(seen.cardinality() + " results of windows, and there are " + wanted);
        }
        return wanted;
    }

    /** Milliseconds, or a time as Flink writes it in JSON. */
    static long time(JsonNode value) {
        if (value.isNumber()) {
            return value.longValue();
        }
        String text = value.textValue().replace(' ', 'T').replace("Z", "");
        return LocalDateTime.parse(text).toInstant(ZoneOffset.UTC).toEpochMilli();
    }

    static JsonNode parsed(byte[] value) throws Exception {
        return JSON.readTree(value);
    }
}
