//! The one stream of persons, auctions and bids as slices, and rows of a result being built.

use super::BidBatch;
use super::out::{Out, TextOut};
use crate::data::{Text, numbers_of, text_of};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use millstream_core::ChangeKind;

pub const PERSON: i32 = 0;
pub const AUCTION: i32 = 1;
pub const BID: i32 = 2;

/// A batch of events as slices: each kind of event has columns of its own, which hold nothing of use in the rows of the
/// others. Columns that the batch was made without are empty.
pub struct Events<'a> {
    /// [`PERSON`], [`AUCTION`] or [`BID`].
    pub kind: &'a [i32],
    pub person: Persons<'a>,
    pub auction: Auctions<'a>,
    pub bid: BidBatch<'a>,
}

pub struct Persons<'a> {
    pub id: &'a [i64],
    pub time: &'a [i64],
    pub name: Text<'a>,
    pub city: Text<'a>,
    pub state: Text<'a>,
}

pub struct Auctions<'a> {
    pub id: &'a [i64],
    pub initial_bid: &'a [i64],
    pub reserve: &'a [i64],
    pub time: &'a [i64],
    pub expires: &'a [i64],
    pub seller: &'a [i64],
    pub category: &'a [i64],
    pub item: Text<'a>,
    pub description: Text<'a>,
    pub extra: Text<'a>,
}

/// A field of one kind of event.
pub fn field<'a>(batch: &'a RecordBatch, kind: &str, name: &str) -> Option<&'a ArrayRef> {
    batch.column_by_name(kind)?.as_struct().column_by_name(name)
}

impl Events<'_> {
    pub fn of(batch: &RecordBatch) -> Events<'_> {
        let number = |kind: &str, name: &str| numbers_of(field(batch, kind, name));
        let text = |kind: &str, name: &str| text_of(field(batch, kind, name));
        Events {
            kind: batch.column_by_name("event_type").map_or(&[], |c| c.as_primitive::<Int32Type>().values()),
            person: Persons {
                id: number("person", "id"),
                time: number("person", "dateTime"),
                name: text("person", "name"),
                city: text("person", "city"),
                state: text("person", "state"),
            },
            auction: Auctions {
                id: number("auction", "id"),
                initial_bid: number("auction", "initialBid"),
                reserve: number("auction", "reserve"),
                time: number("auction", "dateTime"),
                expires: number("auction", "expires"),
                seller: number("auction", "seller"),
                category: number("auction", "category"),
                item: text("auction", "itemName"),
                description: text("auction", "description"),
                extra: text("auction", "extra"),
            },
            bid: BidBatch {
                auction: number("bid", "auction"),
                bidder: number("bid", "bidder"),
                price: number("bid", "price"),
                time: number("bid", "dateTime"),
                channel: text("bid", "channel"),
                url: text("bid", "url"),
                extra: text("bid", "extra"),
            },
        }
    }

    /// Event time of a row, of whichever kind it is.
    pub fn time(&self, row: usize) -> i64 {
        match self.kind[row] {
            PERSON => self.person.time[row],
            AUCTION => self.auction.time[row],
            _ => self.bid.time[row],
        }
    }

    /// Event time of the last row.
    pub fn last_time(&self) -> Option<i64> {
        self.kind.len().checked_sub(1).map(|last| self.time(last))
    }
}

/// Where a column of a result lies in [`Told`].
#[derive(Clone, Copy)]
pub enum At {
    Number(usize),
    Text(usize),
}

/// Changes of a result, being built column by column: `N` columns of numbers, `T` of text.
pub struct Told<const N: usize, const T: usize> {
    kinds: Vec<i8>,
    numbers: [Vec<i64>; N],
    texts: [TextOut; T],
    /// The columns in the order of the result.
    columns: &'static [At],
}

impl<const N: usize, const T: usize> Told<N, T> {
    pub fn new(columns: &'static [At]) -> Self {
        Told {
            kinds: Vec::new(),
            numbers: std::array::from_fn(|_| Vec::new()),
            texts: std::array::from_fn(|_| TextOut::default()),
            columns,
        }
    }

    #[inline(always)]
    pub fn push(&mut self, kind: ChangeKind, numbers: [i64; N], texts: [&[u8]; T]) {
        self.kinds.push(kind as i8);
        self.numbers.iter_mut().zip(numbers).for_each(|(column, value)| column.push(value));
        self.texts.iter_mut().zip(texts).for_each(|(column, text)| column.push(text));
    }

    /// Gives the rows away and begins anew.
    pub fn give(&mut self, out: &mut Out) {
        out.change(&(&self.kinds, &self.numbers, &self.texts), &self.kinds, |row, take| {
            for column in self.columns {
                match column {
                    At::Number(n) => take(self.numbers[*n][row] as u64),
                    At::Text(n) => take(self.texts[*n].code(row)),
                }
            }
        });
        self.kinds.clear();
        self.numbers.iter_mut().for_each(Vec::clear);
        self.texts.iter_mut().for_each(TextOut::clear);
    }
}
