//! Tables that are looked up: what is asked, what is remembered, and what a server does that goes away.

use super::*;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_core::{Found, LookedUp, Lookup};

fn open_lookup(spec: &TableSpec, keys: &[usize]) -> Result<Box<dyn Lookup>> {
    Registry::new().validate(spec, TableUse::Lookup)?;
    assert!(Registry::new().asked_by_key(spec));
    match Registry::new().open_lookup(spec, keys)? {
        LookedUp::Asked(lookup) => Ok(lookup),
        LookedUp::Whole { .. } => panic!("a server is asked by key"),
    }
}

fn longs(keys: &[Option<i64>]) -> Vec<ArrayRef> {
    vec![Arc::new(Int64Array::from(keys.to_vec()))]
}

/// Each key's rows, as text.
fn shown(found: &Found) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let text = |c: &ArrayRef| {
        ArrayFormatter::try_new(c.as_ref(), &options).expect("every type has a text").value(0).to_string()
    };
    let cell = |c: &ArrayRef, r: u32| text(&c.slice(r as usize, 1));
    let row = |r: u32| found.rows.columns().iter().map(|c| cell(c, r)).collect::<Vec<_>>().join(" ");
    let of = |range: &std::ops::Range<u32>| {
        let mut rows: Vec<String> = range.clone().map(row).collect();
        rows.sort();
        rows.join(", ")
    };
    found.ranges.iter().map(of).collect()
}

fn answer(lookup: &mut dyn Lookup, keys: &[ArrayRef]) -> Result<Vec<String>> {
    lookup.ask(keys)?;
    Ok(shown(&lookup.answer(true)?.expect("it was waited for")))
}

#[test]
fn a_batch_of_keys_is_answered_with_the_rows_of_each() {
    let Some(server) = server("lookup_rows") else { return };
    let spec = server.pairs(false, &[]);
    server.sql("INSERT INTO lookup_rows.t VALUES (1, 'a'), (2, 'b'), (2, 'c'), (3, NULL), (NULL, 'never')");
    let mut lookup = open_lookup(&spec, &[0]).expect("opened");
    let keys = longs(&[Some(2), Some(9), None, Some(1), Some(2), Some(3)]);
    let wanted = ["2 b, 2 c", "", "", "1 a", "2 b, 2 c", "3 NULL"];
    assert_eq!(answer(lookup.as_mut(), &keys).expect("answered"), wanted);
    assert_eq!(answer(lookup.as_mut(), &longs(&[])).expect("answered"), Vec::<String>::new());
    assert_eq!(answer(lookup.as_mut(), &longs(&[None])).expect("answered"), [""]);
    // Asks are answered in their order, also while others are under way.
    for k in [1, 2, 9] {
        lookup.ask(&longs(&[Some(k)])).expect("asked");
    }
    for wanted in ["1 a", "2 b, 2 c", ""] {
        assert_eq!(shown(&lookup.answer(true).expect("answered").expect("waited for")), [wanted]);
    }
    // Nothing is remembered unless it is asked for.
    server.sql("UPDATE lookup_rows.t SET v = 'A' WHERE k = 1");
    assert_eq!(answer(lookup.as_mut(), &longs(&[Some(1)])).expect("answered"), ["1 A"]);
    assert_eq!(lookup.bytes(), 0);
}

#[test]
fn fewer_columns_in_another_order_and_several_keys_are_asked_for() {
    let Some(server) = server("lookup_keys") else { return };
    server.table("t (\"Id\" int, region text, day date, v numeric(8,2), other text)");
    server.sql("INSERT INTO lookup_keys.t VALUES (1, 'eu', '2024-01-01', 1.5, 'x'), (1, 'us', '2024-01-01', 2.5, 'y'), (2, 'eu', '1969-12-31', -0.25, 'z')");
    let fields = vec![
        Field::new("v", DataType::Decimal128(10, 3), true),
        Field::new("Day", DataType::Date32, true),
        Field::new("Id", DataType::Int64, true),
        Field::new("region", DataType::Utf8, true),
    ];
    let mut spec = server.spec("t", fields, &[], &[]);
    spec.projection = Some(vec![3, 2, 1, 0]);
    let mut lookup = open_lookup(&spec, &[1, 0, 2]).expect("opened");
    let keys: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 1, 2, 2, 5_000_000_000])),
        Arc::new(StringArray::from(vec!["us", "eu", "us", "eu", "eu"])),
        Arc::new(Date32Array::from(vec![19_723, 19_723, -1, -1, 0])),
    ];
    let wanted = ["us 1 2024-01-01 2.500", "eu 1 2024-01-01 1.500", "", "eu 2 1969-12-31 -0.250", ""];
    assert_eq!(answer(lookup.as_mut(), &keys).expect("answered"), wanted);
}

