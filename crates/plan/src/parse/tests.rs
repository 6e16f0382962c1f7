//! What the front end reads, construct by construct.

use super::*;
use crate::catalog::{ColumnKind, TableDef};
use crate::parse::types::{arrow_type, parse_text};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion_sql::sqlparser::ast::{self, Expr};
use millstream_core::multiset::multiset_of;
use std::sync::Arc;

fn read(text: &str) -> Vec<Statement> {
    script(text, "t.sql").unwrap_or_else(|e| panic!("{text}\n{e}"))
}

fn one(text: &str) -> StatementKind {
    let mut statements = read(text);
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0).kind
}

fn table(text: &str) -> TableDef {
    match one(text) {
        StatementKind::CreateTable { table, .. } => table,
        other => panic!("{other:?}"),
    }
}

fn type_of(text: &str) -> DataType {
    parse_text(text).unwrap_or_else(|e| panic!("{text}: {e}")).data_type
}

#[test]
fn every_type_has_its_arrow_type() {
    use DataType::*;
    let utc = || Some("UTC".into());
    let list = |t: DataType| List(Arc::new(Field::new("item", t, true)));
    let map = |k: DataType, v: DataType| {
        let entries = Fields::from(vec![Field::new("key", k, false), Field::new("value", v, true)]);
        Map(Arc::new(Field::new("entries", Struct(entries), false)), false)
    };
    for (text, expected) in [
        ("BOOLEAN", Boolean),
        ("TINYINT", Int8),
        ("SMALLINT", Int16),
        ("INT", Int32),
        ("integer", Int32),
        ("BIGINT", Int64),
        ("FLOAT", Float32),
        ("DOUBLE", Float64),
        ("DOUBLE PRECISION", Float64),
        ("DECIMAL", Decimal128(10, 0)),
        ("DEC(5)", Decimal128(5, 0)),
        ("NUMERIC(38, 18)", Decimal128(38, 18)),
        ("CHAR(3)", Utf8),
        ("VARCHAR", Utf8),
        ("VARCHAR(2147483647)", Utf8),
        ("CHARACTER VARYING(5)", Utf8),
        ("STRING", Utf8),
        ("BINARY(4)", Binary),
        ("VARBINARY(10)", Binary),
        ("BYTES", Binary),
        ("MULTISET<STRING>", multiset_of(&Utf8)),
        ("STRING MULTISET", multiset_of(&Utf8)),
        (
            "multiset<ROW<a INT, b MULTISET<BIGINT>>> ARRAY",
            list(multiset_of(&Struct(
                vec![Field::new("a", Int32, true), Field::new("b", multiset_of(&Int64), true)].into(),
            ))),
        ),
        ("DATE", Date32),
        ("TIME", Time32(TimeUnit::Millisecond)),
        ("TIME(3) WITHOUT TIME ZONE", Time32(TimeUnit::Millisecond)),
        ("TIMESTAMP", Timestamp(TimeUnit::Microsecond, None)),
        ("TIMESTAMP(0)", Timestamp(TimeUnit::Millisecond, None)),
        ("TIMESTAMP(3)", Timestamp(TimeUnit::Millisecond, None)),
        ("TIMESTAMP(4)", Timestamp(TimeUnit::Microsecond, None)),
        ("TIMESTAMP(9)", Timestamp(TimeUnit::Nanosecond, None)),
        ("TIMESTAMP(3) WITHOUT TIME ZONE", Timestamp(TimeUnit::Millisecond, None)),
        ("TIMESTAMP_LTZ(3)", Timestamp(TimeUnit::Millisecond, utc())),
        ("TIMESTAMP(3) WITH LOCAL TIME ZONE", Timestamp(TimeUnit::Millisecond, utc())),
        ("ARRAY<INT>", list(Int32)),
        ("INT ARRAY", list(Int32)),
        ("INT NOT NULL ARRAY ARRAY", list(list(Int32))),
        ("ARRAY<ARRAY<ARRAY<STRING>>>", list(list(list(Utf8)))),
        ("MAP<STRING, INT>", map(Utf8, Int32)),
        ("MAP<STRING, ARRAY<INT>>", map(Utf8, list(Int32))),
        (
            "ROW<a INT, `b c` STRING NOT NULL 'a comment', d ROW<e DOUBLE>>",
            Struct(Fields::from(vec![
                Field::new("a", Int32, true),
                Field::new("b c", Utf8, false),
                Field::new("d", Struct(Fields::from(vec![Field::new("e", Float64, true)])), true),
            ])),
        ),
        (
            "ROW(a INT, b TIME)",
            Struct(Fields::from(vec![
                Field::new("a", Int32, true),
                Field::new("b", Time32(TimeUnit::Millisecond), true),
            ])),
        ),
    ] {
        let parsed = parse_text(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(parsed.data_type, expected, "{text}");
        assert_eq!(type_of(&parsed.text), expected, "the text in full reads as the same: {}", parsed.text);
        assert!(parsed.nullable);
        assert!(!parse_text(&format!("{text} NOT NULL")).unwrap().nullable);
    }
}

#[test]
fn a_type_means_the_same_in_a_cast() {
    for text in [
        "INT",
        "BIGINT",
        "DOUBLE",
        "DECIMAL(10, 2)",
        "STRING",
        "VARCHAR(5)",
        "BYTES",
        "TIMESTAMP",
        "TIMESTAMP(3)",
        "TIMESTAMP(9)",
        "TIMESTAMP_LTZ(3)",
        "TIMESTAMP(3) WITH LOCAL TIME ZONE",
        "DATE",
        "TIME(3)",
        "ARRAY<INT>",
        "INT ARRAY",
        "BOOLEAN",
        "MAP<STRING, ROW<a INT, b ARRAY<MAP<STRING, INT>>>>",
        "ROW<a INT NOT NULL, b STRING>",
        "TINYINT",
        "FLOAT",
        "DEC(5)",
        "TIMESTAMP_LTZ",
    ] {
        let Expr::Cast { data_type, .. } = expression(&format!("CAST(x AS {text})"), "t.sql").unwrap() else {
            panic!()
        };
        assert_eq!(arrow_type(&data_type), Some(type_of(text)), "{text}: {data_type}");
    }
    assert_eq!(arrow_type(&ast::DataType::Uuid), None);
}

#[test]
fn a_table_is_read_whole() {
    let t = table(
        "CREATE TEMPORARY TABLE IF NOT EXISTS `my table` (
            id BIGINT NOT NULL COMMENT 'the key',
            price DECIMAL(10, 2),
            total AS price * 2 COMMENT 'twice',
            ts TIMESTAMP(3),
            off BIGINT METADATA FROM 'offset' VIRTUAL,
            `timestamp` TIMESTAMP_LTZ(3) METADATA,
            proc AS PROCTIME(),
            tags ROW<a ARRAY<STRING>>,
            WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
            CONSTRAINT pk PRIMARY KEY (id, price) NOT ENFORCED
         ) COMMENT 'a table' PARTITIONED BY (price, ts) WITH ('connector' = 'filesystem', 'path' = 'it''s')",
    );
    assert_eq!(t.name, "my table");
    assert_eq!(
        t.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["id", "price", "total", "ts", "off", "timestamp", "proc", "tags"]
    );
    assert_eq!(t.columns[0].comment.as_deref(), Some("the key"));
    assert_eq!(t.columns[2].comment.as_deref(), Some("twice"));
    assert!(matches!(&t.columns[0].kind, ColumnKind::Physical { nullable: false, data_type: DataType::Int64 }));
    assert!(matches!(&t.columns[1].kind, ColumnKind::Physical { nullable: false, .. }), "the key is NOT NULL");
    assert!(matches!(&t.columns[2].kind, ColumnKind::Computed { expression } if expression.to_string() == "price * 2"));
    assert!(matches!(&t.columns[4].kind, ColumnKind::Metadata { key, is_virtual: true, .. } if key == "offset"));
    assert!(matches!(&t.columns[5].kind, ColumnKind::Metadata { key, is_virtual: false, .. } if key == "timestamp"));
    assert_eq!((t.columns[3].span.line, t.columns[3].span.column), (5, 13));
    let watermark = t.watermark.unwrap();
    assert_eq!(watermark.column, "ts");
    assert_eq!(watermark.expression.to_string(), "ts - INTERVAL '5' SECOND");
    assert_eq!((watermark.span.line, watermark.span.column), (10, 13));
    assert_eq!(t.primary_key, ["id", "price"]);
    assert_eq!(t.partitioned_by, ["price", "ts"]);
    assert_eq!(t.options.get("path").map(String::as_str), Some("it's"));
    assert_eq!(t.place.0, "t.sql:1:1");
}

