//! Reads records into columns.
//!
//! Value by value, since a record says only by being read where its next value begins. Two kinds of things go wrong: a value that
//! cannot stand in its column, behind which the record goes on (a *fault*); and bytes that are not what the schema says,
//! behind which nothing is known ([`Damage`]). Either way the record leaves nothing in the columns.

use super::resolve::{Absent, Branch, FieldDefault, Read, ReadRecord, Step};
use super::schema::Schema;
use super::wire::{Cursor, Damage, NO_BRANCH};
use crate::RECORD_BYTES_MAX;
use crate::bad::shown;
use crate::columns::{Column, Store};
use crate::registry::Registered;
use crate::types::sql_type;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema as Columns, SchemaRef};
use millstream_core::Result;
use std::sync::Arc;

/// A schema that records were written with, and how they become rows.
#[derive(Debug)]
pub(super) struct Writer {
    pub schema: Schema,
    pub read: ReadRecord,
}

impl Writer {
    /// What keeps its records from becoming rows comes back as a sentence.
    pub fn new(
        schema: &Registered,
        reader: Option<&Arc<Schema>>,
        columns: &Columns,
    ) -> std::result::Result<Writer, String> {
        let schema = Schema::parse_with(&schema.text, &schema.references)?;
        let read = super::resolve::record(&schema, reader, columns.fields())?;
        Ok(Writer { schema, read })
    }
}

/// What became of a record.
pub(super) enum Outcome {
    Row,
    /// It has been read to its end, and is no row.
    Fault(String),
    /// Where it ends is not known.
    Damaged(String),
}

/// Rows that are being made.
pub(super) struct Rows {
    schema: SchemaRef,
    columns: Vec<Column>,
    len: usize,
    state: State,
}

/// What is known while a record is read.
#[derive(Default)]
struct State {
    fault: Option<String>,
    /// Bytes that symbols and defaults have become in this record, and since the last batch.
    made: usize,
    made_in_all: usize,
}

impl State {
    fn fault(&mut self, reason: impl FnOnce() -> String) {
        if self.fault.is_none() {
            self.fault = Some(reason());
        }
    }
}

impl Rows {
    pub fn new(schema: &SchemaRef) -> Result<Rows> {
        let columns = schema.fields().iter().map(Column::new).collect::<Result<_>>()?;
        Ok(Rows { schema: schema.clone(), columns, len: 0, state: State::default() })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that are in the rows beyond those that stood in the records.
    pub fn bytes_made(&self) -> usize {
        self.state.made_in_all
    }

    /// Reads one record from where the cursor stands.
    pub fn read(&mut self, writer: &Writer, cursor: &mut Cursor<'_>) -> Outcome {
        cursor.begin();
        self.state.fault = None;
        self.state.made = 0;
        let done = fill(&mut self.columns, &writer.read, &writer.schema, cursor, &mut self.state);
        self.state.made_in_all += self.state.made;
        let outcome = match (done, self.state.fault.take()) {
            (Ok(()), None) => {
                self.len += 1;
                return Outcome::Row;
            }
            (Ok(()), Some(reason)) => Outcome::Fault(reason),
            (Err(Damage(why)), _) => {
                // The first column that lacks a value is the one that was being read, unless fields are passed over.
                let at = writer.read.steps.iter().find_map(|step| match step {
                    Step::Read(c, _) if self.columns[*c].len() == self.len => Some(self.columns[*c].field.name()),
                    _ => None,
                });
                let at =
                    at.map_or_else(|| "behind its last column".to_owned(), |name| format!("at or before `{name}`"));
                Outcome::Damaged(format!("the record is not what its schema says: {why}, {at}"))
            }
        };
        self.take_back();
        outcome
    }

    /// Takes back what a record has left in the columns.
    fn take_back(&mut self) {
        self.state.made_in_all -= std::mem::take(&mut self.state.made);
        let len = self.len;
        self.columns.iter_mut().for_each(|c| c.truncate(len));
    }

    /// Takes back the last row.
    pub fn forget_last(&mut self) {
        self.len = self.len.saturating_sub(1);
        self.take_back();
    }

    pub fn finish(&mut self) -> Result<RecordBatch> {
        let columns = self.columns.iter_mut().map(Column::finish).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.len)));
        self.state.made_in_all = 0;
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

