use super::source::due;
use super::*;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StructArray};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
use millstream_core::Polled;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

fn fields(kind: &str) -> Vec<Field> {
    let big = |n: &str| Field::new(n, DataType::Int64, true);
    let text = |n: &str| Field::new(n, DataType::Utf8, true);
    let time = |n: &str| Field::new(n, DataType::Timestamp(TimeUnit::Millisecond, None), true);
    match kind {
        "person" => vec![
            big("id"),
            text("name"),
            text("emailAddress"),
            text("creditCard"),
            text("city"),
            text("state"),
            time("dateTime"),
            text("extra"),
        ],
        "auction" => vec![
            big("id"),
            text("itemName"),
            text("description"),
            big("initialBid"),
            big("reserve"),
            time("dateTime"),
            time("expires"),
            big("seller"),
            big("category"),
            text("extra"),
        ],
        "bid" => vec![
            big("auction"),
            big("bidder"),
            big("price"),
            text("channel"),
            text("url"),
            time("dateTime"),
            text("extra"),
        ],
        _ => {
            let row = |n: &str| Field::new(n, DataType::Struct(Fields::from(fields(n))), true);
            vec![Field::new("event_type", DataType::Int32, true), row("person"), row("auction"), row("bid")]
        }
    }
}

fn spec(kind: &str, options: &[(&str, &str)]) -> TableSpec {
    let mut all: BTreeMap<String, String> = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    all.insert("connector".into(), "nexmark".into());
    if kind != "all" {
        all.insert("nexmark.table".into(), kind.into());
    }
    TableSpec {
        name: kind.into(),
        schema: Arc::new(Schema::new(fields(kind))),
        projection: None,
        metadata: vec![(ROW_ORDER.into(), Field::new("$order", DataType::Int64, false))],
        options: all,
        partitioned_by: vec![],
        primary_key: vec![],
        place: None,
    }
}

fn read_partitions(spec: &TableSpec, parallelism: usize) -> Vec<RecordBatch> {
    let mut source = open(spec).unwrap();
    let schema = source.schema();
    let mut partitions = Vec::new();
    for mut reader in source.partitions(parallelism).unwrap() {
        let mut batches = Vec::new();
        loop {
            match reader.poll().unwrap() {
                Polled::Rows(r) => batches.push(r.rows),
                Polled::End => break,
                Polled::Pending => panic!("no rate is set"),
            }
        }
        partitions.push(concat_batches(&schema, &batches).unwrap());
    }
    partitions
}

fn read(spec: &TableSpec, parallelism: usize) -> RecordBatch {
    let partitions = read_partitions(spec, parallelism);
    let all = concat_batches(&partitions[0].schema(), &partitions).unwrap();
    let order = arrow::compute::sort_to_indices(all.column_by_name("$order").unwrap(), None, None).unwrap();
    take_record_batch(&all, &order).unwrap()
}

fn ints(batch: &RecordBatch, name: &str) -> Int64Array {
    batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone()
}

#[test]
fn the_same_seed_gives_the_same_rows_and_another_seed_others() {
    for kind in ["person", "auction", "bid", "all"] {
        let of_seed = |seed: &str| read(&spec(kind, &[("events.num", "12345"), ("seed", seed)]), 1);
        assert_eq!(of_seed("7"), of_seed("7"));
        assert_ne!(of_seed("7"), of_seed("8"));
    }
}

#[test]
fn what_is_projected_never_changes_a_value() {
    for kind in ["person", "auction", "bid", "all"] {
        let whole = spec(kind, &[("events.num", "3333")]);
        let all = read(&whole, 1);
        for i in 0..whole.schema.fields().len() {
            let one = read(&TableSpec { projection: Some(vec![i]), ..whole.clone() }, 1);
            assert_eq!(one.column(0), all.column(i), "{kind}, column {i} alone");
        }
        let backwards: Vec<usize> = (0..whole.schema.fields().len()).rev().collect();
        let turned = read(&TableSpec { projection: Some(backwards.clone()), ..whole.clone() }, 1);
        assert_eq!(turned.project(&backwards).unwrap().columns(), &all.columns()[..backwards.len()]);
    }
}

