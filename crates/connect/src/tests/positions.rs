//! Readers that are dropped anywhere and resumed where they were.

use super::*;
use millstream_core::SavedPartition;
use proptest::prelude::*;
use std::time::SystemTime;

/// All that came out, in its order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Out {
    pub(super) rows: Vec<String>,
    bad: Vec<BadRow>,
}

/// Polls until `batches` of them have come. Returns whether the end was seen.
pub(super) fn poll(reader: &mut dyn PartitionReader, batches: usize, out: &mut Out) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    let mut left = batches;
    while left > 0 {
        assert!(Instant::now() < until, "nothing comes");
        match reader.poll().unwrap_or_else(|e| panic!("{e}")) {
            Polled::Rows(some) => {
                out.rows.extend(text_of(&some.rows));
                out.bad.extend(some.bad);
                left -= 1;
            }
            Polled::Pending => std::thread::sleep(Duration::from_micros(50)),
            Polled::End => return true,
        }
    }
    false
}

pub(super) fn saved(reader: &dyn PartitionReader) -> SavedPartition {
    SavedPartition { name: reader.name().to_owned(), position: reader.position().unwrap_or_else(|e| panic!("{e}")) }
}

pub(super) fn resumed(spec: &TableSpec, saved: &[SavedPartition], parallelism: usize) -> Vec<Box<dyn PartitionReader>> {
    let mut source = Registry::new().open_source(spec).unwrap_or_else(|e| panic!("{e}"));
    assert!(source.replays());
    source.resume(saved, parallelism).unwrap_or_else(|e| panic!("{e}"))
}

pub(super) fn refused(spec: &TableSpec, saved: &SavedPartition) -> Error {
    let mut source = Registry::new().open_source(spec).unwrap_or_else(|e| panic!("{e}"));
    match source.resume(std::slice::from_ref(saved), 1) {
        Err(e) => e,
        Ok(mut readers) => loop {
            match readers[0].poll() {
                Err(e) => break e,
                Ok(Polled::End) => panic!("nothing is wrong"),
                Ok(_) => {}
            }
        },
    }
}

/// A file with rows of all sorts, in a folder that gives a column its value.
#[derive(Debug, Clone)]
struct Input {
    rows: usize,
    packing: u8,
    bom: bool,
    /// Every so many rows one cannot be read.
    bad_every: usize,
    last_line_open: bool,
    day: u8,
}

fn any_input() -> impl Strategy<Value = Input> {
    // Most are longer than a batch, so that readers are dropped inside of them.
    let rows = prop_oneof![1 => Just(0), 1 => 1..40usize, 1 => 8000..8300usize, 4 => 16000..26000usize];
    (rows, 0..3u8, any::<bool>(), 2..5000usize, any::<bool>(), 0..3u8).prop_map(
        |(rows, packing, bom, bad_every, last_line_open, day)| Input {
            rows,
            packing,
            bom,
            bad_every,
            last_line_open,
            day,
        },
    )
}

fn write_input(root: &Path, number: usize, input: &Input, format: &str, header: bool) {
    let mut text = if input.bom { "\u{feff}".to_owned() } else { String::new() };
    if header && format == "csv" {
        // Not in the order of the declaration, with a column more, and a line break inside of a name.
        text += "at,\"more\nto say\",name,id\n";
    }
    for row in 0..input.rows {
        let bad = row % input.bad_every == input.bad_every - 1;
        let id = if bad { "oops".to_owned() } else { row.to_string() };
        let name = ["plain", "two\nlines", "a \"\"quote\"\"", "", "ä, b", "\r\n\n"][(row * 7 + number) % 6];
        text += &match (format, header) {
            ("json", _) => format!("{{\"id\":\"{id}\",\"name\":\"{}\"}}\n", name.escape_default()),
            (_, true) => format!(",x,\"{name}\",{id}\n"),
            _ => format!("{id},\"{name}\",\n"),
        };
        if row % 1000 == 3 {
            text += "\n";
        }
    }
    if input.last_line_open {
        text.truncate(text.trim_end().len());
    }
    let folder = root.join(format!("day={}", input.day));
    fs::create_dir_all(&folder).expect("a folder");
    let (ending, bytes) = match input.packing {
        0 => ("", text.into_bytes()),
        1 => (".gz", gz(text.as_bytes())),
        _ => (".zst", zstd::encode_all(text.as_bytes(), 0).expect("packed")),
    };
    fs::write(folder.join(format!("{number}.{format}{ending}")), bytes).expect("written");
}