#[test]
fn every_type_is_read_and_can_be_a_key() {
    let Some(server) = server("lookup_types") else { return };
    server.sql("CREATE TYPE lookup_types.mood AS ENUM ('sad', 'happy'); CREATE DOMAIN lookup_types.code AS varchar(4)");
    // Of each column: its type there, its declared type, the value as SQL, and how it is shown.
    let millis = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into));
    let columns = [
        ("b", "boolean", DataType::Boolean, "true", "true"),
        ("i1", "smallint", DataType::Int8, "-7", "-7"),
        ("i2", "smallint", DataType::Int16, "-32768", "-32768"),
        ("i4", "integer", DataType::Int32, "2147483647", "2147483647"),
        ("i8", "bigint", DataType::Int64, "-9223372036854775808", "-9223372036854775808"),
        ("wide", "integer", DataType::Int64, "77", "77"),
        ("narrow", "bigint", DataType::Int32, "78", "78"),
        ("f4", "real", DataType::Float32, "0.1", "0.1"),
        ("f8", "double precision", DataType::Float64, "1e300", "1e300"),
        ("d", "numeric(20,4)", DataType::Decimal128(20, 4), "-123456789.5", "-123456789.5000"),
        ("free", "numeric", DataType::Decimal128(38, 2), "1.005", "1.01"),
        ("s", "text", DataType::Utf8, "'a\"b\\c,{}\n'", "a\"b\\c,{}\n"),
        ("empty", "text", DataType::Utf8, "''", ""),
        ("word", "text", DataType::Utf8, "'NULL'", "NULL"),
        ("vc", "varchar(10)", DataType::Utf8, "'vc'", "vc"),
        ("ch", "char(5)", DataType::Utf8, "'ch'", "ch"),
        ("dom", "lookup_types.code", DataType::Utf8, "'dom'", "dom"),
        ("en", "lookup_types.mood", DataType::Utf8, "'happy'", "happy"),
        ("u", "uuid", DataType::Utf8, "'123e4567-e89b-12d3-a456-426614174000'", "123e4567-e89b-12d3-a456-426614174000"),
        ("j", "jsonb", DataType::Utf8, "'{\"a\": 1}'", "{\"a\": 1}"),
        ("by", "bytea", DataType::Binary, "'\\x00ff'", "00ff"),
        ("da", "date", DataType::Date32, "'2024-02-29'", "2024-02-29"),
        ("ti", "time", DataType::Time32(TimeUnit::Millisecond), "'10:15:00.25'", "10:15:00.250"),
        ("ts", "timestamp", millis(None), "'1969-12-31 23:59:59.999'", "1969-12-31T23:59:59.999"),
        (
            "us",
            "timestamp",
            DataType::Timestamp(TimeUnit::Microsecond, None),
            "'2024-01-01 00:00:00.000001'",
            "2024-01-01T00:00:00.000001",
        ),
        ("tz", "timestamptz", millis(Some("UTC")), "'2024-01-01 02:00:00+02'", "2024-01-01T00:00:00Z"),
    ];
    let ddl: Vec<String> = columns.iter().map(|c| format!("{} {}", c.0, c.1)).collect();
    server.table(&format!("t ({})", ddl.join(", ")));
    let values: Vec<&str> = columns.iter().map(|c| c.3).collect();
    let nulls = vec!["NULL"; columns.len()].join(", ");
    server.sql(&format!("INSERT INTO lookup_types.t VALUES ({}), ({nulls})", values.join(", ")));
    let fields: Vec<Field> = columns.iter().map(|c| Field::new(c.0, c.2.clone(), true)).collect();
    let spec = server.spec("t", fields, &[], &[]);
    // By a key that finds the row, everything in it is read.
    let mut by_wide = open_lookup(&spec, &[5]).expect("opened");
    by_wide.ask(&longs(&[Some(77)])).expect("asked");
    let found = by_wide.answer(true).expect("answered").expect("waited for");
    assert_eq!(found.ranges, vec![0..1; 1]);
    for (n, (name, _, _, _, wanted)) in columns.iter().enumerate() {
        let options = FormatOptions::default();
        let shown = ArrayFormatter::try_new(found.rows.column(n).as_ref(), &options).expect("text");
        assert_eq!(shown.value(0).to_string(), *wanted, "{name}");
    }
    // And each value, as it was read, finds its row again.
    for (n, (name, ..)) in columns.iter().enumerate() {
        // `free` was rounded, and json has no equality.
        if ["free", "j"].contains(name) {
            continue;
        }
        let mut lookup = open_lookup(&spec, &[n]).unwrap_or_else(|e| panic!("{name}: {e}"));
        lookup.ask(&[found.rows.column(n).clone()]).expect("asked");
        let again = lookup.answer(true).unwrap_or_else(|e| panic!("{name}: {e}")).expect("waited for");
        assert_eq!(again.ranges, vec![0..1; 1], "{name}");
    }
}

