//! Key groups: which share of the keys a row belongs to. The hash is pinned for ever.
//!
//! A checkpoint stores state by key group, so the map from key to group may never change. It is ours, and it
//! depends on the value only, not on the column's encoding: `Utf8`, `Utf8View` and `LargeUtf8` agree, and so do
//! integers of every width. Do not use it where a stable result is not needed; it is fast, not faster.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::*;
use arrow::error::ArrowError;
use xxhash_rust::xxh3::xxh3_64;

/// Number of key groups of a job. Fixed at its first start; independent of parallelism.
pub const KEY_GROUPS: u32 = 256;

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
const NULL: u64 = 0x6A09_E667_F3BC_C909;

/// 64 bits of value to 64 well-mixed bits (MurmurHash3's finaliser, A. Appleby, public domain).
#[inline]
pub fn mix(value: u64) -> u64 {
    let mut h = value ^ SEED;
    h = (h ^ (h >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    h = (h ^ (h >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    h ^ (h >> 33)
}

#[inline]
fn join(so_far: u64, value: u64) -> u64 {
    mix(so_far.rotate_left(5).wrapping_mul(SEED) ^ value)
}

/// The key group of a hash.
#[inline]
pub fn key_group(hash: u64) -> u32 {
    (hash >> 32) as u32 % KEY_GROUPS
}

/// The task, of `parallelism` many, that owns a key group: contiguous ranges, as in Flink.
#[inline]
pub fn owner(key_group: u32, parallelism: u32) -> u32 {
    key_group * parallelism / KEY_GROUPS
}

/// The pinned hash of each row's key. Without columns every row has the same hash.
///
/// Fails on a type that cannot be a key (nested types other than by their row encoding).
pub fn hash_rows(columns: &[ArrayRef], rows: usize, hashes: &mut Vec<u64>) -> Result<(), ArrowError> {
    hashes.clear();
    hashes.resize(rows, 0);
    for column in columns {
        hash_column(column, hashes)?;
    }
    Ok(())
}

fn hash_column(column: &ArrayRef, hashes: &mut [u64]) -> Result<(), ArrowError> {
    macro_rules! fixed {
        ($type:ty, $to_u64:expr) => {{
            let array = column.as_primitive::<$type>();
            if array.null_count() == 0 {
                for (h, v) in hashes.iter_mut().zip(array.values()) {
                    *h = join(*h, $to_u64(*v));
                }
            } else {
                for (i, h) in hashes.iter_mut().enumerate() {
                    *h = join(*h, if array.is_null(i) { NULL } else { $to_u64(array.value(i)) });
                }
            }
        }};
    }
    macro_rules! bytes {
        ($array:expr) => {{
            let array = $array;
            for (i, h) in hashes.iter_mut().enumerate() {
                let value: &[u8] = if array.is_null(i) { &[] } else { array.value(i).as_ref() };
                *h = join(*h, if array.is_null(i) { NULL } else { xxh3_64(value) });
            }
        }};
    }
    let wide = |v: i128| mix(v as u64) ^ ((v >> 64) as u64);
    match column.data_type() {
        DataType::Int8 => fixed!(Int8Type, |v| v as i64 as u64),
        DataType::Int16 => fixed!(Int16Type, |v| v as i64 as u64),
        DataType::Int32 => fixed!(Int32Type, |v| v as i64 as u64),
        DataType::Int64 => fixed!(Int64Type, |v| v as u64),
        DataType::UInt8 => fixed!(UInt8Type, |v| v as u64),
        DataType::UInt16 => fixed!(UInt16Type, |v| v as u64),
        DataType::UInt32 => fixed!(UInt32Type, |v| v as u64),
        DataType::UInt64 => fixed!(UInt64Type, |v| v),
        // -0.0 and 0.0 are one key, and so is every NaN.
        DataType::Float32 => fixed!(Float32Type, |v| canonical(f64::from(v))),
        DataType::Float64 => fixed!(Float64Type, canonical),
        DataType::Date32 => fixed!(Date32Type, |v| v as i64 as u64),
        DataType::Date64 => fixed!(Date64Type, |v| v as u64),
        DataType::Time32(TimeUnit::Second) => fixed!(Time32SecondType, |v| v as i64 as u64),
        DataType::Time32(_) => fixed!(Time32MillisecondType, |v| v as i64 as u64),
        DataType::Time64(TimeUnit::Microsecond) => fixed!(Time64MicrosecondType, |v| v as u64),
        DataType::Time64(_) => fixed!(Time64NanosecondType, |v| v as u64),
        DataType::Timestamp(TimeUnit::Second, _) => fixed!(TimestampSecondType, |v| v as u64),
        DataType::Timestamp(TimeUnit::Millisecond, _) => fixed!(TimestampMillisecondType, |v| v as u64),
        DataType::Timestamp(TimeUnit::Microsecond, _) => fixed!(TimestampMicrosecondType, |v| v as u64),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => fixed!(TimestampNanosecondType, |v| v as u64),
        DataType::Decimal128(_, _) => fixed!(Decimal128Type, wide),
        DataType::Boolean => {
            let array = column.as_boolean();
            for (i, h) in hashes.iter_mut().enumerate() {
                *h = join(*h, if array.is_null(i) { NULL } else { u64::from(array.value(i)) });
            }
        }
        DataType::Null => hashes.iter_mut().for_each(|h| *h = join(*h, NULL)),
        DataType::Utf8 => bytes!(column.as_string::<i32>()),
        DataType::LargeUtf8 => bytes!(column.as_string::<i64>()),
        DataType::Utf8View => bytes!(column.as_string_view()),
        DataType::Binary => bytes!(column.as_binary::<i32>()),
        DataType::LargeBinary => bytes!(column.as_binary::<i64>()),
        DataType::BinaryView => bytes!(column.as_binary_view()),
        DataType::FixedSizeBinary(_) => bytes!(column.as_fixed_size_binary()),
        other => {
            return Err(ArrowError::NotYetImplemented(format!("a column of type {other} as a key")));
        }
    }
    Ok(())
}

fn canonical(v: f64) -> u64 {
    if v.is_nan() {
        f64::NAN.to_bits()
    } else if v == 0.0 {
        0
    } else {
        v.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, Int64Array, StringArray, StringViewArray};
    use std::sync::Arc;

    fn hashes(columns: &[ArrayRef]) -> Vec<u64> {
        let mut out = Vec::new();
        hash_rows(columns, columns[0].len(), &mut out).expect("hashable");
        out
    }

    #[test]
    fn the_hash_is_pinned() {
        // These figures are stored in checkpoints' layout: they may never change.
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(-1), None]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some(""), Some("ann"), Some("bob"), None]));
        assert_eq!(
            (hashes(&[numbers]), hashes(&[texts])),
            (vec![PIN[0], PIN[1], PIN[2], PIN[3]], vec![PIN[4], PIN[5], PIN[6], PIN[7]])
        );
    }

    const PIN: [u64; 8] = [
        11286133854226296554,
        2717770620714153248,
        4383717382385014336,
        851262360587396523,
        10559391555845793738,
        17141052281414308236,
        12263597698180175699,
        851262360587396523,
    ];

    #[test]
    fn the_encoding_of_a_value_does_not_matter() {
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![7, -7]));
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![7, -7]));
        assert_eq!(hashes(&[narrow]), hashes(&[wide]));
        let plain: ArrayRef = Arc::new(StringArray::from(vec!["a long enough text", "b"]));
        let view: ArrayRef = Arc::new(StringViewArray::from(vec!["a long enough text", "b"]));
        assert_eq!(hashes(&[plain]), hashes(&[view]));
    }

    #[test]
    fn every_group_has_one_owner_and_every_task_some_groups() {
        for parallelism in [1, 2, 7, 256] {
            let mut owned = vec![0; parallelism as usize];
            (0..KEY_GROUPS).for_each(|g| owned[owner(g, parallelism) as usize] += 1);
            assert!(owned.iter().all(|n| *n >= KEY_GROUPS / parallelism), "{owned:?}");
        }
    }
}
