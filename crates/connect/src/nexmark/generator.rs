//! Makes columns of nexmark events: each value from the seed and the event's number alone.
//!
//! One pass over the rows for each column: a draw costs about a nanosecond, less than handing rows from column to
//! column would, and what is not asked for is not drawn. Text is copied out of tables made once for the process, in
//! pieces of a fixed length (a few vector moves), of which the part that is wanted is kept.

use super::layout::{Column, Layout, Leaf};
use super::options::{Kind, Options};
use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;
use millstream_core::{Error, Millis, Result};
use std::sync::{Arc, OnceLock};

const EPOCH_EVENTS: u64 = 50;
const AUCTIONS: u64 = 3;
/// Draws of an epoch: two for each event.
const EPOCH_DRAWS: u64 = 2 * EPOCH_EVENTS;
/// Ids of persons and auctions start here.
const FIRST_ID: i64 = 1000;
const FIRST_CATEGORY: i64 = 10;
const CATEGORIES: u64 = 5;
/// Auctions that random bids go to, and persons who make them: the newest so many, and a few yet to come.
const AUCTIONS_IN_FLIGHT: i64 = 100;
const AUCTIONS_AHEAD: i64 = 10;
const PERSONS_ACTIVE: i64 = 1000;
const PERSONS_AHEAD: i64 = 10;
/// The hot auction and the hot person change with every so many ids.
const HOT_SPAN: i64 = 100;
const HOT_CHANNELS: u64 = 4;
const CHANNELS: u64 = 10_000;

/// Rows of one partition: `count` of them from row `first` of the partition on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub kind: Kind,
    /// The partition takes the epochs with `epoch % of == partition`.
    pub partition: u64,
    pub of: u64,
    pub first: u64,
    pub count: usize,
}

/// The places `from..to` among the 50 events of an epoch.
#[derive(Clone, Copy)]
struct Block {
    epoch: u64,
    from: u64,
    to: u64,
}

impl Rows {
    fn blocks(self) -> impl Iterator<Item = Block> {
        let places = self.kind.places();
        let per_epoch = places.end - places.start;
        let mut at = self.first;
        let end = self.first + self.count as u64;
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let within = at % per_epoch;
                let rows = (per_epoch - within).min(end - at);
                let epoch = at / per_epoch * self.of + self.partition;
                at += rows;
                Block { epoch, from: places.start + within, to: places.start + within + rows }
            })
        })
    }
}

/// How many rows the partition has when the table ends after `events` events.
pub(super) fn rows_of_partition(kind: Kind, partition: u64, of: u64, events: u64) -> u64 {
    let places = kind.places();
    let (full, rest) = (events / EPOCH_EVENTS, events % EPOCH_EVENTS);
    // Epochs e < full with e % of == partition.
    let epochs = (full + of - 1 - partition) / of;
    let broken = if full % of == partition { rest.clamp(places.start, places.end) - places.start } else { 0 };
    epochs * (places.end - places.start) + broken
}

/// What all events of an epoch share.
struct Epoch {
    number: u64,
    /// State of the random numbers before the epoch's first draw.
    draws: u64,
    last_person: i64,
    last_auction: i64,
    hot_person: i64,
    hot_auction: i64,
}

impl Epoch {
    fn event(&self, place: u64) -> i64 {
        (self.number * EPOCH_EVENTS + place) as i64
    }

    /// The first and the second draw of an event. The mix is that of wyrand (W. Yi), whose state is a counter.
    #[inline(always)]
    fn first(&self, place: u64) -> u64 {
        mix(self.draws.wrapping_add((2 * place + 1).wrapping_mul(STEP)))
    }

    #[inline(always)]
    fn second(&self, place: u64) -> u64 {
        mix(self.draws.wrapping_add((2 * place + 2).wrapping_mul(STEP)))
    }
}

const STEP: u64 = 0xa076_1d64_78bd_642f;

