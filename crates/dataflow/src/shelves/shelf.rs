//! One shelf: an operator in memory, or what it remembers below.

use super::Kind;
use super::pile::Segment;
use super::stored::{Block, Stock, push_rows, write_changes};
use crate::operator::{Event, Operator, Output, Watermarks};
use millstream_core::{Batch, Result, TimeDomain, Watermark};
use millstream_state::table::Saver;

pub(super) const DOMAINS: [TimeDomain; 2] = [TimeDomain::Event, TimeDomain::Processing];

/// For each domain, the least watermark at which something would come out.
pub(super) type Due = [Option<Watermark>; 2];

pub(super) struct Shelf {
    /// `None`: it is below.
    operator: Option<Box<dyn Operator>>,
    /// Of the operator, when it was measured last.
    bytes: usize,
    /// What the operator remembers, while it is below.
    stock: Stock,
    due: Due,
    /// What its operator has been handed.
    watermarks: Watermarks,
    /// The round that has brought it rows last.
    pub touched: u64,
}

impl Shelf {
    /// Nobody knows: at any watermark.
    pub const DUE: Due = [Some(Watermark::MIN); 2];

    pub fn below(stock: Stock, watermarks: Watermarks, due: Due) -> Shelf {
        Shelf { operator: None, bytes: 0, stock, due, watermarks, touched: 0 }
    }

    pub fn due_of(operator: &dyn Operator) -> Due {
        DOMAINS.map(|domain| operator.due(domain))
    }

    pub fn is_below(&self) -> bool {
        self.operator.is_none()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn bytes_below(&self) -> u64 {
        if self.is_below() { self.stock.bytes() as u64 } else { 0 }
    }

    /// Whether something would come out of it by these watermarks, as it was when it went below.
    pub fn is_due(&self, now: Watermarks) -> bool {
        DOMAINS.iter().zip(self.due).any(|(domain, due)| due.is_some_and(|due| due <= now.of(*domain)))
    }

    /// Takes its operator into memory, if it is below.
    pub fn come_up(&mut self, kind: &Kind) -> Result<()> {
        if self.is_below() {
            let mut operator = kind.fresh()?;
            std::mem::take(&mut self.stock).load_into(operator.as_mut(), &kind.tables)?;
            operator.resume(self.watermarks)?;
            self.operator = Some(operator);
        }
        Ok(())
    }

    /// Rows that came when the operator had been handed these watermarks.
    pub fn step(&mut self, segment: Segment, batch: Batch, out: &mut dyn Output) -> Result<()> {
        self.bring(segment.watermarks, out)?;
        let operator = self.operator.as_mut().expect("it has come up");
        operator.step(Event::Batch { input: segment.input, batch }, out)
    }

    pub fn bring(&mut self, to: Watermarks, out: &mut dyn Output) -> Result<()> {
        let Some(operator) = &mut self.operator else { return Ok(()) };
        for domain in DOMAINS {
            if to.of(domain) > self.watermarks.of(domain) {
                self.watermarks.advance(domain, to.of(domain));
                operator.step(Event::Watermark(domain, to.of(domain)), out)?;
            }
        }
        Ok(())
    }

    /// Bytes in memory now.
    pub fn measure(&mut self) -> usize {
        self.bytes = self.operator.as_ref().map_or(0, |o| o.state_bytes());
        self.bytes
    }

    /// Leaves the memory. What it has changed since the last save goes to `changes`.
    pub fn go_below(&mut self, kind: &Kind, changes: &mut Vec<Block>) -> Result<()> {
        let Some(mut operator) = self.operator.take() else { return Ok(()) };
        self.due = Shelf::due_of(operator.as_ref());
        let space = kind.space()?;
        if kind.tracking {
            changes.extend(write_changes(space, operator.as_mut(), &kind.tables)?);
        }
        self.stock = Stock::of(operator.as_mut(), &kind.tables)?.written(space)?;
        self.bytes = 0;
        Ok(())
    }

    /// Everything that it remembers, with names that begin anew.
    pub fn save_whole(&mut self, kind: &Kind, saver: &mut Saver) -> Result<()> {
        if let Some(operator) = &mut self.operator {
            return operator.save(saver);
        }
        self.come_up(kind)?;
        let mut operator = self.operator.take().expect("it has come up");
        self.stock = Stock::saved(operator.as_mut(), Saver::new(true), &kind.tables)?.written(kind.space()?)?;
        push_rows(&self.stock, &kind.tables, saver)
    }

    /// What it has changed since the last save, if it is in memory. Below, since all shelves together have too much of it.
    pub fn changes(&mut self, kind: &Kind, changes: &mut Vec<Block>) -> Result<()> {
        let Some(operator) = &mut self.operator else { return Ok(()) };
        changes.extend(write_changes(kind.space()?, operator.as_mut(), &kind.tables)?);
        Ok(())
    }
}
