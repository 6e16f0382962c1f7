//! Avro as another implementation understands it: files and records that fastavro wrote are read, and it reads ours.
//! `./dev servers cargo test -p millstream-connect --test avro`.

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, SchemaRef, TimeUnit};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use millstream_connect::Registry;
use millstream_core::table::{Connectors, TableUse};
use millstream_core::{Batch, Polled, Result, SinkContext, TableSpec};
use millstream_formats::OnBadRow;
use millstream_formats::changes::Beyond;
use millstream_formats::records::RecordOptions;
use millstream_formats::registry::{Registered, Schemas};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The Python with fastavro; `None` where this run is without it, which is said loudly, and is a failure in CI.
fn python() -> Option<String> {
    let value = std::env::var("MILLSTREAM_TEST_FASTAVRO").ok().filter(|v| !v.is_empty());
    if value.is_none() {
        assert!(std::env::var_os("CI").is_none(), "MILLSTREAM_TEST_FASTAVRO is not set, and CI must not skip");
        let _ = writeln!(
            std::io::stderr(),
            "!! SKIPPED: MILLSTREAM_TEST_FASTAVRO is not set; run ./dev servers cargo test .."
        );
    }
    value
}

/// Runs `tests/avro/peer.py`; what it prints.
fn peer(python: &str, arguments: &[&str], input: &Value) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/avro/peer.py");
    let mut child = Command::new(python)
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    child.stdin.take().expect("piped").write_all(input.to_string().as_bytes()).expect("taken");
    let done = child.wait_with_output().expect("it ends");
    assert!(done.status.success(), "fastavro fails at {arguments:?}");
    String::from_utf8(done.stdout).expect("text")
}

/// Rows as JSON values, all NULLs in them.
fn json_rows(rows: &RecordBatch) -> Vec<Value> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(rows).and_then(|()| writer.finish()).expect("JSON has these types");
    lines(&String::from_utf8(writer.into_inner()).expect("text"))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| alike(serde_json::from_str(line).expect("JSON"))).collect()
}

/// Takes away in what two printers of the same value differ: `T` and `Z` of a time, the kind of number of a decimal.
fn alike(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(k, v)| (k, alike(v))).collect(),
        Value::Array(items) => items.into_iter().map(alike).collect(),
        Value::Number(n) => json!(n.as_f64().expect("a number").to_string()),
        Value::String(text) if text.parse::<f64>().is_ok() => json!(text.parse::<f64>().expect("a number").to_string()),
        Value::String(text) if text.len() > 18 && text.as_bytes()[4] == b'-' && text.as_bytes()[13] == b':' => {
            json!(text.replace('T', " ").trim_end_matches('Z'))
        }
        other => other,
    }
}

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(n, t, null)| Field::new(*n, t.clone(), *null)).collect::<Vec<_>>()))
}

fn spec(schema: &SchemaRef, path: &Path, more: &[(&str, &str)]) -> TableSpec {
    let path = path.display().to_string();
    let options = [("connector", "filesystem"), ("format", "avro"), ("path", path.as_str())];
    TableSpec {
        name: "t".into(),
        schema: schema.clone(),
        projection: None,
        metadata: Vec::new(),
        options: options.iter().chain(more).map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        place: None,
    }
}

fn read(table: &TableSpec) -> Vec<Value> {
    let registry = Registry::new();
    registry.validate(table, TableUse::Source).expect("valid");
    let mut readers = registry.open_source(table).and_then(|mut s| s.partitions(1)).expect("opened");
    let mut rows = Vec::new();
    loop {
        match readers[0].poll().expect("read") {
            Polled::Rows(some) => rows.extend(json_rows(&some.rows)),
            Polled::Pending => std::thread::sleep(std::time::Duration::from_millis(1)),
            Polled::End => return rows,
        }
    }
}

fn list(of: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", of, true)))
}

