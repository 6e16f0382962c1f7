//! Group aggregation against a naive reading of the rules: from the rows that are left, after each batch.

use super::*;
use crate::graph::{AggregateCall, AggregateFunction};
use crate::testing::{Capture, Crew, pressed_if, render, timestamp};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema};
use millstream_core::multiset::multiset_of;
use millstream_state::tier::MemorySpace;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq)]
struct Row {
    key: u8,
    /// -5 is NULL.
    n: i64,
    flag: bool,
    /// Place in the table.
    place: i64,
}

#[derive(Debug, Clone)]
enum Act {
    Insert(Row),
    /// One of the rows that are there.
    Retract(usize),
    /// The batch ends here.
    Cut,
}

/// Doubles that only an exact sum gets right in every order.
const DOUBLES: [f64; 11] = [0.1, 0.2, 1e16, -1e16, 3.5, 1e300, -1e300, 1e-300, 7.25, -0.3, 2.0];

impl Row {
    fn value(&self) -> Option<i64> {
        (self.n != -5).then_some(self.n)
    }

    fn text(&self) -> Option<String> {
        self.value().map(|n| format!("t{n}"))
    }

    fn double(&self) -> Option<f64> {
        self.value().map(|n| DOUBLES[(n + 5) as usize])
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let row = (0u8..4, -5i64..6, any::<bool>()).prop_map(|(key, n, flag)| Act::Insert(Row { key, n, flag, place: 0 }));
    let act = prop_oneof![5 => row, 4 => (0usize..1000).prop_map(Act::Retract), 2 => Just(Act::Cut)];
    prop::collection::vec(act, 1..80).prop_map(|mut acts| {
        let mut place = 0;
        for act in &mut acts {
            if let Act::Insert(row) = act {
                row.place = place * 7 % 101;
                place += 1;
            }
        }
        acts
    })
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", timestamp(), false),
        Field::new("key", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("place", DataType::Int64, true),
        Field::new("x", DataType::Float64, true),
        Field::new("d", DataType::Decimal128(20, 2), true),
    ]))
}

fn batch(rows: &[(Row, ChangeKind)]) -> Batch {
    let of = |f: &dyn Fn(&Row) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(|(r, _)| f(r)).collect::<Int64Array>())
    };
    let decimals = rows.iter().map(|(r, _)| r.value().map(|n| i128::from(n) * 1000)).collect::<Decimal128Array>();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_value(0, rows.len())),
        of(&|r| (r.key > 0).then_some(i64::from(r.key))),
        of(&Row::value),
        Arc::new(rows.iter().map(|(r, _)| Some(r.flag)).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|(r, _)| r.text()).collect::<StringArray>()),
        of(&|r| Some(r.place)),
        Arc::new(rows.iter().map(|(r, _)| r.double()).collect::<Float64Array>()),
        Arc::new(decimals.with_precision_and_scale(20, 2).expect("it fits")),
    ];
    let kinds = rows.iter().map(|(_, k)| *k as i8).collect::<Vec<i8>>();
    Batch {
        rows: RecordBatch::try_new(schema(), columns).expect("as declared"),
        marks: None,
        kinds: kinds.iter().any(|k| *k != 0).then(|| Int8Array::from(kinds)),
    }
}

fn call(function: AggregateFunction, arg: Option<usize>, kind: DataType) -> AggregateCall {
    let result = Field::new("r", kind, true);
    AggregateCall { function, args: arg.into_iter().collect(), distinct: false, filter: None, result }
}

fn list(kind: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", kind, true)))
}

