use super::*;
use crate::text::Printer;
use crate::{Encoder, fuzz};
use arrow::array::*;
use arrow::datatypes::{DataType, Field, TimeUnit};
use millstream_core::{Batch, ErrorKind};
use proptest::prelude::*;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]))
}

fn decoder(options: CsvOptions, projection: &[usize], on_bad_row: OnBadRow) -> CsvDecoder {
    let mut decoder = CsvDecoder::new(options, schema(), projection, on_bad_row).expect("types are known");
    decoder.start("in.csv");
    decoder
}

/// Rows as text, and bad rows as `line: reason`.
fn read_all(decoder: &mut CsvDecoder, bytes: &[u8]) -> Result<(Vec<String>, Vec<String>, u64)> {
    let (mut rows, mut bad, mut skipped, mut at) = (Vec::new(), Vec::new(), 0, 0);
    while at < bytes.len() {
        let decoded = decoder.decode(&bytes[at..], true, 100)?;
        let printer = Printer::new(&decoded.rows)?;
        for row in 0..decoded.rows.num_rows() {
            let mut out = Vec::new();
            printer.write(row, &mut out);
            rows.push(String::from_utf8(out).expect("UTF-8"));
        }
        bad.extend(
            decoded.bad.iter().map(|b| format!("{} {} [{}]", b.place, b.reason, String::from_utf8_lossy(&b.raw))),
        );
        skipped += decoded.skipped;
        assert!(decoded.consumed > 0);
        at += decoded.consumed;
    }
    Ok((rows, bad, skipped))
}

fn read(options: CsvOptions, text: &str) -> (Vec<String>, Vec<String>) {
    let (rows, bad, _) =
        read_all(&mut decoder(options, &[0, 1, 2], OnBadRow::SetAside), text.as_bytes()).expect("set aside");
    (rows, bad)
}

#[test]
fn rows_come_out_as_they_stand() {
    let (rows, bad) =
        read(CsvOptions::default(), "1,ann,2013-01-01 10:15:00\r\n\n 2 ,\"b,\"\"o\"\"\nb\",2013-01-01T10:15:00.5Z\n,,");
    assert_eq!(rows, ["1, ann, 2013-01-01 10:15:00", "2, b,\"o\"\nb, 2013-01-01 10:15:00.5", "null, , null"]);
    assert!(bad.is_empty());
}

#[test]
fn a_bad_row_is_named_with_line_column_and_bytes() {
    let text =
        "1,a,2013-01-01 00:00:00\nx,b,2013-01-01 00:00:00\n\n3,\"c\nc\",2013-01-01 00:00:00\n4,d\n5,e,never\n6,\"f";
    let (rows, bad) = read(CsvOptions::default(), text);
    assert_eq!(rows, ["1, a, 2013-01-01 00:00:00", "3, c\nc, 2013-01-01 00:00:00"]);
    assert_eq!(
        bad,
        [
            "in.csv:2 column `id` holds `x`, the table declares BIGINT [x,b,2013-01-01 00:00:00]",
            "in.csv:6 the row has 2 fields, the table declares 3 [4,d]",
            "in.csv:7 column `at` holds `never`, the table declares TIMESTAMP(3) [5,e,never]",
            "in.csv:8 a quote is opened and not closed before the end of the file [6,\"f]",
        ]
    );
}

#[test]
fn a_bad_row_fails_by_default_and_says_what_to_do() {
    let mut decoder = decoder(CsvOptions::default(), &[0], OnBadRow::Fail);
    let e = read_all(&mut decoder, b"1,a,\n2x,b,\n").expect_err("the second row is bad");
    assert_eq!(e.kind(), ErrorKind::Data);
    assert_eq!(e.place().map(|p| p.0.as_str()), Some("in.csv:2"));
    let help = e.help().unwrap_or_default();
    assert!(
        help.contains("'csv.ignore-parse-errors' = 'true'") && help.contains("millstream.bad-rows.table"),
        "{help}"
    );
}

#[test]
fn errors_to_be_ignored_make_fields_null_and_leave_out_what_is_no_row() {
    let mut decoder = decoder(CsvOptions::default(), &[0, 1], OnBadRow::Skip);
    let (rows, bad, skipped) = read_all(&mut decoder, b"1,a,\nx,b,\n3\n4,d,\n").expect("skipped");
    assert_eq!(rows, ["1, a", "null, b", "4, d"]);
    assert!(bad.is_empty());
    assert_eq!(skipped, 2);
}