#[inline(always)]
fn mix(state: u64) -> u64 {
    let t = u128::from(state).wrapping_mul(u128::from(state ^ 0xe703_7ed1_a0b4_28db));
    ((t >> 64) ^ t) as u64
}

/// A number below `n` (at most 65,536) from the lowest 16 bits.
#[inline(always)]
fn below(bits: u64, n: u64) -> u64 {
    ((bits & 0xffff) * n) >> 16
}

pub(super) struct Generator {
    layout: Layout,
    state: u64,
    base: Millis,
    /// Microseconds of event time from one event to the next.
    step_us: f64,
    /// The first auction and the first person are the hot ones for good.
    skewed: bool,
    texts: &'static Texts,
}

impl Generator {
    pub(super) fn new(layout: Layout, options: &Options) -> Generator {
        // Mixed, so that seeds next to each other do not give the same draws a few events apart.
        let state = mix(options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(STEP));
        let (base, step_us, skewed) = (options.base, 1e6 / options.event_rate, options.skewed);
        Generator { layout, state, base, step_us, skewed, texts: Texts::get() }
    }

    pub(super) fn make(&self, rows: Rows) -> Result<RecordBatch> {
        let columns = self.layout.columns.iter().map(|c| self.column(rows, c)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.count));
        RecordBatch::try_new_with_options(self.layout.schema.clone(), columns, &options)
            .map_err(|e| Error::internal(format!("nexmark table {}: {e}", self.layout.table)))
    }

    fn column(&self, rows: Rows, column: &Column) -> Result<ArrayRef> {
        Ok(match column {
            Column::Leaf(kind, leaf, declared) => self.leaf(rows, *kind, *leaf, declared, None),
            Column::Order => Arc::new(Int64Array::from(numbers(self, rows, Kind::All, Epoch::event))),
            Column::EventType => {
                let mut out = Vec::with_capacity(rows.count);
                for block in rows.blocks() {
                    out.extend((block.from..block.to).map(|place| match place {
                        0 => 0,
                        1..=3 => 1,
                        _ => 2,
                    }));
                }
                Arc::new(Int32Array::from(out))
            }
            Column::Row(kind, fields, leaves) => {
                let places = kind.places();
                let mut valid = Vec::with_capacity(rows.count);
                for block in rows.blocks() {
                    valid.extend((block.from..block.to).map(|place| places.contains(&place)));
                }
                // The fields are NULL where the row is: not every reader of a field looks at the row's own NULLs.
                let nulls = NullBuffer::new(BooleanBuffer::from(valid));
                let children = leaves.iter().zip(fields.iter()).map(|(leaf, field)| {
                    let nulls = field.is_nullable().then(|| nulls.clone());
                    self.leaf(rows, *kind, *leaf, field.data_type(), nulls)
                });
                let children = children.collect();
                let array = match fields.is_empty() {
                    true => Ok(StructArray::new_empty_fields(rows.count, Some(nulls))),
                    false => StructArray::try_new(fields.clone(), children, Some(nulls)),
                };
                Arc::new(array.map_err(|e| Error::internal(format!("nexmark table {}: {e}", self.layout.table)))?)
            }
        })
    }

    fn leaf(&self, rows: Rows, kind: Kind, leaf: Leaf, declared: &DataType, nulls: Option<NullBuffer>) -> ArrayRef {
        let ints =
            |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::new(ScalarBuffer::from(values), nulls.clone())) };
        let times = |values: Vec<i64>| -> ArrayRef {
            let zone = match declared {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            let array = TimestampMillisecondArray::new(ScalarBuffer::from(values), nulls.clone());
            Arc::new(array.with_timezone_opt(zone))
        };
        let text = |column: TextColumn| -> ArrayRef { Arc::new(column.finish(nulls.clone())) };
        let t = self.texts;
        match leaf {
            Leaf::Time => times(numbers(self, rows, kind, |e, place| self.time(e.event(place)))),

            Leaf::BidAuction => ints(numbers(self, rows, kind, |e, place| bid_auction(e, e.first(place)))),
            Leaf::BidBidder => ints(numbers(self, rows, kind, |e, place| bid_bidder(e, e.first(place)))),
            Leaf::BidPrice => ints(numbers(self, rows, kind, |e, place| t.price(e.second(place)))),
            Leaf::BidChannel => text(texts(self, rows, kind, 10, |e, place, out| {
                let slot = channel(e.first(place));
                out.copy(&t.channels[slot], t.channel_lengths[slot]);
            })),
            Leaf::BidUrl => text(texts(self, rows, kind, 64, |e, place, out| {
                let slot = channel(e.first(place));
                out.copy(&t.urls[slot], t.url_lengths[slot]);
            })),
            Leaf::BidExtra => text(texts(self, rows, kind, 69, |e, place, out| {
                let r = e.second(place);
                out.copy::<96>(piece(&t.letters, r >> 44), 54 + below(r >> 32, 28) as u8);
            })),

            Leaf::AuctionId => ints(numbers(self, rows, kind, auction_id)),
            Leaf::AuctionSeller => ints(numbers(self, rows, kind, |e, place| seller(e, e.first(place)))),
            Leaf::AuctionCategory => ints(numbers(self, rows, kind, |e, place| {
                FIRST_CATEGORY + below(e.first(place) >> 20, CATEGORIES) as i64
            })),
            Leaf::AuctionInitialBid => ints(numbers(self, rows, kind, |e, place| t.price(e.second(place)))),
            Leaf::AuctionReserve => ints(numbers(self, rows, kind, |e, place| {
                let r = e.second(place);
                t.price(r) + t.price(r >> 32)
            })),
            Leaf::AuctionExpires => times(numbers(self, rows, kind, |e, place| self.expires(e, place))),
            Leaf::AuctionItem => text(texts(self, rows, kind, 12, |e, place, out| {
                let (at, lengths) = (e.first(place) >> 40, AuctionText::of(e.second(place)));
                out.copy::<32>(piece(&t.words, at), lengths.item as u8);
            })),
            Leaf::AuctionDescription => text(texts(self, rows, kind, 54, |e, place, out| {
                let (at, lengths) = (e.first(place) >> 40, AuctionText::of(e.second(place)));
                out.copy::<128>(piece(&t.words, at + 20), lengths.description as u8);
            })),
            Leaf::AuctionExtra => text(texts(self, rows, kind, 400, |e, place, out| {
                let (at, lengths) = ((e.first(place) >> 40) & PIECES, AuctionText::of(e.second(place)));
                out.append(&t.letters[at as usize..at as usize + lengths.extra as usize]);
            })),

            Leaf::PersonId => ints(numbers(self, rows, kind, |e, _| e.last_person + FIRST_ID)),
            Leaf::PersonName => text(texts(self, rows, kind, 16, |e, place, out| {
                let r = e.first(place);
                out.append(FIRST_NAMES[below(r, FIRST_NAMES.len() as u64) as usize].as_bytes());
                out.append(b" ");
                out.append(LAST_NAMES[below(r >> 8, LAST_NAMES.len() as u64) as usize].as_bytes());
            })),
            Leaf::PersonEmail => text(texts(self, rows, kind, 15, |e, place, out| {
                let at = ((e.first(place) >> 20) & PIECES) as usize;
                out.append(&t.letters[at..at + 5]);
                out.append(b"@");
                out.append(&t.letters[at + 5..at + 9]);
                out.append(b".com");
            })),
            Leaf::PersonCard => text(texts(self, rows, kind, 20, |e, place, out| {
                let mut digits = e.second(place);
                let mut card = *b"0000 0000 0000 0000";
                for (i, c) in card.iter_mut().enumerate() {
                    if i % 5 != 4 {
                        *c = b'0' + (digits % 10) as u8;
                        digits /= 10;
                    }
                }
                out.append(&card);
            })),
            Leaf::PersonCity => text(texts(self, rows, kind, 10, |e, place, out| {
                out.append(CITIES[below(e.first(place) >> 28, CITIES.len() as u64) as usize].as_bytes());
            })),
            Leaf::PersonState => text(texts(self, rows, kind, 3, |e, place, out| {
                out.append(STATES[below(e.second(place) >> 40, STATES.len() as u64) as usize].as_bytes());
            })),
            Leaf::PersonExtra => text(texts(self, rows, kind, 136, |e, place, out| {
                let at = ((e.first(place) >> 20) & PIECES) as usize;
                let length = 110 + below(e.second(place) >> 20, 50) as usize;
                out.append(&t.letters[at..at + length]);
            })),
        }
    }

    fn epoch(&self, number: u64) -> Epoch {
        let (last_person, last_auction) = (number as i64, (number * AUCTIONS + AUCTIONS - 1) as i64);
        let hot = |last: i64| if self.skewed { 0 } else { last / HOT_SPAN * HOT_SPAN };
        Epoch {
            number,
            draws: self.state.wrapping_add(number.wrapping_mul(EPOCH_DRAWS).wrapping_mul(STEP)),
            last_person,
            last_auction,
            hot_person: hot(last_person),
            hot_auction: hot(last_auction),
        }
    }

    #[inline(always)]
    fn time(&self, event: i64) -> Millis {
        self.base + (event as f64 * self.step_us) as i64 / 1000
    }

    /// An auction lives for about as long as it takes to open as many as are in flight.
    fn expires(&self, e: &Epoch, place: u64) -> Millis {
        let event = e.event(place);
        let time = self.time(event);
        let ahead = AUCTIONS_IN_FLIGHT * EPOCH_EVENTS as i64 / AUCTIONS as i64;
        let horizon = ((self.time(event + ahead) - time) * 2).max(1) as u64;
        // `below` holds up to 2^16: a horizon beyond that (a slow event rate) is drawn in steps.
        let bits = (e.first(place) >> 36) & 0xffff;
        time + 1 + ((u128::from(bits) * u128::from(horizon)) >> 16) as i64
    }
}

