//! Deduplication row by row, as its words say, and the operator held against it.

use super::tests::build;
use crate::graph::{self, Keep, StateTtl};
use crate::operator::Event;
use crate::testing::{Crew, Table, Timeline, pressed_if, render, timestamp};
use arrow::array::Int64Array;
use arrow::datatypes::DataType;
use millstream_core::{Batch, Millis, TimeDomain, Watermark};
use millstream_state::tier::MemorySpace;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    ts: Millis,
    id: i64,
    who: Option<String>,
    live: Millis,
}

impl Row {
    fn texts(&self) -> Vec<String> {
        let who = self.who.clone().unwrap_or_else(|| "null".to_owned());
        vec![who, self.id.to_string(), self.ts.to_string(), self.live.to_string()]
    }

    /// Without a tie column the other columns decide, in their order.
    fn order(&self, tie: bool) -> (Millis, Option<i64>, Option<String>, i64, Millis) {
        (self.ts, tie.then_some(self.id), self.who.clone(), self.id, self.live)
    }
}

#[derive(Clone)]
enum State {
    Waiting(Row),
    Told(Millis),
    Kept(Row),
}

struct Model<'a> {
    spec: &'a graph::Deduplicate,
    states: BTreeMap<(Option<String>, i64), State>,
    told: Vec<Row>,
    late: Vec<Row>,
}

impl Model<'_> {
    fn live(&self, row: &Row) -> Millis {
        match &self.spec.ttl {
            Some(ttl) if ttl.times[0] == 3 => row.live,
            _ => row.ts,
        }
    }

    fn forgotten(&self, touched: Millis, mark: Millis) -> bool {
        self.spec.ttl.as_ref().is_some_and(|ttl| mark >= touched + ttl.keep)
    }

    fn take(&mut self, row: &Row, mark: Millis) {
        let who = row.who.clone().filter(|_| self.spec.keys.contains(&0));
        let key = (who, if self.spec.keys.contains(&1) { row.id } else { 0 });
        let mut state = self.states.remove(&key);
        if let Some(State::Waiting(first)) = &state
            && first.ts <= mark
        {
            self.told.push(first.clone());
            state = Some(State::Told(self.live(first)));
        }
        let touched = match &state {
            Some(State::Told(at)) => Some(*at),
            Some(State::Kept(kept)) => Some(self.live(kept)),
            _ => None,
        };
        if touched.is_some_and(|at| self.forgotten(at, mark)) {
            state = None;
        }
        let tie = self.spec.order.is_some();
        let by_time = self.spec.domain == TimeDomain::Event;
        let after = match (self.spec.keep, state) {
            (Keep::First, Some(State::Told(at))) => Some(State::Told(at)),
            (Keep::First, None) if !by_time => {
                self.told.push(row.clone());
                Some(State::Told(self.live(row)))
            }
            (Keep::First, state) if row.ts <= mark => {
                self.late.push(row.clone());
                state
            }
            (Keep::First, Some(State::Waiting(first))) if first.order(tie) <= row.order(tie) => {
                Some(State::Waiting(first))
            }
            (Keep::First, _) => Some(State::Waiting(row.clone())),
            (Keep::Last, Some(State::Kept(last))) if by_time && row.order(tie) < last.order(tie) => {
                Some(State::Kept(last))
            }
            (Keep::Last, before) => {
                if let Some(State::Kept(last)) = before {
                    let at = self.told.iter().position(|told| *told == last).expect("what was kept was told");
                    self.told.swap_remove(at);
                }
                self.told.push(row.clone());
                Some(State::Kept(row.clone()))
            }
        };
        self.states.extend(after.map(|state| (key, state)));
    }

    fn advance(&mut self, to: Millis) {
        let live = |row: &Row| self.live(row);
        let told: Vec<_> = self
            .states
            .iter()
            .filter_map(|(key, state)| match state {
                State::Waiting(row) if row.ts <= to => Some((key.clone(), row.clone(), live(row))),
                _ => None,
            })
            .collect();
        for (key, row, touched) in told {
            self.told.push(row);
            self.states.insert(key, State::Told(touched));
        }
    }

    /// What is left in the end: the rows, or of each key the last one.
    fn table(&self) -> Vec<String> {
        let mut table: Vec<String> = self.told.iter().map(|row| row.texts().join(" ")).collect();
        table.sort();
        table
    }
}