#[test]
fn a_header_is_skipped_where_it_is_one_and_matched_by_name_where_it_is_said() {
    let (rows, _) = read(CsvOptions::default(), "id,name,at\n1,a,\n");
    assert_eq!(rows, ["1, a, null"]);
    let (rows, bad) = read(CsvOptions { header: Header::No, ..CsvOptions::default() }, "id,name,at\n1,a,\n");
    assert_eq!((rows.len(), bad.len()), (1, 1));
    let yes = CsvOptions { header: Header::Yes, ..CsvOptions::default() };
    let (rows, _) = read(yes.clone(), "at,extra,name,id\n2013-01-01,zzz,a,7\n");
    assert_eq!(rows, ["7, a, 2013-01-01 00:00:00"]);
    let e = read_all(&mut decoder(yes, &[0, 1, 2], OnBadRow::Fail), b"id,nam,at\n1,a,\n").expect_err("no such column");
    assert_eq!(e.place().map(|p| p.0.as_str()), Some("in.csv:1"));
    assert!(e.help().is_some_and(|h| h.starts_with("did you mean `nam`?")), "{e}");
}

#[test]
fn the_options_of_flink_are_followed() {
    let options = CsvOptions {
        delimiter: b';',
        quote: Some(b'\''),
        escape: Some(b'\\'),
        null_literal: Some("n/a".into()),
        allow_comments: true,
        ..CsvOptions::default()
    };
    let (rows, bad) = read(options, "# said\n1;'a;\\'b';\n# more\n2;n/a;n/a\n");
    assert_eq!(rows, ["1, a;'b, null", "2, null, null"]);
    assert!(bad.is_empty());
    let (rows, _) = read(CsvOptions { quote: None, ..CsvOptions::default() }, "1,\"a,\n");
    assert_eq!(rows, ["1, \"a, null"]);
}

#[test]
fn bytes_that_are_no_text_make_a_bad_row_and_no_more() {
    let mut decoder = decoder(CsvOptions::default(), &[0, 1], OnBadRow::SetAside);
    let (rows, bad, _) = read_all(&mut decoder, b"1,ok,\n2,\xff\xfe,\n3,\xc3\xa4,\n").expect("set aside");
    assert_eq!(rows, ["1, ok", "3, ä"]);
    assert_eq!(bad.len(), 1);
    assert!(bad[0].contains("not UTF-8"), "{bad:?}");
}

#[test]
fn a_null_where_none_may_be_is_a_bad_row() {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let mut decoder = CsvDecoder::new(CsvOptions::default(), schema, &[0], OnBadRow::SetAside).expect("types");
    decoder.start("in.csv");
    let (rows, bad, _) = read_all(&mut decoder, b"1\n\"\"\nx\n").expect("set aside");
    assert_eq!(rows, ["1"]);
    assert_eq!(
        bad,
        [
            "in.csv:2 column `id` is NULL, the table declares BIGINT NOT NULL [\"\"]",
            "in.csv:3 column `id` holds `x`, the table declares BIGINT [x]"
        ]
    );
}