#[test]
fn words_of_the_grammar_can_be_names_of_columns() {
    let t = table(
        "CREATE TABLE t (watermark TIMESTAMP(3), `primary` INT PRIMARY KEY NOT ENFORCED, `constraint` INT, period INT,
         comment STRING, metadata INT METADATA, WATERMARK FOR watermark AS watermark) WITH ('connector' = 'x')",
    );
    assert_eq!(t.columns.len(), 6);
    assert_eq!(t.primary_key, ["primary"]);
}

#[test]
fn statements_stand_at_their_place_in_the_whole_text() {
    let statements = read(
        "-- first; not a statement\nSET 'a' = 'b;c'; /* ; */ ;;\n  SELECT 1;\n\n\tDROP TABLE IF EXISTS t;DROP TEMPORARY VIEW v\n;",
    );
    let places: Vec<String> = statements.iter().map(|s| s.place("f").0).collect();
    assert_eq!(places, ["f:2:1", "f:3:3", "f:5:2", "f:5:25"]);
    assert!(matches!(&statements[0].kind, StatementKind::Set { key, value: Some(v) } if key == "a" && v == "b;c"));
    assert!(matches!(&statements[2].kind, StatementKind::DropTable { name, if_exists: true } if name == "t"));
    assert!(matches!(&statements[3].kind, StatementKind::DropView { name, if_exists: false } if name == "v"));
    assert!(read(" \n -- nothing \n").is_empty());
    assert_eq!(read("\u{FEFF}SELECT 1\r\n;\r\nSELECT 2")[1].place("f").0, "f:3:1");
    let e = script("SELECT 1;\nSELECT a b c FROM t", "f").unwrap_err();
    assert_eq!(e.place().unwrap().0, "f:2:12");
}

