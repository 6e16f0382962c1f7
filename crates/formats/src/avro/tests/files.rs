//! Files: read as they were written, however their bytes are cut and wherever reading goes on; and as much as can be of those
//! that are damaged.

use super::*;
use crate::{Decoder, Encoder, Mark};
use millstream_core::Batch;

fn file(codec: Codec, table: &SchemaRef, batches: &[RecordBatch]) -> Vec<u8> {
    let mut encoder = AvroEncoder::new(&AvroOptions { codec, ..AvroOptions::default() }, table).unwrap();
    let mut out = Vec::new();
    encoder.start(&mut out).unwrap();
    for batch in batches {
        encoder.encode(&Batch::from(batch.clone()), &mut out).unwrap();
    }
    encoder.drain(&mut out).unwrap();
    out
}

fn decoder(table: &SchemaRef, on_bad_row: OnBadRow) -> AvroDecoder {
    let all: Vec<usize> = (0..table.fields().len()).collect();
    AvroDecoder::new(table, &all, on_bad_row).unwrap()
}

/// Rows as text, and the reasons of bad ones. `step`: bytes that come at a time; `forgetful`: after each answer only the mark is left.
fn read(table: &SchemaRef, bytes: &[u8], step: usize, rows_max: usize, forgetful: bool) -> (Vec<String>, Vec<String>) {
    let mut decoder = decoder(table, OnBadRow::SetAside);
    decoder.start("f.avro");
    let (mut from, mut to, mut rows, mut bad) = (0, 0, Vec::new(), Vec::new());
    loop {
        to = (to + step).min(bytes.len());
        let last = to == bytes.len();
        loop {
            let decoded = decoder.decode(&bytes[from..to], last, rows_max).unwrap();
            assert!(decoded.rows.num_rows() <= rows_max);
            let nothing = decoded.consumed == 0 && decoded.rows.num_rows() == 0 && decoded.bad.is_empty();
            if decoded.rows.num_rows() > 0 {
                rows.extend(shown(&decoded.rows).lines().map(str::to_owned));
            }
            bad.extend(decoded.bad.into_iter().map(|b| format!("{}: {}", b.place, b.reason)));
            from += decoded.consumed;
            if forgetful {
                let mark: Mark = serde_json::from_str(&serde_json::to_string(&decoder.mark()).unwrap()).unwrap();
                decoder = super::files::decoder(table, OnBadRow::SetAside);
                decoder.resume("f.avro", &mark).unwrap();
            }
            if nothing || from == to {
                break;
            }
        }
        if last {
            assert_eq!(from, bytes.len(), "at the end everything is consumed");
            return (rows, bad);
        }
    }
}

#[test]
fn a_file_is_read_as_it_was_written_however_it_is_cut() {
    let (table, batch) = sample(700, 42);
    let expected: Vec<String> = shown(&batch).lines().map(str::to_owned).collect();
    for codec in [Codec::Null, Codec::Deflate, Codec::Snappy, Codec::Zstandard] {
        let bytes = file(codec, &table, &[batch.slice(0, 300), batch.slice(300, 400)]);
        for (step, rows_max) in [(usize::MAX / 2, 8192), (usize::MAX / 2, 7), (4096, 64), (997, 1000)] {
            for forgetful in [false, true] {
                let (rows, bad) = read(&table, &bytes, step, rows_max, forgetful);
                assert_eq!(bad, [] as [String; 0]);
                assert!(rows == expected, "{codec:?} {step} {rows_max} {forgetful}");
            }
        }
    }
}

#[test]
fn a_file_without_rows_has_a_header_and_one_of_no_bytes_has_nothing() {
    let (table, _) = sample(0, 1);
    let bytes = file(Codec::Null, &table, &[]);
    assert!(bytes.starts_with(b"Obj\x01"));
    assert_eq!(read(&table, &bytes, 10, 10, false), (Vec::new(), Vec::new()));
    assert_eq!(read(&table, &[], 10, 10, false), (Vec::new(), Vec::new()));
}

