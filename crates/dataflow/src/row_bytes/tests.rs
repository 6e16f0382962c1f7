//! The bytes of rows, held against Arrow's row format, whose order they have to keep.

use super::*;
use arrow::array::*;
use arrow::datatypes::{Field, Int32Type, Schema, TimeUnit};
use proptest::prelude::*;
use std::sync::Arc;

fn schema(types: &[DataType]) -> SchemaRef {
    let field = |(at, kind): (usize, &DataType)| Field::new(format!("c{at}"), kind.clone(), true);
    Arc::new(Schema::new(types.iter().enumerate().map(field).collect::<Vec<_>>()))
}

fn types() -> Vec<DataType> {
    let item = Arc::new(Field::new("item", DataType::Int64, true));
    vec![
        DataType::Boolean,
        DataType::Int8,
        DataType::UInt16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt64,
        DataType::Decimal128(20, 2),
        DataType::Float32,
        DataType::Float64,
        DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        DataType::Date32,
        DataType::Utf8,
        DataType::Binary,
        DataType::FixedSizeBinary(2),
        DataType::List(item),
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
    ]
}

/// A column of values chosen by these numbers, few enough that many are equal, with those at the edges among them.
fn column(kind: &DataType, chosen: &[Option<u8>]) -> ArrayRef {
    let at = |n: u8, of: usize| n as usize % of;
    macro_rules! numbers {
        ($array:ty, $type:ty) => {{
            let values = [<$type>::MIN, <$type>::MIN + 1, 0, 1, 2, 100, <$type>::MAX];
            Arc::new(chosen.iter().map(|n| n.map(|n| values[at(n, 7)])).collect::<$array>()) as ArrayRef
        }};
    }
    let texts = [
        "",
        "\0",
        "\0\0",
        "a",
        "a\0",
        "a\0b",
        "a\u{1}",
        "ab",
        "\u{ff}",
        "long enough to fill more than one block of 32",
    ];
    let bytes: [&[u8]; 7] = [b"", b"\0", b"\0\xff", b"\xff", b"\xff\0\xff", b"a", b"a\xff"];
    match kind {
        DataType::Boolean => Arc::new(chosen.iter().map(|n| n.map(|n| n % 2 == 0)).collect::<BooleanArray>()),
        DataType::Int8 => numbers!(Int8Array, i8),
        DataType::UInt16 => numbers!(UInt16Array, u16),
        DataType::Int32 => numbers!(Int32Array, i32),
        DataType::Int64 => numbers!(Int64Array, i64),
        DataType::UInt64 => numbers!(UInt64Array, u64),
        DataType::Decimal128(p, s) => {
            let values = [-(10i128.pow(20) - 1), -1, 0, 1, 1 << 65];
            let values: Decimal128Array = chosen.iter().map(|n| n.map(|n| values[at(n, 5)])).collect();
            Arc::new(values.with_precision_and_scale(*p, *s).expect("values of 20 digits"))
        }
        DataType::Float32 => {
            let values = [f32::NEG_INFINITY, -1.5, -0.0, 0.0, 1.5, f32::INFINITY, f32::NAN, -f32::NAN];
            Arc::new(chosen.iter().map(|n| n.map(|n| values[at(n, 8)])).collect::<Float32Array>())
        }
        DataType::Float64 => {
            let values = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1.5, f64::INFINITY, f64::NAN, -f64::NAN];
            Arc::new(chosen.iter().map(|n| n.map(|n| values[at(n, 8)])).collect::<Float64Array>())
        }
        DataType::Utf8 => Arc::new(chosen.iter().map(|n| n.map(|n| texts[at(n, 10)])).collect::<StringArray>()),
        DataType::Binary => Arc::new(chosen.iter().map(|n| n.map(|n| bytes[at(n, 7)])).collect::<BinaryArray>()),
        DataType::FixedSizeBinary(size) => {
            let values = chosen.iter().map(|n| n.map(|n| [n % 3, n % 2]));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, *size).expect("values of two bytes"))
        }
        DataType::List(_) => {
            let values =
                chosen.iter().map(|n| n.map(|n| (0..n % 3).map(move |i| (i != 1).then_some(i64::from(n % 4)))));
            Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(values))
        }
        DataType::Dictionary(..) => {
            Arc::new(chosen.iter().map(|n| n.map(|n| texts[at(n, 10)])).collect::<DictionaryArray<Int32Type>>())
        }
        // All others are integers under another name.
        kind => {
            let numbers = match Number::of(kind).map(|n| n.bytes) {
                Some(4) => column(&DataType::Int32, chosen),
                _ => column(&DataType::Int64, chosen),
            };
            arrow::compute::cast(&numbers, kind).expect("integers become times")
        }
    }
}