#[inline(always)]
fn bid_auction(e: &Epoch, r: u64) -> i64 {
    let oldest = (e.last_auction - AUCTIONS_IN_FLIGHT).max(0);
    let span = (e.last_auction - oldest + 1 + AUCTIONS_AHEAD) as u64;
    // Both are worked out and one is taken: the choice is random, a branch would be guessed wrong half of the time.
    let (hot, cold) = (e.hot_auction, oldest + below(r >> 8, span) as i64);
    FIRST_ID + if r & 1 != 0 { hot } else { cold }
}

#[inline(always)]
fn bid_bidder(e: &Epoch, r: u64) -> i64 {
    let persons = e.last_person + 1;
    let active = persons.min(PERSONS_ACTIVE);
    let hot = e.hot_person + 1;
    let cold = persons - active + below(r >> 24, (active + PERSONS_AHEAD) as u64) as i64;
    FIRST_ID + if (r >> 1) & 3 != 0 { hot } else { cold }
}

fn auction_id(e: &Epoch, place: u64) -> i64 {
    (e.number * AUCTIONS + place - 1) as i64 + FIRST_ID
}

fn seller(e: &Epoch, r: u64) -> i64 {
    let persons = e.last_person + 1;
    let active = persons.min(PERSONS_ACTIVE);
    let any = persons - active + below(r >> 4, (active + PERSONS_AHEAD) as u64) as i64;
    FIRST_ID + if r & 3 != 0 { e.hot_person } else { any }
}

