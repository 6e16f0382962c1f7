use super::*;
use arrow::array::{Array, ArrayRef, Int32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::pretty::pretty_format_batches;
use proptest::prelude::*;
use std::sync::Arc;

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(n, t, null)| Field::new(*n, t.clone(), *null)).collect::<Vec<_>>()))
}

fn pair() -> SchemaRef {
    schema(&[("n", DataType::Int32, false), ("s", DataType::Utf8, true)])
}

/// The message that has the columns of [`pair`], whatever file is asked for.
struct Pair;

const PAIR: &str = "syntax = \"proto2\"; message Pair { optional int32 n = 1; optional string s = 6; }";

impl Files for Pair {
    fn read(&self, _: &str) -> std::result::Result<Option<Vec<u8>>, String> {
        Ok(Some(PAIR.into()))
    }
}

fn options(name: &str, more: &[(&str, &str)]) -> RecordOptions {
    let mut more: BTreeMap<String, String> = more.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    if name == PROTOBUF {
        more.insert("protobuf.schema-file".into(), "pair.proto".into());
    }
    RecordOptions::parse_with(name, "", &more, &Pair).expect("valid options")
}

/// Who has a schema for the number 1, and for no other.
#[derive(Debug)]
struct Nobody;

impl crate::registry::Schemas for Nobody {
    fn schema(&self, id: u32) -> Result<std::result::Result<Arc<crate::registry::Registered>, String>> {
        Ok(match id {
            1 => Ok(crate::registry::Registered::alone(crate::avro::schema_of(pair().fields(), true)?)),
            _ => Err(format!("no schema {id}")),
        })
    }
}

/// The records one behind the other, as a reader of messages lays them down.
fn laid_down(records: &[Option<&[u8]>]) -> (Vec<u8>, Vec<Option<Range<usize>>>) {
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

fn decode(options: &RecordOptions, schema: &SchemaRef, mode: OnBadRow, records: &[Option<&[u8]>]) -> Records {
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let (bytes, ranges) = laid_down(records);
    let beyond = Beyond { schemas: Some(Arc::new(Nobody)), ..Beyond::default() };
    let mut decoder = options.decoder_beyond(schema, &all, &beyond, mode).expect("a decoder");
    decoder.decode_records(&bytes, &ranges).expect("faults are handed back")
}

fn rows(records: &Records) -> String {
    let shown = pretty_format_batches(std::slice::from_ref(&records.rows)).expect("shown").to_string();
    let rows = shown.lines().skip(3).filter(|l| l.starts_with('|')).map(|l| l.replace(' ', ""));
    rows.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_json_record_is_one_row_whatever_stands_in_it() {
    let records: [Option<&[u8]>; 8] = [
        Some(b"{\"n\":1,\"s\":\"a\"}"),
        Some(b"{\"n\":2,\n \"s\":\"b\"}\n"),
        Some(b"{\"n\":3}{\"n\":4}"),
        None,
        Some(b""),
        Some(b"{\"n\":\"x\"}"),
        Some(b"{\"s\":\"no n\"}"),
        Some(b"{\"n\":8}"),
    ];
    let read = decode(&options("json", &[]), &pair(), OnBadRow::SetAside, &records);
    assert_eq!(rows(&read), "|1|a| |2|b| |8||");
    assert_eq!(read.left_out, [2, 3, 4, 5, 6]);
    let faults: Vec<usize> = read.faults.iter().map(|f| f.0).collect();
    assert_eq!(faults, [2, 4, 5, 6]);
    assert!(read.faults[1].1.contains("is empty") && read.faults[3].1.contains("NOT NULL"), "{:?}", read.faults);
}

#[test]
fn a_csv_record_is_one_row_whatever_stands_in_it() {
    let records: [Option<&[u8]>; 9] = [
        Some(b"1,a"),
        Some(b"2,\"b\nb\""),
        Some(b"3,c\n4,d"),
        None,
        Some(b""),
        Some(b"5,\"never closed"),
        Some(b"6,f\n"),
        Some(b"x,y"),
        Some(b"7"),
    ];
    let read = decode(&options("csv", &[]), &pair(), OnBadRow::SetAside, &records);
    assert_eq!(read.rows.num_rows(), 3);
    let names = read.rows.column(1).as_any().downcast_ref::<StringArray>().expect("text");
    assert_eq!(names.iter().flatten().collect::<Vec<_>>(), ["a", "b\nb", "f"]);
    let faults: Vec<usize> = read.faults.iter().map(|f| f.0).collect();
    assert_eq!(faults, [2, 4, 5, 7, 8]);
    assert_eq!(read.left_out, [2, 3, 4, 5, 7, 8]);
    assert!(read.faults[0].1.contains("several rows"), "{:?}", read.faults);
}

#[test]
fn fields_that_cannot_be_read_are_null_where_the_table_says_so() {
    let table = schema(&[("n", DataType::Int32, true), ("s", DataType::Utf8, true)]);
    let records: [Option<&[u8]>; 3] = [Some(b"x,a"), Some(b"1,b"), Some(b"1,2,3")];
    let csv = options("csv", &[("csv.ignore-parse-errors", "true")]);
    let read = decode(&csv, &table, OnBadRow::Skip, &records);
    assert_eq!((rows(&read).as_str(), read.skipped), ("||a| |1|b|", 1));
    assert_eq!(read.left_out, [2]);
    let records: [Option<&[u8]>; 2] = [Some(b"{\"n\":\"x\",\"s\":\"a\"}"), Some(b"no json")];
    let json = options("json", &[("json.ignore-parse-errors", "true")]);
    let read = decode(&json, &table, OnBadRow::Skip, &records);
    assert_eq!((rows(&read).as_str(), read.skipped), ("||a|", 1));
    assert_eq!(read.left_out, [1]);
}

#[test]
fn raw_is_the_one_column_and_null_is_no_bytes() {
    let text = schema(&[("s", DataType::Utf8, true)]);
    let read = decode(&options("raw", &[]), &text, OnBadRow::Fail, &[Some(b"a\nb"), None, Some(b""), Some(b"\xff")]);
    assert_eq!(read.rows.num_rows(), 3);
    assert!(read.rows.column(0).is_null(1));
    assert_eq!(read.left_out, [3]);
    assert!(read.faults[0].1.contains("not UTF-8"), "{:?}", read.faults);

    let number = schema(&[("n", DataType::Int32, false)]);
    let read = decode(&options("raw", &[]), &number, OnBadRow::Fail, &[Some(&[0, 0, 1, 2]), Some(&[1]), None]);
    assert_eq!(rows(&read), "|258|");
    assert!(read.faults[0].1.contains("4 bytes") && read.faults[1].1.contains("NOT NULL"), "{:?}", read.faults);
    let little = options("raw", &[("raw.endianness", "little-endian")]);
    assert_eq!(rows(&decode(&little, &number, OnBadRow::Fail, &[Some(&[2, 1, 0, 0])])), "|258|");

    let e = options("raw", &[]).check(&pair()).expect_err("two columns");
    assert!(e.what().contains("has 2: `n`, `s`"), "{e}");
}

#[test]
fn what_is_written_is_read_back() {
    let table = schema(&[("n", DataType::Int32, true), ("s", DataType::Utf8, true), ("l", DataType::Int64, true)]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(1), None, Some(-3)])),
        Arc::new(StringArray::from(vec!["a,\"b\"\n", "", "c"])),
        Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(0), None])),
    ];
    let batch = RecordBatch::try_new(table.clone(), columns).expect("three columns");
    for name in ["csv", "json"] {
        let o = options(name, &[]);
        let written = o.encoder(&table).expect("an encoder").encode_records(&batch, None).expect("encoded");
        let records: Vec<Option<&[u8]>> = written.iter().collect();
        let read = decode(&o, &table, OnBadRow::Fail, &records);
        assert_eq!(read.rows, batch, "{name}");
    }
    for column in [0, 2] {
        let one = batch.project(&[column]).expect("one column");
        let o = options("raw", &[]);
        let written = o.encoder(one.schema_ref()).expect("an encoder").encode_records(&one, None).expect("encoded");
        let records: Vec<Option<&[u8]>> = written.iter().collect();
        assert_eq!(decode(&o, &one.schema(), OnBadRow::Fail, &records).rows, one);
    }
}

