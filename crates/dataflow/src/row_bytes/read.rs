//! Rows that come back from their bytes, gathered in columns.

use super::number::Bits;
use super::{END, Form, HAS_ZEROS, Part, RowBytes, THERE};
use arrow::array::{ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::DataType;
use millstream_core::{Error, Result};
use std::sync::Arc;

/// Columns that grow row by row.
pub(crate) struct Columns {
    columns: Vec<Column>,
    /// How many lengths stand behind a row.
    lengths: usize,
    rows: usize,
    /// As many rows as there were the last time.
    expected: usize,
}

struct Column {
    values: Values,
    /// Which are there; `None`: all.
    there: Option<BooleanBufferBuilder>,
    turned: u8,
}

/// Bits of numbers, as they stand in the row; bytes of texts.
enum Values {
    One(Vec<u8>),
    Two(Vec<u16>),
    Four(Vec<u32>),
    Eight(Vec<u64>),
    Sixteen(Vec<u128>),
    Text(Texts),
}

#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    expected: usize,
}

impl Columns {
    pub(super) fn new(codec: &RowBytes) -> Columns {
        let columns: Vec<Column> = codec.parts.iter().map(Column::new).collect();
        let lengths = codec.parts.iter().filter(|p| p.has_length()).count();
        Columns { columns, lengths, rows: 0, expected: 0 }
    }

    /// Appends a row.
    pub fn push(&mut self, row: &[u8]) {
        if self.rows == 0 {
            self.columns.iter_mut().for_each(|c| c.values.reserve(self.expected));
        }
        let (mut values, mut lengths) = row.split_at(row.len() - 4 * self.lengths);
        for column in &mut self.columns {
            let there = values[0] == THERE;
            column.note(there, self.rows);
            values = &values[1..];
            let read = match &mut column.values {
                Values::One(numbers) => read(values, numbers),
                Values::Two(numbers) => read(values, numbers),
                Values::Four(numbers) => read(values, numbers),
                Values::Eight(numbers) => read(values, numbers),
                Values::Sixteen(numbers) => read(values, numbers),
                Values::Text(texts) => {
                    let (length, behind) = lengths.split_first_chunk::<4>().expect("each text has its length");
                    lengths = behind;
                    let length = u32::from_le_bytes(*length);
                    let len = (length & !HAS_ZEROS) as usize;
                    texts.push(&values[..len], length & HAS_ZEROS != 0, column.turned);
                    if there { len + END.len() } else { 0 }
                }
            };
            values = &values[read..];
        }
        self.rows += 1;
    }

    /// The columns in the order of the schema. None of their rows is left.
    pub fn finish(&mut self, codec: &RowBytes) -> Result<Vec<ArrayRef>> {
        let mut columns: Vec<Option<ArrayRef>> = vec![None; codec.parts.len()];
        for (column, part) in self.columns.iter_mut().zip(&codec.parts) {
            let kind = codec.input.field(part.column).data_type();
            columns[part.column] = Some(column.finish(part, kind)?);
        }
        self.expected = std::mem::take(&mut self.rows);
        Ok(columns.into_iter().flatten().collect())
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(|c| c.values.bytes()).sum()
    }
}

/// A number from the first bytes. Says how many they are.
#[inline(always)]
fn read<T: Bits>(bytes: &[u8], numbers: &mut Vec<T>) -> usize {
    numbers.push(T::read(bytes));
    size_of::<T>()
}

impl Column {
    fn new(part: &Part) -> Column {
        let values = match &part.form {
            Form::Bool => Values::One(Vec::new()),
            Form::Number(number) => match number.bytes {
                1 => Values::One(Vec::new()),
                2 => Values::Two(Vec::new()),
                4 => Values::Four(Vec::new()),
                8 => Values::Eight(Vec::new()),
                _ => Values::Sixteen(Vec::new()),
            },
            Form::Text | Form::Binary | Form::Other(_) => Values::Text(Texts::default()),
        };
        Column { values, there: None, turned: part.turned() }
    }

    /// Whether the value behind `before` others is there.
    #[inline(always)]
    fn note(&mut self, there: bool, before: usize) {
        match &mut self.there {
            None if there => {}
            Some(all) => all.append(there),
            none => {
                let mut all = BooleanBufferBuilder::new(before + 1);
                all.append_n(before, true);
                all.append(false);
                *none = Some(all);
            }
        }
    }