/// The slot of a bid's channel and url in [`Texts`].
#[inline(always)]
fn channel(r: u64) -> usize {
    let (hot, cold) = ((r >> 4) & 3, HOT_CHANNELS + ((((r >> 40) & 0xff_ffff) * CHANNELS) >> 24));
    (if (r >> 3) & 1 != 0 { hot } else { cold }) as usize
}

/// Lengths of an auction's texts: together with its numbers about 500 bytes, give or take a fifth of the padding.
struct AuctionText {
    item: u64,
    description: u64,
    extra: u64,
}

impl AuctionText {
    fn of(r: u64) -> AuctionText {
        let item = 3 + below(r, 17);
        let description = 3 + below(r >> 16, 97);
        let padding = 500 - 48 - item - description;
        AuctionText { item, description, extra: padding - padding / 5 + below(r >> 30, padding * 2 / 5) }
    }
}

/// A number for each row; 0 where the row is an event of another kind.
#[inline(always)]
fn numbers(g: &Generator, rows: Rows, kind: Kind, value: impl Fn(&Epoch, u64) -> i64) -> Vec<i64> {
    let places = kind.places();
    let mut out = Vec::with_capacity(rows.count);
    // Row by row: this is where the rows are made.
    for block in rows.blocks() {
        let epoch = g.epoch(block.epoch);
        let (from, to) = (block.from.clamp(places.start, places.end), block.to.clamp(places.start, places.end));
        // A block that ends before these events has only rows in front of them, one that starts behind only rows
        // after them: `from..to` is then empty, and the rest still adds up to the block's rows.
        out.resize(out.len() + from.min(block.to).saturating_sub(block.from) as usize, 0);
        out.extend((from..to).map(|place| value(&epoch, place)));
        out.resize(out.len() + block.to.saturating_sub(to.max(block.from)) as usize, 0);
    }
    out
}