#[test]
fn options_are_read_under_their_prefix_and_explained() {
    let given = [("value.json.ignore-parse-errors", "true"), ("json.timestamp-format.standard", "no")];
    let given = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    assert!(RecordOptions::parse("json", "value.", &given).expect("valid").ignores_errors());
    assert!(!RecordOptions::parse("json", "key.", &given).expect("valid").ignores_errors());
    let e = RecordOptions::parse("jsn", "", &given).expect_err("no such format");
    assert!(e.help().is_some_and(|h| h.contains("did you mean 'json'?")), "{e}");
    let e = RecordOptions::parse("json", "", &given).expect_err("no such form of timestamps");
    assert!(e.what().contains("json.timestamp-format.standard"), "{e}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the bytes: each record is a row or left out, and what becomes of it does not depend on its neighbours.
    #[test]
    fn a_record_stands_for_itself(
        records in proptest::collection::vec(
            proptest::option::weighted(0.9, proptest::collection::vec(proptest::sample::select(b"1,a\"\n\r{}:#n ".as_slice()), 0..12)),
            0..8,
        ),
        name in proptest::sample::select(NAMES.as_slice()),
    ) {
        let table = if name == "raw" { schema(&[("s", DataType::Utf8, false)]) } else { pair() };
        let o = options(name, &[]);
        let given: Vec<Option<&[u8]>> = records.iter().map(|r| r.as_deref()).collect();
        let all = decode(&o, &table, OnBadRow::SetAside, &given);
        if all.changes.is_none() {
            prop_assert_eq!(all.rows.num_rows() + all.left_out.len(), given.len());
        }
        let mut row = 0;
        for (number, record) in given.iter().enumerate() {
            let alone = decode(&o, &table, OnBadRow::SetAside, &[*record]);
            prop_assert_eq!(alone.left_out.is_empty(), !all.left_out.contains(&number));
            let count = alone.rows.num_rows();
            prop_assert_eq!(&alone.rows, &all.rows.slice(row, count));
            row += count;
        }
        prop_assert_eq!(row, all.rows.num_rows());
    }
}
