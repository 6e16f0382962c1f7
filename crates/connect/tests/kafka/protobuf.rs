//! Messages of Protocol Buffers through a real broker, in the key and in the value.

use crate::bounded::read;
use crate::broker::{PATIENCE, broker};
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Schema};
use millstream_connect::Registry;
use millstream_core::table::{Connectors, TableUse};
use millstream_core::{ErrorKind, Result, SinkContext, TableSpec};
use rdkafka::producer::{BaseRecord, Producer};
use std::sync::Arc;

const ORDER: &str = "syntax = \"proto3\"; package shop; import \"line.proto\";
    message OrderKey { int64 id = 1; }
    message Order { int64 id = 1; optional string v = 2; repeated Line lines = 3; }";
const LINE: &str = "syntax = \"proto3\"; package shop; message Line { string sku = 1; uint32 n = 2; }";

fn columns() -> Vec<Field> {
    let line = vec![Field::new("sku", DataType::Utf8, true), Field::new("n", DataType::Int64, true)];
    let lines = DataType::List(Arc::new(Field::new("item", DataType::Struct(line.into()), true)));
    vec![
        Field::new("id", DataType::Int64, false),
        Field::new("v", DataType::Utf8, true),
        Field::new("lines", lines, true),
    ]
}

fn rows(ids: &[i64]) -> RecordBatch {
    let columns = columns();
    let v = StringArray::from_iter(ids.iter().map(|id| (id % 3 != 0).then(|| format!("v{id}"))));
    let DataType::List(item) = columns[2].data_type() else { panic!("a list") };
    let DataType::Struct(fields) = item.data_type() else { panic!("of rows") };
    let line = StructArray::new(
        fields.clone(),
        vec![
            Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("s{id}")))) as ArrayRef,
            Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| (1 << 32) - id))),
        ],
        None,
    );
    let ends = arrow::buffer::OffsetBuffer::from_lengths(ids.iter().map(|_| 1));
    let lines = ListArray::new(item.clone(), ends, Arc::new(line), None);
    let cells: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(v), Arc::new(lines)];
    RecordBatch::try_new(Arc::new(Schema::new(columns)), cells).expect("three columns")
}

fn write(spec: &TableSpec, rows: RecordBatch) -> Result<()> {
    let registry = Registry::new();
    registry.validate(spec, TableUse::Sink)?;
    let mut sink = registry.open_sink(spec, &SinkContext { index: 0, writers: 1, job: None })?;
    sink.write(&rows.into())?;
    sink.finish()
}

#[test]
fn rows_go_through_a_topic_as_messages_and_bad_ones_have_their_place() {
    let Some(broker) = broker() else { return };
    let dir = tempfile::TempDir::new().expect("a folder");
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    path("line.proto", LINE);
    let file = path("order.proto", ORDER);
    let topic = broker.topic("protobuf", 1, &[]);
    let options = [
        ("key.format", "protobuf"),
        ("key.fields", "id"),
        ("key.protobuf.schema-file", file.as_str()),
        ("key.protobuf.message-name", "shop.OrderKey"),
        ("value.format", "protobuf"),
        ("value.protobuf.schema-file", file.as_str()),
        ("value.protobuf.message-name", "shop.Order"),
        ("scan.startup.mode", "earliest-offset"),
        ("scan.bounded.mode", "latest-offset"),
    ];
    let spec = broker.spec("kafka", &topic, columns(), &options);
    write(&spec, rows(&[1, 2, 3, 1 << 30])).expect("written");
    let expected = [
        "1, v1, [{sku: s1, n: 4294967295}]",
        "1073741824, v1073741824, [{sku: s1073741824, n: 3221225472}]",
        "2, v2, [{sku: s2, n: 4294967294}]",
        "3, null, [{sku: s3, n: 4294967293}]",
    ];
    let (got, _) = read(&spec).expect("read");
    assert_eq!(got.len(), 4);
    assert!(
        got.iter().zip(expected).all(|(got, row)| got.starts_with(&row[..row.find('[').expect("a list")])),
        "{got:?}"
    );
    assert!(got[0].contains("s1") && got[0].contains("4294967295"), "{got:?}");

    // A message whose second line is cut off, and a tombstone, which is no row.
    let producer = broker.producer(&[]);
    let poison: &[u8] = &[0x1a, 0, 0x1a, 2, 0x0a, 9];
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&topic).partition(0).payload(poison);
    producer.send(record).map_err(|(e, _)| e).expect("taken");
    producer.flush(PATIENCE).expect("arrived");
    let error = read(&spec).expect_err("a bad message");
    assert_eq!((error.kind(), error.place().map(|p| p.0.clone())), (ErrorKind::Data, Some(format!("{topic}[0]@4"))));
    let shown = format!("{error} {:?}", error.help());
    assert!(shown.contains("field `lines[1].sku` of shop.Order: a length is greater than what is left"), "{shown}");
    assert!(shown.contains("protobuf.ignore-parse-errors"), "{shown}");
    let aside = [&options[..], &[("millstream.bad-rows", "set-aside")]].concat();
    let (got, bad) = read(&broker.spec("kafka", &topic, columns(), &aside)).expect("read");
    assert_eq!((got.len(), bad.len(), bad[0].raw.as_slice()), (4, 1, poison));
    let ignored = [&options[..], &[("value.protobuf.ignore-parse-errors", "true")]].concat();
    assert_eq!(read(&broker.spec("kafka", &topic, columns(), &ignored)).expect("read").0.len(), 4);
    // What is wrong with the declaration is said before anything is read.
    let misspelt = [&options[..], &[("value.protobuf.message-nam", "x")]].concat();
    let error = read(&broker.spec("kafka", &topic, columns(), &misspelt)).expect_err("no such option");
    assert!(error.help().is_some_and(|h| h.contains("did you mean 'value.protobuf.message-name'?")), "{error}");
    let mut wrong = columns();
    wrong[1] = Field::new("vv", DataType::Utf8, true);
    let error = read(&broker.spec("kafka", &topic, wrong, &options)).expect_err("no such field");
    assert!(error.to_string().contains("the message shop.Order has no field `vv`"), "{error}");
}
