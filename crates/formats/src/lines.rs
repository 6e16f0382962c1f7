//! Lines from the front of bytes: what formats have in common in which a line is a record.

use crate::bad::Fault;
use crate::{Mark, RECORD_BYTES_MAX};
use std::ops::Range;

/// No piece has more lines.
pub(crate) const LINES_MAX: usize = 16 << 10;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Where in a file the next line begins.
#[derive(Debug)]
pub(crate) struct Lines {
    line: u64,
    at_start: bool,
    /// In the middle of a line that is too long.
    skipping: bool,
}

/// One line that holds something.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub number: u64,
    /// Its place among the lines of this piece.
    pub record: usize,
    pub bytes: Range<usize>,
}

/// Whole lines, and those that are too long. Where there are none of either, so many bytes are done with; 0: more are needed.
pub(crate) struct Cut {
    pub lines: Vec<Line>,
    pub faults: Vec<Fault>,
    pub consumed: usize,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines { line: 1, at_start: true, skipping: false }
    }
}

impl Lines {
    pub fn resumed(mark: &Mark) -> Lines {
        Lines { line: mark.line, at_start: !mark.begun, skipping: mark.skipping }
    }

    pub fn mark(&self) -> Mark {
        Mark { line: self.line, begun: !self.at_start, skipping: self.skipping, ..Mark::default() }
    }

    /// See [`Decoder::decode`](crate::Decoder::decode).
    pub fn cut(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Cut {
        let nothing = |consumed| Cut { lines: Vec::new(), faults: Vec::new(), consumed };
        if self.at_start {
            if bytes.len() < BOM.len() && !last {
                return nothing(0);
            }
            self.at_start = false;
            if bytes.starts_with(BOM) {
                return nothing(BOM.len());
            }
        }
        let (mut lines, mut faults, mut at, mut record) = (Vec::new(), Vec::new(), 0, 0);
        let first_line = self.line;
        while at < bytes.len() && record < rows_max.clamp(1, LINES_MAX) {
            let end = match memchr::memchr(b'\n', &bytes[at..]) {
                Some(n) => at + n,
                None if last => bytes.len(),
                None => break,
            };
            let from = at;
            at = (end + 1).min(bytes.len());
            let number = self.line;
            self.line += u64::from(end < bytes.len());
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let text = bytes[from..end].trim_ascii();
            if text.is_empty() {
                continue;
            }
            let start = from + (bytes[from..end].len() - bytes[from..end].trim_ascii_start().len());
            if text.len() > RECORD_BYTES_MAX {
                // Bad whether or not its end has been seen, so that it does not matter how much had arrived.
                faults.push(too_long(record, number, start));
            } else {
                lines.push(Line { number, record, bytes: start..start + text.len() });
            }
            record += 1;
        }
        if at == 0 {
            if self.skipping {
                return nothing(bytes.len());
            }
            let start = bytes.len() - bytes.trim_ascii_start().len();
            if bytes.len() - start > RECORD_BYTES_MAX {
                self.skipping = true;
                return Cut { lines, faults: vec![too_long(0, first_line, start)], consumed: bytes.len() };
            }
        }
        Cut { lines, faults, consumed: at }
    }
}

pub(crate) fn too_long(record: usize, line: u64, start: usize) -> Fault {
    let reason = format!("a row is longer than {} MiB", RECORD_BYTES_MAX >> 20);
    Fault { record, line, reason, raw: start..start + RECORD_BYTES_MAX }
}
