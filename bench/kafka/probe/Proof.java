import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;

/**
 * Proves the comparison before anything is measured: right answers, made another way (bid by bid for each window), are
 * taken, and wrong ones are refused.
 */
final class Proof {
    private static final DateTimeFormatter TEXT =
            DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss").withZone(ZoneOffset.UTC);

    private Proof() {
    }

    /** How many wrong answers were refused. */
    static int prove() throws Exception {
        Bids few = new Bids(100, 900, 500, 100, 10, 2);
        int refused = 0;
        for (Answers.Job job : Answers.Job.values()) {
            List<byte[]> right = right(job, few);
            if (!taken(job, few, right)) {
                throw new IllegalStateException("right answers of " + job + " are refused");
            }
            List<byte[]> missing = new ArrayList<>(right);
            missing.remove(right.size() / 2);
            List<byte[]> twice = new ArrayList<>(right);
            twice.add(right.get(3));
            List<byte[]> other = new ArrayList<>(right);
            String text = new String(other.get(5), StandardCharsets.US_ASCII);
            other.set(5, text.replaceAll("\"(bids|bidder)\":(\\d+)", "\"$1\":1$2").getBytes(StandardCharsets.US_ASCII));
            for (List<byte[]> wrong : List.of(missing, twice, other)) {
                if (taken(job, few, wrong)) {
                    throw new IllegalStateException("wrong answers of " + job + " are taken for right");
                }
                refused++;
            }
        }
        return refused;
    }

    private static boolean taken(Answers.Job job, Bids bids, List<byte[]> results) throws Exception {
        Answers answers = new Answers(job, bids);
        try {
            for (byte[] result : results) {
                answers.take(result);
            }
            answers.complete();
            return true;
        } catch (Answers.Wrong e) {
            return false;
        }
    }

    private static List<byte[]> right(Answers.Job job, Bids bids) {
        List<byte[]> results = new ArrayList<>();
        if (job == Answers.Job.FILTER) {
            for (int id = 0; id < bids.all(); id++) {
                if (bids.price(id) >= Bids.PRICE_LEAST) {
                    results.add(bids.value(id));
                }
            }
            return results;
        }
        for (long start = Bids.T0 - job.size; start < bids.end; start += job.slide) {
            for (int auction = 0; auction < bids.keys; auction++) {
                int count = 0;
                for (int id = 0; id < bids.all(); id++) {
                    boolean within = bids.ts(id) >= start && bids.ts(id) < start + job.size;
                    count += within && bids.auction(id) == auction ? 1 : 0;
                }
                if (count > 0) {
                    String row = "{\"auction\":" + auction + ",\"window_start\":\"" + TEXT.format(Instant.ofEpochMilli(start))
                            + "\",\"window_end\":" + (start + job.size) + ",\"bids\":" + count + "}";
                    results.add(row.getBytes(StandardCharsets.US_ASCII));
                }
            }
        }
        return results;
    }
}
