//! Operators that emit at once what a row causes, and those with two inputs: by shelves they say it later, and the table that
//! is left is the same. Their own tests play every script and model of theirs without memory, but with time to catch up after
//! each step; here rows of both inputs wait on the pile across watermarks and sheds.

use super::tests::small;
use super::*;
use crate::graph::{
    self, AggregateCall, AggregateFunction, JoinKind, JoinScope, Keep, RankFunction, SortColumn, TopNScope,
};
use crate::join::{join_in_memory, temporal_in_memory};
use crate::testing::{Capture, Crew, Table, render, timestamp};
use crate::{deduplicate, group, top_n, upsert};
use arrow::array::{ArrayRef, Int8Array, Int64Array, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use millstream_core::{ByteSize, ChangeKind};
use millstream_state::tier::{Budget, MemorySpace};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Width of the window that a row is in.
const WINDOW: i64 = 10;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", timestamp(), true),
        Field::new("key", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("place", DataType::Int64, true),
        Field::new("ws", timestamp(), true),
        Field::new("we", timestamp(), true),
    ]))
}

#[derive(Debug, Clone, Copy)]
struct Row {
    at: i64,
    key: Option<i64>,
    n: i64,
    place: i64,
}

#[derive(Debug, Clone, Copy)]
enum Which {
    /// Rows are taken back; with a time to live.
    Groups(bool),
    /// The two highest, where rows are taken back.
    Top,
    /// With ranks and a time to live.
    Ranks,
    TopOfWindows,
    /// With a time to live.
    First(bool),
    Last(bool),
    OnArrival,
    Upserts,
    /// Whether rows of each side are taken back, and with a time to live.
    Regular(JoinKind, [bool; 2], bool),
    Interval(JoinKind),
    Windows(JoinKind),
    Temporal(bool),
}

impl Which {
    /// Whether rows of an input may be taken back.
    fn retracts(self, input: usize) -> bool {
        match self {
            Which::Groups(_) | Which::Top | Which::Upserts => true,
            Which::Regular(_, retracts, _) => retracts[input],
            Which::Temporal(_) => input == 1,
            _ => false,
        }
    }

    fn inputs(self) -> usize {
        match self {
            Which::Regular(..) | Which::Interval(_) | Which::Windows(_) | Which::Temporal(_) => 2,
            _ => 1,
        }
    }

    fn keys(self) -> &'static [usize] {
        if matches!(self, Which::Windows(_)) { &[4, 5, 1] } else { &[1] }
    }

    /// The column of the result that names a row of it.
    fn named(self) -> Option<usize> {
        match self {
            Which::Groups(false) => Some(0),
            Which::Last(false) | Which::Upserts => Some(1),
            _ => None,
        }
    }
}

fn which() -> impl Strategy<Value = Which> {
    use JoinKind::*;
    let kinds = || prop::sample::select(vec![Inner, Left, Right, Full, Semi, Anti]);
    prop_oneof![
        2 => any::<bool>().prop_map(Which::Groups),
        1 => Just(Which::Top),
        1 => Just(Which::Ranks),
        1 => Just(Which::TopOfWindows),
        1 => any::<bool>().prop_map(Which::First),
        1 => any::<bool>().prop_map(Which::Last),
        1 => Just(Which::OnArrival),
        1 => Just(Which::Upserts),
        3 => (kinds(), any::<[bool; 2]>(), any::<bool>()).prop_map(|(k, r, t)| Which::Regular(k, r, t)),
        2 => kinds().prop_map(Which::Interval),
        1 => kinds().prop_map(Which::Windows),
        2 => any::<bool>().prop_map(Which::Temporal),
    ]
}

fn ttl(with: bool) -> Option<graph::StateTtl> {
    with.then(|| graph::StateTtl { keep: 25, times: vec![0, 0] })
}

fn top(scope: TopNScope, ranked: bool) -> graph::TopN {
    graph::TopN {
        partition: vec![1],
        sort: vec![SortColumn { column: 2, descending: true, nulls_first: false }],
        function: RankFunction::RowNumber,
        from: 1,
        to: 2,
        rank: ranked.then(|| Field::new("rank", DataType::Int64, false)),
        scope,
        update_before: true,
        order: Some(3),
    }
}