/// A column: which type, whether it descends, and whether NULLs come first.
type Kind = (usize, bool, bool);

/// A few columns, and how the values of each are chosen.
fn batches() -> impl Strategy<Value = (Vec<Kind>, Vec<Vec<Option<u8>>>)> {
    (1usize..6, 1usize..20).prop_flat_map(|(columns, rows)| {
        let kinds = prop::collection::vec((0..types().len(), any::<bool>(), any::<bool>()), columns);
        let values = prop::collection::vec(prop::option::weighted(0.8, any::<u8>()), rows);
        (kinds, prop::collection::vec(values, columns))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn rows_stand_in_the_order_of_arrows_row_format_and_come_back(
        (kinds, values) in batches(),
        sorted in 0usize..6,
        from in 0usize..4,
    ) {
        let kinds: Vec<(DataType, bool, bool)> = kinds.iter().map(|(k, d, n)| (types()[*k].clone(), *d, *n)).collect();
        let schema = schema(&kinds.iter().map(|k| k.0.clone()).collect::<Vec<_>>());
        let columns = kinds.iter().zip(&values).map(|(kind, chosen)| column(&kind.0, chosen)).collect();
        let batch = RecordBatch::try_new(schema.clone(), columns).expect("columns of the schema");
        // A part of a batch is a batch.
        let from = from.min(batch.num_rows() - 1);
        let batch = batch.slice(from, batch.num_rows() - from);
        let rows = batch.num_rows();

        // Ordered by some columns from behind, then by the others.
        let by = |c: usize| SortColumn { column: c, descending: kinds[c].1, nulls_first: kinds[c].2 };
        let sort: Vec<SortColumn> = (0..kinds.len()).rev().take(sorted).map(by).collect();
        let rest = (0..kinds.len()).filter(|c| sort.iter().all(|s| s.column != *c)).map(ascending);
        let all: Vec<SortColumn> = sort.iter().copied().chain(rest).collect();
        let fields = all.iter().map(|s| {
            let options = SortOptions { descending: s.descending, nulls_first: s.nulls_first };
            SortField::new_with_options(kinds[s.column].0.clone(), options)
        });
        let arrow = RowConverter::new(fields.collect()).expect("these types can be ordered");
        let columns: Vec<ArrayRef> = all.iter().map(|s| batch.column(s.column).clone()).collect();
        let arrow = arrow.convert_columns(&columns).expect("the columns of these types");

        let codec = RowBytes::new(&schema, &sort).expect("these types can be ordered");
        let encoded = codec.encode(&batch).expect("the columns of the schema");
        let keys = RowBytes::keys(&schema, &sort).expect("these types can be ordered");
        let keys = keys.encode(&batch).expect("the columns of the schema");
        for a in 0..rows {
            prop_assert!(encoded.row(a).starts_with(keys.row(a)));
            for b in 0..rows {
                prop_assert_eq!(encoded.row(a).cmp(encoded.row(b)), arrow.row(a).cmp(&arrow.row(b)));
                let begins = encoded.row(b).starts_with(encoded.row(a));
                prop_assert!(!begins || encoded.row(a) == encoded.row(b));
                let ties = sort.iter().all(|s| {
                    let column = batch.column(s.column);
                    column.slice(a, 1).to_data() == column.slice(b, 1).to_data()
                });
                prop_assert!(!ties || encoded.row(b).starts_with(keys.row(a)));
            }
        }

        // Twice through the same columns: nothing is left of what has come back before.
        let mut columns = codec.columns();
        for chosen in [(0..rows).rev().collect::<Vec<_>>(), (0..rows).collect()] {
            let some = codec.open(&batch).expect("the columns of the schema").encode(chosen.iter().copied());
            (0..rows).for_each(|at| columns.push(some.row(at)));
            let back = columns.finish(&codec).expect("rows come back");
            let chosen: UInt64Array = chosen.iter().map(|at| *at as u64).collect();
            for (back, column) in back.iter().zip(batch.columns()) {
                let wanted = arrow::compute::take(column, &chosen, None).expect("rows of the batch");
                prop_assert_eq!(back.to_data(), wanted.to_data());
            }
        }
    }
}

#[test]
fn a_row_takes_little_more_than_its_values() {
    let schema = schema(&[DataType::Int64, DataType::Utf8, DataType::Int32]);
    let text = "x".repeat(100);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1])),
        Arc::new(StringArray::from(vec![text.as_str()])),
        Arc::new(Int32Array::from(vec![1])),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).expect("columns of the schema");
    let codec = RowBytes::new(&schema, &[]).expect("plain types");
    // A byte for each, two that end the text, four that say how long it is.
    assert_eq!(codec.encode(&batch).expect("columns of the schema").row(0).len(), 8 + 100 + 4 + 3 + 2 + 4);
}
