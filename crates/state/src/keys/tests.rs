use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

fn table_of(columns: &[ArrayRef]) -> (KeyCodec, KeyTable, Vec<u32>) {
    let types: Vec<DataType> = columns.iter().map(|c| c.data_type().clone()).collect();
    let codec = KeyCodec::new(&types).expect("keys");
    let batch = codec.encode(columns, columns[0].len()).expect("encodes");
    let (mut table, mut ids) = (codec.table(), Vec::new());
    table.assign(&batch, 0..batch.rows(), &mut ids);
    (codec, table, ids)
}

#[test]
fn null_is_a_key_and_zero_has_one_sign() {
    let column: ArrayRef =
        Arc::new(Float64Array::from(vec![Some(0.0), None, Some(-0.0), Some(f64::NAN), Some(-f64::NAN)]));
    let (codec, table, ids) = table_of(&[column]);
    assert_eq!(ids, [0, 1, 0, 2, 2]);
    assert!(codec.decode(&table, 0..3).expect("decodes")[0].is_null(1));
}

#[test]
fn without_columns_there_is_one_group() {
    let codec = KeyCodec::new(&[]).expect("keys");
    let batch = codec.encode(&[], 3).expect("encodes");
    let (mut table, mut ids) = (codec.table(), Vec::new());
    table.assign(&batch, 0..3, &mut ids);
    assert_eq!((ids, table.len()), (vec![0, 0, 0], 1));
}

fn columns(shape: u8, keys: &[Option<i16>]) -> Vec<ArrayRef> {
    let numbers: ArrayRef = Arc::new(keys.iter().map(|k| k.map(i64::from)).collect::<Int64Array>());
    let small: ArrayRef = Arc::new(keys.iter().map(|k| k.map(|k| i32::from(k) / 3)).collect::<Int32Array>());
    let texts: ArrayRef = Arc::new(keys.iter().map(|k| k.map(|k| format!("key {k}"))).collect::<StringArray>());
    match shape {
        0 => vec![numbers],
        1 => vec![numbers, small],
        2 => vec![texts],
        3 => vec![texts, numbers, small],
        // Few texts for many keys, and a NULL in one of the columns alone.
        4 => {
            let few = keys.iter().map(|k| k.filter(|k| k % 7 != 0).map(|k| format!("few {}", k % 5)));
            vec![numbers, Arc::new(few.collect::<StringArray>())]
        }
        _ => {
            let lower: ArrayRef =
                Arc::new(keys.iter().map(|k| k.map(|k| format!("{}", k & 15))).collect::<StringArray>());
            let upper = keys.iter().map(|k| k.map(|k| (k >> 4).to_be_bytes())).collect::<Vec<_>>();
            let upper = BinaryArray::from_iter(upper);
            vec![lower, Arc::new(upper)]
        }
    }
}