/// Makes one operator as it is without shelves.
fn plain(which: Which) -> Make {
    let by_row = |keep, domain, with| graph::Deduplicate {
        keys: vec![1],
        time: 0,
        domain,
        keep,
        update_before: true,
        ttl: ttl(with),
        order: Some(3),
    };
    let topmost = |scope, ranked| -> Make {
        let spec = top(scope, ranked);
        let fields = schema().fields().iter().cloned().chain(spec.rank.clone().map(Arc::new)).collect::<Vec<_>>();
        let output: SchemaRef = Arc::new(Schema::new(fields));
        Box::new(move || Ok(Box::new(top_n::TopN::new(&spec, &schema(), output.clone())?)))
    };
    let deduplicate = |spec: graph::Deduplicate| -> Make {
        Box::new(move || Ok(Box::new(deduplicate::Deduplicate::new(&spec, &schema(), schema())?)))
    };
    let joined = |kind, scope, keys: &[usize]| -> Make {
        let spec = graph::Join {
            kind,
            keys: keys.iter().map(|k| (*k, *k)).collect(),
            null_equals_null: vec![false; keys.len()],
            residual: None,
            scope,
        };
        let inputs = [schema(), schema()];
        let sides = if matches!(kind, JoinKind::Semi | JoinKind::Anti) { 1 } else { 2 };
        let fields = inputs[..sides].iter().flat_map(|s| s.fields().iter().cloned()).collect::<Vec<_>>();
        let output: SchemaRef = Arc::new(Schema::new(fields));
        Box::new(move || join_in_memory(&spec, &inputs, &output))
    };
    match which {
        Which::Groups(with) => {
            use AggregateFunction::*;
            let call = |function, args: &[usize], distinct| AggregateCall {
                function,
                args: args.to_vec(),
                distinct,
                filter: None,
                result: Field::new("r", DataType::Int64, true),
            };
            let calls =
                vec![call(Count, &[], false), call(Sum, &[2], false), call(Count, &[2], true), call(Max, &[2], false)];
            let fields: Vec<Field> =
                std::iter::once(schema().field(1).clone()).chain(calls.iter().map(|c| c.result.clone())).collect();
            let output: SchemaRef = Arc::new(Schema::new(fields));
            let node = graph::GroupAggregate {
                keys: vec![1],
                calls,
                retracts: true,
                update_before: true,
                ttl: ttl(with),
                order: Some(3),
            };
            Box::new(move || Ok(Box::new(group::GroupAggregate::new(&node, &schema(), output.clone())?)))
        }
        Which::Top => topmost(TopNScope::Always { ttl: None, retracts: true }, false),
        Which::Ranks => topmost(TopNScope::Always { ttl: ttl(true), retracts: false }, true),
        Which::TopOfWindows => topmost(TopNScope::Window { start: 4, end: 5, domain: TimeDomain::Event }, true),
        Which::First(with) => deduplicate(by_row(Keep::First, TimeDomain::Event, with)),
        Which::Last(with) => deduplicate(by_row(Keep::Last, TimeDomain::Event, with)),
        Which::OnArrival => deduplicate(by_row(Keep::First, TimeDomain::Processing, false)),
        Which::Upserts => Box::new(|| Ok(Box::new(upsert::UpsertMaterialize::new(&[1], true, &schema(), schema())?))),
        Which::Regular(kind, retracts, with) => joined(kind, JoinScope::Always { ttl: ttl(with), retracts }, &[1]),
        Which::Interval(kind) => {
            let scope = JoinScope::Interval { times: [0, 0], domain: TimeDomain::Event, lower: -7, upper: 3 };
            joined(kind, scope, &[1])
        }
        Which::Windows(kind) => {
            let scope = JoinScope::Window { start: [4, 4], end: [5, 5], domain: TimeDomain::Event };
            joined(kind, scope, &[4, 5, 1])
        }
        Which::Temporal(outer) => {
            let spec = graph::TemporalJoin {
                outer,
                keys: vec![(1, 1)],
                residual: None,
                times: [0, 0],
                tolerance: outer.then_some(20),
                order: Some(3),
            };
            let inputs = [schema(), schema()];
            let fields = inputs.iter().flat_map(|s| s.fields().iter().cloned()).collect::<Vec<_>>();
            let output: SchemaRef = Arc::new(Schema::new(fields));
            Box::new(move || temporal_in_memory(&spec, &inputs, &output))
        }
    }
}

