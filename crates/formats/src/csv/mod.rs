//! CSV.
//!
//! ```text
//!  bytes ─ split ─▶ spans of fields ─ column by column ─▶ arrays ─ rows with a fault left out ─▶ batch
//! ```
//!
//! The cut into fields comes first and knows nothing of types ([`split`]). Then each column that was asked for is
//! read from its spans in one loop for its type ([`column`]), and notes the cells that it cannot read. So a bad row
//! costs no second pass, and the columns that were not asked for cost nothing but the cut.
//!
//! As in Flink: an empty field is NULL, but for a string, where it is the empty string; `csv.null-literal` is NULL
//! everywhere; values are trimmed, but for strings; bytes are base64. Arrays, maps and rows are written and read as
//! JSON inside a field.

mod column;
mod encode;
mod split;

pub use encode::CsvEncoder;

use crate::bad::{Fault, OnBadRow, settle, shown};
use crate::options::{CsvOptions, Header};
use crate::records::{RecordDecoder, Records};
use crate::{Decoded, Decoder, Mark, RECORD_BYTES_MAX};
use arrow::array::{BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use column::{Cells, ColumnReader};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Place, Result};
use split::{Cut, Record, Splitter};
use std::ops::Range;
use std::sync::Arc;

const BOM: &[u8] = b"\xef\xbb\xbf";

pub struct CsvDecoder {
    options: CsvOptions,
    /// All columns of the file, as declared.
    declared: SchemaRef,
    /// The columns that are wanted, as indices into `declared`.
    projection: Vec<usize>,
    schema: SchemaRef,
    columns: Vec<ColumnReader>,
    on_bad_row: OnBadRow,
    splitter: Splitter,
    file: String,
    /// The line on which the next record begins, from 1.
    line: u64,
    /// Where each wanted column stands in the file; by position until a header says otherwise.
    positions: Vec<usize>,
    /// How many fields a record has.
    fields: usize,
    at_start: bool,
    header_read: bool,
    /// What the header names, where columns go by it.
    header: Option<Vec<String>>,
    /// In the middle of a record that is too long: skip to the end of its line.
    skipping: bool,
}

