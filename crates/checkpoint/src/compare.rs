//! Compares what a checkpoint holds with what a program remembers, before anything is restored.
//!
//! ```text
//!  checkpoint   src-1  agg-2(slices, sessions)  out-3
//!                 │      │                        ╎
//!  program      src-1  agg-2(slices)   agg-9    (gone)
//!               kept   kept; sessions  new      its commits are dropped
//!                      is dropped
//! ```
//!
//! A query that was edited keeps the state of what did not change, since nodes and tables have stable ids. What the
//! program has no place for would be lost in silence, so that is refused until a user says that it may go; a table whose
//! columns have changed cannot be read at all and is always refused.

use crate::manifest::{Manifest, NodeState, TableState};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;

/// The option by which a user lets state go.
pub const ALLOW_DROPPED: &str = "--allow-dropped-state";

/// A node of the program that is to be started. Sinks count, and so do the outputs of rows set aside, under the ids that
/// manifests have for them (`$late`, `$bad`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeShape {
    pub id: String,
    pub label: String,
    pub tables: Vec<TableShape>,
    pub is_source: bool,
    pub is_sink: bool,
}

/// A table of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableShape {
    pub name: String,
    pub version: u32,
    /// As in [`TableState::columns`].
    pub columns: Vec<String>,
    pub key: usize,
}

/// What becomes of one node's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub id: String,
    pub label: String,
    /// `table slices, 1200 rows`, `4 positions`, `commits of 2 writers`.
    pub what: String,
    /// Where it may have gone, or how it has changed.
    pub note: Option<String>,
}

/// What becomes of the state of a checkpoint. As text: one line for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    pub kept: Vec<Line>,
    /// Starts empty, or from the beginning.
    pub new: Vec<Line>,
    /// Has no place in the program.
    pub dropped: Vec<Line>,
    /// Cannot be read by the program.
    pub changed: Vec<Line>,
}

/// Compares a checkpoint with the program. Nodes that remember nothing are not mentioned.
pub fn compare(saved: &Manifest, program: &[NodeShape]) -> Comparison {
    let by_id: BTreeMap<&str, &NodeShape> = program.iter().map(|n| (n.id.as_str(), n)).collect();
    let saved_ids: Vec<&str> = saved.nodes.iter().map(|n| n.id.as_str()).collect();
    let new_nodes: Vec<&NodeShape> = program.iter().filter(|n| !saved_ids.contains(&n.id.as_str())).collect();
    let mut result = Comparison::default();
    for node in &saved.nodes {
        let guess = by_id.get(node.id.as_str()).map_or_else(|| moved_to(node, &new_nodes), |_| None);
        compare_node(node, by_id.get(node.id.as_str()).copied(), guess, &mut result);
    }
    for node in new_nodes {
        if node.is_source {
            result.new.push(line(&node.id, &node.label, "reads from the beginning", None));
        }
        for table in &node.tables {
            result.new.push(line(&node.id, &node.label, &format!("table `{}` starts empty", table.name), None));
        }
    }
    for sink in &saved.sinks {
        let writers = sink.committables.len();
        if writers > 0 && !by_id.get(sink.id.as_str()).is_some_and(|n| n.is_sink) {
            let what = format!("output of {writers} writers that is not visible yet");
            result.dropped.push(line(&sink.id, &sink.table, &what, None));
        }
    }
    result
}

fn compare_node(saved: &NodeState, now: Option<&NodeShape>, moved: Option<String>, into: &mut Comparison) {
    let say = |what: &str, note: Option<String>| line(&saved.id, &saved.label, what, note);
    if !saved.partitions.is_empty() {
        let what = format!("{} positions of a source", saved.partitions.len());
        match now {
            None => into.dropped.push(say(&what, moved.clone())),
            Some(now) if now.is_source => into.kept.push(say(&what, None)),
            Some(now) => into.changed.push(say(&what, Some(format!("`{}` is no source now", now.label)))),
        }
    }
    for table in &saved.tables {
        let rows: u64 = table.chains.iter().flat_map(|c| &c.pieces).map(|p| p.rows).sum();
        let what = format!("table `{}`, {rows} rows in its files", table.name);
        let shape = now.and_then(|now| now.tables.iter().find(|t| t.name == table.name));
        match shape {
            Some(shape) => match difference(table, shape) {
                Some(how) => into.changed.push(say(&what, Some(how))),
                None => into.kept.push(say(&what, None)),
            },
            // Nothing is lost with a table in which there never was anything.
            None if rows == 0 => {}
            None => {
                let known = now.into_iter().flat_map(|now| now.tables.iter().map(|t| t.name.as_str()));
                let renamed = did_you_mean(&table.name, known).map(|t| format!("has it become `{t}`?"));
                into.dropped.push(say(&what, renamed.or_else(|| moved.clone())));
            }
        }
    }
    let under_way: u64 = saved.in_flight.iter().map(|f| f.file.rows).sum();
    if under_way > 0 && now.is_none() {
        into.dropped.push(say(&format!("{under_way} rows on their way to it"), moved.clone()));
    }
    for table in now.into_iter().flat_map(|now| &now.tables) {
        if !saved.tables.iter().any(|t| t.name == table.name) {
            into.new.push(say(&format!("table `{}` starts empty", table.name), None));
        }
    }
}