/// A text for each row; empty where the row is an event of another kind. `bytes` is about the mean length, to
/// reserve by.
#[inline(always)]
fn texts(
    g: &Generator,
    rows: Rows,
    kind: Kind,
    bytes: usize,
    write: impl Fn(&Epoch, u64, &mut TextColumn),
) -> TextColumn {
    let places = kind.places();
    let share = rows.kind.places();
    let own = rows.count * (places.end - places.start) as usize / (share.end - share.start) as usize;
    let mut out = TextColumn::with_capacity(rows.count, own * bytes + own * bytes / 32 + 1024);
    for block in rows.blocks() {
        let epoch = g.epoch(block.epoch);
        for place in block.from..block.to {
            if place >= places.start && place < places.end {
                write(&epoch, place, &mut out);
            }
            out.end_row();
        }
    }
    out
}

/// The two buffers of an Arrow `Utf8` column, being filled.
struct TextColumn {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl TextColumn {
    fn with_capacity(rows: usize, bytes: usize) -> TextColumn {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        TextColumn { offsets, bytes: Vec::with_capacity(bytes) }
    }

    /// Appends the first `length` bytes of `from`, by way of all `N`: a copy of fixed length needs no call.
    #[inline(always)]
    fn copy<const N: usize>(&mut self, from: &[u8; N], length: u8) {
        let end = self.bytes.len() + length as usize;
        self.bytes.extend_from_slice(from);
        self.bytes.truncate(end);
    }

    #[inline(always)]
    fn append(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
    }

    /// Batches hold some thousand rows of at most some hundred bytes: far below the 2 GiB that offsets can count.
    #[inline(always)]
    fn end_row(&mut self) {
        self.offsets.push(self.bytes.len() as i32);
    }

    fn finish(self, nulls: Option<NullBuffer>) -> StringArray {
        let values = Buffer::from_vec(self.bytes);
        // SAFETY: the offsets are lengths of a buffer that only grew, from 0 to its end, and all bytes come from the
        // tables below, which are ASCII. Checking both again takes as long as making some of the columns.
        unsafe {
            let offsets = OffsetBuffer::new_unchecked(ScalarBuffer::from(self.offsets));
            StringArray::new_unchecked(offsets, values, nulls)
        }
    }
}

/// Places in the letter tables that a piece of text may start at, less one: a power of two, to draw by masking.
const PIECES: u64 = (1 << 20) - 1;
/// Letters behind the last such place.
const PIECE_MAX: usize = 1024;

/// `N` letters from a place in a letter table.
#[inline(always)]
fn piece<const N: usize>(letters: &[u8], at: u64) -> &[u8; N] {
    let at = (at & PIECES) as usize;
    letters[at..at + N].try_into().expect("a slice of N bytes")
}

const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];