impl CsvDecoder {
    /// Reads the columns `projection` of `schema`, which names all columns of the file.
    pub fn new(
        options: CsvOptions,
        schema: SchemaRef,
        projection: &[usize],
        on_bad_row: OnBadRow,
    ) -> Result<CsvDecoder> {
        let wanted: Vec<_> = projection.iter().map(|&i| schema.fields()[i].clone()).collect();
        let columns = wanted.iter().map(|f| ColumnReader::new(f)).collect::<Result<Vec<_>>>()?;
        Ok(CsvDecoder {
            splitter: Splitter::new(&options),
            fields: schema.fields().len(),
            declared: schema,
            projection: projection.to_vec(),
            schema: Arc::new(Schema::new(wanted)),
            columns,
            on_bad_row,
            file: String::new(),
            line: 1,
            positions: projection.to_vec(),
            at_start: true,
            header_read: false,
            header: None,
            skipping: false,
            options,
        })
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

    fn count_lines(&mut self, bytes: &[u8]) {
        self.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
    }

    /// Deals with the first record of a file where it may be a header. Returns the bytes it took.
    fn read_header(&mut self, bytes: &[u8], last: bool) -> Result<Option<usize>> {
        if self.options.header == Header::No {
            self.header_read = true;
            return Ok(Some(0));
        }
        let cut = self.splitter.split(bytes, last, 1);
        let Some(first) = cut.records.first() else {
            // Nothing but blank lines and comments so far; or the record goes on.
            self.header_read = last;
            return Ok(Some(cut.consumed));
        };
        let data = cut.data(bytes);
        let names: Vec<String> = cut.spans[first.fields.clone()]
            .iter()
            .map(|&(from, to)| String::from_utf8_lossy(&data[from as usize..to as usize]).into_owned())
            .collect();
        let consumed = cut.consumed;
        let header_line = self.line + memchr::memchr_iter(b'\n', &bytes[..first.raw.start]).count() as u64;
        self.header_read = true;
        let declared = self.declared.fields().iter().map(|f| f.name().as_str());
        if self.options.header == Header::Unsaid {
            return Ok(Some(if names.iter().map(|n| n.trim()).eq(declared) { consumed } else { 0 }));
        }
        self.go_by_names(names, header_line)?;
        Ok(Some(consumed))
    }

    /// Finds the wanted columns among the names of a header.
    fn go_by_names(&mut self, names: Vec<String>, header_line: u64) -> Result<()> {
        for (slot, &column) in self.projection.iter().enumerate() {
            let name = self.declared.field(column).name().as_str();
            let found = names.iter().position(|n| n.trim() == name);
            let Some(at) = found else {
                let trimmed = names.iter().map(|n| n.trim());
                let guess = did_you_mean(name, trimmed).map(|g| format!("did you mean `{g}`? ")).unwrap_or_default();
                return Err(Error::data(format!("the header does not name the column `{name}`"))
                    .at(Place::line(&self.file, header_line))
                    .remedy(format!(
                        "{guess}it names {}; declare the columns by these names, or set 'csv.header' = 'false' if the \
                         first line is a row",
                        names.iter().map(|n| format!("`{}`", n.trim())).collect::<Vec<_>>().join(", ")
                    )));
            };
            self.positions[slot] = at;
        }
        self.fields = names.len();
        self.header = Some(names);
        Ok(())
    }

    fn read_rows(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Result<Decoded> {
        let mut cut = self.splitter.split(bytes, last, rows_max);
        if bytes.len() > RECORD_BYTES_MAX
            && let Some(long) = cut.records.iter().position(|r| r.raw.len() > RECORD_BYTES_MAX)
        {
            // Bad whether or not its end has been seen, so that it does not matter how much had arrived.
            let start = cut.records[long].raw.start;
            if long == 0 {
                return self.give_up_record(bytes, start);
            }
            cut.spans.truncate(cut.records[long].fields.start);
            cut.records.truncate(long);
            cut.consumed = start;
        }
        let (rows, mut faults, mut skipped) = self.read_cut(&cut, bytes)?;
        faults.sort_by_key(|f| f.record);
        // Lines are counted for those only that are going to be named.
        let (mut line, mut counted) = (self.line, 0);
        for fault in &mut faults {
            line += memchr::memchr_iter(b'\n', &bytes[counted..fault.raw.start]).count() as u64;
            counted = fault.raw.start;
            fault.line = line;
        }
        let consumed = cut.consumed;
        let bad = settle(faults, bytes, &self.file, "csv", self.on_bad_row, &mut skipped)?;
        Ok(Decoded { rows, kinds: None, bad, skipped, consumed })
    }

    /// Reads the records of a cut: the rows, what could not be read, and how many fields became NULL by that.
    fn read_cut(&mut self, cut: &Cut, bytes: &[u8]) -> Result<(RecordBatch, Vec<Fault>, u64)> {
        let mut faults = Vec::new();
        let well_formed = |r: &Record| r.closed && r.fields.len() == self.fields;
        // Where every record has the right shape, which is nearly always, the cut is used as it is.
        let shaped = cut.records.iter().all(well_formed);
        let (mut good, mut good_spans): (Vec<usize>, Vec<(u32, u32)>) = (Vec::new(), Vec::new());
        if !shaped {
            for (number, record) in cut.records.iter().enumerate() {
                let found = record.fields.len();
                let reason = if well_formed(record) {
                    good.push(number);
                    good_spans.extend_from_slice(&cut.spans[record.fields.clone()]);
                    continue;
                } else if record.closed {
                    format!(
                        "the row has {found} field{}, the table declares {}",
                        if found == 1 { "" } else { "s" },
                        self.fields
                    )
                } else {
                    "a quote is opened and not closed before the end of the file".into()
                };
                faults.push(Fault { record: number, line: 0, reason, raw: record.raw.clone() });
            }
        }
        let data = cut.data(bytes);
        let cells = Cells {
            data,
            text: std::str::from_utf8(data).ok(),
            spans: if shaped { &cut.spans } else { &good_spans },
            rows: if shaped { cut.records.len() } else { good.len() },
            fields: self.fields,
            null_literal: self.options.null_literal.as_deref().map(str::as_bytes),
        };
        let record_of = |row: usize| if shaped { row } else { good[row] };
        let mut arrays = Vec::with_capacity(self.columns.len());
        let mut bad_cells: Vec<(usize, usize)> = Vec::new();
        let mut skipped = 0;
        for (slot, reader) in self.columns.iter_mut().enumerate() {
            let before = bad_cells.len();
            arrays.push(reader.read(&cells, self.positions[slot], |row| bad_cells.push((row, slot)))?);
            let field = &self.schema.fields()[slot];
            if self.on_bad_row == OnBadRow::Skip && field.is_nullable() {
                // As in Flink: the field is NULL, the row stays. The reader has put a NULL there already.
                skipped += (bad_cells.len() - before) as u64;
                bad_cells.truncate(before);
            } else if !field.is_nullable() && arrays[slot].null_count() > 0 {
                let known: Vec<usize> = bad_cells[before..].iter().map(|c| c.0).collect();
                let array = &arrays[slot];
                bad_cells.extend(
                    (0..array.len())
                        .filter(|&r| array.is_null(r) && known.binary_search(&r).is_err())
                        .map(|r| (r, slot)),
                );
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(cells.rows));
        let rows = if bad_cells.is_empty() {
            RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?
        } else {
            bad_cells.sort_unstable();
            bad_cells.dedup_by_key(|c| c.0);
            let mut keep = vec![true; cells.rows];
            for &(row, slot) in &bad_cells {
                keep[row] = false;
                let field = &self.schema.fields()[slot];
                let record = record_of(row);
                let found = cells.get(row, self.positions[slot]);
                let declared = crate::types::sql_type(field.data_type());
                let reason = if cells.is_null(found, column::is_text(field.data_type())) {
                    format!("column `{}` is NULL, the table declares {declared} NOT NULL", field.name())
                } else if std::str::from_utf8(found).is_err() {
                    format!("column `{}` holds `{}`, which is not UTF-8", field.name(), shown(found))
                } else {
                    format!("column `{}` holds `{}`, the table declares {declared}", field.name(), shown(found))
                };
                faults.push(Fault { record, line: 0, reason, raw: cut.records[record].raw.clone() });
            }
            // Nullable for a moment: the rows with a NULL where none may be are on their way out.
            let loose: Vec<_> = self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
            let all = RecordBatch::try_new_with_options(Arc::new(Schema::new(loose)), arrays, &options)?;
            let kept = filter_record_batch(&all, &BooleanArray::from(keep))?;
            let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
            RecordBatch::try_new_with_options(self.schema.clone(), kept.columns().to_vec(), &options)?
        };
        Ok((rows, faults, skipped))
    }

    /// A record that is longer than any may be: as much of it as may be is one bad row, and the rest of the line in
    /// which that ends is passed over.
    fn give_up_record(&mut self, bytes: &[u8], start: usize) -> Result<Decoded> {
        let end = start + RECORD_BYTES_MAX;
        let fault = Fault {
            record: 0,
            line: self.line + memchr::memchr_iter(b'\n', &bytes[..start]).count() as u64,
            reason: format!("a row is longer than {} MiB; perhaps a quote is not closed", RECORD_BYTES_MAX >> 20),
            raw: start..end,
        };
        let mut decoded = self.no_rows(end);
        decoded.bad = settle(vec![fault], bytes, &self.file, "csv", self.on_bad_row, &mut decoded.skipped)?;
        self.skipping = true;
        Ok(decoded)
    }
}

impl Decoder for CsvDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn start(&mut self, name: &str) {
        self.file = name.to_owned();
        self.line = 1;
        self.at_start = true;
        self.header_read = false;
        self.header = None;
        self.skipping = false;
        self.positions.clone_from(&self.projection);
        self.fields = self.declared.fields().len();
    }

    fn decode(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Result<Decoded> {
        if self.at_start {
            if bytes.len() < BOM.len() && !last {
                return Ok(self.no_rows(0));
            }
            self.at_start = false;
            if bytes.starts_with(BOM) {
                return Ok(self.no_rows(BOM.len()));
            }
        }
        if self.skipping {
            let end = memchr::memchr(b'\n', bytes);
            let consumed = end.map_or(bytes.len(), |i| i + 1);
            self.skipping = end.is_none() && !last;
            self.count_lines(&bytes[..consumed]);
            return Ok(self.no_rows(consumed));
        }
        let mut header = 0;
        if !self.header_read {
            header = self.read_header(bytes, last)?.unwrap_or(0);
            self.count_lines(&bytes[..header]);
            if !self.header_read {
                if header == 0 && bytes.len() > RECORD_BYTES_MAX {
                    return Err(Error::data("the file does not begin with a header: its first line has no end")
                        .at(Place::line(&self.file, self.line))
                        .remedy("check that 'format' is right and that 'path' names the right files"));
                }
                return Ok(self.no_rows(header));
            }
        }
        let rest = &bytes[header..];
        let mut decoded = self.read_rows(rest, last, rows_max)?;
        self.count_lines(&rest[..decoded.consumed]);
        let start = rest.iter().take_while(|c| matches!(c, b'\n' | b'\r')).count();
        if decoded.consumed == 0 && rest.len() - start > RECORD_BYTES_MAX {
            decoded = self.give_up_record(rest, start)?;
            self.count_lines(&rest[..decoded.consumed]);
        }
        decoded.consumed += header;
        Ok(decoded)
    }

    fn mark(&self) -> Mark {
        Mark {
            avro: None,
            line: self.line,
            begun: !self.at_start,
            header_read: self.header_read,
            header: self.header.clone(),
            skipping: self.skipping,
        }
    }

    fn resume(&mut self, name: &str, mark: &Mark) -> Result<()> {
        self.start(name);
        if let Some(names) = &mark.header {
            self.go_by_names(names.clone(), 1)?;
        }
        self.line = mark.line;
        self.at_start = !mark.begun;
        self.header_read = mark.header_read;
        self.skipping = mark.skipping;
        Ok(())
    }
}

impl RecordDecoder for CsvDecoder {
    fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    /// All at once where that finds the records that there are: it does not where one holds several lines, none, a
    /// comment, or a quote that is not closed. Then one by one.
    fn decode_records(&mut self, bytes: &[u8], records: &[Option<Range<usize>>]) -> Result<Records> {
        let nulls: Vec<usize> = (0..records.len()).filter(|&i| records[i].is_none()).collect();
        let there: Vec<(usize, Range<usize>)> =
            records.iter().enumerate().filter_map(|(i, at)| Some((i, at.clone()?))).collect();
        let fits = there.iter().all(|(_, at)| at.len() <= RECORD_BYTES_MAX);
        let end = there.last().map_or(0, |(_, at)| at.end);
        // The byte between two records is taken for a line end, if it is one.
        let apart = there.windows(2).all(|two| bytes[two[0].1.end] == b'\n' && two[0].1.end + 1 == two[1].1.start);
        let start = there.first().map_or(0, |(_, at)| at.start);
        if fits && apart && !there.is_empty() {
            let piece = &bytes[start..end];
            let cut = self.splitter.split(piece, true, there.len() + 1);
            let as_given = |(r, (_, at)): (&Record, &(usize, Range<usize>))| {
                r.raw == (at.start - start..at.end - start) && r.closed
            };
            if cut.records.len() == there.len()
                && cut.consumed == piece.len()
                && cut.records.iter().zip(&there).all(as_given)
            {
                let (rows, mut faults, skipped) = self.read_cut(&cut, piece)?;
                faults.iter_mut().for_each(|f| f.record = there[f.record].0);
                return Ok(Records::new(rows, faults, nulls, skipped));
            }
        }
        let (mut batches, mut faults, mut skipped) = (Vec::new(), Vec::new(), 0);
        for (record, at) in there {
            let text = &bytes[at.clone()];
            let fault = |reason: String| Fault { record, line: 0, reason, raw: at.clone() };
            if text.len() > RECORD_BYTES_MAX {
                faults.push(fault(format!("a row is longer than {} MiB", RECORD_BYTES_MAX >> 20)));
                continue;
            }
            let cut = self.splitter.split(text, true, 2);
            match cut.records.len() {
                0 => faults.push(fault("the record is empty".into())),
                1 => {
                    let (rows, found, omitted) = self.read_cut(&cut, text)?;
                    skipped += omitted;
                    batches.push(rows);
                    faults.extend(found.into_iter().map(|f| Fault { record, ..f }));
                }
                _ => faults.push(fault(format!("the record holds several rows: `{}`", shown(text)))),
            }
        }
        let rows = match self.schema.fields().is_empty() {
            true => {
                let count = batches.iter().map(RecordBatch::num_rows).sum();
                let options = RecordBatchOptions::new().with_row_count(Some(count));
                RecordBatch::try_new_with_options(self.schema.clone(), Vec::new(), &options)?
            }
            false => concat_batches(&self.schema, &batches)?,
        };
        Ok(Records::new(rows, faults, nulls, skipped))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::any_rows as tests_rows;
