//! Which panes a windowed aggregate has: its EMIT clause, and what that leaves open by the settings.

use super::super::emit::{self, EmitNode};
use super::super::provider::Provider;
use super::super::window::{WindowKind, span};
use super::{Lowering, Rel};
use crate::emit::{Emit, panes_word};
use datafusion_expr::LogicalPlan;
use millstream_core::{Error, Millis, Place, Result, TimeDomain};
use millstream_dataflow::graph::{NodeKind, Panes, Trigger};

/// When the results of windows are told, and what a pane says.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub early: Option<Trigger>,
    pub late: Trigger,
    pub lateness: Millis,
    pub panes: Panes,
}

/// `early every 10 s, late on change within 1 min, retracting`.
pub fn describe_panes(told: &Told) -> String {
    let when = |trigger: Trigger| match trigger {
        Trigger::Every(ms) => format!("every {}", span(ms)),
        Trigger::Rows(1) => "every row".into(),
        Trigger::Rows(rows) => format!("every {rows} rows"),
        Trigger::Change => "on change".into(),
    };
    let early = told.early.map(|t| format!("early {}", when(t)));
    let late = (told.lateness > 0).then(|| format!("late {} within {}", when(told.late), span(told.lateness)));
    let parts = [early, late, Some(panes_word(told.panes).to_string())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

impl Provider<'_> {
    /// Whether the plan's clauses or the settings ask for panes by the clock.
    pub fn emits_by_the_clock(&self, plan: &LogicalPlan) -> bool {
        let settings = &self.catalog.settings;
        let panes = !settings.batch && !settings.final_results;
        panes && (emit::goes_by_the_clock(plan) || settings.emit().is_ok_and(|emit| emit.goes_by_the_clock()))
    }
}

impl Lowering<'_, '_> {
    /// An aggregate with its clause.
    pub fn emitted(&mut self, node: &EmitNode, order: bool) -> Result<Rel> {
        let emit = node.emit()?;
        self.emit = Some(emit.clone());
        let lowered = self.lower(&node.input, order);
        match self.emit.take() {
            // No aggregate has taken it up.
            Some(emit) if lowered.is_ok() => Err(self.no_window(&emit)),
            _ => lowered,
        }
    }

    fn at(&self, emit: &Emit, e: Error) -> Error {
        e.at(Place::line_column(self.provider.file, emit.at.line, emit.at.column))
    }

    pub fn no_window(&self, emit: &Emit) -> Error {
        let e = Error::sql(
            "EMIT tells when windows are told, and this aggregate has no windows: it is told with each change",
        )
        .remedy("take EMIT out, or group by window_start and window_end of TABLE(TUMBLE(..))");
        self.at(emit, e)
    }

    /// The panes of windows of this kind (`kind` is `None`: they stand in columns), and how long a closed one still takes rows.
    /// Without panes each is told once, when it closes, and again for late rows.
    ///
    /// # Errors
    /// What the clause or the settings ask for cannot be.
    pub fn panes(
        &self,
        clause: Option<Emit>,
        kind: Option<&WindowKind>,
        domain: TimeDomain,
    ) -> Result<(Option<Told>, Millis)> {
        let settings = &self.provider.catalog.settings;
        let event_time = domain == TimeDomain::Event;
        let set = settings.emit()?;
        let written = clause.clone().unwrap_or_default();
        let refuse = |what: &str, remedy: &str| {
            let e = Error::sql(what).remedy(remedy);
            Err(match &clause {
                Some(emit) => self.at(emit, e),
                None => e,
            })
        };
        if !event_time && (written.late.is_some() || written.lateness.is_some()) {
            return refuse(
                "EMIT speaks of late rows, and windows by processing time have none",
                "leave out LATE and ALLOWED LATENESS, or give the table a WATERMARK and window by that time",
            );
        }
        let early = written.early.or(set.early);
        let late = written.late.or(set.late).filter(|_| event_time);
        let lateness = match (written.lateness, settings.allowed_lateness) {
            _ if !event_time => 0,
            (Some(lateness), _) => lateness,
            // As in Flink: without a lateness, state lives as long as it is told to.
            (None, 0) if late.is_some() => settings.state_ttl.unwrap_or(0),
            (None, lateness) => lateness,
        };
        if clause.is_none() && early.is_none() && late.is_none() {
            return Ok((None, settings.allowed_lateness));
        }
        if late.is_some() && lateness == 0 {
            return refuse(
                "late panes need an allowed lateness, and it is 0: a closed window takes no rows",
                "add ALLOWED LATENESS INTERVAL '1' MINUTE to EMIT, or SET 'table.exec.emit.allow-lateness' = '1 min'",
            );
        }
        if early.is_none() && lateness == 0 {
            return refuse(
                "EMIT says what a pane tells, and not when there is one",
                "add EARLY EVERY .., EARLY ON CHANGE or ALLOWED LATENESS ..",
            );
        }
        if kind.is_none() && (written.late.is_some() || written.lateness.is_some()) {
            return refuse(
                "EMIT speaks of late rows, and these rows have come out of their windows: late ones were set aside there",
                "aggregate straight over TABLE(TUMBLE(..)), without reading window_start or window_end in between",
            );
        }
        if settings.final_results {
            return Ok((None, lateness));
        }
        let panes = written.panes.unwrap_or(Panes::Retracting);
        Ok((Some(Told { early, late: late.unwrap_or(Trigger::Change), lateness, panes }), lateness))
    }

    /// Whether what this node emits comes from windows that are told in panes.
    pub fn tells_panes(&self, node: usize) -> bool {
        let node = &self.graph.nodes[node];
        matches!(node.kind, NodeKind::WindowPanes(_)) || node.inputs.iter().any(|input| self.tells_panes(input.node))
    }
}
