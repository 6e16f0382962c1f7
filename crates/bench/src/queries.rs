//! The queries: SQL, loop, and the rate of event time that each is run at.

use crate::data::generator_options;
use crate::engine::SourceKind;
use crate::loops::{Loop, days, over, stateless, windows};

/// One query of the bench.
pub struct Bench {
    pub name: &'static str,
    /// The statements behind the declaration of `bid`: the result table and the `INSERT INTO` it.
    pub sql: &'static str,
    pub loop_fn: Loop,
    /// The columns of `bid` that it reads, by position: what a source has to make.
    pub columns: &'static [usize],
    /// Nexmark events per second of event time, 46 of 50 of them bids. Chosen so that many windows close and the rows
    /// out stay in proportion to the rows in; noted where that is not plain.
    pub rate: u64,
    /// False where rows depend on the wall clock, so that only their number of events can be compared.
    pub repeatable: bool,
}

macro_rules! bench {
    ($name:literal, $loop_fn:path, $columns:expr, $rate:expr) => {
        Bench {
            name: $name,
            sql: include_str!(concat!("../queries/", $name, ".sql")),
            loop_fn: $loop_fn,
            columns: &$columns,
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

impl Bench {
    /// The whole script: `bid` behind the given source, then the query.
    pub fn script(&self, source: &SourceKind) -> String {
        let options: Vec<String> = match source {
            SourceKind::Memory(_) => vec!["'connector' = 'memory'".into()],
            SourceKind::Generator { events, rate } => {
                generator_options(*events, *rate).iter().map(|(k, v)| format!("'{k}' = '{v}'")).collect()
            }
        };
        format!(
            "CREATE TABLE bid (\n  auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING,\n  \
             dateTime TIMESTAMP(3), extra STRING,\n  \
             WATERMARK FOR dateTime AS dateTime - INTERVAL '4' SECOND\n) WITH ({});\n\n{}",
            options.join(", "),
            self.sql
        )
    }
}
