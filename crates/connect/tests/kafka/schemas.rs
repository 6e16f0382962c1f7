//! Records of Avro, by a real registry (Apicurio, which speaks as Confluent's does) and a real broker.

use crate::bounded::read;
use crate::broker::{Broker, PATIENCE, broker, fails, variable};
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Schema};
use millstream_connect::Registry;
use millstream_core::table::{Connectors, TableUse};
use millstream_core::{Batch, ErrorKind, Polled, Result, SinkContext, TableSpec};
use rdkafka::producer::{BaseRecord, Producer};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a registry says, asked without any code of ours.
fn asked(url: &str, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    let rest = url.strip_prefix("http://").expect("a registry of this machine");
    let (host, base) = rest.split_once('/').map_or((rest, String::new()), |(h, p)| (h, format!("/{p}")));
    let mut stream = TcpStream::connect(host).expect("it is there");
    let head = format!(
        "{method} {base}{path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_default())
}

fn registered(url: &str, subject: &str, schema: &str) -> u32 {
    let body = serde_json::json!({ "schema": schema }).to_string();
    let until = Instant::now() + PATIENCE;
    let answer = loop {
        let (status, answer) = asked(url, "POST", &format!("/subjects/{subject}/versions"), &body);
        // Apicurio's store in memory stumbles where two are registered in the same moment, and says 500.
        if status == 200 {
            break answer;
        }
        assert!(status == 500 && Instant::now() < until, "{status}: {answer}");
        std::thread::sleep(Duration::from_millis(50));
    };
    answer["id"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("a number")
}

fn servers() -> Option<(Broker, String)> {
    Some((broker()?, variable("MILLSTREAM_TEST_REGISTRY")?))
}

fn fields() -> Vec<Field> {
    vec![Field::new("id", DataType::Int64, false), Field::new("v", DataType::Utf8, true)]
}

fn table(broker: &Broker, url: &str, topic: &str, columns: Vec<Field>, more: &[(&str, &str)]) -> TableSpec {
    let mut options = vec![
        ("format", "avro-confluent"),
        ("avro-confluent.url", url),
        ("scan.startup.mode", "earliest-offset"),
        ("scan.bounded.mode", "latest-offset"),
    ];
    options.extend_from_slice(more);
    broker.spec("kafka", topic, columns, &options)
}

fn rows(ids: &[i64]) -> Batch {
    let v = StringArray::from_iter(ids.iter().map(|id| (id % 3 != 0).then(|| format!("v{id}"))));
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(v)];
    RecordBatch::try_new(Arc::new(Schema::new(fields())), columns).expect("two columns").into()
}

fn write(spec: &TableSpec, batch: &Batch) -> Result<()> {
    let registry = Registry::new();
    registry.validate(spec, TableUse::Sink)?;
    let mut sink = registry.open_sink(spec, &SinkContext { index: 0, writers: 1, job: None })?;
    sink.write(batch)?;
    sink.finish()
}

fn produce(broker: &Broker, topic: &str, values: &[&[u8]]) {
    let producer = broker.producer(&[]);
    for value in values {
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).payload(value);
        producer.send(record).map_err(|(e, _)| e).expect("taken");
    }
    producer.flush(PATIENCE).expect("arrived");
}

#[test]
fn rows_go_through_a_topic_under_a_schema_that_the_registry_has() {
    let Some((broker, url)) = servers() else { return };
    let topic = broker.topic("avro", 2, &[]);
    let keyed = [
        ("key.format", "avro-confluent"),
        ("key.fields", "id"),
        ("key.avro-confluent.url", url.as_str()),
        ("key.avro-confluent.subject", &format!("{topic}-own-key")),
    ];
    let spec = table(&broker, &url, &topic, fields(), &keyed);
    write(&spec, &rows(&[1, 2, 3, 1 << 40])).expect("written");
    // The registry has both, under the subjects that are Confluent's, or the table's.
    let (status, value) = asked(&url, "GET", &format!("/subjects/{topic}-value/versions/latest"), "");
    assert_eq!(status, 200, "{value}");
    let schema: serde_json::Value = serde_json::from_str(value["schema"].as_str().expect("a text")).expect("JSON");
    assert_eq!(schema["name"], "record");
    assert_eq!(asked(&url, "GET", &format!("/subjects/{topic}-own-key/versions/latest"), "").0, 200);
    assert_eq!(asked(&url, "GET", &format!("/subjects/{topic}-key/versions/latest"), "").0, 404);
    assert_eq!(read(&spec).expect("read").0, ["1, v1", "1099511627776, v1099511627776", "2, v2", "3, null"]);
    // The same again is no new version.
    write(&spec, &rows(&[4])).expect("written");
    let (_, versions) = asked(&url, "GET", &format!("/subjects/{topic}-value/versions"), "");
    assert_eq!(versions, serde_json::json!([1]));
}

