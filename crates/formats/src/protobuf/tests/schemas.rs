//! Descriptions of messages: files, imports, sets of descriptors, registries; and columns that do not go with them.

use super::*;
use crate::changes::Beyond;
use crate::registry::{Registered, Schemas};

fn parse(files: &[(&'static str, &str)], options: &[(&str, &str)]) -> Result<RecordOptions> {
    let shelf = Shelf(files.iter().map(|(path, text)| (*path, text.as_bytes().to_vec())).collect());
    let options = options.iter().map(|(k, v)| (format!("protobuf.{k}"), v.to_string())).collect();
    RecordOptions::parse_with(PROTOBUF, "", &options, &shelf)
}

fn told(result: Result<RecordOptions>) -> String {
    let error = result.expect_err("refused");
    format!("{error} | {}", error.help().unwrap_or_default())
}

const TWO: &str = "syntax = \"proto3\"; package shop; message Order { int64 id = 1; } message Line { string sku = 1; }";

#[test]
fn imports_are_found_beside_the_file_and_under_the_paths() {
    let main = "syntax = \"proto3\"; import \"common/money.proto\"; import \"near.proto\"; import \"google/protobuf/any.proto\";
        message M { shop.Money m = 1; N n = 2; google.protobuf.Any a = 3; }";
    let money =
        "syntax = \"proto3\"; package shop; import \"common/code.proto\"; message Money { int64 v = 1; Code c = 2; }";
    let code = "syntax = \"proto3\"; package shop; enum Code { NONE = 0; }";
    let near = "syntax = \"proto3\"; message N { int32 x = 1; }";
    let files = [
        ("dir/m.proto", main),
        ("/inc/common/money.proto", money),
        ("/inc/common/code.proto", code),
        ("dir/near.proto", near),
    ];
    let options = [("schema-file", "dir/m.proto"), ("include-path", "/other; /inc/")];
    let format = parse(&files, &options).expect("found");
    let money = record(&[("v", Int64), ("c", Utf8)]);
    let table = columns(&[("m", money, true), ("n", record(&[("x", Int32)]), true)]);
    assert_eq!(row(&format, &table, &msg().inner(1, msg().int(1, 5)).0), r#"{"m":{"v":5,"c":"NONE"},"n":null}"#);
    let shown = told(parse(&files, &options[..1]));
    assert!(
        shown.contains("m.proto imports common/money.proto, which is not found") && shown.contains("looked for in dir"),
        "{shown}"
    );
    let ring = [
        ("a.proto", "syntax = \"proto3\"; import \"b.proto\"; message A {}"),
        ("b.proto", "syntax = \"proto3\"; import \"a.proto\";"),
    ];
    let shown = told(parse(&ring, &[("schema-file", "a.proto")]));
    assert!(shown.contains("import"), "{shown}");
}

#[test]
fn a_set_of_descriptors_does_as_well() {
    let shelf = Shelf(vec![("m.proto", TWO.as_bytes().to_vec())]);
    let described = Described::read(&shelf, "k", "m.proto", &[]).expect("compiled");
    let set = described.message("k", Some("shop.Order")).expect("there").parent_pool().encode_to_vec();
    let shelf = Shelf(vec![("m.desc", set), ("no.desc", b"\xff\xff".to_vec())]);
    let of = |path: &str| {
        let options = [("protobuf.schema-file", path), ("protobuf.message-name", "shop.Order")];
        let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        RecordOptions::parse_with(PROTOBUF, "", &options, &shelf)
    };
    let table = columns(&[("id", Int64, true)]);
    assert_eq!(row(&of("m.desc").expect("read"), &table, &msg().int(1, 5).0), r#"{"id":5}"#);
    let shown = told(of("no.desc"));
    assert!(shown.contains("is no set of descriptors") && shown.contains("--include_imports"), "{shown}");
}

#[test]
fn options_say_what_is_wrong_with_them() {
    let files = [("m.proto", TWO), ("bad.proto", "syntax = \"proto3\";\nmessage M { int33 x = 1; }")];
    assert!(told(parse(&files, &[])).contains("needs the option 'protobuf.schema-file'"));
    assert!(told(parse(&files, &[("schema-file", "x.proto")])).contains("there is no file x.proto"));
    let shown = told(parse(&files, &[("schema-file", "m.proto")]));
    assert!(shown.contains("describes 2 messages") && shown.contains("shop.Order, shop.Line"), "{shown}");
    let shown = told(parse(&files, &[("schema-file", "m.proto"), ("message-name", "Order")]));
    assert!(shown.contains("there is no message 'Order'") && shown.contains("did you mean 'shop.Order'?"), "{shown}");
    let shown = told(parse(&files, &[("schema-file", "m.proto"), ("message-name", "shop.Ordre")]));
    assert!(shown.contains("did you mean 'shop.Order'?"), "{shown}");
    let shown = told(parse(&files, &[("schema-file", "bad.proto")]));
    assert!(shown.contains("bad.proto:2:13") && shown.contains("int33"), "{shown}");
    let shown = told(parse(&files, &[("message-class-name", "a.b.C")]));
    assert!(shown.contains("names a class of Java") && shown.contains("'protobuf.message-name'"), "{shown}");
    let shown = told(parse(
        &files,
        &[("schema-file", "m.proto"), ("message-name", "shop.Order"), ("read-default-values", "yes")],
    ));
    assert!(shown.contains("'protobuf.read-default-values' cannot be 'yes'"), "{shown}");
    assert!(RecordOptions::keys("protobuf").contains(&"protobuf.schema-file"));
    assert!(RecordOptions::keys("protobuf-confluent").contains(&"protobuf-confluent.url"));
}

#[test]
fn a_column_that_the_message_does_not_have_or_has_otherwise_is_said_at_the_declaration() {
    let wrong = |name: &str, of: DataType| {
        let error = nested(&[]).check(&columns(&[(name, of, true)])).expect_err("refused");
        format!("{error} | {}", error.help().unwrap_or_default())
    };
    let shown = wrong("tag", list(Utf8));
    assert!(
        shown.contains("the message shop.Order has no field `tag`") && shown.contains("did you mean `tags`?"),
        "{shown}"
    );
    let shown = wrong("lines", list(record(&[("skuu", Utf8)])));
    assert!(shown.contains("shop.Line has no field `skuu` for the column `lines[].skuu`"), "{shown}");
    for (name, of, said, remedy) in [
        ("id", Int64, "column `id` is BIGINT, and the field `id` of shop.Order is string", "declare it STRING"),
        (
            "packed",
            Int32,
            "column `packed` is INT, and the field `packed` of shop.Order is repeated int32",
            "ARRAY<INT>",
        ),
        ("n", list(Int32), "is map<int32, int64>", "declare it MAP<INT, BIGINT>"),
        ("k", list(Boolean), "is enum shop.Kind", "STRING or INT"),
        ("main", Utf8, "`main` of shop.Order is shop.Line", "ROW<…>"),
    ] {
        let shown = wrong(name, of);
        let remedies = shown.contains(remedy);
        assert!(
            (shown.contains(said) || shown.contains(&said.replace("is enum", "is repeated enum"))) && remedies,
            "{shown}"
        );
    }
    let error = format(NUMBERS, &[]).check(&columns(&[("b", Int32, true)])).expect_err("refused");
    assert!(error.to_string().contains("column `b` is INT, and the field `b` of N is int64"), "{error}");
    let error = format(PROTO2, &[]).check(&columns(&[("g", record(&[("x", Int32)]), true)])).expect_err("refused");
    assert!(error.to_string().contains("group"), "{error}");
}

#[derive(Debug)]
struct One(Arc<Registered>);

impl Schemas for One {
    fn schema(&self, id: u32) -> Result<std::result::Result<Arc<Registered>, String>> {
        Ok(if id == 7 { Ok(self.0.clone()) } else { Err(format!("no schema {id}")) })
    }
}

fn confluent(options: &[(&str, &str)]) -> RecordOptions {
    let shelf = Shelf(vec![("m.proto", NESTED.as_bytes().to_vec())]);
    let options = options.iter().map(|(k, v)| (format!("protobuf-confluent.{k}"), v.to_string())).collect();
    RecordOptions::parse_with(PROTOBUF_CONFLUENT, "", &options, &shelf).expect("valid")
}

#[test]
fn a_record_with_a_number_says_which_message_of_its_schema_it_is() {
    let schema = Registered {
        text: "syntax = \"proto3\"; import \"other.proto\"; message A { Other o = 1; message In { int64 id = 1; message Deep { int64 id = 5; } } }
            message B { int64 id = 2; string new = 3; }"
            .into(),
        references: vec![("other.proto".into(), "syntax = \"proto3\"; message Other { int64 id = 1; }".into())],
    };
    let beyond = Beyond { schemas: Some(Arc::new(One(Arc::new(schema)))), ..Beyond::default() };
    let table = columns(&[("id", Int64, true)]);
    let read = |options: &[(&str, &str)], records: &[&[u8]]| {
        let (bytes, ranges) = laid_down(records);
        let mut decoder =
            confluent(options).decoder_beyond(&table, &[0], &beyond, OnBadRow::SetAside).expect("a decoder");
        let read = decoder.decode_records(&bytes, &ranges).expect("faults are handed back");
        (shown(&read.rows), read.faults.into_iter().map(|(_, why)| why).collect::<Vec<_>>())
    };
    let record = |steps: &[u8], message: Msg| [&[0, 0, 0, 0, 7], steps, &message.0].concat();
    let (rows, faults) = read(
        &[],
        &[
            // The first message: it has no such field, and the column is NULL.
            &record(&[0], msg()),
            // B, which is the second: one step to 1.
            &record(&[2, 2], msg().int(2, 5).bytes(3, b"x")),
            // A.In, A.In.Deep.
            &record(&[4, 0, 0], msg().int(1, 6)),
            &record(&[6, 0, 0, 0], msg().int(5, 7)),
        ],
    );
    assert_eq!((rows.as_str(), faults.len()), ("{\"id\":null}\n{\"id\":5}\n{\"id\":6}\n{\"id\":7}", 0), "{faults:?}");
    let (_, faults) = read(
        &[("message-name", "B")],
        &[
            &record(&[2, 4], msg()),
            &record(&[1], msg()),
            &record(&[0x80], msg()),
            &[0, 0, 0, 0, 9, 0],
            b"{}",
            &record(&[0], msg()),
        ],
    );
    assert!(faults[0].contains("schema 7: its schema has no message at [2]"), "{faults:?}");
    assert!(
        faults[1].contains("a position is negative") && faults[2].contains("the bytes end too early"),
        "{faults:?}"
    );
    assert_eq!(faults[3], "no schema 9");
    assert!(faults[4].contains("begins with the byte 123"), "{faults:?}");
    assert_eq!(faults[5], "the record is a A, and the table reads B");
}

#[test]
fn a_record_is_written_with_its_number_and_its_place() {
    let table = columns(&[("sku", Utf8, true)]);
    let rows = RecordBatch::try_new(table.clone(), vec![Arc::new(StringArray::from(vec!["s"]))]).expect("a batch");
    let format = confluent(&[("schema-file", "m.proto"), ("message-name", "shop.Line")]);
    assert_eq!(format.numbered_schema(&table).expect("text").as_deref(), Some(NESTED));
    let wrote = format.encoder_as(&table, Some(258)).expect("an encoder").encode_records(&rows, None).expect("written");
    assert_eq!(wrote.value(0), [&[0, 0, 0, 1, 2, 2, 2][..], &msg().bytes(1, b"s").0].concat());
    let first = confluent(&[("schema-file", "m.proto"), ("message-name", "shop.Order")]);
    let table = columns(&[("id", Utf8, true)]);
    let rows = RecordBatch::try_new(table.clone(), vec![Arc::new(StringArray::from(vec!["s"]))]).expect("a batch");
    let wrote = first.encoder_as(&table, Some(1)).expect("an encoder").encode_records(&rows, None).expect("written");
    assert_eq!(wrote.value(0), [&[0, 0, 0, 0, 1, 0][..], &msg().bytes(1, b"s").0].concat());
    let error = confluent(&[]).check_written(&table).expect_err("refused");
    assert!(error.to_string().contains("has to be described") && error.help().is_some(), "{error}");
}
