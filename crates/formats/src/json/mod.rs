//! JSON lines.
//!
//! ```text
//!  bytes ─▶ lines ─▶ in one pass, all at once ──┬── well ────────────────────────────────────▶ batch
//!                                               └── not ──▶ arrow-json, all at once ──┬── well ──▶ batch
//!                                                                                      └── not ──▶ halves, quarters … ─▶ one line ─▶ field by field ─▶ row or fault
//! ```
//!
//! Lines that have nothing out of the ordinary are read by [`flat`], some three times as fast as by Arrow's decoder and with the same
//! result. Arrow's decoder reads a whole piece of lines into columns. It is fed line by line, so that a value can never run
//! over a line's end: what becomes of a line depends on that line alone. Where it fails, the piece is halved until the
//! line is found, and this one line is looked at field by field ([`cell`]), with Flink's leniency: a container read as
//! STRING gives its text, `"true"` is a BOOLEAN, and with `json.ignore-parse-errors` a field that cannot be read is
//! NULL.
//!
//! Columns go by name; what is not declared is passed over; what is missing is NULL (or a fault, with
//! `json.fail-on-missing-field`). Bytes are base64.

mod cell;
mod encode;
mod flat;

pub(crate) use cell::{CellReader, skip_value, space};
pub use encode::{JsonEncoder, check_written};

use crate::bad::{Fault, OnBadRow, settle, shown};
use crate::lines::{Cut, LINES_MAX, Line, Lines, too_long};
use crate::options::JsonOptions;
use crate::records::{RecordDecoder, Records};
use crate::types::sql_type;
use crate::{Decoded, Decoder, Mark, RECORD_BYTES_MAX};
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use cell::{from_wire, top_level, wire_type};
use flat::Flat;
use millstream_core::Result;
use std::ops::Range;
use std::sync::Arc;

/// Values nested deeper than this are not read: some steps go down by recursion, and a line of a million brackets must
/// not exhaust the stack. `serde_json` draws the same line.
pub(crate) const DEPTH_MAX: usize = 127;

pub struct JsonDecoder {
    options: JsonOptions,
    schema: SchemaRef,
    /// The same columns, all of them nullable; for what becomes of it before it is checked.
    loose: SchemaRef,
    /// The columns as arrow-json reads them: nullable, bytes as text.
    wire: SchemaRef,
    decoder: arrow::json::reader::Decoder,
    /// `None`: the columns are not of the kinds that can be read in one pass.
    flat: Option<Flat>,
    cells: Vec<CellReader>,
    on_bad_row: OnBadRow,
    file: String,
    lines: Lines,
}

enum Failed {
    /// This line, and the lines before it are well formed.
    Line(usize),
    /// One of them.
    Somewhere,
}

/// What has been read of a piece so far.
#[derive(Default)]
struct Piece {
    batches: Vec<RecordBatch>,
    faults: Vec<Fault>,
    skipped: u64,
}

impl JsonDecoder {
    pub fn new(
        options: JsonOptions,
        schema: &SchemaRef,
        projection: &[usize],
        on_bad_row: OnBadRow,
    ) -> Result<JsonDecoder> {
        let wanted: Vec<Field> = projection.iter().map(|&i| schema.field(i).clone()).collect();
        let loose: Vec<Field> = wanted.iter().map(|f| f.clone().with_nullable(true)).collect();
        let mut wire: Vec<Field> = loose.iter().map(|f| Field::new(f.name(), wire_type(f.data_type()), true)).collect();
        if wire.is_empty() {
            // Arrow needs a column to count rows by: one whose name no table declares.
            wire.push(Field::new("\u{0}", arrow::datatypes::DataType::Utf8, true));
        }
        let wire = Arc::new(Schema::new(wire));
        Ok(JsonDecoder {
            decoder: fresh(&wire)?,
            flat: Flat::of(&wire),
            cells: wanted.iter().map(CellReader::new).collect::<Result<_>>()?,
            schema: Arc::new(Schema::new(wanted)),
            loose: Arc::new(Schema::new(loose)),
            wire,
            options,
            on_bad_row,
            file: String::new(),
            lines: Lines::default(),
        })
    }

    /// The rows of a piece as one batch.
    fn together(&self, piece: &mut Piece) -> Result<RecordBatch> {
        Ok(match piece.batches.len() {
            0 => RecordBatch::new_empty(self.loose.clone()),
            1 => piece.batches.swap_remove(0),
            _ if self.loose.fields().is_empty() => {
                let count = piece.batches.iter().map(RecordBatch::num_rows).sum();
                let options = RecordBatchOptions::new().with_row_count(Some(count));
                RecordBatch::try_new_with_options(self.loose.clone(), Vec::new(), &options)?
            }
            _ => concat_batches(&self.loose, &piece.batches)?,
        })
    }

