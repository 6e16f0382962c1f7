//! What the reader and the writer promise. That others understand the same bytes is tested where others run
//! (`crates/connect/tests/avro.rs`).

mod damage;
mod files;

use super::*;
use crate::OnBadRow;
use crate::changes::Beyond;
use crate::records::{RecordOptions, Records};
use crate::registry::{Registered, Schemas};
use arrow::array::types::Int64Type;
use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray, Time32MillisecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use wire::{put_counted, put_long};

/// Schemas under numbers, and which of them were asked for.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    schemas: BTreeMap<u32, String>,
    asked: Mutex<Vec<u32>>,
}

impl Schemas for Shelf {
    fn schema(&self, id: u32) -> Result<std::result::Result<Arc<Registered>, String>> {
        self.asked.lock().unwrap().push(id);
        Ok(self.schemas.get(&id).map(Registered::alone).ok_or_else(|| format!("no schema {id}")))
    }
}

pub(super) fn columns(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(n, t, null)| Field::new(*n, t.clone(), *null)).collect::<Vec<_>>()))
}

fn options(name: &str, more: &[(&str, &str)]) -> RecordOptions {
    let more = more.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    RecordOptions::parse(name, "", &more).expect("valid options")
}

pub(super) fn laid_down(records: &[Option<&[u8]>]) -> (Vec<u8>, Vec<Option<Range<usize>>>) {
    let mut bytes = Vec::new();
    let ranges = records.iter().map(|record| {
        record.map(|record| {
            let start = bytes.len();
            bytes.extend_from_slice(record);
            bytes.push(b'\n');
            start..start + record.len()
        })
    });
    let ranges = ranges.collect();
    (bytes, ranges)
}

fn decode(options: &RecordOptions, schemas: &[(u32, &str)], table: &SchemaRef, records: &[&[u8]]) -> Records {
    let shelf = Shelf { schemas: schemas.iter().map(|(id, s)| (*id, s.to_string())).collect(), ..Shelf::default() };
    let beyond = Beyond { schemas: Some(Arc::new(shelf)), ..Beyond::default() };
    let all: Vec<usize> = (0..table.fields().len()).collect();
    let (bytes, ranges) = laid_down(&records.iter().map(|r| Some(*r)).collect::<Vec<_>>());
    let mut decoder = options.decoder_beyond(table, &all, &beyond, OnBadRow::SetAside).expect("a decoder");
    decoder.decode_records(&bytes, &ranges).expect("faults are handed back")
}

/// Rows of a record of schema 1, read as `table`.
fn read_one(schema: &str, table: &SchemaRef, record: &[u8]) -> Records {
    let mut numbered = vec![0, 0, 0, 0, 1];
    numbered.extend_from_slice(record);
    decode(&options("avro-confluent", &[]), &[(1, schema)], table, &[&numbered])
}

pub(super) fn shown(rows: &RecordBatch) -> String {
    let text = pretty_format_batches(std::slice::from_ref(rows)).expect("printable").to_string();
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with('|')).skip(1).collect();
    let cells = lines
        .iter()
        .map(|l| l.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" | ").trim_end().to_owned());
    cells.collect::<Vec<_>>().join("\n")
}

/// `a`, a string; `b`, a number; and so on: one after the other.
fn written(parts: &[Part<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Part::N(n) => put_long(*n, &mut out),
            Part::S(s) => put_counted(s.as_bytes(), &mut out),
            Part::B(b) => out.extend_from_slice(b),
        }
    }
    out
}

#[derive(Clone, Copy)]
enum Part<'a> {
    N(i64),
    S(&'a str),
    B(&'a [u8]),
}
use Part::{B, N, S};

#[test]
fn the_example_of_the_specification_is_read_and_written() {
    let table = columns(&[("a", DataType::Int64, false), ("b", DataType::Utf8, false)]);
    let avro = options("avro", &[]);
    let record = [0x36, 0x06, 0x66, 0x6f, 0x6f];
    let read = decode(&avro, &[], &table, &[&record]);
    assert_eq!(shown(&read.rows), "27 | foo");
    let wrote = avro.encoder(&table).unwrap().encode_records(&read.rows, None).unwrap();
    assert_eq!(wrote.value(0), record);
}

#[test]
fn the_schema_of_a_table_is_flinks() {
    let row = DataType::Struct(vec![Field::new("x", DataType::Utf8, true)].into());
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int32, false)));
    let table = columns(&[
        ("id", DataType::Int64, false),
        ("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        ("d", DataType::Decimal128(10, 2), true),
        ("r", row, true),
        ("l", list, false),
    ]);
    let derived: serde_json::Value = serde_json::from_str(&schema_of(table.fields(), true).unwrap()).unwrap();
    let wanted: serde_json::Value = serde_json::from_str(
        r#"{"type": "record", "name": "record", "namespace": "org.apache.flink.avro.generated", "fields": [
            {"name": "id", "type": "long"},
            {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": null},
            {"name": "d", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}],
             "default": null},
            {"name": "r", "type": ["null", {"type": "record", "name": "record_r", "fields": [
                {"name": "x", "type": ["null", "string"], "default": null}]}], "default": null},
            {"name": "l", "type": {"type": "array", "items": "int"}}]}"#,
    )
    .unwrap();
    assert_eq!(derived, wanted);
    let local = schema_of(table.fields(), false).unwrap();
    assert!(local.contains("local-timestamp-millis"), "{local}");
}

