//! What a fuzzer calls: any bytes go in, and only a broken promise panics.

use crate::avro::{AvroDecoder, AvroEncoder, AvroOptions, CONFLUENT, Codec, ConfluentOptions, schema_of};
use crate::changes::{Beyond, ChangeFormat, ChangeOptions, ChangesDecoder};
use crate::options::{CsvOptions, Header, JsonOptions};
use crate::parquet::ParquetReader;
use crate::protobuf::{Files, PROTOBUF, PROTOBUF_CONFLUENT};
use crate::records::RecordOptions;
use crate::registry::{Registered, Schemas};
use crate::{Decoder, Encoder, OnBadRow, csv::CsvDecoder, json::JsonDecoder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_core::Batch;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// One column of each kind.
pub fn schema() -> SchemaRef {
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let row = vec![Field::new("x", DataType::Utf8, true), Field::new("y", DataType::Binary, true)];
    Arc::new(Schema::new(vec![
        Field::new("i", DataType::Int32, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("d", DataType::Decimal128(10, 2), true),
        Field::new("b", DataType::Boolean, true),
        Field::new("f", DataType::Float64, true),
        Field::new("l", DataType::List(item), true),
        Field::new("r", DataType::Struct(row.into()), true),
    ]))
}

/// Decodes with rows set aside, in steps of `step` bytes; returns how many rows and bad rows there were. `forgetful`: as
/// if a crash came after each step, and only the mark was left.
pub fn drain(decoder: &mut dyn Decoder, bytes: &[u8], step: usize, forgetful: bool) -> (usize, usize) {
    decoder.start("fuzz");
    let (mut from, mut to, mut rows, mut bad) = (0, 0, 0, 0);
    loop {
        to = (to + step.max(1)).min(bytes.len());
        let last = to == bytes.len();
        loop {
            let decoded = decoder.decode(&bytes[from..to], last, 64).expect("with rows set aside nothing fails");
            rows += decoded.rows.num_rows();
            assert!(decoded.kinds.is_none_or(|k| k.len() == decoded.rows.num_rows()), "each row has a kind");
            bad += decoded.bad.len();
            let gave = decoded.rows.num_rows() + decoded.bad.len();
            from += decoded.consumed;
            assert!(from <= to, "more was consumed than was there");
            if forgetful {
                let mark = decoder.mark();
                decoder.start("other");
                decoder.resume("fuzz", &mark).expect("no header to be missed");
            }
            let nothing = decoded.consumed == 0 && gave == 0;
            if nothing || from == to {
                break;
            }
        }
        if last {
            assert_eq!(from, bytes.len(), "at the end everything is consumed");
            return (rows, bad);
        }
    }
}

pub fn csv(bytes: &[u8]) {
    let schema = schema();
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let options = CsvOptions { header: Header::No, ..CsvOptions::default() };
    let Ok(mut decoder) = CsvDecoder::new(options, schema, &all, OnBadRow::SetAside) else { return };
    let whole = drain(&mut decoder, bytes, usize::MAX / 2, false);
    assert_eq!(
        whole,
        drain(&mut decoder, bytes, 7, true),
        "how the bytes are cut, or a crash between, shows in the rows"
    );
}

/// Also holds the decoder to its promise: every line that is not blank is a row or a bad row.
pub fn json(bytes: &[u8]) {
    let schema = schema();
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let Ok(mut decoder) = JsonDecoder::new(JsonOptions::default(), &schema, &all, OnBadRow::SetAside) else { return };
    let whole = drain(&mut decoder, bytes, usize::MAX / 2, false);
    assert_eq!(
        whole,
        drain(&mut decoder, bytes, 7, true),
        "how the bytes are cut, or a crash between, shows in the rows"
    );
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let lines = text.split(|&c| c == b'\n').filter(|l| !l.trim_ascii().is_empty()).count();
    assert_eq!(whole.0 + whole.1, lines, "a line is neither a row nor a bad row");
}

/// All formats of changes, with what they say beside their rows, whole and by key.
pub fn changes(bytes: &[u8]) {
    let schema = schema();
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    for format in ChangeFormat::ALL {
        for by_key in [Vec::new(), vec!["i".to_owned()]] {
            let Ok(options) = ChangeOptions::parse(format, &Default::default()) else { return };
            let mut metadata: Vec<(String, Field)> =
                format.metadata().into_iter().map(|f| (f.name().clone(), f)).collect();
            metadata.retain(|(key, _)| key != "source.properties");
            let beyond = Beyond { metadata, by_key, schemas: None };
            let decoder = ChangesDecoder::new(&options, &schema, &all, &beyond, OnBadRow::SetAside);
            let mut decoder = decoder.expect("the columns are there");
            let whole = drain(&mut decoder, bytes, usize::MAX / 2, false);
            assert_eq!(
                whole,
                drain(&mut decoder, bytes, 7, true),
                "how the bytes are cut, or a crash, shows in the rows"
            );
        }
    }
}

/// Reads `file` as Parquet, whatever it holds.
pub fn parquet(file: std::fs::File) {
    if let Ok(mut reader) = ParquetReader::open(file, "fuzz", &schema(), 0, 64) {
        while let Ok(Some(_)) = reader.next_rows() {}
    }
}

/// A file of Avro that holds [`schema`]'s columns, for mutants of it.
pub fn avro_file(codec: Codec) -> Vec<u8> {
    let schema = schema();
    let options = AvroOptions { codec, ..AvroOptions::default() };
    let mut encoder = AvroEncoder::new(&options, &schema).expect("Avro has these types");
    let mut json = JsonDecoder::new(JsonOptions::default(), &schema, &[0, 1, 2, 3, 4, 5, 6, 7], OnBadRow::Fail)
        .expect("and so has JSON");
    let text = br#"{"i":1,"s":"text","t":"2024-01-01 00:00:00","d":1.5,"b":true,"f":2.5,"l":[1,null,3],"r":{"x":"a","y":"Yg=="}}
{"i":-70000,"l":[]}
"#;
    let rows = json.decode(text, true, 64).expect("two rows").rows;
    let mut out = Vec::new();
    for _ in 0..2 {
        encoder.encode(&Batch::from(rows.clone()), &mut out).expect("written");
        encoder.drain(&mut out).expect("written");
    }
    out
}

/// As a file, whole and cut, and as records under each of the schemas that are known. A header may make the file unreadable; all
/// else is a row or a bad one.
pub fn avro(bytes: &[u8]) {
    let schema = schema();
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let open = || AvroDecoder::new(&schema, &all, OnBadRow::SetAside).expect("the columns are there");
    let mut decoder = open();
    decoder.start("fuzz");
    if let Ok(header) = decoder.decode(bytes, true, 64)
        && header.consumed > 0
    {
        let whole = drain(&mut open(), bytes, usize::MAX / 2, false);
        let cut = drain(&mut open(), bytes, 7, true);
        assert_eq!(whole, cut, "how the bytes are cut, or a crash between, shows in the rows");
    }
    let record = |options: &RecordOptions, beyond: &Beyond| {
        let mut decoder = options.decoder_beyond(&schema, &all, beyond, OnBadRow::SetAside).expect("a decoder");
        // The front of the bytes, all of them, and nothing.
        let records = [Some(0..bytes.len() / 2), Some(0..bytes.len()), None, Some(0..0)];
        let read = decoder.decode_records(bytes, &records).expect("faults are handed back");
        assert_eq!(read.rows.num_rows() + read.left_out.len(), records.len(), "a record is neither a row nor a fault");
    };
    record(&RecordOptions::Avro(AvroOptions::default()), &Beyond::default());
    let options = ConfluentOptions { name: CONFLUENT, schema: None, ignore_parse_errors: false };
    let beyond = Beyond { schemas: Some(Arc::new(AnySchema)), ..Beyond::default() };
    record(&RecordOptions::Confluent(options), &beyond);
    // And as the schema itself.
    if let Ok(text) = std::str::from_utf8(bytes) {
        let options = ConfluentOptions { name: CONFLUENT, schema: Some(text.to_owned()), ignore_parse_errors: false };
        let _ = options.check_written(&schema);
    }
}

/// Each number has a schema: one that is as the columns are, or one that is passed over for the most part.
#[derive(Debug)]
struct AnySchema;

impl Schemas for AnySchema {
    fn schema(&self, id: u32) -> millstream_core::Result<Result<Arc<Registered>, String>> {
        Ok(match id % 3 {
            0 => Ok(Registered::alone(schema_of(schema().fields(), true)?)),
            1 => Ok(Registered::alone(
                r#"{"type": "record", "name": "n", "fields": [
                {"name": "skip", "type": {"type": "map", "values": ["null", "n", {"type": "array", "items": "null"}]}},
                {"name": "i", "type": ["int", "null", "string"]},
                {"name": "s", "type": {"type": "enum", "name": "e", "symbols": ["a", "b"]}},
                {"name": "d", "type": {"type": "fixed", "name": "f", "size": 20, "logicalType": "decimal", "precision": 40}}]}"#,
            )),
            _ => Err("there is none".into()),
        })
    }
}

