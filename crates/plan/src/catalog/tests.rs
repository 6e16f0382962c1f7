//! What the front end says when a script is wrong: text, place and remedy, word by word.

use super::*;
use crate::parse::script;

/// The first error of a script, read and applied.
fn error(sql: &str) -> Option<Error> {
    let statements = match script(sql, "t.sql") {
        Ok(statements) => statements,
        Err(e) => return Some(e),
    };
    let mut catalog = Catalog::default();
    statements.iter().find_map(|s| catalog.apply(s, "t.sql").err())
}

#[test]
fn an_error_says_where_what_and_what_to_do() {
    for (sql, place, what, remedy) in CASES {
        let e = error(sql).unwrap_or_else(|| panic!("no error: {sql}"));
        assert_eq!((e.what(), e.help()), (*what, Some(*remedy)), "{sql}");
        assert_eq!(e.place().map(|p| p.0.as_str()), Some(format!("t.sql:{place}").as_str()), "{sql}");
    }
}

/// The catalog after a script.
fn catalog(sql: &str) -> Catalog {
    let mut catalog = Catalog::default();
    for statement in script(sql, "t.sql").unwrap() {
        catalog.apply(&statement, "t.sql").unwrap();
    }
    catalog
}

#[test]
fn a_script_fills_the_catalog_in_its_order() {
    let c = catalog(
        "SET 'table.local-time-zone' = 'Asia/Tokyo';
         CREATE TABLE t (a INT, b AS a + 1, m STRING METADATA FROM 'k', v BIGINT METADATA VIRTUAL) WITH ('connector' = 'print');
         CREATE TABLE IF NOT EXISTS t (other INT) WITH ('connector' = 'print');
         CREATE VIEW v AS SELECT * FROM t;
         CREATE TABLE gone (a INT) WITH ('connector' = 'print');
         DROP TABLE gone; DROP TABLE IF EXISTS gone; DROP VIEW IF EXISTS nobody;
         RESET 'table.local-time-zone'; SET 'pipeline.name' = 'job';",
    );
    assert_eq!(c.tables.keys().collect::<Vec<_>>(), ["t"]);
    assert_eq!(c.views.keys().collect::<Vec<_>>(), ["v"]);
    assert_eq!(c.settings.local_time_zone, "UTC");
    assert_eq!(c.settings.job_name.as_deref(), Some("job"));
    let t = &c.tables["t"];
    let names = |fields: Vec<Field>| fields.iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(t.physical_fields()), ["a"]);
    assert_eq!(names(t.written_fields()), ["a", "m"]);
    assert_eq!(t.to_spec().schema.fields().len(), 1);
    assert_eq!(t.to_sink_spec().schema.fields().len(), 2);
    assert_eq!(t.to_spec().connector(), "print");
}

#[test]
fn a_failed_statement_leaves_the_catalog_as_it_was() {
    let mut c = catalog("CREATE TABLE t (a INT) WITH ('connector' = 'print'); SET 'parallelism.default' = '3'");
    let before = format!("{c:?}");
    for sql in [
        "CREATE TABLE t (b INT) WITH ('connector' = 'x')",
        "SET 'parallelism.default' = 'x'",
        "DROP VIEW t",
        "CREATE TABLE u (b INT, b INT) WITH ('connector' = 'x')",
    ] {
        assert!(c.apply(&script(sql, "t.sql").unwrap()[0], "t.sql").is_err(), "{sql}");
        assert_eq!(format!("{c:?}"), before);
    }
}