#[test]
fn upserts_and_deletions_have_keys_of_avro_too() {
    let Some((broker, url)) = servers() else { return };
    let topic = broker.topic("avro-upsert", 1, &[]);
    let mut spec = broker.spec(
        "upsert-kafka",
        &topic,
        fields(),
        &[
            ("key.format", "avro-confluent"),
            ("key.avro-confluent.url", &url),
            ("value.format", "avro-confluent"),
            ("value.avro-confluent.url", &url),
            ("scan.bounded.mode", "latest-offset"),
        ],
    );
    spec.primary_key = vec!["id".into()];
    let mut batch = rows(&[1, 2, 4]);
    batch.kinds = Some(Int8Array::from(vec![2, 2, 2]));
    write(&spec, &batch).expect("written");
    let gone: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![2])), Arc::new(StringArray::from(vec![None::<&str>]))];
    let mut gone: Batch = RecordBatch::try_new(Arc::new(Schema::new(fields())), gone).expect("two columns").into();
    gone.kinds = Some(Int8Array::from(vec![3]));
    write(&spec, &gone).expect("written");
    let records = broker.records(&topic);
    assert_eq!(records.iter().filter(|r| r.value.is_none()).count(), 1);
    assert!(records.iter().all(|r| r.key.is_some()));
    assert_eq!(read(&spec).expect("read").0, ["1, v1", "2, null", "2, v2", "4, v4"]);
    assert_eq!(asked(&url, "GET", &format!("/subjects/{topic}-key/versions"), "").1, serde_json::json!([1]));
}

#[test]
fn a_topic_whose_schema_changed_on_the_way_is_one_table() {
    let Some((broker, url)) = servers() else { return };
    let topic = broker.topic("avro-changed", 1, &[]);
    let old = r#"{"type": "record", "name": "O", "fields": [{"name": "id", "type": "int"}]}"#;
    let new = r#"{"type": "record", "name": "O", "fields": [
        {"name": "v", "type": ["null", "string"], "default": null}, {"name": "more", "type": "double", "default": 0},
        {"name": "id", "type": "long"}]}"#;
    let (first, second) =
        (registered(&url, &format!("{topic}-value"), old), registered(&url, &format!("{topic}-value"), new));
    assert_ne!(first, second);
    let framed = |id: u32, rest: &[u8]| [&[0][..], &id.to_be_bytes(), rest].concat();
    let one = framed(first, &[2]);
    let two = framed(second, &[2, 2, b'x', 0, 0, 0, 0, 0, 0, 0, 0, 4]);
    produce(&broker, &topic, &[&one, &two, &one]);
    let spec = table(&broker, &url, &topic, fields(), &[]);
    assert_eq!(read(&spec).expect("read").0, ["1, null", "1, null", "2, x"]);
}

