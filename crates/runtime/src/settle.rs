//! Brings what several tasks remembered of one node to one watermark, so that one task can go on with it.
//!
//! ```text
//!  saved task 0, at 12:05 ─┐ its share in an operator of its own, what was under way to it, then up to 12:07 ─┐
//!  saved task 1, at 12:07 ─┘                                                                                  ├─▶ joined, at 12:07
//!                            what comes out on the way is emitted first ◀──────────────────────────────────────┘
//! ```
//!
//! Tasks that a barrier has lined up stand at one watermark. A barrier that has overtaken found them at different ones:
//! then one task has fired windows that another has not. Were their shares simply joined, those windows would fire twice or
//! never. A watermark that one task has been handed was promised by everyone upstream, so the others may be brought up to it.

use crate::chain::keep_within;
use crate::checkpoint::{Mine, Restored};
use crate::sabotage::{Bug, on};
use millstream_checkpoint::manifest::NodeState;
use millstream_core::{Batch, Result, TimeDomain, Watermark};
use millstream_dataflow::operator::{Event, LateRows, Operator, Output, Watermarks};
use millstream_state::table::{Saver, alive};

/// What came out while shares were brought to one watermark.
#[derive(Default)]
pub(crate) struct Settled {
    pub emitted: Vec<(usize, Batch)>,
    pub late: Vec<LateRows>,
}

impl Output for Settled {
    fn emit(&mut self, port: usize, batch: Batch) -> Result<()> {
        self.emitted.push((port, batch));
        Ok(())
    }

    /// The joined operator hands it on when it is handed the next one.
    fn advance(&mut self, _: TimeDomain, _: Watermark) -> Result<()> {
        Ok(())
    }

    fn set_aside(&mut self, late: LateRows) -> Result<()> {
        self.late.push(late);
        Ok(())
    }
}

/// Loads all shares of a node into `operator`, as far as they are `mine`, at the furthest of their watermarks.
/// `under_way`: this task's part of what was under way to a saved task. `make`: an operator like `operator`.
pub(crate) fn settle(
    restored: &Restored,
    node: &NodeState,
    operator: &mut dyn Operator,
    mine: &Mine<'_>,
    make: &dyn Fn() -> Result<Box<dyn Operator>>,
    under_way: &dyn Fn(usize) -> Result<Vec<(usize, Batch)>>,
) -> Result<Settled> {
    let mut settled = Settled::default();
    let to = Restored::furthest(node);
    for task in saved_tasks(node) {
        let at = Restored::watermarks_of(node, task);
        let batches = under_way(task)?;
        if at == to && batches.is_empty() {
            restored.load(node, operator, task, mine)?;
            continue;
        }
        let mut share = make()?;
        restored.load(node, share.as_mut(), task, mine)?;
        share.resume(at)?;
        for (input, batch) in batches {
            share.step(Event::Batch { input, batch }, &mut settled)?;
        }
        if !on(Bug::SharesNotSettled) {
            bring(share.as_mut(), at, to, &mut settled)?;
        }
        let mut saver = Saver::new(true);
        share.save(&mut saver)?;
        let pieces = saver.into_pieces();
        for def in share.tables() {
            let rows: Vec<_> = pieces.iter().filter(|p| p.table.name == def.name).map(|p| p.rows.clone()).collect();
            for rows in alive(&def, &rows)? {
                operator.load(&def.name, def.version, &rows)?;
                keep_within(mine.share, operator)?;
            }
        }
    }
    operator.resume(to)?;
    Ok(settled)
}

fn bring(operator: &mut dyn Operator, from: Watermarks, to: Watermarks, out: &mut Settled) -> Result<()> {
    for domain in [TimeDomain::Event, TimeDomain::Processing] {
        if to.of(domain) > from.of(domain) {
            operator.step(Event::Watermark(domain, to.of(domain)), out)?;
        }
    }
    operator.flush(out)
}

/// The tasks that saved anything of a node.
pub(crate) fn saved_tasks(node: &NodeState) -> Vec<usize> {
    let chains = node.tables.iter().flat_map(|t| t.chains.iter().map(|c| c.task));
    let mut tasks: Vec<usize> = node.shares.iter().map(|s| s.task).chain(chains).collect();
    tasks.sort_unstable();
    tasks.dedup();
    tasks
}
