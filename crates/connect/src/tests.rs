//! Tables opened through the registry, over real files.

#[cfg(feature = "s3")]
mod bucket_sinks;
#[cfg(feature = "s3")]
mod buckets;
mod commits;
mod delta;
mod pace;
mod positions;

use super::*;
use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use millstream_core::metadata::ROW_ORDER;
use millstream_core::{BadRow, Batch, ErrorKind, PartitionReader, Place, Polled, SinkContext};
use millstream_formats::text::Printer;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]))
}

fn table(options: &[(&str, &str)]) -> TableSpec {
    TableSpec {
        name: "t".into(),
        schema: schema(),
        projection: None,
        metadata: Vec::new(),
        options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        place: Some(Place("q.sql:1:14".into())),
    }
}

fn files(path: &Path, format: &str) -> TableSpec {
    table(&[("connector", "filesystem"), ("path", &path.display().to_string()), ("format", format)])
}

fn text_of(rows: &RecordBatch) -> Vec<String> {
    let printer = Printer::new(rows).expect("types are known");
    (0..rows.num_rows())
        .map(|row| {
            let mut out = Vec::new();
            printer.write(row, &mut out);
            String::from_utf8(out).expect("UTF-8")
        })
        .collect()
}

fn read_partition(reader: &mut dyn PartitionReader) -> Result<(Vec<String>, Vec<BadRow>)> {
    let (mut rows, mut bad) = (Vec::new(), Vec::new());
    loop {
        match reader.poll()? {
            Polled::Rows(some) => {
                assert!(some.rows.num_rows() <= 8192);
                rows.extend(text_of(&some.rows));
                bad.extend(some.bad);
            }
            Polled::Pending => std::thread::sleep(Duration::from_micros(100)),
            Polled::End => return Ok((rows, bad)),
        }
    }
}

fn read(table: &TableSpec) -> Result<(Vec<String>, Vec<BadRow>)> {
    let mut source = Registry::new().open_source(table)?;
    let mut readers = source.partitions(2)?;
    assert_eq!(readers.len(), 1, "all files are one partition");
    read_partition(readers[0].as_mut())
}

fn rows(table: &TableSpec) -> Vec<String> {
    read(table).unwrap_or_else(|e| panic!("{e}")).0
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("to memory");
    out.finish().expect("to memory")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn batch(ids: std::ops::Range<i64>) -> Batch {
    let n = ids.clone().count();
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids.clone())),
        Arc::new(arrow::array::StringArray::from_iter_values(ids.map(|i| format!("n{}", i % 3)))),
        Arc::new(arrow::array::TimestampMillisecondArray::from(vec![1_357_035_300_000; n])),
    ];
    RecordBatch::try_new(schema(), columns).expect("the columns fit").into()
}

#[test]
fn a_folder_is_read_in_path_order_whatever_its_files_are_packed_in() {
    let dir = TempDir::new().expect("a folder");
    let sub = dir.path().join("b");
    fs::create_dir_all(&sub).expect("a folder");
    fs::write(dir.path().join("a.csv"), "1,x,\n2,y,").expect("written");
    fs::write(sub.join("1.csv.gz"), gz(b"3,x,\n")).expect("written");
    fs::write(sub.join("2.csv.zst"), zstd::encode_all(&b"4,x,\n"[..], 0).expect("packed")).expect("written");
    for hidden in [".hidden", "_SUCCESS", "c.csv.tmp", "d.inprogress"] {
        fs::write(dir.path().join(hidden), "nonsense").expect("written");
    }
    let mut spec = files(dir.path(), "csv");
    spec.projection = Some(vec![0]);
    spec.metadata = vec![
        (ROW_ORDER.into(), Field::new("$order", DataType::Int64, false)),
        ("file.name".into(), Field::new("f", DataType::Utf8, false)),
    ];
    assert_eq!(rows(&spec), ["1, 0, a.csv", "2, 1, a.csv", "3, 2, 1.csv.gz", "4, 3, 2.csv.zst"]);
    spec.metadata.clear();
    spec.options.insert("path".into(), format!("file://{}/b/*.gz", dir.path().display()));
    assert_eq!(rows(&spec), ["3"]);
}