/// Tables whose look-ups are asked for ahead: in the order of their coming keys get the next id, and keep it.
#[test]
fn a_large_table_gives_each_key_one_id() {
    for shape in 0..6 {
        let types: Vec<DataType> = columns(shape, &[]).iter().map(|c| c.data_type().clone()).collect();
        let codec = KeyCodec::new(&types).expect("keys");
        let (mut table, mut model) = (codec.table(), HashMap::new());
        let (mut ids, mut state) = (Vec::new(), 1u32);
        for _ in 0..12 {
            let draw = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let key = (state >> 16) as i16;
                (key % 50 != 0).then_some(key)
            };
            let keys: Vec<Option<i16>> = (0..3_000).map(draw).collect();
            let batch = codec.encode(&columns(shape, &keys), keys.len()).expect("encodes");
            // A part of a batch, too.
            for rows in [0..1_000, 1_000..keys.len()] {
                table.assign(&batch, rows.clone(), &mut ids);
                for (key, id) in keys[rows].iter().zip(&ids) {
                    let next = model.len() as u32;
                    assert_eq!(*model.entry(*key).or_insert(next), *id, "{key:?}");
                }
            }
        }
        assert!(table.len() == model.len() && table.len() > 20_000, "{} keys", table.len());
        let (mut other, mut mapped) = (codec.table(), Vec::new());
        other.assign_all(&table, &mut mapped);
        assert!(mapped.into_iter().eq(0..table.len() as u32));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes and goes, each key has one id, each id its key, and keys come back as they were.
    #[test]
    fn keys_and_ids_stay_one_to_one(
        shape in 0u8..6,
        batches in prop::collection::vec(prop::collection::vec(prop::option::weighted(0.9, -60i16..60), 1..80), 1..6),
        removals in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        keep_places in any::<bool>(),
    ) {
        let first = columns(shape, &batches[0]);
        let types: Vec<DataType> = first.iter().map(|c| c.data_type().clone()).collect();
        let codec = KeyCodec::new(&types).expect("keys");
        let mut table = codec.table();
        let mut model: HashMap<Option<i16>, u32> = HashMap::new();
        let mut ids = Vec::new();
        for keys in &batches {
            let arrays = columns(shape, keys);
            let encoded = codec.encode(&arrays, keys.len()).expect("encodes");
            table.assign(&encoded, 0..keys.len(), &mut ids);
            for (key, id) in keys.iter().zip(&ids) {
                prop_assert_eq!(*model.entry(*key).or_insert(*id), *id);
            }
            for removal in &removals {
                if model.is_empty() { break; }
                let mut known: Vec<_> = model.iter().map(|(k, id)| (*k, *id)).collect();
                known.sort();
                let (key, id) = known[removal.index(known.len())];
                model.remove(&key);
                if keep_places {
                    table.release(id);
                } else {
                    table.swap_remove(id);
                    let last = table.len() as u32;
                    model.values_mut().filter(|other| **other == last).for_each(|other| *other = id);
                }
            }
            if !keep_places && removals.len() % 2 == 1 { drop(table.seal()); }
            let mut known: Vec<_> = model.iter().map(|(k, id)| (*k, *id)).collect();
            known.sort();
            let wanted = columns(shape, &known.iter().map(|k| k.0).collect::<Vec<_>>());
            let back = codec.decode_ids(&table, &known.iter().map(|k| k.1).collect::<Vec<_>>()).expect("decodes");
            prop_assert_eq!(back, wanted);
            if !keep_places {
                prop_assert_eq!(table.len(), model.len());
            }
        }
        if !keep_places {
            let (mut other, mut map) = (codec.table(), Vec::new());
            other.assign_all(&table, &mut map);
            prop_assert_eq!(codec.decode(&table, 0..table.len()).expect("decodes"), codec.decode_ids(&other, &map).expect("decodes"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn visiting_gives_the_ids_that_assigning_gives(
        shape in 0u8..6, nulls in any::<bool>(), keys in prop::collection::vec(-40i16..40, 1..300), refused in 0u32..60,
    ) {
        let keys: Vec<Option<i16>> = keys.into_iter().map(|k| (k > -39 || !nulls).then_some(k)).collect();
        let (codec, _, assigned) = table_of(&columns(shape, &keys));
        let batch = codec.encode(&columns(shape, &keys), keys.len()).expect("encodes");
        let (mut table, mut from, mut seen) = (codec.table(), 0, Vec::new());
        // A row that is refused has its id all the same, and the visit goes on behind it.
        while let Some((row, id)) = table.visit(&batch, from..keys.len(), |row, id| {
            seen.push((row, id));
            id != refused
        }) {
            prop_assert_eq!((seen.last(), id), (Some(&(row, id)), refused));
            from = row + 1;
        }
        // To find keys changes nothing, and what is not there is not known.
        let mut found = Vec::new();
        let first = codec.encode(&columns(shape, &keys[..1]), 1).expect("encodes");
        let mut other = codec.table();
        other.find_all(&batch, &mut found);
        prop_assert!(found.iter().all(|id| *id == KeyTable::UNKNOWN) && found.len() == keys.len());
        other.assign(&first, 0..1, &mut Vec::new());
        other.find_all(&batch, &mut found);
        let wanted: Vec<u32> = keys.iter().map(|k| if *k == keys[0] { 0 } else { KeyTable::UNKNOWN }).collect();
        prop_assert_eq!((found, other.len()), (wanted, 1));
        let mut found = Vec::new();
        table.find_all(&batch, &mut found);
        prop_assert_eq!(&found, &assigned);
        prop_assert_eq!(seen, assigned.into_iter().enumerate().collect::<Vec<_>>());
    }
}

/// Texts that are part of a key have numbers, which go with the last of their keys and are given again.
#[test]
fn texts_go_with_their_last_key() {
    let pairs = |from: i64| -> [ArrayRef; 2] {
        let numbers: Int64Array = (from..from + 1_000).collect();
        let texts: StringArray =
            (from..from + 1_000).map(|n| Some(format!("a text of its own, {:>30}", n / 2))).collect();
        [Arc::new(numbers), Arc::new(texts)]
    };
    let (codec, mut table, mut ids) = table_of(&pairs(0));
    let once = table.bytes();
    for round in 1..60 {
        ids.iter().for_each(|id| table.release(*id));
        let batch = codec.encode(&pairs(round * 1_000), 1_000).expect("encodes");
        table.assign(&batch, 0..1_000, &mut ids);
        assert_eq!(codec.decode_ids(&table, &ids).expect("decodes"), pairs(round * 1_000));
    }
    assert!(table.bytes() < 3 * once, "{} bytes, {once} at first", table.bytes());
    // Of each second text both keys go, and with them what their numbers meant.
    let stays = |i: &usize| i / 2 % 2 == 1;
    ids.iter().enumerate().filter(|(i, _)| !stays(i)).for_each(|(_, id)| table.release(*id));
    let (mut other, mut there) = (codec.table(), Vec::new());
    other.assign_all(&table, &mut there);
    let left: Vec<u32> = ids.iter().enumerate().filter(|(i, _)| stays(i)).map(|(_, id)| *id).collect();
    assert_eq!(other.len(), left.len(), "nothing but what is left");
    let there: Vec<u32> = left.iter().map(|id| there[*id as usize]).collect();
    assert_eq!(codec.decode_ids(&other, &there).expect("decodes"), codec.decode_ids(&table, &left).expect("decodes"));
}
