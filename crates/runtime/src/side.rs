//! The outputs for what is set aside: late rows and bad rows. Rare by nature, so one lock for the job is enough.

use crate::exchange::lock;
use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use millstream_core::{BadRow, Batch, Connectors, Error, Result, Sink, SinkContext};
use millstream_dataflow::graph::{SideOutput, bad_schema, late_schema};
use millstream_dataflow::operator::LateRows;
use std::sync::{Arc, Mutex};

/// Where the job puts late and bad rows, where it was told to keep them.
pub struct Sides {
    late: Option<Side>,
    bad: Option<Side>,
}

struct Side {
    sink: Mutex<Box<dyn Sink>>,
    columns: Vec<usize>,
}

impl Sides {
    pub fn open(late: Option<&SideOutput>, bad: Option<&SideOutput>, connectors: &dyn Connectors) -> Result<Sides> {
        let open = |side: Option<&SideOutput>| -> Result<Option<Side>> {
            let Some(side) = side else { return Ok(None) };
            let sink = Mutex::new(connectors.open_sink(&side.table, &SinkContext::one_of(0, 1))?);
            Ok(Some(Side { sink, columns: side.columns.clone() }))
        };
        Ok(Sides { late: open(late)?, bad: open(bad)? })
    }

    pub fn late(&self, operator: &str, late: &LateRows) -> Result<()> {
        let Some(side) = &self.late else { return Ok(()) };
        let rows = late.rows.num_rows();
        let times = |array: &arrow::array::Int64Array| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::new(array.values().clone(), None))
        };
        side.write(
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

    pub fn bad(&self, source: &str, bad: &[BadRow]) -> Result<()> {
        let Some(side) = &self.bad else { return Ok(()) };
        let texts =
            |f: &dyn Fn(&BadRow) -> String| -> ArrayRef { Arc::new(StringArray::from_iter_values(bad.iter().map(f))) };
        side.write(
            vec![
                texts(&|_| source.to_owned()),
                texts(&|b| b.place.to_string()),
                texts(&|b| b.reason.clone()),
                texts(&|b| String::from_utf8_lossy(&b.raw).into_owned()),
            ],
            bad_schema(),
        )
    }

    /// The sinks, to be finished or aborted with the others.
    pub fn into_sinks(self) -> Vec<Box<dyn Sink>> {
        let sinks = [self.late, self.bad];
        sinks.into_iter().flatten().map(|s| s.sink.into_inner().unwrap_or_else(|p| p.into_inner())).collect()
    }
}

impl Side {
    fn write(&self, columns: Vec<ArrayRef>, schema: arrow::datatypes::Schema) -> Result<()> {
        let rows = RecordBatch::try_new(Arc::new(schema), columns)?;
        let batch = Batch::from(rows.project(&self.columns)?);
        lock(&self.sink).write(&batch)
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
