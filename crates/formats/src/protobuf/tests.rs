//! What the reader and the writer promise. That others understand the same bytes is tested where others run
//! (`crates/connect/tests/protobuf.rs`).

mod damage;
mod schemas;

use super::wire::{Wire, put_counted, put_tag, put_varint};
use super::*;
use crate::OnBadRow;
use crate::records::{RecordOptions, Records};
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema, TimeUnit};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Files by their paths.
pub(super) struct Shelf(pub Vec<(&'static str, Vec<u8>)>);

impl Files for Shelf {
    fn read(&self, path: &str) -> std::result::Result<Option<Vec<u8>>, String> {
        Ok(self.0.iter().find(|(p, _)| *p == path).map(|(_, bytes)| bytes.clone()))
    }
}

pub(super) fn columns(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(n, t, null)| Field::new(*n, t.clone(), *null)).collect::<Vec<_>>()))
}

/// The format with this file, in which is one message or the one that an option names.
pub(super) fn format(file: &str, more: &[(&str, &str)]) -> RecordOptions {
    let shelf = Shelf(vec![("m.proto", file.as_bytes().to_vec())]);
    let more = more.iter().map(|(k, v)| (format!("protobuf.{k}"), v.to_string()));
    let options = [("protobuf.schema-file".to_owned(), "m.proto".to_owned())].into_iter().chain(more).collect();
    RecordOptions::parse_with(PROTOBUF, "", &options, &shelf).expect("valid options")
}

pub(super) fn laid_down(records: &[&[u8]]) -> (Vec<u8>, Vec<Option<Range<usize>>>) {
    let mut bytes = Vec::new();
    let ranges = records.iter().map(|record| {
        let start = bytes.len();
        bytes.extend_from_slice(record);
        bytes.push(b'\n');
        Some(start..start + record.len())
    });
    let ranges = ranges.collect();
    (bytes, ranges)
}

pub(super) fn decode(format: &RecordOptions, table: &SchemaRef, records: &[&[u8]]) -> Records {
    let all: Vec<usize> = (0..table.fields().len()).collect();
    let (bytes, ranges) = laid_down(records);
    let mut decoder = format.decoder(table, &all, OnBadRow::SetAside).expect("a decoder");
    decoder.decode_records(&bytes, &ranges).expect("faults are handed back")
}

/// A column that JSON can say: the keys of its maps are texts.
fn sayable(column: &ArrayRef) -> ArrayRef {
    let Some(map) = column.as_map_opt() else { return column.clone() };
    let keys = arrow::compute::cast(map.keys(), &Utf8).expect("numbers are texts");
    let values = map.values().clone();
    let fields = vec![Field::new("key", Utf8, false), Field::new("value", values.data_type().clone(), true)];
    let entries = StructArray::new(fields.into(), vec![keys, values], None);
    let of = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    Arc::new(MapArray::new(of, map.offsets().clone(), entries, map.nulls().cloned(), false))
}

/// Rows as lines of JSON.
pub(super) fn shown(rows: &RecordBatch) -> String {
    let names = rows.schema_ref().fields().iter().map(|f| f.name().clone());
    let columns = names.zip(rows.columns().iter().map(sayable));
    let rows = &RecordBatch::try_from_iter(columns).expect("the same columns");
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(rows).and_then(|()| writer.finish()).expect("JSON has these types");
    String::from_utf8(writer.into_inner()).expect("text").trim_end().to_owned()
}

/// The one row of a record without a fault.
fn row(format: &RecordOptions, table: &SchemaRef, record: &[u8]) -> String {
    let read = decode(format, table, &[record]);
    assert_eq!(read.faults, []);
    shown(&read.rows)
}

fn fault(format: &RecordOptions, table: &SchemaRef, record: &[u8]) -> String {
    let read = decode(format, table, &[record]);
    assert_eq!((read.rows.num_rows(), read.faults.len()), (0, 1), "{}", shown(&read.rows));
    read.faults[0].1.clone()
}

/// A message, field by field.
#[derive(Default)]
pub(super) struct Msg(pub Vec<u8>);