#[test]
fn all_metadata_of_a_file_can_be_read() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("a.json");
    fs::write(&path, "{\"id\":1}\n").expect("written");
    let mut spec = files(&path, "json");
    spec.projection = Some(vec![0]);
    spec.metadata = Registry::new()
        .metadata(&spec)
        .expect("files have metadata")
        .into_iter()
        .map(|f| (f.name().clone(), f))
        .collect();
    let out = rows(&spec).remove(0);
    assert!(out.starts_with(&format!("1, {}, a.json, 9, 20", path.display())), "{out}");
}

#[test]
fn a_bad_row_names_its_file_and_line_and_can_be_set_aside() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("in.csv.gz");
    let mut text = String::new();
    for i in 0..20_000 {
        text += &if i == 12_344 { "oops,x,\n".to_owned() } else { format!("{i},x,\n") };
    }
    fs::write(&path, gz(text.as_bytes())).expect("written");
    let mut spec = files(&path, "csv");
    let e = read(&spec).expect_err("a bad row fails");
    assert_eq!(e.place().map(|p| p.0.clone()), Some(format!("{}:12345", path.display())));
    spec.options.insert("millstream.bad-rows".into(), "set-aside".into());
    let (rows, bad) = read(&spec).expect("set aside");
    assert_eq!(rows.len(), 19_999);
    assert_eq!(bad.len(), 1);
    assert_eq!((bad[0].place.0.clone(), bad[0].raw.as_slice()), (format!("{}:12345", path.display()), &b"oops,x,"[..]));
}

#[test]
fn a_growing_folder_gives_each_file_once() {
    let dir = TempDir::new().expect("a folder");
    let mut spec = files(dir.path(), "csv");
    spec.projection = Some(vec![0]);
    spec.options.insert("source.monitor-interval".into(), "5 ms".into());
    let mut source = Registry::new().open_source(&spec).expect("an empty folder may still fill");
    assert!(!source.bounded());
    let mut reader = source.partitions(1).expect("opened").remove(0);
    let mut seen = Vec::new();
    let wait_for = |n: usize, seen: &mut Vec<String>, reader: &mut dyn PartitionReader| {
        let until = Instant::now() + Duration::from_secs(10);
        while seen.len() < n && Instant::now() < until {
            match reader.poll().expect("readable") {
                Polled::Rows(some) => seen.extend(text_of(&some.rows)),
                Polled::Pending => std::thread::sleep(Duration::from_millis(1)),
                Polled::End => panic!("a folder that grows has no end"),
            }
        }
    };
    fs::write(dir.path().join("b.csv.tmp"), "not yet").expect("written");
    fs::write(dir.path().join(".x"), "1,x,\n").expect("written");
    fs::rename(dir.path().join(".x"), dir.path().join("a.csv")).expect("renamed");
    wait_for(1, &mut seen, reader.as_mut());
    fs::write(dir.path().join(".x"), "2,x,\n3,x,").expect("written");
    fs::rename(dir.path().join(".x"), dir.path().join("0.csv")).expect("renamed");
    wait_for(3, &mut seen, reader.as_mut());
    // Several looks later nothing has come twice.
    let until = Instant::now() + Duration::from_millis(50);
    while Instant::now() < until {
        assert!(matches!(reader.poll().expect("readable"), Polled::Pending));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(seen, ["1", "2", "3"]);
}

#[test]
fn what_is_written_is_read_back_from_every_format() {
    for (format, packed) in [("csv", ""), ("json", ""), ("parquet", ""), ("csv", ".gz"), ("json", ".zst")] {
        let dir = TempDir::new().expect("a folder");
        let path = match packed {
            "" => dir.path().join("out"),
            packed => dir.path().join(format!("out.{format}{packed}")),
        };
        let spec = files(&path, format);
        assert_eq!(wants_single_writer(&spec), !packed.is_empty());
        let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 1)).expect("opened");
        sink.write(&batch(0..3)).expect("written");
        sink.write(&batch(3..10_000)).expect("written");
        sink.flush().expect("flushed");
        sink.finish().expect("finished");
        assert!(sink.bytes() > 0);
        let back = rows(&spec);
        assert_eq!(back.len(), 10_000, "{format}{packed}");
        assert_eq!(back[4], "4, n1, 2013-01-01 10:15:00");
    }
}