    fn finish(&mut self, part: &Part, kind: &DataType) -> Result<ArrayRef> {
        let nulls = self.there.take().map(|mut there| NullBuffer::new(there.finish()));
        let turned = self.turned;
        macro_rules! numbers {
            ($numbers:expr, $type:ty) => {{
                let mut bits = taken($numbers);
                if turned != 0 {
                    bits.iter_mut().for_each(|v| *v = v.xor(<$type>::ONES));
                }
                bits
            }};
        }
        match (&part.form, &mut self.values) {
            (Form::Bool, Values::One(bits)) => {
                let bits = numbers!(bits, u8);
                let values = BooleanBuffer::collect_bool(bits.len(), |i| bits[i] != 0);
                Ok(Arc::new(BooleanArray::new(values, nulls)))
            }
            (Form::Number(number), Values::One(bits)) => number.column(kind, numbers!(bits, u8), nulls),
            (Form::Number(number), Values::Two(bits)) => number.column(kind, numbers!(bits, u16), nulls),
            (Form::Number(number), Values::Four(bits)) => number.column(kind, numbers!(bits, u32), nulls),
            (Form::Number(number), Values::Eight(bits)) => number.column(kind, numbers!(bits, u64), nulls),
            (Form::Number(number), Values::Sixteen(bits)) => number.column(kind, numbers!(bits, u128), nulls),
            (Form::Text, Values::Text(texts)) => {
                let (offsets, bytes) = texts.take()?;
                Ok(Arc::new(StringArray::try_new(offsets, bytes, nulls)?))
            }
            (Form::Binary, Values::Text(texts)) => {
                let (offsets, bytes) = texts.take()?;
                Ok(Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?))
            }
            (Form::Other(converter), Values::Text(texts)) => {
                let (parser, mut start) = (converter.parser(), 0);
                let rows = texts.ends.iter().map(|end| &texts.bytes[std::mem::replace(&mut start, *end)..*end]);
                let column = converter.convert_rows(rows.map(|row| parser.parse(row)))?.remove(0);
                texts.clear();
                // A dictionary comes back as its values.
                Ok(if column.data_type() == kind { column } else { arrow::compute::cast(&column, kind)? })
            }
            _ => Err(Error::internal("a column is not of the form that its part has")),
        }
    }
}

impl Values {
    /// Room for so many rows, and for as long texts as the last time.
    fn reserve(&mut self, rows: usize) {
        match self {
            Values::One(numbers) => numbers.reserve(rows),
            Values::Two(numbers) => numbers.reserve(rows),
            Values::Four(numbers) => numbers.reserve(rows),
            Values::Eight(numbers) => numbers.reserve(rows),
            Values::Sixteen(numbers) => numbers.reserve(rows),
            Values::Text(texts) => {
                texts.ends.reserve(rows);
                texts.bytes.reserve(texts.expected);
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Values::One(numbers) => numbers.capacity(),
            Values::Two(numbers) => numbers.capacity() * 2,
            Values::Four(numbers) => numbers.capacity() * 4,
            Values::Eight(numbers) => numbers.capacity() * 8,
            Values::Sixteen(numbers) => numbers.capacity() * 16,
            Values::Text(texts) => texts.bytes.capacity() + texts.ends.capacity() * 8,
        }
    }
}

impl Texts {
    #[inline(always)]
    fn push(&mut self, text: &[u8], zeros: bool, turned: u8) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(text);
        if turned != 0 {
            self.bytes[start..].iter_mut().for_each(|byte| *byte ^= turned);
        }
        if zeros {
            self.join_zeros(start);
        }
        self.ends.push(self.bytes.len());
    }

    /// Leaves one byte of the two that stand for each zero.
    #[cold]
    fn join_zeros(&mut self, start: usize) {
        let (mut from, mut to) = (start, start);
        while from < self.bytes.len() {
            self.bytes[to] = self.bytes[from];
            from += if self.bytes[from] == 0 { 2 } else { 1 };
            to += 1;
        }
        self.bytes.truncate(to);
    }

    fn clear(&mut self) {
        self.expected = self.bytes.len();
        self.bytes = Vec::new();
        self.ends = Vec::new();
    }

    fn take(&mut self) -> Result<(OffsetBuffer<i32>, Buffer)> {
        if i32::try_from(self.bytes.len()).is_err() {
            return Err(Error::data("the rows of one batch hold more than 2 GiB of text in a column")
                .remedy("keep shorter texts, or leave the column out"));
        }
        self.expected = self.bytes.len();
        let mut offsets = Vec::with_capacity(self.ends.len() + 1);
        offsets.push(0);
        offsets.extend(self.ends.drain(..).map(|end| end as i32));
        Ok((OffsetBuffer::new(offsets.into()), Buffer::from_vec(taken(&mut self.bytes))))
    }
}

/// What a vector holds, in memory that is not much larger: it may be kept for long.
fn taken<T>(of: &mut Vec<T>) -> Vec<T> {
    let mut taken = std::mem::take(of);
    if taken.capacity() > 2 * taken.len() {
        taken.shrink_to_fit();
    }
    taken
}