#[test]
fn columns_that_avro_has_no_place_for_are_refused_by_name() {
    let refused = |name: &str, of: DataType| {
        schema_of(columns(&[(name, of, true)]).fields(), true).expect_err("refused").to_string()
    };
    assert!(refused("a-b", DataType::Int32).contains("`a-b`"));
    assert!(refused("1a", DataType::Int32).contains("`1a`"));
    let nanos = refused("t", DataType::Timestamp(TimeUnit::Nanosecond, None));
    assert!(nanos.contains("`t`") && nanos.contains("TIMESTAMP(9)"), "{nanos}");
}

#[test]
fn names_of_rows_inside_of_rows_do_not_meet() {
    let inner = || DataType::Struct(vec![Field::new("x", DataType::Int32, true)].into());
    let outer = DataType::Struct(vec![Field::new("b", inner(), true)].into());
    let table = columns(&[("a", outer, true), ("a_b", inner(), true)]);
    super::schema::Schema::parse(&schema_of(table.fields(), true).unwrap()).expect("each name once");
}

#[test]
fn a_field_that_was_added_removed_moved_or_widened_is_read() {
    let first = r#"{"type": "record", "name": "shop.Order", "fields": [
        {"name": "id", "type": "int"}, {"name": "gone", "type": {"type": "array", "items": "string"}},
        {"name": "price", "type": "float"}]}"#;
    let second = r#"{"type": "record", "name": "Other", "fields": [
        {"name": "price", "type": "double"}, {"name": "note", "type": ["null", "string"]}, {"name": "id", "type": "long"}]}"#;
    let table =
        columns(&[("id", DataType::Int64, false), ("price", DataType::Float64, true), ("note", DataType::Utf8, true)]);
    let mut old = vec![0, 0, 0, 0, 7];
    old.extend(written(&[N(-3), N(2), S("a"), S("bc"), N(0), B(&1.5f32.to_le_bytes())]));
    let mut new = vec![0, 0, 0, 1, 0];
    new.extend(written(&[B(&2.5f64.to_le_bytes()), N(1), S("hello"), N(1 << 40)]));
    let read = decode(&options("avro-confluent", &[]), &[(7, first), (256, second)], &table, &[&old, &new, &old]);
    assert_eq!(read.faults, []);
    assert_eq!(shown(&read.rows), "-3 | 1.5 |\n1099511627776 | 2.5 | hello\n-3 | 1.5 |");
}