impl Msg {
    pub fn int(mut self, number: u32, value: i64) -> Msg {
        put_tag(number, Wire::Varint, &mut self.0);
        put_varint(value as u64, &mut self.0);
        self
    }

    pub fn bytes(mut self, number: u32, value: &[u8]) -> Msg {
        put_tag(number, Wire::Counted, &mut self.0);
        put_counted(value, &mut self.0);
        self
    }

    pub fn raw(mut self, number: u32, wire: Wire, value: &[u8]) -> Msg {
        put_tag(number, wire, &mut self.0);
        self.0.extend_from_slice(value);
        self
    }

    pub fn inner(self, number: u32, inner: Msg) -> Msg {
        self.bytes(number, &inner.0)
    }
}

pub(super) fn msg() -> Msg {
    Msg::default()
}

pub(super) fn list(of: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", of, true)))
}

pub(super) fn map(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

pub(super) fn record(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect())
}

use DataType::{Binary, Boolean, Float32, Float64, Int8, Int16, Int32, Int64, Utf8};

const NUMBERS: &str = "syntax = \"proto3\"; message N {
    int32 a = 1; int64 b = 2; uint32 c = 3; uint64 d = 4; sint32 e = 5; sint64 f = 6; fixed32 g = 7; fixed64 h = 8;
    sfixed32 i = 9; sfixed64 j = 10; float k = 11; double l = 12; bool m = 13; string n = 14; bytes o = 1000; }";

fn numbers() -> SchemaRef {
    columns(&[
        ("o", Binary, true),
        ("a", Int32, true),
        ("b", Int64, true),
        ("c", Int64, true),
        ("d", Int64, true),
        ("e", Int32, true),
        ("f", Int64, true),
        ("g", Int64, true),
        ("h", DataType::Decimal128(20, 0), true),
        ("i", Int32, true),
        ("j", Int64, true),
        ("k", Float32, true),
        ("l", Float64, true),
        ("m", Boolean, true),
        ("n", Utf8, true),
    ])
}

