//! Which joins hold one of their sides in every task, and let the other pass by: those of a hinted table that ends by itself.

use super::super::broadcast::hinted;
use super::Lowering;
use super::join::Side;
use datafusion_expr::Join;
use millstream_core::{Error, Result};
use millstream_dataflow::graph::{Changes, Exchange, Input, JoinKind, JoinScope, NodeKind};
use std::collections::{BTreeMap, BTreeSet};

/// What has been hinted at, and what waits for what.
#[derive(Debug, Default)]
pub struct Hints {
    /// Tables hinted at that no join has taken yet, innermost last.
    open: Vec<String>,
    /// By source node: the sources that have to end before it is read.
    waits: BTreeMap<usize, BTreeSet<usize>>,
}

impl Hints {
    /// A hinted table has been met.
    pub fn met(&mut self, name: &str) {
        self.open.push(name.to_owned());
    }

    /// # Errors
    /// A hint that no join has taken.
    pub fn end(&mut self) -> Result<()> {
        match self.open.pop() {
            None => Ok(()),
            Some(name) => Err(wrong(&name, "nothing is joined to it by its rows alone", "take the hint out")),
        }
    }

    /// Whether a source waits for one of `others`, be it by way of others.
    fn waits_for(&self, source: usize, others: &BTreeSet<usize>) -> bool {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![source]);
        while let Some(source) = todo.pop() {
            if others.contains(&source) {
                return true;
            }
            if seen.insert(source) {
                todo.extend(self.waits.get(&source).into_iter().flatten());
            }
        }
        false
    }
}

fn wrong(name: &str, what: &str, remedy: &str) -> Error {
    Error::sql(format!("BROADCAST({name}): {what}")).remedy(remedy)
}

impl Lowering<'_, '_> {
    /// The hinted side of a join, by its name.
    fn hinted_side(&mut self, j: &Join) -> Result<Option<(usize, String)>> {
        let (left, right) = (hinted(&j.left), hinted(&j.right));
        let (side, name) = match (left, right) {
            (None, None) => return Ok(None),
            (Some(_), Some(r)) => {
                return Err(wrong(&r.name, "both sides of its join are hinted", "hint at the smaller one alone"));
            }
            (Some(l), None) => (0, l.name.clone()),
            (None, Some(r)) => (1, r.name.clone()),
        };
        self.hints.open.retain(|open| *open != name);
        Ok(Some((side, name)))
    }

    /// # Errors
    /// A hint at a side of a join that forgets its rows by itself: `what`.
    pub fn no_hint(&mut self, j: &Join, what: &str) -> Result<()> {
        match self.hinted_side(j)? {
            None => Ok(()),
            Some((_, name)) => Err(wrong(&name, &format!("{what} forgets its rows by itself"), "take the hint out")),
        }
    }

    /// The scope of a join one side of which is hinted at; `None`: none is.
    ///
    /// # Errors
    /// A hint that cannot be followed.
    pub fn broadcast(&mut self, sides: [&Side; 2], j: &Join, kind: JoinKind) -> Result<Option<JoinScope>> {
        let Some((small, name)) = self.hinted_side(j)? else { return Ok(None) };
        let outer = match (kind, small) {
            (JoinKind::Full, _) => Some("FULL JOIN"),
            (JoinKind::Left, 0) => Some("LEFT JOIN"),
            (JoinKind::Right, 1) => Some("RIGHT JOIN"),
            (JoinKind::Semi | JoinKind::Anti | JoinKind::Mark, 0) => Some("IN or EXISTS"),
            _ => None,
        };
        if let Some(outer) = outer {
            let what = format!("its own rows come out of this {outer}, once for each task that has them");
            return Err(wrong(&name, &what, "hint at the other side, or take the hint out"));
        }
        let ends = self.sources_of(sides[small].rel.node, false);
        let waits = self.sources_of(sides[1 - small].rel.node, true);
        for source in &ends {
            let NodeKind::Source(source) = &self.graph.nodes[*source].kind else { continue };
            if !self.connectors.open_source(&source.table)?.bounded() {
                let what = format!("`{}` never ends, and the other side would wait for its end", source.table.name);
                let remedy = "take the hint out; a table that changes is joined FOR SYSTEM_TIME AS OF a time";
                return Err(wrong(&name, &what, remedy));
            }
        }
        if let Some(source) = ends.iter().find(|end| self.hints.waits_for(**end, &waits)) {
            let table = match &self.graph.nodes[*source].kind {
                NodeKind::Source(source) => source.table.name.clone(),
                _ => "VALUES".to_owned(),
            };
            let what = format!("the other side waits for the end of `{table}`, which waits for the other side");
            return Err(wrong(&name, &what, "take the hint out"));
        }
        for source in waits {
            self.hints.waits.entry(source).or_default().extend(&ends);
        }
        let retracts = self.graph.nodes[sides[small].rel.node].changes != Changes::Insert;
        Ok(Some(JoinScope::Broadcast { small, retracts }))
    }

    /// The sources before a node. `that_bring`: only those whose rows make it emit any, not those of small sides on the way.
    fn sources_of(&self, node: usize, that_bring: bool) -> BTreeSet<usize> {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![node]);
        while let Some(node) = todo.pop() {
            if seen.insert(node) {
                let brings = |i: &&Input| !that_bring || i.exchange != Exchange::Broadcast;
                todo.extend(self.graph.nodes[node].inputs.iter().filter(brings).map(|i| i.node));
            }
        }
        seen.retain(|n| self.graph.nodes[*n].inputs.is_empty());
        seen
    }
}
