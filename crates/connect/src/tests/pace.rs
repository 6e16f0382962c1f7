//! Readers that give no more than they are told, and say what is left.

use super::*;
use millstream_core::{Behind, SavedPartition};

/// All rows, `at_most` at a time.
fn paced(reader: &mut dyn PartitionReader, at_most: usize, out: &mut Vec<String>, batches: usize) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    let mut left = batches;
    while left > 0 {
        assert!(Instant::now() < until, "nothing comes");
        reader.take_at_most(at_most);
        match reader.poll().unwrap_or_else(|e| panic!("{e}")) {
            Polled::Rows(some) => {
                assert!(some.rows.num_rows() <= at_most, "{} rows, asked for {at_most}", some.rows.num_rows());
                out.extend(text_of(&some.rows));
                left -= 1;
            }
            Polled::Pending => std::thread::sleep(Duration::from_micros(50)),
            Polled::End => return true,
        }
    }
    false
}

fn opened(spec: &TableSpec) -> Box<dyn PartitionReader> {
    let mut source = Registry::new().open_source(spec).unwrap_or_else(|e| panic!("{e}"));
    source.partitions(1).unwrap_or_else(|e| panic!("{e}")).remove(0)
}

#[test]
fn every_reader_gives_as_little_at_once_as_it_is_told_and_the_same_in_the_end() {
    let dir = TempDir::new().expect("a folder");
    let mut specs = Vec::new();
    for format in ["csv", "json", "parquet"] {
        let spec = files(&dir.path().join(format!("in.{format}")), format);
        let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 1)).expect("opened");
        sink.write(&batch(0..10_000)).expect("written");
        sink.finish().expect("finished");
        specs.push(spec);
    }
    let generator =
        [("connector", "datagen"), ("rows-per-second", "0"), ("number-of-rows", "10000"), ("millstream.seed", "7")];
    let mut made = table(&generator);
    made.schema = Arc::new(schema().project(&[0]).expect("a column"));
    let mut bids = table(&[("connector", "nexmark"), ("nexmark.table", "bid"), ("events.num", "10000"), ("seed", "7")]);
    bids.schema = Arc::new(Schema::new(vec![Field::new("price", DataType::Int64, true)]));
    for spec in specs.into_iter().chain([made, bids]) {
        let mut all = Vec::new();
        paced(opened(&spec).as_mut(), 8192, &mut all, usize::MAX);
        assert!(!all.is_empty());
        for at_most in [1, 7, 8191] {
            let mut out = Vec::new();
            assert!(paced(opened(&spec).as_mut(), at_most, &mut out, usize::MAX));
            assert!(out == all, "{:?}, {at_most} at once: {} rows of {}", spec.options, out.len(), all.len());
        }
        // Rows that were read and held back lie behind the position.
        let (mut out, mut reader) = (Vec::new(), opened(&spec));
        for _ in 0..5 {
            paced(reader.as_mut(), 300, &mut out, 3);
            let saved = SavedPartition { name: reader.name().to_owned(), position: reader.position().expect("known") };
            reader =
                Registry::new().open_source(&spec).expect("opened").resume(&[saved], 1).expect("resumed").remove(0);
        }
        assert_eq!(out.len(), 4500);
        paced(reader.as_mut(), 8192, &mut out, usize::MAX);
        assert!(out == all, "{:?}: resumed", spec.options);
    }
}

#[test]
fn files_say_what_is_left_of_them() {
    let dir = TempDir::new().expect("a folder");
    let text: String = (0..1000).map(|n| format!("{n},ann,\n")).collect();
    for name in ["a.csv", "b.csv"] {
        fs::write(dir.path().join(name), &text).expect("written");
    }
    let packed = gz(text.as_bytes());
    fs::write(dir.path().join("c.csv.gz"), &packed).expect("written");
    let (plain, packed) = (text.len() as u64, packed.len() as u64);
    let spec = files(dir.path(), "csv");
    let mut reader = opened(&spec);
    let left = |files, bytes| Behind { files: Some(files), bytes: Some(bytes), rows: None };
    let mut out = Vec::new();
    paced(reader.as_mut(), 100, &mut out, 1);
    let first_hundred: u64 = (0..100).map(|n| format!("{n},ann,\n").len() as u64).sum();
    assert_eq!(reader.behind(), left(3, 2 * plain + packed - first_hundred));
    paced(reader.as_mut(), 1000, &mut out, 2);
    // The second file has been read to its last row, but not yet seen to have ended.
    let saved = SavedPartition { name: reader.name().to_owned(), position: reader.position().expect("known") };
    paced(reader.as_mut(), 10, &mut out, 1);
    assert!(reader.behind().files <= Some(2), "{:?}", reader.behind());
    assert!(paced(reader.as_mut(), 1000, &mut out, usize::MAX));
    assert_eq!((out.len(), reader.behind()), (3000, left(0, 0)));
    let mut resumed =
        Registry::new().open_source(&spec).expect("opened").resume(&[saved], 1).expect("resumed").remove(0);
    paced(resumed.as_mut(), 1000, &mut out, 1);
    let behind = resumed.behind();
    assert!(behind.bytes.expect("known") < 2 * plain + packed, "{behind:?}");
    assert!(paced(resumed.as_mut(), 1000, &mut Vec::new(), usize::MAX));
    assert_eq!(resumed.behind(), left(0, 0));
    assert_eq!(opened(&table(&[("connector", "datagen"), ("number-of-rows", "5")])).behind(), Behind::default());
}

#[test]
fn a_rate_is_an_option_of_every_source() {
    let check = |key: &str, rate: &str| {
        Registry::new().validate(&table(&[("connector", "datagen"), (key, rate)]), TableUse::Source)
    };
    check("scan.rate-limit.rows-per-second", "100").expect("a rate");
    let e = check("scan.rate-limit.row-per-second", "100").expect_err("a slip").to_string();
    assert!(e.contains("did you mean 'scan.rate-limit.rows-per-second'?"), "{e}");
    for rate in ["0", "-3", "fast", "1e3"] {
        let e = check("scan.rate-limit.rows-per-second", rate).expect_err(rate).to_string();
        assert!(e.contains(&format!("cannot be '{rate}'")) && e.contains("at q.sql:1:14"), "{e}");
    }
}