/// Calls without, and with what has to keep values.
fn calls(rich: bool) -> Vec<AggregateCall> {
    use AggregateFunction::*;
    let distinct = |call: AggregateCall| AggregateCall { distinct: true, ..call };
    let flagged = |call: AggregateCall| AggregateCall { filter: Some(3), ..call };
    let listagg = || ListAgg { separator: "+".into() };
    if !rich {
        return vec![
            call(Count, None, DataType::Int64),
            call(Count, Some(2), DataType::Int64),
            flagged(call(Sum, Some(2), DataType::Int64)),
            call(Avg, Some(2), DataType::Int64),
            call(Sum, Some(6), DataType::Float64),
            call(Sum, Some(7), DataType::Decimal128(38, 2)),
        ];
    }
    vec![
        flagged(call(Count, None, DataType::Int64)),
        call(Max, Some(2), DataType::Int64),
        call(Min, Some(4), DataType::Utf8),
        flagged(call(Min, Some(6), DataType::Float64)),
        distinct(call(Count, Some(2), DataType::Int64)),
        distinct(flagged(call(Count, Some(4), DataType::Int64))),
        distinct(call(Sum, Some(2), DataType::Int64)),
        distinct(call(ListAgg { separator: "/".into() }, Some(4), DataType::Utf8)),
        call(listagg(), Some(4), DataType::Utf8),
        call(ArrayAgg, Some(2), list(DataType::Int64)),
        call(Collect, Some(2), multiset_of(&DataType::Int64)),
        flagged(call(Collect, Some(4), multiset_of(&DataType::Utf8))),
        distinct(call(Collect, Some(4), multiset_of(&DataType::Utf8))),
        call(FirstValue, Some(2), DataType::Int64),
        flagged(call(LastValue, Some(4), DataType::Utf8)),
        call(VarPop, Some(6), DataType::Float64),
        call(StddevSamp, Some(2), DataType::Float64),
        call(ApproxCountDistinct, Some(2), DataType::Int64),
        call(ApproxPercentile { fraction: 0.5 }, Some(2), DataType::Float64),
    ]
}

fn node(rich: bool, retracts: bool, update_before: bool, order: bool) -> graph::GroupAggregate {
    let order = order.then_some(5);
    graph::GroupAggregate { keys: vec![1], calls: calls(rich), retracts, update_before, ttl: None, order }
}

fn output(node: &graph::GroupAggregate) -> SchemaRef {
    let mut fields: Vec<Field> = node.keys.iter().map(|k| schema().field(*k).clone()).collect();
    fields.extend(node.calls.iter().map(|c| c.result.clone()));
    Arc::new(Schema::new(fields))
}

/// `every`: how often all memory is to be given back, in steps; 0 for never.
fn make(node: &graph::GroupAggregate, every: usize, space: &Arc<MemorySpace>) -> Box<dyn Operator> {
    pressed_if(build(node, &schema(), output(node), false).expect("the node is sound"), every, space)
}

/// A group's rows.
#[derive(Default, Clone)]
struct Group {
    rows: Vec<Row>,
}

impl Group {
    fn insert(&mut self, row: &Row) {
        self.rows.push(row.clone());
    }

    fn retract(&mut self, row: &Row) {
        let same = |r: &Row| (r.n, r.flag) == (row.n, row.flag);
        let at = self.rows.iter().position(same).expect("only rows that are there are taken back");
        self.rows.remove(at);
    }
}

/// What a bag without filter, or with it, keeps: (place, value), by the rule of the earliest.
#[derive(Default, Clone)]
struct Places(Vec<(i64, i64)>);

impl Places {
    fn change(&mut self, place: i64, n: i64, away: bool) {
        if !away {
            self.0.push((place, n));
            self.0.sort_unstable();
            return;
        }
        let exact = self.0.iter().position(|p| *p == (place, n));
        let earliest = || self.0.iter().position(|p| p.1 == n);
        let at = exact.or_else(earliest).expect("the value is there");
        self.0.remove(at);
    }
}

#[derive(Default, Clone)]
struct Model {
    group: Group,
    all: Places,
    flagged: Places,
}