#[test]
fn what_does_not_fit_the_declared_type_is_an_error() {
    let Some(server) = server("lookup_misfit") else { return };
    server.table("t (k bigint, big bigint, num numeric, ts timestamp)");
    server.sql("INSERT INTO lookup_misfit.t VALUES (1, 3000000000, 1, now()), (2, 1, 1e30, now()), (3, 1, 'NaN', now()), (4, 1, 1, 'infinity')");
    let fields = vec![
        Field::new("k", DataType::Int64, true),
        Field::new("big", DataType::Int32, true),
        Field::new("num", DataType::Decimal128(10, 2), true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ];
    let mut lookup = open_lookup(&server.spec("t", fields, &[], &[]), &[0]).expect("opened");
    for (k, what) in [(1, "3000000000"), (2, "`num`"), (3, "NaN"), (4, "infinity")] {
        let e = fails(answer(lookup.as_mut(), &longs(&[Some(k)])));
        assert!(e.kind() == ErrorKind::Data && e.what().contains(what) && e.help().is_some(), "{e}");
    }
}

#[test]
fn what_is_remembered_is_not_asked_for_until_it_is_too_old() {
    let Some(server) = server("lookup_cache") else { return };
    server.table("t (k bigint, v text)");
    let spec = |more: &[(&str, &str)]| {
        let mut all = vec![("lookup.cache", "PARTIAL")];
        all.extend(more);
        server.spec("t", pair_fields(), &[], &all)
    };
    let ask = |lookup: &mut dyn Lookup, keys: &[i64]| {
        let keys: Vec<Option<i64>> = keys.iter().copied().map(Some).collect();
        answer(lookup, &longs(&keys)).expect("answered")
    };
    let fill = || server.sql("TRUNCATE lookup_cache.t; INSERT INTO lookup_cache.t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    fill();
    let mut lookup = open_lookup(&spec(&[]), &[0]).expect("opened");
    assert_eq!(ask(lookup.as_mut(), &[1, 9]), ["1 a", ""]);
    assert!(lookup.bytes() > 0);
    server.sql("UPDATE lookup_cache.t SET v = 'new'; INSERT INTO lookup_cache.t VALUES (9, 'there')");
    assert_eq!(ask(lookup.as_mut(), &[2, 1, 9]), ["2 new", "1 a", ""], "1 and 9 are remembered, 2 is not");
    fill();
    let mut lookup = open_lookup(&spec(&[("lookup.partial-cache.max-rows", "2")]), &[0]).expect("opened");
    ask(lookup.as_mut(), &[1]);
    ask(lookup.as_mut(), &[2]);
    ask(lookup.as_mut(), &[3]);
    server.sql("UPDATE lookup_cache.t SET v = 'new'");
    assert_eq!(ask(lookup.as_mut(), &[2, 3]), ["2 b", "3 c"]);
    assert_eq!(ask(lookup.as_mut(), &[1]), ["1 new"], "the oldest had to go");
    fill();
    let missing = spec(&[("lookup.partial-cache.cache-missing-key", "false")]);
    let mut lookup = open_lookup(&missing, &[0]).expect("opened");
    assert_eq!(ask(lookup.as_mut(), &[9, 1]), ["", "1 a"]);
    server.sql("INSERT INTO lookup_cache.t VALUES (9, 'there'); UPDATE lookup_cache.t SET v = 'new' WHERE k = 1");
    assert_eq!(ask(lookup.as_mut(), &[9, 1]), ["9 there", "1 a"]);
    fill();
    let old = spec(&[("lookup.partial-cache.expire-after-write", "200 ms")]);
    let mut lookup = open_lookup(&old, &[0]).expect("opened");
    assert_eq!(ask(lookup.as_mut(), &[1]), ["1 a"]);
    server.sql("UPDATE lookup_cache.t SET v = 'new'");
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(ask(lookup.as_mut(), &[1]), ["1 new"]);
}

/// Whoever asks goes on while the server takes its time.
#[test]
fn a_slow_answer_is_waited_for_by_nobody_who_does_not_want_to() {
    let Some(server) = server("lookup_slow") else { return };
    server.table("t (k bigint, v text)");
    server.sql("INSERT INTO lookup_slow.t VALUES (1, 'a')");
    let mut lookup = open_lookup(&server.spec("t", pair_fields(), &[], &[]), &[0]).expect("opened");
    let url = server.url.clone();
    let (locked, wait) = std::sync::mpsc::channel();
    let holder = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an executor");
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connects");
            tokio::spawn(connection);
            client.batch_execute("BEGIN; LOCK TABLE lookup_slow.t").await.expect("locks");
            locked.send(()).expect("somebody waits");
            tokio::time::sleep(Duration::from_millis(700)).await;
            client.batch_execute("COMMIT").await.expect("lets go");
        });
    });
    wait.recv().expect("locked");
    let began = Instant::now();
    lookup.ask(&longs(&[Some(1)])).expect("asked");
    assert!(lookup.answer(false).expect("no error").is_none());
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(shown(&lookup.answer(true).expect("answered").expect("waited for")), ["1 a"]);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    holder.join().expect("it has let go");
}

