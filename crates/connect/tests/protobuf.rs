//! Protocol Buffers as another implementation understands them: Google's makes messages, and reads ours.
//! `./dev servers cargo test -p millstream-connect --test protobuf`.

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use millstream_connect::options::LocalFiles;
use millstream_formats::OnBadRow;
use millstream_formats::records::RecordOptions;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The Python with protobuf; `None` where this run is without it, which is said loudly, and is a failure in CI.
fn python() -> Option<String> {
    let value = std::env::var("MILLSTREAM_TEST_PROTOBUF").ok().filter(|v| !v.is_empty());
    if value.is_none() {
        assert!(std::env::var_os("CI").is_none(), "MILLSTREAM_TEST_PROTOBUF is not set, and CI must not skip");
        let _ = writeln!(
            std::io::stderr(),
            "!! SKIPPED: MILLSTREAM_TEST_PROTOBUF is not set; run ./dev servers cargo test .."
        );
    }
    value
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/protobuf")
}

/// Runs `tests/protobuf/peer.py`; what it prints.
fn peer(python: &str, arguments: &[&str], input: &Value) -> String {
    let mut child = Command::new(python)
        .arg(folder().join("peer.py"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    // One that reads nothing may be gone already.
    let _ = child.stdin.take().expect("piped").write_all(input.to_string().as_bytes());
    let done = child.wait_with_output().expect("it ends");
    assert!(done.status.success(), "the peer fails at {arguments:?}");
    String::from_utf8(done.stdout).expect("text")
}

fn list(of: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", of, true)))
}

fn map(of: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", of, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

fn record(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect())
}

/// A column for each field of `golden.Narrow` but one, in another order than theirs.
fn columns() -> SchemaRef {
    use DataType::{Binary, Boolean, Float32, Float64, Int32, Int64, Utf8};
    let line = || record(&[("size", Utf8), ("marks", list(Int64)), ("n", Int32), ("sku", Utf8)]);
    let fields = [
        ("again", record(&[("st", Utf8), ("lines", list(line())), ("again", record(&[("i32", Int32)]))])),
        ("i32", Int32),
        ("i64", Int64),
        ("u32", Int64),
        ("u64", Int64),
        ("s32", Int32),
        ("s64", Int64),
        ("f32", Int64),
        ("f64", Int64),
        ("sf32", Int32),
        ("sf64", Int64),
        ("fl", Float32),
        ("db", Float64),
        ("bo", Boolean),
        ("st", Utf8),
        ("by", Binary),
        ("kind", Utf8),
        ("maybe", Int32),
        ("line", line()),
        ("text", Utf8),
        ("number", Int64),
        ("message", line()),
        ("packed", list(Int32)),
        ("unpacked", list(Int64)),
        ("texts", list(Utf8)),
        ("lines", list(line())),
        ("doubles", list(Float64)),
        ("kinds", list(Utf8)),
        ("counts", map(Int64)),
        ("by_name", map(line())),
        ("kind_of", map(Utf8)),
        ("at", DataType::Timestamp(TimeUnit::Millisecond, None)),
        ("wrapped", Int64),
        ("wrapped_text", Utf8),
    ];
    Arc::new(Schema::new(fields.map(|(n, t)| Field::new(n, t, true)).to_vec()))
}

/// Of a row of theirs what our columns have, and in what two printers of one value differ taken away.
fn alike(value: &Value, of: &DataType) -> Value {
    match (value, of) {
        (Value::Object(row), DataType::Struct(fields)) => {
            fields.iter().map(|f| (f.name().clone(), alike(&row[f.name()], f.data_type()))).collect()
        }
        (Value::Object(entries), DataType::Map(of, _)) => {
            let DataType::Struct(pair) = of.data_type() else { panic!("a map of {of}") };
            entries.iter().map(|(k, v)| (k.clone(), alike(v, pair[1].data_type()))).collect()
        }
        (Value::Array(items), DataType::List(of)) => items.iter().map(|v| alike(v, of.data_type())).collect(),
        (Value::Number(n), DataType::Float32 | DataType::Float64) => json!(n.as_f64().expect("a number").to_string()),
        (Value::String(text), DataType::Timestamp(..)) => {
            let text = text.replace('T', " ");
            let (seconds, part) = text.split_once('.').unwrap_or((&text, ""));
            json!(format!("{seconds}.{}", part.trim_end_matches('0')))
        }
        (other, _) => other.clone(),
    }
}

fn json_rows(rows: &RecordBatch) -> Vec<Value> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(rows).and_then(|()| writer.finish()).expect("JSON has these types");
    let text = String::from_utf8(writer.into_inner()).expect("text");
    let of = DataType::Struct(rows.schema_ref().fields().clone());
    text.lines().map(|line| alike(&serde_json::from_str(line).expect("JSON"), &of)).collect()
}

fn format(schema_file: &Path) -> RecordOptions {
    let options: BTreeMap<String, String> = [
        ("protobuf.schema-file".to_owned(), schema_file.display().to_string()),
        ("protobuf.message-name".to_owned(), "golden.Narrow".to_owned()),
    ]
    .into();
    RecordOptions::parse_with("protobuf", "", &options, &LocalFiles).expect("valid options")
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).expect("hex")).collect()
}

