//! Columns of a batch, and rows of them as bytes.

use super::number::Bits;
use super::{END, Form, HAS_ZEROS, Part, RowBytes, THERE, ZERO};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::row::Rows;
use millstream_core::Result;

/// Rows as bytes.
#[derive(Default)]
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Encoded {
    #[inline]
    pub fn row(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }
}

/// A batch whose rows can be written as bytes, one by one.
pub(crate) struct Opened {
    sources: Vec<Source>,
    /// Those of which the lengths stand behind the row.
    measured: Vec<usize>,
    /// Bytes of a row without its texts.
    fixed: usize,
}

struct Source {
    values: Values,
    nulls: Option<NullBuffer>,
    null: u8,
}

/// Numbers with what is laid over their bits; texts with what is laid over their bytes.
enum Values {
    One(ScalarBuffer<u8>, u8),
    Two(ScalarBuffer<u16>, u16),
    Four(ScalarBuffer<u32>, u32),
    Eight(ScalarBuffer<u64>, u64),
    Sixteen(ScalarBuffer<u128>, u128),
    Text(Text, u8),
    Other(Rows),
}

struct Text {
    texts: BinaryArray,
    /// There may be zeros in them.
    zeros: bool,
}

impl Opened {
    pub(super) fn new(codec: &RowBytes, rows: &RecordBatch) -> Result<Opened> {
        let source = |part: &Part| Source::new(part, rows.column(part.column));
        let sources = codec.parts.iter().map(source).collect::<Result<Vec<_>>>()?;
        let has_length = |at: &usize| codec.measured && codec.parts[*at].has_length();
        let measured: Vec<usize> = (0..sources.len()).filter(has_length).collect();
        let fixed = sources.iter().map(|s| 1 + s.values.bytes()).sum::<usize>() + 4 * measured.len();
        Ok(Opened { sources, measured, fixed })
    }

    /// The chosen rows, one behind the other.
    pub fn encode(&self, chosen: impl Iterator<Item = usize> + Clone) -> Encoded {
        self.encode_with(chosen, |_, _| {})
    }

    /// The same; `behind` may add to the bytes of each row.
    pub fn encode_with(
        &self,
        chosen: impl Iterator<Item = usize> + Clone,
        mut behind: impl FnMut(usize, &mut Vec<u8>),
    ) -> Encoded {
        let (mut rows, mut size) = (0, 0);
        for row in chosen.clone() {
            rows += 1;
            size += self.fixed + self.sources.iter().map(|s| s.text_len(row)).sum::<usize>();
        }
        let (mut bytes, mut ends) = (Vec::with_capacity(size), Vec::with_capacity(rows));
        for row in chosen {
            self.write(row, &mut bytes);
            behind(row, &mut bytes);
            ends.push(bytes.len());
        }
        Encoded { bytes, ends }
    }

    /// Appends the bytes of one row.
    pub fn write(&self, row: usize, bytes: &mut Vec<u8>) {
        self.sources.iter().for_each(|source| source.write(row, bytes));
        for at in &self.measured {
            bytes.extend_from_slice(&self.sources[*at].length(row).to_le_bytes());
        }
    }
}