impl Model {
    fn change(&mut self, row: &Row, away: bool, order: bool) {
        if away {
            self.group.retract(row);
        } else {
            self.group.insert(row);
        }
        // Without an order the place is the value.
        let place = if order { row.place } else { 0 };
        if self.group.rows.is_empty() {
            (self.all, self.flagged) = Default::default();
            return;
        }
        self.all.change(place, row.n, away);
        if row.flag {
            self.flagged.change(place, row.n, away);
        }
    }

    fn results(&self, rich: bool) -> String {
        let rows = &self.group.rows;
        let shown = |v: Option<String>| v.unwrap_or_else(|| "null".into());
        let some = |v: Option<i64>| v.map_or("null".to_string(), |v| v.to_string());
        let float = |v: Option<f64>| v.map_or("null".to_string(), |v| format!("{:016x}", v.to_bits()));
        let values: Vec<i64> = rows.iter().filter_map(Row::value).collect();
        let flagged: Vec<&Row> = rows.iter().filter(|r| r.flag).collect();
        let flagged_values: Vec<i64> = flagged.iter().filter_map(|r| r.value()).collect();
        let sum = |v: &[i64]| (!v.is_empty()).then(|| v.iter().sum::<i64>());
        let doubles: Vec<f64> = rows.iter().filter_map(Row::double).collect();
        if !rich {
            let mut exact = millstream_state::exact::ExactSum::default();
            doubles.iter().for_each(|x| exact.add(*x));
            return [
                rows.len().to_string(),
                values.len().to_string(),
                some(sum(&flagged_values)),
                some(sum(&values).map(|s| s / values.len() as i64)),
                float((!doubles.is_empty()).then(|| exact.value())),
                shown(sum(&values).map(|s| format!("{:.2}", s as f64 * 10.0))),
            ]
            .join(" ");
        }
        let set: BTreeSet<i64> = values.iter().copied().collect();
        let text = |n: &i64| format!("t{n}");
        let texts: BTreeSet<String> = set.iter().map(text).collect();
        // NULL comes before all values.
        let by_place = |places: &Places, as_text: bool| -> Vec<(i64, i64)> {
            let mut all = places.0.clone();
            all.sort_by_key(|(place, n)| (*place, *n != -5, if as_text { text(n) } else { String::new() }, *n));
            all
        };
        let value = |n: i64| (n != -5).then_some(n);
        let listed: Vec<String> =
            by_place(&self.all, true).iter().filter_map(|(_, n)| value(*n)).map(|n| text(&n)).collect();
        let array: Vec<String> = by_place(&self.all, false).iter().map(|(_, n)| some(value(*n))).collect();
        let mut moments = millstream_state::exact::ExactMoments::default();
        doubles.iter().for_each(|x| moments.add(*x));
        let mut whole = millstream_state::exact::IntegerMoments::default();
        values.iter().for_each(|n| whole.add(*n));
        let mut sketch = millstream_state::sketch::Distinct::default();
        let array_of = Int64Array::from(values.clone());
        let mut hashes = Vec::new();
        millstream_core::key::hash_rows(&[Arc::new(array_of)], values.len(), &mut hashes).expect("integers");
        hashes.iter().for_each(|h| sketch.add(*h));
        let mut quantiles = millstream_state::sketch::Quantiles::default();
        values.iter().for_each(|n| quantiles.add(*n as f64));
        let least = flagged.iter().filter_map(|r| r.double()).min_by(f64::total_cmp);
        [
            flagged.len().to_string(),
            some(values.iter().max().copied()),
            shown(texts.first().cloned()),
            float(least),
            set.len().to_string(),
            flagged_values.iter().collect::<BTreeSet<_>>().len().to_string(),
            some((!set.is_empty()).then(|| set.iter().sum())),
            shown((!texts.is_empty()).then(|| texts.iter().cloned().collect::<Vec<_>>().join("/"))),
            shown((!listed.is_empty()).then(|| listed.join("+"))),
            shown((!array.is_empty()).then(|| format!("[{}]", array.join(";")))),
            multiset(values.iter()),
            multiset(flagged_values.iter().map(text)),
            multiset(texts.iter()),
            some(by_place(&self.all, false).iter().find_map(|(_, n)| value(*n))),
            shown(by_place(&self.flagged, true).iter().rev().find_map(|(_, n)| value(*n)).map(|n| text(&n))),
            float(moments.variance(false)),
            float(whole.variance(true, 1.0).map(f64::sqrt)),
            sketch.estimate().to_string(),
            float(quantiles.quantile(0.5)),
        ]
        .join(" ")
    }
}

