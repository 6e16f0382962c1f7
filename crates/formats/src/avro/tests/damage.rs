//! Bytes that are not what they should be: nothing panics, nothing is made of what is only claimed, and neighbours stay whole.

use super::super::wire::{NOTHINGS_MAX, put_long};
use super::*;

fn one_field(of: &str) -> String {
    format!(r#"{{"type": "record", "name": "r", "fields": [{{"name": "f", "type": {of}}}]}}"#)
}

fn list(of: DataType) -> SchemaRef {
    columns(&[("f", DataType::List(Arc::new(Field::new("item", of, true))), true)])
}

#[test]
fn an_array_that_claims_more_than_is_there_is_damage_and_takes_no_time() {
    // Were 2^60 items made or passed over one by one, this would not end.
    for (items, table) in [
        (r#"{"type": "array", "items": "long"}"#, list(DataType::Int64)),
        (r#"{"type": "array", "items": "null"}"#, list(DataType::Int64)),
        (
            r#"{"type": "array", "items": {"type": "record", "name": "e", "fields": []}}"#,
            list(DataType::Struct(Vec::<Field>::new().into())),
        ),
        (r#"{"type": "array", "items": {"type": "fixed", "name": "z", "size": 0}}"#, list(DataType::Binary)),
        // Passed over and not read.
        (r#"{"type": "array", "items": "null"}"#, columns(&[("g", DataType::Int32, true)])),
        (r#"{"type": "map", "values": "null"}"#, columns(&[("g", DataType::Int32, true)])),
    ] {
        for count in [1i64 << 60, -(1 << 60), i64::MAX, i64::MIN, NOTHINGS_MAX as i64 + 1] {
            let mut record = Vec::new();
            put_long(count, &mut record);
            if count < 0 {
                put_long(1 << 60, &mut record);
            }
            let read = read_one(&one_field(items), &table, &record);
            assert_eq!((read.rows.num_rows(), read.faults.len()), (0, 1), "{items} {count}");
        }
    }
}

#[test]
fn lengths_that_are_negative_or_too_long_are_damage() {
    let table = columns(&[("f", DataType::Utf8, true)]);
    for length in [-1i64, 4, i64::MAX, i64::MIN] {
        let mut record = Vec::new();
        put_long(length, &mut record);
        record.extend_from_slice(b"abc");
        let read = read_one(&one_field(r#""string""#), &table, &record);
        assert!(read.faults[0].1.starts_with("the record is not what its schema says"), "{:?}", read.faults);
        assert!(read.faults[0].1.contains("`f`"), "{:?}", read.faults);
    }
    // A number of eleven bytes.
    let read = read_one(&one_field(r#""long""#), &columns(&[("f", DataType::Int64, true)]), &[0xff; 11]);
    assert!(read.faults[0].1.contains("longer than 64 bits"), "{:?}", read.faults);
}

#[test]
fn types_of_nothing_that_multiply_do_not_hold_up_the_reader() {
    // r0 has two of r1, which has two of r2, and so on: 2^40 values of no bytes.
    let mut of = r#"{"type": "record", "name": "r40", "fields": []}"#.to_owned();
    for n in (0..40).rev() {
        of = format!(
            r#"{{"type": "record", "name": "r{n}", "fields": [{{"name": "a", "type": {of}}}, {{"name": "b", "type": "r{}"}}]}}"#,
            n + 1
        );
    }
    let read = read_one(&one_field(&of), &columns(&[("g", DataType::Int32, true)]), &[]);
    // JSON nested so deep is refused, or the value is: either way at once.
    assert_eq!(read.faults.len(), 1);
}

#[test]
fn a_bad_value_takes_its_record_with_it_and_no_other() {
    let writer = r#"{"type": "record", "name": "r", "fields": [
        {"name": "l", "type": {"type": "array", "items": "string"}}, {"name": "n", "type": "int"},
        {"name": "s", "type": "bytes"}, {"name": "d", "type": ["null", "int"]}]}"#;
    let table = columns(&[
        ("l", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), true),
        ("n", DataType::Int8, true),
        ("s", DataType::Utf8, true),
        ("d", DataType::Int32, false),
    ]);
    let record = |n: i64, s: &[u8], d: &[Part<'_>]| {
        let mut out = vec![0, 0, 0, 0, 1];
        out.extend(written(&[N(2), S("a"), S("b"), N(0), N(n)]));
        put_counted(s, &mut out);
        out.extend(written(d));
        out
    };
    let records = [
        record(1, b"one", &[N(1), N(1)]),
        record(300, b"two", &[N(1), N(2)]),
        record(3, b"\xff\xfe", &[N(1), N(3)]),
        record(4, b"four", &[N(0)]),
        record(5, b"five", &[N(1)]),
        record(6, b"six", &[N(1), N(6), N(0)]),
        record(7, b"seven", &[N(1), N(7)]),
    ];
    let format = options("avro-confluent", &[]);
    let read = decode(&format, &[(1, writer)], &table, &records.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(shown(&read.rows), "[a, b] | 1 | one | 1\n[a, b] | 7 | seven | 7");
    assert_eq!(read.left_out, [1, 2, 3, 4, 5]);
    let why: Vec<&str> = read.faults.iter().map(|f| f.1.as_str()).collect();
    assert_eq!(why[0], "column `n` holds `300`, the table declares TINYINT");
    assert!(why[1].starts_with("column `s` holds") && why[1].ends_with("which is not UTF-8"), "{why:?}");
    assert_eq!(why[2], "column `d` is NULL, the table declares INT NOT NULL");
    assert_eq!(why[3], "the record is not what its schema says: it ends too early, at or before `d`");
    assert!(why[4].starts_with("1 bytes follow the last field"), "{why:?}");
}

#[test]
fn damage_inside_of_rows_and_lists_leaves_nothing_there() {
    let writer = r#"{"type": "record", "name": "r", "fields": [
        {"name": "l", "type": {"type": "array", "items": {"type": "record", "name": "e", "fields": [
            {"name": "s", "type": "string"}, {"name": "m", "type": {"type": "map", "values": "int"}}]}}},
        {"name": "e", "type": "e"}]}"#;
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)];
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false);
    let row = DataType::Struct(vec![Field::new("s", DataType::Utf8, true), Field::new("m", map, true)].into());
    let list = DataType::List(Arc::new(Field::new("item", row.clone(), true)));
    let table = columns(&[("l", list, true), ("e", row, true)]);
    let entry = |s: &'static str| [S(s), N(1), S("k"), N(7), N(0)];
    let mut whole = vec![0, 0, 0, 0, 1];
    whole.extend(
        written(&[N(1)]).into_iter().chain(written(&entry("a"))).chain(written(&[N(0)])).chain(written(&entry("b"))),
    );
    let format = options("avro-confluent", &[]);
    // Cut off anywhere, between two that are whole.
    for cut in 5..whole.len() {
        let read = decode(&format, &[(1, writer)], &table, &[&whole, &whole[..cut], &whole]);
        assert_eq!(read.left_out, [1], "{cut}");
        let row = "[{s: a, m: {k: 7}}] | {s: b, m: {k: 7}}";
        assert_eq!(shown(&read.rows), format!("{row}\n{row}"), "{cut}");
    }
}

#[test]
fn numbers_too_large_for_the_declared_decimal_are_faults() {
    let writer = one_field(r#"{"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0}"#);
    let table = columns(&[("f", DataType::Decimal128(5, 2), true)]);
    let value = |bytes: &[u8]| {
        let mut record = Vec::new();
        put_counted(bytes, &mut record);
        let read = read_one(&writer, &table, &record);
        read.faults.first().map_or_else(|| shown(&read.rows), |f| f.1.clone())
    };
    assert_eq!(value(&[0x03, 0xe7]), "999.00");
    assert_eq!(value(&[0xff, 0xff, 0xfc, 0x19]), "-999.00");
    assert_eq!(value(&[]), "0.00");
    assert_eq!(value(&[0xff; 30]), "-1.00");
    for large in [&[0x03u8, 0xe8][..], &[0x7f; 16], &[0x80; 17], &[1; 40]] {
        assert_eq!(value(large), "column `f` holds a number that DECIMAL(5, 2) cannot hold");
    }
}

#[test]
fn schemas_that_are_none_say_why() {
    let why = |text: &str| schema::Schema::parse(text).expect_err("no schema");
    assert!(why("{").contains("no JSON"));
    assert!(why(r#"{"type": "record", "name": "r"}"#).contains("no list of fields"));
    assert!(
        why(
            r#"{"type": "record", "name": "r", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}"#
        )
        .contains("`a` twice")
    );
    assert!(why(r#"[]"#).contains("no types"));
    assert!(why(r#"{"type": "fixed", "name": "f", "size": -1}"#).contains("size"));
    assert!(why(r#"{"type": "fixed", "name": "f", "size": 1000000000000}"#).contains("size"));
    assert!(why(&format!("{}\"int\"{}", "[".repeat(200), "]".repeat(200))).contains("no JSON"));
    assert!(why(&" ".repeat(schema::SCHEMA_BYTES_MAX + 1)).contains("bytes"));
    let union = |n: usize| format!("[{}]", vec!["\"int\""; n].join(","));
    assert!(why(&union(20_000)).contains("more than"));
}

#[test]
fn no_mutant_of_a_file_or_a_record_breaks_a_promise() {
    let files = [Codec::Null, Codec::Deflate, Codec::Snappy, Codec::Zstandard].map(crate::fuzz::avro_file);
    let mark = files[0][files[0].len() - 16..].to_vec();
    let begin = memchr::memmem::find(&files[0], &mark).expect("the header ends with it") + 18;
    let framed = [&[0, 0, 0, 0, 0], &files[0][begin..]].concat();
    let corpus: Vec<&[u8]> =
        files.iter().map(Vec::as_slice).chain([&files[0][begin..], &framed, br#"{"type": "record"}"#]).collect();
    let mut state = 88172645463325252u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n.max(1) as u64) as usize
    };
    for _ in 0..if cfg!(debug_assertions) { 1500 } else { 100_000 } {
        let mut bytes = corpus[below(corpus.len())].to_vec();
        for _ in 0..1 + below(4) {
            let at = below(bytes.len() + 1);
            match below(6) {
                0 if at < bytes.len() => bytes[at] ^= 1 << below(8),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.insert(at, [0, 1, 2, 0x7f, 0x80, 0xff][below(6)]),
                3 => bytes.truncate(at),
                4 => {
                    // A number that claims much.
                    let mut claim = Vec::new();
                    put_long((1i64 << below(63)) * [1, -1][below(2)], &mut claim);
                    bytes.splice(at..at, claim);
                }
                _ => {
                    let to = (at + below(30)).min(bytes.len());
                    let piece = bytes[at..to].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        crate::fuzz::avro(&bytes);
    }
}