#[test]
fn a_connection_that_is_cut_is_made_anew_and_a_server_that_stays_away_is_an_error() {
    let Some(server) = server("lookup_cut") else { return };
    server.table("t (k bigint, v text)");
    server.sql("INSERT INTO lookup_cut.t VALUES (1, 'a')");
    let spec = server.spec("t", pair_fields(), &[], &[("lookup.max-retries", "1")]);
    let mut lookup = open_lookup(&spec, &[0]).expect("opened");
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lookup_cut'";
    assert_eq!(server.sql(cut), ["t"], "it has one connection");
    assert_eq!(answer(lookup.as_mut(), &longs(&[Some(1)])).expect("asked again"), ["1 a"]);
    // No second try, and then a table that has gone: that is no matter of trying again.
    let spec = server.spec("t", pair_fields(), &[], &[("lookup.max-retries", "0")]);
    let mut lookup = open_lookup(&spec, &[0]).expect("opened");
    server.sql(cut);
    let e = fails(answer(lookup.as_mut(), &longs(&[Some(1)])));
    assert!(e.kind() == ErrorKind::Io && e.what().contains("`t` cannot be looked up, tried 1 times"), "{e}");
    assert!(e.help().is_some_and(|h| h.contains("'lookup.max-retries'")), "{e}");
    let spec = server.spec("t", pair_fields(), &[], &[]);
    let mut lookup = open_lookup(&spec, &[0]).expect("opened");
    server.sql("DROP TABLE lookup_cut.t");
    let began = Instant::now();
    let e = fails(answer(lookup.as_mut(), &longs(&[Some(1)])));
    assert!(e.kind() != ErrorKind::Io && began.elapsed() < Duration::from_secs(1), "{e}");
}

#[test]
fn what_cannot_be_looked_up_is_named_before_the_first_row() {
    let Some(server) = server("lookup_wrong") else { return };
    server.table("t (k bigint, v text)");
    let e = fails(open_lookup(&server.spec("nowhere", pair_fields(), &[], &[]), &[0]));
    assert!(e.what().contains("no table lookup_wrong.nowhere") && e.place().is_some(), "{e}");
    let fields = vec![Field::new("k", DataType::Int64, true), Field::new("val", DataType::Utf8, true)];
    let e = fails(open_lookup(&server.spec("t", fields, &[], &[]), &[0]));
    assert!(e.what().contains("no column `val`") && e.help().is_some_and(|h| h.contains("It has k, v")), "{e}");
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int32, true)));
    let fields = vec![Field::new("k", DataType::Int64, true), Field::new("v", list, true)];
    let e = fails(open_lookup(&server.spec("t", fields, &[], &[]), &[0]));
    assert!(e.what().contains("`v` is ARRAY<INT>"), "{e}");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    drop(silent);
    let mut spec = server.spec("t", pair_fields(), &[], &[("lookup.max-retries", "1")]);
    spec.options.insert("url".into(), format!("jdbc:postgresql://u:hunter2@127.0.0.1:{port}/db"));
    let began = Instant::now();
    let e = fails(open_lookup(&spec, &[0]));
    assert!(e.kind() == ErrorKind::Io && e.what().contains("tried 2 times"), "{e}");
    assert!(!e.to_string().contains("hunter2") && began.elapsed() >= Duration::from_millis(500), "{e}");
}
