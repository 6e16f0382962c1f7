use super::*;
use crate::text::Printer;
use crate::{Encoder, fuzz};
use arrow::datatypes::{DataType, TimeUnit};
use millstream_core::Batch;
use proptest::prelude::*;

fn schema() -> SchemaRef {
    let inner = vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)];
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("r", DataType::Struct(inner.into()), true),
    ]))
}

fn read_as(options: JsonOptions, on_bad_row: OnBadRow, text: &str) -> Result<(Vec<String>, Vec<String>, u64)> {
    let mut decoder = JsonDecoder::new(options, &schema(), &[0, 1, 2, 3, 4], on_bad_row)?;
    decoder.start("in.json");
    let (mut rows, mut bad, mut skipped, mut at) = (Vec::new(), Vec::new(), 0, 0);
    while at < text.len() {
        let decoded = decoder.decode(&text.as_bytes()[at..], true, 100)?;
        let printer = Printer::new(&decoded.rows)?;
        for row in 0..decoded.rows.num_rows() {
            let mut out = Vec::new();
            printer.write(row, &mut out);
            rows.push(String::from_utf8(out).expect("UTF-8"));
        }
        bad.extend(decoded.bad.iter().map(|b| format!("{} {}", b.place, b.reason)));
        skipped += decoded.skipped;
        assert!(decoded.consumed > 0);
        at += decoded.consumed;
    }
    Ok((rows, bad, skipped))
}

fn read(text: &str) -> (Vec<String>, Vec<String>) {
    let (rows, bad, _) = read_as(JsonOptions::default(), OnBadRow::SetAside, text).expect("set aside");
    (rows, bad)
}

#[test]
fn columns_go_by_name_and_numbers_may_be_text() {
    let (rows, bad) = read(concat!(
        r#"{"name":"ann","id":"7","at":"2013-01-01 10:15:00","extra":[1],"r":{"y":"z","x":1}}"#,
        "\r\n\n",
        r#"{"id":8,"name":3.5,"at":"2013-01-01T10:15:00.25Z","ok":"TRUE"}"#,
        "\n",
        r#"{"name":{"b":1,"a":[2]},"ok":false}"#
    ));
    assert!(bad.is_empty(), "{bad:?}");
    assert_eq!(
        rows,
        [
            "7, ann, 2013-01-01 10:15:00, null, +I[1, z]",
            "8, 3.5, 2013-01-01 10:15:00.25, true, null",
            "null, {\"b\":1,\"a\":[2]}, null, false, null"
        ]
    );
}

#[test]
fn a_bad_row_is_named_and_its_neighbours_are_read() {
    let mut text = String::new();
    for i in 0..50 {
        text += &match i {
            10 => "{\"id\":\"x\"}\n".to_owned(),
            20 => "{\"id\":1\n".to_owned(),
            21 => "}\n".to_owned(),
            30 => "{\"id\":30}{\"id\":30}\n".to_owned(),
            40 => "[1]\n".to_owned(),
            _ => format!("{{\"id\":{i}}}\n"),
        };
    }
    let (rows, bad) = read(&text);
    assert_eq!(rows.len(), 45);
    assert_eq!(bad[0], "in.json:11 column `id` holds `\"x\"`, the table declares BIGINT");
    assert!(bad[1].starts_with("in.json:21 the line is not valid JSON: EOF while parsing an object"), "{}", bad[1]);
    assert!(bad[2].starts_with("in.json:22 the line is not valid JSON"));
    assert!(bad[3].starts_with("in.json:31 the line is not valid JSON: trailing characters"));
    assert_eq!(bad[4], "in.json:41 a row must be a JSON object, the line holds `[1]`");
}

#[test]
fn errors_to_be_ignored_make_fields_null() {
    let options = JsonOptions { ignore_parse_errors: true, ..JsonOptions::default() };
    let (rows, _, skipped) =
        read_as(options, OnBadRow::Skip, "{\"id\":\"x\",\"name\":\"a\"}\nnonsense\n{\"id\":2}\n").expect("skipped");
    assert_eq!(rows, ["null, a, null, null, null", "2, null, null, null, null"]);
    assert_eq!(skipped, 2);
}

#[test]
fn a_missing_field_fails_where_the_table_says_so() {
    let options = JsonOptions { fail_on_missing_field: true, ..JsonOptions::default() };
    let text = "{\"id\":1,\"name\":null,\"at\":null,\"ok\":null,\"r\":null}\n{\"id\":2,\"name\":\"b\",\"at\":null,\"ok\":true}\n";
    let (rows, bad, _) = read_as(options, OnBadRow::SetAside, text).expect("set aside");
    assert_eq!(rows.len(), 1);
    assert_eq!(bad, ["in.json:2 column `r` is missing"]);
}

#[test]
fn no_column_asked_for_still_counts_rows() {
    let mut decoder = JsonDecoder::new(JsonOptions::default(), &schema(), &[], OnBadRow::SetAside).expect("types");
    decoder.start("in.json");
    let decoded = decoder.decode(b"{\"id\":1}\nnot json\n{}\n", true, 100).expect("set aside");
    assert_eq!((decoded.rows.num_rows(), decoded.bad.len()), (2, 1));
}

#[test]
fn a_row_without_end_is_one_bad_row_however_it_arrives() {
    let mut text = b"{\"id\":1}\n{\"name\":\"".to_vec();
    text.resize(text.len() + RECORD_BYTES_MAX + 100, b'x');
    text.extend_from_slice(b"\"}\n{\"id\":2}\n");
    for step in [usize::MAX / 2, 3 << 20] {
        let mut decoder = JsonDecoder::new(JsonOptions::default(), &schema(), &[0], OnBadRow::SetAside).expect("types");
        assert_eq!(fuzz::drain(&mut decoder, &text, step, true), (2, 1), "in steps of {step}");
    }
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let deep = format!("{{\"id\":{}1{}}}\n{{\"id\":1}}\n", "[".repeat(200_000), "]".repeat(200_000));
    let (rows, bad) = read(&deep);
    assert_eq!((rows.len(), bad.len()), (1, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn what_is_written_reads_back(rows in crate::csv::tests_rows(), iso_8601: bool, ignore_null_fields: bool) {
        let options = JsonOptions { iso_8601, ignore_null_fields, ..JsonOptions::default() };
        let mut encoder = JsonEncoder::new(options.clone(), rows.schema());
        let mut bytes = Vec::new();
        encoder.encode(&Batch::from(rows.clone()), &mut bytes).expect("values can be written");
        let all: Vec<usize> = (0..rows.num_columns()).collect();
        let mut decoder = JsonDecoder::new(options, &rows.schema(), &all, OnBadRow::Fail).expect("types are known");
        decoder.start("back.json");
        let mut parts = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let decoded = decoder.decode(&bytes[at..], true, 7).map_err(|e| TestCaseError::fail(e.to_string()))?;
            at += decoded.consumed;
            parts.push(decoded.rows);
        }
        let back = concat_batches(&rows.schema(), &parts).expect("one schema");
        prop_assert_eq!(back, rows);
    }

    #[test]
    fn any_bytes_become_rows_or_bad_rows(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz::json(&bytes);
    }

    #[test]
    fn near_misses_become_rows_or_bad_rows(
        text in r#"(\{"i":|\{|\}|\[|\]|"s":"a"|"l":\[1|"r":\{|,|:|1|\n|"|\\|null|true|"t":"2013-01-01"){0,24}"#
    ) {
        fuzz::json(text.as_bytes());
    }
}
