//! A Top-N that sorts all its rows anew after each of them, and the operator held against it.

use super::tests::{always, build};
use crate::graph::{self, RankFunction, SortColumn, StateTtl, TopNScope};
use crate::operator::{Event, Operator};
use crate::testing::{Capture, Crew, Table, Timeline, pressed_if, render, timestamp};
use arrow::array::{Int8Array, Int64Array};
use arrow::datatypes::{DataType, Field};
use millstream_core::{Batch, ChangeKind, Millis, TimeDomain, Watermark};
use millstream_state::tier::MemorySpace;
use proptest::prelude::*;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A row of the model: what stands in each column, as a script writes it. NULL sorts as asked, all else by value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    cat: i64,
    score: Option<i64>,
    name: Option<String>,
    id: i64,
    ts: Millis,
}

const COLUMNS: [(&str, DataType); 7] = [
    ("cat", DataType::Int64),
    ("score", DataType::Int64),
    ("name", DataType::Utf8),
    ("id", DataType::Int64),
    ("ts", DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)),
    ("start", DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)),
    ("end", DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)),
];

const WINDOW: Millis = 20;

impl Row {
    fn end(&self) -> Millis {
        self.ts.div_euclid(WINDOW) * WINDOW + WINDOW
    }

    fn texts(&self) -> Vec<String> {
        let or_null = |text: Option<String>| text.unwrap_or_else(|| "null".to_owned());
        vec![
            self.cat.to_string(),
            or_null(self.score.map(|s| s.to_string())),
            or_null(self.name.clone()),
            self.id.to_string(),
            self.ts.to_string(),
            (self.end() - WINDOW).to_string(),
            self.end().to_string(),
        ]
    }

    fn by(&self, other: &Row, sort: SortColumn) -> Ordering {
        fn nullable<T: Ord>(a: &Option<T>, b: &Option<T>, sort: SortColumn) -> Ordering {
            let forward = |o: Ordering| if sort.descending { o.reverse() } else { o };
            match (a, b) {
                (Some(a), Some(b)) => forward(a.cmp(b)),
                (None, None) => Ordering::Equal,
                (None, Some(_)) if sort.nulls_first => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) if sort.nulls_first => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
            }
        }
        match sort.column {
            0 => nullable(&Some(self.cat), &Some(other.cat), sort),
            1 => nullable(&self.score, &other.score, sort),
            2 => nullable(&self.name, &other.name, sort),
            3 => nullable(&Some(self.id), &Some(other.id), sort),
            _ => nullable(&Some(self.ts), &Some(other.ts), sort),
        }
    }
}

struct Model<'a> {
    spec: &'a graph::TopN,
    partitions: BTreeMap<(i64, Millis), (Vec<Row>, Option<Millis>)>,
    /// Rows told and not taken back, of all partitions.
    told: Vec<(Row, u64)>,
    late: Vec<Row>,
}

impl Model<'_> {
    fn order(&self, a: &Row, b: &Row) -> Ordering {
        self.sort_order(a, b).then_with(|| self.spec.order.map_or(Ordering::Equal, |_| a.id.cmp(&b.id))).then(a.cmp(b))
    }

    fn sort_order(&self, a: &Row, b: &Row) -> Ordering {
        self.spec.sort.iter().fold(Ordering::Equal, |so_far, sort| so_far.then_with(|| a.by(b, *sort)))
    }

    fn shown(&self, rows: &[Row]) -> Vec<(Row, u64)> {
        let mut rows = rows.to_vec();
        rows.sort_by(|a, b| self.order(a, b));
        let smaller =
            |row: &Row| -> Vec<&Row> { rows.iter().filter(|r| self.sort_order(r, row) == Ordering::Less).collect() };
        let rank = |at: usize, row: &Row| match self.spec.function {
            RankFunction::RowNumber => at as u64 + 1,
            RankFunction::Rank => smaller(row).len() as u64 + 1,
            RankFunction::DenseRank => {
                let mut values = smaller(row);
                values.dedup_by(|a, b| self.sort_order(a, b) == Ordering::Equal);
                values.len() as u64 + 1
            }
        };
        let ranked = rows.iter().enumerate().map(|(at, row)| (row.clone(), rank(at, row)));
        ranked.filter(|(_, rank)| (self.spec.from..=self.spec.to).contains(rank)).collect()
    }

    fn take(&mut self, row: &Row, kind: ChangeKind, mark: Watermark) {
        let cat = if self.spec.partition.is_empty() { 0 } else { row.cat };
        let (window, ttl) = match &self.spec.scope {
            TopNScope::Window { .. } => (row.end(), None),
            TopNScope::Always { ttl, .. } => (0, ttl.clone()),
        };
        if window > 0 && mark.closes(window) {
            self.late.push(row.clone());
            return;
        }
        let (mut rows, mut touched) = self.partitions.remove(&(cat, window)).unwrap_or_default();
        if let (Some(ttl), Some(at)) = (&ttl, touched)
            && mark.0 >= at + ttl.keep
        {
            (rows, touched) = (Vec::new(), None);
        }
        let before = self.shown(&rows);
        match kind {
            ChangeKind::Insert | ChangeKind::UpdateAfter => rows.push(row.clone()),
            _ => {
                if let Some(at) = rows.iter().position(|r| r == row) {
                    rows.remove(at);
                }
            }
        }
        if window == 0 {
            for gone in before {
                let at = self.told.iter().position(|told| *told == gone).expect("what was shown was told");
                self.told.swap_remove(at);
            }
            self.told.extend(self.shown(&rows));
        }
        let touched = Some(touched.map_or(row.ts, |t| t.max(row.ts)));
        self.partitions.insert((cat, window), (rows, touched));
    }

    fn advance(&mut self, to: Watermark) {
        let closed: Vec<_> = self.partitions.keys().filter(|(_, end)| *end > 0 && to.closes(*end)).copied().collect();
        for key in closed {
            let (rows, _) = self.partitions.remove(&key).expect("it was there");
            self.told.extend(self.shown(&rows));
        }
    }

    fn table(&self) -> Vec<String> {
        let text = |(row, rank): &(Row, u64)| {
            let mut texts = row.texts();
            texts.extend(self.spec.rank.is_some().then(|| rank.to_string()));
            texts.join(" ")
        };
        let mut table: Vec<String> = self.told.iter().map(text).collect();
        table.sort();
        table
    }
}