#[test]
fn nothing_is_seen_before_the_end_and_nothing_is_left_after_a_failure() {
    let dir = TempDir::new().expect("a folder");
    let spec = files(&dir.path().join("out"), "csv");
    let out = dir.path().join("out");
    let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 2)).expect("opened");
    sink.write(&batch(0..5)).expect("written");
    assert!(names(&out).iter().all(|n| n.starts_with('.')), "{:?}", names(&out));
    sink.abort();
    assert!(names(&out).is_empty());
    let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 2)).expect("opened");
    sink.write(&batch(0..5)).expect("written");
    drop(sink);
    assert!(names(&out).is_empty(), "dropped is not finished");
    // Two sinks of one job into one folder: both are there.
    let mut one = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 2)).expect("opened");
    let mut two = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 2)).expect("opened");
    one.write(&batch(0..5)).expect("written");
    two.write(&batch(5..8)).expect("written");
    one.finish().expect("finished");
    two.finish().expect("finished");
    assert_eq!(rows(&spec).len(), 8);
    // A folder without rows is an empty folder.
    let other = files(&dir.path().join("none"), "csv");
    Registry::new().open_sink(&other, &SinkContext::one_of(0, 1)).expect("opened").finish().expect("finished");
    assert!(names(&dir.path().join("none")).is_empty());
}

#[test]
fn one_file_is_replaced_at_the_end_and_not_before() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("out.csv");
    fs::write(&path, "old\n").expect("written");
    let mut spec = files(&path, "csv");
    spec.options.insert("csv.header".into(), "true".into());
    let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 1)).expect("opened");
    sink.write(&batch(1..2)).expect("written");
    assert_eq!(fs::read_to_string(&path).expect("there"), "old\n");
    assert!(Registry::new().open_sink(&spec, &SinkContext::one_of(0, 1)).is_err(), "two writers of one file");
    sink.finish().expect("finished");
    assert_eq!(fs::read_to_string(&path).expect("there"), "id,name,at\n1,n1,2013-01-01 10:15:00\n");
    assert_eq!(names(dir.path()), ["out.csv"]);
}

#[test]
fn partitions_become_folders_and_come_back() {
    let dir = TempDir::new().expect("a folder");
    for format in ["csv", "parquet"] {
        let mut spec = files(&dir.path().join(format), format);
        spec.partitioned_by = vec!["name".into()];
        let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 1)).expect("opened");
        sink.write(&batch(0..6)).expect("written");
        sink.finish().expect("finished");
        assert_eq!(names(&dir.path().join(format)), ["name=n0", "name=n1", "name=n2"]);
        assert_eq!(rows(&spec)[..2], ["0, n0, 2013-01-01 10:15:00", "3, n0, 2013-01-01 10:15:00"]);
    }
}

#[test]
fn files_roll_when_they_are_full() {
    let dir = TempDir::new().expect("a folder");
    let mut spec = files(dir.path(), "csv");
    spec.options.insert("sink.rolling-policy.file-size".into(), "1kb".into());
    let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 1)).expect("opened");
    for i in 0..10 {
        sink.write(&batch(i * 100..(i + 1) * 100)).expect("written");
    }
    sink.finish().expect("finished");
    assert_eq!(names(dir.path()).len(), 10);
    assert_eq!(rows(&spec).len(), 1000);
}

#[test]
fn a_full_disk_is_an_error_with_path_and_remedy() {
    let spec = files(Path::new("/dev/full"), "csv");
    assert!(wants_single_writer(&spec));
    let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 1)).expect("opened");
    sink.write(&batch(0..10)).expect("held back");
    let e = sink.flush().and_then(|()| sink.finish()).expect_err("no room");
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.what().contains("/dev/full") && e.help().is_some_and(|h| h.contains("make room")), "{e}");
}