#[test]
fn a_record_without_a_schema_fails_with_its_place_is_set_aside_or_left_out() {
    let Some((broker, url)) = servers() else { return };
    let topic = broker.topic("avro-bad", 1, &[]);
    let id = registered(
        &url,
        &format!("{topic}-value"),
        r#"{"type": "record", "name": "B", "fields": [{"name": "id", "type": "int"}]}"#,
    );
    let good = [&[0][..], &id.to_be_bytes(), &[2]].concat();
    let text = registered(
        &url,
        &format!("{topic}-other"),
        r#"{"type": "record", "name": "T", "fields": [{"name": "id", "type": "string"}]}"#,
    );
    let other = [&[0][..], &text.to_be_bytes(), &[2, b'x']].concat();
    let unknown = [0, 0x7f, 0xff, 0xff, 0xf0, 2];
    produce(&broker, &topic, &[&good, &unknown, b"{\"id\": 1}", &other, &good]);
    let error = fails(read(&table(&broker, &url, &topic, fields(), &[])));
    let shown = format!("{error} {:?}", error.help());
    assert!(shown.contains(&format!("{topic}[0]@1")) && shown.contains("schema 2147483632"), "{shown}");
    assert!(shown.contains("'avro-confluent.ignore-parse-errors'"), "{shown}");
    let (rows, bad) =
        read(&table(&broker, &url, &topic, fields(), &[("millstream.bad-rows", "set-aside")])).expect("read");
    assert_eq!((rows.len(), bad.len()), (2, 3));
    assert!(bad[1].reason.contains("begins with the byte 123") && bad[1].place.0.ends_with("[0]@2"), "{bad:?}");
    assert!(bad[2].reason.contains("`id` was written as string, the table declares BIGINT"), "{bad:?}");
    assert_eq!(bad[2].raw, other);
    let ignoring = table(&broker, &url, &topic, fields(), &[("avro-confluent.ignore-parse-errors", "true")]);
    assert_eq!(read(&ignoring).expect("read").0.len(), 2);
}