fn map(of: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", of, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

#[test]
fn what_another_writes_is_read_whatever_packs_it() {
    let Some(python) = python() else { return };
    let dir = tempfile::TempDir::new().expect("a folder");
    let written = json!({"type": "record", "name": "shop.Order", "fields": [
        {"name": "id", "type": "long"},
        {"name": "unwanted", "type": {"type": "map", "values": ["null", {"type": "array", "items": "shop.Order"}]}},
        {"name": "kind", "type": {"type": "enum", "name": "shop.Kind", "symbols": ["NEW", "PAID"]}},
        {"name": "small", "type": "int"},
        {"name": "ratio", "type": ["double", "null"]},
        {"name": "note", "type": ["null", "string"]},
        {"name": "hash", "type": {"type": "fixed", "name": "shop.Hash", "size": 3}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "tax", "type": {"type": "fixed", "name": "shop.Tax", "size": 6, "logicalType": "decimal", "precision": 12, "scale": 1}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "seen", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
        {"name": "clock", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "shop.Line", "fields": [
            {"name": "sku", "type": "string"}, {"name": "n", "type": ["null", "int"]}]}}},
    ]});
    let row = |n: i64| {
        let price = format!("{}.{:02}", n * 7 - 300, n % 100);
        json!({
            "id": n * 1_000_000_007, "unwanted": {"a": null, "b": []}, "kind": (if n % 2 == 0 { "NEW" } else { "PAID" }),
            "small": n - 100, "ratio": (if n % 3 == 0 { Value::Null } else { json!(n as f64 / 8.0) }),
            "note": (if n % 4 == 0 { Value::Null } else { json!(format!("né {n}")) }),
            "hash": {"$": "hex", "v": format!("{:06x}", n)},
            "price": {"$": "decimal", "v": price}, "tax": {"$": "decimal", "v": format!("-{n}.5")},
            "day": {"$": "date", "v": "1969-12-31"}, "at": {"$": "datetime", "v": "2026-11-26T12:00:01+00:00"},
            "seen": {"$": "datetime", "v": "2026-11-26T12:00:00.123456"}, "clock": {"$": "time", "v": "01:02:03"},
            "tags": (0..n % 5).map(|t| format!("t{t}")).collect::<Vec<_>>(),
            "counts": (if n % 2 == 0 { json!({}) } else { json!({"one": 1}) }),
            "lines": (0..n % 3).map(|l| json!({"sku": format!("s{l}"), "n": (l == 1).then_some(l)})).collect::<Vec<_>>(),
        })
    };
    let rows: Vec<Value> = (0..500).map(row).collect();
    let codecs = ["null", "deflate", "snappy", "zstandard"];
    // Blocks of a few rows, and of some hundred.
    for interval in [500, 64_000] {
        let task = json!({"schema": written, "rows": rows, "codecs": codecs, "sync_interval": interval});
        peer(&python, &["write", &dir.path().display().to_string()], &task);
        let line = Fields::from(vec![Field::new("n", DataType::Int64, true), Field::new("sku", DataType::Utf8, true)]);
        let table = schema(&[
            ("note", DataType::Utf8, true),
            ("id", DataType::Int64, false),
            ("kind", DataType::Utf8, false),
            ("small", DataType::Int16, true),
            ("ratio", DataType::Float64, true),
            ("hash", DataType::Binary, true),
            ("price", DataType::Decimal128(12, 2), true),
            ("tax", DataType::Decimal128(14, 3), true),
            ("day", DataType::Date32, true),
            ("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
            ("seen", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            ("clock", DataType::Time32(TimeUnit::Millisecond), true),
            ("tags", list(DataType::Utf8), true),
            ("counts", map(DataType::Int64), true),
            ("lines", list(DataType::Struct(line)), true),
            ("later", DataType::Utf8, true),
        ]);
        for codec in codecs {
            let file = dir.path().join(format!("{codec}.avro"));
            let ours = read(&spec(&table, &file, &[]));
            let theirs = lines(&peer(&python, &["read", &file.display().to_string()], &Value::Null));
            assert_eq!((ours.len(), theirs.len()), (500, 500), "{codec}");
            for (n, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                for field in table.fields() {
                    let name = field.name().as_str();
                    let expected = if name == "later" { &Value::Null } else { &theirs[name] };
                    assert_eq!(&ours[name], expected, "{codec}, row {n}, `{name}`");
                }
            }
        }
    }
}

#[test]
fn what_is_written_another_reads() {
    let Some(python) = python() else { return };
    let dir = tempfile::TempDir::new().expect("a folder");
    let n = 3000;
    let some = |n: i32| (n % 5 != 0).then_some(n);
    let inner = Fields::from(vec![Field::new("x", DataType::Utf8, true), Field::new("y", DataType::Int8, false)]);
    let x = StringArray::from_iter((0..n).map(|i| some(i).map(|i| format!("é{i}"))));
    let y = Int8Array::from_iter_values((0..n).map(|i| (i % 200 - 100) as i8));
    let cells: Vec<(&str, ArrayRef, bool)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values((0..n).map(|i| i64::from(i) << (i % 40)))), false),
        ("flag", Arc::new(BooleanArray::from_iter((0..n).map(|i| some(i).map(|i| i % 2 == 0)))), true),
        ("float", Arc::new(Float32Array::from_iter((0..n).map(|i| some(i).map(|i| i as f32 / 4.0)))), true),
        ("blob", Arc::new(BinaryArray::from_iter((0..n).map(|i| some(i).map(|i| i.to_be_bytes())))), true),
        ("day", Arc::new(Date32Array::from_iter((0..n).map(|i| some(i).map(|i| i * 7 - 9000)))), true),
        ("clock", Arc::new(Time32MillisecondArray::from_iter((0..n).map(|i| some(i).map(|i| i * 1000)))), true),
        (
            "at",
            Arc::new(TimestampMillisecondArray::from_iter(
                (0..n).map(|i| some(i).map(|i| i64::from(i - 1000) * 1_000_000)),
            )),
            true,
        ),
        (
            "utc",
            Arc::new(
                TimestampMicrosecondArray::from_iter((0..n).map(|i| some(i).map(|i| i64::from(i) * 1_000_000)))
                    .with_timezone("UTC"),
            ),
            true,
        ),
        (
            "money",
            Arc::new(
                Decimal128Array::from_iter((0..n).map(|i| some(i).map(|i| i128::from(i - 1500) * 1_000_000_007)))
                    .with_precision_and_scale(20, 2)
                    .expect("fits"),
            ),
            true,
        ),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                (0..n).map(|i| some(i).map(|i| (0..i % 4).map(some).collect::<Vec<_>>())),
            )),
            true,
        ),
        (
            "row",
            Arc::new(StructArray::new(
                inner,
                vec![Arc::new(x), Arc::new(y)],
                Some((0..n).map(|i| i % 7 != 0).collect::<Vec<_>>().into()),
            )),
            true,
        ),
    ];
    let fields: Vec<Field> = cells.iter().map(|(n, c, null)| Field::new(*n, c.data_type().clone(), *null)).collect();
    let table = Arc::new(Schema::new(fields));
    let rows = RecordBatch::try_new(table.clone(), cells.into_iter().map(|c| c.1).collect()).expect("a batch");
    let registry = Registry::new();
    for codec in ["null", "deflate", "snappy", "zstandard"] {
        let path = dir.path().join(format!("{codec}.avro"));
        let spec = spec(&table, &path, &[("avro.codec", codec)]);
        registry.validate(&spec, TableUse::Sink).expect("valid");
        let mut sink = registry.open_sink(&spec, &SinkContext { index: 0, writers: 1, job: None }).expect("opened");
        for from in (0..n as usize).step_by(700) {
            let batch = rows.slice(from, 700.min(n as usize - from));
            sink.write(&Batch::from(batch)).expect("written");
        }
        sink.finish().expect("finished");
        let theirs = lines(&peer(&python, &["read", &path.display().to_string()], &Value::Null));
        assert!(theirs == json_rows(&rows), "{codec}: fastavro reads other rows");
        // And so do we.
        assert!(read(&spec) == json_rows(&rows), "{codec}: we read other rows");
    }
}

