//! Key columns as words or byte strings, and back: equal values, and only they, have equal words or bytes.

use super::pairs::Pair;
use arrow::array::*;
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::*;
use millstream_core::{Error, Result};
use std::sync::Arc;

/// For each pair, whether this word of it is not NULL; `None` where none is.
pub(super) fn nulls_of(pairs: &[Pair], at: usize) -> Option<NullBuffer> {
    let nulls: NullBuffer = BooleanBuffer::collect_bool(pairs.len(), |i| pairs[i].nulls & (1 << at) == 0).into();
    (nulls.null_count() > 0).then_some(nulls)
}

pub(super) fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::Binary)
}

/// The column's bytes.
pub(super) fn texts(column: &ArrayRef) -> BinaryArray {
    match column.data_type() {
        DataType::Utf8 => {
            let (offsets, values, nulls) = column.as_string::<i32>().clone().into_parts();
            BinaryArray::new(offsets, values, nulls)
        }
        _ => column.as_binary::<i32>().clone(),
    }
}

pub(super) fn from_texts<'t>(
    kind: &DataType,
    texts: impl Iterator<Item = &'t [u8]>,
    len: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let mut offsets = Vec::with_capacity(len + 1);
    let mut bytes = Vec::new();
    offsets.push(0i32);
    for text in texts {
        bytes.extend_from_slice(text);
        let end = i32::try_from(bytes.len()).map_err(|_| {
            Error::data("the keys of one window hold more than 2 GiB of text").remedy("group by a shorter key")
        })?;
        offsets.push(end);
    }
    let binary = BinaryArray::new(arrow::buffer::OffsetBuffer::new(offsets.into()), bytes.into(), nulls);
    Ok(match kind {
        DataType::Utf8 => {
            let (offsets, values, nulls) = binary.into_parts();
            Arc::new(StringArray::new(offsets, values, nulls))
        }
        _ => Arc::new(binary),
    })
}

/// Types that fit a word of 8 bytes.
pub(super) fn fits_word(kind: &DataType) -> bool {
    use DataType::*;
    matches!(
        kind,
        Boolean
            | Int8
            | Int16
            | Int32
            | Int64
            | UInt8
            | UInt16
            | UInt32
            | UInt64
            | Float32
            | Float64
            | Date32
            | Date64
            | Time32(_)
            | Time64(_)
            | Timestamp(_, _)
            | Duration(_)
    )
}

/// The column as words: equal values, and only they, have equal words. 8-byte integers are shared, not copied.
pub(super) fn words(column: &ArrayRef) -> Result<ScalarBuffer<u64>> {
    macro_rules! widen {
        ($type:ty, $to:expr) => {
            column.as_primitive::<$type>().values().iter().map($to).collect()
        };
    }
    let shared = |array: ArrayData| -> ScalarBuffer<u64> {
        ScalarBuffer::new(array.buffers()[0].clone(), array.offset(), array.len())
    };
    use DataType::*;
    Ok(match column.data_type() {
        Boolean => column.as_boolean().values().iter().map(u64::from).collect(),
        Int8 => widen!(Int8Type, |v| *v as u8 as u64),
        Int16 => widen!(Int16Type, |v| *v as u16 as u64),
        Int32 => widen!(Int32Type, |v| *v as u32 as u64),
        UInt8 => widen!(UInt8Type, |v| u64::from(*v)),
        UInt16 => widen!(UInt16Type, |v| u64::from(*v)),
        UInt32 => widen!(UInt32Type, |v| u64::from(*v)),
        Float32 => widen!(Float32Type, |v| u64::from(canonical_f32(*v).to_bits())),
        Float64 => widen!(Float64Type, |v| canonical_f64(*v).to_bits()),
        Date32 => widen!(Date32Type, |v| *v as u32 as u64),
        Time32(TimeUnit::Second) => widen!(Time32SecondType, |v| *v as u32 as u64),
        Time32(_) => widen!(Time32MillisecondType, |v| *v as u32 as u64),
        kind if fits_word(kind) => shared(column.to_data()),
        other => return Err(Error::internal(format!("{other} does not fit a word"))),
    })
}

pub(super) fn from_words(kind: &DataType, words: Vec<u64>, nulls: Option<NullBuffer>) -> ArrayRef {
    macro_rules! narrow {
        ($type:ty, $from:expr) => {
            Arc::new(PrimitiveArray::<$type>::new(words.iter().map($from).collect(), nulls)) as ArrayRef
        };
    }
    use DataType::*;
    match kind {
        Boolean => Arc::new(BooleanArray::new(words.iter().map(|w| *w != 0).collect(), nulls)),
        Int8 => narrow!(Int8Type, |w| *w as i8),
        Int16 => narrow!(Int16Type, |w| *w as i16),
        Int32 => narrow!(Int32Type, |w| *w as i32),
        UInt8 => narrow!(UInt8Type, |w| *w as u8),
        UInt16 => narrow!(UInt16Type, |w| *w as u16),
        UInt32 => narrow!(UInt32Type, |w| *w as u32),
        Float32 => narrow!(Float32Type, |w| f32::from_bits(*w as u32)),
        Date32 => narrow!(Date32Type, |w| *w as i32),
        Time32(TimeUnit::Second) => narrow!(Time32SecondType, |w| *w as i32),
        Time32(_) => narrow!(Time32MillisecondType, |w| *w as i32),
        // All others are 8 bytes wide: the words are the values.
        kind => {
            let data = ArrayData::builder(kind.clone())
                .len(words.len())
                .nulls(nulls)
                .add_buffer(Buffer::from_vec(words))
                .build()
                .expect("an 8-byte type takes one buffer of words");
            make_array(data)
        }
    }
}

fn canonical_f64(v: f64) -> f64 {
    if v.is_nan() { f64::NAN } else { v + 0.0 }
}

fn canonical_f32(v: f32) -> f32 {
    if v.is_nan() { f32::NAN } else { v + 0.0 }
}

/// Floats with one zero and one NaN; all else as it is.
pub(super) fn canonical(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(canonical_f32)),
        DataType::Float64 => Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(canonical_f64)),
        _ => column.clone(),
    }
}