/// As it is printed.
fn multiset<T: Ord + ToString>(values: impl Iterator<Item = T>) -> String {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    let entries: Vec<String> = counts.iter().map(|(value, n)| format!("{}:_{n}", value.to_string())).collect();
    format!("{{{}}}", entries.join(";"))
}

/// Rows as text, doubles by their bits.
fn texts(rows: &RecordBatch) -> Vec<(String, String)> {
    let columns =
        rows.columns().iter().map(|column| match column.as_primitive_opt::<arrow::datatypes::Float64Type>() {
            Some(doubles) => {
                let bits = |v: Option<f64>| v.map(|v| format!("{:016x}", v.to_bits()));
                Arc::new(doubles.iter().map(bits).collect::<StringArray>()) as ArrayRef
            }
            None => column.clone(),
        });
    let columns: Vec<ArrayRef> = columns.collect();
    let fields: Vec<Field> =
        columns.iter().enumerate().map(|(i, c)| Field::new(i.to_string(), c.data_type().clone(), true)).collect();
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("as many");
    render(&rows, false)
        .into_iter()
        .map(|row| row.split_once(' ').map(|(k, v)| (k.to_string(), v.to_string())).expect("a key and results"))
        .collect()
}

/// What a reader of the changes holds. Panics where a change makes no sense to it.
#[derive(Default)]
struct Reader {
    rows: BTreeMap<String, String>,
    update_before: bool,
}

impl Reader {
    fn read(&mut self, capture: &Capture) {
        let mut told: BTreeMap<String, Vec<ChangeKind>> = BTreeMap::new();
        let mut announced: Option<String> = None;
        for (_, batch) in &capture.emitted {
            assert!(batch.len() <= crate::operator::ROWS_MAX);
            for (i, (key, results)) in texts(&batch.rows).into_iter().enumerate() {
                let kind = batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(i)));
                told.entry(key.clone()).or_default().push(kind);
                if let Some(before) = announced.take() {
                    assert_eq!((kind, &before), (ChangeKind::UpdateAfter, &key), "-U and +U stand side by side");
                }
                match kind {
                    ChangeKind::Insert => {
                        assert_eq!(self.rows.insert(key.clone(), results), None, "{key} was there");
                    }
                    ChangeKind::UpdateBefore => {
                        assert!(self.update_before, "nobody asked for -U");
                        assert_eq!(self.rows.get(&key), Some(&results), "-U of {key}");
                        announced = Some(key);
                    }
                    ChangeKind::UpdateAfter => {
                        let old = self.rows.insert(key.clone(), results.clone());
                        assert!(old.is_some(), "{key} was not there");
                        assert_ne!(old.as_ref(), Some(&results), "{key} has not changed");
                    }
                    ChangeKind::Delete => {
                        assert_eq!(self.rows.remove(&key), Some(results), "-D of {key}");
                    }
                }
            }
        }
        assert_eq!(announced, None);
        for (key, kinds) in told {
            use ChangeKind::*;
            let once = [vec![Insert], vec![Delete], vec![UpdateAfter], vec![UpdateBefore, UpdateAfter]];
            assert!(once.contains(&kinds), "{key} was told of by {kinds:?} in one step");
        }
    }
}