#[derive(Debug)]
struct One(String);

impl Schemas for One {
    fn schema(&self, _: u32) -> Result<std::result::Result<Arc<Registered>, String>> {
        Ok(Ok(Registered::alone(self.0.as_str())))
    }
}

#[test]
fn schemas_that_changed_are_resolved_as_another_does() {
    let Some(python) = python() else { return };
    let record = |fields: Value| json!({"type": "record", "name": "r", "fields": fields});
    let entry = |fields: Value| json!({"type": "record", "name": "e", "fields": fields});
    // What it is, the writer's fields, a row, the reader's fields, the columns.
    let cases: Vec<(&str, Value, Value, Value, SchemaRef)> = vec![
        (
            "a field was added and has a default",
            json!([{"name": "a", "type": "int"}]),
            json!({"a": 7}),
            json!([{"name": "a", "type": "int"}, {"name": "b", "type": "string", "default": "né"},
                   {"name": "c", "type": ["null", "long"], "default": null},
                   {"name": "d", "type": {"type": "array", "items": "int"}, "default": [1, 2]}]),
            schema(&[
                ("a", DataType::Int32, false),
                ("b", DataType::Utf8, false),
                ("c", DataType::Int64, true),
                ("d", list(DataType::Int32), false),
            ]),
        ),
        (
            "fields were removed and the rest is in another order",
            json!([{"name": "gone", "type": {"type": "array", "items": {"type": "map", "values": "double"}}},
                   {"name": "b", "type": "string"}, {"name": "too", "type": ["null", "bytes"]}, {"name": "a", "type": "int"}]),
            json!({"gone": [{"x": 1.5}, {}], "b": "x", "too": {"$": "hex", "v": "00ff"}, "a": -1}),
            json!([{"name": "a", "type": "int"}, {"name": "b", "type": "string"}]),
            schema(&[("a", DataType::Int32, false), ("b", DataType::Utf8, false)]),
        ),
        (
            "numbers became wider",
            json!([{"name": "a", "type": "int"}, {"name": "b", "type": "int"}, {"name": "c", "type": "long"}, {"name": "d", "type": "float"}]),
            json!({"a": -2_000_000_000, "b": 3, "c": 1i64 << 40, "d": 0.25}),
            json!([{"name": "a", "type": "long"}, {"name": "b", "type": "float"}, {"name": "c", "type": "double"}, {"name": "d", "type": "double"}]),
            schema(&[
                ("a", DataType::Int64, false),
                ("b", DataType::Float32, false),
                ("c", DataType::Float64, false),
                ("d", DataType::Float64, false),
            ]),
        ),
        (
            "text and bytes are the same",
            json!([{"name": "a", "type": "string"}, {"name": "b", "type": "bytes"}]),
            json!({"a": "x", "b": {"$": "hex", "v": "7a"}}),
            json!([{"name": "a", "type": "string"}, {"name": "b", "type": "string"}]),
            schema(&[("a", DataType::Utf8, false), ("b", DataType::Utf8, false)]),
        ),
        (
            "a field was renamed",
            json!([{"name": "old", "type": "int"}, {"name": "other", "type": "int"}]),
            json!({"old": 5, "other": 6}),
            json!([{"name": "other", "type": "int"}, {"name": "new", "type": "long", "aliases": ["older", "old"]}]),
            schema(&[("new", DataType::Int64, false), ("other", DataType::Int32, false)]),
        ),
        (
            "a field may be null now, and one may not any more",
            json!([{"name": "a", "type": "int"}, {"name": "b", "type": ["null", "string"]}]),
            json!({"a": 5, "b": "there"}),
            json!([{"name": "a", "type": ["null", "long"]}, {"name": "b", "type": "string"}]),
            schema(&[("a", DataType::Int64, true), ("b", DataType::Utf8, false)]),
        ),
        (
            "a record in a record changed, in lists and maps of them too",
            json!([{"name": "l", "type": {"type": "array", "items": entry(json!([
                        {"name": "x", "type": "int"}, {"name": "y", "type": "string"}]))}},
                   {"name": "m", "type": {"type": "map", "values": ["null", "e"]}}, {"name": "o", "type": "e"}]),
            json!({"l": [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}], "m": {"k": {"x": 3, "y": "c"}}, "o": {"x": 4, "y": "d"}}),
            json!([{"name": "o", "type": entry(json!([
                        {"name": "y", "type": "string"}, {"name": "z", "type": "int", "default": 9}, {"name": "x", "type": "long"}]))},
                   {"name": "l", "type": {"type": "array", "items": "e"}}, {"name": "m", "type": {"type": "map", "values": ["null", "e"]}}]),
            {
                let fields = vec![
                    Field::new("x", DataType::Int64, false),
                    Field::new("y", DataType::Utf8, true),
                    Field::new("z", DataType::Int32, true),
                ];
                let row = DataType::Struct(fields.into());
                schema(&[("l", list(row.clone()), true), ("m", map(row.clone()), true), ("o", row, true)])
            },
        ),
        (
            "an enum and a fixed",
            json!([{"name": "k", "type": {"type": "enum", "name": "k", "symbols": ["A", "B", "C"]}},
                   {"name": "f", "type": {"type": "fixed", "name": "f", "size": 2}}]),
            json!({"k": "C", "f": {"$": "hex", "v": "beef"}}),
            json!([{"name": "k", "type": {"type": "enum", "name": "k", "symbols": ["C", "B", "A"]}},
                   {"name": "f", "type": {"type": "fixed", "name": "f", "size": 2}}]),
            schema(&[("k", DataType::Utf8, false), ("f", DataType::Binary, false)]),
        ),
        (
            "unions of several types",
            json!([{"name": "a", "type": ["int", "null", "long"]}, {"name": "b", "type": ["null", "float", "double"]}]),
            json!({"a": 1i64 << 50, "b": 0.5}),
            json!([{"name": "a", "type": ["null", "long"]}, {"name": "b", "type": ["null", "double"]}]),
            schema(&[("a", DataType::Int64, true), ("b", DataType::Float64, true)]),
        ),
    ];
    for (what, writer, row, reader, table) in cases {
        let (writer, reader) = (record(writer), record(reader));
        let dir = tempfile::TempDir::new().expect("a folder");
        let task = json!({"schema": writer, "rows": [row, row], "codecs": ["null"], "sync_interval": 64_000});
        let records: Vec<String> =
            serde_json::from_str(&peer(&python, &["write", &dir.path().display().to_string()], &task))
                .expect("records");
        let task = json!({"writer": writer, "reader": reader, "records": records});
        let theirs = lines(&peer(&python, &["decode"], &task));

        let options = [("avro-confluent.schema".to_owned(), reader.to_string())].into();
        let format = RecordOptions::parse("avro-confluent", "", &options).expect("valid options");
        let beyond = Beyond { schemas: Some(Arc::new(One(writer.to_string()))), ..Beyond::default() };
        let all: Vec<usize> = (0..table.fields().len()).collect();
        let mut decoder = format.decoder_beyond(&table, &all, &beyond, OnBadRow::Fail).expect("a decoder");
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for record in &records {
            let from = bytes.len();
            bytes.extend_from_slice(&[0, 0, 0, 0, 1]);
            bytes.extend((0..record.len()).step_by(2).map(|n| u8::from_str_radix(&record[n..n + 2], 16).expect("hex")));
            ranges.push(Some(from..bytes.len()));
            bytes.push(b'\n');
        }
        let read = decoder.decode_records(&bytes, &ranges).expect("decoded");
        assert_eq!(read.faults, [], "{what}");
        assert_eq!(json_rows(&read.rows), theirs, "{what}");
    }
}