#[test]
fn a_schema_is_asked_for_once_and_an_unknown_one_is_a_fault_of_its_record() {
    let table = columns(&[("id", DataType::Int64, false)]);
    let shelf = Arc::new(Shelf {
        schemas: [(1, r#"{"type": "record", "name": "r", "fields": [{"name": "id", "type": "int"}]}"#.to_owned())]
            .into(),
        ..Shelf::default()
    });
    let beyond = Beyond { schemas: Some(shelf.clone()), ..Beyond::default() };
    let format = options("avro-confluent", &[]);
    let mut decoder = format.decoder_beyond(&table, &[0], &beyond, OnBadRow::SetAside).unwrap();
    let records: [&[u8]; 5] =
        [&[0, 0, 0, 0, 1, 2], &[0, 0, 0, 0, 9, 2], &[0, 0, 0, 0, 1, 4], &[0, 0, 0, 0, 9, 2], &[0, 1]];
    let (bytes, ranges) = laid_down(&records.map(Some));
    let read = decoder.decode_records(&bytes, &ranges).unwrap();
    assert_eq!(shown(&read.rows), "1\n2");
    let faults: Vec<(usize, &str)> = read.faults.iter().map(|(n, why)| (*n, why.as_str())).collect();
    assert_eq!(faults[..2], [(1, "no schema 9"), (3, "no schema 9")]);
    assert!(faults[2].1.contains("2 bytes"), "{faults:?}");
    assert_eq!(*shelf.asked.lock().unwrap(), [1, 9]);
}

#[test]
fn what_is_no_record_with_a_number_says_what_it_is() {
    let table = columns(&[("id", DataType::Int64, false)]);
    let format = options("avro-confluent", &[]);
    let read = decode(&format, &[], &table, &[b"{\"id\": 1}", b""]);
    assert!(read.faults[0].1.contains("begins with the byte 123") && read.faults[0].1.contains("{\"id\": 1}"));
    assert_eq!(read.faults[1].1, "the record is empty");
    assert_eq!(read.rows.num_rows(), 0);
}

#[test]
fn defaults_and_aliases_of_the_readers_schema_count() {
    let reader = r#"{"type": "record", "name": "r", "fields": [
        {"name": "id", "type": "long", "aliases": ["key"]},
        {"name": "kind", "type": {"type": "enum", "name": "k", "symbols": ["A", "B"]}, "default": "B"},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": ["x", "y"]},
        {"name": "blob", "type": "bytes", "default": "\u00ff"},
        {"name": "inner", "type": {"type": "record", "name": "i", "fields": [
            {"name": "n", "type": "int", "default": 5}, {"name": "m", "type": ["null", "double"], "default": null}]},
         "default": {}}]}"#;
    let inner = vec![Field::new("n", DataType::Int32, false), Field::new("m", DataType::Float64, true)];
    let table = columns(&[
        ("id", DataType::Int64, false),
        ("kind", DataType::Utf8, false),
        ("tags", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), false),
        ("blob", DataType::Binary, false),
        ("inner", DataType::Struct(inner.into()), false),
    ]);
    let writer = r#"{"type": "record", "name": "r", "fields": [{"name": "key", "type": "int"}]}"#;
    let format = options("avro-confluent", &[("avro-confluent.schema", reader)]);
    let read = decode(&format, &[(1, writer)], &table, &[&[0, 0, 0, 0, 1, 84], &[0, 0, 0, 0, 1, 86]]);
    assert_eq!(read.faults, []);
    let row = |n| format!("{n} | B | [x, y] | ff | {{n: 5, m: }}");
    assert_eq!(shown(&read.rows), format!("{}\n{}", row(42), row(43)));
    // Without the reader's schema the columns are missing, and may not be.
    let read = decode(&options("avro-confluent", &[]), &[(1, writer)], &table, &[&[0, 0, 0, 0, 1, 84]]);
    assert!(read.faults[0].1.starts_with("schema 1: the field `id` is not in the schema"), "{:?}", read.faults);
}

#[test]
fn a_renamed_field_is_found_by_what_it_was_called() {
    let writer = r#"{"type": "record", "name": "r", "fields": [
        {"name": "new", "type": "int", "aliases": ["old"]}, {"name": "other", "type": "int"}]}"#;
    let table = columns(&[("old", DataType::Int32, true)]);
    assert_eq!(shown(&read_one(writer, &table, &[2, 4]).rows), "1");
    // But the field of a column's own name goes before one that was called so.
    let table = columns(&[("new", DataType::Int32, true), ("old", DataType::Int32, true)]);
    assert_eq!(shown(&read_one(writer, &table, &[2, 4]).rows), "1 |");
}