type Done = std::result::Result<(), Damage>;

/// One value for each of the columns.
fn fill(
    columns: &mut [Column],
    read: &ReadRecord,
    schema: &Schema,
    cursor: &mut Cursor<'_>,
    state: &mut State,
) -> Done {
    for step in &read.steps {
        match step {
            Step::Read(column, read) => value(&mut columns[*column], read, schema, cursor, state)?,
            Step::Skip(node) => cursor.skip(schema, *node)?,
        }
    }
    read.absent.iter().try_for_each(|absent| fill_absent(columns, absent, state))
}

fn fill_absent(columns: &mut [Column], absent: &Absent, state: &mut State) -> Done {
    let column = &mut columns[absent.column];
    let Some(FieldDefault { bytes, read, schema }) = &absent.default else {
        null(column, state);
        return Ok(());
    };
    room(bytes.len(), state)?;
    value(column, read, schema, &mut Cursor::new(bytes, 0), state)
}

/// That bytes which do not stand in the record may be made for it.
fn room(bytes: usize, state: &mut State) -> Done {
    state.made += bytes;
    match state.made > RECORD_BYTES_MAX {
        true => Err(Damage("it would become larger than a record may be")),
        false => Ok(()),
    }
}

fn null(column: &mut Column, state: &mut State) {
    if let Some(why) = column.add_null() {
        state.fault(|| why);
    }
}

/// Reads one value.
fn value(column: &mut Column, read: &Read, schema: &Schema, cursor: &mut Cursor<'_>, state: &mut State) -> Done {
    match read {
        Read::Null => null(column, state),
        Read::Union(branches) => {
            let branch = usize::try_from(cursor.long()?).ok().and_then(|b| branches.get(b)).ok_or(NO_BRANCH)?;
            return match branch {
                Branch::Read(read) => value(column, read, schema, cursor, state),
                Branch::Unfit(node, why) => {
                    cursor.skip(schema, *node)?;
                    state.fault(|| why.clone());
                    column.add_null();
                    Ok(())
                }
            };
        }
        Read::Boolean => {
            let value = cursor.boolean()?;
            if let Store::Boolean(bits) = &mut column.store {
                bits.append(value);
            }
            column.added();
        }
        Read::Int => {
            let value = cursor.int()?;
            whole(column, i64::from(value), state);
        }
        Read::Long => {
            let value = cursor.long()?;
            whole(column, value, state);
        }
        Read::Time { multiply, divide } => match cursor.long()?.checked_mul(*multiply) {
            Some(scaled) => whole(column, scaled.div_euclid(*divide), state),
            None => {
                state.fault(|| format!("column `{}` holds a time that is too far away", column.field.name()));
                column.add_null();
            }
        },
        Read::Float => {
            let value = cursor.float()?;
            match &mut column.store {
                Store::F64(values) => values.push(f64::from(value)),
                Store::F32(values) => values.push(value),
                _ => {}
            }
            column.added();
        }
        Read::Double => {
            let value = cursor.double()?;
            if let Store::F64(values) = &mut column.store {
                values.push(value);
            }
            column.added();
        }
        Read::Counted { text } => {
            let bytes = cursor.counted()?;
            put(column, bytes, *text, state);
        }
        Read::Fixed { size, text } => {
            let bytes = cursor.take(*size)?;
            put(column, bytes, *text, state);
        }
        Read::Enum(symbols) => {
            let at = usize::try_from(cursor.long()?).ok().and_then(|at| symbols.get(at));
            let symbol = at.ok_or(Damage("an enum has no such symbol"))?;
            room(symbol.len(), state)?;
            put(column, symbol.as_bytes(), false, state);
        }
        Read::Decimal { size, multiply, below } => {
            let bytes = match size {
                Some(size) => cursor.take(*size)?,
                None => cursor.counted()?,
            };
            let unscaled = decimal(bytes)
                .and_then(|v| v.checked_mul(*multiply))
                .filter(|v| v.unsigned_abs() < below.unsigned_abs());
            match (unscaled, &mut column.store) {
                (Some(value), Store::I128(values)) => {
                    values.push(value);
                    column.added();
                }
                _ => {
                    let declared = sql_type(column.field.data_type());
                    state.fault(|| {
                        format!("column `{}` holds a number that {declared} cannot hold", column.field.name())
                    });
                    column.add_null();
                }
            }
        }
        Read::List(read) => {
            let Store::List(items, ends) = &mut column.store else { return Ok(()) };
            blocks(cursor, |cursor| value(items, read, schema, cursor, state))?;
            ends.push(end(items.len())?);
            column.added();
        }
        Read::Map(read) => {
            let Store::Map(pair, ends) = &mut column.store else { return Ok(()) };
            let [keys, values] = pair.as_mut();
            blocks(cursor, |cursor| {
                put(keys, cursor.counted()?, true, state);
                value(values, read, schema, cursor, state)
            })?;
            ends.push(end(keys.len())?);
            column.added();
        }
        Read::Record(read) => {
            let Store::Struct(columns) = &mut column.store else { return Ok(()) };
            fill(columns, read, schema, cursor, state)?;
            column.added();
        }
    }
    Ok(())
}