#[derive(Debug, Clone)]
enum Move {
    Rows(Vec<Row>),
    Watermark(Millis),
    Save,
    Crash(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let who = prop::option::weighted(0.8, prop::sample::select(vec!["a", "b", "longer than a word"]));
    let row = (0i64..60, 0i64..3, who, 0i64..60).prop_map(|(ts, id, who, live)| Row {
        ts,
        id,
        who: who.map(|w| w.replace(' ', "_")),
        live,
    });
    let one = prop_oneof![
        8 => prop::collection::vec(row, 1..12).prop_map(Move::Rows),
        3 => (0i64..15).prop_map(Move::Watermark),
        1 => Just(Move::Save),
        1 => prop::sample::select(vec![1usize, 2, 7]).prop_map(Move::Crash),
    ];
    prop::collection::vec(one, 1..16)
}

fn specs() -> impl Strategy<Value = graph::Deduplicate> {
    let keys = prop::sample::select(vec![vec![0], vec![0, 1], vec![]]);
    let ttl = prop::option::of((1i64..30, 2usize..4));
    (keys, any::<bool>(), any::<bool>(), ttl, any::<bool>(), any::<bool>()).prop_map(
        |(keys, first, by_time, ttl, update_before, tie)| graph::Deduplicate {
            keys,
            time: 2,
            domain: if by_time { TimeDomain::Event } else { TimeDomain::Processing },
            keep: if first { Keep::First } else { Keep::Last },
            // A row that was told before its key was forgotten is not updated any more.
            update_before: update_before || ttl.is_some(),
            ttl: ttl.map(|(keep, time)| StateTtl { keep, times: vec![time] }),
            order: tie.then_some(1),
        },
    )
}

/// `every`: how often all memory is to be given back, in steps; 0 for never.
fn play(spec: &graph::Deduplicate, moves: &[Move], cut: usize, tasks: usize, every: usize) {
    let columns = [("who", DataType::Utf8), ("id", DataType::Int64), ("ts", timestamp()), ("live", timestamp())];
    let timeline = Timeline::new(&columns);
    let schema = timeline.schema();
    let space = Arc::<MemorySpace>::default();
    let make = || pressed_if(build(spec, &schema), every, &space);
    let mut crew = Crew::new(&make, tasks);
    let mut model = Model { spec, states: BTreeMap::new(), told: Vec::new(), late: Vec::new() };
    let (mut table, mut last, mut late) = (Table::default(), BTreeMap::new(), Vec::new());
    let (mut now, mut held): (Millis, Vec<(Row, Millis)>) = (0, Vec::new());
    let mut step = |crew: &mut Crew, held: &mut Vec<(Row, Millis)>, watermark: Option<Millis>| {
        let mut captures = Vec::new();
        if !held.is_empty() {
            let texts: Vec<Vec<String>> = held.iter().map(|h| h.0.texts()).collect();
            let mut batch = Batch::from(timeline.batch(&texts));
            batch.marks = Some(held.iter().map(|h| h.1).collect::<Int64Array>());
            held.clear();
            captures.push(crew.step(&spec.keys, Event::Batch { input: 0, batch }));
        }
        if let Some(to) = watermark {
            captures.push(crew.step(&spec.keys, Event::Watermark(TimeDomain::Event, Watermark(to))));
        }
        for capture in captures {
            if spec.update_before {
                table.take(&capture);
            } else {
                for text in capture.emitted.iter().flat_map(|(_, b)| render(&b.rows, false)) {
                    let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
                    let key: Vec<String> = match spec.keep {
                        Keep::First => vec![words.join(" "), last.len().to_string()],
                        Keep::Last => spec.keys.iter().map(|k| words[*k].clone()).collect(),
                    };
                    last.insert(key, text);
                }
            }
            late.extend(capture.late.iter().flat_map(|l| render(&l.rows, false)));
        }
        late.sort();
        let mut left: Vec<String> = last.values().cloned().chain(table.rows()).collect();
        left.sort();
        (left, late.clone())
    };
    for m in moves.iter().cloned().chain([Move::Watermark(1_000)]) {
        match m {
            Move::Rows(rows) => {
                for row in rows {
                    model.take(&row, now);
                    held.push((row, now));
                    if held.len() >= cut {
                        step(&mut crew, &mut held, None);
                    }
                }
                if cut <= 100 {
                    assert_eq!(step(&mut crew, &mut held, None).0, model.table(), "after rows");
                }
            }
            Move::Watermark(by) => {
                now += by;
                model.advance(now);
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
    fn what_is_told_is_what_the_words_say(
        spec in specs(),
        moves in moves(),
        cut in prop::sample::select(vec![1usize, 3, 100, 10_000]),
        tasks in prop::sample::select(vec![1usize, 2, 7]),
        every in 0usize..4,
    ) {
        play(&spec, &moves, cut, tasks, every);
    }
}
