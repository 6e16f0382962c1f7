use super::*;
use crate::OnBadRow;
use crate::records::{RecordOptions, Records};
use crate::{Decoder, fuzz};
use arrow::array::{ArrayRef, BooleanArray, Int8Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_core::ChangeKind;
use proptest::prelude::*;
use std::sync::Arc;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]))
}

fn options(name: &str, more: &[(&str, &str)]) -> RecordOptions {
    let more = more.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    RecordOptions::parse(name, "", &more).expect("valid options")
}

/// `+I 1 ann NULL`, one for each row.
fn shown(rows: &RecordBatch, kinds: &Int8Array) -> Vec<String> {
    let format = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> =
        rows.columns().iter().map(|c| ArrayFormatter::try_new(c, &format).expect("a plain type")).collect();
    (0..rows.num_rows())
        .map(|row| {
            let kind = ChangeKind::from_code(kinds.value(row)).short();
            columns.iter().fold(kind.to_owned(), |text, c| format!("{text} {}", c.value(row)))
        })
        .collect()
}

fn decode_with(options: &RecordOptions, beyond: &Beyond, mode: OnBadRow, records: &[Option<&str>]) -> Records {
    let mut bytes = Vec::new();
    let ranges: Vec<_> = records
        .iter()
        .map(|record| {
            record.map(|record| {
                let start = bytes.len();
                bytes.extend_from_slice(record.as_bytes());
                bytes.push(b'\n');
                start..start + record.len()
            })
        })
        .collect();
    let mut decoder = options.decoder_beyond(&schema(), &[0, 1, 2], beyond, mode).expect("a decoder");
    decoder.decode_records(&bytes, &ranges).expect("faults are handed back")
}

fn decode(options: &RecordOptions, records: &[Option<&str>]) -> Records {
    decode_with(options, &Beyond::default(), OnBadRow::SetAside, records)
}

fn rows(read: &Records) -> Vec<String> {
    shown(&read.rows, &read.changes.as_ref().expect("changes").kinds)
}