/// Tables that text and prices are looked up in. The same for every seed, made once for the process.
struct Texts {
    /// Channels, each in a slot of fixed length, and the urls of their pages: four hot ones, then 10,000 others.
    channels: Vec<[u8; 16]>,
    channel_lengths: Vec<u8>,
    urls: Vec<[u8; 96]>,
    url_lengths: Vec<u8>,
    /// Lower-case letters, and the same with a space after every dozen or so.
    letters: Vec<u8>,
    words: Vec<u8>,
    /// `100 * 10^(6u)` at 4,096 steps of `u`, and the rise to the next: a power function costs 40 ns, this one.
    prices: Vec<(f64, f64)>,
}

impl Texts {
    fn get() -> &'static Texts {
        static TEXTS: OnceLock<Texts> = OnceLock::new();
        TEXTS.get_or_init(Texts::make)
    }

    /// A price from the lowest 32 bits.
    #[inline(always)]
    fn price(&self, bits: u64) -> i64 {
        let (low, rise) = self.prices[(bits >> 20) as usize % PRICE_STEPS];
        (low + rise * ((bits & 0xf_ffff) as f64 * (1.0 / 1_048_576.0)) + 0.5) as i64
    }

    fn make() -> Texts {
        let mut state = 42u64;
        let mut draw = || {
            state = state.wrapping_add(STEP);
            mix(state)
        };
        let size = PIECES as usize + 1 + PIECE_MAX;
        let letter = |bits: u64| b'a' + (((bits & 0xff) * 26) >> 8) as u8;
        let mut letters = Vec::with_capacity(size + 8);
        while letters.len() < size {
            let r = draw();
            letters.extend((0..8).map(|i| letter(r >> (8 * i))));
        }
        let mut words = Vec::with_capacity(size + 4);
        while words.len() < size {
            let r = draw();
            words.extend((0..4).map(|i| match (((r >> (16 * i + 8)) & 0xff) * 13) >> 8 {
                0 => b' ',
                _ => letter(r >> (16 * i)),
            }));
        }
        let price = |step: usize| 100.0 * 10f64.powf(6.0 * step as f64 / PRICE_STEPS as f64);
        let prices = (0..PRICE_STEPS).map(|i| (price(i), price(i + 1) - price(i))).collect();

        let slots = (HOT_CHANNELS + CHANNELS) as usize;
        let mut texts = Texts {
            channels: vec![[0; 16]; slots],
            channel_lengths: vec![0; slots],
            urls: vec![[0; 96]; slots],
            url_lengths: vec![0; slots],
            letters,
            words,
            prices,
        };
        for slot in 0..slots {
            let number = (slot as u64).checked_sub(HOT_CHANNELS);
            let channel = match number {
                None => ["Google", "Facebook", "Baidu", "Apple"][slot].to_string(),
                Some(n) => format!("channel-{n}"),
            };
            let mut folder = || {
                let r = draw();
                let length = 3 + (r >> 56) % 2;
                (0..length).map(|i| letter(r >> (8 * i)) as char).collect::<String>()
            };
            let (a, b, c) = (folder(), folder(), folder());
            let mut url = format!("https://www.nexmark.com/{a}/{b}/{c}/item.htm?query=1");
            // Nine in ten of the others name their channel in the url, by a number that looks random.
            if let Some(n) = number
                && draw() % 10 > 0
            {
                url += &format!("&channel_id={}", (n as i32).reverse_bits().unsigned_abs());
            }
            texts.channels[slot][..channel.len()].copy_from_slice(channel.as_bytes());
            texts.channel_lengths[slot] = channel.len() as u8;
            texts.urls[slot][..url.len()].copy_from_slice(url.as_bytes());
            texts.url_lengths[slot] = url.len() as u8;
        }
        texts
    }
}

const PRICE_STEPS: usize = 4096;
