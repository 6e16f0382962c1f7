//! Tables that are read from a bucket: `./dev servers cargo test -p millstream-connect buckets`.
//!
//! The server is real; what goes wrong on the way to it, a proxy does. What is right is told by the same table over the same
//! files on a disk.

use super::positions::{Out, poll, refused, resumed, saved};
use super::*;
use crate::s3::Access;
use crate::s3::proxy::{Fault, Proxy};
use crate::store::bucket::tests::on_server;
use millstream_formats::options::{Compression, ParquetOptions};
use millstream_formats::parquet::ParquetWriter;
use object_store::ObjectStoreExt;
use std::collections::BTreeMap;

/// Objects below a place of their own, and the same files in a folder.
pub(super) struct Both {
    pub url: String,
    pub folder: TempDir,
    access: Access,
}

impl Both {
    /// `None` where there is no server.
    pub fn new(name: &str) -> Option<Both> {
        let url = on_server(name)?;
        let bucket = url.split('/').take(3).collect::<Vec<_>>().join("/");
        let access = Access::open(&bucket, &BTreeMap::new()).expect("a bucket");
        Some(Both { url, folder: TempDir::new().expect("a folder"), access })
    }

    pub fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let file = self.folder.path().join(name);
        fs::create_dir_all(file.parent().expect("below the folder")).expect("a folder");
        fs::write(file, &bytes).expect("written");
        self.put_there(name, bytes);
    }

    pub fn key(&self, name: &str) -> String {
        let prefix = self.url.splitn(4, '/').nth(3).expect("a place below the bucket");
        if name.is_empty() { prefix.to_owned() } else { format!("{prefix}/{name}") }
    }

    pub fn put_there(&self, name: &str, bytes: Vec<u8>) {
        let at = object_store::path::Path::parse(self.key(name)).expect("a key");
        let s3 = self.access.client.s3.clone();
        self.access.thread.wait(async move { s3.put(&at, bytes.into()).await }).expect("put");
    }

    /// The names of all objects, whatever they look like.
    pub fn names(&self) -> Vec<String> {
        use futures::TryStreamExt;
        use object_store::ObjectStore;
        let (of, s3) = (object_store::path::Path::parse(self.key("")).expect("a key"), self.access.client.s3.clone());
        let prefix = format!("{of}/");
        let all = self.access.thread.wait(async move { s3.list(Some(&of)).try_collect::<Vec<_>>().await });
        let all = all.expect("listed").into_iter();
        let mut names: Vec<String> =
            all.map(|meta| meta.location.as_ref().strip_prefix(&prefix).expect("below").to_owned()).collect();
        names.sort();
        names
    }

    /// Begins an upload and leaves it.
    pub fn begin(&self, name: &str) {
        use object_store::multipart::MultipartStore;
        let at = object_store::path::Path::parse(self.key(name)).expect("a key");
        let s3 = self.access.client.s3.clone();
        self.access.thread.wait(async move { s3.create_multipart(&at).await }).expect("begun");
    }

    /// The keys of uploads that are under way.
    pub fn uploads(&self) -> Vec<String> {
        let prefix = format!("{}/", self.key(""));
        self.access.uploads(&prefix).expect("listed").into_iter().map(|u| u.key[prefix.len()..].to_owned()).collect()
    }

    pub fn there(&self, below: &str, format: &str) -> TableSpec {
        table(&[("connector", "filesystem"), ("path", &format!("{}{below}", self.url)), ("format", format)])
    }

    pub fn here(&self, below: &str, format: &str) -> TableSpec {
        let path = format!("{}{below}", self.folder.path().display());
        table(&[("connector", "filesystem"), ("path", &path), ("format", format)])
    }
}

pub(super) fn through(spec: &TableSpec, proxy: &Proxy) -> TableSpec {
    let mut spec = spec.clone();
    spec.options.insert("s3.endpoint".into(), proxy.url());
    spec
}

fn csv(ids: std::ops::Range<i64>) -> String {
    ids.map(|i| format!("{i},n{},2013-01-01 10:15:00\n", i % 3)).collect()
}

/// As many rows as make `bytes`.
fn csv_of(bytes: usize) -> String {
    let line = format!("1,{},\n", "x".repeat(100));
    line.repeat(bytes / line.len())
}