#[test]
fn debezium_tells_before_and_after() {
    let debezium = options("debezium-json", &[]);
    let read = decode(
        &debezium,
        &[
            Some(
                r#"{"before":null,"after":{"id":1,"name":"ann","at":"2026-01-01 10:00:00"},"source":{"db":"x"},"op":"c","ts_ms":5}"#,
            ),
            Some(r#"{"op": "r", "after": {"name": "bob", "more": [1, {"op": "d"}], "id": 2}}"#),
            None,
            Some(
                "{\"before\":{\"id\":1,\"name\":\"ann\",\"at\":\"2026-01-01T10:00:00\"},\n \"after\":{\"id\":1},\n \"op\":\"u\"\n}",
            ),
            Some(""),
            Some(r#"{"before":{"id":2,"name":"bob"},"after":null,"op":"d"}"#),
            None,
        ],
    );
    assert_eq!(
        rows(&read),
        [
            "+I 1 ann 2026-01-01T10:00:00",
            "+I 2 bob NULL",
            "-U 1 ann 2026-01-01T10:00:00",
            "+U 1 NULL NULL",
            "-D 2 bob NULL"
        ]
    );
    assert_eq!(read.changes.expect("changes").of, [0, 1, 3, 3, 5]);
    assert_eq!((read.faults.len(), read.left_out.len(), read.skipped), (0, 0, 0));
}

#[test]
fn an_envelope_may_stand_in_a_payload() {
    let record = r#"{"schema":{"type":"struct"},"payload":{"after":{"id":1,"name":"a"},"op":"c"}}"#;
    let with = decode(&options("debezium-json", &[("debezium-json.schema-include", "true")]), &[Some(record)]);
    assert_eq!(rows(&with), ["+I 1 a NULL"]);
    let without = decode(&options("debezium-json", &[]), &[Some(record)]);
    assert!(without.faults[0].1.contains("'debezium-json.schema-include' = 'true'"), "{:?}", without.faults);
}

/// Each of these is a fault with these words in it, and takes no other record with it.
#[test]
fn a_record_that_cannot_be_read_is_named_and_gives_no_row() {
    let cases = [
        ("debezium-json", r#"{"before":null,"after":{"id":1},"op":"u"}"#, "REPLICA IDENTITY FULL"),
        ("debezium-json", r#"{"before":null,"after":null,"op":"d"}"#, "cdc-events-duplicate"),
        ("debezium-json", r#"{"after":null,"op":"c"}"#, "`after` is missing"),
        ("debezium-json", r#"{"after":{"id":1},"op":"t"}"#, "`op` is `t`"),
        ("debezium-json", r#"{"after":{"id":1},"op":7}"#, "`op` is no text"),
        ("debezium-json", r#"{"id":1}"#, "does not say in `op`"),
        ("debezium-json", r#"{"after":{"id":"x"},"op":"c"}"#, "column `id` holds `\"x\"`, the table declares BIGINT"),
        ("debezium-json", r#"{"before":{"id":1},"after":{"id":"x"},"op":"u"}"#, "column `id` holds"),
        (
            "debezium-json",
            r#"{"after":{"name":"x"},"op":"c"}"#,
            "column `id` is NULL, the table declares BIGINT NOT NULL",
        ),
        ("debezium-json", r#"{"after":[1],"op":"c"}"#, "must be a JSON object"),
        ("debezium-json", r#"{"after":{"id":1},"op":"c""#, "not valid JSON"),
        ("debezium-json", r#"{"after":{"id":1},"op":"c"} 1"#, "not valid JSON"),
        ("debezium-json", "[1]", "must be a JSON object"),
        ("maxwell-json", r#"{"data":{"id":1},"type":"update"}"#, "`old` is missing"),
        ("maxwell-json", r#"{"data":{"id":1},"type":"table-drop"}"#, "there are insert, update, delete"),
        ("maxwell-json", r#"{"type":"insert"}"#, "`data` is missing"),
        ("canal-json", r#"{"data":{"id":1},"type":"INSERT"}"#, "`data` is no JSON array"),
        ("canal-json", r#"{"data":[{"id":1},{"id":2}],"old":[{"id":3}],"type":"UPDATE"}"#, "`old` is missing"),
        ("canal-json", r#"{"data":[{"id":1}],"type":"TRUNCATE"}"#, "`type` is `TRUNCATE`"),
    ];
    for (format, record, words) in cases {
        let good = match format {
            "debezium-json" => r#"{"after":{"id":7},"op":"c"}"#,
            "maxwell-json" => r#"{"data":{"id":7},"type":"insert"}"#,
            _ => r#"{"data":[{"id":7}],"type":"INSERT"}"#,
        };
        let read = decode(&options(format, &[]), &[Some(good), Some(record), Some(good)]);
        assert_eq!(rows(&read), ["+I 7 NULL NULL", "+I 7 NULL NULL"], "{record}");
        assert_eq!(read.left_out, [1], "{record}");
        assert!(read.faults[0].1.contains(words), "{record}: {:?}", read.faults);
    }
}

#[test]
fn maxwell_says_of_an_old_row_what_was_different() {
    let read = decode(
        &options("maxwell-json", &[]),
        &[
            Some(r#"{"database":"d","table":"t","type":"insert","ts":1,"data":{"id":1,"name":"ann","at":null}}"#),
            Some(
                r#"{"type":"update","data":{"id":1,"name":"eve","at":"2026-01-01 00:00:01"},"old":{"name":"ann","at":null}}"#,
            ),
            Some(r#"{"type":"update","data":{"id":3,"name":null},"old":{"id":1,"n\u0061me":"eve"}}"#),
            Some(r#"{"type":"delete","data":{"id":3}}"#),
        ],
    );
    assert_eq!(
        rows(&read),
        [
            "+I 1 ann NULL",
            // NULL there is NULL, and not what it is now.
            "-U 1 ann NULL",
            "+U 1 eve 2026-01-01T00:00:01",
            "-U 1 eve NULL",
            "+U 3 NULL NULL",
            "-D 3 NULL NULL"
        ]
    );
}

#[test]
fn canal_tells_of_many_rows_and_only_of_the_tables_asked_for() {
    let canal =
        options("canal-json", &[("canal-json.database.include", "shop.*"), ("canal-json.table.include", "orders")]);
    let read = decode(
        &canal,
        &[
            Some(
                r#"{"data":[{"id":"1","name":"a"},{"id":"2","name":"b"}],"old":null,"database":"shop1","table":"orders","type":"INSERT"}"#,
            ),
            Some(
                r#"{"data":[{"id":"1","name":"x"},{"id":"2","name":"y"}],"old":[{"name":"a"},{"name":"b"}],"database":"shop1","table":"orders","type":"UPDATE"}"#,
            ),
            Some(r#"{"data":[{"id":"9"}],"database":"shop1","table":"orders_old","type":"INSERT"}"#),
            Some(r#"{"data":[{"id":"9"}],"database":"old_shop","table":"orders","type":"INSERT"}"#),
            Some(r#"{"data":null,"database":"shop1","table":"orders","type":"CREATE","isDdl":true}"#),
            Some(r#"{"data":[{"id":"2","name":"y"}],"database":"shop1","table":"orders","type":"DELETE"}"#),
        ],
    );
    let expected = ["+I 1 a", "+I 2 b", "-U 1 a", "+U 1 x", "-U 2 b", "+U 2 y", "-D 2 y"].map(|r| format!("{r} NULL"));
    assert_eq!(rows(&read), expected);
    assert!(read.faults.is_empty(), "{:?}", read.faults);
    let wrong = [("canal-json.table.include".to_owned(), "(".to_owned())].into();
    assert!(RecordOptions::parse("canal-json", "", &wrong).expect_err("no pattern").what().contains("table.include"));
}

#[test]
fn by_key_an_old_row_need_not_be_told() {
    let beyond = Beyond { by_key: vec!["id".into()], ..Beyond::default() };
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, false),
    ]));
    let debezium = options("debezium-json", &[]);
    let read = |record: &str| {
        let mut decoder =
            debezium.decoder_beyond(&schema, &[0, 1], &beyond, OnBadRow::SetAside).expect("the key is read");
        let read = decoder.decode_records(record.as_bytes(), &[Some(0..record.len())]).expect("decoded");
        let faults: Vec<String> = read.faults.iter().map(|f| f.1.clone()).collect();
        (rows(&read), faults.join(";"))
    };
    let told = |rows: &[&str]| (rows.iter().map(ToString::to_string).collect::<Vec<_>>(), String::new());
    assert_eq!(read(r#"{"before":null,"after":{"id":1,"name":"b"},"op":"u"}"#), told(&["+U 1 b"]));
    assert_eq!(read(r#"{"before":{"id":1},"after":{"id":1,"name":"b"},"op":"u"}"#), told(&["+U 1 b"]));
    // The row moves to another key.
    assert_eq!(read(r#"{"before":{"id":1},"after":{"id":2,"name":"b"},"op":"u"}"#), told(&["-D 1 NULL", "+U 2 b"]));
    assert_eq!(read(r#"{"before":{"id":1},"op":"d"}"#), told(&["-D 1 NULL"]));
    assert!(read(r#"{"before":{"name":"b"},"op":"d"}"#).1.contains("column `id` is NULL"));
    assert!(read(r#"{"before":{"id":1},"after":{"id":2},"op":"u"}"#).1.contains("column `name` is NULL"));
}

#[test]
fn what_cannot_be_read_is_left_out_where_the_table_says_so() {
    let lenient = options("debezium-json", &[("debezium-json.ignore-parse-errors", "true")]);
    assert!(lenient.ignores_errors());
    let records =
        [Some(r#"{"after":{"id":1,"at":"soon"},"op":"c"}"#), Some("nonsense"), Some(r#"{"after":{"id":2},"op":"c"}"#)];
    let read = decode_with(&lenient, &Beyond::default(), OnBadRow::Skip, &records);
    assert_eq!(rows(&read), ["+I 1 NULL NULL", "+I 2 NULL NULL"]);
    assert_eq!((read.skipped, read.faults.len()), (1, 1));
}

#[test]
fn a_record_says_where_and_when_its_rows_changed() {
    let wanted = |format: ChangeFormat, keys: &[&str]| {
        let all = format.metadata();
        let field = |key: &str| all.iter().find(|f| f.name() == key).expect("a key").clone();
        Beyond { metadata: keys.iter().map(|k| (k.to_string(), field(k))).collect(), ..Beyond::default() }
    };
    let records = [
        Some(
            r#"{"before":{"id":1},"after":{"id":2},"op":"u","ts_ms":2000,"source":{"ts_ms":1000,"db":"d","table":"t","lsn":7}}"#,
        ),
        Some(r#"{"after":{"id":3},"op":"c","source":null}"#),
        Some(r#"{"after":{"id":4},"op":"c","source":{"ts_ms":"x"}}"#),
    ];
    let beyond = wanted(ChangeFormat::Debezium, &["source.timestamp", "ingestion-timestamp", "source.table"]);
    let read = decode_with(&options("debezium-json", &[]), &beyond, OnBadRow::SetAside, &records);
    assert_eq!(
        rows(&read),
        [
            "-U 1 NULL NULL 1970-01-01T00:00:01Z 1970-01-01T00:00:02Z t",
            "+U 2 NULL NULL 1970-01-01T00:00:01Z 1970-01-01T00:00:02Z t",
            "+I 3 NULL NULL NULL NULL NULL"
        ]
    );
    assert_eq!(read.left_out, [2]);
    let beyond = wanted(ChangeFormat::Debezium, &["source.properties"]);
    let read = decode_with(&options("debezium-json", &[]), &beyond, OnBadRow::SetAside, &records[..1]);
    assert!(rows(&read)[0].contains("lsn: 7"), "{:?}", rows(&read));
    let beyond = wanted(ChangeFormat::Canal, &["database", "pk-names", "sql-type", "ingestion-timestamp"]);
    let record =
        r#"{"data":[{"id":"1"}],"type":"INSERT","database":"d","pkNames":["id"],"sqlType":{"id":-5},"ts":3000}"#;
    let read = decode_with(&options("canal-json", &[]), &beyond, OnBadRow::SetAside, &[Some(record)]);
    assert_eq!(rows(&read), ["+I 1 NULL NULL d [id] {id: -5} 1970-01-01T00:00:03Z"]);
    let beyond = wanted(ChangeFormat::Maxwell, &["table", "primary-key-columns", "ingestion-timestamp"]);
    let record = r#"{"data":{"id":1},"type":"insert","table":"t","primary_key_columns":["id"],"ts":3}"#;
    let read = decode_with(&options("maxwell-json", &[]), &beyond, OnBadRow::SetAside, &[Some(record)]);
    assert_eq!(rows(&read), ["+I 1 NULL NULL t [id] 1970-01-01T00:00:03Z"]);
}

#[test]
fn lines_of_a_file_say_where_they_are() {
    let debezium = ChangeOptions::parse(ChangeFormat::Debezium, &Default::default()).expect("no options");
    let text = b"{\"after\":{\"id\":1},\"op\":\"c\"}\n\n{\"before\":{\"id\":1},\"after\":{\"id\":2},\"op\":\"u\"}\nx\n";
    let make = |mode| ChangesDecoder::new(&debezium, &schema(), &[0], &Beyond::default(), mode).expect("a decoder");
    let mut decoder = make(OnBadRow::SetAside);
    Decoder::start(&mut decoder, "f.json");
    let read = decoder.decode(text, true, 100).expect("set aside");
    assert_eq!(shown(&read.rows, &read.kinds.expect("changes")), ["+I 1", "-U 1", "+U 2"]);
    assert_eq!((read.bad[0].place.to_string().as_str(), read.consumed), ("f.json:4", text.len()));
    let mut strict = make(OnBadRow::Fail);
    Decoder::start(&mut strict, "f.json");
    let e = strict.decode(text, true, 100).expect_err("the fourth line");
    assert!(e.place().is_some_and(|p| p.to_string() == "f.json:4"), "{e}");
    assert!(e.help().is_some_and(|h| h.contains("debezium-json.ignore-parse-errors")), "{e}");
    for step in [1, 3, 17] {
        assert_eq!(fuzz::drain(&mut make(OnBadRow::SetAside), text, step, true), (3, 1), "in steps of {step}");
    }
}

fn encoded(format: &str, more: &[(&str, &str)], rows: &RecordBatch, kinds: &Int8Array) -> Vec<String> {
    let mut encoder = options(format, more).encoder(rows.schema_ref()).expect("an encoder");
    let records = encoder.encode_records(rows, Some(kinds)).expect("encoded");
    records.iter().map(|r| String::from_utf8(r.expect("never NULL").to_vec()).expect("UTF-8")).collect()
}

#[test]
fn changes_are_written_as_flink_writes_them() {
    let (ids, names): (ArrayRef, ArrayRef) = (
        Arc::new(Int64Array::from(vec![1, 1, 1, 1])),
        Arc::new(StringArray::from(vec![Some("a"), Some("a"), None, None])),
    );
    let rows = RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("name", names, true)]).expect("columns");
    let kinds = Int8Array::from(vec![0, 1, 2, 3]);
    assert_eq!(
        encoded("debezium-json", &[], &rows, &kinds),
        [
            r#"{"before":null,"after":{"id":1,"name":"a"},"op":"c"}"#,
            r#"{"before":{"id":1,"name":"a"},"after":null,"op":"d"}"#,
            r#"{"before":null,"after":{"id":1,"name":null},"op":"c"}"#,
            r#"{"before":{"id":1,"name":null},"after":null,"op":"d"}"#,
        ]
    );
    let short = encoded("debezium-json", &[("debezium-json.encode.ignore-null-fields", "true")], &rows, &kinds);
    assert_eq!(short[2..], [r#"{"after":{"id":1},"op":"c"}"#, r#"{"before":{"id":1},"op":"d"}"#]);
    assert_eq!(encoded("maxwell-json", &[], &rows, &kinds)[1], r#"{"data":{"id":1,"name":"a"},"type":"delete"}"#);
    assert_eq!(encoded("canal-json", &[], &rows, &kinds)[0], r#"{"data":[{"id":1,"name":"a"}],"type":"INSERT"}"#);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// What is written is read back, and as one record at a time as well as all at once.
    #[test]
    fn what_is_written_is_read_back(
        rows in prop::collection::vec((any::<i64>(), prop::option::of("[a-c\"\\\\{}\\[\\],: \u{e9}\n]{0,6}"), prop::option::of(any::<bool>()), 0i8..4), 0..40),
        format in prop::sample::select(vec!["debezium-json", "maxwell-json", "canal-json"]),
    ) {
        let columns: [(&str, ArrayRef, bool); 3] = [
            ("id", Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Int64Array>()), false),
            ("a\"b", Arc::new(rows.iter().map(|r| r.1.clone()).collect::<StringArray>()), true),
            ("yes", Arc::new(rows.iter().map(|r| r.2).collect::<BooleanArray>()), true),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).expect("columns");
        let kinds: Int8Array = rows.iter().map(|r| Some(r.3)).collect();
        let records = encoded(format, &[], &batch, &kinds);
        let mut decoder =
            options(format, &[]).decoder(batch.schema_ref(), &[0, 1, 2], OnBadRow::Fail).expect("a decoder");
        let bytes = records.concat().into_bytes();
        let mut at = 0;
        let ranges: Vec<_> = records.iter().map(|r| { at += r.len(); Some(at - r.len()..at) }).collect();
        let read = decoder.decode_records(&bytes, &ranges).expect("decoded");
        prop_assert!(read.faults.is_empty(), "{:?}", read.faults);
        prop_assert_eq!(&read.rows, &batch);
        let changes = read.changes.expect("changes");
        // An update is told as its two halves.
        let halves: Vec<i8> = rows.iter().map(|r| if r.3 == 1 || r.3 == 3 { 3 } else { 0 }).collect();
        prop_assert_eq!(changes.kinds.values().to_vec(), halves);
        for (i, range) in ranges.iter().enumerate() {
            let one = decoder.decode_records(&bytes, std::slice::from_ref(range)).expect("decoded");
            prop_assert_eq!(one.rows, batch.slice(i, 1));
        }
    }

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::changes(&bytes);
    }

    #[test]
    fn no_text_like_a_record_breaks_it(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\n", " ", "null", "1", "\"c\"", "\"u\"", "\"INSERT\"", "\"update\"", "\"type\":", "\"op\":",
            "\"before\":", "\"after\":", "\"data\":", "\"old\":", "\"i\":1", "\"s\":\"x\"", "\"\\", "\"source\":{\"ts_ms\":1}",
            "{\"after\":{\"i\":1},\"op\":\"c\"}\n", "{\"before\":{\"i\":1},\"after\":{\"i\":2},\"op\":\"u\"}\n",
            "{\"data\":{\"i\":1},\"old\":{\"i\":2},\"type\":\"update\"}\n", "{\"data\":[{\"i\":1},{\"i\":2}],\"old\":[{},{\"s\":\"y\"}],\"type\":\"UPDATE\"}\n",
        ]), 0..24),
    ) {
        fuzz::changes(parts.concat().as_bytes());
    }
}
