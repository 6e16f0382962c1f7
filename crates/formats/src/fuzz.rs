//! What a fuzzer calls: any bytes go in, and only a broken promise panics.

use crate::changes::{Beyond, ChangeFormat, ChangeOptions, ChangesDecoder};
use crate::options::{CsvOptions, Header, JsonOptions};
use crate::parquet::ParquetReader;
use crate::{Decoder, OnBadRow, csv::CsvDecoder, json::JsonDecoder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

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
            from += decoded.consumed;
            assert!(from <= to, "more was consumed than was there");
            if forgetful {
                let mark = decoder.mark();
                decoder.start("other");
                decoder.resume("fuzz", &mark).expect("no header to be missed");
            }
            if decoded.consumed == 0 || from == to {
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
            let beyond = Beyond { metadata, by_key };
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