#[test]
fn no_column_asked_for_still_counts_rows() {
    let mut decoder = decoder(CsvOptions::default(), &[], OnBadRow::Fail);
    let decoded = decoder.decode(b"1,a,\n2,b,\n", true, 100).expect("fine");
    assert_eq!(decoded.rows.num_rows(), 2);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_field() {
    let (rows, bad) = read(CsvOptions::default(), "\u{feff}1,a,\n");
    assert_eq!(rows, ["1, a, null"], "{bad:?}");
}

#[test]
fn a_row_without_end_is_one_bad_row_however_it_arrives() {
    let mut text = b"1,a,\n2,\"".to_vec();
    text.resize(text.len() + RECORD_BYTES_MAX + 100, b'x');
    text.extend_from_slice(b"\n3,c,\n4,\"d\",\n");
    for step in [usize::MAX / 2, 3 << 20] {
        let mut decoder = decoder(CsvOptions::default(), &[0], OnBadRow::SetAside);
        assert_eq!(fuzz::drain(&mut decoder, &text, step, true), (3, 1), "in steps of {step}");
    }
    // The same where the end of the long row is there.
    let mut text = b"1,a,\n2,".to_vec();
    text.resize(text.len() + RECORD_BYTES_MAX + 100, b'x');
    text.extend_from_slice(b",\n3,c,\n");
    for step in [usize::MAX / 2, 3 << 20] {
        let mut decoder = decoder(CsvOptions::default(), &[0], OnBadRow::SetAside);
        assert_eq!(fuzz::drain(&mut decoder, &text, step, true), (2, 1), "in steps of {step}");
    }
}

#[test]
fn what_is_no_number_is_none() {
    for text in ["-", "+", ".", "e5", "1.2.3", "--1", "1,5", "0x10", "1_000", "١"] {
        for of in [DataType::Decimal128(10, 2), DataType::Float64, DataType::Int32] {
            let schema = Arc::new(Schema::new(vec![Field::new("n", of.clone(), true)]));
            let options = CsvOptions { delimiter: b';', ..CsvOptions::default() };
            let mut decoder = CsvDecoder::new(options, schema, &[0], OnBadRow::SetAside).expect("types");
            decoder.start("in.csv");
            let (rows, bad, _) = read_all(&mut decoder, text.as_bytes()).expect("set aside");
            assert_eq!((rows.len(), bad.len()), (0, 1), "`{text}` as {of}");
        }
    }
}

/// Rows of all types; strings with everything that CSV must quote.
pub(crate) fn any_rows() -> impl Strategy<Value = RecordBatch> {
    let text = proptest::option::of("[a-z,;\"'\n\r \\\\#ä{}\\[\\]:\u{1F600}]{0,8}");
    let number = proptest::option::of(any::<i32>());
    let time = proptest::option::of(-62_135_596_800_000i64..253_402_300_800_000);
    let decimal = proptest::option::of(-9_999_999_999i64..=9_999_999_999);
    let double = proptest::option::of(proptest::num::f64::NORMAL | proptest::num::f64::ZERO);
    let list = proptest::option::of(proptest::collection::vec(proptest::option::of(any::<i32>()), 0..4));
    let bytes = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..5));
    let row = (number, text, time, decimal, any::<Option<bool>>(), double, list, bytes);
    proptest::collection::vec(row, 0..20).prop_map(|rows| {
        let schema = fuzz::schema();
        let strings = StringArray::from_iter(rows.iter().map(|r| r.1.clone()));
        let bytes = BinaryArray::from_iter(rows.iter().map(|r| r.7.clone()));
        let DataType::Struct(fields) = schema.field(7).data_type().clone() else { unreachable!() };
        let struct_nulls = arrow::buffer::NullBuffer::from_iter(rows.iter().map(|r| r.0.is_some()));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_iter(rows.iter().map(|r| r.0))),
            Arc::new(strings.clone()),
            Arc::new(TimestampMillisecondArray::from_iter(rows.iter().map(|r| r.2))),
            Arc::new(
                Decimal128Array::from_iter(rows.iter().map(|r| r.3.map(i128::from)))
                    .with_precision_and_scale(10, 2)
                    .expect("ten digits"),
            ),
            Arc::new(BooleanArray::from_iter(rows.iter().map(|r| r.4))),
            Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.5))),
            Arc::new(ListArray::from_iter_primitive::<arrow::array::types::Int32Type, _, _>(
                rows.iter().map(|r| r.6.clone()),
            )),
            Arc::new(StructArray::new(fields, vec![Arc::new(strings), Arc::new(bytes)], Some(struct_nulls))),
        ];
        RecordBatch::try_new(schema, columns).expect("the columns fit")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn what_is_written_reads_back(rows in any_rows(), header: bool) {
        let options = CsvOptions {
            null_literal: Some("NULL".into()),
            header: if header { Header::Yes } else { Header::Unsaid },
            ..CsvOptions::default()
        };
        let mut encoder = CsvEncoder::new(options.clone(), rows.schema());
        let mut bytes = Vec::new();
        encoder.start(&mut bytes).expect("names can be written");
        encoder.encode(&Batch::from(rows.clone()), &mut bytes).expect("values can be written");
        let all: Vec<usize> = (0..rows.num_columns()).collect();
        let mut decoder = CsvDecoder::new(options, rows.schema(), &all, OnBadRow::Fail).expect("types are known");
        decoder.start("back.csv");
        let mut parts = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let decoded = decoder.decode(&bytes[at..], true, 7).map_err(|e| TestCaseError::fail(e.to_string()))?;
            at += decoded.consumed;
            parts.push(decoded.rows);
        }
        let back = arrow::compute::concat_batches(&rows.schema(), &parts).expect("one schema");
        prop_assert_eq!(back, rows);
    }

    #[test]
    fn any_bytes_become_rows_or_bad_rows(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz::csv(&bytes);
    }

    #[test]
    fn near_misses_become_rows_or_bad_rows(text in "([0-9]{0,3}|[a\"\n\r,]|2013-01-01|,,,,,,,\n|\\[1\\]|\\{\\}){0,20}") {
        fuzz::csv(text.as_bytes());
    }
}