fn by_shelves(which: Which, pile: usize, space: &Arc<MemorySpace>) -> Box<dyn Operator> {
    let inputs = vec![schema(); which.inputs()];
    let keys = vec![which.keys(); which.inputs()];
    let mut operator = Shelves::of(plain(which), &inputs, &keys, small(pile)).expect("builds");
    operator.spill_to(space.clone());
    operator
}

fn batch(rows: &[(Row, ChangeKind)], marks: Option<Vec<i64>>) -> Batch {
    let numbers = |of: &dyn Fn(&Row) -> Option<i64>| -> ArrayRef {
        Arc::new(rows.iter().map(|(r, _)| of(r)).collect::<Int64Array>())
    };
    let times = |of: &dyn Fn(i64) -> i64| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|(r, _)| of(r.at))))
    };
    let columns = vec![
        times(&|at| at),
        numbers(&|r| r.key),
        numbers(&|r| (r.n > 0).then_some(r.n)),
        numbers(&|r| Some(r.place)),
        times(&|at| at.div_euclid(WINDOW) * WINDOW),
        times(&|at| at.div_euclid(WINDOW) * WINDOW + WINDOW),
    ];
    let kinds: Vec<i8> = rows.iter().map(|(_, kind)| *kind as i8).collect();
    Batch {
        rows: RecordBatch::try_new(schema(), columns).expect("as declared"),
        marks: marks.map(Into::into),
        kinds: kinds.iter().any(|k| *k != 0).then(|| Int8Array::from(kinds)),
    }
}

/// What a reader makes of all that came out.
#[derive(Default)]
struct Reader {
    table: Table,
    /// The last word on each name, for results that have one.
    last: BTreeMap<String, String>,
    late: Vec<String>,
    advanced: BTreeMap<&'static str, Watermark>,
    /// More tasks than one are read.
    several: bool,
}

impl Reader {
    fn read(&mut self, which: Which, out: &Capture) {
        self.table.take(out);
        for (_, batch) in &out.emitted {
            let Some(name) = which.named() else { break };
            for (i, row) in render(&batch.rows, false).into_iter().enumerate() {
                let name = row.split(' ').nth(name).expect("a column").to_owned();
                match batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(i))) {
                    ChangeKind::Insert => assert_eq!(self.last.insert(name, row), None, "it was there"),
                    ChangeKind::UpdateBefore => assert_eq!(self.last.get(&name), Some(&row)),
                    ChangeKind::UpdateAfter => assert!(self.last.insert(name, row).is_some(), "it was not there"),
                    ChangeKind::Delete => assert_eq!(self.last.remove(&name), Some(row)),
                }
            }
        }
        for late in &out.late {
            let marks = late.watermarks.values();
            let rows = render(&late.rows, false).into_iter().zip(marks);
            self.late.extend(rows.map(|(row, mark)| format!("{row} by {mark}")));
        }
        self.late.sort();
        for (domain, to) in &out.advanced {
            let domain = if *domain == TimeDomain::Event { "event" } else { "clock" };
            let before = self.advanced.entry(domain).or_insert(*to);
            // Marks bring one task further than another.
            assert!(*before <= *to || self.several, "a watermark went back");
            *before = *to.max(before);
        }
    }
}

#[derive(Debug, Clone)]
enum Move {
    /// So many of the rows come in, as one batch of an input.
    Take(usize, usize),
    /// The watermark follows the rows.
    Follow,
    Tick,
    Save,
    /// On so many tasks, by shelves or not.
    Crash(usize, bool),
    Shed(usize),
    CatchUp,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => (0usize..2, 1usize..8).prop_map(|(input, some)| Move::Take(input, some)),
        4 => Just(Move::Follow),
        1 => Just(Move::Tick),
        1 => Just(Move::Save),
        1 => (prop::sample::select(vec![1, 2, 7]), any::<bool>()).prop_map(|(tasks, shelves)| Move::Crash(tasks, shelves)),
        3 => prop::sample::select(vec![1, 2_000, 20_000, usize::MAX]).prop_map(Move::Shed),
        1 => Just(Move::CatchUp),
    ];
    prop::collection::vec(one, 1..60)
}

