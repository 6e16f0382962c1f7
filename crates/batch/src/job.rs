//! The life of a bounded job.

use crate::tables::{Scans, resolve};
use crate::{unnest, windows};
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion_common::DataFusionError;
use datafusion_common::tree_node::TreeNode;
use datafusion_expr::LogicalPlan;
use futures::StreamExt;
use millstream_core::{Batch, Clock, Connectors, Error, Result, Sink, SinkContext, TableSpec};
use millstream_dataflow::not_null::Guard;
use millstream_plan::functions::compare_floats;
use millstream_plan::plan::Planned;
use millstream_runtime::{Metrics, NodeMetrics, Sides, Snapshot, Summary, SystemClock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

/// A running bounded job.
pub struct Job {
    thread: Option<JoinHandle<Result<()>>>,
    cancelled: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    started_at: u64,
}

/// Opens the tables and starts to answer the statements, one after another. Windows over `TIMESTAMP_LTZ` are cut in
/// `zone`, the session's.
///
/// # Errors
/// A table that cannot be opened, or one that never ends.
pub fn start(planned: Planned, zone: &str, connectors: Arc<dyn Connectors>) -> Result<Job> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let read = Arc::new(NodeMetrics::new("scan".into(), true, false, 1));
    let written = Arc::new(NodeMetrics::new("sink".into(), false, true, planned.statements.len()));
    let metrics = Arc::new(Metrics::of(vec![read.clone(), written.clone()]));
    let sides = Arc::new(Sides::open(None, planned.dataflow.bad_output.as_ref(), connectors.as_ref(), None)?);
    let scans = Scans { connectors: connectors.clone(), sides: sides.clone(), read };
    let guards: Vec<_> = planned.statements.iter().map(|s| Guard::new(&s.sink, s.not_null)).collect();
    let mut ready: Vec<(TableSpec, LogicalPlan)> = Vec::with_capacity(planned.statements.len());
    for statement in planned.statements {
        if statement.logical.exists(|node| Ok(is_of_versions(node))).map_err(ours)? {
            return Err(no_versions().at(statement.place));
        }
        let plan = unnest::lower(statement.logical).map_err(ours)?;
        let plan = windows::lower(plan, zone).map_err(ours)?;
        let plan = compare_floats(plan).map_err(ours)?;
        let plan = resolve(plan, &planned.scans, &scans).map_err(ours)?;
        ready.push((statement.sink, plan));
    }
    let mut sinks: Vec<Box<dyn Sink>> = Vec::with_capacity(ready.len());
    for (spec, _) in &ready {
        match connectors.open_sink(spec, &SinkContext::one_of(0, 1)) {
            Ok(sink) => sinks.push(sink),
            Err(e) => {
                sinks.iter_mut().for_each(|s| s.abort());
                return Err(e);
            }
        }
    }
    let state = session(zone);
    let cancelled = Arc::new(AtomicBool::new(false));
    let started_at = clock.monotonic_nanos();
    let (stop, counters) = (cancelled.clone(), written);
    let work = move || {
        let plans = ready.into_iter().map(|(_, plan)| plan).collect();
        let done = answer(plans, &mut sinks, &guards, &state, &stop, &counters);
        drop(scans);
        // The scans have ended, so nobody else holds the side outputs.
        sinks.extend(Arc::into_inner(sides).map(Sides::into_sinks).unwrap_or_default());
        let done = done.and_then(|()| sinks.iter_mut().try_for_each(|s| s.finish()));
        if done.is_err() {
            sinks.iter_mut().for_each(|s| s.abort());
        }
        done
    };
    let thread = std::thread::Builder::new().name("millstream-batch".into()).spawn(work);
    let thread = thread.map_err(|e| Error::io(format!("cannot start a thread: {e}")))?;
    Ok(Job { thread: Some(thread), cancelled, metrics, clock, started_at })
}

/// Rows of which a temporal join chooses one. Our own operators do that, where the result is not one that is updated.
fn is_of_versions(node: &LogicalPlan) -> bool {
    matches!(node, LogicalPlan::Extension(e) if e.node.name() == "Versions")
}

fn no_versions() -> Error {
    Error::sql(
        "FOR SYSTEM_TIME AS OF in a query whose result is updated while rows come: that is not there in batch mode",
    )
    .remedy("run it in streaming mode: over bounded input it ends too, and what stands then is the answer")
}

fn session(zone: &str) -> SessionState {
    let mut config = SessionConfig::new();
    config.options_mut().execution.time_zone = Some(zone.to_owned());
    SessionStateBuilder::new().with_config(config).with_default_features().build()
}

fn answer(
    plans: Vec<LogicalPlan>,
    sinks: &mut [Box<dyn Sink>],
    guards: &[Option<Guard>],
    state: &SessionState,
    stop: &AtomicBool,
    counters: &NodeMetrics,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|e| Error::io(format!("cannot start the batch executor: {e}")))?;
    runtime.block_on(async {
        for (at, ((plan, sink), guard)) in plans.into_iter().zip(sinks).zip(guards).enumerate() {
            let physical = state.create_physical_plan(&plan).await.map_err(ours)?;
            let mut rows = execute_stream(physical, Arc::new(TaskContext::from(state))).map_err(ours)?;
            while let Some(batch) = rows.next().await {
                if stop.load(Relaxed) {
                    return Err(Error::usage("the job was cancelled before its end"));
                }
                let batch = batch.map_err(ours)?;
                counters.rows_in.fetch_add(batch.num_rows() as u64, Relaxed);
                let mut batch = Batch::from(batch);
                if let Some(guard) = guard {
                    let (passed, left_out) = guard.pass(batch)?;
                    counters.bad.fetch_add(left_out, Relaxed);
                    batch = passed;
                }
                sink.write(&batch)?;
                counters.set_bytes_written(at, sink.bytes());
            }
        }
        Ok(())
    })
}

/// Finds our own error inside DataFusion's, or makes one of it.
fn ours(e: DataFusionError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&e);
    while let Some(at) = cause {
        if let Some(found) = at.downcast_ref::<Error>() {
            return found.clone();
        }
        cause = match at.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
            Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
            _ => at.source(),
        };
    }
    Error::data(e.strip_backtrace())
}

impl Job {
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub fn snapshot(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(|t| t.is_finished())
    }

    /// Gives up: a bounded job has no result before its end.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    /// Waits for the end and says what was done.
    pub fn wait(mut self) -> Result<Summary> {
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => {
                let wall = Duration::from_nanos(self.clock.monotonic_nanos() - self.started_at);
                Ok(Summary { snapshot: self.snapshot(), wall, stopped: None })
            }
            Some(Ok(Err(e))) => Err(e),
            Some(Err(_)) => Err(Error::internal("the batch executor panicked")
                .remedy("this is a bug in Millstream; please report it with the query")),
        }
    }
}
