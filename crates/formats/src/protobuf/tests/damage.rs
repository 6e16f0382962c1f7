//! Bytes that are no message, and messages that would become more than they are.

use super::*;

fn wide() -> (RecordOptions, SchemaRef, Vec<u8>) {
    let line = record(&[("sku", Utf8), ("n", Int32), ("x", list(Int32))]);
    let table = order(&[
        ("id", Utf8),
        ("main", line.clone()),
        ("lines", list(line.clone())),
        ("by", map(Utf8, line)),
        ("packed", list(Int32)),
    ]);
    let line = || msg().bytes(1, b"sku").int(2, 300).bytes(3, &[1, 2, 3]);
    let record = msg()
        .bytes(1, b"order")
        .inner(2, line())
        .inner(3, line())
        .inner(3, line())
        .inner(4, msg().bytes(1, b"k").inner(2, line()))
        .bytes(6, &[1, 2, 0x80, 1]);
    (nested(&[]), table, record.0)
}

/// Whatever is wrong, the record is a row or a fault, and its neighbours are what they are without it.
#[test]
fn a_bad_record_leaves_nothing_behind() {
    let (format, table, good) = wide();
    let alone = row(&format, &table, &good);
    let mut faults = 0;
    for at in 0..good.len() {
        for change in [1u8, 0x80, 0xff, 0x07] {
            let mut bad = good.clone();
            bad[at] ^= change;
            let read = decode(&format, &table, &[&good, &bad, &good]);
            assert_eq!(read.rows.num_rows() + read.faults.len(), 3);
            let lines = shown(&read.rows);
            assert!(lines.starts_with(&alone) && lines.ends_with(&alone), "byte {at} ^ {change}");
            faults += read.faults.len();
        }
        // Cut off: a row where it is cut between two fields, and else a fault.
        let read = decode(&format, &table, &[&good, &good[..at], &good]);
        assert_eq!(read.rows.num_rows() + read.faults.len(), 3);
        assert!(shown(&read.rows).ends_with(&alone), "cut at {at}");
    }
    assert!(faults > 100, "{faults} faults");
}

#[test]
fn each_damage_has_a_name() {
    let (format, table, _) = wide();
    let told = |record: &[u8]| fault(&format, &table, record);
    assert_eq!(told(&[0x0a, 5, b'x']), "field `id` of shop.Order: a length is greater than what is left");
    assert_eq!(told(&[0x80]), "the record is no shop.Order: the bytes end too early");
    assert_eq!(told(&[0x00, 1]), "the record is no shop.Order: a tag has a number that no field may have");
    assert_eq!(
        told(&[0x0e]),
        "the record is no shop.Order: a tag says neither how long its value is nor where it ends"
    );
    assert_eq!(told(&[0xff; 11]), "the record is no shop.Order: a number is longer than 64 bits");
    assert_eq!(
        told(&msg().raw(90, Wire::GroupEnd, &[]).0),
        "the record is no shop.Order: a group ends that did not begin"
    );
    let other = msg().raw(90, Wire::Group, &[]).raw(91, Wire::GroupEnd, &[]);
    assert_eq!(told(&other.0), "the record is no shop.Order: a group ends with the number of another");
    let mut deep = msg();
    for _ in 0..200_000 {
        deep = deep.raw(90, Wire::Group, &[]);
    }
    assert_eq!(told(&deep.0), "the record is no shop.Order: groups are nested too deep");
    // A length that wraps around is no way out.
    let mut long = vec![0x0a];
    put_varint(u64::MAX, &mut long);
    assert_eq!(told(&long), "field `id` of shop.Order: a length is greater than what is left");
    // In an inner message the path leads to it.
    let inner = msg().inner(3, msg()).bytes(3, &[0x0a, 9]);
    assert_eq!(told(&inner.0), "field `lines[1].sku` of shop.Order: a length is greater than what is left");
    let entry = msg().inner(4, msg().bytes(1, b"k").bytes(2, &[0x0a, 9]));
    assert_eq!(told(&entry.0), "field `by{k}.sku` of shop.Order: a length is greater than what is left");
}

/// An item of two bytes may be a row of many columns: there is an end to what a record may become.
#[test]
fn a_record_of_nothing_does_not_become_everything() {
    let names: Vec<String> = (1..=200).map(|n| format!("c{n}")).collect();
    let fields: String = names.iter().enumerate().map(|(n, name)| format!("int64 {name} = {}; ", n + 1)).collect();
    let file = format!("syntax = \"proto3\"; message M {{ repeated I i = 1; }} message I {{ {fields} }}");
    let table = columns(&[("i", list(record(&names.iter().map(|n| (n.as_str(), Int64)).collect::<Vec<_>>())), true)]);
    let format = format(&file, &[("message-name", "M")]);
    let items = |n: usize| [0x0a, 0].repeat(n);
    assert_eq!(decode(&format, &table, &[&items(1000)]).rows.num_rows(), 1);
    assert!(fault(&format, &table, &items(100_000)).contains("larger than a record may be"));
    // And the next one is read as if nothing had been.
    let read = decode(&format, &table, &[&items(100_000), &items(1)]);
    assert_eq!((read.rows.num_rows(), read.faults.len()), (1, 1));
}