#[test]
fn two_files_of_one_encoder_have_a_header_each() {
    let (table, batch) = sample(3, 5);
    let mut encoder = AvroEncoder::new(&AvroOptions::default(), &table).unwrap();
    for _ in 0..2 {
        let mut out = Vec::new();
        encoder.start(&mut out).unwrap();
        encoder.encode(&Batch::from(batch.clone()), &mut out).unwrap();
        encoder.drain(&mut out).unwrap();
        assert_eq!(read(&table, &out, usize::MAX / 2, 10, false).0.len(), 3);
    }
}

fn numbers(count: i64) -> (SchemaRef, RecordBatch) {
    let table = columns(&[("n", DataType::Int64, false)]);
    let cells: ArrayRef = Arc::new(Int64Array::from((0..count).collect::<Vec<_>>()));
    (table.clone(), RecordBatch::try_new(table, vec![cells]).unwrap())
}

/// A file of three blocks of four numbers, and where each block begins.
fn three_blocks(codec: Codec) -> (SchemaRef, Vec<u8>, Vec<usize>) {
    let (table, batch) = numbers(12);
    let mut encoder = AvroEncoder::new(&AvroOptions { codec, ..AvroOptions::default() }, &table).unwrap();
    let (mut out, mut begins) = (Vec::new(), Vec::new());
    encoder.start(&mut out).unwrap();
    for block in 0..3 {
        encoder.encode(&Batch::from(batch.slice(block * 4, 4)), &mut out).unwrap();
        encoder.drain(&mut out).unwrap();
        begins.push(out.len());
    }
    let mark = out[out.len() - 16..].to_vec();
    let header = memchr::memmem::find(&out, &mark).unwrap() + 16;
    (table, out, vec![header, begins[0], begins[1]])
}

#[test]
fn a_damaged_block_costs_itself_and_the_next_one_is_read() {
    // Of snappy's blocks the sum is known; what is damaged in others may be other numbers.
    for codec in [Codec::Snappy] {
        let (table, mut bytes, begins) = three_blocks(codec);
        // A byte of the packed records of the second block.
        bytes[begins[1] + 4] ^= 0x55;
        for step in [usize::MAX / 2, 5] {
            let (rows, bad) = read(&table, &bytes, step, 100, step == 5);
            assert_eq!(rows.join(","), "0,1,2,3,8,9,10,11", "{codec:?}");
            assert_eq!(bad.len(), 1, "{bad:?}");
            assert!(bad[0].starts_with("f.avro, record 5: a block cannot be unpacked"), "{bad:?}");
        }
    }
    // A mark that is damaged: the block before it cannot be trusted.
    let (table, mut bytes, begins) = three_blocks(Codec::Null);
    let at = begins[2] - 3;
    bytes[at] ^= 1;
    for step in [usize::MAX / 2, 1] {
        let (rows, bad) = read(&table, &bytes, step, 100, step == 1);
        assert_eq!(rows.join(","), "0,1,2,3");
        // Block two is not closed, so the next mark is that of block three.
        assert_eq!(bad, ["f.avro, record 5: a block is not closed by the file's mark"]);
    }
}

#[test]
fn a_record_that_is_damaged_takes_the_rest_of_its_block() {
    let (table, mut bytes, begins) = three_blocks(Codec::Null);
    // The third number of the second block, 6, becomes one without an end.
    let at = begins[1] + 2 + 2;
    assert_eq!(bytes[at], 12);
    bytes[at] = 0x8c;
    bytes[at + 1] |= 0x80;
    for rows_max in [100, 1] {
        let (rows, bad) = read(&table, &bytes, usize::MAX / 2, rows_max, true);
        assert_eq!(rows.join(","), "0,1,2,3,4,5,8,9,10,11");
        assert_eq!(bad.len(), 1);
        assert!(
            bad[0].starts_with("f.avro, record 7: ")
                && bad[0].ends_with("1 records behind it in its block are lost with it"),
            "{bad:?}"
        );
    }
}

#[test]
fn a_file_that_ends_too_early_gives_what_is_whole() {
    let (table, bytes, begins) = three_blocks(Codec::Snappy);
    let (rows, bad) = read(&table, &bytes[..begins[2] + 5], 3, 100, true);
    assert_eq!(rows.join(","), "0,1,2,3,4,5,6,7");
    assert_eq!(bad, ["f.avro, record 9: the file ends in the middle of a block"]);
}