fn with_day(mut spec: TableSpec) -> TableSpec {
    let mut fields: Vec<Field> = spec.schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("day", DataType::Int32, true));
    spec.schema = Arc::new(Schema::new(fields));
    spec.partitioned_by = vec!["day".into()];
    spec.metadata = vec![
        (ROW_ORDER.into(), Field::new("$order", DataType::Int64, false)),
        ("file.name".into(), Field::new("f", DataType::Utf8, false)),
    ];
    spec
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_resumed_reader_gives_what_an_undisturbed_one_would_have_given(
        inputs in proptest::collection::vec(any_input(), 1..5),
        json in any::<bool>(),
        header in any::<bool>(),
        skip in proptest::bool::weighted(0.2),
        crashes in proptest::collection::vec(0..3usize, 3..12),
    ) {
        let dir = TempDir::new().expect("a folder");
        let format = if json { "json" } else { "csv" };
        for (n, input) in inputs.iter().enumerate() {
            write_input(dir.path(), n, input, format, header);
        }
        let mut spec = with_day(files(dir.path(), format));
        if header && !json {
            spec.options.insert("csv.header".into(), "true".into());
        }
        match skip {
            true => spec.options.insert(format!("{format}.ignore-parse-errors"), "true".into()),
            false => spec.options.insert("millstream.bad-rows".into(), "set-aside".into()),
        };
        // An empty file has no header that could be missed.
        let mut undisturbed = Out::default();
        let mut source = Registry::new().open_source(&spec).expect("opened");
        poll(source.partitions(1).expect("opened")[0].as_mut(), usize::MAX, &mut undisturbed);

        let mut out = Out::default();
        let mut source = Registry::new().open_source(&spec).expect("opened");
        let mut reader = source.partitions(1).expect("opened").remove(0);
        for batches in crashes {
            poll(reader.as_mut(), batches, &mut out);
            let position = saved(reader.as_ref());
            drop(reader);
            reader = resumed(&spec, &[position], 1).remove(0);
        }
        poll(reader.as_mut(), usize::MAX, &mut out);
        prop_assert_eq!(out.rows.len(), undisturbed.rows.len());
        prop_assert!(out == undisturbed);
    }

    #[test]
    fn made_up_rows_go_on_where_they_were_at_any_parallelism(
        nexmark in any::<bool>(),
        first in 1..5usize,
        crashes in proptest::collection::vec((1..5usize, proptest::collection::vec(0..3usize, 4)), 0..4),
    ) {
        let mut spec = match nexmark {
            true => table(&[("connector", "nexmark"), ("nexmark.table", "bid"), ("events.num", "60000"), ("seed", "7")]),
            false => table(&[
                ("connector", "datagen"),
                ("rows-per-second", "0"),
                ("number-of-rows", "50001"),
                ("millstream.seed", "7"),
                ("fields.name.length", "5"),
            ]),
        };
        spec.schema = match nexmark {
            true => Arc::new(Schema::new(vec![
                Field::new("auction", DataType::Int64, true),
                Field::new("price", DataType::Int64, true),
            ])),
            false => Arc::new(schema().project(&[0, 1]).expect("two columns")),
        };
        spec.metadata = vec![(ROW_ORDER.into(), Field::new("$order", DataType::Int64, false))];
        let by_partition = |readers: &mut [Box<dyn PartitionReader>], batches: &[usize], out: &mut [Out]| {
            for (n, reader) in readers.iter_mut().enumerate() {
                poll(reader.as_mut(), batches.get(n).copied().unwrap_or(usize::MAX), &mut out[n]);
            }
        };
        let mut undisturbed: Vec<Out> = (0..first).map(|_| Out::default()).collect();
        let mut source = Registry::new().open_source(&spec).expect("opened");
        by_partition(&mut source.partitions(first).expect("opened"), &[], &mut undisturbed);

        let mut out: Vec<Out> = (0..first).map(|_| Out::default()).collect();
        let mut source = Registry::new().open_source(&spec).expect("opened");
        let mut readers = source.partitions(first).expect("opened");
        for (parallelism, batches) in crashes {
            by_partition(&mut readers, &batches, &mut out);
            let mut positions: Vec<SavedPartition> = readers.iter().map(|r| saved(r.as_ref())).collect();
            positions.reverse();
            readers = resumed(&spec, &positions, parallelism);
            prop_assert_eq!(readers.len(), first);
        }
        by_partition(&mut readers, &[], &mut out);
        prop_assert!(out == undisturbed);
    }
}