#[test]
fn types_that_do_not_agree_are_named_with_both_sides() {
    let wrong = |field: &str, declared: DataType| {
        let writer = format!(r#"{{"type": "record", "name": "r", "fields": [{{"name": "f", "type": {field}}}]}}"#);
        let read = read_one(&writer, &columns(&[("f", declared, true)]), &[2, 2, 2, 2]);
        read.faults.first().map(|f| f.1.clone()).unwrap_or_default()
    };
    assert_eq!(
        wrong(r#""long""#, DataType::Int32),
        "schema 1: the field `f` was written as long, the table declares INT: declare it BIGINT"
    );
    assert_eq!(
        wrong(r#"["null", "string"]"#, DataType::Int32),
        "schema 1: the field `f` was written as string, the table declares INT"
    );
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 4}"#;
    assert!(wrong(decimal, DataType::Decimal128(10, 2)).contains("decimal(9, 4)"));
    let nested = r#"{"type": "record", "name": "s", "fields": [{"name": "x", "type": "double"}]}"#;
    let row = DataType::Struct(vec![Field::new("x", DataType::Float32, true)].into());
    assert!(wrong(nested, row).contains("`f.x` was written as double"));
    assert!(wrong(r#""missing.Type""#, DataType::Int32).contains("names the type `missing.Type`"));
}

#[test]
fn logical_types_become_the_declared_ones() {
    let writer = r#"{"type": "record", "name": "r", "fields": [
        {"name": "micros", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-millis"}},
        {"name": "plain", "type": "long"},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "time", "type": {"type": "long", "logicalType": "time-micros"}},
        {"name": "fixed", "type": {"type": "fixed", "name": "d", "size": 3, "logicalType": "decimal", "precision": 6, "scale": 1}},
        {"name": "uuid", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "e", "type": {"type": "enum", "name": "e", "symbols": ["no", "yes"]}},
        {"name": "raw", "type": {"type": "fixed", "name": "f", "size": 2}}]}"#;
    let table = columns(&[
        ("micros", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        ("local", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        ("plain", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        ("day", DataType::Date32, true),
        ("time", DataType::Time32(TimeUnit::Millisecond), true),
        ("fixed", DataType::Decimal128(10, 2), true),
        ("uuid", DataType::Utf8, true),
        ("e", DataType::Utf8, true),
        ("raw", DataType::Binary, true),
    ]);
    let record =
        written(&[N(-1), N(1500), N(1500), N(-1), N(3_661_000_500), B(&[0xff, 0xff, 0xf6]), S("u"), N(1), B(&[1, 2])]);
    let read = read_one(writer, &table, &record);
    assert_eq!(read.faults, []);
    assert_eq!(
        shown(&read.rows),
        "1969-12-31T23:59:59.999 | 1970-01-01T00:00:01.500 | 1970-01-01T00:00:01.500 | 1969-12-31 | 01:01:01 | -1.00 | u | yes | 0102"
    );
}

#[test]
fn a_union_of_several_types_is_read_where_each_value_fits() {
    let writer =
        r#"{"type": "record", "name": "r", "fields": [{"name": "f", "type": ["int", "null", "string", "long"]}]}"#;
    let table = columns(&[("f", DataType::Int64, true)]);
    let format = options("avro-confluent", &[]);
    let head = [0, 0, 0, 0, 1];
    let record = |parts: &[Part<'_>]| [&head[..], &written(parts)].concat();
    let records =
        [record(&[N(0), N(5)]), record(&[N(1)]), record(&[N(2), S("x")]), record(&[N(3), N(1 << 50)]), record(&[N(4)])];
    let read = decode(&format, &[(1, writer)], &table, &records.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(shown(&read.rows), "5\n\n1125899906842624");
    assert_eq!(read.faults[0], (2, "the field `f` was written as string, the table declares BIGINT".to_owned()));
    assert!(read.faults[1].1.contains("its union does not have"), "{:?}", read.faults);
}

#[test]
fn a_type_that_refers_to_itself_can_be_passed_over_and_read_one_step_deep() {
    let writer = r#"{"type": "record", "name": "List", "namespace": "a.b", "fields": [
        {"name": "value", "type": "int"}, {"name": "next", "type": ["null", "List"]}]}"#;
    let record = written(&[N(1), N(1), N(2), N(1), N(3), N(0)]);
    let table = columns(&[("value", DataType::Int32, false)]);
    assert_eq!(shown(&read_one(writer, &table, &record).rows), "1");
    let next = DataType::Struct(vec![Field::new("value", DataType::Int32, true)].into());
    let table = columns(&[("value", DataType::Int32, false), ("next", next, true)]);
    assert_eq!(shown(&read_one(writer, &table, &record).rows), "1 | {value: 2}");
}

#[test]
fn a_schema_that_is_given_says_how_rows_are_written() {
    let given = r#"{"type": "record", "name": "shop.Order", "fields": [
        {"name": "kind", "type": {"type": "enum", "name": "k", "symbols": ["A", "B"]}},
        {"name": "id", "type": ["long", "null"]},
        {"name": "extra", "type": ["string", "null"], "default": "x"},
        {"name": "blob", "type": {"type": "fixed", "name": "f", "size": 2}}]}"#;
    let table =
        columns(&[("id", DataType::Int64, true), ("kind", DataType::Utf8, true), ("blob", DataType::Binary, true)]);
    let format = options("avro-confluent", &[("avro-confluent.schema", given)]);
    let rows = |id: Option<i64>, kind: &str, blob: &[u8]| {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![id])),
            Arc::new(StringArray::from(vec![kind])),
            Arc::new(BinaryArray::from(vec![blob])),
        ];
        RecordBatch::try_new(table.clone(), columns).unwrap()
    };
    let mut encoder = format.encoder_as(&table, Some(258)).unwrap();
    let wrote = encoder.encode_records(&rows(None, "B", &[7, 8]), None).unwrap();
    assert_eq!(wrote.value(0), [0, 0, 0, 1, 2, 2, 2, 2, 7, 8]);
    let wrong = |batch: &RecordBatch| {
        format.encoder_as(&table, Some(1)).unwrap().encode_records(batch, None).expect_err("no row").to_string()
    };
    assert!(wrong(&rows(Some(1), "C", &[7, 8])).contains("`C`, which is no symbol"));
    assert!(wrong(&rows(Some(1), "A", &[7])).contains("holds 1 bytes, its schema has 2"));
    // A field that may not be null and is no column.
    let lacks = columns(&[("id", DataType::Int64, true)]);
    let error = format.check_written(&lacks).expect_err("refused").to_string();
    assert!(error.contains("the schema has the field `kind`"), "{error}");
    let more = columns(&[
        ("id", DataType::Int64, true),
        ("kind", DataType::Utf8, true),
        ("blob", DataType::Binary, true),
        ("new", DataType::Int32, true),
    ]);
    assert!(format.check_written(&more).expect_err("refused").to_string().contains("no field `new`"));
}