/// Rows, and whether one that is there is taken back instead.
fn rows() -> impl Strategy<Value = Vec<(Row, bool)>> {
    let row = (prop::option::weighted(0.9, 0i64..7), 0i64..14, 0i64..5, prop::bool::weighted(0.3));
    prop::collection::vec(row, 1..140).prop_map(|rows| {
        let numbered = rows.into_iter().zip(0..);
        numbered.map(|((key, at, n, away), place)| (Row { at: at + place / 2, key, n, place }, away)).collect()
    })
}

fn play(which: Which, rows: &[(Row, bool)], moves: Vec<Move>, delay: i64, marked: bool, pile: usize) {
    let space = Arc::<MemorySpace>::default();
    let shelves = || by_shelves(which, pile, &space);
    let without = || plain(which)().expect("builds");
    let mut undisturbed = Crew::new(&without, 1);
    undisturbed.tasks = vec![without()];
    let mut crew = Crew::new(&shelves, 1);
    let (mut expected, mut got) = (Reader::default(), Reader::default());
    let (mut from, mut seen, mut ticks) = (0usize, i64::MIN, 0);
    let mut there = [Vec::new(), Vec::new()];
    let step = |crew: &mut Crew, event: Event, reader: &mut Reader| {
        // Of several tasks whoever reads hears the last one.
        let mut out = crew.step(which.keys(), event);
        out.advanced.dedup();
        reader.several = crew.tasks.len() > 1;
        reader.read(which, &out);
    };
    let flush = |crew: &mut Crew, reader: &mut Reader| {
        for task in &mut crew.tasks {
            let mut out = Capture::default();
            task.flush(&mut out).expect("flushes");
            reader.read(which, &out);
        }
    };
    for one in moves.into_iter().chain([Move::Take(0, usize::MAX)]) {
        match one {
            Move::Take(input, some) => {
                let (to, input) = (rows.len().min(from.saturating_add(some)), input % which.inputs());
                if from == to {
                    continue;
                }
                let (mut part, mut marks) = (Vec::new(), Vec::new());
                for (row, away) in &rows[from..to] {
                    let gone = *away && which.retracts(input) && !there[input].is_empty();
                    let row = match gone {
                        true => there[input].swap_remove(row.place as usize % there[input].len()),
                        false => *row,
                    };
                    if !gone {
                        there[input].push(row);
                    }
                    part.push((row, if gone { ChangeKind::Delete } else { ChangeKind::Insert }));
                    marks.push(seen.saturating_sub(delay));
                    seen = seen.max(row.at);
                }
                let event = || Event::Batch { input, batch: batch(&part, marked.then(|| marks.clone())) };
                step(&mut undisturbed, event(), &mut expected);
                step(&mut crew, event(), &mut got);
                from = to;
            }
            Move::Follow => {
                let event = || Event::Watermark(TimeDomain::Event, Watermark(seen.saturating_sub(delay)));
                step(&mut undisturbed, event(), &mut expected);
                step(&mut crew, event(), &mut got);
            }
            Move::Tick => {
                ticks += 1;
                let event = || Event::Watermark(TimeDomain::Processing, Watermark(ticks));
                step(&mut undisturbed, event(), &mut expected);
                step(&mut crew, event(), &mut got);
            }
            Move::Save => {
                flush(&mut crew, &mut got);
                crew.save();
            }
            Move::Crash(tasks, by_shelves) => {
                flush(&mut crew, &mut got);
                crew = if by_shelves { crew.crash(&shelves, tasks) } else { crew.crash(&without, tasks) };
            }
            Move::Shed(bytes) => crew.tasks.iter_mut().for_each(|t| t.shed(bytes).expect("sheds")),
            Move::CatchUp => {
                for task in &mut crew.tasks {
                    let mut out = Capture::default();
                    task.catch_up(&mut out).expect("catches up");
                    got.read(which, &out);
                }
            }
        }
    }
    flush(&mut crew, &mut got);
    // A mark is a watermark that has been promised: a round may go that far.
    match marked {
        false => assert_eq!(got.advanced, expected.advanced, "how far the watermarks have come"),
        true => {
            let event = |reader: &Reader| reader.advanced.get("event").copied().unwrap_or(Watermark::MIN);
            let promised = Watermark(seen.saturating_sub(delay)).max(event(&expected));
            assert!((event(&expected)..=promised).contains(&event(&got)), "how far the watermarks have come");
        }
    }
    for domain in [TimeDomain::Event, TimeDomain::Processing] {
        step(&mut undisturbed, Event::Watermark(domain, Watermark::MAX), &mut expected);
        step(&mut crew, Event::Watermark(domain, Watermark::MAX), &mut got);
    }
    step(&mut undisturbed, Event::End, &mut expected);
    step(&mut crew, Event::End, &mut got);
    assert_eq!(got.table.rows(), expected.table.rows(), "the table that is left");
    assert_eq!((got.last, got.late, got.advanced), (expected.last, expected.late, expected.advanced));
    drop(crew);
    assert_eq!(space.runs(), 0, "scratch space is given back");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn what_is_told_later_leaves_the_same_table(
        which in which(), rows in rows(), moves in moves(), delay in 0i64..12, marked: bool,
        pile in prop::sample::select(vec![0usize, 900, 1 << 20]),
    ) {
        play(which, &rows, moves, delay, marked, pile);
    }
}

