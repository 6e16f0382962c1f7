import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.connector.datagen.source.GeneratorFunction;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.data.binary.BinaryStringData;

/**
 * Makes the events that Millstream's connector {@code nexmark} makes, value for value: each from its number alone, by the rules
 * and the random numbers of crates/connect/src/nexmark/generator.rs, which says why they are as they are. Texts are pieces of
 * tables that are made once, and no copies.
 */
public final class Events implements GeneratorFunction<Long, RowData> {
    private static final long EPOCH_EVENTS = 50;
    private static final long AUCTIONS = 3;
    private static final long FIRST_ID = 1000;
    private static final long IN_FLIGHT = 100;
    private static final long AHEAD = 10;
    private static final long ACTIVE = 1000;
    private static final long HOT_SPAN = 100;
    private static final int HOT_CHANNELS = 4;
    private static final int CHANNELS = 10_000;
    private static final long STEP = 0xa0761d6478bd642fL;
    private static final int PIECES = (1 << 20) - 1;
    private static final int PIECE_MAX = 1024;
    private static final int PRICE_STEPS = 4096;
    private static final long SEED_STATE = mix(STEP);

    private static final StringData[] FIRST_NAMES = texts(
            "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter");
    private static final StringData[] LAST_NAMES = texts(
            "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris");
    private static final StringData[] CITIES = texts(
            "Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne");
    private static final StringData[] STATES = texts("AZ", "CA", "ID", "OR", "WA", "WY");

    private static final byte[] LETTERS;
    private static final byte[] WORDS;
    private static final StringData[] CHANNEL_NAMES = new StringData[HOT_CHANNELS + CHANNELS];
    private static final StringData[] URLS = new StringData[HOT_CHANNELS + CHANNELS];
    private static final double[] PRICE_LOW = new double[PRICE_STEPS];
    private static final double[] PRICE_RISE = new double[PRICE_STEPS];

    static {
        Draws draws = new Draws();
        int size = PIECES + 1 + PIECE_MAX;
        LETTERS = new byte[size + 8];
        for (int length = 0; length < size; ) {
            long r = draws.next();
            for (int i = 0; i < 8; i++) {
                LETTERS[length++] = letter(r >>> (8 * i));
            }
        }
        WORDS = new byte[size + 4];
        for (int length = 0; length < size; ) {
            long r = draws.next();
            for (int i = 0; i < 4; i++) {
                boolean space = (((r >>> (16 * i + 8)) & 0xff) * 13) >> 8 == 0;
                WORDS[length++] = space ? (byte) ' ' : letter(r >>> (16 * i));
            }
        }
        for (int i = 0; i < PRICE_STEPS; i++) {
            PRICE_LOW[i] = priceAt(i);
            PRICE_RISE[i] = priceAt(i + 1) - priceAt(i);
        }
        String[] hot = {"Google", "Facebook", "Baidu", "Apple"};
        for (int slot = 0; slot < CHANNEL_NAMES.length; slot++) {
            int number = slot - HOT_CHANNELS;
            String url = "https://www.nexmark.com/" + folder(draws) + "/" + folder(draws) + "/" + folder(draws) + "/item.htm?query=1";
            if (number >= 0 && Long.remainderUnsigned(draws.next(), 10) > 0) {
                url += "&channel_id=" + Math.abs((long) Integer.reverse(number));
            }
            CHANNEL_NAMES[slot] = text(number < 0 ? hot[slot] : "channel-" + number);
            URLS[slot] = text(url);
        }
    }

    private final long events;
    private final double stepMicros;
    private final long base;
    private final boolean skewed;

    public Events(long events, double rate, long base, boolean skewed) {
        this.events = events;
        this.stepMicros = 1e6 / rate;
        this.base = base;
        this.skewed = skewed;
    }

    @Override
    public RowData map(Long number) {
        Measure.at(number, events);
        long epoch = number / EPOCH_EVENTS;
        long place = number % EPOCH_EVENTS;
        long draws = SEED_STATE + epoch * 2 * EPOCH_EVENTS * STEP;
        long first = mix(draws + (2 * place + 1) * STEP);
        long second = mix(draws + (2 * place + 2) * STEP);
        TimestampData time = TimestampData.fromEpochMillis(time(number));
        if (place == 0) {
            return GenericRowData.of(0, person(epoch, first, second, time), null, null);
        } else if (place <= AUCTIONS) {
            return GenericRowData.of(1, null, auction(number, epoch, place, first, second, time), null);
        }
        return GenericRowData.of(2, null, null, bid(epoch, first, second, time));
    }