#[test]
fn a_row_that_goes_need_not_be_whole() {
    let table = columns(&[("id", DataType::Int64, false), ("v", DataType::Utf8, false)]);
    let loose = columns(&[("id", DataType::Int64, true), ("v", DataType::Utf8, true)]);
    let cells: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(vec![Some("a"), None]))];
    let rows = RecordBatch::try_new(loose, cells).unwrap();
    let mut encoder = options("avro", &[]).encoder(&table).unwrap();
    let kinds = arrow::array::Int8Array::from(vec![
        millstream_core::ChangeKind::UpdateAfter as i8,
        millstream_core::ChangeKind::Delete as i8,
    ]);
    let wrote = encoder.encode_records(&rows, Some(&kinds)).unwrap();
    assert!(wrote.is_valid(0) && wrote.is_null(1));
    let error = encoder.encode_records(&rows, None).expect_err("a NULL where none may be").to_string();
    assert!(error.contains("column `v` is NULL"), "{error}");
}

#[test]
fn options_are_checked_by_name_and_value() {
    let wrong = |name: &str, key: &str, value: &str| {
        RecordOptions::parse(name, "", &[(key.to_owned(), value.to_owned())].into()).expect_err("refused").to_string()
    };
    assert!(wrong("avro", "avro.codec", "snapy").contains("did you mean 'snappy'?"));
    assert!(wrong("avro", "avro.encoding", "json").contains("'avro.encoding' cannot be 'json'"));
    assert!(
        wrong("avro-confluent", "avro-confluent.schema", "{")
            .contains("'avro-confluent.schema': the schema is no JSON")
    );
    let error = RecordOptions::parse("avro-confluant", "", &BTreeMap::new()).expect_err("refused").to_string();
    assert!(error.contains("did you mean 'avro-confluent'?"), "{error}");
}