#[test]
fn what_cannot_be_opened_is_named_with_its_declaration() {
    let e = read(&files(Path::new("no/such/file.csv"), "csv")).expect_err("missing");
    let cwd = std::env::current_dir().expect("a working directory");
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.what().contains("no/such/file.csv"), "{e}");
    assert!(e.help().is_some_and(|h| h.contains(&cwd.display().to_string())), "{e}");
    assert_eq!(e.place().map(|p| p.0.as_str()), Some("q.sql:1:14"));

    let dir = TempDir::new().expect("a folder");
    let e = read(&files(dir.path(), "csv")).expect_err("an empty folder");
    assert!(e.help().is_some_and(|h| h.contains("source.monitor-interval")), "{e}");

    let blocked = dir.path().join("file");
    fs::write(&blocked, "").expect("written");
    let e = Registry::new()
        .open_sink(&files(&blocked.join("below"), "csv"), &SinkContext::one_of(0, 1))
        .err()
        .expect("no folder there");
    assert!(e.kind() == ErrorKind::Io && e.what().contains("below"), "{e}");

    let path = dir.path().join("in.csv.bz2");
    fs::write(&path, "BZh9").expect("written");
    let e = read(&files(&path, "csv")).expect_err("no such packing");
    assert!(e.what().contains(".bz2") && e.place().is_some_and(|p| p.0.ends_with("in.csv.bz2")), "{e}");

    let path = dir.path().join("cut.csv.gz");
    let whole = gz(b"1,x,\n2,y,\n");
    fs::write(&path, &whole[..whole.len() - 9]).expect("written");
    let e = read(&files(&path, "csv")).expect_err("cut off");
    assert!(e.kind() == ErrorKind::Data && e.place().is_some_and(|p| p.0.ends_with("cut.csv.gz")), "{e}");
}

#[test]
fn what_comes_through_a_pipe_is_seen_at_once() {
    let dir = TempDir::new().expect("a folder");
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|s| s.success()), "mkfifo is there");
    let mut spec = files(&pipe, "csv");
    spec.projection = Some(vec![0]);
    let mut source = Registry::new().open_source(&spec).expect("opened");
    let mut reader = source.partitions(1).expect("opened").remove(0);
    let mut writer = fs::OpenOptions::new().write(true).open(&pipe).expect("the reader is there");
    let until = Instant::now() + Duration::from_secs(10);
    for n in 0..3 {
        writer.write_all(format!("{n},x,\n").as_bytes()).expect("written");
        let rows = loop {
            assert!(Instant::now() < until, "row {n} does not come");
            match reader.poll().expect("readable") {
                Polled::Rows(some) => break text_of(&some.rows),
                Polled::Pending => std::thread::sleep(Duration::from_micros(100)),
                Polled::End => panic!("the pipe is open"),
            }
        };
        assert_eq!(rows, [n.to_string()]);
    }
    drop(writer);
    assert!(read_partition(reader.as_mut()).expect("readable").0.is_empty());
}

#[test]
fn files_take_no_changes() {
    let dir = TempDir::new().expect("a folder");
    let mut sink = Registry::new().open_sink(&files(dir.path(), "csv"), &SinkContext::one_of(0, 1)).expect("opened");
    let mut rows = batch(0..2);
    rows.kinds = Some(arrow::array::Int8Array::from(vec![0, 3]));
    assert!(sink.write(&rows).is_err_and(|e| e.what().contains("new rows only")));
}

#[test]
fn a_folder_that_cannot_be_written_to_is_known_at_once() {
    // Not even the superuser can make a folder there.
    let e = Registry::new()
        .open_sink(&files(Path::new("/proc/out"), "csv"), &SinkContext::one_of(0, 1))
        .err()
        .expect("no folder there");
    assert!(e.kind() == ErrorKind::Io && e.what().contains("/proc/out") && e.help().is_some(), "{e}");
}

#[test]
fn options_are_checked_with_the_slip_named() {
    let check = |options: &[(&str, &str)], use_as| {
        Registry::new().validate(&table(options), use_as).expect_err("wrong").to_string()
    };
    let e = check(&[("connector", "filesytem")], TableUse::Source);
    assert!(e.contains("did you mean 'filesystem'?") && e.contains("at q.sql:1:14"), "{e}");
    let e =
        check(&[("connector", "filesystem"), ("path", "x"), ("fromat", "csv"), ("format", "csv")], TableUse::Source);
    assert!(e.contains("no option 'fromat'") && e.contains("did you mean 'format'?"), "{e}");
    let e = check(&[("connector", "filesystem"), ("path", "x"), ("format", "cvs")], TableUse::Source);
    assert!(e.contains("There are csv, json, parquet"), "{e}");
    let e = check(&[("connector", "filesystem"), ("format", "csv")], TableUse::Source);
    assert!(e.contains("needs the option 'path'"), "{e}");
    let e = check(&[("connector", "filesystem"), ("path", "gs://x"), ("format", "csv")], TableUse::Source);
    assert!(e.contains("'gs://'"), "{e}");
    let e = check(
        &[("connector", "filesystem"), ("path", "x"), ("format", "csv"), ("csv.field-delimiter", "ab")],
        TableUse::Source,
    );
    assert!(e.contains("'csv.field-delimiter' cannot be 'ab'"), "{e}");
    let e = check(
        &[("connector", "filesystem"), ("path", "x"), ("format", "json"), ("csv.header", "true")],
        TableUse::Sink,
    );
    assert!(e.contains("no option 'csv.header'"), "{e}");
    assert!(check(&[("connector", "print")], TableUse::Source).contains("cannot be read"));
    assert!(check(&[("connector", "datagen")], TableUse::Sink).contains("cannot be written to"));
    let e = check(&[("connector", "datagen"), ("fields.di.min", "1")], TableUse::Source);
    assert!(e.contains("did you mean 'fields.id.min'?"), "{e}");
}