    /// The same with the declared columns, once no NULL is where none may be.
    fn declared(&self, loose: &RecordBatch) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(loose.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), loose.columns().to_vec(), &options)?)
    }

    fn no_rows(&self, consumed: usize) -> Decoded {
        Decoded {
            rows: RecordBatch::new_empty(self.schema.clone()),
            kinds: None,
            bad: Vec::new(),
            skipped: 0,
            consumed,
        }
    }

    /// Reads `lines`, all or those parts of them that can be read.
    fn read(&mut self, bytes: &[u8], mut lines: &[Line], piece: &mut Piece) -> Result<()> {
        while !lines.is_empty() {
            match self.read_at_once(bytes, lines)? {
                Ok(rows) => {
                    self.check(bytes, lines, rows, piece)?;
                    return Ok(());
                }
                Err(Failed::Line(at)) => {
                    self.read(bytes, &lines[..at], piece)?;
                    self.read_alone(bytes, &lines[at], piece)?;
                    lines = &lines[at + 1..];
                }
                Err(Failed::Somewhere) if lines.len() == 1 => {
                    self.read_alone(bytes, &lines[0], piece)?;
                    return Ok(());
                }
                Err(Failed::Somewhere) => {
                    let (first, second) = lines.split_at(lines.len() / 2);
                    self.read(bytes, first, piece)?;
                    lines = second;
                }
            }
        }
        Ok(())
    }

    fn read_at_once(&mut self, bytes: &[u8], lines: &[Line]) -> Result<Result<RecordBatch, Failed>> {
        let rows = match self.flat.as_mut().and_then(|flat| flat.read(bytes, lines)) {
            Some(rows) => rows,
            None => match self.read_with_arrow(bytes, lines)? {
                Ok(rows) => rows,
                Err(failed) => return Ok(Err(failed)),
            },
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.loose.fields().len());
        for (field, column) in self.loose.fields().iter().zip(rows.columns()) {
            match from_wire(column, field.data_type()) {
                Some(column) => columns.push(column),
                None => return Ok(Err(Failed::Somewhere)),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(Ok(RecordBatch::try_new_with_options(self.loose.clone(), columns, &options)?))
    }

    fn read_with_arrow(&mut self, bytes: &[u8], lines: &[Line]) -> Result<Result<RecordBatch, Failed>> {
        for (i, line) in lines.iter().enumerate() {
            let text = &bytes[line.bytes.clone()];
            let taken = !too_deep(text)
                && self.decoder.decode(text).is_ok_and(|n| n == text.len())
                // Ends a number that stands at the end of the line.
                && self.decoder.decode(b"\n").is_ok()
                && self.decoder.len() == i + 1
                && !self.decoder.has_partial_record();
            if !taken {
                self.decoder = fresh(&self.wire)?;
                return Ok(Err(Failed::Line(i)));
            }
        }
        let Ok(Some(rows)) = self.decoder.flush() else {
            self.decoder = fresh(&self.wire)?;
            return Ok(Err(Failed::Somewhere));
        };
        Ok(Ok(rows))
    }

    /// Looks for NULL where none may be and, if the table asks for it, for fields that are missing.
    fn check(&self, bytes: &[u8], lines: &[Line], rows: RecordBatch, piece: &mut Piece) -> Result<()> {
        let missing_fails = self.options.fail_on_missing_field;
        let suspect =
            |field: &Field, column: &ArrayRef| column.null_count() > 0 && (missing_fails || !field.is_nullable());
        let columns: Vec<usize> =
            (0..rows.num_columns()).filter(|&i| suspect(self.schema.field(i), rows.column(i))).collect();
        if columns.is_empty() {
            piece.batches.push(rows);
            return Ok(());
        }
        let mut keep = vec![true; rows.num_rows()];
        // Only lines with a NULL in such a column are looked at.
        for (row, line) in lines.iter().enumerate() {
            let mut reason = None;
            for &i in columns.iter().filter(|&&i| rows.column(i).is_null(row)) {
                let field = self.schema.field(i);
                let text = &bytes[line.bytes.clone()];
                let named = missing_fails && top_level(text).is_some_and(|f| f.iter().any(|(k, _)| k == field.name()));
                if missing_fails && !named {
                    reason = Some(format!("column `{}` is missing", field.name()));
                } else if !field.is_nullable() {
                    reason = Some(format!(
                        "column `{}` is NULL, the table declares {} NOT NULL",
                        field.name(),
                        sql_type(field.data_type())
                    ));
                }
                if reason.is_some() {
                    break;
                }
            }
            if let Some(reason) = reason {
                keep[row] = false;
                let Line { number, record, bytes } = line.clone();
                piece.faults.push(Fault { record, line: number, reason, raw: bytes });
            }
        }
        piece.batches.push(filter_record_batch(&rows, &BooleanArray::from(keep))?);
        Ok(())
    }

    /// Reads one line field by field.
    fn read_alone(&mut self, bytes: &[u8], line: &Line, piece: &mut Piece) -> Result<()> {
        let text = &bytes[line.bytes.clone()];
        let fault = |reason: String, piece: &mut Piece| {
            let Line { number, record, bytes } = line.clone();
            piece.faults.push(Fault { record, line: number, reason, raw: bytes });
        };
        if let Err(e) = serde_json::from_slice::<serde_json::Value>(text) {
            let why = e.to_string().replace("line 1 column", "column");
            fault(format!("the line is not valid JSON: {why}; it holds `{}`", shown(text)), piece);
            return Ok(());
        }
        let Some(fields) = top_level(text) else {
            fault(format!("a row must be a JSON object, the line holds `{}`", shown(text)), piece);
            return Ok(());
        };
        let mut columns = Vec::with_capacity(self.cells.len());
        for (reader, field) in self.cells.iter_mut().zip(self.schema.fields()) {
            // Of a name given twice the last one counts, as in Arrow and in Flink.
            let value = fields.iter().rev().find(|(name, _)| name == field.name()).map(|(_, at)| &text[at.clone()]);
            let read = match value {
                None => Some(reader.null()),
                Some(value) => reader.read(value)?,
            };
            match (read, value) {
                (Some(column), _) => columns.push(column),
                (None, _) if self.on_bad_row == OnBadRow::Skip && field.is_nullable() => {
                    piece.skipped += 1;
                    columns.push(reader.null());
                }
                (None, value) => {
                    let found = shown(value.unwrap_or_default());
                    let declared = sql_type(field.data_type());
                    fault(format!("column `{}` holds `{found}`, the table declares {declared}", field.name()), piece);
                    return Ok(());
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let row = RecordBatch::try_new_with_options(self.loose.clone(), columns, &options)?;
        self.check(bytes, std::slice::from_ref(line), row, piece)
    }
}

/// Whether values are nested deeper than may be.
fn too_deep(text: &[u8]) -> bool {
    // Most lines have a bracket or two, and counting them by `memchr` is all that it takes.
    if memchr::memchr2_iter(b'{', b'[', text).nth(DEPTH_MAX).is_none() {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &c in text {
        match c {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn fresh(wire: &SchemaRef) -> Result<arrow::json::reader::Decoder> {
    // The batch size here only says how much room is made in advance and when the decoder refuses more; pieces are cut
    // to size before.
    Ok(ReaderBuilder::new(wire.clone()).with_coerce_primitive(true).with_batch_size(LINES_MAX).build_decoder()?)
}

impl Decoder for JsonDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn start(&mut self, name: &str) {
        self.file = name.to_owned();
        self.lines = Lines::default();
    }

    fn mark(&self) -> Mark {
        self.lines.mark()
    }

    fn resume(&mut self, name: &str, mark: &Mark) -> Result<()> {
        self.file = name.to_owned();
        self.lines = Lines::resumed(mark);
        Ok(())
    }

    fn decode(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Result<Decoded> {
        let Cut { lines, faults, consumed } = self.lines.cut(bytes, last, rows_max);
        if lines.is_empty() && faults.is_empty() {
            return Ok(self.no_rows(consumed));
        }
        let mut piece = Piece { faults, ..Piece::default() };
        self.read(bytes, &lines, &mut piece)?;
        let loose = self.together(&mut piece)?;
        piece.faults.sort_by_key(|f| f.record);
        let mut skipped = piece.skipped;
        let bad = settle(piece.faults, bytes, &self.file, "json", self.on_bad_row, &mut skipped)?;
        Ok(Decoded { rows: self.declared(&loose)?, kinds: None, bad, skipped, consumed })
    }
}

impl RecordDecoder for JsonDecoder {
    fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode_records(&mut self, bytes: &[u8], records: &[Option<Range<usize>>]) -> Result<Records> {
        let mut piece = Piece::default();
        let (mut lines, mut nulls) = (Vec::with_capacity(records.len()), Vec::new());
        for (record, at) in records.iter().enumerate() {
            let Some(at) = at else {
                nulls.push(record);
                continue;
            };
            let reason = match &bytes[at.clone()] {
                text if text.len() > RECORD_BYTES_MAX => too_long(record, 0, at.start).reason,
                text if text.trim_ascii().is_empty() => "the record is empty".to_owned(),
                _ => {
                    lines.push(Line { number: 0, record, bytes: at.clone() });
                    continue;
                }
            };
            piece.faults.push(Fault { record, line: 0, reason, raw: at.clone() });
        }
        self.read(bytes, &lines, &mut piece)?;
        let rows = self.declared(&self.together(&mut piece)?)?;
        Ok(Records::new(rows, piece.faults, nulls, piece.skipped))
    }
}

#[cfg(test)]
mod tests;
