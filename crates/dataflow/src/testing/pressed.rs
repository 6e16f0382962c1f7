//! An operator that is never given the memory it would like.

use crate::operator::{Event, Operator, Output, Watermarks};
use arrow::array::RecordBatch;
use millstream_core::Result;
use millstream_state::table::{Saver, TableDef};
use millstream_state::tier::MemorySpace;
use std::sync::Arc;

/// The operator with hardly any memory: after every `every`th step, and between loads, all that it can give back goes to
/// scratch space. What comes out is the same, and in the same step: there is always time to catch up.
pub fn pressed(operator: Box<dyn Operator>, every: usize, space: Arc<MemorySpace>) -> Box<dyn Operator> {
    pressed_with(operator, every, 1, space)
}

/// The same where `every` is more than 0; otherwise the operator as it is.
pub fn pressed_if(operator: Box<dyn Operator>, every: usize, space: &Arc<MemorySpace>) -> Box<dyn Operator> {
    if every > 0 { pressed(operator, every, space.clone()) } else { operator }
}

/// As [`pressed`], with time to catch up after every `leisure`th step; 0: there never is any.
pub fn pressed_with(
    mut operator: Box<dyn Operator>,
    every: usize,
    leisure: usize,
    space: Arc<MemorySpace>,
) -> Box<dyn Operator> {
    operator.spill_to(space);
    Box::new(Pressed { operator, every: every.max(1), leisure, steps: 0 })
}

struct Pressed {
    operator: Box<dyn Operator>,
    every: usize,
    leisure: usize,
    steps: usize,
}

impl Pressed {
    fn press(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps.is_multiple_of(self.every) { self.operator.shed(usize::MAX) } else { Ok(()) }
    }
}

impl Operator for Pressed {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        self.operator.step(event, out)?;
        self.press()?;
        if self.leisure > 0 && self.steps.is_multiple_of(self.leisure) { self.catch_up(out) } else { Ok(()) }
    }

    fn catch_up(&mut self, out: &mut dyn Output) -> Result<()> {
        self.operator.catch_up(out)
    }

    fn state_bytes(&self) -> usize {
        self.operator.state_bytes()
    }

    fn flush(&mut self, out: &mut dyn Output) -> Result<()> {
        self.operator.flush(out)
    }

    fn reached(&self) -> Watermarks {
        self.operator.reached()
    }

    fn tables(&self) -> Vec<TableDef> {
        self.operator.tables()
    }

    fn track_changes(&mut self) {
        self.operator.track_changes();
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.operator.save(saver)
    }

    fn load(&mut self, table: &str, version: u32, rows: &RecordBatch) -> Result<()> {
        self.operator.load(table, version, rows)?;
        self.press()
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.operator.resume(watermarks)
    }
}