#[cfg(feature = "postgres")]
#[test]
fn options_of_a_database_are_checked_without_reaching_it_and_its_password_is_never_shown() {
    let url = ("url", "jdbc:postgresql://ann:hunter2@db.invalid/shop");
    let check = |more: &[(&str, &str)]| {
        let options: Vec<_> = [("connector", "jdbc"), url, ("table-name", "t"), ("password", "hunter2")]
            .iter()
            .chain(more)
            .copied()
            .collect();
        Registry::new().validate(&table(&options), TableUse::Sink)
    };
    check(&[("sink.buffer-flush.interval", "0"), ("lookup.cache", "NONE"), ("driver", "org.postgresql.Driver")])
        .expect("all of these are known");
    for (key, value, what) in [
        ("sink.delivery-guarante", "none", "did you mean 'sink.delivery-guarantee'?"),
        ("sink.delivery-guarantee", "exactly_once", "did you mean 'exactly-once'?"),
        ("sink.max-retries", "many", "'sink.max-retries' cannot be 'many'"),
        ("sink.outbox.max-bytes", "1 parsec", "is not a unit of size"),
        ("connection.max-retry-timeout", "1 ms", "shorter than a second"),
        ("driver", "com.mysql.Driver", "'driver' cannot be"),
        ("url", "jdbc:mysql://ann:hunter2@db/shop", "of the kind 'mysql'"),
        ("table-name", " ", "needs the option 'table-name'"),
    ] {
        let e = check(&[(key, value)]).expect_err(key).to_string();
        assert!(e.contains(what) && e.contains("at q.sql:1:14") && !e.contains("hunter2"), "{key}: {e}");
    }
    let e = Registry::new().validate(&table(&[("connector", "jdbc"), url, ("table-name", "t")]), TableUse::Source);
    assert!(e.expect_err("a sink alone").what().contains("cannot be read"));
}

#[cfg(feature = "postgres")]
#[test]
fn options_of_a_look_up_are_checked_by_name() {
    let check = |more: &[(&str, &str)]| {
        let url = ("url", "jdbc:postgresql://db.invalid/shop");
        let options: Vec<_> = [("connector", "jdbc"), url, ("table-name", "t")].iter().chain(more).copied().collect();
        Registry::new().validate(&table(&options), TableUse::Lookup)
    };
    let partial = ("lookup.cache", "PARTIAL");
    check(&[
        ("lookup.cache", "partial"),
        ("lookup.partial-cache.max-rows", "100"),
        ("lookup.partial-cache.expire-after-write", "10 min"),
        ("lookup.partial-cache.expire-after-access", "1 min"),
        ("lookup.partial-cache.cache-missing-key", "false"),
        ("lookup.max-retries", "0"),
    ])
    .expect("all of these are known");
    // What they were called before.
    check(&[("lookup.cache.max-rows", "100"), ("lookup.cache.ttl", "10 s")]).expect("known too");
    for (options, what) in [
        (vec![("lookup.chache", "NONE")], "did you mean 'lookup.cache'?"),
        (vec![partial, ("lookup.partial-cache.max-row", "5")], "did you mean 'lookup.partial-cache.max-rows'?"),
        (vec![("lookup.cache", "PARTIEL")], "did you mean 'PARTIAL'?"),
        (vec![("lookup.cache", "FULL")], "PostgreSQL is asked by key"),
        (vec![("lookup.partial-cache.max-rows", "5")], "add 'lookup.cache' = 'PARTIAL'"),
        (vec![partial, ("lookup.partial-cache.max-rows", "0")], "cannot be 0"),
        (vec![partial, ("lookup.partial-cache.max-rows", "many")], "cannot be 'many'"),
        (vec![partial, ("lookup.partial-cache.expire-after-write", "0 s")], "cannot be zero"),
        (vec![partial, ("lookup.partial-cache.cache-missing-key", "perhaps")], "use 'true' or 'false'"),
        (
            vec![partial, ("lookup.cache.ttl", "1 s"), ("lookup.partial-cache.expire-after-write", "1 s")],
            "say the same",
        ),
        (vec![("lookup.max-retries", "-1")], "'lookup.max-retries' cannot be '-1'"),
        (vec![("lookup.max-retries", "100000")], "use a number up to 1000"),
    ] {
        let e = check(&options).expect_err(what).to_string();
        assert!(e.contains(what) && e.contains("at q.sql:1:14"), "{options:?}: {e}");
    }
}