#[test]
fn like_takes_over_what_its_rules_say() {
    let base = "CREATE TABLE s (a INT, b AS a + 1, m INT METADATA, ts TIMESTAMP(3), WATERMARK FOR ts AS ts, PRIMARY KEY (a) NOT ENFORCED)
                PARTITIONED BY (a) WITH ('connector' = 'print', 'x' = '1');";
    let like = |sql: &str| catalog(&format!("{base} {sql}")).tables["t"].clone();
    let columns = |t: &TableDef| t.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>().join(" ");

    let t = like("CREATE TABLE t (c INT) WITH ('x' = '2') LIKE s");
    assert_eq!(columns(&t), "a b m ts c");
    assert_eq!((t.options["connector"].as_str(), t.options["x"].as_str()), ("print", "2"));
    assert!(t.watermark.is_some() && t.like.is_none());
    assert_eq!((t.primary_key.len(), t.partitioned_by.len()), (1, 1));

    let t = like("CREATE TABLE t WITH ('connector' = 'y') LIKE s (EXCLUDING ALL)");
    assert_eq!(
        (columns(&t).as_str(), t.options.len(), t.watermark.is_none(), t.primary_key.len()),
        ("a ts", 1, true, 0)
    );

    let t = like(
        "CREATE TABLE t (WATERMARK FOR ts AS ts - INTERVAL '1' SECOND, b AS a + 2) LIKE s (OVERWRITING WATERMARKS OVERWRITING GENERATED EXCLUDING PARTITIONS)",
    );
    assert_eq!(columns(&t), "a m ts b");
    assert_eq!(t.watermark.unwrap().expression.to_string(), "ts - INTERVAL '1' SECOND");
    assert!(t.partitioned_by.is_empty());
}

#[test]
fn a_setting_without_effect_gives_a_notice() {
    let notice = |set: &str| {
        let statements = script(&format!("\n  {set}"), "t.sql").unwrap();
        Catalog::default().apply(&statements[0], "t.sql").unwrap().unwrap()
    };
    assert_eq!(notice("SET 'state.backend.type' = 'rocksdb'"), Notice::WithoutEffect("state.backend.type".into()));
    let Notice::At(place, what) = notice("SET 'pipeline.nam' = 'x'") else { panic!("a slip has its place") };
    assert_eq!(place.0, "t.sql:2:3");
    assert_eq!(what, "'pipeline.nam' has no effect here; did you mean 'pipeline.name'?");
}