/// A message with a field of each kind, for mutants of it too.
pub const PROTO: &str = "syntax = \"proto2\"; package p; import \"google/protobuf/timestamp.proto\";
message M { optional int32 i = 1; required string s = 2; optional google.protobuf.Timestamp t = 3; optional uint64 d = 4 [default = 5];
  optional bool b = 5; optional double f = 6; repeated sint32 l = 7 [packed = true]; optional M r = 8; map<string, M> m = 9;
  oneof o { bytes x = 10; E e = 2000; } repeated M rs = 11; repeated E es = 12; map<int32, E> n = 13; repeated fixed32 q = 14;
  optional group G = 15 { optional int32 i = 1; } reserved 16 to 20; extensions 3000 to max; }
enum E { option allow_alias = true; A = 0; B = -1; C = 0; }";

/// One file under its path.
struct Just<'a>(&'a str, &'a [u8]);

impl Files for Just<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        Ok((path == self.0).then(|| self.1.to_vec()))
    }
}

fn described(name: &str, path: &str, file: &[u8]) -> millstream_core::Result<RecordOptions> {
    let options = [("schema-file", path), ("message-name", "p.M")];
    let options: BTreeMap<String, String> =
        options.iter().map(|(k, v)| (format!("{name}.{k}"), (*v).to_owned())).collect();
    RecordOptions::parse_with(name, "", &options, &Just(path, file))
}

