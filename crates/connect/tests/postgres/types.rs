//! Every type that a table can declare: what is written is what the server has.

use super::*;

#[test]
fn every_type_arrives_as_what_it_was() {
    let Some(server) = server("types") else { return };
    let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)];
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false);
    let row: Vec<Field> = vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)];
    let row = DataType::Struct(row.into());

    let mut maps = MapBuilder::new(
        Some(MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() }),
        StringBuilder::new(),
        Int32Builder::new(),
    );
    maps.keys().append_value("x\"y");
    maps.values().append_value(1);
    maps.append(true).expect("even");
    maps.append(false).expect("even");
    maps.append(true).expect("even");
    let DataType::Struct(fields) = &row else { unreachable!("a row") };
    let rows = StructArray::new(
        fields.clone(),
        vec![
            Arc::new(Int32Array::from(vec![Some(1), None, None])) as ArrayRef,
            Arc::new(StringArray::from(vec![Some("t\tx"), None, None])),
        ],
        Some(vec![true, false, true].into()),
    );
    let mut texts = ListBuilder::new(StringBuilder::new());
    texts.append_value([Some("a\"b\\"), None, Some("NULL"), Some(""), Some("{x,y}\n")]);
    texts.append_null();
    texts.append_value(Vec::<Option<&str>>::new());
    let mut times = ListBuilder::new(TimestampMicrosecondBuilder::new());
    times.append_value([Some(1_500_000), None]);
    times.append_null();
    times.append_value(Vec::<Option<i64>>::new());
    let millis = [Some(1_357_035_300_123), None, Some(-62_135_683_200_000)];

    // Name, SQL type on the server, what is sent (a value, NULL, an extreme), what the server then shows.
    let columns: Vec<(&str, &str, ArrayRef, [&str; 3])> = vec![
        ("id", "int PRIMARY KEY", Arc::new(Int32Array::from(vec![1, 2, 3])), ["1", "2", "3"]),
        ("b", "boolean", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), ["t", "NULL", "f"]),
        ("i1", "smallint", Arc::new(Int8Array::from(vec![Some(-128), None, Some(127)])), ["-128", "NULL", "127"]),
        ("i2", "smallint", Arc::new(Int16Array::from(vec![Some(-32768), None, Some(1)])), ["-32768", "NULL", "1"]),
        ("i4", "int", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(1)])), ["-2147483648", "NULL", "1"]),
        (
            "i8",
            "bigint",
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(1)])),
            ["-9223372036854775808", "NULL", "1"],
        ),
        (
            "wide",
            "numeric",
            Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(1)])),
            ["9223372036854775807", "NULL", "1"],
        ),
        ("f4", "real", Arc::new(Float32Array::from(vec![Some(0.1), None, Some(f32::NAN)])), ["0.1", "NULL", "NaN"]),
        (
            "f8",
            "float8",
            Arc::new(Float64Array::from(vec![Some(-1e-300), None, Some(f64::NEG_INFINITY)])),
            ["-1e-300", "NULL", "-Infinity"],
        ),
        (
            "d",
            "numeric(38,10)",
            Arc::new(
                Decimal128Array::from(vec![Some(-(10i128.pow(38) - 1)), None, Some(5)])
                    .with_precision_and_scale(38, 10)
                    .expect("fits"),
            ),
            ["-9999999999999999999999999999.9999999999", "NULL", "0.0000000005"],
        ),
        ("s", "varchar", Arc::new(StringArray::from(vec![Some("ä\\N\t"), None, Some("")])), ["ä\\N\t", "NULL", ""]),
        (
            "u",
            "uuid",
            Arc::new(StringArray::from(vec![Some("7d444840-9dc0-11d1-b245-5ffdce74fad2"), None, None])),
            ["7d444840-9dc0-11d1-b245-5ffdce74fad2", "NULL", "NULL"],
        ),
        (
            "j",
            "jsonb",
            Arc::new(StringArray::from(vec![Some("{\"a\": \"\\n\"}"), None, Some("1")])),
            ["{\"a\": \"\\n\"}", "NULL", "1"],
        ),
        (
            "y",
            "bytea",
            Arc::new(BinaryArray::from(vec![Some(&[0u8, 92, 255][..]), None, Some(&[])])),
            ["\\x005cff", "NULL", "\\x"],
        ),
        (
            "day",
            "date",
            Arc::new(Date32Array::from(vec![Some(-1), None, Some(2_932_897)])),
            ["1969-12-31", "NULL", "10000-01-01"],
        ),
        (
            "tm",
            "time",
            Arc::new(Time32MillisecondArray::from(vec![Some(86_399_999), None, Some(0)])),
            ["23:59:59.999", "NULL", "00:00:00"],
        ),
        (
            "t3",
            "timestamp",
            Arc::new(TimestampMillisecondArray::from(millis.to_vec())),
            ["2013-01-01 10:15:00.123", "NULL", "0001-12-31 00:00:00 BC"],
        ),
        (
            "t6",
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(253_402_300_800_000_001)])),
            ["1969-12-31 23:59:59.999999", "NULL", "10000-01-01 00:00:00.000001"],
        ),
        (
            "t9",
            "timestamp",
            Arc::new(TimestampNanosecondArray::from(vec![Some(1_999), None, Some(-1)])),
            ["1970-01-01 00:00:00.000001", "NULL", "1969-12-31 23:59:59.999999"],
        ),
        (
            "l3",
            "timestamptz",
            Arc::new(TimestampMillisecondArray::from(millis.to_vec()).with_timezone("UTC")),
            ["2013-01-01 10:15:00.123+00", "NULL", "0001-12-31 00:00:00+00 BC"],
        ),
        (
            "ai",
            "int[]",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
                Some(vec![Some(1), None]),
                None,
                Some(vec![]),
            ])),
            ["{1,NULL}", "NULL", "{}"],
        ),
        ("at", "text[]", Arc::new(texts.finish()), ["{\"a\\\"b\\\\\",NULL,\"NULL\",\"\",\"{x,y}\n\"}", "NULL", "{}"]),
        ("ats", "timestamp[]", Arc::new(times.finish()), ["{\"1970-01-01 00:00:01.5\",NULL}", "NULL", "{}"]),
        ("m", "jsonb", Arc::new(maps.finish()), ["{\"x\\\"y\": 1}", "NULL", "{}"]),
        ("r", "json", Arc::new(rows), ["{\"a\":1,\"b\":\"t\\tx\"}", "NULL", "{\"a\":null,\"b\":null}"]),
    ];
    let declared = |name: &str| match name {
        "ai" => list(DataType::Int32),
        "at" => list(DataType::Utf8),
        "ats" => list(micros.clone()),
        "m" => map.clone(),
        "r" => row.clone(),
        _ => columns.iter().find(|c| c.0 == name).expect("a column").2.data_type().clone(),
    };
    let ddl: Vec<String> = columns.iter().map(|(name, sql, ..)| format!("{name} {sql}")).collect();
    server.table(&format!("t ({})", ddl.join(", ")));
    let fields: Vec<Field> = columns.iter().map(|(name, ..)| Field::new(*name, declared(name), true)).collect();
    let arrays = columns.iter().map(|c| c.2.clone()).collect();
    let batch = Batch::from(RecordBatch::try_new(Arc::new(Schema::new(fields.clone())), arrays).expect("they fit"));
    // By key, and twice, so that every type also goes through the temporary table and the update.
    let spec = server.spec("t", fields.clone(), &["id"], &[]);
    for _ in 0..2 {
        let mut sink = open(&spec).expect("opened");
        sink.write(&batch).expect("held");
        sink.finish().expect("sent");
    }
    for (name, sql, _, shown) in &columns {
        let got = server.sql(&format!("SET timezone = 'UTC'; SELECT {name} FROM types.t ORDER BY id"));
        assert_eq!(got, shown, "{name} {sql}");
    }
    // The table that the remedy of a missing one describes takes the same rows.
    let mut missing = server.spec("made", fields, &["id"], &[]);
    let e = fails(open(&missing));
    let help = e.help().expect("a statement to copy").to_string();
    server.sql(&help[help.find("CREATE TABLE").expect("a statement to copy")..]);
    missing.options.insert("sink.max-retries".into(), "0".into());
    let mut sink = open(&missing).expect("made");
    sink.write(&batch).expect("held");
    sink.finish().expect("sent");
    assert_eq!(server.sql("SELECT count(*) FROM types.made"), ["3"]);
}