/// One column of each kind, NULLs among them.
pub(super) fn sample(rows: usize, seed: u64) -> (SchemaRef, RecordBatch) {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut draw = |n: usize| -> Vec<Option<i64>> {
        (0..n).map(|_| (next() % 4 != 0).then(|| (next() as i64) >> (next() % 60))).collect()
    };
    let text = |v: &Option<i64>| v.map(|v| "é".repeat((v & 15) as usize) + &v.to_string());
    let fits = |v: &Option<i64>, max: i64| v.map(|v| v % max);
    let longs = draw(rows);
    let lists: Vec<Option<Vec<Option<i64>>>> =
        draw(rows).iter().map(|v| v.map(|v| (0..v & 3).map(|n| (n > 0).then_some(v ^ n)).collect())).collect();
    let x = StringArray::from(draw(rows).iter().map(text).collect::<Vec<_>>());
    let y = Int8Array::from(draw(rows).iter().map(|v| fits(v, 128).map(|v| v as i8)).collect::<Vec<_>>());
    let fields = vec![Field::new("x", DataType::Utf8, true), Field::new("y", DataType::Int8, true)];
    let nulls = NullBuffer::from(draw(rows).iter().map(|v| v.is_some()).collect::<Vec<_>>());
    let lengths = OffsetBuffer::from_lengths(longs.iter().map(|v| v.map_or(0, |v| (v & 1) as usize)));
    let pairs: usize = longs.iter().map(|v| v.map_or(0, |v| (v & 1) as usize)).sum();
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)];
    let map_field = Arc::new(Field::new("entries", DataType::Struct(entries.clone().into()), false));
    let keys = StringArray::from((0..pairs).map(|n| format!("k{n}")).collect::<Vec<_>>());
    let values = Int32Array::from(draw(pairs).iter().map(|v| fits(v, 1000).map(|v| v as i32)).collect::<Vec<_>>());
    let entries = StructArray::new(entries.into(), vec![Arc::new(keys), Arc::new(values)], None);
    let map = arrow::array::MapArray::new(map_field, lengths, entries, None, false);
    let millis = |v: &Option<i64>| fits(v, 1 << 45);
    let cells: Vec<(&str, bool, ArrayRef)> = vec![
        ("long", true, Arc::new(Int64Array::from(longs.clone()))),
        ("not_null", false, Arc::new(Int64Array::from(longs.iter().map(|v| v.unwrap_or(-1)).collect::<Vec<_>>()))),
        (
            "small",
            true,
            Arc::new(Int16Array::from(
                draw(rows).iter().map(|v| fits(v, 1 << 15).map(|v| v as i16)).collect::<Vec<_>>(),
            )),
        ),
        ("text", true, Arc::new(StringArray::from(draw(rows).iter().map(text).collect::<Vec<_>>()))),
        ("flag", true, Arc::new(BooleanArray::from(draw(rows).iter().map(|v| v.map(|v| v > 0)).collect::<Vec<_>>()))),
        (
            "float",
            true,
            Arc::new(Float32Array::from(draw(rows).iter().map(|v| v.map(|v| v as f32)).collect::<Vec<_>>())),
        ),
        (
            "double",
            true,
            Arc::new(Float64Array::from(draw(rows).iter().map(|v| v.map(|v| v as f64 / 3.0)).collect::<Vec<_>>())),
        ),
        (
            "bytes",
            true,
            Arc::new(BinaryArray::from(
                draw(rows).iter().map(|v| v.is_some().then_some(&b"\0\xff"[..])).collect::<Vec<_>>(),
            )),
        ),
        (
            "day",
            true,
            Arc::new(Date32Array::from(
                draw(rows).iter().map(|v| fits(v, 100_000).map(|v| v as i32)).collect::<Vec<_>>(),
            )),
        ),
        (
            "time",
            true,
            Arc::new(Time32MillisecondArray::from(
                draw(rows).iter().map(|v| v.map(|v| (v.unsigned_abs() % 86_400_000) as i32)).collect::<Vec<_>>(),
            )),
        ),
        ("millis", true, Arc::new(TimestampMillisecondArray::from(draw(rows).iter().map(millis).collect::<Vec<_>>()))),
        (
            "micros",
            true,
            Arc::new(
                TimestampMicrosecondArray::from(draw(rows).iter().map(millis).collect::<Vec<_>>()).with_timezone("UTC"),
            ),
        ),
        (
            "money",
            true,
            Arc::new(
                Decimal128Array::from(draw(rows).iter().map(|v| v.map(i128::from)).collect::<Vec<_>>())
                    .with_precision_and_scale(20, 2)
                    .unwrap(),
            ),
        ),
        ("list", true, Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
        ("map", true, Arc::new(map)),
        ("row", true, Arc::new(StructArray::new(fields.into(), vec![Arc::new(x), Arc::new(y)], Some(nulls)))),
    ];
    let fields: Vec<Field> = cells.iter().map(|(n, null, c)| Field::new(*n, c.data_type().clone(), *null)).collect();
    let table = Arc::new(Schema::new(fields));
    let rows = RecordBatch::try_new(table.clone(), cells.into_iter().map(|(_, _, c)| c).collect()).unwrap();
    (table, rows)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_written_is_read_whatever_it_is(rows in 0usize..40, from in 0usize..5, seed in any::<u64>()) {
        let (table, batch) = sample(rows, seed);
        // A part of a batch, since slices have offsets.
        let batch = batch.slice(from.min(rows), rows - from.min(rows));
        for legacy in ["true", "false"] {
            let format = options("avro", &[("avro.timestamp_mapping.legacy", legacy)]);
            let wrote = format.encoder(&table).unwrap().encode_records(&batch, None).unwrap();
            let records: Vec<&[u8]> = (0..wrote.len()).map(|n| wrote.value(n)).collect();
            let read = decode(&format, &[], &table, &records);
            prop_assert_eq!(&read.faults, &[]);
            prop_assert_eq!(shown(&read.rows), shown(&batch));
            // Some of the columns, in another order.
            let some = [12, 0, 15, 4];
            let (bytes, ranges) = laid_down(&records.iter().map(|r| Some(*r)).collect::<Vec<_>>());
            let mut decoder = format.decoder(&table, &some, OnBadRow::SetAside).unwrap();
            let read = decoder.decode_records(&bytes, &ranges).unwrap();
            prop_assert_eq!(shown(&read.rows), shown(&batch.project(&some).unwrap()));
        }
    }
}