#[derive(Clone, Copy)]
enum Name {
    PartitionAndRank,
    Rank,
    Row,
}

/// The table that changes without the row before them leave behind, where something names the rows.
#[derive(Default)]
struct Named {
    /// Name, and of a name: the row and how often.
    rows: BTreeMap<String, (String, usize)>,
}

impl Named {
    /// `by`: the partition and the rank name a row, or the rank alone, or the row itself.
    fn take(&mut self, capture: &Capture, by: Name) {
        for (_, batch) in &capture.emitted {
            for (i, text) in render(&batch.rows, false).into_iter().enumerate() {
                let words: Vec<&str> = text.split(' ').collect();
                let (row, rank) = words.split_at(words.len() - 1);
                let name = match by {
                    Name::PartitionAndRank => format!("{} {}", words[0], rank[0]),
                    Name::Rank => rank[0].to_owned(),
                    Name::Row => row.join(" "),
                };
                let kind = batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(i)));
                let entry = self.rows.entry(name).or_default();
                match kind {
                    ChangeKind::Insert => *entry = (text, entry.1 + 1),
                    ChangeKind::UpdateAfter => {
                        assert!(entry.1 > 0, "+U of a row that is not there: {text}");
                        entry.0 = text;
                    }
                    ChangeKind::Delete => {
                        assert_eq!(entry.0, text, "-D names a row that is not there");
                        entry.1 -= 1;
                    }
                    ChangeKind::UpdateBefore => panic!("nobody asked for the row before"),
                }
            }
        }
    }

    fn table(&self) -> Vec<String> {
        let mut table: Vec<String> =
            self.rows.values().flat_map(|(row, n)| std::iter::repeat_n(row.clone(), *n)).collect();
        table.sort();
        table
    }
}

#[derive(Debug, Clone)]
enum Move {
    Rows(Vec<(Row, bool)>),
    Watermark(Millis),
    Save,
    Crash(usize),
}

fn rows() -> impl Strategy<Value = Row> {
    // Few values, so that rows tie, repeat and meet what takes them back.
    let name = prop::option::weighted(0.8, (0usize..3).prop_map(|n| "abcdefgh".repeat(n * 5) + "z"));
    (0i64..3, prop::option::weighted(0.8, 0i64..4), name, 0i64..3, 0i64..6).prop_map(|(cat, score, name, id, ts)| Row {
        cat,
        score,
        name,
        id,
        ts: ts * 7,
    })
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => prop::collection::vec((rows(), prop::bool::weighted(0.4)), 1..12).prop_map(Move::Rows),
        2 => (0i64..12).prop_map(Move::Watermark),
        1 => Just(Move::Save),
        1 => prop::sample::select(vec![1usize, 2, 7]).prop_map(Move::Crash),
    ];
    prop::collection::vec(one, 1..14)
}

fn sorts() -> impl Strategy<Value = Vec<SortColumn>> {
    let one = (1usize..4, any::<bool>(), any::<bool>()).prop_map(|(column, descending, nulls_first)| SortColumn {
        column,
        descending,
        nulls_first,
    });
    prop::collection::vec(one, 1..3)
}

fn specs() -> impl Strategy<Value = graph::TopN> {
    let function = prop::sample::select(vec![RankFunction::RowNumber, RankFunction::Rank, RankFunction::DenseRank]);
    let scope = prop_oneof![
        4 => any::<bool>().prop_map(always),
        2 => (any::<bool>(), 1i64..30)
            .prop_map(|(retracts, keep)| TopNScope::Always { ttl: Some(StateTtl { keep, times: vec![4] }), retracts }),
        1 => Just(TopNScope::Window { start: 5, end: 6, domain: TimeDomain::Event }),
    ];
    (sorts(), function, 1u64..3, 0u64..4, any::<bool>(), scope, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(sort, function, from, more, ranked, scope, update_before, ordered, whole)| graph::TopN {
            partition: if whole { vec![] } else { vec![0] },
            sort,
            function,
            from,
            to: from + more,
            rank: ranked.then(|| Field::new("rank", DataType::Int64, false)),
            // What TTL leaves behind has no name any more.
            update_before: update_before || matches!(scope, TopNScope::Always { ttl: Some(_), .. }),
            scope,
            order: ordered.then_some(3),
        },
    )
}