#[test]
fn each_type_is_read_as_it_is_written() {
    let record = msg()
        .bytes(1000, &[1, 255])
        .int(1, -1)
        .int(2, i64::MIN)
        .int(3, 4_294_967_295)
        .int(4, i64::MAX)
        .int(5, 3)
        .int(6, -1)
        .raw(7, Wire::Fixed32, &[255; 4])
        .raw(8, Wire::Fixed64, &[255; 8])
        .raw(9, Wire::Fixed32, &[255; 4])
        .raw(10, Wire::Fixed64, &[255; 8])
        .raw(11, Wire::Fixed32, &1.5f32.to_le_bytes())
        .raw(12, Wire::Fixed64, &(-2.5f64).to_le_bytes())
        .int(13, 1)
        .bytes(14, "né".as_bytes());
    assert_eq!(
        row(&format(NUMBERS, &[]), &numbers(), &record.0),
        r#"{"o":"01ff","a":-1,"b":-9223372036854775808,"c":4294967295,"d":9223372036854775807,"e":-2,"f":-9223372036854775808,"g":4294967295,"h":18446744073709551615,"i":-1,"j":-1,"k":1.5,"l":-2.5,"m":true,"n":"né"}"#
    );
    // An int32 that was written as a long has its lower bits, as with Google's; a bool is any number but 0.
    let table = columns(&[("a", Int32, true), ("m", Boolean, true)]);
    assert_eq!(row(&format(NUMBERS, &[]), &table, &msg().int(1, (7 << 32) | 5).int(13, 256).0), r#"{"a":5,"m":true}"#);
}

#[test]
fn what_does_not_fit_its_column_is_a_fault_with_its_field() {
    let format = format(NUMBERS, &[]);
    let one = |name: &str, of: DataType, record: Msg| fault(&format, &columns(&[(name, of, true)]), &record.0);
    assert_eq!(
        one("d", Int64, msg().int(4, -1)),
        "field `d` of N: it holds 18446744073709551615, the table declares BIGINT"
    );
    assert_eq!(one("c", Int32, msg().int(3, 1 << 31)), "field `c` of N: it holds 2147483648, the table declares INT");
    assert!(one("a", Int8, msg().int(1, 128)).contains("holds 128, the table declares TINYINT"));
    assert!(one("a", Int16, msg().int(1, -32769)).contains("SMALLINT"));
    assert_eq!(one("n", Utf8, msg().bytes(14, b"a\xff")), "field `n` of N: it holds `a\u{fffd}`, which is not UTF-8");
    assert!(
        one("n", Utf8, msg().int(14, 1))
            .contains("field `n` of N: it is bytes with their length by its type, and the record has a varint")
    );
    assert!(one("a", Int32, msg().bytes(1, &[1])).contains("it is a varint by its type"));
}

#[test]
fn a_field_counts_as_it_was_last_and_what_is_not_known_is_passed_over() {
    let table = columns(&[("a", Int32, true), ("n", Utf8, true)]);
    let group = [&[(20 << 3 | 4) as u8 | 0x80, 1][..]].concat();
    let record = msg()
        .bytes(14, b"old")
        .int(99, 7)
        .bytes(2000, b"xyz")
        // A group, in it a group and a field with the number of a known one.
        .raw(20, Wire::Group, &msg().raw(21, Wire::Group, &[]).int(1, 99).raw(21, Wire::GroupEnd, &[]).0)
        .raw(20, Wire::GroupEnd, &[])
        .raw(30, Wire::Fixed32, &[1; 4])
        .raw(31, Wire::Fixed64, &[1; 8])
        .int(1, 1)
        .bytes(14, b"new")
        .int(1, 2);
    assert_eq!(row(&format(NUMBERS, &[]), &table, &record.0), r#"{"a":2,"n":"new"}"#);
    assert_eq!(group.len(), 2);
}

const NESTED: &str = "syntax = \"proto3\"; package shop;
    message Order { string id = 1; Line main = 2; repeated Line lines = 3; map<string, Line> by = 4; map<int32, int64> n = 5;
      repeated int32 packed = 6; repeated string tags = 7; repeated Order parts = 8; repeated double d = 9; repeated sint32 z = 10;
      map<bool, Kind> kinds = 11; repeated Kind k = 12; }
    message Line { string sku = 1; int32 n = 2; repeated int32 x = 3; optional int32 o = 4; }
    enum Kind { NEW = 0; PAID = 1; }";

fn order(columns_: &[(&str, DataType)]) -> SchemaRef {
    columns(&columns_.iter().map(|(n, t)| (*n, t.clone(), true)).collect::<Vec<_>>())
}

fn line() -> DataType {
    record(&[("n", Int32), ("sku", Utf8), ("x", list(Int32))])
}

fn nested(more: &[(&str, &str)]) -> RecordOptions {
    format(NESTED, &[&[("message-name", "shop.Order")], more].concat())
}

#[test]
fn messages_that_come_twice_are_merged() {
    let table = order(&[("main", line())]);
    let record = msg()
        .inner(2, msg().bytes(1, b"a").int(2, 1).bytes(3, &[1, 2]))
        .bytes(1, b"between")
        .inner(2, msg().int(2, 2).int(3, 3));
    assert_eq!(row(&nested(&[]), &table, &record.0), r#"{"main":{"n":2,"sku":"a","x":[1,2,3]}}"#);
}

#[test]
fn repeated_fields_are_read_packed_or_not_and_scattered() {
    let table = order(&[
        ("packed", list(Int32)),
        ("tags", list(Utf8)),
        ("lines", list(line())),
        ("d", list(Float64)),
        ("z", list(Int32)),
    ]);
    let record = msg()
        .int(6, 1)
        .bytes(7, b"a")
        .bytes(6, &[2, 3])
        .inner(3, msg().bytes(1, b"s"))
        .bytes(10, &[1, 2])
        .bytes(7, b"")
        .int(6, -4)
        .inner(3, msg())
        .bytes(9, &[&1.0f64.to_le_bytes()[..], &2.0f64.to_le_bytes()[..]].concat())
        .raw(9, Wire::Fixed64, &3.0f64.to_le_bytes());
    assert_eq!(
        row(&nested(&[]), &table, &record.0),
        r#"{"packed":[1,2,3,-4],"tags":["a",""],"lines":[{"n":0,"sku":"s","x":null},{"n":0,"sku":"","x":null}],"d":[1.0,2.0,3.0],"z":[-1,1]}"#
    );
    let cut = msg().bytes(9, &[0; 12]);
    assert_eq!(fault(&nested(&[]), &table, &cut.0), "field `d` of shop.Order: the bytes end too early");
    let deep = msg().inner(3, msg()).inner(3, msg().bytes(1, &[255]));
    assert_eq!(
        fault(&nested(&[]), &table, &deep.0),
        "field `lines[1].sku` of shop.Order: it holds `\u{fffd}`, which is not UTF-8"
    );
    // A packed field of no items is as one that is absent, but for its being there.
    assert_eq!(row(&nested(&[]), &order(&[("packed", list(Int32))]), &msg().bytes(6, &[]).0), r#"{"packed":[]}"#);
}

#[test]
fn of_entries_with_one_key_the_last_counts() {
    let table = order(&[("by", map(Utf8, line())), ("n", map(Int32, Int64)), ("kinds", map(Boolean, Utf8))]);
    let entry = |key: &[u8], n: i64| msg().bytes(1, key).inner(2, msg().int(2, n));
    let record = msg()
        .inner(4, entry(b"a", 1))
        .inner(5, msg().int(1, 5).int(2, 50))
        .inner(4, entry(b"b", 2))
        // The same number in other bits, and the entry's fields the other way round.
        .inner(5, msg().int(2, 51).int(1, (1 << 40) | 5))
        .inner(4, entry(b"a", 3))
        // Neither key nor value: the defaults of both.
        .inner(4, msg())
        .inner(5, msg())
        .inner(11, msg().int(1, 7).int(2, 1))
        // A value that comes twice is merged.
        .inner(4, msg().bytes(1, b"c").inner(2, msg().int(2, 9)).inner(2, msg().bytes(1, b"s")));
    assert_eq!(
        row(&nested(&[]), &table, &record.0),
        r#"{"by":{"b":{"n":2,"sku":"","x":null},"a":{"n":3,"sku":"","x":null},"":{"n":0,"sku":"","x":null},"c":{"n":9,"sku":"s","x":null}},"n":{"5":51,"0":0},"kinds":{"true":"PAID"}}"#
    );
    let wrong = msg().inner(4, msg().bytes(1, b"k").inner(2, msg().bytes(1, &[255])));
    assert_eq!(
        fault(&nested(&[]), &table, &wrong.0),
        "field `by{k}.sku` of shop.Order: it holds `\u{fffd}`, which is not UTF-8"
    );
}

#[test]
fn a_message_that_refers_to_itself_is_as_deep_as_the_columns() {
    let part = record(&[("id", Utf8), ("parts", list(record(&[("id", Utf8)])))]);
    let table = order(&[("id", Utf8), ("parts", list(part))]);
    let mut innermost = msg().bytes(1, b"deep");
    for _ in 0..10 {
        innermost = msg().bytes(1, b"o").inner(8, innermost);
    }
    assert_eq!(row(&nested(&[]), &table, &innermost.0), r#"{"id":"o","parts":[{"id":"o","parts":[{"id":"o"}]}]}"#);
}

const PROTO2: &str = "syntax = \"proto2\"; message M { optional int32 a = 1 [default = 7]; optional string s = 2 [default = \"né\"];
    required int64 r = 3; optional Kind k = 4 [default = B]; optional M m = 5; repeated Kind ks = 6; map<string, Kind> by = 7;
    optional sint32 z = 8 [default = -3]; optional bytes b = 9 [default = \"x\\001\"]; optional group G = 10 { optional int32 x = 1; } }
    enum Kind { A = 1; B = 2; }";

#[test]
fn what_is_absent_is_null_or_its_default_as_the_options_and_the_syntax_say() {
    let table = columns(&[
        ("a", Int32, true),
        ("s", Utf8, true),
        ("k", Utf8, true),
        ("z", Int64, true),
        ("b", Binary, true),
        ("m", record(&[("a", Int32)]), true),
        ("ks", list(Utf8), true),
    ]);
    let bare = msg().int(3, 1);
    assert_eq!(
        row(&format(PROTO2, &[]), &table, &bare.0),
        r#"{"a":null,"s":null,"k":null,"z":null,"b":null,"m":null,"ks":null}"#
    );
    let defaults = format(PROTO2, &[("read-default-values", "true")]);
    assert_eq!(row(&defaults, &table, &bare.0), r#"{"a":7,"s":"né","k":"B","z":-3,"b":"7801","m":{"a":7},"ks":[]}"#);
    // proto3: numbers and texts are never absent, unless they are `optional`; messages, lists and maps may be.
    let table = order(&[
        ("id", Utf8),
        ("main", record(&[("o", Int32), ("n", Int32)])),
        ("tags", list(Utf8)),
        ("n", map(Int32, Int64)),
    ]);
    assert_eq!(row(&nested(&[]), &table, &[]), r#"{"id":"","main":null,"tags":null,"n":null}"#);
    assert_eq!(
        row(&nested(&[]), &table, &msg().inner(2, msg()).0),
        r#"{"id":"","main":{"o":null,"n":0},"tags":null,"n":null}"#
    );
    assert_eq!(
        row(&nested(&[("read-default-values", "true")]), &table, &[]),
        r#"{"id":"","main":{"o":0,"n":0},"tags":[],"n":{}}"#
    );
    // What may not be NULL: a list without items, and else a fault.
    let strict = columns(&[("tags", list(Utf8), false)]);
    assert_eq!(row(&nested(&[]), &strict, &[]), r#"{"tags":[]}"#);
    let strict = columns(&[("main", line(), false)]);
    assert!(fault(&nested(&[]), &strict, &[]).contains("NOT NULL"));
    let required = columns(&[("r", Int64, true)]);
    assert_eq!(fault(&format(PROTO2, &[]), &required, &[]), "field `r` of M: it is required, and is not there");
}

#[test]
fn a_number_that_an_enum_does_not_have_is_passed_over_in_proto2_and_kept_in_proto3() {
    let table = columns(&[("k", Utf8, true), ("ks", list(Int32), true), ("by", map(Utf8, Utf8), true)]);
    let record = msg()
        .int(4, 1)
        .int(4, 99)
        .bytes(6, &[1, 99, 2])
        .inner(7, msg().bytes(1, b"x").int(2, 99))
        .inner(7, msg().bytes(1, b"y").int(2, 2));
    assert_eq!(row(&format(PROTO2, &[]), &table, &record.0), r#"{"k":"A","ks":[1,2],"by":{"y":"B"}}"#);
    let table = order(&[("k", list(Utf8)), ("kinds", map(Boolean, Int32))]);
    let record = msg().bytes(12, &[0, 1, 99]).inner(11, msg().int(2, 99));
    assert_eq!(row(&nested(&[]), &table, &record.0), r#"{"k":["NEW","PAID","99"],"kinds":{"false":99}}"#);
}

const ONEOF: &str =
    "syntax = \"proto3\"; message M { oneof v { int32 a = 1; string b = 2; I c = 3; int32 unread = 4; } int32 z = 9; }
    message I { int32 x = 1; int32 y = 2; }";

#[test]
fn of_a_oneof_only_the_last_member_is_there() {
    let table = columns(&[("a", Int32, true), ("b", Utf8, true), ("c", record(&[("x", Int32), ("y", Int32)]), true)]);
    let format = format(ONEOF, &[("message-name", "M")]);
    let read = |record: Msg| row(&format, &table, &record.0);
    assert_eq!(read(msg()), r#"{"a":null,"b":null,"c":null}"#);
    assert_eq!(read(msg().int(1, 0)), r#"{"a":0,"b":null,"c":null}"#);
    assert_eq!(read(msg().int(1, 5).int(9, 1).bytes(2, b"t")), r#"{"a":null,"b":"t","c":null}"#);
    // One that no column wants takes the others away too.
    assert_eq!(read(msg().int(1, 5).int(4, 1)), r#"{"a":null,"b":null,"c":null}"#);
    // A message that was replaced in between is not merged with what it was.
    let again = msg().inner(3, msg().int(1, 1)).bytes(2, b"t").inner(3, msg().int(2, 2));
    assert_eq!(read(again), r#"{"a":null,"b":null,"c":{"x":0,"y":2}}"#);
    // And of columns the last that is not NULL is written.
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(1), Some(2), None])),
        Arc::new(StringArray::from(vec![Some("x"), None, None])),
        new_null_array(table.field(2).data_type(), 3),
    ];
    let rows = RecordBatch::try_new(table.clone(), columns).expect("a batch");
    let wrote = format.encoder(&table).expect("an encoder").encode_records(&rows, None).expect("written");
    assert_eq!(wrote.iter().flatten().collect::<Vec<_>>(), [&msg().bytes(2, b"x").0[..], &msg().int(1, 2).0, &[]]);
}

const KNOWN: &str =
    "syntax = \"proto3\"; import \"google/protobuf/timestamp.proto\"; import \"google/protobuf/wrappers.proto\";
    message M { google.protobuf.Timestamp t = 1; google.protobuf.Int64Value i = 2; google.protobuf.StringValue s = 3;
      repeated google.protobuf.Timestamp ts = 4; google.protobuf.Timestamp row = 5; google.protobuf.BoolValue b = 6;
      google.protobuf.Int64Value w = 7; }";

#[test]
fn messages_that_google_brings_along_are_times_and_values_that_may_be_null() {
    let table = columns(&[
        ("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        ("i", Int64, true),
        ("s", Utf8, true),
        ("ts", list(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))), true),
        ("row", record(&[("seconds", Int64), ("nanos", Int32)]), true),
        ("b", Boolean, true),
        ("w", record(&[("value", Int64)]), true),
    ]);
    let format = format(KNOWN, &[]);
    let time = |s: i64, n: i64| msg().int(1, s).int(2, n);
    let record = msg()
        .inner(1, time(-1, 999_000_000))
        .inner(2, msg())
        .inner(4, time(1_700_000_000, 123_456_789))
        .inner(4, msg())
        .inner(5, time(5, 6))
        .inner(6, msg().int(1, 1))
        .inner(7, msg().int(1, 3));
    assert_eq!(
        row(&format, &table, &record.0),
        r#"{"t":"1969-12-31T23:59:59.999","i":0,"s":null,"ts":["2023-11-14T22:13:20.123456Z","1970-01-01T00:00:00Z"],"row":{"seconds":5,"nanos":6},"b":true,"w":{"value":3}}"#
    );
    let far = msg().inner(1, time(i64::MAX, 0));
    assert_eq!(fault(&format, &table, &far.0), "field `t` of M: it is a time that is too far away");
    assert!(fault(&format, &table, &msg().inner(1, time(0, -1)).0).contains("-1 billionths"));
    // And back: what is read is what was written, without what is a default.
    let rows = decode(&format, &table, &[&record.0, &[]]).rows;
    let wrote = format.encoder(&table).expect("an encoder").encode_records(&rows, None).expect("written");
    assert_eq!(shown(&decode(&format, &table, &[wrote.value(0), wrote.value(1)]).rows), shown(&rows));
    assert_eq!(wrote.value(1), b"");
}

#[test]
fn rows_are_written_in_the_order_of_numbers_and_defaults_are_left_out() {
    let table = columns(&[("n", Utf8, true), ("a", Int32, true), ("k", Float32, true), ("f", Int64, true)]);
    let rows = |a: i32, k: f32| {
        RecordBatch::try_new(
            table.clone(),
            vec![
                Arc::new(StringArray::from(vec!["x"])) as ArrayRef,
                Arc::new(Int32Array::from(vec![a])),
                Arc::new(Float32Array::from(vec![k])),
                Arc::new(Int64Array::from(vec![None])),
            ],
        )
        .expect("a batch")
    };
    let mut encoder = format(NUMBERS, &[]).encoder(&table).expect("an encoder");
    let mut write = |rows: &RecordBatch| encoder.encode_records(rows, None).expect("written").value(0).to_vec();
    assert_eq!(write(&rows(-1, 0.0)), msg().int(1, -1).bytes(14, b"x").0);
    // Minus zero is another value than zero.
    assert_eq!(write(&rows(0, -0.0)), msg().raw(11, Wire::Fixed32, &(-0.0f32).to_le_bytes()).bytes(14, b"x").0);
    // With `optional`, and in proto2, a default is written.
    let table = columns(&[("r", Int64, true), ("a", Int32, true)]);
    let rows = RecordBatch::try_new(
        table.clone(),
        vec![Arc::new(Int64Array::from(vec![Some(0), None])) as ArrayRef, Arc::new(Int32Array::from(vec![7, 7]))],
    )
    .expect("a batch");
    let format = format(PROTO2, &[]);
    let mut encoder = format.encoder(&table).expect("an encoder");
    assert_eq!(encoder.encode_records(&rows.slice(0, 1), None).expect("written").value(0), msg().int(1, 7).int(3, 0).0);
    let error = encoder.encode_records(&rows, None).expect_err("no row").to_string();
    assert!(error.contains("column `r` is NULL, and its field is required"), "{error}");
}

#[test]
fn what_cannot_be_written_says_which_column_and_why() {
    let write = |file: &str, name: &str, of: ArrayRef, more: &[(&str, &str)]| {
        let table = columns(&[(name, of.data_type().clone(), true)]);
        let rows = RecordBatch::try_new(table.clone(), vec![of]).expect("a batch");
        let mut encoder = format(file, more).encoder(&table)?;
        encoder.encode_records(&rows, None).map(|wrote| wrote.value(0).to_vec())
    };
    let error = |file, name, of, more| write(file, name, of, more).expect_err("no record").to_string();
    let order: &[(&str, &str)] = &[("message-name", "shop.Order")];
    let holes: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])]));
    let shown = error(NESTED, "packed", holes.clone(), order);
    assert!(shown.contains("column `packed[]` is NULL") && shown.contains("write-null-string-literal"), "{shown}");
    // As in Flink, where that is asked for.
    let literal: &[(&str, &str)] = &[("message-name", "shop.Order"), ("write-null-string-literal", "(none)")];
    assert_eq!(write(NESTED, "packed", holes, literal).expect("written"), msg().bytes(6, &[1, 0]).0);
    let mut texts = ListBuilder::new(StringBuilder::new());
    texts.append_value([Some("a"), None]);
    let texts: ArrayRef = Arc::new(texts.finish());
    assert_eq!(
        write(NESTED, "tags", texts.clone(), literal).expect("written"),
        msg().bytes(7, b"a").bytes(7, b"(none)").0
    );
    assert!(error(NESTED, "tags", texts.clone(), order).contains("column `tags[]` is NULL"));
    let kinds: ArrayRef = texts;
    assert!(
        error(NESTED, "k", kinds, order).contains("column `k[]` holds `a`, which the enum shop.Kind does not have")
    );
    assert!(
        error(NUMBERS, "c", Arc::new(Int64Array::from(vec![-1])), &[]).contains("`c` holds -1, which no uint32 can be")
    );
    assert!(error(NUMBERS, "d", Arc::new(Int64Array::from(vec![-1])), &[]).contains("no uint64"));
    let shown = error(PROTO2, "a", Arc::new(Int32Array::from(vec![1])), &[]);
    assert!(shown.contains("the field `r` of M is required, and is no column of the table"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is written is read again, for every type, whatever is NULL.
    #[test]
    fn what_is_written_is_read_again(rows in proptest::collection::vec(any_row(), 1..20)) {
        let format = format(ROUND, &[("message-name", "R")]);
        let batch = round_batch(&rows);
        let wrote = format.encoder(&batch.schema()).unwrap().encode_records(&batch, None).unwrap();
        let records: Vec<&[u8]> = wrote.iter().flatten().collect();
        let read = decode(&format, &batch.schema(), &records);
        prop_assert_eq!(&read.faults, &[]);
        prop_assert_eq!(shown(&read.rows), shown(&batch));
        prop_assert_eq!(read.rows.columns(), batch.columns());
    }
}

const ROUND: &str = "syntax = \"proto3\"; message R { optional sint64 a = 1; optional string b = 2; optional double c = 3;
    repeated fixed32 d = 4; map<int64, string> e = 5; optional bytes f = 6; I g = 7; repeated I h = 300; optional uint64 i = 9; }
    message I { optional sint32 x = 1; I again = 2; }";

type RoundRow = (
    Option<i64>,
    Option<String>,
    Option<f64>,
    Vec<u32>,
    Vec<(i64, String)>,
    Option<Vec<u8>>,
    Option<Option<i32>>,
    Vec<Option<i32>>,
);

fn any_row() -> impl Strategy<Value = RoundRow> {
    use proptest::collection::{btree_map, vec};
    use proptest::option::of;
    (
        of(any::<i64>()),
        of("[a-zé\u{1F600}]{0,6}"),
        of(any::<f64>().prop_filter("comparable", |v| !v.is_nan())),
        vec(any::<u32>(), 0..4),
        btree_map(any::<i64>(), "[a-z]{0,3}", 0..4).prop_map(|m| m.into_iter().collect()),
        of(vec(any::<u8>(), 0..200)),
        of(of(any::<i32>())),
        vec(of(any::<i32>()), 0..3),
    )
}

fn round_batch(rows: &[RoundRow]) -> RecordBatch {
    let inner = Fields::from(vec![Field::new("x", Int32, true)]);
    let structs = |values: Vec<Option<Option<i32>>>| {
        let x = Int32Array::from_iter(values.iter().map(|v| v.flatten()));
        let nulls = values.iter().map(Option::is_some).collect::<Vec<_>>().into();
        StructArray::new(inner.clone(), vec![Arc::new(x) as ArrayRef], Some(nulls))
    };
    let lengths = rows.iter().map(|r| r.7.len());
    let mut maps = MapBuilder::new(None, Int64Builder::new(), StringBuilder::new());
    let mut lists = ListBuilder::new(Int64Builder::new());
    for row in rows {
        for (key, value) in &row.4 {
            maps.keys().append_value(*key);
            maps.values().append_value(value);
        }
        // What has no items is absent.
        maps.append(!row.4.is_empty()).expect("in step");
        row.3.iter().for_each(|v| lists.values().append_value(i64::from(*v)));
        lists.append(!row.3.is_empty());
    }
    let maps = maps.finish();
    let items = structs(rows.iter().flat_map(|r| r.7.iter().map(|v| Some(*v))).collect());
    let items = ListArray::new(
        Arc::new(Field::new("item", DataType::Struct(inner.clone()), true)),
        arrow::buffer::OffsetBuffer::from_lengths(lengths),
        Arc::new(items),
        Some(rows.iter().map(|r| !r.7.is_empty()).collect::<Vec<_>>().into()),
    );
    let cells: Vec<(&str, ArrayRef)> = vec![
        ("h", Arc::new(items)),
        ("a", Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.0)))),
        ("b", Arc::new(StringArray::from_iter(rows.iter().map(|r| r.1.as_deref())))),
        ("c", Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.2)))),
        ("d", Arc::new(lists.finish())),
        ("e", Arc::new(maps)),
        ("f", Arc::new(BinaryArray::from_iter(rows.iter().map(|r| r.5.as_deref())))),
        ("g", Arc::new(structs(rows.iter().map(|r| r.6).collect()))),
    ];
    let fields: Vec<Field> = cells.iter().map(|(n, c)| Field::new(*n, c.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), cells.into_iter().map(|c| c.1).collect()).expect("a batch")
}