    private GenericRowData person(long epoch, long first, long second, TimestampData time) {
        String name = FIRST_NAMES[below(first, FIRST_NAMES.length)] + " " + LAST_NAMES[below(first >>> 8, LAST_NAMES.length)];
        int at = (int) (first >>> 20) & PIECES;
        byte[] email = new byte[14];
        System.arraycopy(LETTERS, at, email, 0, 5);
        email[5] = '@';
        System.arraycopy(LETTERS, at + 5, email, 6, 4);
        System.arraycopy(new byte[] {'.', 'c', 'o', 'm'}, 0, email, 10, 4);
        byte[] card = new byte[19];
        long digits = second;
        for (int i = 0; i < card.length; i++) {
            if (i % 5 == 4) {
                card[i] = ' ';
            } else {
                card[i] = (byte) ('0' + Long.remainderUnsigned(digits, 10));
                digits = Long.divideUnsigned(digits, 10);
            }
        }
        int extra = 110 + below(second >>> 20, 50);
        return GenericRowData.of(epoch + FIRST_ID, text(name), BinaryStringData.fromBytes(email), BinaryStringData.fromBytes(card),
                CITIES[below(first >>> 28, CITIES.length)], STATES[below(second >>> 40, STATES.length)], time, piece(LETTERS, at, extra));
    }

    private GenericRowData auction(long number, long epoch, long place, long first, long second, TimestampData time) {
        long item = 3 + below(second, 17);
        long description = 3 + below(second >>> 16, 97);
        long padding = 500 - 48 - item - description;
        long extra = padding - padding / 5 + below(second >>> 30, padding * 2 / 5);
        long horizon = Math.max((time(number + IN_FLIGHT * EPOCH_EVENTS / AUCTIONS) - time(number)) * 2, 1);
        long expires = time(number) + 1 + ((((first >>> 36) & 0xffff) * horizon) >>> 16);
        long persons = epoch + 1;
        long active = Math.min(persons, ACTIVE);
        long seller = (first & 3) != 0 ? hot(epoch) : persons - active + below(first >>> 4, active + AHEAD);
        return GenericRowData.of(epoch * AUCTIONS + place - 1 + FIRST_ID, piece(WORDS, first >>> 40, item),
                piece(WORDS, (first >>> 40) + 20, description), price(second), price(second) + price(second >>> 32), time,
                TimestampData.fromEpochMillis(expires), FIRST_ID + seller, 10L + below(first >>> 20, 5), piece(LETTERS, first >>> 40, extra));
    }

    private GenericRowData bid(long epoch, long first, long second, TimestampData time) {
        long last = epoch * AUCTIONS + AUCTIONS - 1;
        long oldest = Math.max(last - IN_FLIGHT, 0);
        long auction = (first & 1) != 0 ? hot(last) : oldest + below(first >>> 8, last - oldest + 1 + AHEAD);
        long persons = epoch + 1;
        long active = Math.min(persons, ACTIVE);
        long bidder = ((first >>> 1) & 3) != 0 ? hot(epoch) + 1 : persons - active + below(first >>> 24, active + AHEAD);
        long cold = HOT_CHANNELS + ((((first >>> 40) & 0xffffff) * CHANNELS) >>> 24);
        int channel = (int) (((first >>> 3) & 1) != 0 ? (first >>> 4) & 3 : cold);
        return GenericRowData.of(FIRST_ID + auction, FIRST_ID + bidder, price(second), CHANNEL_NAMES[channel], URLS[channel], time,
                piece(LETTERS, second >>> 44, 54 + below(second >>> 32, 28)));
    }

    private long hot(long last) {
        return skewed ? 0 : last / HOT_SPAN * HOT_SPAN;
    }

    private long time(long event) {
        return base + (long) (event * stepMicros) / 1000;
    }

    private static long price(long bits) {
        int step = (int) (bits >>> 20) & (PRICE_STEPS - 1);
        return (long) (PRICE_LOW[step] + PRICE_RISE[step] * ((bits & 0xfffff) * (1.0 / 1_048_576.0)) + 0.5);
    }

    private static double priceAt(int step) {
        return 100.0 * Math.pow(10.0, 6.0 * step / PRICE_STEPS);
    }

    private static int below(long bits, long n) {
        return (int) (((bits & 0xffff) * n) >>> 16);
    }

    private static StringData piece(byte[] letters, long at, long length) {
        return BinaryStringData.fromBytes(letters, (int) at & PIECES, (int) length);
    }

    private static byte letter(long bits) {
        return (byte) ('a' + (((bits & 0xff) * 26) >> 8));
    }

    private static String folder(Draws draws) {
        long r = draws.next();
        StringBuilder name = new StringBuilder();
        for (int i = 0; i < 3 + (r >>> 56) % 2; i++) {
            name.append((char) letter(r >>> (8 * i)));
        }
        return name.toString();
    }

    private static StringData text(String text) {
        return BinaryStringData.fromBytes(text.getBytes(StandardCharsets.UTF_8));
    }

    private static StringData[] texts(String... all) {
        List<StringData> made = new ArrayList<>();
        for (String one : all) {
            made.add(text(one));
        }
        return made.toArray(new StringData[0]);
    }

    /** Of two factors of 64 bits, the upper and the lower half of the product, mixed. */
    static long mix(long state) {
        long other = state ^ 0xe7037ed1a0b428dbL;
        long high = Math.multiplyHigh(state, other) + ((state >> 63) & other) + ((other >> 63) & state);
        return high ^ (state * other);
    }

    private static final class Draws {
        private long state = 42;

        long next() {
            state += STEP;
            return mix(state);
        }
    }
}