/// Plays the moves on an operator and on the model. `cut`: rows in a batch; marks let batches go across watermarks. `every`: how
/// often all memory is to be given back, in steps; 0 for never.
fn play(spec: &graph::TopN, moves: &[Move], cut: usize, tasks: usize, every: usize) {
    let timeline = Timeline::new(&COLUMNS);
    let schema = timeline.schema();
    let space = Arc::<MemorySpace>::default();
    let make = || pressed_if(build(spec, &schema) as Box<dyn Operator>, every, &space);
    let mut crew = Crew::new(&make, tasks);
    let mut model = Model { spec, partitions: BTreeMap::new(), told: Vec::new(), late: Vec::new() };
    let (mut table, mut named, mut late) = (Table::default(), Named::default(), Vec::new());
    let by_name = spec.rank.is_some() && !spec.update_before && !matches!(spec.scope, TopNScope::Window { .. });
    let retracts = matches!(spec.scope, TopNScope::Always { retracts: true, .. });
    let (mut now, mut inserted): (Millis, Vec<Row>) = (0, Vec::new());
    let mut held: Vec<(Row, ChangeKind, Millis)> = Vec::new();
    let mut step = |crew: &mut Crew, held: &mut Vec<(Row, ChangeKind, Millis)>, watermark: Option<Millis>| {
        let mut captures = Vec::new();
        if !held.is_empty() {
            let texts: Vec<Vec<String>> = held.iter().map(|h| h.0.texts()).collect();
            let mut batch = Batch::from(timeline.batch(&texts));
            batch.marks = Some(held.iter().map(|h| h.2).collect::<Int64Array>());
            batch.kinds = retracts.then(|| held.iter().map(|h| h.1 as i8).collect::<Int8Array>());
            held.clear();
            captures.push(crew.step(&spec.partition, Event::Batch { input: 0, batch }));
        }
        if let Some(to) = watermark {
            captures.push(crew.step(&spec.partition, Event::Watermark(TimeDomain::Event, Watermark(to))));
        }
        for capture in captures {
            if by_name {
                let name = match spec.function {
                    RankFunction::RowNumber if spec.partition.is_empty() => Name::Rank,
                    RankFunction::RowNumber => Name::PartitionAndRank,
                    _ => Name::Row,
                };
                named.take(&capture, name);
            } else {
                table.take(&capture);
            }
            late.extend(capture.late.iter().flat_map(|l| render(&l.rows, false)));
        }
        late.sort();
        (if by_name { named.table() } else { table.rows() }, late.clone())
    };
    for m in moves.iter().cloned().chain([Move::Watermark(1_000)]) {
        match m {
            Move::Rows(rows) => {
                for (mut row, removal) in rows {
                    let kind = if removal && retracts { ChangeKind::Delete } else { ChangeKind::Insert };
                    if kind == ChangeKind::Insert {
                        inserted.push(row.clone());
                    } else if row.id > 0 && !inserted.is_empty() {
                        // Mostly a row that was there, and may still be.
                        row = inserted[(row.ts * 31 + row.id * 7 + row.cat) as usize % inserted.len()].clone();
                    }
                    model.take(&row, kind, Watermark(now));
                    held.push((row, kind, now));
                    if held.len() >= cut {
                        step(&mut crew, &mut held, None);
                    }
                }
                // With large cuts, the rows wait for those behind the next watermark.
                if cut <= 100 {
                    let (got, _) = step(&mut crew, &mut held, None);
                    assert_eq!(got, model.table(), "after rows");
                }
            }
            Move::Watermark(by) => {
                now += by;
                model.advance(Watermark(now));
                if cut <= 100 || by == 1_000 {
                    let (got, late) = step(&mut crew, &mut held, Some(now));
                    assert_eq!(got, model.table(), "at watermark {now}");
                    let mut wanted: Vec<String> = model.late.iter().map(|row| row.texts().join(" ")).collect();
                    wanted.sort();
                    assert_eq!(late, wanted, "late rows at watermark {now}");
                }
            }
            Move::Save => crew.save(),
            Move::Crash(tasks) => crew = crew.crash(&make, tasks),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn what_is_told_is_what_sorting_all_rows_would_show(
        spec in specs(),
        moves in moves(),
        cut in prop::sample::select(vec![1usize, 3, 100, 10_000]),
        tasks in prop::sample::select(vec![1usize, 2, 7]),
        every in 0usize..4,
    ) {
        play(&spec, &moves, cut, tasks, every);
    }
}

#[test]
fn columns_are_as_the_model_writes_them() {
    assert_eq!(COLUMNS[4].1, timestamp());
}