fn parquet(ids: std::ops::Range<i64>, group: usize) -> Vec<u8> {
    let options = ParquetOptions { compression: Compression::None };
    let mut writer = ParquetWriter::new(Vec::new(), schema(), &options).expect("types are known");
    for from in ids.clone().step_by(group) {
        writer.write(&batch(from..(from + group as i64).min(ids.end)).rows).expect("to memory");
        writer.flush().expect("to memory");
    }
    writer.finish().expect("to memory")
}

#[test]
fn a_prefix_a_pattern_and_an_object_are_read_as_on_a_disk() {
    let Some(both) = Both::new("read") else { return };
    both.put("a.csv", csv(0..3));
    both.put("b/name=x%2Fy/1.csv.gz", gz(csv(3..5).as_bytes()));
    both.put("b/name=__DEFAULT_PARTITION__/2.csv.zst", zstd::encode_all(csv(5..7).as_bytes(), 0).expect("packed"));
    both.put("bb.csv", csv(7..9));
    both.put("c.csv.part/deep/er.csv", csv(9..11));
    for hidden in ["_SUCCESS", "d.csv.tmp", "e.inprogress"] {
        both.put(hidden, "nonsense");
    }
    // On a disk `**` looks into hidden folders.
    both.put_there(".hidden/x.csv", b"nonsense".to_vec());
    // A mark of a folder, as some tools leave it.
    both.put_there("empty", Vec::new());
    let metadata = vec![
        (ROW_ORDER.to_owned(), Field::new("$order", DataType::Int64, false)),
        ("file.name".to_owned(), Field::new("f", DataType::Utf8, false)),
        ("file.size".to_owned(), Field::new("s", DataType::Int64, true)),
    ];
    for below in ["", "/", "/*.csv", "/b*", "/b/*/*.gz", "/**/*.csv", "/a.csv", "/c.csv.*", "/b/name=x%2Fy"] {
        let (mut here, mut there) = (both.here(below, "csv"), both.there(below, "csv"));
        for spec in [&mut here, &mut there] {
            spec.metadata = metadata.clone();
        }
        let expected = rows(&here);
        assert!(!expected.is_empty(), "{below}");
        assert_eq!(rows(&there), expected, "{below}");
    }
    let mut spec = both.there("/b", "csv");
    spec.schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("other", DataType::Utf8, true),
        Field::new("at", DataType::Utf8, true),
        Field::new("name", DataType::Utf8, true),
    ]));
    (spec.partitioned_by, spec.projection) = (vec!["name".into()], Some(vec![0, 3]));
    assert_eq!(rows(&spec), ["5, null", "6, null", "3, x/y", "4, x/y"]);
    spec.metadata = vec![("file.path".into(), Field::new("p", DataType::Utf8, false))];
    assert!(rows(&spec)[0].ends_with(&format!("{}/b/name=__DEFAULT_PARTITION__/2.csv.zst", both.url)));

    let e = read(&both.there("/nothing/*.csv", "csv")).expect_err("names nothing");
    assert!(e.what().contains("names no file") && e.help().is_some(), "{e}");
}

#[test]
fn a_reader_that_is_dropped_anywhere_goes_on_where_it_was() {
    let Some(both) = Both::new("resume") else { return };
    both.put("csv/1.csv", csv(0..20_000));
    both.put("csv/2.csv.gz", gz(csv(20_000..45_000).as_bytes()));
    both.put("csv/3.csv", csv(45_000..45_007));
    both.put("parquet/1.parquet", parquet(0..30_000, 9_000));
    both.put("parquet/2.parquet", parquet(30_000..31_000, 1_000));
    for format in ["csv", "parquet"] {
        let (here, there) = (both.here(&format!("/{format}"), format), both.there(&format!("/{format}"), format));
        let expected = rows(&here);
        for step in [1, 2, 3] {
            let mut out = Out::default();
            let mut source = Registry::new().open_source(&there).expect("opened");
            let mut readers = source.partitions(1).expect("one");
            while !poll(readers[0].as_mut(), step, &mut out) {
                let at = saved(readers[0].as_ref());
                drop(readers);
                readers = resumed(&there, &[at], 3);
            }
            assert!(out.rows == expected, "{format} by {step}: {} of {} rows", out.rows.len(), expected.len());
        }
    }
}

