//! The queries: SQL, loop, and the rate of event time that each is run at.

use crate::data::{Fields, events_options, events_spec, generator_options, generator_spec};
use crate::engine::SourceKind;
use crate::loops::{Loop, days, joins, newest, over, rounds, stateless, totals, windows};
use millstream_core::TableSpec;

/// One query of the bench.
pub struct Bench {
    pub name: &'static str,
    /// The statements behind the declaration of what it reads: the result table and the `INSERT INTO` it.
    pub sql: &'static str,
    pub loop_fn: Loop,
    /// What a source has to make for it.
    pub reads: Reads,
    /// Nexmark events per second of event time, 46 of 50 of them bids. Chosen so that many windows close and the rows
    /// out stay in proportion to the rows in; noted where that is not plain.
    pub rate: u64,
    /// False where rows depend on the wall clock, so that only their number of events can be compared.
    pub repeatable: bool,
}

/// What a query reads.
#[derive(Clone, Copy)]
pub enum Reads {
    /// These columns of table `bid`, by position.
    Bids(&'static [usize]),
    /// These fields of the one stream of persons, auctions and bids.
    Events(Fields),
}

impl Reads {
    /// The generator's table for it, with as many bids or events.
    pub fn spec(self, events: usize, rate: u64) -> TableSpec {
        match self {
            Reads::Bids(columns) => generator_spec(events, rate, Some(columns.to_vec())),
            Reads::Events(fields) => events_spec(events, rate, Some(fields)),
        }
    }
}

macro_rules! bench {
    ($name:literal, $loop_fn:path, $columns:expr, $rate:expr) => {
        Bench {
            name: $name,
            sql: include_str!(concat!("../queries/", $name, ".sql")),
            loop_fn: $loop_fn,
            reads: Reads::Bids(&$columns),
            rate: $rate,
            repeatable: true,
        }
    };
}

const AUCTION: usize = 0;
const BIDDER: usize = 1;
const PRICE: usize = 2;
const CHANNEL: usize = 3;
const URL: usize = 4;
const TIME: usize = 5;
const EXTRA: usize = 6;

/// The rate of event time that the published measurements were made with.
const USUAL: u64 = 100_000;

pub const BENCHES: &[Bench] = &[
    bench!("q0", stateless::q0, [AUCTION, BIDDER, PRICE, TIME, EXTRA], USUAL),
    bench!("q1", stateless::q1, [AUCTION, BIDDER, PRICE, TIME, EXTRA], USUAL),
    bench!("q2", stateless::q2, [AUCTION, PRICE, TIME], USUAL),
    bench!("q5count", windows::q5count, [AUCTION, TIME], USUAL),
    bench!("q7max", windows::q7max, [PRICE, TIME], USUAL),
    bench!("q11", windows::q11, [BIDDER, TIME], USUAL),
    Bench { repeatable: false, ..bench!("q12", windows::q12, [BIDDER, TIME], USUAL) },
    bench!("q14", stateless::q14, [AUCTION, BIDDER, PRICE, TIME, EXTRA], USUAL),
    bench!("q15", days::q15, [AUCTION, BIDDER, PRICE, TIME], USUAL),
    bench!("q16", days::q16, [AUCTION, BIDDER, PRICE, CHANNEL, TIME], USUAL),
    bench!("q17", days::q17, [AUCTION, PRICE, TIME], USUAL),
    bench!("q21", stateless::q21, [AUCTION, BIDDER, PRICE, CHANNEL, URL, TIME], USUAL),
    bench!("q22", stateless::q22, [AUCTION, BIDDER, PRICE, CHANNEL, URL, TIME], USUAL),
    // One event in 50 is a new bidder, and each bidder is in 1,800 windows: 36 rows out for each nexmark event, at any
    // rate, and 1,000 active bidders more for each second. So the slow one is for its volume, and
    bench!("hop30m", windows::hop30m, [BIDDER, TIME], 10_000),
    // the one with 1,000 keys gives 1,000 rows a second, about 1 for each event at this rate (and as many for the
    // 1,800 windows that the end of the input closes).
    bench!("hop30m_1k", windows::hop30m_1k, [BIDDER, TIME], 1_000),
    // Slow enough that frames lose rows: 30 minutes are 1.7 million bids.
    bench!("over30m", over::over30m, [BIDDER, PRICE, TIME], 1_000),
];

macro_rules! stateful {
    ($name:literal, $loop_fn:path, $fields:expr) => {
        Bench {
            name: $name,
            sql: include_str!(concat!("../../../bench/nexmark/", $name, ".sql")),
            loop_fn: $loop_fn,
            reads: Reads::Events(&$fields),
            rate: USUAL,
            repeatable: true,
        }
    };
}

/// The queries that keep state, as they are written in `bench/nexmark`: over the one stream of all events, with results that
/// are updated where the query says so.
pub const STATEFUL: &[Bench] = &[
    stateful!(
        "q3",
        joins::q3,
        [("person", &["id", "name", "city", "state"]), ("auction", &["id", "seller", "category"])]
    ),
    stateful!(
        "q4",
        joins::q4,
        [("auction", &["id", "dateTime", "expires", "category"]), ("bid", &["auction", "price", "dateTime"]),]
    ),
    stateful!(
        "q5",
        rounds::q5,
        [("person", &["dateTime"]), ("auction", &["dateTime"]), ("bid", &["auction", "dateTime"])]
    ),
    stateful!(
        "q7",
        joins::q7,
        [
            ("person", &["dateTime"]),
            ("auction", &["dateTime"]),
            ("bid", &["auction", "bidder", "price", "dateTime", "extra"]),
        ]
    ),
    stateful!(
        "q8",
        rounds::q8,
        [("person", &["id", "name", "dateTime"]), ("auction", &["seller", "dateTime"]), ("bid", &["dateTime"]),]
    ),
    stateful!(
        "q9",
        joins::q9,
        [("auction", AUCTION_FIELDS), ("bid", &["auction", "bidder", "price", "dateTime", "extra"]),]
    ),
    stateful!("q15", totals::q15, [("bid", &["auction", "bidder", "price", "dateTime"])]),
    stateful!("q16", totals::q16, [("bid", &["auction", "bidder", "price", "channel", "dateTime"])]),
    stateful!("q17", totals::q17, [("bid", &["auction", "price", "dateTime"])]),
    stateful!("q18", newest::q18, [("bid", BID_FIELDS)]),
    stateful!("q19", newest::q19, [("bid", BID_FIELDS)]),
    stateful!("q20", joins::q20, [("auction", AUCTION_FIELDS), ("bid", BID_FIELDS)]),
];

const AUCTION_FIELDS: &[&str] =
    &["id", "itemName", "description", "initialBid", "reserve", "dateTime", "expires", "seller", "category", "extra"];
const BID_FIELDS: &[&str] = &["auction", "bidder", "price", "channel", "url", "dateTime", "extra"];

/// The declaration of the one stream, and the views of persons, auctions and bids.
const EVENTS: &str = include_str!("../../../bench/nexmark/ddl.sql");
/// What it says of the source, which is another one here.
const EVENTS_SOURCE: &str = "'connector' = 'nexmark', 'events.num' = '100000'";

impl Bench {
    /// The whole script: what is read, behind the given source, then the query.
    pub fn script(&self, source: &SourceKind) -> String {
        let options: Vec<String> = match source {
            SourceKind::Memory(_) => vec!["'connector' = 'memory'".into()],
            SourceKind::Generator { events, rate } => {
                let options = match self.reads {
                    Reads::Bids(_) => generator_options(*events, *rate),
                    Reads::Events(_) => events_options(*events, *rate),
                };
                options.iter().map(|(k, v)| format!("'{k}' = '{v}'")).collect()
            }
        };
        let options = options.join(", ");
        match self.reads {
            Reads::Bids(_) => format!(
                "CREATE TABLE bid (\n  auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING,\n  \
                 dateTime TIMESTAMP(3), extra STRING,\n  \
                 WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND\n) WITH ({options});\n\n{}",
                self.sql
            ),
            Reads::Events(_) => {
                assert!(EVENTS.contains(EVENTS_SOURCE), "ddl.sql declares its source as `{EVENTS_SOURCE}`");
                format!("{}\n{}", EVENTS.replace(EVENTS_SOURCE, &options), self.sql)
            }
        }
    }
}
