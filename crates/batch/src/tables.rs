//! Scans over our own sources.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::provider_as_source;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DataFusionError, Result};
use datafusion_expr::{LogicalPlan, LogicalPlanBuilder};
use millstream_core::rate::rate_limit;
use millstream_core::{Allowance, Clock, Connectors, Error, Polled, TableSpec};
use millstream_dataflow::feed::{Effect, SourceFeed};
use millstream_dataflow::graph::SourceNode;
use millstream_plan::plan::table::{DeclaredTable, Scan};
use millstream_runtime::{NodeMetrics, Sides, SystemClock};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What every scan of a job shares.
#[derive(Clone)]
pub struct Scans {
    pub connectors: Arc<dyn Connectors>,
    pub sides: Arc<Sides>,
    /// Counts what all scans read.
    pub read: Arc<NodeMetrics>,
}

/// Our error on its way through DataFusion.
pub fn external(e: Error) -> DataFusionError {
    DataFusionError::External(Box::new(e))
}

/// Puts a scan over the real source in the place of every declared table.
pub fn resolve(plan: LogicalPlan, reads: &BTreeMap<String, Scan>, scans: &Scans) -> Result<LogicalPlan> {
    let resolved = plan.transform_up(|node| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        let Some(table) = scan.source.downcast_ref::<DeclaredTable>() else { return Ok(Transformed::no(node)) };
        let columns = scan.projection.clone().unwrap_or_else(|| (0..table.schema.fields().len()).collect());
        let Some(read) = reads.get(&table.name) else {
            return Err(external(Error::internal(format!(
                "table `{}` is scanned and was not planned for",
                table.name
            ))));
        };
        let schema: SchemaRef = Arc::new(table.schema.project(&columns)?);
        let partition = Bounded {
            node: read.node.clone(),
            handed_on: read.schema.clone(),
            columns: columns.iter().map(|c| read.at[c]).collect(),
            schema: schema.clone(),
            scans: scans.clone(),
        };
        check_bounded(&read.node.table, scans.connectors.as_ref()).map_err(external)?;
        let provider = StreamingTable::try_new(schema, vec![Arc::new(partition)])?;
        let source = provider_as_source(Arc::new(provider));
        let mut builder = LogicalPlanBuilder::scan(scan.table_name.clone(), source, None)?;
        if let Some(rows) = scan.fetch {
            builder = builder.limit(0, Some(rows))?;
        }
        Ok(Transformed::yes(builder.build()?))
    })?;
    Ok(resolved.data)
}

/// Refuses a table that never ends.
///
/// # Errors
/// The table cannot be opened, or has no end; with the place of its declaration.
pub fn check_bounded(spec: &TableSpec, connectors: &dyn Connectors) -> millstream_core::Result<()> {
    if connectors.open_source(spec)?.bounded() {
        return Ok(());
    }
    let e = Error::sql(format!("table `{}` never ends, so batch mode cannot answer a query over it", spec.name))
        .remedy(
            "run it in streaming mode, or bound the source (for example 'number-of-rows' or 'events.num', no \
         'source.monitor-interval', or 'scan.bounded.mode' = 'latest-offset')",
        );
    Err(match &spec.place {
        Some(place) => e.at(place.clone()),
        None => e,
    })
}

/// A source read to its end.
struct Bounded {
    node: SourceNode,
    handed_on: SchemaRef,
    /// Of the columns that the source hands on, those of `schema`.
    columns: Vec<usize>,
    schema: SchemaRef,
    scans: Scans,
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.node.table.name)
    }
}

impl PartitionStream for Bounded {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        // Two batches ahead: the reader prefetches on its own, bounded in bytes.
        let mut stream = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let out = stream.tx();
        let (node, handed_on) = (self.node.clone(), self.handed_on.clone());
        let (columns, schema, scans) = (self.columns.clone(), self.schema.clone(), self.scans.clone());
        stream.spawn_blocking(move || {
            read(&node, handed_on, &scans, &mut |rows| {
                let rows = project(&rows, &columns, &schema)?;
                // An error means that nobody reads any more.
                Ok(out.blocking_send(Ok(rows)).is_ok())
            })
            .map_err(external)
        });
        stream.build()
    }
}

fn project(rows: &RecordBatch, columns: &[usize], schema: &Schema) -> millstream_core::Result<RecordBatch> {
    let arrays = columns.iter().map(|c| rows.column(*c).clone()).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(schema.clone()), arrays, &options)?)
}

/// How long a reader that has nothing now, or may give nothing yet, is left alone.
const PENDING: Duration = Duration::from_millis(1);

/// Reads every partition to its end, one after another. `take` says whether to go on.
fn read(
    node: &SourceNode,
    handed_on: SchemaRef,
    scans: &Scans,
    take: &mut dyn FnMut(RecordBatch) -> millstream_core::Result<bool>,
) -> millstream_core::Result<()> {
    let mut source = scans.connectors.open_source(&node.table)?;
    let mut feed = SourceFeed::new(node, handed_on)?;
    let clock = SystemClock::default();
    let mut limit = rate_limit(&node.table)?.map(Allowance::new);
    for mut reader in source.partitions(1)? {
        let id = feed.add_partition(reader.name(), 0);
        loop {
            if let Some(limit) = &mut limit {
                match limit.rows(clock.monotonic_nanos(), 1) {
                    0 => {
                        std::thread::sleep(PENDING);
                        continue;
                    }
                    rows => reader.take_at_most(rows),
                }
            }
            match reader.poll()? {
                Polled::End => {
                    scans.read.skipped.fetch_add(reader.skipped(), Relaxed);
                    break;
                }
                Polled::Pending => std::thread::sleep(PENDING),
                Polled::Rows(rows) => {
                    if let Some(limit) = &mut limit {
                        limit.took(rows.rows.num_rows() + rows.bad.len(), 1);
                    }
                    scans.read.bytes_read.fetch_add(rows.bytes, Relaxed);
                    for effect in feed.on_rows(id, rows, 0)? {
                        match effect {
                            Effect::Batch(batch) => {
                                scans.read.rows_out.fetch_add(batch.len() as u64, Relaxed);
                                if !take(batch.rows)? {
                                    return Ok(());
                                }
                            }
                            Effect::Bad(bad) => {
                                scans.read.bad.fetch_add(bad.len() as u64, Relaxed);
                                if let Some(rows) = scans.sides.bad(&node.table.name, &bad)? {
                                    scans.sides.write(&rows)?;
                                }
                            }
                            Effect::Watermark(..) | Effect::Idle | Effect::Active | Effect::End => {}
                        }
                    }
                }
            }
        }
    }
    Ok(())
}