#[test]
fn a_parquet_file_is_resumed_at_its_row() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("in.parquet");
    let spec = files(&path, "parquet");
    let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 1)).expect("opened");
    sink.write(&batch(0..30_000)).expect("written");
    sink.finish().expect("finished");
    let all = rows(&spec);
    let mut out = Out::default();
    let mut reader = Registry::new().open_source(&spec).expect("opened").partitions(1).expect("opened").remove(0);
    for _ in 0..6 {
        poll(reader.as_mut(), 1, &mut out);
        reader = resumed(&spec, &[saved(reader.as_ref())], 3).remove(0);
    }
    assert!(poll(reader.as_mut(), 1, &mut out));
    assert!(out.rows == all);
}

#[test]
fn a_daily_run_reads_what_has_come_since_the_last() {
    let dir = TempDir::new().expect("a folder");
    let mut spec = files(dir.path(), "csv");
    spec.projection = Some(vec![0]);
    spec.metadata = vec![(ROW_ORDER.into(), Field::new("$order", DataType::Int64, false))];
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("written");
    let run = |saved_before: &[SavedPartition], batches: usize| {
        let mut out = Out::default();
        let mut reader = resumed(&spec, saved_before, 1).remove(0);
        poll(reader.as_mut(), batches, &mut out);
        (out.rows, [saved(reader.as_ref())])
    };
    put("b.csv", "1,x,\n");
    put("d.csv", "2,x,\n");
    let (rows, position) = run(&[], usize::MAX);
    assert_eq!(rows, ["1, 0", "2, 1"]);
    assert_eq!(run(&position, usize::MAX).0, [""; 0]);
    put("c.csv", "3,x,\n");
    put("a.csv", "4,x,\n");
    put("e.csv", "5,x,\n");
    // The second day breaks off after its first file, and a file comes that lies before it.
    let (rows, position) = run(&position, 1);
    assert_eq!(rows, ["4, 2"]);
    put("0.csv", "6,x,\n");
    // What the run would still have given, then what has come.
    let (rows, position) = run(&position, usize::MAX);
    assert_eq!(rows, ["3, 3", "5, 4", "6, 5"]);
    // Files that have been read may go, all of them.
    for file in names(dir.path()) {
        fs::remove_file(dir.path().join(file)).expect("there");
    }
    assert_eq!(run(&position, usize::MAX).0, [""; 0]);
}