#[test]
fn a_prefix_that_grows_gives_each_object_once_over_restarts() {
    let Some(both) = Both::new("grow") else { return };
    let mut spec = both.there("/in", "csv");
    spec.options.insert("source.monitor-interval".into(), "30 ms".into());
    spec.projection = Some(vec![0]);
    // There is nothing yet, and no folder in a bucket.
    let mut source = Registry::new().open_source(&spec).expect("opened");
    assert!(!source.bounded());
    let mut readers = source.partitions(1).expect("one");
    let mut seen: Vec<i64> = Vec::new();
    for round in 0..6i64 {
        // Names in no order of time.
        both.put(&format!("in/{}.csv", (round * 7) % 6), csv(round * 10..round * 10 + 10));
        if round % 2 == 1 {
            let mut out = Out::default();
            let until = Instant::now() + Duration::from_secs(20);
            while seen.len() + out.rows.len() < (round as usize + 1) * 10 {
                assert!(Instant::now() < until, "nothing comes after {} rows", seen.len());
                if let Polled::Rows(some) = readers[0].poll().expect("readable") {
                    out.rows.extend(text_of(&some.rows));
                }
            }
            seen.extend(out.rows.iter().map(|r| r.parse::<i64>().expect("a number")));
            let at = saved(readers[0].as_ref());
            drop(readers);
            readers = resumed(&spec, &[at], 1);
        }
    }
    // Looked at several times more, nothing comes twice.
    let until = Instant::now() + Duration::from_millis(200);
    while Instant::now() < until {
        assert!(matches!(readers[0].poll().expect("readable"), Polled::Pending));
        std::thread::sleep(Duration::from_millis(1));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[test]
fn an_object_that_is_replaced_while_it_is_read_is_an_error_that_says_so() {
    let Some(both) = Both::new("replaced") else { return };
    both.put("big.csv", csv_of(40 << 20));
    let spec = both.there("/big.csv", "csv");
    let mut source = Registry::new().open_source(&spec).expect("opened");
    let mut readers = source.partitions(1).expect("one");
    poll(readers[0].as_mut(), 1, &mut Out::default());
    let at = saved(readers[0].as_ref());
    both.put("big.csv", csv_of(40 << 20).replace('x', "y"));
    let e = loop {
        match readers[0].poll() {
            Err(e) => break e,
            Ok(Polled::End) => panic!("half of each was read"),
            Ok(_) => {}
        }
    };
    assert!(e.what().contains("replaced") && e.kind() == ErrorKind::Data, "{e}");
    assert!(e.place().is_some_and(|p| p.0.starts_with(&both.url)) && e.help().is_some(), "{e}");
    // And none goes on in another version, though its size is the same.
    let e = refused(&spec, &at);
    assert!(e.what().contains("since the job has read a part of it") && e.help().is_some(), "{e}");
}

#[test]
fn of_a_parquet_object_only_the_columns_that_are_needed_are_read() {
    let Some(both) = Both::new("columns") else { return };
    // The name is long, unlike any other, and not asked for.
    let rows_of = |ids: std::ops::Range<i64>| {
        let n = ids.clone().count();
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(ids.clone())),
            Arc::new(arrow::array::StringArray::from_iter_values(ids.map(|i| format!("{i:0>500}")))),
            Arc::new(arrow::array::TimestampMillisecondArray::from_iter_values((0..n as i64).map(|i| i * 7))),
        ];
        RecordBatch::try_new(schema(), columns).expect("the columns fit")
    };
    let options = ParquetOptions { compression: Compression::None };
    let mut writer = ParquetWriter::new(Vec::new(), schema(), &options).expect("types are known");
    for group in 0..4 {
        writer.write(&rows_of(group * 5_000..(group + 1) * 5_000)).expect("to memory");
        writer.flush().expect("to memory");
    }
    let bytes = writer.finish().expect("to memory");
    let size = bytes.len();
    assert!(size > 10_000_000, "{size}");
    both.put("x.parquet", bytes);
    let proxy = Proxy::start();
    let (mut here, mut there) =
        (both.here("/x.parquet", "parquet"), through(&both.there("/x.parquet", "parquet"), &proxy));
    for spec in [&mut here, &mut there] {
        spec.projection = Some(vec![2, 0]);
    }
    assert_eq!(rows(&there), rows(&here));
    let (answered, requests) = (proxy.answered("GET"), proxy.ranges().len());
    assert!(answered < size / 10, "{answered} of {size} bytes were read");
    // The footer, and two columns of four row groups.
    assert!(requests <= 2 + 2 * 4, "{:?}", proxy.ranges());
}

