//! What happened in a run, line by line: the last lines for people, a hash of all of them to compare two runs.

use std::collections::VecDeque;
use std::fmt;

/// Lines that are kept for people.
const LINES_MAX: usize = 20_000;

/// What happened, in its order.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: u64,
    tail: VecDeque<String>,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace { hash: 0xCBF2_9CE4_8422_2325, lines: 0, tail: VecDeque::new() }
    }
}

impl Trace {
    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        let line = format!("{:6} {what}", self.lines);
        // FNV-1a: nothing here wants more than to see that two texts differ.
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.tail.len() == LINES_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
        self.lines += 1;
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn lines(&self) -> u64 {
        self.lines
    }

    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}