#[test]
fn a_schema_that_the_subject_does_not_take_ends_the_start_with_the_registrys_reason() {
    let Some((broker, url)) = servers() else { return };
    let topic = broker.topic("avro-refused", 1, &[]);
    let subject = format!("{topic}-value");
    let (status, said) = asked(&url, "PUT", &format!("/config/{subject}"), r#"{"compatibility": "BACKWARD"}"#);
    if status == 404 {
        // Apicurio has a rule of a subject only once it has the subject.
        write(&table(&broker, &url, &topic, fields(), &[]), &rows(&[1])).expect("written");
        let (status, said) = asked(&url, "PUT", &format!("/config/{subject}"), r#"{"compatibility": "BACKWARD"}"#);
        assert_eq!(status, 200, "{said}");
    } else {
        assert_eq!(status, 200, "{said}");
        write(&table(&broker, &url, &topic, fields(), &[]), &rows(&[1])).expect("written");
    }
    let changed = vec![Field::new("id", DataType::Utf8, false), Field::new("v", DataType::Utf8, true)];
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a"])), Arc::new(StringArray::from(vec!["b"]))];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(changed.clone())), columns).expect("two columns").into();
    let error = fails(write(&table(&broker, &url, &topic, changed, &[]), &batch));
    let shown = format!("{error} {:?}", error.help());
    assert_eq!(error.kind(), ErrorKind::Usage, "{shown}");
    assert!(shown.contains(&subject) && shown.contains("not compatible"), "{shown}");
    // One that is there already may be used where none is registered, another may not.
    let looked_up = [("avro-confluent.properties.auto.register.schemas", "false")];
    write(&table(&broker, &url, &topic, fields(), &looked_up), &rows(&[2])).expect("written");
    let error =
        fails(write(&table(&broker, &url, &topic, vec![Field::new("n", DataType::Int32, true)], &looked_up), &batch));
    assert!(error.to_string().contains("does not have the table's schema"), "{error}");
}

#[test]
fn changes_of_a_topic_are_told_in_avro() {
    let Some((broker, url)) = servers() else { return };
    let topic = broker.topic("avro-changes", 1, &[]);
    let spec = broker.spec(
        "kafka",
        &topic,
        fields(),
        &[
            ("format", "debezium-avro-confluent"),
            ("debezium-avro-confluent.url", &url),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ],
    );
    let mut batch = rows(&[1, 1, 2, 2]);
    batch.kinds = Some(Int8Array::from(vec![1, 2, 0, 3]));
    write(&spec, &batch).expect("written");
    let (status, value) = asked(&url, "GET", &format!("/subjects/{topic}-value/versions/latest"), "");
    assert!(status == 200 && value["schema"].to_string().contains("before"), "{value}");
    let mut readers = Registry::new().open_source(&spec).and_then(|mut s| s.partitions(1)).expect("opened");
    let (mut kinds, mut ids, until) = (Vec::new(), Vec::new(), Instant::now() + PATIENCE);
    loop {
        assert!(Instant::now() < until, "no end; so far {kinds:?}");
        match readers[0].poll().expect("read") {
            Polled::End => break,
            Polled::Pending => std::thread::sleep(Duration::from_millis(1)),
            Polled::Rows(some) => {
                kinds.extend(some.kinds.expect("changes").values().iter().copied());
                ids.extend(some.rows.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().iter().copied());
            }
        }
    }
    // What is replaced is deleted, what is put there is new.
    assert_eq!((kinds, ids), (vec![3, 0, 0, 3], vec![1, 1, 2, 2]));
}

#[test]
fn plain_records_have_the_tables_schema() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("avro-plain", 1, &[]);
    let options =
        [("format", "avro"), ("scan.startup.mode", "earliest-offset"), ("scan.bounded.mode", "latest-offset")];
    let spec = broker.spec("kafka", &topic, fields(), &options);
    write(&spec, &rows(&[1, 3])).expect("written");
    produce(&broker, &topic, &[&[4, 2, 2, b'x']]);
    assert_eq!(read(&spec).expect("read").0, ["1, v1", "2, x", "3, null"]);
    // A part of the columns is read all the same.
    let mut part = spec.clone();
    part.projection = Some(vec![1]);
    assert_eq!(read(&part).expect("read").0, ["null", "v1", "x"]);
    produce(&broker, &topic, &[&[4, 2, 2, b'x', 0]]);
    let error = fails(read(&spec)).to_string();
    assert!(error.contains(&format!("{topic}[0]@3")) && error.contains("1 bytes follow"), "{error}");
}

#[test]
fn options_are_checked_before_anything_is_asked() {
    let options = [("format", "avro-confluent"), ("scan.startup.mode", "earliest-offset")];
    let spec = |more: &[(&str, &str)]| {
        let all = options.iter().chain(more);
        TableSpec {
            name: "t".into(),
            schema: Arc::new(Schema::new(fields())),
            projection: None,
            metadata: Vec::new(),
            options: [("connector", "kafka"), ("topic", "t"), ("properties.bootstrap.servers", "nobody:9092")]
                .iter()
                .chain(all)
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect(),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            place: None,
        }
    };
    let wrong = |more: &[(&str, &str)]| {
        let error = fails(Registry::new().validate(&spec(more), TableUse::Source));
        format!("{error} {:?}", error.help())
    };
    assert!(wrong(&[]).contains("needs the option 'avro-confluent.url'"));
    let url = ("avro-confluent.url", "http://localhost:8081");
    assert!(wrong(&[url, ("avro-confluent.subjekt", "x")]).contains("did you mean 'avro-confluent.subject'?"));
    Registry::new().validate(&spec(&[url]), TableUse::Source).expect("valid");
    Registry::new().validate(&spec(&[url]), TableUse::Sink).expect("valid");
}

const ORDER: &str = "syntax = \"proto3\"; package shop; import \"line.proto\"; message Other { int32 x = 1; }
message Order { int64 id = 1; string v = 2; Line line = 3; }";

fn registered_with(url: &str, subject: &str, body: serde_json::Value) -> u32 {
    let until = Instant::now() + PATIENCE;
    loop {
        let (status, answer) = asked(url, "POST", &format!("/subjects/{subject}/versions"), &body.to_string());
        if status == 200 {
            return answer["id"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("a number");
        }
        assert!(status == 500 && Instant::now() < until, "{status}: {answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn messages_go_through_a_topic_under_a_schema_that_the_registry_has() {
    let Some((broker, url)) = servers() else { return };
    let dir = tempfile::TempDir::new().expect("a folder");
    let file = dir.path().join("order.proto");
    let text = "syntax = \"proto3\";\n\npackage shop;\n\nmessage Other {\n  int32 x = 1;\n}\nmessage Order {\n  int64 id = 1;\n  optional string v = 2;\n}\n";
    std::fs::write(&file, text).expect("written");
    let topic = broker.topic("protobuf-registry", 1, &[]);
    let file = file.display().to_string();
    let options = [
        ("format", "protobuf-confluent"),
        ("protobuf-confluent.url", url.as_str()),
        ("protobuf-confluent.schema-file", file.as_str()),
        ("protobuf-confluent.message-name", "shop.Order"),
        ("scan.startup.mode", "earliest-offset"),
        ("scan.bounded.mode", "latest-offset"),
    ];
    let spec = broker.spec("kafka", &topic, fields(), &options);
    write(&spec, &rows(&[1, 2, 3, 1 << 40])).expect("written");
    let (status, value) = asked(&url, "GET", &format!("/subjects/{topic}-value/versions/latest"), "");
    assert_eq!((status, value["schemaType"].as_str()), (200, Some("PROTOBUF")), "{value}");
    let expected = ["1, v1", "1099511627776, v1099511627776", "2, v2", "3, null"];
    assert_eq!(read(&spec).expect("read").0, expected);
    // Without a description of its own a table reads them as well: each record names its schema, and its message in it.
    let bare = [options[0], options[1], options[4], options[5]];
    assert_eq!(read(&broker.spec("kafka", &topic, fields(), &bare)).expect("read").0, expected);
    // A table that reads another kind is told so.
    let avro = table(&broker, &url, &topic, fields(), &[]);
    let error = read(&avro).expect_err("another kind");
    assert!(error.to_string().contains("is PROTOBUF, and the table's format reads AVRO"), "{error}");
}

#[test]
fn schemas_that_refer_to_others_are_read_with_them() {
    let Some((broker, url)) = servers() else { return };
    let reference = |name: &str, subject: &str| serde_json::json!([{"name": name, "subject": subject, "version": 1}]);
    let name = broker.name("referred");
    // Of Avro: a type of another subject, by its name.
    let line =
        r#"{"type": "record", "name": "Line", "namespace": "shop", "fields": [{"name": "sku", "type": "string"}]}"#;
    registered_with(&url, &format!("{name}-avro"), serde_json::json!({ "schema": line }));
    let order = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [{"name": "id", "type": "long"}, {"name": "line", "type": "shop.Line"}]}"#;
    let avro = registered_with(
        &url,
        &format!("{name}-avro-order"),
        serde_json::json!({ "schema": order, "references": reference("shop.Line", &format!("{name}-avro")) }),
    );
    // Of Protobuf: a file that is imported.
    let line = "syntax = \"proto3\"; package shop; message Line { string sku = 1; }";
    registered_with(&url, &format!("{name}-proto"), serde_json::json!({ "schema": line, "schemaType": "PROTOBUF" }));
    let protobuf = registered_with(
        &url,
        &format!("{name}-proto-order"),
        serde_json::json!({ "schema": ORDER, "schemaType": "PROTOBUF", "references": reference("line.proto", &format!("{name}-proto")) }),
    );
    let line = DataType::Struct(vec![Field::new("sku", DataType::Utf8, true)].into());
    let columns = || vec![Field::new("id", DataType::Int64, true), Field::new("line", line.clone(), true)];
    let numbered = |id: u32, rest: &[u8]| [&[0][..], &id.to_be_bytes(), rest].concat();
    let topic = broker.topic("referred-avro", 1, &[]);
    produce(&broker, &topic, &[&numbered(avro, &[14, 4, b'a', b'b'])]);
    let (got, _) = read(&table(&broker, &url, &topic, columns(), &[])).expect("read");
    assert!(got.len() == 1 && got[0].starts_with("7, ") && got[0].contains("ab"), "{got:?}");
    let topic = broker.topic("referred-proto", 1, &[]);
    // Of the second message, `Order`: one step, to 1.
    produce(&broker, &topic, &[&numbered(protobuf, &[2, 2, 8, 7, 26, 4, 10, 2, b'a', b'b'])]);
    let options = [
        ("format", "protobuf-confluent"),
        ("protobuf-confluent.url", url.as_str()),
        ("scan.startup.mode", "earliest-offset"),
        ("scan.bounded.mode", "latest-offset"),
    ];
    let (got, _) = read(&broker.spec("kafka", &topic, columns(), &options)).expect("read");
    assert!(got.len() == 1 && got[0].starts_with("7, ") && got[0].contains("ab"), "{got:?}");
}