/// The script with its retractions turned into rows. `own_places`: they come with places of their own.
fn script(acts: &[Act], retracts: bool, own_places: bool) -> Vec<Vec<(Row, ChangeKind)>> {
    let (mut there, mut batches, mut place): (Vec<Row>, _, _) = (Vec::new(), vec![Vec::new()], 1000);
    for act in acts {
        match act {
            Act::Insert(row) => {
                there.push(row.clone());
                batches.last_mut().expect("one at least").push((row.clone(), ChangeKind::Insert));
            }
            Act::Retract(at) if retracts && !there.is_empty() => {
                let mut row = there.swap_remove(at % there.len());
                if own_places {
                    place += 1;
                    row.place = place;
                }
                let kind = if at % 2 == 0 { ChangeKind::Delete } else { ChangeKind::UpdateBefore };
                batches.last_mut().expect("one at least").push((row, kind));
            }
            Act::Retract(_) => {}
            Act::Cut => batches.push(Vec::new()),
        }
    }
    batches.retain(|b| !b.is_empty());
    batches
}

#[derive(Debug, Clone, Copy)]
struct Case {
    rich: bool,
    retracts: bool,
    update_before: bool,
    order: bool,
    own_places: bool,
}

fn case() -> impl Strategy<Value = Case> {
    (any::<bool>(), prop::bool::weighted(0.8), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(rich, retracts, update_before, order, own_places)| Case { rich, retracts, update_before, order, own_places },
    )
}

/// How often all memory is to be given back: mostly never, since that takes time.
fn presses() -> impl Strategy<Value = usize> {
    prop_oneof![2 => Just(0usize), 1 => 1usize..3]
}

fn key_of(row: &Row) -> String {
    if row.key > 0 { row.key.to_string() } else { "null".into() }
}

fn play(acts: &[Act], case: Case, tasks: &[usize], crash: bool, every: usize) {
    let node = node(case.rich, case.retracts, case.update_before, case.order);
    let space = Arc::<MemorySpace>::default();
    let make = || make(&node, every, &space);
    let mut crew = Crew::new(&make, tasks[0]);
    let mut reader = Reader { update_before: case.update_before, ..Reader::default() };
    let mut model: BTreeMap<String, Model> = BTreeMap::new();
    for (at, rows) in script(acts, case.retracts, case.own_places).iter().enumerate() {
        for (row, kind) in rows {
            model.entry(key_of(row)).or_default().change(row, *kind != ChangeKind::Insert, case.order);
        }
        model.retain(|_, m| !m.group.rows.is_empty());
        reader.read(&crew.step(&[1], Event::Batch { input: 0, batch: batch(rows) }));
        let wanted: BTreeMap<String, String> = model.iter().map(|(k, m)| (k.clone(), m.results(case.rich))).collect();
        assert_eq!(reader.rows, wanted, "after batch {at} (what came out left, from the rows right)");
        if crash {
            crew = crew.crash(&make, tasks[(at + 1) % tasks.len()]);
        }
    }
}