/// What Debezium writes with Avro's converter, and what we do.
#[test]
fn debeziums_records_tell_changes() {
    let envelope = r#"{"type": "record", "name": "Envelope", "namespace": "db.public.orders", "fields": [
        {"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": [
            {"name": "id", "type": "int"}, {"name": "shop", "type": ["null", "string"], "default": null}]}], "default": null},
        {"name": "after", "type": ["null", "Value"], "default": null},
        {"name": "source", "type": {"type": "record", "name": "Source", "fields": [{"name": "ts_ms", "type": "long"}]}},
        {"name": "op", "type": "string"}, {"name": "ts_ms", "type": ["null", "long"], "default": null}]}"#;
    let record = |before: Option<(i64, &'static str)>, after: Option<(i64, &'static str)>, op: &'static str| {
        let mut out = vec![0, 0, 0, 0, 1];
        for row in [before, after] {
            match row {
                None => out.extend(written(&[N(0)])),
                Some((id, shop)) => out.extend(written(&[N(1), N(id), N(1), S(shop)])),
            }
        }
        out.extend(written(&[N(17), S(op), N(0)]));
        out
    };
    let told = [
        record(None, Some((1, "a")), "c"),
        record(Some((1, "a")), Some((1, "b")), "u"),
        record(None, Some((2, "x")), "r"),
        record(None, Some((1, "c")), "u"),
        record(Some((2, "x")), None, "d"),
        record(None, None, "d"),
        record(None, None, "t"),
        record(Some((1, "b")), Some((3, "b")), "u"),
    ];
    let table = columns(&[("id", DataType::Int64, false), ("shop", DataType::Utf8, true)]);
    let read = |by_key: &[&str]| {
        let shelf = Shelf { schemas: [(1, envelope.to_owned())].into(), ..Shelf::default() };
        let by_key = by_key.iter().map(|k| k.to_string()).collect();
        let beyond = Beyond { schemas: Some(Arc::new(shelf)), by_key, ..Beyond::default() };
        let mut records: Vec<Option<&[u8]>> = told.iter().map(|r| Some(r.as_slice())).collect();
        // A tombstone.
        records.insert(5, None);
        let (bytes, ranges) = laid_down(&records);
        let format = options("debezium-avro-confluent", &[]);
        let mut decoder = format.decoder_beyond(&table, &[0, 1], &beyond, OnBadRow::SetAside).unwrap();
        let read = decoder.decode_records(&bytes, &ranges).unwrap();
        let changes = read.changes.as_ref().expect("changes");
        let kinds = changes.kinds.values().iter().zip(&changes.of);
        let rows: Vec<String> = shown(&read.rows)
            .lines()
            .zip(kinds)
            .map(|(row, (kind, of))| format!("{of} {} {row}", ["+I", "-U", "+U", "-D"][*kind as usize]))
            .collect();
        (rows, read.faults, read.left_out)
    };
    let (rows, faults, left_out) = read(&[]);
    assert_eq!(
        rows,
        ["0 +I 1 | a", "1 -U 1 | a", "1 +U 1 | b", "2 +I 2 | x", "4 -D 2 | x", "8 -U 1 | b", "8 +U 3 | b"]
    );
    assert_eq!(left_out, [3, 6, 7]);
    assert!(faults[0].1.contains("`before` is null in an update") && faults[0].1.contains("REPLICA IDENTITY"));
    assert!(faults[1].1.contains("`before` is null in a deletion"), "{faults:?}");
    assert!(faults[2].1.contains("`op` is `t`"), "{faults:?}");
    // By key, what a row was is remembered; one that moves to another key is gone from its own.
    let (rows, faults, _) = read(&["id"]);
    assert_eq!(
        rows,
        ["0 +I 1 | a", "1 +U 1 | b", "2 +I 2 | x", "3 +U 1 | c", "4 -D 2 | x", "8 -D 1 | b", "8 +U 3 | b"]
    );
    assert_eq!(faults.len(), 2);
}

#[test]
fn what_debezium_says_beside_the_rows_is_said_of_each_of_them() {
    let envelope = r#"{"type": "record", "name": "Envelope", "fields": [
        {"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": [{"name": "id", "type": "int"}]}]},
        {"name": "after", "type": ["null", "Value"]},
        {"name": "source", "type": ["null", {"type": "record", "name": "Source", "fields": [
            {"name": "db", "type": "string"}, {"name": "file", "type": "string"}, {"name": "ts_ms", "type": "long"}]}]},
        {"name": "op", "type": "string"}, {"name": "ts_ms", "type": ["null", "long"]}]}"#;
    let id = |id: Option<i64>| id.map_or_else(|| vec![N(0)], |id| vec![N(1), N(id)]);
    let record = |before: Option<i64>, after: Option<i64>, source: &[Part], op: &'static str, at: Option<i64>| {
        let mut out = vec![0, 0, 0, 0, 1];
        for parts in [id(before), id(after), source.to_vec(), vec![S(op)], id(at)] {
            out.extend(written(&parts));
        }
        out
    };
    let told = [
        record(None, Some(1), &[N(1), S("shop"), S("f"), N(1_000)], "c", Some(2_000)),
        record(Some(1), Some(2), &[N(1), S("bank"), S("f"), N(3_000)], "u", None),
        record(Some(2), None, &[N(0)], "d", Some(4_500)),
    ];
    let at = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let column = |key: &str, name: &str, of: DataType| (key.to_owned(), Field::new(name, of, true));
    let metadata = vec![
        column("source.timestamp", "was", at()),
        column("source.database", "db", DataType::Utf8),
        column("ingestion-timestamp", "seen", at()),
        // The schema has none: it is another database's.
        column("source.schema", "sc", DataType::Utf8),
    ];
    let table = columns(&[("id", DataType::Int64, false)]);
    let shelf = Shelf { schemas: [(1, envelope.to_owned())].into(), ..Shelf::default() };
    let beyond = Beyond { schemas: Some(Arc::new(shelf)), metadata, ..Beyond::default() };
    let format = options("debezium-avro-confluent", &[]);
    let (bytes, ranges) = laid_down(&told.iter().map(|r| Some(r.as_slice())).collect::<Vec<_>>());
    let mut decoder = format.decoder_beyond(&table, &[0], &beyond, OnBadRow::SetAside).unwrap();
    let read = decoder.decode_records(&bytes, &ranges).unwrap();
    assert_eq!(read.faults, []);
    assert_eq!(
        shown(&read.rows),
        "1 | 1970-01-01T00:00:01Z | shop | 1970-01-01T00:00:02Z |\n1 | 1970-01-01T00:00:03Z | bank |  |\n\
         2 | 1970-01-01T00:00:03Z | bank |  |\n2 |  |  | 1970-01-01T00:00:04.500Z |"
    );
    // What has no type of its own is not there, and a column of another type is refused.
    let wrong = |key: &str, of: DataType| {
        let beyond = Beyond { metadata: vec![column(key, "m", of)], ..beyond.clone() };
        format.decoder_beyond(&table, &[0], &beyond, OnBadRow::SetAside).err().expect("refused").to_string()
    };
    assert!(
        wrong("source.properties", DataType::Utf8)
            .contains("'debezium-avro-confluent' has no metadata 'source.properties'")
    );
    assert!(wrong("source.table", DataType::Int64).contains("cannot hold the metadata 'source.table'"));
}