#[test]
fn files_are_looked_up_whole_and_nothing_else_is() {
    let file = |more: &[(&str, &str)]| {
        let options: Vec<_> =
            [("connector", "filesystem"), ("path", "x.csv"), ("format", "csv")].iter().chain(more).copied().collect();
        table(&options)
    };
    let check = |more: &[(&str, &str)]| Registry::new().validate(&file(more), TableUse::Lookup);
    check(&[
        ("lookup.cache", "full"),
        ("lookup.full-cache.reload-strategy", "PERIODIC"),
        ("lookup.full-cache.periodic-reload.interval", "1 h"),
    ])
    .expect("all of these are known");
    for (options, what) in [
        (vec![("lookup.cache", "PARTIAL")], "or use 'FULL'"),
        (vec![("lookup.full-cache.reload-strategy", "TIMED")], "or use 'PERIODIC'"),
        (
            vec![("lookup.full-cache.reload-strategy", "PERIODIC")],
            "'lookup.full-cache.periodic-reload.interval' is not",
        ),
        (vec![("lookup.cache.ttl", "0 s")], "cannot be zero"),
        (vec![("lookup.cache.ttl", "1 h"), ("lookup.full-cache.periodic-reload.interval", "1 h")], "say the same"),
        (vec![("lookup.cache.tll", "1 h")], "did you mean 'lookup.cache.ttl'?"),
        (vec![("lookup.full-cache.periodic-reload.intervall", "1 h")], "did you mean"),
        (vec![("path", "-")], "standard input"),
    ] {
        let e = check(&options).expect_err(what).to_string();
        assert!(e.contains(what), "{options:?}: {e}");
    }
    for (options, reload) in [(vec![], None), (vec![("lookup.cache.ttl", "90 s")], Some(90))] {
        match Registry::new().open_lookup(&file(&options), &[0]).expect("opened") {
            LookedUp::Whole { reload: found, .. } => assert_eq!(found.map(|d| d.as_secs()), reload),
            LookedUp::Asked(_) => panic!("files answer no keys"),
        }
    }
    for connector in ["datagen", "nexmark", "print", "blackhole"] {
        let e = Registry::new().validate(&table(&[("connector", connector)]), TableUse::Lookup);
        let e = e.expect_err(connector).to_string();
        assert!(e.contains(&format!("'{connector}' answers no keys")) && e.contains("'filesystem' or 'jdbc'"), "{e}");
    }
}

#[cfg(not(feature = "postgres"))]
#[test]
fn a_connector_that_was_left_out_says_how_to_get_it() {
    let e =
        Registry::new().validate(&table(&[("connector", "jdbc")]), TableUse::Sink).expect_err("left out").to_string();
    assert!(e.contains("without the connector 'jdbc'") && e.contains("--features postgres"), "{e}");
}