impl Source {
    fn new(part: &Part, column: &ArrayRef) -> Result<Source> {
        let turned = part.turned();
        macro_rules! numbers {
            ($number:expr, $values:path, $type:ty) => {{
                let (bits, over) = $number.bits::<$type>(column);
                $values(bits, if turned == 0 { over } else { over.xor(<$type>::ONES) })
            }};
        }
        let values = match &part.form {
            Form::Bool => Values::One(column.as_boolean().values().iter().map(u8::from).collect(), turned),
            Form::Number(number) => match number.bytes {
                1 => numbers!(number, Values::One, u8),
                2 => numbers!(number, Values::Two, u16),
                4 => numbers!(number, Values::Four, u32),
                8 => numbers!(number, Values::Eight, u64),
                _ => numbers!(number, Values::Sixteen, u128),
            },
            Form::Text => {
                let (offsets, values, nulls) = column.as_string::<i32>().clone().into_parts();
                Values::Text(Text::new(BinaryArray::new(offsets, values, nulls)), turned)
            }
            Form::Binary => Values::Text(Text::new(column.as_binary::<i32>().clone()), turned),
            Form::Other(converter) => Values::Other(converter.convert_columns(std::slice::from_ref(column))?),
        };
        let nulls = match values {
            Values::Other(_) => None,
            _ => column.nulls().filter(|n| n.null_count() > 0).cloned(),
        };
        Ok(Source { values, nulls, null: part.null })
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    #[inline(always)]
    fn write(&self, row: usize, bytes: &mut Vec<u8>) {
        if self.is_null(row) {
            bytes.push(self.null);
            bytes.resize(bytes.len() + self.values.bytes(), 0);
            return;
        }
        bytes.push(THERE);
        match &self.values {
            Values::One(values, over) => values[row].xor(*over).write(bytes),
            Values::Two(values, over) => values[row].xor(*over).write(bytes),
            Values::Four(values, over) => values[row].xor(*over).write(bytes),
            Values::Eight(values, over) => values[row].xor(*over).write(bytes),
            Values::Sixteen(values, over) => values[row].xor(*over).write(bytes),
            Values::Text(text, over) => write_text(text.texts.value(row), text.zeros, *over, bytes),
            Values::Other(rows) => write_text(rows.row(row).data(), true, 0, bytes),
        }
    }

    /// Bytes of the value as a text, or somewhat less where there are zeros in it.
    fn text_len(&self, row: usize) -> usize {
        match &self.values {
            Values::Text(text, _) => text.texts.value_length(row) as usize + END.len(),
            Values::Other(rows) => rows.row_len(row) + END.len(),
            _ => 0,
        }
    }

    /// How many bytes of a text were written, without those that end it.
    fn length(&self, row: usize) -> u32 {
        if self.is_null(row) {
            return 0;
        }
        match &self.values {
            Values::Text(text, _) if !text.zeros => text.texts.value_length(row) as u32,
            Values::Text(text, _) => length(text.texts.value(row)),
            Values::Other(rows) => length(rows.row(row).data()),
            _ => 0,
        }
    }
}

impl Values {
    /// Bytes of a number.
    fn bytes(&self) -> usize {
        match self {
            Values::One(..) => 1,
            Values::Two(..) => 2,
            Values::Four(..) => 4,
            Values::Eight(..) => 8,
            Values::Sixteen(..) => 16,
            Values::Text(..) | Values::Other(_) => 0,
        }
    }
}

impl Text {
    fn new(texts: BinaryArray) -> Text {
        let offsets = texts.value_offsets();
        let bytes = &texts.value_data()[offsets[0] as usize..offsets[texts.len()] as usize];
        // In pieces, so that the loop over each has no way out and goes by whole registers.
        let has_zero = |piece: &[u8]| piece.iter().fold(false, |found, byte| found | (*byte == 0));
        let zeros = bytes.chunks(1 << 12).any(has_zero);
        Text { texts, zeros }
    }
}

#[inline(always)]
fn write_text(text: &[u8], zeros: bool, over: u8, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    if zeros {
        for byte in text {
            match byte {
                0 => bytes.extend_from_slice(&ZERO),
                byte => bytes.push(*byte),
            }
        }
    } else {
        bytes.extend_from_slice(text);
    }
    bytes.extend_from_slice(&END);
    if over != 0 {
        bytes[start..].iter_mut().for_each(|byte| *byte ^= over);
    }
}

fn length(text: &[u8]) -> u32 {
    let zeros = text.iter().filter(|byte| **byte == 0).count();
    (text.len() + zeros) as u32 | if zeros > 0 { HAS_ZEROS } else { 0 }
}