#[test]
fn changes_are_written_as_debezium_tells_them() {
    let table = columns(&[("id", DataType::Int64, false), ("v", DataType::Utf8, true)]);
    let format = options("debezium-avro-confluent", &[]);
    format.check_written(&table).unwrap();
    let schema = format.numbered_schema(&table).unwrap().expect("it has a number");
    let cells: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 1, 1, 2])),
        Arc::new(StringArray::from(vec![Some("a"), Some("a"), None, Some("x")])),
    ];
    let rows = RecordBatch::try_new(table.clone(), cells).unwrap();
    let kinds = Int8Array::from(vec![0, 1, 2, 3]);
    let wrote = format.encoder_as(&table, Some(1)).unwrap().encode_records(&rows, Some(&kinds)).unwrap();
    let records: Vec<&[u8]> = (0..wrote.len()).map(|n| wrote.value(n)).collect();
    // As plain rows of the envelope.
    let envelope = super::envelope(table.fields());
    let told = decode(&options("avro-confluent", &[]), &[(1, &schema)], &envelope, &records);
    assert_eq!(
        shown(&told.rows),
        " | {id: 1, v: a} | c\n{id: 1, v: a} |  | d\n | {id: 1, v: } | c\n{id: 2, v: x} |  | d"
    );
    // And as changes.
    let read = decode(&format, &[(1, &schema)], &table, &records);
    assert_eq!(shown(&read.rows), "1 | a\n1 | a\n1 |\n2 | x");
    assert_eq!(read.changes.expect("changes").kinds, Int8Array::from(vec![0, 3, 0, 3]));
}

#[test]
fn a_schema_may_name_types_of_others_that_it_refers_to() {
    let address =
        r#"{"type": "record", "name": "Address", "namespace": "geo", "fields": [{"name": "city", "type": "string"}]}"#;
    let person =
        r#"{"type": "record", "name": "Person", "namespace": "p", "fields": [{"name": "at", "type": "geo.Address"}]}"#;
    let order = r#"{"type": "record", "name": "Order", "fields": [{"name": "by", "type": "p.Person"}, {"name": "to", "type": ["null", "geo.Address"]}]}"#;
    let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let others = [pair("geo.Address", address), pair("p.Person", person)];
    let registered = Registered { text: order.into(), references: others.to_vec() };
    let city = DataType::Struct(vec![Field::new("city", DataType::Utf8, true)].into());
    let table = columns(&[
        ("by", DataType::Struct(vec![Field::new("at", city.clone(), true)].into()), true),
        ("to", city, true),
    ]);
    let mut rows = super::read::Rows::new(&table).unwrap();
    let writer = super::read::Writer::new(&registered, None, &table).expect("understood");
    let record = written(&[S("a"), N(1), S("b")]);
    let read = rows.read(&writer, &mut super::wire::Cursor::new(&record, 0));
    assert!(matches!(read, super::read::Outcome::Row));
    assert_eq!(shown(&rows.finish().unwrap()), "{at: {city: a}} | {city: b}");
    let alone = Registered { references: others[1..].to_vec(), ..registered };
    let why = super::read::Writer::new(&alone, None, &table).expect_err("a type is missing");
    assert!(why.contains("what it refers to as `p.Person`") && why.contains("`geo.Address`"), "{why}");
}