static PROTOBUF_FORMAT: LazyLock<RecordOptions> =
    LazyLock::new(|| described(PROTOBUF, "m.proto", PROTO.as_bytes()).expect("a message"));
static PROTOBUF_NUMBERED: LazyLock<RecordOptions> =
    LazyLock::new(|| described(PROTOBUF_CONFLUENT, "m.proto", PROTO.as_bytes()).expect("a message"));

fn protobuf_schema() -> SchemaRef {
    let field = |name: &str, of: DataType| Field::new(name, of, true);
    let list = |of: DataType| DataType::List(Arc::new(field("item", of)));
    let map = |key: DataType, of: DataType| {
        let pair = vec![Field::new("key", key, false), field("value", of)];
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
    };
    let inner = [field("i", DataType::Int8), field("l", list(DataType::Int32)), field("s", DataType::Utf8)];
    let inner = DataType::Struct(inner.to_vec().into());
    Arc::new(Schema::new(vec![
        field("i", DataType::Int32),
        field("s", DataType::Utf8),
        field("t", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        field("d", DataType::Int64),
        field("b", DataType::Boolean),
        field("f", DataType::Float64),
        field("l", list(DataType::Int32)),
        field("r", inner.clone()),
        field("m", map(DataType::Utf8, inner.clone())),
        field("x", DataType::Binary),
        field("e", DataType::Utf8),
        field("rs", list(inner)),
        field("es", list(DataType::Int16)),
        field("n", map(DataType::Int32, DataType::Utf8)),
        field("q", list(DataType::Int64)),
    ]))
}

/// A record of [`PROTO`], by which others are made.
pub fn protobuf_record() -> Vec<u8> {
    let mut inner = vec![0x08, 5, 0x12, 1, b'y', 0x3a, 2, 1, 2];
    let mut record = vec![0x08, 0x96, 1, 0x12, 2, 0xc3, 0xa9, 0x1a, 4, 0x08, 9, 0x10, 7, 0x20, 1, 0x28, 1, 0x31];
    record.extend_from_slice(&2.5f64.to_le_bytes());
    record.extend_from_slice(&[0x3a, 3, 1, 2, 3, 0x38, 4, 0x42, inner.len() as u8]);
    record.extend_from_slice(&inner);
    record.extend_from_slice(&[0x4a, inner.len() as u8 + 5, 0x0a, 1, b'k', 0x12, inner.len() as u8]);
    record.extend_from_slice(&inner);
    record.extend_from_slice(&[0x52, 1, 7, 0x80, 0x7d, 0, 0x5a, inner.len() as u8]);
    record.append(&mut inner);
    record.extend_from_slice(&[0x62, 2, 0, 99, 0x6a, 4, 0x08, 1, 0x10, 0, 0x75, 1, 0, 0, 0, 0x7b, 0x08, 1, 0x7c]);
    record
}

/// As a message, with and without a number before it, and as a description of messages.
pub fn protobuf(bytes: &[u8]) {
    let schema = protobuf_schema();
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let beyond = Beyond { schemas: Some(Arc::new(AnyProto)), ..Beyond::default() };
    for format in [&*PROTOBUF_FORMAT, &*PROTOBUF_NUMBERED] {
        let mut decoder = format.decoder_beyond(&schema, &all, &beyond, OnBadRow::SetAside).expect("a decoder");
        // The front of the bytes, all of them, and nothing.
        let records = [Some(0..bytes.len() / 2), Some(0..bytes.len()), None, Some(0..0)];
        let read = decoder.decode_records(bytes, &records).expect("faults are handed back");
        assert_eq!(read.rows.num_rows() + read.left_out.len(), records.len(), "a record is neither a row nor a fault");
        // What was read can be written, and is then read as the same; but for times before 1970 that have no such bytes.
        if std::ptr::eq(format, &*PROTOBUF_FORMAT) && read.rows.num_rows() > 0 {
            let mut encoder = format.encoder(&schema).expect("an encoder");
            let wrote = encoder.encode_records(&read.rows, None).expect("what was read is fit to be written");
            let (mut laid, mut ranges) = (Vec::new(), Vec::new());
            for record in wrote.iter().flatten() {
                ranges.push(Some(laid.len()..laid.len() + record.len()));
                laid.extend_from_slice(record);
                laid.push(0);
            }
            let again = decoder.decode_records(&laid, &ranges).expect("faults are handed back");
            assert!(again.faults.is_empty() && again.rows.num_rows() == read.rows.num_rows(), "{:?}", again.faults);
        }
    }
    for path in ["m.proto", "m.desc"] {
        if let Ok(format) = described(PROTOBUF, path, bytes) {
            let _ = format.check(&schema);
        }
    }
}

/// Each number has the same schema.
#[derive(Debug)]
struct AnyProto;

impl Schemas for AnyProto {
    fn schema(&self, id: u32) -> millstream_core::Result<Result<Arc<Registered>, String>> {
        Ok(if id == 0 { Ok(Registered::alone(PROTO)) } else { Err("there is none".into()) })
    }
}