#[test]
fn settings_are_read_quoted_and_bare() {
    for (text, key, value) in [
        ("SET 'a.b-c' = 'x y'", "a.b-c", Some("x y")),
        ("SET a.b-c = x y -- note", "a.b-c", Some("x y")),
        ("SET parallelism.default=4", "parallelism.default", Some("4")),
        ("SET a.b = 10 s", "a.b", Some("10 s")),
        ("SET a.b = 'q'", "a.b", Some("q")),
        ("SET a.b = ''", "a.b", Some("")),
        ("SET 'a'", "a", None),
        ("RESET 'a.b'", "a.b", None),
        ("RESET a.b", "a.b", None),
        ("RESET", "", None),
    ] {
        match one(text) {
            StatementKind::Set { key: k, value: v } => assert_eq!((k.as_str(), v.as_deref()), (key, value), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn inserts_views_and_queries_are_read() {
    let insert = |text: &str| match one(text) {
        StatementKind::Insert(i) => i,
        other => panic!("{other:?}"),
    };
    assert_eq!(insert("INSERT INTO t SELECT * FROM s").table, "t");
    assert_eq!(insert("INSERT INTO t (a, `b`) SELECT x, y FROM s").columns, ["a", "b"]);
    assert_eq!(insert("EXECUTE INSERT INTO t (a) VALUES (1), (2)").columns, ["a"]);
    assert!(insert("INSERT INTO t (SELECT 1)").columns.is_empty());
    assert!(insert("INSERT INTO t ((SELECT 1) UNION ALL (SELECT 2))").columns.is_empty());
    assert!(insert("INSERT INTO t WITH a AS (SELECT 1) SELECT * FROM a").columns.is_empty());
    assert!(matches!(one("CREATE TEMPORARY VIEW IF NOT EXISTS v (a, b) COMMENT 'c' AS SELECT 1, 2"),
        StatementKind::CreateView { view, if_not_exists: true } if view.columns == ["a", "b"]));
    assert!(matches!(one("(SELECT 1) UNION ALL (SELECT 2)"), StatementKind::Query(_)));
    assert!(matches!(one("VALUES (1, 'a')"), StatementKind::Query(_)));
}

#[test]
fn a_statement_set_is_one_statement() {
    for text in [
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT CASE WHEN x THEN 1 END FROM t; INSERT INTO b SELECT 2; END;",
        "EXECUTE STATEMENT SET\nBEGIN\n;INSERT INTO a SELECT 1;\nINSERT INTO b VALUES (CASE WHEN TRUE THEN 2 END);\nEND",
        "BEGIN STATEMENT SET; INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END;",
    ] {
        let mut statements = read(&format!("{text}\n; SELECT 1"));
        assert_eq!(statements.len(), 2, "{text}");
        match statements.remove(0).kind {
            StatementKind::StatementSet(inserts) => {
                assert_eq!(inserts.iter().map(|i| i.table.as_str()).collect::<Vec<_>>(), ["a", "b"]);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn explain_takes_queries_inserts_and_sets() {
    for (text, as_mermaid) in [
        ("EXPLAIN SELECT 1", false),
        ("EXPLAIN PLAN FOR INSERT INTO t SELECT 1", false),
        ("EXPLAIN MERMAID SELECT 1", true),
        ("EXPLAIN STATEMENT SET BEGIN INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END", false),
        ("EXPLAIN MERMAID EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; END", true),
    ] {
        match one(text) {
            StatementKind::Explain { mermaid, .. } => assert_eq!(mermaid, as_mermaid, "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_hint_goes_to_its_table() {
    let StatementKind::Query(q) =
        one("SELECT * FROM a /*+ OPTIONS('x' = '1', 'y'='2') */ AS t, b /*+ options('z'='3') */")
    else {
        panic!()
    };
    let ast::SetExpr::Select(select) = &*q.body else { panic!() };
    let options = |i: usize| table_options(&select.from[i].relation);
    assert_eq!(options(0), [("x".to_string(), "1".to_string()), ("y".to_string(), "2".to_string())]);
    assert_eq!(options(1), [("z".to_string(), "3".to_string())]);
}

#[test]
fn depth_and_length_are_bounded_and_never_overflow_the_stack() {
    // The first is the longest: tokenizing is what takes the time.
    let n = 20_000;
    for text in [
        format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("SELECT {}1", "(".repeat(n)),
        format!("SELECT {}", "NOT ".repeat(n)),
        format!("SELECT {}1", "- ".repeat(n)),
        format!("SELECT 1{}", " + 1".repeat(n)),
        format!("SELECT a{}", " OR a".repeat(n)),
        format!("SELECT a{}", " BETWEEN 1 AND 2".repeat(n)),
        format!("SELECT a{}", " + CASE WHEN a THEN b END".repeat(n)),
        format!("SELECT a{}", " + CASE a WHEN b OR c THEN b END".repeat(n)),
        format!("SELECT a{}", " IS DISTINCT FROM a".repeat(n)),
        format!("SELECT a{}", "::INT".repeat(n)),
        format!("SELECT a{}", "[1]".repeat(n)),
        format!("SELECT {}a", "f(".repeat(n)),
        format!("SELECT {}a", "CASE WHEN ".repeat(n)),
        format!("SELECT {}1", "CASE ".repeat(n)),
        format!("SELECT {}1", "ARRAY<".repeat(n)),
        format!("SELECT {}1", "INTERVAL ".repeat(n)),
        format!("SELECT {}1", "EXISTS (".repeat(n)),
        format!("SELECT CAST(a AS {}INT", "ARRAY<".repeat(n)),
        format!("SELECT CAST(a AS INT{})", " ARRAY".repeat(n)),
        format!("SELECT CAST(a AS {}INT", "ROW(a ".repeat(n)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(n)),
        format!("SELECT * FROM {}a", "(".repeat(n)),
        format!("SELECT * FROM a{}", " JOIN a".repeat(n)),
        format!("{} SELECT 1", "EXPLAIN ".repeat(n)),
        format!("{} SELECT 1", "WITH a AS (".repeat(n)),
        format!("CREATE TABLE t (a {}INT", "MAP<INT,".repeat(n)),
        format!("CREATE TABLE t (a INT{})", " ARRAY".repeat(n)),
        format!("SELECT * FROM a{}", " PIVOT (".repeat(n)),
        format!("SELECT {}1", "a -> ".repeat(n)),
        format!("SELECT {}1", "x IN (".repeat(n)),
        format!("SELECT {}", "MAP[1,".repeat(n)),
        format!("SELECT {}", "TABLE t PARTITION BY ".repeat(n)),
    ] {
        // One that tried every way to read it would not come back.
        let result = script(&text, "t.sql");
        let head: String = text.chars().take(40).collect();
        assert!(result.is_err(), "{head}");
    }
}

#[test]
fn what_people_write_is_not_too_deep_or_too_long() {
    let n = NESTING_MAX - 4;
    let ors: Vec<String> = (0..3000).map(|i| format!("a = {i}")).collect();
    for text in [
        format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n)),
        format!("SELECT {}x{}", "ABS(".repeat(n), ")".repeat(n)),
        format!("SELECT {}x{}", "CASE WHEN a THEN 1 ELSE ".repeat(60), " END".repeat(60)),
        format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(40), ") AS x".repeat(40)),
        format!("SELECT a FROM t WHERE {}", ors.join(" OR ")),
        format!("SELECT a FROM t WHERE a IN ({})", vec!["1"; 50_000].join(", ")),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(60)),
        format!("INSERT INTO t VALUES {}", vec!["(1, 'a')"; 5_000].join(", ")),
        format!("SELECT {}", vec!["a < 1"; 700].join(" AND ")),
        format!("SELECT {}", vec!["(a = 1 AND b BETWEEN 2 AND 3)"; 1_000].join(" OR ")),
        format!("SELECT CASE {} END", vec!["WHEN a = 1 AND b = 2 THEN 'x'"; 700].join(" ")),
        format!("SELECT * FROM a {}", "JOIN b ON a.x = b.x AND a.y = b.y ".repeat(100)),
        format!("SELECT {}", vec!["a"; 120].join(" || ',' || ")),
        format!("SELECT {}", vec!["CASE WHEN a < 1 THEN 2 END"; 500].join(", ")),
    ] {
        let statements = read(&text);
        // Deep trees are also shown, copied and dropped.
        let copy = statements.clone();
        assert_eq!(format!("{:?}", copy[0]).len(), format!("{:?}", statements[0]).len());
    }
}

/// Words and signs that a script is made of, for nonsense that is almost sense.
const PIECES: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST(",
    "TRY_CAST(",
    "AS",
    "INT",
    "ROW<",
    "MAP<",
    "ARRAY<",
    ">",
    ">>",
    "<",
    "(",
    ")",
    "[",
    "]",
    "MAP[",
    "ARRAY[",
    ",",
    ";",
    "'a'",
    "'",
    "`a`",
    "\"a\"",
    "a",
    "b.c",
    "1",
    "1.5",
    "*",
    "+",
    "-",
    "/",
    "=",
    "<>",
    "=>",
    "::",
    "->",
    "||",
    "AND",
    "OR",
    "NOT",
    "IN (",
    "BETWEEN",
    "IS",
    "NULL",
    "DISTINCT",
    "INTERVAL",
    "'1' DAY",
    "TABLE",
    "TABLE(",
    "TUMBLE(",
    "DESCRIPTOR(",
    "PARTITION BY",
    "OVER (",
    "UNION ALL",
    "WITH",
    "VALUES",
    "JOIN",
    "ON",
    "UNNEST(",
    "LATERAL",
    "CREATE",
    "VIEW",
    "WATERMARK FOR",
    "PRIMARY KEY",
    "NOT ENFORCED",
    "METADATA",
    "VIRTUAL",
    "LIKE",
    "WITH (",
    "'k' = 'v'",
    "INSERT INTO",
    "SET",
    "RESET",
    "EXPLAIN",
    "MERMAID",
    "EXECUTE STATEMENT SET BEGIN",
    "BEGIN STATEMENT SET;",
    "DROP",
    "IF EXISTS",
    "--",
    "/*",
    "*/",
    "/*+ OPTIONS(",
    "\n",
    "EXTRACT(",
    "FLOOR(",
    "TO",
    "TRIM(",
    "POSITION(",
    "FOR SYSTEM_TIME AS OF",
    "é",
    "\u{1F600}",
    "\t",
    "U&'",
    "E'\\",
    "$$",
    "@",
    "?",
    ":a",
    "{",
    "}",
    "0x",
    "\u{1}",
    "PIVOT (",
    "MATCH_RECOGNIZE (",
    "GROUPING SETS (",
    "WINDOW w AS (",
    "FILTER (",
    "WITHIN GROUP (",
    "JSON_TABLE(",
    "EXISTS (",
    "ANY (",
    "ALL",
    "COLLATE",
];

const SAMPLE: &str = "SET 'a' = 'b'; CREATE TABLE t (a ROW<x INT, y ARRAY<STRING>>, b AS a.x + 1, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
 PRIMARY KEY (a) NOT ENFORCED) PARTITIONED BY (b) WITH ('connector' = 'print'); CREATE VIEW v AS SELECT a, COUNT(*) FILTER (WHERE b > 1) OVER w FROM t /*+ OPTIONS('a'='b') */ AS x
 WINDOW w AS (PARTITION BY a ORDER BY ts); EXECUTE STATEMENT SET BEGIN INSERT INTO t (a) SELECT window_start, CASE WHEN a IN (1, 2) THEN MAP['k', 1]['k'] END FROM
 TABLE(SESSION(TABLE v PARTITION BY a, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start; END; EXPLAIN MERMAID SELECT CAST(a AS MAP<STRING, INT>) FROM (SELECT * FROM t) AS y";

#[test]
fn the_sample_reads() {
    assert_eq!(read(SAMPLE).len(), 5);
}

mod any_text {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn of_pieces_never_panics(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
            fuzz_script(pieces.join(" ").as_bytes());
        }

        #[test]
        fn after_a_start_that_reads_never_panics(
            start in prop::sample::select(vec!["SELECT ", "SELECT a FROM t WHERE ", "CREATE TABLE t (", "INSERT INTO t SELECT ", "SELECT * FROM TABLE("]),
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40),
        ) {
            fuzz_script(format!("{start}{}", pieces.join(" ")).as_bytes());
        }

        #[test]
        fn of_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            fuzz_script(&bytes);
        }

        #[test]
        fn near_a_script_never_panics(cut in 0..SAMPLE.len(), length in 0usize..20, piece in prop::sample::select(PIECES)) {
            let to = (cut + length).min(SAMPLE.len());
            fuzz_script(format!("{}{piece}{}", &SAMPLE[..cut], &SAMPLE[to..]).as_bytes());
        }

        #[test]
        fn of_types_reads_back_as_written(text in types()) {
            let parsed = parse_text(&text).unwrap();
            prop_assert_eq!(parse_text(&parsed.text).unwrap().data_type, parsed.data_type);
        }
    }

    fn types() -> impl Strategy<Value = String> {
        let leaf =
            prop::sample::select(vec!["INT", "STRING", "TIMESTAMP(3)", "DECIMAL(10, 2)", "BYTES NOT NULL", "TIME"]);
        leaf.prop_map(String::from).prop_recursive(4, 12, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|t| format!("ARRAY<{t}>")),
                inner.clone().prop_map(|t| format!("{t} ARRAY")),
                (inner.clone(), inner.clone()).prop_map(|(k, v)| format!("MAP<{k}, {v}>")),
                (inner.clone(), inner).prop_map(|(a, b)| format!("ROW<a {a}, `b` {b}>")),
            ]
        })
    }
}

#[test]
fn json_functions_take_flinks_clauses() {
    let shown = |text: &str| expression(text, "t").map(|e| e.to_string()).map_err(|e| e.what().to_string());
    let plain = "JSON_VALUE(x, '$.a')";
    for same in [
        "JSON_VALUE(x, '$.a')",
        "JSON_VALUE(x, '$.a' NULL ON EMPTY)",
        "JSON_VALUE(x, '$.a' RETURNING STRING NULL ON EMPTY NULL ON ERROR)",
    ] {
        assert_eq!(shown(same).as_deref(), Ok(plain));
    }
    assert_eq!(shown("json_value(x, '$.a' RETURNING INT)").as_deref(), Ok("TRY_CAST(json_value(x, '$.a') AS INT)"));
    for (written, plain) in [
        ("JSON_VALUE(x, '$.a' DEFAULT 0 ON EMPTY)", "JSON_VALUE(x, '$.a', 'STRING', 'DEFAULT', 0, 'NULL', NULL)"),
        (
            "JSON_VALUE(x, '$.a' RETURNING INT ERROR ON ERROR)",
            "JSON_VALUE(x, '$.a', 'INT', 'NULL', NULL, 'ERROR', NULL)",
        ),
        ("JSON_QUERY(x, '$')", "JSON_QUERY(x, '$')"),
        ("JSON_QUERY(x, '$' WITH ARRAY WRAPPER)", "JSON_QUERY(x, '$', 'WITH', 'NULL', 'NULL')"),
        (
            "JSON_QUERY(x, '$' WITH CONDITIONAL WRAPPER EMPTY ARRAY ON EMPTY ERROR ON ERROR)",
            "JSON_QUERY(x, '$', 'CONDITIONAL', 'EMPTY ARRAY', 'ERROR')",
        ),
        ("JSON_EXISTS(x, '$.a' TRUE ON ERROR)", "JSON_EXISTS(x, '$.a', 'TRUE')"),
        ("JSON_OBJECT(KEY 'a' VALUE b, 'c' VALUE d)", "json_object('a', b, 'c', d)"),
        ("JSON_OBJECT(KEY 'a' VALUE b ABSENT ON NULL)", "json_object_absent_on_null('a', b)"),
        ("JSON_ARRAYAGG(x)", "json(concat('[', coalesce(listagg(json_string(x), ','), ''), ']'))"),
        ("x IS JSON", "is_json(x, 'VALUE')"),
        ("x IS NOT JSON ARRAY", "NOT is_json(x, 'ARRAY')"),
        ("x BETWEEN ASYMMETRIC 1 AND 2", "(x BETWEEN 1 AND 2)"),
        ("x NOT BETWEEN SYMMETRIC 1 AND 2", "NOT (x BETWEEN 1 AND 2 OR x BETWEEN 2 AND 1)"),
        ("x BETWEEN SYMMETRIC 1 AND 2 AND y", "(x BETWEEN 1 AND 2 OR x BETWEEN 2 AND 1) AND y"),
    ] {
        assert_eq!(shown(written).as_deref(), Ok(plain), "{written}");
    }
    for (written, wrong) in [
        (
            "JSON_VALUE(x, '$.a' RETURNING DATE DEFAULT 1 ON EMPTY)",
            "JSON_VALUE with ON EMPTY or ON ERROR returns STRING, BOOLEAN, INT or DOUBLE, not DATE",
        ),
        ("JSON_VALUE(x, '$.a' NULL ON EMPTY NULL ON EMPTY)", "ON EMPTY is said twice"),
        ("JSON_QUERY(x, '$' EMPTY ON ERROR)", "expected ARRAY or OBJECT after EMPTY, found `ON`"),
    ] {
        assert_eq!(shown(written).unwrap_err(), wrong);
    }
    assert_eq!(shown("TRIM(BOTH FROM x)").as_deref(), Ok("TRIM(BOTH x)"));
}
