//! The outputs for what is set aside: late rows and bad rows. Rare by nature, so one lock for the job is enough.

use crate::exchange::lock;
use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use millstream_core::{BadRow, Batch, Connectors, Error, JobRun, Prepared, Result, Sink, SinkContext};
use millstream_dataflow::graph::{SideOutput, bad_schema, late_schema};
use millstream_dataflow::operator::LateRows;
use std::sync::{Arc, Mutex};

/// Where the job puts late and bad rows, where it was told to keep them.
pub struct Sides {
    late: Option<Side>,
    bad: Option<Side>,
}

/// Rows set aside, as their output takes them.
#[derive(Debug, Clone)]
pub struct SideRows {
    pub which: Which,
    pub rows: Batch,
}

/// The two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    Late,
    Bad,
}

impl Which {
    pub const ALL: [Which; 2] = [Which::Late, Which::Bad];

    /// What stands for the sink's node in a checkpoint.
    pub fn id(self) -> &'static str {
        match self {
            Which::Late => "$late",
            Which::Bad => "$bad",
        }
    }
}

struct Side {
    sink: Mutex<Box<dyn Sink>>,
    columns: Vec<usize>,
}

impl Sides {
    pub fn open(
        late: Option<&SideOutput>,
        bad: Option<&SideOutput>,
        connectors: &dyn Connectors,
        job: Option<&JobRun>,
    ) -> Result<Sides> {
        let context = SinkContext { job: job.cloned(), ..SinkContext::one_of(0, 1) };
        let open = |side: Option<&SideOutput>| -> Result<Option<Side>> {
            let Some(side) = side else { return Ok(None) };
            let sink = Mutex::new(connectors.open_sink(&side.table, &context)?);
            Ok(Some(Side { sink, columns: side.columns.clone() }))
        };
        Ok(Sides { late: open(late)?, bad: open(bad)? })
    }

    /// Late rows as their output takes them; `None` where nobody asked to keep them.
    pub fn late(&self, operator: &str, late: &LateRows) -> Result<Option<SideRows>> {
        let Some(side) = &self.late else { return Ok(None) };
        let rows = late.rows.num_rows();
        let times = |array: &arrow::array::Int64Array| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::new(array.values().clone(), None))
        };
        side.rows(
            Which::Late,
            vec![
                Arc::new(StringArray::from_iter_values((0..rows).map(|_| operator))),
                Arc::new(StringArray::from_iter_values((0..rows).map(|_| late.reason.as_str()))),
                times(&late.times),
                times(&late.watermarks),
                Arc::new(StringArray::from_iter_values(as_json(&late.rows)?)),
            ],
            late_schema(),
        )
    }

    /// Bad rows as their output takes them; `None` where nobody asked to keep them.
    pub fn bad(&self, source: &str, bad: &[BadRow]) -> Result<Option<SideRows>> {
        let Some(side) = &self.bad else { return Ok(None) };
        let texts =
            |f: &dyn Fn(&BadRow) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(bad.iter().map(f))) };
        side.rows(
            Which::Bad,
            vec![
                texts(&|_| source.to_owned()),
                texts(&|b| b.place.to_string()),
                texts(&|b| b.reason.clone()),
                texts(&|b| String::from_utf8_lossy(&b.raw).into_owned()),
            ],
            bad_schema(),
        )
    }

    pub fn write(&self, rows: &SideRows) -> Result<()> {
        match self.side(rows.which) {
            Some(side) => lock(&side.sink).write(&rows.rows),
            None => Ok(()),
        }
    }

    /// Ends an epoch of one of the outputs. `None` where there is no such output.
    pub fn prepare(&self, which: Which, epoch: u64) -> Result<Option<Prepared>> {
        self.side(which).map(|side| lock(&side.sink).prepare(epoch)).transpose()
    }

    fn side(&self, which: Which) -> Option<&Side> {
        match which {
            Which::Late => self.late.as_ref(),
            Which::Bad => self.bad.as_ref(),
        }
    }

    /// The sinks, to be finished or aborted with the others.
    pub fn into_sinks(self) -> Vec<Box<dyn Sink>> {
        let sinks = [self.late, self.bad];
        sinks.into_iter().flatten().map(|s| s.sink.into_inner().unwrap_or_else(|p| p.into_inner())).collect()
    }
}

impl Side {
    fn rows(&self, which: Which, columns: Vec<ArrayRef>, schema: arrow::datatypes::Schema) -> Result<Option<SideRows>> {
        let rows = RecordBatch::try_new(Arc::new(schema), columns)?;
        Ok(Some(SideRows { which, rows: rows.project(&self.columns)?.into() }))
    }
}

/// Each row as a JSON object, without the engine's own columns.
fn as_json(rows: &RecordBatch) -> Result<Vec<String>> {
    let shown: Vec<usize> =
        (0..rows.num_columns()).filter(|i| !rows.schema().field(*i).name().starts_with('$')).collect();
    let shown = rows.project(&shown)?;
    let mut text = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut text);
    writer.write(&shown)?;
    writer.finish()?;
    drop(writer);
    let text = String::from_utf8(text).map_err(|e| Error::internal(format!("JSON of a late row: {e}")))?;
    Ok(text.lines().map(str::to_owned).collect())
}