#[test]
fn a_bad_row_of_a_file_fails_skips_or_is_set_aside() {
    let (table, batch) = numbers(400);
    let bytes = file(Codec::Null, &table, &[batch]);
    let narrow = columns(&[("n", DataType::Int64, false), ("m", DataType::Int8, true)]);
    // Written as long, declared TINYINT: that is the table's mistake, for the whole file.
    let mut reader = AvroDecoder::new(&columns(&[("n", DataType::Int8, true)]), &[0], OnBadRow::SetAside).unwrap();
    reader.start("f.avro");
    let error = reader.decode(&bytes, true, 10).expect_err("another type").to_string();
    assert!(error.contains("f.avro") && error.contains("written as long") && error.contains("TINYINT"), "{error}");
    assert_eq!(read(&narrow, &bytes, usize::MAX / 2, 1000, false).0.len(), 400);

    // A value that does not fit, in a file of ints.
    let ints = columns(&[("n", DataType::Int32, false)]);
    let cells: ArrayRef = Arc::new(Int32Array::from(vec![1, 1000, 3]));
    let bytes = file(Codec::Null, &ints, &[RecordBatch::try_new(ints.clone(), vec![cells]).unwrap()]);
    let tiny = columns(&[("n", DataType::Int8, false)]);
    let all = |mode| {
        let mut reader = decoder(&tiny, mode);
        reader.start("f.avro");
        let header = reader.decode(&bytes, true, 10)?.consumed;
        reader.decode(&bytes[header..], true, 10)
    };
    let error = all(OnBadRow::Fail).expect_err("a bad row").to_string();
    assert!(error.contains("f.avro, record 2") && error.contains("holds `1000`"), "{error}");
    let skipped = all(OnBadRow::Skip).unwrap();
    assert_eq!((shown(&skipped.rows).as_str(), skipped.skipped), ("1\n3", 1));
    let aside = all(OnBadRow::SetAside).unwrap();
    assert_eq!((aside.rows.num_rows(), aside.bad.len(), aside.bad[0].raw.as_slice()), (2, 1, &[0xd0, 0x0f][..]));
}

#[test]
fn what_is_no_file_of_avro_says_so_whatever_becomes_of_bad_rows() {
    let (table, batch) = numbers(1);
    for mode in [OnBadRow::Fail, OnBadRow::Skip, OnBadRow::SetAside] {
        let why = |bytes: &[u8]| {
            let mut reader = decoder(&table, mode);
            reader.start("f.avro");
            reader.decode(bytes, true, 10).expect_err("no file of Avro").to_string()
        };
        assert!(why(b"PAR1 and more").contains("none of Avro"));
        assert!(why(b"Ob").contains("none of Avro"));
        assert!(why(b"Obj\x01").contains("cannot be read: it ends too early"));
        let mut bytes = file(Codec::Null, &table, std::slice::from_ref(&batch));
        let at = memchr::memmem::find(&bytes, b"\x08null").unwrap();
        bytes[at..at + 5].copy_from_slice(b"\x08bzip");
        assert!(why(&bytes).contains("packed with 'bzip'"), "{}", why(&bytes));
    }
}

#[test]
fn a_block_that_claims_too_much_is_damage() {
    let (table, bytes, begins) = three_blocks(Codec::Null);
    for (count, length) in [(1i64 << 60, 2i64), (4, 1 << 60), (-4, 4), (4, -4), (i64::MIN, i64::MIN)] {
        let mut wrong = bytes[..begins[1]].to_vec();
        put_long(count, &mut wrong);
        put_long(length, &mut wrong);
        wrong.extend_from_slice(&bytes[begins[1] + 2..]);
        let (rows, bad) = read(&table, &wrong, usize::MAX / 2, 100, false);
        assert_eq!(rows.join(","), "0,1,2,3,8,9,10,11", "{count} {length}");
        assert_eq!(bad.len(), 1);
    }
}