/// Rows that are only added, in turns through local halves of two tasks and the exchange. `crash`: both sides after each batch.
fn play_summed_up(acts: &[Act], update_before: bool, tasks: &[usize], crash: bool, every: usize) {
    let node = node(false, false, update_before, false);
    let spec = local::split(&node, &schema()).expect("these calls can be split");
    let make_local = || local::build_local(&node, &schema(), &spec).expect("builds");
    let space = Arc::<MemorySpace>::default();
    let make = || pressed_if(build(&node, &schema(), output(&node), true).expect("the node is sound"), every, &space);
    let mut locals = [make_local(), make_local()];
    let mut crew = Crew::new(&make, tasks[0]);
    let mut reader = Reader { update_before, ..Reader::default() };
    let mut model: BTreeMap<String, Model> = BTreeMap::new();
    for (at, rows) in script(acts, false, false).iter().enumerate() {
        for (row, _) in rows {
            model.entry(key_of(row)).or_default().change(row, false, false);
        }
        let mut exchanged = Capture::default();
        locals[at % 2].step(Event::Batch { input: 0, batch: batch(rows) }, &mut exchanged).expect("steps");
        for (port, batch) in exchanged.emitted {
            let keys = if port == 0 { &spec.keys } else { &spec.raw_keys };
            reader.read(&crew.step(keys, Event::Batch { input: 1 - port, batch }));
        }
        let wanted: BTreeMap<String, String> = model.iter().map(|(k, m)| (k.clone(), m.results(false))).collect();
        assert_eq!(reader.rows, wanted, "after batch {at} (what came out left, from the rows right)");
        if crash {
            locals = [make_local(), make_local()];
            crew = crew.crash(&make, tasks[(at + 1) % tasks.len()]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn rows_that_are_summed_up_before_the_exchange_count_the_same(
        acts in acts(), update_before in any::<bool>(), every in presses(), crash in any::<bool>(),
    ) {
        for tasks in [&[1][..], &[2, 3]] {
            play_summed_up(&acts, update_before, tasks, crash, every);
        }
    }

    #[test]
    fn results_are_those_of_the_rows_that_are_left(acts in acts(), case in case(), every in presses()) {
        play(&acts, case, &[1], false, every);
    }
}

proptest! {
    // Each case is played four times, with everything saved and loaded after each batch.
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn crashes_and_other_numbers_of_tasks_change_nothing(acts in acts(), case in case(), every in presses()) {
        for tasks in [&[1][..], &[2], &[7], &[1, 2, 7, 3]] {
            play(&acts, case, tasks, true, every);
        }
    }
}

// ---- With a time to live

const KEEP: Millis = 50;

/// A row with its time and mark, both relative to those of the row before it.
type Timed = (u8, i64, bool, i64, i64, bool);

fn timed() -> impl Strategy<Value = Vec<Timed>> {
    // Key, value, taken back or not, how far behind the mark's front, how far the mark goes on, end of the batch.
    let row = (
        0u8..4,
        0i64..4,
        prop::bool::weighted(0.3),
        0i64..30,
        prop_oneof![4 => 0i64..8, 1 => 40i64..70],
        prop::bool::weighted(0.3),
    );
    prop::collection::vec(row, 1..60)
}

#[derive(Default)]
struct Lasting {
    touched: Millis,
    rows: i64,
    values: BTreeMap<i64, i64>,
}

impl Lasting {
    fn results(&self) -> String {
        let least = self.values.iter().find(|(_, n)| **n > 0).map_or("null".into(), |(n, _)| n.to_string());
        let distinct = self.values.values().filter(|n| **n > 0).count();
        let sum: i64 = self.values.iter().map(|(n, times)| n * times).sum();
        format!("{} {sum} {least} {distinct}", self.rows)
    }
}

/// Rows one by one: what a reader who replaces by key holds in the end. What is taken back need never have been there.
fn lasting(rows: &[Timed], retracts: bool) -> BTreeMap<String, String> {
    let (mut groups, mut told) = (BTreeMap::<u8, Lasting>::new(), BTreeMap::new());
    let mut now = 0;
    for (key, n, away, behind, ahead, _) in rows {
        now += ahead;
        let at = now + 20 - behind;
        if groups.get(key).is_some_and(|group| now >= group.touched + KEEP) {
            groups.remove(key);
        }
        if *away && retracts && !groups.contains_key(key) {
            continue;
        }
        let group = groups.entry(*key).or_insert_with(|| Lasting { touched: at, ..Lasting::default() });
        group.touched = group.touched.max(at);
        let by = if *away && retracts { -1 } else { 1 };
        group.rows += by;
        *group.values.entry(*n).or_default() += by;
        if group.rows == 0 {
            groups.remove(key);
            told.remove(&key.to_string());
        } else {
            told.insert(key.to_string(), group.results());
        }
    }
    told
}

/// How the rows come, and how much memory there is for them.
#[derive(Debug, Clone, Copy)]
struct How<'a> {
    cut: usize,
    tasks: &'a [usize],
    marked: bool,
    every: usize,
}

fn play_lasting(rows: &[Timed], retracts: bool, update_before: bool, how: How<'_>) {
    let How { cut, tasks, marked, every } = how;
    use AggregateFunction::*;
    let calls = vec![
        call(Count, None, DataType::Int64),
        call(Sum, Some(2), DataType::Int64),
        call(Min, Some(2), DataType::Int64),
        AggregateCall { distinct: true, ..call(Count, Some(2), DataType::Int64) },
    ];
    let ttl = Some(graph::StateTtl { keep: KEEP, times: vec![0] });
    let node = graph::GroupAggregate { keys: vec![1], calls, retracts, update_before, ttl, order: None };
    let space = Arc::<MemorySpace>::default();
    let make = || make(&node, every, &space);
    let mut crew = Crew::new(&make, tasks[0]);
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut read = |capture: &Capture| {
        for (_, batch) in &capture.emitted {
            for (i, (key, results)) in texts(&batch.rows).into_iter().enumerate() {
                match batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(i))) {
                    ChangeKind::Insert | ChangeKind::UpdateAfter => drop(told.insert(key, results)),
                    ChangeKind::UpdateBefore => assert_eq!(told.get(&key), Some(&results)),
                    ChangeKind::Delete => assert_eq!(told.remove(&key), Some(results)),
                }
            }
        }
    };
    let (mut now, mut held): (Millis, Vec<(Row, Millis, Millis, ChangeKind)>) = (0, Vec::new());
    for (at, (key, n, away, behind, ahead, last)) in rows.iter().enumerate() {
        let flush = |held: &mut Vec<(Row, Millis, Millis, ChangeKind)>, crew: &mut Crew| {
            let rows: Vec<(Row, ChangeKind)> = held.iter().map(|(row, _, _, kind)| (row.clone(), *kind)).collect();
            let mut batch = batch(&rows);
            let mut columns = batch.rows.columns().to_vec();
            columns[0] = Arc::new(held.iter().map(|h| Some(h.1)).collect::<TimestampMillisecondArray>());
            batch.rows = RecordBatch::try_new(schema(), columns).expect("as declared");
            batch.marks = marked.then(|| held.iter().map(|h| Some(h.2)).collect());
            held.clear();
            crew.step(&[1], Event::Batch { input: 0, batch })
        };
        // Without marks the watermark comes between the batches, each time that it goes on.
        if *ahead > 0 && !marked {
            if !held.is_empty() {
                read(&flush(&mut held, &mut crew));
            }
            crew.step(&[1], Event::Watermark(TimeDomain::Event, Watermark(now + ahead)));
        }
        now += ahead;
        let kind = if *away && retracts { ChangeKind::Delete } else { ChangeKind::Insert };
        let row = Row { key: *key + 1, n: *n, flag: false, place: 0 };
        held.push((row, now + 20 - behind, now, kind));
        if *last || held.len() >= cut || at + 1 == rows.len() {
            read(&flush(&mut held, &mut crew));
            crew.step(&[1], Event::Watermark(TimeDomain::Event, Watermark(now)));
            if tasks.len() > 1 {
                crew = crew.crash(&make, tasks[(at + 1) % tasks.len()]);
            }
        }
    }
    let wanted: BTreeMap<String, String> = lasting(rows, retracts)
        .into_iter()
        .map(|(key, results)| ((key.parse::<u8>().expect("a key") + 1).to_string(), results))
        .collect();
    assert_eq!(told, wanted, "{how:?} (got left, wanted right)");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_is_forgotten_depends_on_the_rows_and_not_on_batches(
        rows in timed(), retracts in any::<bool>(), update_before in any::<bool>(), every in presses(),
    ) {
        for marked in [true, false] {
            for (cut, tasks) in [(usize::MAX, &[1][..]), (1, &[1]), (7, &[2]), (7, &[1, 2, 7, 3])] {
                play_lasting(&rows, retracts, update_before, How { cut, tasks, marked, every });
            }
        }
    }
}