#[test]
fn made_up_rows_are_the_same_at_any_parallelism() {
    let mut spec = table(&[
        ("connector", "datagen"),
        ("rows-per-second", "0"),
        ("number-of-rows", "20000"),
        ("fields.id.min", "0"),
        ("fields.id.max", "9"),
        ("fields.name.length", "5"),
        ("fields.name.null-rate", "0.25"),
    ]);
    spec.projection = Some(vec![0, 1]);
    spec.metadata = vec![(ROW_ORDER.into(), Field::new("$order", DataType::Int64, false))];
    let mut all = Vec::new();
    for parallelism in [1, 2, 7] {
        let mut source = Registry::new().open_source(&spec).expect("opened");
        assert!(source.bounded());
        let mut parts = Vec::new();
        for mut reader in source.partitions(parallelism).expect("opened") {
            parts.push(read_partition(reader.as_mut()).expect("made").0);
        }
        let mut rows: Vec<String> = parts.into_iter().flatten().collect();
        rows.sort_by_key(|r| r.rsplit(", ").next().and_then(|o| o.parse::<u64>().ok()));
        all.push(rows);
    }
    assert_eq!(all[0].len(), 20_000);
    assert!(all[0] == all[1] && all[1] == all[2]);
    let nulls = all[0].iter().filter(|r| r.contains("null")).count();
    assert!((4_500..5_500).contains(&nulls), "{nulls}");
    let sevens = all[0].iter().filter(|r| r.starts_with("7,")).count();
    assert!((1_700..2_300).contains(&sevens), "{sevens}");
}

#[test]
fn a_sequence_ends_the_table_and_times_lie_in_the_past() {
    let spec = table(&[
        ("connector", "datagen"),
        ("rows-per-second", "1000000"),
        ("fields.id.kind", "sequence"),
        ("fields.id.start", "5"),
        ("fields.id.end", "104"),
        ("fields.at.max-past", "1 h"),
    ]);
    let mut source = Registry::new().open_source(&spec).expect("opened");
    let mut reader = source.partitions(1).expect("opened").remove(0);
    let mut parts = Vec::new();
    loop {
        match reader.poll().expect("made") {
            Polled::Rows(some) => parts.push(some.rows),
            Polled::Pending => std::thread::sleep(Duration::from_micros(50)),
            Polled::End => break,
        }
    }
    let rows = concat_batches(&source.schema(), &parts).expect("one schema");
    let ids = rows.column(0).as_any().downcast_ref::<Int64Array>().expect("BIGINT");
    assert_eq!(ids.values().to_vec(), (5..105).collect::<Vec<i64>>());
    let at = rows.column(2).as_any().downcast_ref::<arrow::array::TimestampMillisecondArray>().expect("TIMESTAMP");
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    assert!(at.values().iter().all(|&t| t <= now && t >= now - 3_700_000));
}

#[test]
fn the_rate_is_kept() {
    let spec = table(&[("connector", "datagen"), ("rows-per-second", "1000")]);
    let mut source = Registry::new().open_source(&spec).expect("opened");
    assert!(!source.bounded());
    let mut readers = source.partitions(2).expect("opened");
    let began = Instant::now();
    let mut made = 0;
    while began.elapsed() < Duration::from_millis(100) {
        for reader in &mut readers {
            if let Polled::Rows(some) = reader.poll().expect("made") {
                made += some.rows.num_rows();
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let due = began.elapsed().as_millis() as usize + 2;
    assert!(made <= due && made > 0, "{made} rows where {due} are due");
}

#[test]
fn every_type_can_be_made_up() {
    let mut spec = table(&[
        ("connector", "datagen"),
        ("number-of-rows", "50"),
        ("rows-per-second", "0"),
        ("fields.l.element.max", "3"),
        ("fields.l.null-rate", "0.5"),
        ("fields.d.min", "-1.5"),
        ("fields.d.max", "2.5"),
        ("fields.s.var-len", "true"),
    ]);
    let ints = Arc::new(Field::new("item", DataType::Int32, true));
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Float64, true)];
    let entries = Arc::new(Field::new("entries", DataType::Struct(entries.into()), false));
    let inner = vec![Field::new("a", DataType::Int8, true), Field::new("b", DataType::Boolean, true)];
    spec.schema = Arc::new(Schema::new(vec![
        Field::new("l", DataType::List(ints), true),
        Field::new("m", DataType::Map(entries, false), true),
        Field::new("r", DataType::Struct(inner.into()), true),
        Field::new("d", DataType::Decimal128(10, 2), true),
        Field::new("s", DataType::Utf8, true),
        Field::new("b", DataType::Binary, true),
        Field::new("f", DataType::Float32, true),
        Field::new("day", DataType::Date32, true),
        Field::new("time", DataType::Time32(TimeUnit::Millisecond), true),
        Field::new("ltz", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]));
    let mut source = Registry::new().open_source(&spec).expect("opened");
    let mut reader = source.partitions(1).expect("opened").remove(0);
    assert_eq!(read_partition(reader.as_mut()).expect("made").0.len(), 50);
}