#[test]
fn ranges_are_bounded_and_so_is_what_is_read_ahead() {
    let Some(both) = Both::new("ahead") else { return };
    both.put("big.csv", csv_of(48 << 20));
    let proxy = Proxy::start();
    let mut source = Registry::new().open_source(&through(&both.there("", "csv"), &proxy)).expect("opened");
    let readers = source.partitions(1).expect("one");
    std::thread::sleep(Duration::from_millis(1500));
    let mut most = 0;
    for range in proxy.ranges() {
        let (from, to) = range.trim_start_matches("bytes=").split_once('-').expect("a range");
        let (from, to): (u64, u64) = (from.parse().expect("a number"), to.parse().expect("a number"));
        assert!(to - from < 4 << 20, "{range}");
        most = most.max(to + 1);
    }
    // The queue, the range that is being handed on, and the one on its way.
    assert!((4 << 20..=16 << 20).contains(&most), "{most} bytes were read ahead");
    drop(readers);
}

#[test]
fn a_server_that_is_overloaded_slow_or_cuts_answers_off_loses_no_row() {
    let Some(both) = Both::new("faults") else { return };
    both.put("csv/1.csv", csv_of(9 << 20));
    both.put("csv/2.csv.gz", gz(csv(0..1000).as_bytes()));
    both.put("parquet/1.parquet", parquet(0..30_000, 9_000));
    let slow_down = Fault::Answer("503 Slow Down", "<Error><Code>SlowDown</Code><Message>Slow.</Message></Error>");
    for format in ["csv", "parquet"] {
        let proxy = Proxy::start();
        for object in ["/1.", "/2."] {
            proxy.next_at("GET", object, slow_down);
            proxy.next_at("GET", object, Fault::CutBody);
            proxy.next_at("GET", object, Fault::LoseAnswer);
            proxy.next_at("GET", object, Fault::CutBody);
            proxy.next_at("GET", object, Fault::Slow(Duration::from_millis(300)));
        }
        proxy.next_at("GET", "list-type", slow_down);
        proxy.next_at("GET", "list-type", Fault::CutBody);
        let below = format!("/{format}");
        assert_eq!(rows(&through(&both.there(&below, format), &proxy)), rows(&both.here(&below, format)), "{format}");
    }
}

#[test]
fn a_listing_that_lags_behind_is_asked_for_again() {
    let Some(both) = Both::new("stale") else { return };
    both.put("1.csv", csv(0..20_000));
    both.put("2.csv", csv(20_000..20_010));
    let mut source = Registry::new().open_source(&both.there("", "csv")).expect("opened");
    let mut readers = source.partitions(1).expect("one");
    let mut out = Out::default();
    poll(readers[0].as_mut(), 1, &mut out);
    let at = saved(readers[0].as_ref());
    let proxy = Proxy::start();
    let empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    proxy.next_at("GET", "list-type", Fault::Answer("200 OK", empty));
    proxy.next_at("GET", "list-type", Fault::Answer("200 OK", empty));
    let mut readers = resumed(&through(&both.there("", "csv"), &proxy), &[at], 1);
    while !poll(readers[0].as_mut(), 100, &mut out) {}
    assert_eq!(out.rows, rows(&both.here("", "csv")));
    // One that is really gone is named.
    let mut source = Registry::new().open_source(&both.there("", "csv")).expect("opened");
    let mut readers = source.partitions(1).expect("one");
    poll(readers[0].as_mut(), 1, &mut Out::default());
    let at = saved(readers[0].as_ref());
    drop(readers);
    let mut moved = both.there("", "csv");
    let proxy = Proxy::start();
    (0..10).for_each(|_| proxy.next_at("GET", "list-type", Fault::Answer("200 OK", empty)));
    moved.options.insert("s3.endpoint".into(), proxy.url());
    let e = refused(&moved, &at);
    assert!(e.what().contains("1.csv is gone") && e.help().is_some(), "{e}");
}
