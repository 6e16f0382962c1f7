//! In which rounds the rows of a batch are added, so that a pane comes with the very row that completes it.
//!
//! ```text
//!  EVERY 2 ROWS     a1 b1 a2 a3 a4 b2 a5
//!  round 0          a1 b1 a2 b2 ─▶ panes of a and b
//!  round 1          a3 a4       ─▶ pane of a
//!  round 2          a5
//! ```
//!
//! Rows of one key keep their order; between keys there is none to keep.

use super::{Group, Open, Rules};
use crate::graph::Trigger;

/// The rows and panes of a batch. Without panes there is one round.
pub(super) struct Rounds {
    rows: usize,
    rounds: Vec<Round>,
}

#[derive(Default)]
struct Round {
    rows: Vec<u32>,
    /// Groups whose pane is due when these rows have been added.
    due: Vec<u32>,
}

impl Rounds {
    /// `ids`: the group of each row; `closes`: whether the window has closed before this row. Counts the rows of each group
    /// and notes whose on-time panes are told.
    pub fn of(rules: &Rules, window: &mut Open, ids: &[u32], closes: impl Fn(usize) -> bool) -> Rounds {
        let Open { groups, waiting, closed, some_closed, .. } = window;
        let list = |group: &mut Group, id: u32, waiting: &mut Vec<u32>| {
            if !group.listed {
                group.listed = true;
                waiting.push(id);
            }
        };
        let held_back = |late: bool| matches!(rules.trigger(late), None | Some(Trigger::Every(_)));
        let all_early = !*closed && !*some_closed && !(0..ids.len()).any(&closes);
        if (*closed || all_early) && held_back(*closed) {
            for id in ids {
                let group = &mut groups[*id as usize];
                group.pending += 1;
                list(group, *id, waiting);
            }
            return Rounds { rows: ids.len(), rounds: Vec::new() };
        }
        let mut rounds: Vec<Round> = vec![Round::default()];
        // Row by row: a row may complete a pane.
        for (row, id) in ids.iter().enumerate() {
            let group = &mut groups[*id as usize];
            let late = *closed || group.closed || closes(row);
            if late && !*closed && !group.closed {
                (group.closed, *some_closed) = (true, true);
                if group.pending > 0 {
                    Self::end_round(&mut rounds, group, *id);
                }
            }
            rounds[group.round as usize].rows.push(row as u32);
            group.pending += 1;
            match rules.due_by_row(late, group.pending) {
                true => Self::end_round(&mut rounds, group, *id),
                false => list(group, *id, waiting),
            }
        }
        ids.iter().for_each(|id| groups[*id as usize].round = 0);
        Rounds { rows: ids.len(), rounds }
    }

    fn end_round(rounds: &mut Vec<Round>, group: &mut Group, id: u32) {
        rounds[group.round as usize].due.push(id);
        group.pending = 0;
        group.round += 1;
        if rounds.len() == group.round as usize {
            rounds.push(Round::default());
        }
    }

    /// The rows in the order in which they are added; `None`: as they stand.
    pub fn order(&self) -> Option<Vec<u32>> {
        let order: Vec<u32> = self.rounds.iter().flat_map(|round| round.rows.iter().copied()).collect();
        (!order.is_sorted()).then_some(order)
    }

    /// Of each round: how many rows, and whose panes are due behind them.
    pub fn each(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let all = self.rounds.is_empty().then_some((self.rows, &[][..]));
        all.into_iter().chain(self.rounds.iter().map(|round| (round.rows.len(), round.due.as_slice())))
    }
}