/// The script, the place, what is wrong, what to do.
const CASES: &[(&str, &str, &str, &str)] = &[
    (
        "SELECT 'a FROM t",
        "1:8",
        "a string is not closed",
        "end it with a single quote; a quote inside is written twice: 'it''s'",
    ),
    ("SELECT 1 /* never closed", "1:25", "a comment is not closed", "end it with */"),
    ("SELECT `a FROM t", "1:8", "a quoted name is not closed", "end it with the quote that it begins with"),
    (
        "SELECT a @ b FROM t",
        "1:10",
        "`@` is no operator",
        "see the functions: what other systems write with a sign mostly has a name here",
    ),
    ("SELECT a, FROM t", "1:11", "expected an expression, found `FROM`", "take the comma before FROM away"),
    (
        "SELECT a b c FROM t",
        "1:12",
        "expected `;` or the end of the statement, found `c`",
        "a comma or an operator may be missing before c",
    ),
    (
        "SELECT a FROM t WHERE",
        "1:22",
        "expected an expression, found the end of the statement",
        "the statement is cut short: write what is missing before the `;`",
    ),
    (
        "SELECT a FROM t GROUP BY",
        "1:25",
        "expected an expression, found the end of the statement",
        "the statement is cut short: write what is missing before the `;`",
    ),
    ("SELECT (a + 1 FROM t", "1:15", "expected `)`, found `FROM`", "the `(` at 1:8 is not closed"),
    (
        "SELECT a + 1) FROM t",
        "1:13",
        "expected `;` or the end of the statement, found `)`",
        "there is one `)` too many",
    ),
    ("SELECT COUNT(* FROM t", "1:16", "expected `)`, found `FROM`", "the `(` at 1:13 is not closed"),
    ("SELECT FROM t", "1:8", "expected an expression, found `FROM`", "write what to select: columns, expressions or *"),
    (
        "SELECT a FROM t WHERE a = 1 JOIN s ON a = b",
        "1:29",
        "expected `;` or the end of the statement, found `JOIN`",
        "a join stands in the FROM clause, before WHERE and GROUP BY",
    ),
    (
        "SELECT a FROM (SELECT b c d FROM t) AS x",
        "1:27",
        "expected `)`, found `d`",
        "a comma or an operator may be missing before d",
    ),
    ("SELECT a FROM (SELECT b FROM (SELECT CAST(c AS TEXT) FROM t))", "1:48", "the type TEXT is unknown", "use STRING"),
    (
        "SELECT a FROM t WHERE a IN (SELECT b, FROM s)",
        "1:39",
        "expected an expression, found `FROM`",
        "take the comma before FROM away",
    ),
    (
        "SELECT a FROM t\nSELECT b FROM t",
        "2:1",
        "expected `;` or the end of the statement, found `SELECT`",
        "a `;` is missing before SELECT",
    ),
    (
        "SELECT a FROM t AS x FOR SYSTEM_TIME AS OF ts",
        "1:26",
        "expected one of UPDATE or SHARE, found `SYSTEM_TIME`",
        "the order is: table FOR SYSTEM_TIME AS OF time AS alias",
    ),
    (
        "SELECT a FROM t EMIT CHANGES",
        "1:22",
        "expected `;` or the end of the statement, found `CHANGES`",
        "EMIT is not supported: a window's result is emitted once, when it is final",
    ),
    ("SELECT CAST(a AS TEXT) FROM t", "1:18", "the type TEXT is unknown", "use STRING"),
    (
        "SELECT CAST(a AS DECIMAL(50, 2)) FROM t",
        "1:18",
        "DECIMAL(50, 2) is not possible",
        "the precision goes from 1 to 38, the scale from 0 to the precision",
    ),
    ("SELECT CAST(a INT) FROM t", "1:15", "expected AS, found `INT`", "write AS here"),
    (
        "SELECT INTERVAL 10 MINUTE",
        "1:17",
        "the length of an INTERVAL stands in single quotes",
        "write INTERVAL '10' MINUTE; a length that is computed: x * INTERVAL '1' MINUTE",
    ),
    (
        "SELECT INTERVAL '10 minutes'",
        "1:17",
        "an INTERVAL without a unit behind its string",
        "write INTERVAL '10' MINUTES",
    ),
    (
        "SELECT INTERVAL '10' FORTNIGHT",
        "1:17",
        "an INTERVAL without a unit behind its string",
        "write INTERVAL '10' SECOND, or another of YEAR, MONTH, WEEK, DAY, HOUR, MINUTE",
    ),
    (
        "SELECT CASE WHEN a THEN b FROM t",
        "1:8",
        "this CASE has no END",
        "write CASE WHEN condition THEN value ELSE value END",
    ),
    (
        "SELECT a FROM t WHERE a BETWEEN 1",
        "1:34",
        "expected AND, found the end of the statement",
        "the statement is cut short: write what is missing before the `;`",
    ),
    (
        "SELECT a FROM t WHERE a IS 5",
        "1:28",
        "expected NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM after IS, found `5`",
        "write NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM after IS here",
    ),
    ("SELECT MAP['a'] FROM t", "1:15", "expected `,`, found `]`", "write `,` here"),
    (
        "SELECT a FROM t LIMIT x y",
        "1:25",
        "expected `;` or the end of the statement, found `y`",
        "a comma or an operator may be missing before y",
    ),
    (
        "SELECT * FROM TABLE(TUMBLE(TABLE t DESCRIPTOR(ts), INTERVAL '1' HOUR))",
        "1:36",
        "expected `)`, found `DESCRIPTOR`",
        "a comma or an operator may be missing before DESCRIPTOR",
    ),
    (
        "SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)",
        "1:71",
        "expected `)`, found the end of the statement",
        "the `(` at 1:20 is not closed",
    ),
    (
        "SELECT a FROM t /*+ BROADCAST(t) */",
        "1:17",
        "the hint BROADCAST has to stand behind SELECT",
        "write SELECT /*+ BROADCAST(t) */ .. FROM s JOIN t ON ..",
    ),
    (
        "SELECT /*+ OPTIONS('a'='b') */ a FROM t",
        "1:8",
        "a hint has to stand behind the name of a table in FROM",
        "write FROM t /*+ OPTIONS('key' = 'value') */ AS a, or put the options into the table's WITH clause",
    ),
    ("SELECT a FROM t /*+ OPTIONS(a=b) */", "1:17", "cannot read the hint", "write /*+ OPTIONS('key' = 'value') */"),
    ("SELCT a FROM t", "1:1", "no statement begins with SELCT", "did you mean SELECT?"),
    (
        "FOO",
        "1:1",
        "no statement begins with FOO",
        "statements are SELECT, INSERT INTO, CREATE TABLE, CREATE VIEW, EXECUTE STATEMENT SET, SET and EXPLAIN",
    ),
    ("USE CATALOG c", "1:1", "USE is not supported", "leave it out: all tables of a script live in one catalog"),
    (
        "SHOW TABLES",
        "1:1",
        "SHOW is not supported",
        "a script declares its tables itself; `millstream check` lists them",
    ),
    ("UPDATE t SET a = 1", "1:1", "UPDATE is not supported", "streams are written with INSERT INTO only"),
    (
        "ALTER TABLE t ADD a INT",
        "1:1",
        "ALTER is not supported",
        "change the CREATE statement: a script starts with an empty catalog",
    ),
    (
        "INSERT OVERWRITE t SELECT 1",
        "1:8",
        "INSERT OVERWRITE is not supported",
        "use INSERT INTO; each run of a filesystem table writes new files",
    ),
    ("INSERT t SELECT 1", "1:8", "expected INTO, found `t`", "write INTO here"),
    ("INSERT INTO t", "1:14", "INSERT INTO has no query", "write INSERT INTO t SELECT .., or VALUES (..)"),
    ("INSERT INTO t (a, b SELECT 1, 2", "1:21", "expected `,` or `)`, found `SELECT`", "the `(` at 1:15 is not closed"),
    (
        "INSERT INTO db.t SELECT 1",
        "1:15",
        "`db` is followed by `.`",
        "catalogs, databases and nested names are not supported here: use a name of one part",
    ),
    (
        "INSERT INTO 't' SELECT 1",
        "1:13",
        "expected a table name, found the string 't'",
        "names stand in back-quotes or bare: `t`",
    ),
    (
        "EXPLAIN",
        "1:8",
        "expected a query, INSERT INTO or a statement set to explain, found the end of the statement",
        "the statement is cut short: write what is missing before the `;`",
    ),
    (
        "EXPLAIN PLAN_ADVICE SELECT 1",
        "1:9",
        "EXPLAIN PLAN_ADVICE is not supported",
        "write EXPLAIN followed by the statement: its plan shows what there is to know",
    ),
    ("EXECUTE STATEMENT SET INSERT INTO a SELECT 1; END", "1:23", "expected BEGIN, found `INSERT`", "write BEGIN here"),
    (
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1;",
        "1:1",
        "the statement set is not closed",
        "end it with END;",
    ),
    (
        "EXECUTE STATEMENT SET BEGIN SELECT 1; END",
        "1:29",
        "a statement set holds INSERT INTO statements only",
        "put CREATE and SET before the set",
    ),
    (
        "EXECUTE STATEMENT SET BEGIN END",
        "1:1",
        "the statement set is empty",
        "put at least one INSERT INTO between BEGIN and END",
    ),
    ("SET", "1:1", "SET needs a key", "write SET 'key' = 'value'"),
    ("SET 'a' =", "1:10", "SET 'a' has no value", "write SET 'a' = 'value'"),
    ("SET 'a' 'b'", "1:5", "'a' 'b' is no key", "write SET 'key' = 'value'"),
    ("RESET 'a' = 'b'", "1:11", "RESET takes a key and no value", "write RESET 'a'"),
    (
        "SET 'milstream.late-rows.table' = 'x'",
        "1:1",
        "the setting 'milstream.late-rows.table' is unknown",
        "did you mean 'millstream.late-rows.table'?",
    ),
    (
        "SET 'millstream.late-row.table' = 'x'",
        "1:1",
        "the setting 'millstream.late-row.table' is unknown",
        "did you mean 'millstream.late-rows.table'?",
    ),
    (
        "SET 'nonsense' = 'x'",
        "1:1",
        "the setting 'nonsense' is unknown",
        "keys are table.local-time-zone, table.exec.source.idle-timeout, table.exec.emit.allow-lateness, table.exec.emit.early-fire.enabled, table.exec.emit.early-fire.delay, table.exec.emit.late-fire.enabled, table.exec.emit.late-fire.delay, table.exec.source.cdc-events-duplicate, table.exec.state.ttl, table.exec.sink.not-null-enforcer, millstream.watermark.wall-clock-fallback, millstream.late-rows.table, millstream.bad-rows.table, parallelism.default, execution.runtime-mode, pipeline.name, execution.checkpointing.dir, execution.checkpointing.interval, execution.checkpointing.timeout, execution.checkpointing.min-pause, execution.checkpointing.num-retained, state.checkpoints.dir, state.checkpoints.num-retained, and Flink's",
    ),
    (
        "SET 'execution.runtime-mode' = 'fast'",
        "1:1",
        "'fast' is not possible for 'execution.runtime-mode'",
        "give 'streaming' or 'batch'",
    ),
    (
        "SET 'table.exec.source.idle-timeout' = 'soon'",
        "1:1",
        "'soon' is no length of time for 'table.exec.source.idle-timeout'",
        "write a whole number with a unit, such as '500 ms', '10 s', '5 min', '2 h' or '1 d'",
    ),
    (
        "SET 'table.local-time-zone' = 'Europe/Berlim'",
        "1:1",
        "the time zone 'Europe/Berlim' is unknown",
        "did you mean 'Europe/Berlin'?",
    ),
    (
        "SET 'parallelism.default' = '0'",
        "1:1",
        "'0' is not possible for 'parallelism.default'",
        "give a whole number from 1 to 256",
    ),
    (
        "CREATE TABLE",
        "1:13",
        "expected a table name, found the end of the statement",
        "the statement is cut short: write what is missing before the `;`",
    ),
    (
        "CREATE TABLE t",
        "1:15",
        "expected `(` and the columns of the table, found the end of the statement",
        "the statement is cut short: write what is missing before the `;`",
    ),
    (
        "CREATE TABLE t (a) WITH ('connector' = 'print')",
        "1:18",
        "the column `a` has no type",
        "write a STRING, or a AS expression",
    ),
    (
        "CREATE TABLE t (a INT b INT) WITH ('connector' = 'print')",
        "1:23",
        "expected `,` or `)` in the list of columns, found `b`",
        "a comma or an operator may be missing before b",
    ),
    ("CREATE TABLE t (a INT,) WITH ('connector' = 'print')", "1:23", "a comma before `)`", "take the comma away"),
    (
        "CREATE TABLE t (a INT WITH ('connector' = 'print')",
        "1:23",
        "expected `,` or `)` in the list of columns, found `WITH`",
        "the `(` at 1:16 is not closed",
    ),
    ("CREATE TABLE t (a INTT) WITH ('connector' = 'print')", "1:19", "the type INTT is unknown", "did you mean INT?"),
    ("CREATE TABLE t (a UUID) WITH ('connector' = 'print')", "1:19", "the type UUID is unknown", "use STRING"),
    (
        "CREATE TABLE t (a ARRAY<INT) WITH ('connector' = 'print')",
        "1:28",
        "expected `,` or `>`, found `)`",
        "write `,` or `>` here",
    ),
    (
        "CREATE TABLE t (a ARRAY<INT>>) WITH ('connector' = 'print')",
        "1:30",
        "one `>` too many",
        "each `<` of a type is closed by one `>`",
    ),
    (
        "CREATE TABLE t (a MAP<INT>) WITH ('connector' = 'print')",
        "1:26",
        "expected `,` and the type of the map's values, found `>`",
        "write `,` and the type of the map's values here",
    ),
    (
        "CREATE TABLE t (a ROW<INT>) WITH ('connector' = 'print')",
        "1:26",
        "expected a type, found `>`",
        "write a type here",
    ),
    (
        "CREATE TABLE t (a TIMESTAMP(3) WITH TIME ZONE) WITH ('connector' = 'print')",
        "1:19",
        "TIMESTAMP WITH TIME ZONE is not supported",
        "use TIMESTAMP_LTZ(3): a point in time, shown in the session's time zone",
    ),
    (
        "CREATE TABLE t (a TIMESTAMP(12)) WITH ('connector' = 'print')",
        "1:19",
        "TIMESTAMP(12) is not possible",
        "the precision goes from 0 to 9",
    ),
    (
        "CREATE TABLE t (a TIME(6)) WITH ('connector' = 'print')",
        "1:19",
        "TIME(6) is not supported",
        "use TIME(3): milliseconds are the finest",
    ),
    (
        "CREATE TABLE t (a INT DEFAULT 1) WITH ('connector' = 'print')",
        "1:23",
        "DEFAULT is not supported",
        "take it out; a query can say COALESCE(a, value)",
    ),
    (
        "CREATE TABLE t (a INT UNIQUE) WITH ('connector' = 'print')",
        "1:23",
        "UNIQUE is not supported",
        "use PRIMARY KEY (..) NOT ENFORCED, or take it out",
    ),
    (
        "CREATE TABLE t (a INT AS b + 1) WITH ('connector' = 'print')",
        "1:23",
        "the computed column `a` has a type",
        "write a AS expression; CAST gives it another type",
    ),
    (
        "CREATE TABLE t (a INT PRIMARY KEY) WITH ('connector' = 'print')",
        "1:23",
        "PRIMARY KEY without NOT ENFORCED",
        "write PRIMARY KEY (..) NOT ENFORCED: the data is not ours, so nobody can enforce the key",
    ),
    (
        "CREATE TABLE t (a INT, PRIMARY KEY (a)) WITH ('connector' = 'print')",
        "1:24",
        "PRIMARY KEY without NOT ENFORCED",
        "write PRIMARY KEY (..) NOT ENFORCED: the data is not ours, so nobody can enforce the key",
    ),
    (
        "CREATE TABLE t (a INT, PRIMARY KEY (b) NOT ENFORCED) WITH ('connector' = 'print')",
        "1:1",
        "the column `b` is unknown in the table `t`",
        "did you mean `a`?",
    ),
    (
        "CREATE TABLE t (a INT, b INT, a STRING) WITH ('connector' = 'print')",
        "1:31",
        "the column `a` is declared twice",
        "give each column a name of its own",
    ),
    (
        "CREATE TABLE t (a INT) PARTITIONED BY (aa) WITH ('connector' = 'print')",
        "1:1",
        "the column `aa` is unknown in the table `t`",
        "did you mean `a`?",
    ),
    (
        "CREATE TABLE t (a INT) WITH (connector = 'print')",
        "1:30",
        "the key of an option stands in single quotes, found connector",
        "write 'connector' = 'value'",
    ),
    (
        "CREATE TABLE t (a INT) WITH (sink.parallelism = '1')",
        "1:30",
        "the key of an option stands in single quotes, found sink",
        "write 'sink.parallelism' = 'value'",
    ),
    (
        "CREATE TABLE t (a INT) WITH ('connector' = print)",
        "1:44",
        "the value of 'connector' stands in single quotes, found print",
        "write 'connector' = 'print'",
    ),
    (
        "CREATE TABLE t (a INT) WITH ('connector' = \"print\")",
        "1:44",
        "the value of 'connector' stands in single quotes, found \"print\"",
        "write 'connector' = 'print'",
    ),
    (
        "CREATE TABLE t (a INT) WITH ('connector' 'print')",
        "1:42",
        "expected `=` and the value of 'connector', found 'print'",
        "write `=` and the value of 'connector' here",
    ),
    (
        "CREATE TABLE t (a INT) WITH ('connector' = 'print' 'x' = 'y')",
        "1:52",
        "expected `,` or `)` in the options, found 'x'",
        "a comma or an operator may be missing before 'x'",
    ),
    (
        "CREATE TABLE t (a INT) WITH ('connector' = 'print', 'connector' = 'print')",
        "1:53",
        "the option 'connector' is given twice",
        "keep one of them",
    ),
    (
        "CREATE TABLE t (a INT) WITH ('conector' = 'print')",
        "1:1",
        "the table `t` has no option 'connector'",
        "did you mean 'connector' instead of 'conector'?",
    ),
    (
        "CREATE TABLE t (a INT)",
        "1:1",
        "the table `t` has no option 'connector'",
        "add WITH ('connector' = 'filesystem', ..); others are print, blackhole, datagen and nexmark",
    ),
    (
        "CREATE TABLE t (a INT) WITH ('connector' = 'print') AS SELECT 1",
        "1:53",
        "CREATE TABLE .. AS SELECT is not supported",
        "declare the columns, then fill the table with INSERT INTO",
    ),
    (
        "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR tss AS tss) WITH ('connector' = 'print')",
        "1:34",
        "the column `tss` is unknown in the table `t`",
        "did you mean `ts`?",
    ),
    (
        "CREATE TABLE t (ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH ('connector' = 'print')",
        "1:31",
        "the watermark's column `ts` is TIMESTAMP(6); event time has at most milliseconds",
        "declare it TIMESTAMP(3), or add a column event_time AS CAST(ts AS TIMESTAMP(3)) and put the WATERMARK on that",
    ),
    (
        "CREATE TABLE t (ts TIMESTAMP_LTZ(9), WATERMARK FOR ts AS ts) WITH ('connector' = 'print')",
        "1:38",
        "the watermark's column `ts` is TIMESTAMP_LTZ(9); event time has at most milliseconds",
        "declare it TIMESTAMP_LTZ(3), or add a column event_time AS CAST(ts AS TIMESTAMP_LTZ(3)) and put the WATERMARK on that",
    ),
    (
        "CREATE TABLE t (ts BIGINT, WATERMARK FOR ts AS ts) WITH ('connector' = 'print')",
        "1:28",
        "the watermark's column `ts` is a number",
        "add a column event_time AS TO_TIMESTAMP_LTZ(ts, 3) and put the WATERMARK on that",
    ),
    (
        "CREATE TABLE t (ts STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'print')",
        "1:28",
        "the watermark's column `ts` is a string",
        "add a column event_time AS TO_TIMESTAMP(ts) and put the WATERMARK on that",
    ),
    (
        "CREATE TABLE t (ts DATE, WATERMARK FOR ts AS ts) WITH ('connector' = 'print')",
        "1:26",
        "the watermark's column `ts` is no timestamp",
        "put the WATERMARK on a column of type TIMESTAMP(3) or TIMESTAMP_LTZ(3)",
    ),
    (
        "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL 5 SECOND) WITH ('connector' = 'print')",
        "1:68",
        "the length of an INTERVAL stands in single quotes",
        "write INTERVAL '5' SECOND; a length that is computed: x * INTERVAL '1' SECOND",
    ),
    (
        "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts) WITH ('connector' = 'print')",
        "1:50",
        "expected AS, found `)`",
        "write AS here",
    ),
    (
        "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts, WATERMARK FOR ts AS ts) WITH ('connector' = 'print')",
        "1:58",
        "a second WATERMARK in one table",
        "keep one: a table has one event time",
    ),
    (
        "CREATE TABLE t (r ROW<ts TIMESTAMP(3)>, WATERMARK FOR r.ts AS r.ts) WITH ('connector' = 'print')",
        "1:56",
        "a nested field cannot carry the watermark",
        "add a computed column: event_time AS CAST(r.field AS TIMESTAMP(3))",
    ),
    (
        "CREATE TABLE t (a INT) WITH ('connector' = 'print'); CREATE TABLE t (a INT) WITH ('connector' = 'print')",
        "1:54",
        "the table `t` exists already, declared at t.sql:1:1",
        "choose another name, or write CREATE TABLE IF NOT EXISTS",
    ),
    (
        "CREATE TABLE t (a INT) WITH ('connector' = 'print'); CREATE VIEW t AS SELECT 1",
        "1:54",
        "the table `t` exists already, declared at t.sql:1:1",
        "choose another name, or write CREATE TABLE IF NOT EXISTS",
    ),
    (
        "CREATE OR REPLACE TABLE t (a INT)",
        "1:8",
        "CREATE OR REPLACE is not supported",
        "write CREATE; a script starts with an empty catalog",
    ),
    ("CREATE FUNCTION f AS 'uper'", "1:1", "there is no built-in function 'uper'", "did you mean 'upper'?"),
    (
        "CREATE FUNCTION IF NOT EXISTS f AS 'com.acme.udf.Score' LANGUAGE JAVA",
        "1:1",
        "there is no built-in function 'com.acme.udf.Score'",
        "name a function of docs/functions.md: code of your own, in a class or a script, cannot be run",
    ),
    (
        "CREATE FUNCTION Upper AS 'lower'",
        "1:1",
        "`Upper` is a built-in function, which is the one that is called",
        "choose another name, or write CREATE TEMPORARY SYSTEM FUNCTION to take its place",
    ),
    (
        "CREATE FUNCTION f AS 'upper' USING JAR '/f.jar'",
        "1:30",
        "functions out of a JAR cannot be run",
        "name a built-in function: CREATE FUNCTION f AS 'upper'",
    ),
    (
        "CREATE FUNCTION f AS 'upper'; CREATE FUNCTION F AS 'lower'",
        "1:31",
        "the function `F` exists already",
        "choose another name, or write CREATE FUNCTION IF NOT EXISTS",
    ),
    (
        "CREATE FUNCTION shout AS 'upper'; DROP FUNCTION shoot",
        "1:35",
        "the function `shoot` has not been created",
        "did you mean `shout`?",
    ),
    (
        "CREATE INDEX i ON t (a)",
        "1:8",
        "expected TABLE, VIEW or FUNCTION, found `INDEX`",
        "write TABLE, VIEW or FUNCTION here",
    ),
    (
        "CREATE VIEW v SELECT 1",
        "1:15",
        "expected AS and the view's query, found `SELECT`",
        "write AS and the view's query here",
    ),
    (
        "CREATE VIEW v (a, a) AS SELECT 1, 2",
        "1:1",
        "the view has two columns `a`",
        "give each column a name of its own",
    ),
    ("DROP TABLE t", "1:1", "the table `t` is unknown", "declare it with CREATE TABLE first"),
    (
        "CREATE TABLE orders (a INT) WITH ('connector' = 'print'); DROP TABLE order_s",
        "1:59",
        "the table `order_s` is unknown",
        "did you mean `orders`?",
    ),
    ("CREATE VIEW v AS SELECT 1; DROP TABLE v", "1:28", "the table `v` is unknown", "`v` is a view: write DROP VIEW v"),
    ("CREATE TABLE t LIKE s", "1:16", "the table `s` is unknown", "declare it with CREATE TABLE first"),
    (
        "CREATE TABLE s (a INT) WITH ('connector' = 'print'); CREATE TABLE t (a INT) LIKE s",
        "1:77",
        "the column `a` is in `s` already",
        "take it out here: LIKE brings it",
    ),
    (
        "CREATE TABLE s (a INT) WITH ('connector' = 'print'); CREATE TABLE t (b INT) WITH ('connector' = 'x') LIKE s (INCLUDING OPTIONS)",
        "1:102",
        "the option 'connector' is in `s` already",
        "take it out here, or write OVERWRITING or EXCLUDING in LIKE's parentheses",
    ),
    (
        "CREATE TABLE t (“a” INT)",
        "1:17",
        "`“` is a quote for print",
        "strings stand in plain single quotes, names in back-quotes",
    ),
    (
        "SELECT a FROM t WHERE b = “x”",
        "1:27",
        "`“` is a quote for print",
        "strings stand in plain single quotes, names in back-quotes",
    ),
    ("SELECT a FROM t FOR UPDATE", "1:1", "FOR behind a query is not supported", "take it out: a stream is not locked"),
    ("SELECT a INTO u FROM t", "1:1", "SELECT .. INTO is not supported", "write INSERT INTO t SELECT .."),
    ("SELECT a FROM t TABLESAMPLE (10)", "1:15", "TABLESAMPLE is not supported", "write WHERE RAND() < 0.1"),
    (
        "SELECT a FROM t WITH (NOLOCK)",
        "1:15",
        "WITH behind a table is not supported",
        "write /*+ OPTIONS('key' = 'value') */",
    ),
];