/// Rows of one key come out in the order in which they went in, and no round says of them what was said before.
#[test]
fn changes_of_a_key_keep_their_order_through_the_pile() {
    let space = Arc::<MemorySpace>::default();
    let mut operator = by_shelves(Which::Groups(false), 1 << 20, &space);
    let mut out = Capture::default();
    let mut reader = Reader::default();
    for round in 0..20i64 {
        let rows =
            (0..40).map(|i| (Row { at: round, key: Some(i % 10), n: round * 40 + i, place: i }, ChangeKind::Insert));
        let rows: Vec<_> = rows.collect();
        operator.step(Event::Batch { input: 0, batch: batch(&rows, None) }, &mut out).expect("steps");
        if round % 4 == 0 {
            operator.shed(usize::MAX).expect("sheds");
        }
        if round % 7 == 6 {
            operator.catch_up(&mut out).expect("catches up");
        }
    }
    operator.flush(&mut out).expect("flushes");
    reader.read(Which::Groups(false), &out);
    let told: usize = out.emitted.iter().map(|(_, b)| b.len()).sum();
    // In memory 10 groups would be inserted and updated 19 times, each time as they were and as they are; here the first batch
    // comes at once, and there are three rounds.
    assert_eq!((reader.last.len(), told), (10, 10 + 10 * 2 * 3));
    assert!(reader.last["3"].starts_with("3 80 "), "{}", reader.last["3"]);
}

#[test]
fn a_join_without_keys_stays_whole() {
    let spec = graph::Join {
        kind: JoinKind::Inner,
        keys: Vec::new(),
        null_equals_null: Vec::new(),
        residual: None,
        scope: JoinScope::Always { ttl: None, retracts: [false, false] },
    };
    let fields = [schema(), schema()].iter().flat_map(|s| s.fields().iter().cloned()).collect::<Vec<_>>();
    let output: SchemaRef = Arc::new(Schema::new(fields));
    let mut operator = crate::join::join(&spec, &[schema(), schema()], &output).expect("builds");
    let (space, mut out) = (Arc::<MemorySpace>::default(), Capture::default());
    operator.spill_to(space.clone());
    let row = Row { at: 1, key: Some(1), n: 1, place: 1 };
    operator
        .step(Event::Batch { input: 0, batch: batch(&[(row, ChangeKind::Insert)], None) }, &mut out)
        .expect("steps");
    operator.shed(usize::MAX).expect("keeps what it has");
    assert!(operator.state_bytes() > 0 && space.created() == 0);
}

