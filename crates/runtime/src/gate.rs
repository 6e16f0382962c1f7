//! Sources that wait: nothing of the large side of a broadcast join is read before every task has all of the small side.
//!
//! ```text
//!  small source ─▶ ... ─▶ End, End, End   at each channel of each task of the join ──▶ the gate is open
//!  large source    waits ───────────────────────────────────────────────────────────▶ is read
//! ```
//!
//! So the large side need not be held in memory meanwhile. Planning sees to it that no source waits for itself.

use crate::exchange::Signal;
use crate::placement::{Placement, Work};
use millstream_dataflow::graph::{Exchange, Join, JoinScope, NodeKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// In front of the sources of one join.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The small side's input.
    small: usize,
    /// Channels of it, over all tasks, that have neither ended nor stopped.
    missing: AtomicUsize,
}

impl Gate {
    pub fn is_open(&self) -> bool {
        self.missing.load(Ordering::Acquire) == 0
    }

    /// Takes note of a signal that has come to a task of the join.
    pub fn on(&self, input: usize, signal: &Signal) {
        if input == self.small && matches!(signal, Signal::End | Signal::Stop) {
            self.missing.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The gates of a job, shared by its workers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gates {
    /// By the join's node.
    of_join: BTreeMap<usize, Arc<Gate>>,
    /// By the source's node: the joins that it waits for.
    of_source: BTreeMap<usize, Vec<usize>>,
}

impl Gates {
    /// `dry`: tasks by (stage, task) that do not run.
    pub fn new(placement: &Placement, dry: &BTreeSet<(usize, usize)>) -> Gates {
        let mut gates = Gates::default();
        let running = |node: usize| {
            let node = &placement.nodes[node];
            (0..node.tasks).filter(|task| !dry.contains(&(node.stage, *task))).count()
        };
        for (join, node) in placement.nodes.iter().enumerate() {
            let Some(small) = small_input(&node.work) else { continue };
            let from = &node.inputs[small];
            let missing = match from.exchange {
                Exchange::Forward => running(join),
                Exchange::Single => running(from.node),
                Exchange::Hash(_) | Exchange::Broadcast => running(from.node) * running(join),
            };
            gates.of_join.insert(join, Arc::new(Gate { small, missing: AtomicUsize::new(missing) }));
            for source in sources(placement, node.inputs[1 - small].node) {
                gates.of_source.entry(source).or_default().push(join);
            }
        }
        gates
    }

    pub fn of_join(&self, node: usize) -> Option<Arc<Gate>> {
        self.of_join.get(&node).cloned()
    }

    /// What a source waits for.
    pub fn of_source(&self, node: usize) -> Vec<Arc<Gate>> {
        let joins = self.of_source.get(&node).into_iter().flatten();
        joins.filter_map(|join| self.of_join(*join)).collect()
    }
}

/// The small input of a node, if it is a broadcast join.
pub(crate) fn small_input(work: &Work) -> Option<usize> {
    match work {
        Work::Node { kind: NodeKind::Join(Join { scope: JoinScope::Broadcast { small, .. }, .. }), .. } => Some(*small),
        _ => None,
    }
}

/// The sources whose rows make a node emit any: not those of small sides on the way.
fn sources(placement: &Placement, node: usize) -> BTreeSet<usize> {
    let (mut seen, mut todo) = (BTreeSet::new(), vec![node]);
    while let Some(node) = todo.pop() {
        if seen.insert(node) {
            let node = &placement.nodes[node];
            let small = small_input(&node.work);
            todo.extend(node.inputs.iter().enumerate().filter(|(i, _)| Some(*i) != small).map(|(_, from)| from.node));
        }
    }
    seen.retain(|n| placement.nodes[*n].inputs.is_empty());
    seen
}
