//! The rows that a loop or the engine gives: counted, and compared by a checksum that no order changes.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMillisecondType,
};
use millstream_core::{Batch, ChangeKind, Error, Result};
use std::hint::black_box;

/// Counts the rows of a loop and, in a run that is not timed, sums up their checksum.
#[derive(Debug, Default)]
pub struct Out {
    pub rows: u64,
    pub checksum: u64,
    check: bool,
}

impl Out {
    pub fn new(check: bool) -> Out {
        Out { check, ..Out::default() }
    }

    /// Gives away changes of a result that lie in `columns`: of each the kind, and `values` hands its values, coded as for
    /// [`emit`](Out::emit), to what it is given. A row that is taken back no longer counts, neither in `rows` nor in
    /// `checksum`, so that both tell of the result that is left in the end, however it came about.
    pub fn change<C>(&mut self, columns: &C, kinds: &[i8], values: impl Fn(usize, &mut dyn FnMut(u64))) {
        black_box(columns);
        let gone = kinds.iter().filter(|k| is_removal(**k)).count() as u64;
        self.rows = self.rows.wrapping_add(kinds.len() as u64).wrapping_sub(2 * gone);
        if self.check {
            for (i, kind) in kinds.iter().enumerate() {
                let mut code = 0;
                values(i, &mut |value| code = add(code, value));
                self.checksum = count(self.checksum, finish(code), *kind);
            }
        }
    }

    /// Gives away `rows` rows that lie in `columns`. `row` says what the `i`-th holds, column by column, as
    /// [`value`] codes: numbers as they are, text by [`text_code`]. Only a run that checks asks for it.
    #[inline(always)]
    pub fn emit<const N: usize, C>(&mut self, columns: &C, rows: usize, row: impl Fn(usize) -> [u64; N]) {
        black_box(columns);
        self.rows += rows as u64;
        if self.check {
            for i in 0..rows {
                let code = row(i).into_iter().fold(0, add);
                self.checksum = self.checksum.wrapping_add(finish(code));
            }
        }
    }
}

fn is_removal(kind: i8) -> bool {
    matches!(ChangeKind::from_code(kind), ChangeKind::UpdateBefore | ChangeKind::Delete)
}

/// A row that comes adds its code, one that goes takes it away.
fn count(sum: u64, code: u64, kind: i8) -> u64 {
    if is_removal(kind) { sum.wrapping_sub(code) } else { sum.wrapping_add(code) }
}

/// How many rows a batch adds to the result; less than nothing where it takes more back.
pub fn rows(batch: &Batch) -> i64 {
    let gone = batch.kinds.iter().flat_map(|k| k.values().iter()).filter(|k| is_removal(**k)).count();
    batch.len() as i64 - 2 * gone as i64
}

fn add(code: u64, value: u64) -> u64 {
    let x = (code ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 29)
}

fn finish(code: u64) -> u64 {
    add(code, 0x5851_f42d_4c95_7f2d)
}

/// The code of a text: FNV-1a, 64 bits.
pub fn text_code(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

const NULL: u64 = 0x6e75_6c6c_6e75_6c6c;

/// The sum over all rows of a code of the row's values, so that neither the order of rows nor their cut into batches
/// matters. Decimals count by the lower 64 bits of their unscaled value.
pub fn checksum(rows: &RecordBatch) -> Result<u64> {
    Ok(codes(rows)?.into_iter().fold(0, u64::wrapping_add))
}

/// The same of changes: rows that are taken back are subtracted.
pub fn checksum_of_changes(batch: &Batch) -> Result<u64> {
    let Some(kinds) = &batch.kinds else { return checksum(&batch.rows) };
    Ok(codes(&batch.rows)?.into_iter().zip(kinds.values()).fold(0, |sum, (code, kind)| count(sum, code, *kind)))
}

fn codes(rows: &RecordBatch) -> Result<Vec<u64>> {
    let mut codes = vec![0u64; rows.num_rows()];
    for column in rows.columns() {
        let values = values(column.as_ref())?;
        for (i, (code, value)) in codes.iter_mut().zip(values).enumerate() {
            *code = add(*code, if column.is_null(i) { NULL } else { value });
        }
    }
    codes.iter_mut().for_each(|code| *code = finish(*code));
    Ok(codes)
}

fn values(column: &dyn Array) -> Result<Vec<u64>> {
    Ok(match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().values().iter().map(|v| *v as u64).collect(),
        DataType::Int32 => column.as_primitive::<Int32Type>().values().iter().map(|v| *v as i64 as u64).collect(),
        DataType::Int16 => column.as_primitive::<Int16Type>().values().iter().map(|v| *v as i64 as u64).collect(),
        DataType::Int8 => column.as_primitive::<Int8Type>().values().iter().map(|v| *v as i64 as u64).collect(),
        DataType::Float64 => column.as_primitive::<Float64Type>().values().iter().map(|v| v.to_bits()).collect(),
        DataType::Decimal128(_, _) => {
            column.as_primitive::<Decimal128Type>().values().iter().map(|v| *v as u64).collect()
        }
        DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, _) => {
            column.as_primitive::<TimestampMillisecondType>().values().iter().map(|v| *v as u64).collect()
        }
        DataType::Utf8 => {
            let text = column.as_string::<i32>();
            (0..text.len()).map(|i| text_code(text.value(i).as_bytes())).collect()
        }
        other => return Err(Error::internal(format!("the bench has no checksum for {other}"))),
    })
}

/// A column of text being built.
#[derive(Default)]
pub struct TextOut {
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

impl TextOut {
    pub fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
    }

    #[inline(always)]
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as i32);
    }

    /// Appends `text[from..to]`, usually few bytes with more behind them: then by one move of 16 bytes.
    #[inline(always)]
    pub fn push_short(&mut self, text: &[u8], from: usize, to: usize) {
        match text.get(from..from + 16) {
            Some(wide) if to - from <= 16 => {
                let end = self.bytes.len() + (to - from);
                self.bytes.extend_from_slice(wide);
                self.bytes.truncate(end);
                self.ends.push(end as i32);
            }
            _ => self.push(&text[from..to]),
        }
    }

    pub fn code(&self, i: usize) -> u64 {
        let from = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        text_code(&self.bytes[from..self.ends[i] as usize])
    }
}