/// Steps an operator as a job does, with so much memory. Returns the most it has held, and how many operators were made.
fn play_within(which: Which, memory: Option<usize>, reader: &mut Reader) -> (usize, usize) {
    let space = Arc::<MemorySpace>::default();
    let made = Arc::new(AtomicUsize::new(0));
    let make: Make = {
        let (made, one) = (made.clone(), plain(which));
        Box::new(move || {
            made.fetch_add(1, Relaxed);
            one()
        })
    };
    let inputs = vec![schema(); which.inputs()];
    let bounds = Bounds { shelves: 64, pile_bytes_min: 4 << 10 };
    let mut operator = Shelves::of(make, &inputs, &vec![which.keys(); which.inputs()], bounds).expect("builds");
    operator.spill_to(space);
    let share = Budget::new(ByteSize(memory.map_or(u64::MAX, |m| m as u64)), true).share("state");
    let mut most = 0;
    for round in 0..100i64 {
        let row = |i: i64| {
            let place = round * 500 + i;
            let random = millstream_core::key::mix(place as u64) as i64;
            (Row { at: place, key: Some(random.rem_euclid(20_000)), n: random >> 40, place }, ChangeKind::Insert)
        };
        let rows: Vec<_> = (0..500).map(row).collect();
        let input = round as usize % which.inputs();
        for event in [
            Event::Batch { input, batch: batch(&rows, None) },
            Event::Watermark(TimeDomain::Event, Watermark(round * 500 - 1)),
        ] {
            let mut out = Capture::default();
            operator.step(event, &mut out).expect("steps");
            reader.read(which, &out);
            let too_much = share.report(operator.state_bytes());
            if too_much > 0 {
                operator.shed(too_much).expect("sheds");
                share.settle(operator.state_bytes());
                share.check().expect("within the budget");
            }
            most = most.max(operator.state_bytes());
        }
    }
    let mut out = Capture::default();
    operator.flush(&mut out).expect("flushes");
    reader.read(which, &out);
    (most, made.load(Relaxed))
}

#[test]
fn an_eighth_of_the_memory_is_kept_to_and_shelves_are_loaded_a_few_times() {
    for which in [
        Which::Groups(false),
        Which::Top,
        Which::Last(false),
        Which::Upserts,
        Which::Regular(JoinKind::Left, [false, false], false),
    ] {
        let (mut expected, mut got) = (Reader::default(), Reader::default());
        let (most, _) = play_within(which, None, &mut expected);
        let (held, made) = play_within(which, Some(most / 8), &mut got);
        assert!(held <= most / 8, "{which:?}: {held} bytes held of {most}");
        assert!(made < 64 * 40, "{which:?}: {made} operators were made");
        assert_eq!(got.table.rows(), expected.table.rows(), "{which:?}");
    }
}

/// In memory a row goes on with its mark. Out of a round it has none: the rows of the next shelf are of earlier watermarks.
#[test]
fn what_comes_out_of_a_round_has_no_marks_and_is_in_time_where_it_was() {
    let space = Arc::<MemorySpace>::default();
    let mut operator = by_shelves(Which::OnArrival, 1 << 20, &space);
    let rows = |from: i64| -> Vec<_> {
        let row = |i: i64| (Row { at: from + i, key: Some(from + i), n: 1, place: i }, ChangeKind::Insert);
        (0..20).map(row).collect()
    };
    let marks = |from: i64| Some((0..20).map(|i| from + i - 5).collect());
    let mut out = Capture::default();
    operator.step(Event::Batch { input: 0, batch: batch(&rows(0), marks(0)) }, &mut out).expect("steps");
    assert!(out.emitted.iter().all(|(_, batch)| batch.marks.is_some()));
    operator.shed(usize::MAX).expect("sheds");
    let mut out = Capture::default();
    operator.step(Event::Batch { input: 0, batch: batch(&rows(20), marks(20)) }, &mut out).expect("steps");
    operator.step(Event::Watermark(TimeDomain::Event, Watermark(35)), &mut out).expect("steps");
    assert_eq!((out.emitted.len(), out.advanced.len()), (0, 0), "both wait for the round");
    operator.catch_up(&mut out).expect("catches up");
    assert!(out.emitted.iter().all(|(_, batch)| batch.marks.is_none()));
    assert_eq!(out.emitted.iter().map(|(_, batch)| batch.len()).sum::<usize>(), 20);
    assert_eq!(out.advanced, [(TimeDomain::Event, Watermark(35))]);
}