/// Why the program cannot read a table; `None`: it can.
fn difference(saved: &TableState, now: &TableShape) -> Option<String> {
    if saved.version > now.version {
        return Some(format!("saved in version {}, this program knows {}", saved.version, now.version));
    }
    // An operator reads all earlier versions of its tables, whatever their columns were.
    if saved.version < now.version {
        return None;
    }
    if saved.columns != now.columns {
        return Some(format!(
            "its columns were ({}), now they are ({})",
            saved.columns.join(", "),
            now.columns.join(", ")
        ));
    }
    (saved.key != now.key).then(|| {
        let key = |n: usize| {
            if n == 0 { "nothing".to_owned() } else { saved.columns[..n.min(saved.columns.len())].join(", ") }
        };
        format!("its rows were named by {}, now by {}", key(saved.key), key(now.key))
    })
}

/// The new node that a vanished one may have become: of a similar id, or one that does the same.
fn moved_to(gone: &NodeState, new: &[&NodeShape]) -> Option<String> {
    let by_id = did_you_mean(&gone.id, new.iter().map(|n| n.id.as_str()));
    let found = by_id.or_else(|| {
        let like = did_you_mean(&gone.label, new.iter().map(|n| n.label.as_str()))?;
        new.iter().find(|n| n.label == like).map(|n| n.id.as_str())
    })?;
    Some(format!("has it become `{found}`?"))
}

fn line(id: &str, label: &str, what: &str, note: Option<String>) -> Line {
    Line { id: id.to_owned(), label: label.to_owned(), what: what.to_owned(), note }
}

impl Comparison {
    /// Whether the program takes over everything and adds nothing.
    pub fn same(&self) -> bool {
        self.new.is_empty() && self.dropped.is_empty() && self.changed.is_empty()
    }

