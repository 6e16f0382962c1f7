//! Which columns are read of each leg, and how the table's rows are made of them.
//!
//! Both legs are read with the columns that the query wants and with those that the handover looks at. What nobody has
//! asked for is left out again when rows are handed on.

use super::options::Handover;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use millstream_core::error::did_you_mean;
use millstream_core::metadata::ROW_ORDER;
use millstream_core::{Error, Result, SourceRows, TableSpec};
use millstream_formats::types::sql_type;
use std::sync::Arc;

/// What has to be read.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The rows handed on.
    pub schema: SchemaRef,
    /// Names of the stored columns of each leg, in the order they are read.
    pub history: Vec<String>,
    pub live: Vec<String>,
}

/// The columns of a table by name: those that are stored, then the metadata that is read.
fn find<'a>(table: &'a TableSpec, name: &str) -> Option<&'a Field> {
    let metadata = table.metadata.iter().filter(|(key, _)| key != ROW_ORDER).map(|(_, f)| f);
    table.schema.field_with_name(name).ok().or_else(|| metadata.into_iter().find(|f| f.name() == name))
}

fn is_time(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(..) | DataType::Int64)
}

fn is_id(kind: &DataType) -> bool {
    kind.is_integer() || matches!(kind, DataType::Utf8 | DataType::Binary)
}

/// The column of event time: as the option says, or the only TIMESTAMP that the table has.
pub fn timed(table: &TableSpec, key: &str) -> Result<Option<String>> {
    if let Some(name) = table.option(key) {
        declared(table, key, name.trim(), is_time, "a TIMESTAMP, or BIGINT milliseconds since 1970")?;
        return Ok(Some(name.trim().to_owned()));
    }
    let metadata = table.metadata.iter().map(|(_, f)| f);
    let fields = table.schema.fields().iter().map(AsRef::as_ref).chain(metadata);
    let mut times = fields.filter(|f| matches!(f.data_type(), DataType::Timestamp(..)));
    Ok(match (times.next(), times.next()) {
        (Some(only), None) => Some(only.name().clone()),
        _ => None,
    })
}

fn declared(table: &TableSpec, key: &str, name: &str, fits: fn(&DataType) -> bool, what: &str) -> Result<()> {
    let Some(field) = find(table, name) else {
        let guess = did_you_mean(name, table.schema.fields().iter().map(|f| f.name().as_str()));
        return Err(Error::sql(format!("'{key}' names `{name}`, which is no stored column of the table")).remedy(
            guess.map_or_else(|| "name a column that both legs have".into(), |g| format!("did you mean `{g}`?")),
        ));
    };
    if !fits(field.data_type()) {
        return Err(Error::sql(format!("'{key}' names `{name}`, which is {}", sql_type(field.data_type())))
            .remedy(format!("name a column that is {what}")));
    }
    Ok(())
}

impl Wanted {
    pub fn of(table: &TableSpec, handover: &Handover) -> Result<Wanted> {
        let all = table.schema.fields();
        let projected: Vec<usize> = table.projection.clone().unwrap_or_else(|| (0..all.len()).collect());
        let stored: Vec<String> = projected.iter().map(|&i| all[i].name().clone()).collect();
        let metadata = table.metadata.iter().map(|(_, f)| f.clone());
        let fields: Vec<Field> = projected.iter().map(|&i| all[i].as_ref().clone()).chain(metadata).collect();
        // Time and id are looked at in both legs; where offsets are compared, those of the history alone.
        let mut both: Vec<String> = handover.time_column().map(str::to_owned).into_iter().collect();
        if let Handover::Id { id, .. } = handover {
            declared(table, "handover.id-column", id, is_id, "a whole number, STRING or BYTES")?;
            both.push(id.clone());
        }
        let mut history = stored.clone();
        history.extend(table.metadata.iter().filter(|(key, _)| key != ROW_ORDER).map(|(_, f)| f.name().clone()));
        let mut live = stored;
        for name in both {
            let looked_at = !matches!(handover, Handover::Offset { .. });
            if looked_at && table.schema.index_of(&name).is_ok() && !live.contains(&name) {
                live.push(name.clone());
            }
            if !history.contains(&name) {
                history.push(name);
            }
        }
        if let Handover::Offset { partition, offset, .. } = handover {
            for (key, name) in [("handover.partition-column", partition), ("handover.offset-column", offset)] {
                if find(table, name).is_some() {
                    declared(table, key, name, |k| k.is_signed_integer(), "INT or BIGINT")?;
                }
                if !history.contains(name) {
                    history.push(name.clone());
                }
            }
        }
        Ok(Wanted { schema: Arc::new(Schema::new(fields)), history, live })
    }
}

/// Where the columns of one leg's rows stand.
#[derive(Debug, Clone)]
pub struct Layout {
    schema: SchemaRef,
    /// For each column handed on, where it stands in the leg's rows.
    columns: Vec<usize>,
    order: Option<usize>,
    pub time: Option<usize>,
    pub id: Option<usize>,
    pub partition: Option<usize>,
    pub offset: Option<usize>,
}

impl Layout {
    /// `read`: the columns of the leg's rows.
    pub fn of(wanted: &SchemaRef, read: &Schema, handover: &Handover) -> Result<Layout> {
        let at = |name: &str| read.index_of(name).ok();
        let columns = wanted.fields().iter().map(|f| Ok(read.index_of(f.name())?)).collect::<Result<_>>()?;
        let (id, partition, offset) = match handover {
            Handover::Offset { partition, offset, .. } => (None, at(partition), at(offset)),
            Handover::Id { id, .. } => (at(id), None, None),
            Handover::EventTime { .. } => (None, None, None),
        };
        let order = wanted.index_of(ROW_ORDER).ok();
        let time = handover.time_column().and_then(at);
        Ok(Layout { schema: wanted.clone(), columns, order, time, id, partition, offset })
    }

    /// The rows as the table hands them on. `earlier`: they come before all rows of the other leg.
    pub fn hand_on(&self, mut read: SourceRows, earlier: bool) -> Result<SourceRows> {
        let mut columns: Vec<ArrayRef> = self.columns.iter().map(|&i| read.rows.column(i).clone()).collect();
        if let (Some(order), true) = (self.order, earlier) {
            // Kafka counts from 0 up, so what is negative lies before all of it.
            let places = columns[order].as_primitive::<Int64Type>();
            columns[order] = Arc::new(places.unary::<_, Int64Type>(|at| i64::MIN + at));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(read.rows.num_rows()));
        read.rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok(read)
    }
}

/// A column of event times in milliseconds; NULLs stay.
pub fn millis(column: &ArrayRef) -> Result<Int64Array> {
    Ok(match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().clone(),
        _ => {
            let kind = DataType::Timestamp(TimeUnit::Millisecond, None);
            let times = cast(column, &kind)?;
            times.as_primitive::<TimestampMillisecondType>().reinterpret_cast::<Int64Type>()
        }
    })
}

/// A column of whole numbers as BIGINT.
pub fn whole(column: &ArrayRef) -> Result<Int64Array> {
    Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// The greatest of a column, if there is any.
pub fn greatest(column: &Int64Array) -> Option<i64> {
    if column.is_empty() { None } else { arrow::compute::max(column) }
}