#[test]
fn a_table_without_columns_still_has_rows() {
    let none = TableSpec { projection: Some(vec![]), metadata: vec![], ..spec("bid", &[("events.num", "500")]) };
    assert_eq!(read_partitions(&none, 1)[0].num_rows(), 460);
}

#[test]
fn any_number_of_partitions_gives_the_same_rows_each_in_time_order() {
    for kind in ["person", "auction", "bid", "all"] {
        for events in ["1", "49", "50", "351", "20011"] {
            let spec = spec(kind, &[("events.num", events)]);
            let one = read(&spec, 1);
            for parallelism in [2, 7] {
                assert_eq!(read(&spec, parallelism), one, "{kind}, {events} events, {parallelism} partitions");
            }
            for partition in read_partitions(&spec, 7) {
                let order = ints(&partition, "$order");
                assert!(order.values().is_sorted(), "{kind}: a partition goes forward");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_event_is_there_once(events in 1u64..700, parallelism in 1usize..9) {
        let count = |kind: &str| read(&spec(kind, &[("events.num", &events.to_string())]), parallelism);
        let (persons, auctions, bids) = (count("person"), count("auction"), count("bid"));
        let mut order: Vec<i64> = [&persons, &auctions, &bids].iter().flat_map(|b| ints(b, "$order").values().to_vec()).collect();
        order.sort();
        prop_assert_eq!(order, (0..events as i64).collect::<Vec<_>>());
        let all = count("all");
        prop_assert_eq!(ints(&all, "$order").values().to_vec(), (0..events as i64).collect::<Vec<_>>());
    }
}

#[test]
fn of_fifty_events_one_is_a_person_three_are_auctions_and_the_rest_bids() {
    let rows = |kind| read(&spec(kind, &[("events.num", "100000")]), 1).num_rows();
    assert_eq!((rows("person"), rows("auction"), rows("bid")), (2_000, 6_000, 92_000));
}

#[test]
fn the_unified_table_holds_the_rows_of_the_three() {
    let all = read(&spec("all", &[("events.num", "2024")]), 2);
    let types = all.column(0).as_primitive::<Int32Type>();
    for (code, kind) in ["person", "auction", "bid"].into_iter().enumerate() {
        let flat = read(&spec(kind, &[("events.num", "2024")]), 1);
        let keep = types.iter().map(|t| Some(t == Some(code as i32))).collect();
        let own = filter_record_batch(&all, &keep).unwrap();
        let row: &StructArray = own.column_by_name(kind).unwrap().as_struct();
        assert_eq!(row.null_count(), 0);
        for (i, column) in row.columns().iter().enumerate() {
            let plain: ArrayRef = column.clone();
            assert_eq!(plain.as_ref(), flat.column(i).as_ref(), "{kind}, column {i}");
        }
        let others = all.column_by_name(kind).unwrap();
        assert_eq!(others.null_count(), all.num_rows() - own.num_rows(), "{kind} is NULL elsewhere");
        for column in others.as_struct().columns() {
            assert_eq!(column.null_count(), others.null_count(), "so are its fields");
        }
    }
}

#[test]
fn event_time_follows_the_rate() {
    let options = [("events.num", "20000"), ("next-event.rate", "1000"), ("base-time", "5000")];
    let bids = read(&spec("bid", &options), 1);
    let times = bids.column_by_name("dateTime").unwrap().as_primitive::<TimestampMillisecondType>().clone();
    for (time, event) in times.values().iter().zip(ints(&bids, "$order").values()) {
        assert_eq!(*time, 5000 + event);
    }
}

#[test]
fn hot_keys_are_as_hot_as_they_should_be() {
    let bids = read(&spec("bid", &[("events.num", "1000000")]), 1);
    let share = |column: &str, hot: &dyn Fn(i64, i64) -> bool| {
        let (values, events) = (ints(&bids, column), ints(&bids, "$order"));
        let hits = values.values().iter().zip(events.values()).filter(|(v, e)| hot(**v, **e)).count();
        hits as f64 / values.len() as f64
    };
    // Half go to the hot auction, and now and then one of the others is drawn by chance.
    let auction = share("auction", &|v, e| v == 1000 + (e / 50 * 3 + 2) / 100 * 100);
    assert!((0.49..0.53).contains(&auction), "{auction}");
    let bidder = share("bidder", &|v, e| v == 1001 + e / 50 / 100 * 100);
    assert!((0.74..0.76).contains(&bidder), "{bidder}");

    let mut channels: HashMap<&str, usize> = HashMap::new();
    let names = bids.column_by_name("channel").unwrap().as_string::<i32>();
    names.iter().flatten().for_each(|c| *channels.entry(c).or_default() += 1);
    for hot in ["Google", "Facebook", "Baidu", "Apple"] {
        let share = channels[hot] as f64 / names.len() as f64;
        assert!((0.12..0.13).contains(&share), "{hot}: {share}");
    }
    assert!(channels.len() > 9_900, "nearly all of the 10,004 channels are used");

    // Prices are spread evenly over six powers of ten.
    let prices = ints(&bids, "price");
    assert!(prices.values().iter().all(|p| (100..=100_000_000).contains(p)));
    for power in 2..8 {
        let (low, high) = (10i64.pow(power), 10i64.pow(power + 1));
        let share = prices.values().iter().filter(|p| (low..high).contains(p)).count() as f64 / prices.len() as f64;
        assert!((0.16..0.173).contains(&share), "10^{power}: {share}");
    }
}

#[test]
fn skewed_has_one_hot_key_for_good() {
    let share = |skewed: &str, column: &str, table: &str| {
        let rows = read(&spec(table, &[("events.num", "100000"), ("skewed", skewed)]), 1);
        let mut counts: HashMap<i64, usize> = HashMap::new();
        ints(&rows, column).values().iter().for_each(|id| *counts.entry(*id).or_default() += 1);
        let (hot, most) = counts.into_iter().max_by_key(|(_, n)| *n).unwrap();
        (hot, most as f64 / rows.num_rows() as f64)
    };
    for (column, table, hot, wanted) in
        [("auction", "bid", 1000, 0.5), ("bidder", "bid", 1001, 0.75), ("seller", "auction", 1000, 0.75)]
    {
        let (id, found) = share("true", column, table);
        assert_eq!(id, hot, "{column}");
        assert!((found - wanted).abs() < 0.01, "{column}: {found}");
        // 100,000 events open 6,000 auctions, and 2,000 persons come: the hot one has changed many times.
        assert!(share("false", column, table).1 < 0.06, "{column}");
    }
}

#[test]
fn texts_look_like_what_they_are() {
    let bids = read(&spec("bid", &[("events.num", "5000")]), 1);
    let text = |b: &RecordBatch, c: &str| -> Vec<String> {
        b.column_by_name(c).unwrap().as_string::<i32>().iter().map(|v| v.unwrap().to_string()).collect()
    };
    for url in text(&bids, "url") {
        assert_eq!(url.split('/').count(), 7, "{url}");
        assert!(url.starts_with("https://www.nexmark.com/") && url.contains("/item.htm?query=1"), "{url}");
    }
    assert!(text(&bids, "extra").iter().all(|e| (54..=81).contains(&e.len())));
    let persons = read(&spec("person", &[("events.num", "5000")]), 1);
    assert!(text(&persons, "emailAddress").iter().all(|e| e.len() == 14 && e.contains('@') && e.ends_with(".com")));
    assert!(text(&persons, "creditCard").iter().all(|e| e.len() == 19 && e.split(' ').count() == 4));
    let auctions = read(&spec("auction", &[("events.num", "5000")]), 1);
    let (opened, expires) = (auctions.column(5).clone(), auctions.column(6).clone());
    let (opened, expires) =
        (opened.as_primitive::<TimestampMillisecondType>(), expires.as_primitive::<TimestampMillisecondType>());
    assert!(opened.values().iter().zip(expires.values()).all(|(o, e)| o < e));
}

#[test]
fn every_column_is_valid_arrow() {
    for kind in ["person", "auction", "bid", "all"] {
        for column in read_partitions(&spec(kind, &[("events.num", "9999")]), 3)[1].columns() {
            column.to_data().validate_full().unwrap();
        }
    }
}

#[test]
fn a_rate_hands_out_what_is_due_and_no_more() {
    let at = |ms, given| due(1000.0, Duration::from_millis(ms), given);
    assert_eq!((at(0, 0), at(0, 1), at(10, 1), at(10, 11)), (1, 0, 10, 0));
    assert_eq!(at(3_600_000, 0), 3_600_001, "a reader that was not asked for an hour catches up");

    // One row in three hours: the first is due at once, the second is not.
    let slow = spec("bid", &[("rows-per-second", "0.0001"), ("events.num", "100")]);
    let mut reader = open(&slow).unwrap().partitions(1).unwrap().remove(0);
    assert!(matches!(reader.poll().unwrap(), Polled::Rows(r) if r.rows.num_rows() == 1));
    assert!(matches!(reader.poll().unwrap(), Polled::Pending));
}

#[test]
fn batches_are_full_until_the_last() {
    let mut reader = open(&spec("bid", &[("events.num", "20000")])).unwrap().partitions(1).unwrap().remove(0);
    let mut sizes = Vec::new();
    while let Polled::Rows(r) = reader.poll().unwrap() {
        sizes.push(r.rows.num_rows());
    }
    assert_eq!(sizes, [8192, 8192, 2016]);
}

#[test]
fn an_endless_table_is_not_bounded_and_one_kept_alive_never_ends() {
    assert!(!open(&spec("bid", &[])).unwrap().bounded());
    assert!(!open(&spec("bid", &[("events.num", "0")])).unwrap().bounded());
    assert!(open(&spec("bid", &[("events.num", "50")])).unwrap().bounded());
    let mut kept = open(&spec("bid", &[("events.num", "50"), ("keep-alive", "true")])).unwrap();
    assert!(!kept.bounded());
    let mut reader = kept.partitions(1).unwrap().remove(0);
    assert!(matches!(reader.poll().unwrap(), Polled::Rows(_)));
    assert!(matches!(reader.poll().unwrap(), Polled::Pending));
}

#[test]
fn column_names_are_found_in_any_case_and_time_takes_the_declared_zone() {
    let ltz = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let schema =
        Schema::new(vec![Field::new("DATETIME", ltz.clone(), false), Field::new("Price", DataType::Int64, true)]);
    let table = TableSpec { schema: Arc::new(schema), ..spec("bid", &[("events.num", "50")]) };
    assert_eq!(read(&table, 1).column(0).data_type(), &ltz);
}

#[test]
fn mistakes_say_what_to_do() {
    let message = |spec: TableSpec| validate(&spec).unwrap_err().to_string();
    let with = |field: Field| TableSpec { schema: Arc::new(Schema::new(vec![field])), ..spec("bid", &[]) };
    let all = |field: Field| TableSpec { schema: Arc::new(Schema::new(vec![field])), ..spec("all", &[]) };
    for (text, wanted) in [
        (message(spec("bid", &[("event.num", "5")])), "did you mean `events.num`?"),
        (message(spec("bid", &[("events.num", "many")])), "`events.num` has the value `many`"),
        (message(spec("bid", &[("events.num", "-1")])), "a whole number"),
        (message(spec("bid", &[("events.num", "18446744073709551615")])), "at most"),
        (message(spec("bid", &[("rows-per-second", "0")])), "a positive number per second"),
        (message(spec("bid", &[("rows-per-second", "NaN")])), "a positive number per second"),
        (message(spec("bid", &[("base-time", "9223372036854775807")])), "year 9999"),
        (message(spec("bid", &[("first-event.rate", "1"), ("next-event.rate", "2")])), "set both to the same"),
        (message(spec("bids", &[])), "`bid`, `auction` or `person`"),
        (message(with(Field::new("prise", DataType::Int64, true))), "did you mean `price`?"),
        (message(with(Field::new("price", DataType::Utf8, true))), "declare it BIGINT"),
        (message(all(Field::new("price", DataType::Int64, true))), "'nexmark.table' = 'bid'"),
        (message(all(Field::new("bids", DataType::Int64, true))), "did you mean `bid`?"),
        (message(all(Field::new("bid", DataType::Int64, true))), "declare it ROW<..>"),
        (message(all(Field::new("bid", DataType::Struct(Fields::from(fields("bid"))), false))), "leave out NOT NULL"),
    ] {
        assert!(text.contains(wanted), "{text}\nshould say: {wanted}");
    }
}