    /// # Errors
    /// State would be lost that nobody has let go, or cannot be read.
    pub fn accept(&self, allow_dropped: bool) -> Result<()> {
        let list = |lines: &[Line]| lines.iter().map(|l| format!("\n  {l}")).collect::<String>();
        if !self.changed.is_empty() {
            return Err(Error::usage(format!("the checkpoint does not fit this query:{}", list(&self.changed))).remedy(
                "start from scratch with an empty place for checkpoints, or start the query as it was when this was saved",
            ));
        }
        if !self.dropped.is_empty() && !allow_dropped {
            return Err(Error::usage(format!("this query has no place for what is saved:{}", list(&self.dropped)))
                .remedy(format!("undo the change of the query, or let it go with {ALLOW_DROPPED}")));
        }
        Ok(())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.id, self.label, self.what)?;
        self.note.as_ref().map_or(Ok(()), |note| write!(f, "; {note}"))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("kept", &self.kept), ("new", &self.new), ("dropped", &self.dropped), ("changed", &self.changed)];
        for (word, lines) in parts {
            for line in lines {
                writeln!(f, "{word:<8} {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::{file, manifest};
    use crate::manifest::{CommittableState, InFlight, PartitionState, SinkState};

    /// `src` (2 positions) → `agg` (table `slices`, 10 rows) → `out` (a pending commit).
    fn saved() -> Manifest {
        let mut saved = manifest(3, 9, vec![file("data/9-1-a", 9)]);
        let partition = |name: &str| PartitionState {
            name: name.to_owned(),
            position: "5".to_owned(),
            watermark: None,
            rows: 5,
            idle: false,
            ended: false,
        };
        let source = NodeState {
            id: "src".to_owned(),
            label: "read clicks".to_owned(),
            partitions: vec![partition("a"), partition("b")],
            tables: Vec::new(),
            ..saved.nodes[0].clone()
        };
        saved.nodes.insert(0, source);
        let data = CommittableState { data: Some("part".to_owned()), outbox: None };
        saved.sinks.push(SinkState { id: "out".to_owned(), table: "counts".to_owned(), committables: vec![data] });
        saved
    }

    fn program() -> Vec<NodeShape> {
        let node = |id: &str, label: &str| NodeShape {
            id: id.to_owned(),
            label: label.to_owned(),
            tables: Vec::new(),
            is_source: false,
            is_sink: false,
        };
        let slices = TableShape {
            name: "slices".to_owned(),
            version: 1,
            columns: vec!["end BIGINT".to_owned(), "count BIGINT".to_owned()],
            key: 1,
        };
        vec![
            NodeShape { is_source: true, ..node("src", "read clicks") },
            NodeShape { tables: vec![slices], ..node("agg", "count by window") },
            node("map", "project"),
            NodeShape { is_sink: true, ..node("out", "write counts") },
        ]
    }

    fn text(program: &[NodeShape]) -> String {
        compare(&saved(), program).to_string()
    }

    #[test]
    fn the_same_query_keeps_everything() {
        let same = compare(&saved(), &program());
        assert!(same.same());
        same.accept(false).unwrap();
        assert_eq!(
            same.to_string(),
            "kept     src (read clicks): 2 positions of a source\n\
             kept     agg (count by window): table `slices`, 10 rows in its files\n"
        );
    }

    #[test]
    fn a_first_run_finds_all_new() {
        let fresh = compare(&Manifest::first("clicks", 256, 1, 0), &program());
        assert_eq!(
            fresh.to_string(),
            "new      src (read clicks): reads from the beginning\n\
             new      agg (count by window): table `slices` starts empty\n"
        );
        fresh.accept(false).unwrap();
    }

    #[test]
    fn what_has_no_place_is_refused_until_it_is_let_go() {
        let mut shorter = program();
        shorter.retain(|n| n.id != "agg" && n.id != "out");
        let gone = compare(&saved(), &shorter);
        let e = gone.accept(false).unwrap_err();
        assert_eq!(
            e.what(),
            "this query has no place for what is saved:\
             \n  agg (count by window): table `slices`, 10 rows in its files\
             \n  out (counts): output of 1 writers that is not visible yet"
        );
        assert!(e.help().unwrap().contains(ALLOW_DROPPED));
        gone.accept(true).unwrap();
    }

    #[test]
    fn a_node_that_may_have_moved_is_named() {
        let mut moved = program();
        moved[0].id = "source-7".to_owned();
        moved[1].id = "agg2".to_owned();
        let text = text(&moved);
        assert!(
            text.contains("dropped  src (read clicks): 2 positions of a source; has it become `source-7`?"),
            "{text}"
        );
        assert!(text.contains("; has it become `agg2`?"), "{text}");
        assert!(text.contains("new      agg2 (count by window): table `slices` starts empty"), "{text}");
        let mut renamed = program();
        renamed[1].tables[0].name = "slice".to_owned();
        let text = compare(&saved(), &renamed).to_string();
        assert!(text.contains("has it become `slice`?"), "{text}");
    }

    #[test]
    fn a_table_that_cannot_be_read_is_always_refused() {
        type Change = fn(&mut Vec<NodeShape>);
        let changes: [(Change, &str); 3] = [
            (
                |p| p[1].tables[0].columns[1] = "sum DOUBLE".to_owned(),
                "(end BIGINT, count BIGINT), now they are (end BIGINT, sum DOUBLE)",
            ),
            (|p| p[1].tables[0].key = 2, "named by end BIGINT, now by end BIGINT, count BIGINT"),
            (|p| p[0].is_source = false, "no source now"),
        ];
        for (change, part) in changes {
            let mut changed = program();
            change(&mut changed);
            let e = compare(&saved(), &changed).accept(true).unwrap_err();
            assert!(e.what().contains(part) && e.help().is_some(), "{e}");
        }
        let mut older = saved();
        older.nodes[1].tables[0].version = 2;
        let e = compare(&older, &program()).accept(true).unwrap_err();
        assert!(e.what().contains("saved in version 2, this program knows 1"), "{e}");
    }

    #[test]
    fn a_later_version_of_a_table_reads_an_earlier_one() {
        let mut later = program();
        later[1].tables[0].version = 2;
        later[1].tables[0].columns.push("more BIGINT".to_owned());
        assert!(compare(&saved(), &later).same());
    }

    #[test]
    fn empty_tables_are_no_loss_and_rows_under_way_are() {
        let mut saved = saved();
        saved.sinks.clear();
        saved.nodes[1].tables[0].chains[0].pieces[0].rows = 0;
        let mut shorter = program();
        shorter.remove(1);
        compare(&saved, &shorter).accept(false).unwrap();
        saved.nodes[1].in_flight.push(InFlight { task: 0, input: 0, file: file("data/9-1-f", 9) });
        let e = compare(&saved, &shorter).accept(false).unwrap_err();
        assert!(e.what().contains("10 rows on their way"), "{e}");
    }
}