/// The items of an array or map.
fn blocks(cursor: &mut Cursor<'_>, mut item: impl FnMut(&mut Cursor<'_>) -> Done) -> Done {
    loop {
        let count = cursor.block()?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            let from = cursor.at;
            item(cursor)?;
            cursor.item_done(from)?;
        }
    }
}

fn end(items: usize) -> std::result::Result<i32, Damage> {
    i32::try_from(items).map_err(|_| Damage("its batch has more items than a column holds"))
}

#[inline]
fn whole(column: &mut Column, value: i64, state: &mut State) {
    let fits = match &mut column.store {
        Store::I64(values) => {
            values.push(value);
            true
        }
        Store::I32(values) => i32::try_from(value).map(|v| values.push(v)).is_ok(),
        Store::I16(values) => i16::try_from(value).map(|v| values.push(v)).is_ok(),
        Store::I8(values) => i8::try_from(value).map(|v| values.push(v)).is_ok(),
        Store::F32(values) => {
            values.push(value as f32);
            true
        }
        Store::F64(values) => {
            values.push(value as f64);
            true
        }
        _ => false,
    };
    if fits {
        column.added();
    } else {
        let field = column.field.clone();
        state.fault(|| {
            format!("column `{}` holds `{value}`, the table declares {}", field.name(), sql_type(field.data_type()))
        });
        column.add_null();
    }
}

#[inline]
fn put(column: &mut Column, bytes: &[u8], text: bool, state: &mut State) {
    if text && std::str::from_utf8(bytes).is_err() {
        let name = column.field.name();
        state.fault(|| format!("column `{name}` holds `{}`, which is not UTF-8", shown(bytes)));
        column.add_null();
        return;
    }
    let Store::Bytes(all, ends) = &mut column.store else { return };
    let Ok(end) = i32::try_from(all.len() + bytes.len()) else {
        state.fault(|| format!("column `{}` has become too long in this batch", column.field.name()));
        column.add_null();
        return;
    };
    all.extend_from_slice(bytes);
    ends.push(end);
    column.added();
}

/// A number in two's complement, the highest byte first; `None`: it has more than 128 bits.
fn decimal(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let (more, last) = bytes.split_at(bytes.len().saturating_sub(16));
    if more.iter().any(|b| *b != fill) || (!more.is_empty() && last.first().is_some_and(|b| (b ^ fill) & 0x80 != 0)) {
        return None;
    }
    let mut wide = [fill; 16];
    wide[16 - last.len()..].copy_from_slice(last);
    Some(i128::from_be_bytes(wide))
}
