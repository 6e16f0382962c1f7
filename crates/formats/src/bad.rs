//! What becomes of rows that cannot be read.

use millstream_core::{BadRow, Error, Place, Result};

/// What to do with a row that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBadRow {
    /// Fail, naming file, line, column and what was found. Flink's default, and ours.
    #[default]
    Fail,
    /// `*.ignore-parse-errors`: as in Flink, a field that cannot be read becomes NULL where the column may be NULL,
    /// and a row that is none at all is left out. Both are counted.
    Skip,
    /// Hand the row on as a [`BadRow`].
    SetAside,
}

/// One record that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The record's number among those of the piece, from 0; orders faults.
    pub record: usize,
    /// The first line of the record, from 1.
    pub line: u64,
    pub reason: String,
    /// Where the record's bytes stand in the piece.
    pub raw: std::ops::Range<usize>,
}

/// What can be done about a row (`what`) that could not be read.
pub fn remedy(what: &str, format: &str) -> String {
    let leave_out = match format {
        "raw" => String::new(),
        _ => format!("leave such {what}s out with '{format}.ignore-parse-errors' = 'true' in the table's options, or "),
    };
    format!("mend the {what}, or {leave_out}set them aside with SET 'millstream.bad-rows.table' = '<table>'")
}

/// Deals with the faults of a piece of input as the table's options say. Returns the rows set aside.
pub(crate) fn settle(
    faults: Vec<Fault>,
    bytes: &[u8],
    file: &str,
    format: &str,
    on_bad_row: OnBadRow,
    skipped: &mut u64,
) -> Result<Vec<BadRow>> {
    match on_bad_row {
        OnBadRow::Fail => match faults.into_iter().min_by_key(|f| f.record) {
            None => Ok(Vec::new()),
            Some(first) => {
                Err(Error::data(first.reason).at(Place::line(file, first.line)).remedy(remedy("row", format)))
            }
        },
        OnBadRow::Skip => {
            *skipped += faults.len() as u64;
            Ok(Vec::new())
        }
        OnBadRow::SetAside => Ok(faults
            .into_iter()
            .map(|f| BadRow { place: Place::line(file, f.line), reason: f.reason, raw: bytes[f.raw].to_vec() })
            .collect()),
    }
}

/// A piece of the input as a message shows it: whole when short, and always on one line.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 60;
    let cut = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let mut text: String = String::from_utf8_lossy(cut).chars().flat_map(char::escape_debug).collect();
    // A quote mark needs no escape between backticks, and a message full of backslashes is hard to read.
    text = text.replace("\\\"", "\"").replace("\\'", "'");
    if bytes.len() > SHOWN_BYTES_MAX {
        text.push('…');
    }
    text
}