fn decode(format: &RecordOptions, table: &SchemaRef, records: &[Vec<u8>]) -> RecordBatch {
    let all: Vec<usize> = (0..table.fields().len()).collect();
    let (mut laid, mut ranges) = (Vec::new(), Vec::new());
    for record in records {
        ranges.push(Some(laid.len()..laid.len() + record.len()));
        laid.extend_from_slice(record);
        laid.push(b'\n');
    }
    let mut decoder = format.decoder(table, &all, OnBadRow::Fail).expect("a decoder");
    let read = decoder.decode_records(&laid, &ranges).expect("decoded");
    assert_eq!(read.faults, []);
    read.rows
}

#[test]
fn messages_of_another_are_read_and_ours_are_read_by_it() {
    let Some(python) = python() else { return };
    let dir = tempfile::TempDir::new().expect("a folder");
    let set = dir.path().join("golden.desc");
    peer(&python, &["set", &set.display().to_string()], &Value::Null);
    let table = columns();
    let of = DataType::Struct(table.fields().clone());
    let made: Vec<Value> = serde_json::from_str(&peer(&python, &["make", "600", "7"], &Value::Null)).expect("JSON");
    let records: Vec<Vec<u8>> = made.iter().map(|m| bytes(m["hex"].as_str().expect("hex"))).collect();
    let expected: Vec<Value> = made.iter().map(|m| alike(&m["row"], &of)).collect();
    // Described by the file that we compile, and by what their compiler makes of it.
    for description in [folder().join("golden.proto"), set] {
        let format = format(&description);
        let rows = decode(&format, &table, &records);
        let ours = json_rows(&rows);
        assert_eq!(ours.len(), expected.len());
        for (n, (ours, theirs)) in ours.iter().zip(&expected).enumerate() {
            for field in table.fields() {
                let name = field.name().as_str();
                assert_eq!(&ours[name], &theirs[name], "{}: message {n}, `{name}`", description.display());
            }
        }
        // And back: they read in our messages what was in theirs.
        let mut encoder = format.encoder(&table).expect("an encoder");
        let wrote = encoder.encode_records(&rows, None).expect("written");
        let hex = |record: &[u8]| record.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let sent: Vec<String> = wrote.iter().flatten().map(hex).collect();
        let theirs: Vec<Value> = serde_json::from_str(&peer(&python, &["read"], &json!(sent))).expect("JSON");
        for (n, (theirs, expected)) in theirs.iter().zip(&expected).enumerate() {
            assert_eq!(&alike(theirs, &of), expected, "message {n} as we wrote it");
        }
        assert_eq!(theirs.len(), 600);
    }
}
