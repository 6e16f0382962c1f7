//! `LIMIT n`: the first rows that arrive, and no more.

use crate::operator::{Event, Operator, Output};
use millstream_core::Result;

/// Hands on rows until it has handed on `left` more.
pub struct Limit {
    left: u64,
}

impl Limit {
    pub fn new(rows: u64) -> Limit {
        Limit { left: rows }
    }

    /// True once every further row is dropped.
    pub fn reached(&self) -> bool {
        self.left == 0
    }
}

impl Operator for Limit {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => {
                let take = self.left.min(batch.len() as u64);
                self.left -= take;
                match take as usize {
                    0 => Ok(()),
                    n if n == batch.len() => out.emit(0, batch),
                    n => out.emit(0, batch.slice(0, n)),
                }
            }
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }
}