#[test]
fn a_watched_folder_is_resumed_among_its_files() {
    let dir = TempDir::new().expect("a folder");
    let mut spec = files(dir.path(), "csv");
    spec.projection = Some(vec![0]);
    spec.options.insert("source.monitor-interval".into(), "1 ms".into());
    let mut reader = resumed(&spec, &[], 1).remove(0);
    let mut seen = Vec::new();
    for n in 0..30 {
        // Names in no order.
        fs::write(dir.path().join(".new"), format!("{n},x,\n")).expect("written");
        fs::rename(dir.path().join(".new"), dir.path().join(format!("{}.csv", n * 7 % 30))).expect("renamed");
        if n % 2 == 0 {
            let mut out = Out::default();
            poll(reader.as_mut(), 1, &mut out);
            seen.extend(out.rows);
            let position = saved(reader.as_ref());
            drop(reader);
            reader = resumed(&spec, &[position], 1).remove(0);
        }
    }
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        match reader.poll().expect("readable") {
            Polled::Rows(some) => seen.extend(text_of(&some.rows)),
            Polled::Pending => std::thread::sleep(Duration::from_millis(1)),
            Polled::End => panic!("a folder that is watched has no end"),
        }
    }
    seen.sort_by_key(|r| r.parse::<i32>().expect("a number"));
    assert_eq!(seen, (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_file_that_is_not_what_it_was_is_an_error_with_path_and_remedy() {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("in.csv");
    let text = |rows: usize| (0..rows).map(|i| format!("{i},x,\n")).collect::<String>();
    fs::write(&path, text(20_000)).expect("written");
    let modified = fs::metadata(&path).expect("there").modified().expect("has a time");
    let set_time = |time: SystemTime| {
        fs::File::options().append(true).open(&path).and_then(|f| f.set_modified(time)).expect("may be set")
    };
    let mut folder = files(dir.path(), "csv");
    folder.projection = Some(vec![0]);
    let mut out = Out::default();
    let mut reader = resumed(&folder, &[], 1).remove(0);
    poll(reader.as_mut(), 1, &mut out);
    let position = saved(reader.as_ref());
    let named = |e: &Error| format!("{e}").contains("in.csv");

    set_time(modified + Duration::from_secs(5));
    let e = refused(&folder, &position);
    assert!(named(&e) && e.what().contains("written to") && e.help().is_some_and(|h| h.contains("touch -d @")), "{e}");
    fs::write(&path, text(100)).expect("written");
    let e = refused(&folder, &position);
    assert!(named(&e) && e.what().contains("shrunk"), "{e}");
    fs::write(&path, text(20_001)).expect("written");
    let e = refused(&folder, &position);
    assert!(named(&e) && e.what().contains("grown"), "{e}");
    fs::rename(&path, dir.path().join("other.csv")).expect("renamed");
    let e = refused(&folder, &position);
    assert!(named(&e) && e.what().contains("gone") && e.help().is_some(), "{e}");
    // Put back, all is well.
    fs::remove_file(dir.path().join("other.csv")).expect("there");
    fs::write(&path, text(20_000)).expect("written");
    set_time(modified);
    poll(resumed(&folder, std::slice::from_ref(&position), 1)[0].as_mut(), usize::MAX, &mut out);
    assert_eq!(out.rows, (0..20_000).map(|i| i.to_string()).collect::<Vec<_>>());

    let other = files(&path, "csv");
    let e = Registry::new().open_source(&other).expect("opened").resume(&[position], 1).err().expect("another path");
    assert!(e.help().is_some_and(|h| h.contains("set 'path' back")), "{e}");
}

#[test]
fn a_position_of_a_later_version_is_refused() {
    let dir = TempDir::new().expect("a folder");
    fs::write(dir.path().join("a.csv"), "1,x,\n").expect("written");
    let spec = files(dir.path(), "csv");
    let mut position = saved(resumed(&spec, &[], 1)[0].as_ref());
    position.position = position.position.replace("\"v\":1", "\"v\":2");
    let e = refused(&spec, &position);
    assert!(e.what().contains("version 2"), "{e}");
}

#[test]
fn a_stream_has_no_positions() {
    let source = Registry::new().open_source(&files(Path::new("-"), "csv")).expect("opened");
    assert!(!source.replays());
    let dir = TempDir::new().expect("a folder");
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|s| s.success()), "mkfifo is there");
    let mut source = Registry::new().open_source(&files(&pipe, "csv")).expect("opened");
    assert!(!source.replays());
    let reader = source.partitions(1).expect("opened").remove(0);
    // Lets the reading thread go.
    drop(fs::OpenOptions::new().write(true).open(&pipe));
    let e = reader.position().expect_err("cannot be read again");
    assert!(e.help().is_some_and(|h| h.contains("file")), "{e}");
}

#[test]
fn files_of_avro_are_gone_on_with_inside_of_a_block() {
    for codec in ["null", "snappy"] {
        let dir = TempDir::new().expect("a folder");
        let mut spec = files(dir.path(), "avro");
        spec.options.insert("avro.codec".into(), codec.into());
        let context = SinkContext { index: 0, writers: 1, job: None };
        for part in [0..20_000, 20_000..20_001, 20_001..37_000] {
            let mut sink = Registry::new().open_sink(&spec, &context).unwrap_or_else(|e| panic!("{e}"));
            sink.write(&batch(part)).and_then(|()| sink.finish()).unwrap_or_else(|e| panic!("{e}"));
        }
        let whole = rows(&spec);
        assert_eq!(whole.len(), 37_000);
        // A batch of 8,192 rows ends inside of a block.
        let mut readers = Registry::new().open_source(&spec).and_then(|mut s| s.partitions(1)).expect("opened");
        let (mut out, mut resumes) = (Out::default(), 0);
        while !poll(readers[0].as_mut(), 1, &mut out) {
            let at = saved(readers[0].as_ref());
            readers = resumed(&spec, &[at], 1);
            resumes += 1;
        }
        assert!(out.rows == whole, "{codec}: other rows after {resumes} restarts");
        assert!(resumes >= 5, "{resumes}");
    }
}
