//! The bids that loops and engine work on: made by the nexmark connector, kept in memory as Arrow batches.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use millstream_core::{Error, Polled, Result, TableSpec};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Delay of the watermark behind the newest row, as in the official declaration of the tables.
pub const WATERMARK_DELAY_MS: i64 = 4000;

/// The columns of table `bid`, as both the memory source and the generator give them.
pub fn bid_schema() -> SchemaRef {
    let big = |n: &str| Field::new(n, DataType::Int64, true);
    let text = |n: &str| Field::new(n, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        big("auction"),
        big("bidder"),
        big("price"),
        text("channel"),
        text("url"),
        Field::new("dateTime", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        text("extra"),
    ]))
}

/// The position of `dateTime` among them.
const TIME: usize = 5;

/// Options of the generator that makes `events` bids at `rate` nexmark events a second of event time.
pub fn generator_options(events: usize, rate: u64) -> BTreeMap<String, String> {
    // 46 of 50 events are bids, from the fifth on.
    let all = events / 46 * 50 + if events.is_multiple_of(46) { 0 } else { events % 46 + 4 };
    [
        ("connector", "nexmark".to_string()),
        ("nexmark.table", "bid".to_string()),
        ("events.num", all.to_string()),
        ("first-event.rate", rate.to_string()),
    ]
    .map(|(k, v)| (k.to_string(), v))
    .into()
}

/// The generator's table of bids with some of its columns.
pub fn generator_spec(events: usize, rate: u64, projection: Option<Vec<usize>>) -> TableSpec {
    TableSpec {
        name: "bid".into(),
        schema: bid_schema(),
        projection,
        metadata: vec![],
        options: generator_options(events, rate),
        partitioned_by: vec![],
        primary_key: vec![],
        place: None,
    }
}

/// Which fields of the events are read: `person`, `auction` and `bid`, each with some of its fields.
pub type Fields = &'static [(&'static str, &'static [&'static str])];

/// The columns of the table of all events, persons and auctions too, as `bench/nexmark/ddl.sql` declares them.
pub fn events_schema() -> Schema {
    let big = |n: &str| Field::new(n, DataType::Int64, true);
    let text = |n: &str| Field::new(n, DataType::Utf8, true);
    let time = |n: &str| Field::new(n, DataType::Timestamp(TimeUnit::Millisecond, None), true);
    let row = |n: &str, fields: Vec<Field>| Field::new(n, DataType::Struct(fields.into()), true);
    let person = ["name", "emailAddress", "creditCard", "city", "state"].map(text);
    let person = [big("id")].into_iter().chain(person).chain([time("dateTime"), text("extra")]);
    let auction = [
        "id",
        "itemName",
        "description",
        "initialBid",
        "reserve",
        "dateTime",
        "expires",
        "seller",
        "category",
        "extra",
    ];
    let auction = auction.map(|n| match n {
        "itemName" | "description" | "extra" => text(n),
        "dateTime" | "expires" => time(n),
        _ => big(n),
    });
    Schema::new(vec![
        Field::new("event_type", DataType::Int32, true),
        row("person", person.collect()),
        row("auction", auction.into()),
        Field::new("bid", DataType::Struct(bid_schema().fields().clone()), true),
    ])
}

/// Options of the generator that makes `events` events of all kinds at `rate` of them a second of event time.
pub fn events_options(events: usize, rate: u64) -> BTreeMap<String, String> {
    let mut options = generator_options(0, rate);
    options.remove("nexmark.table");
    options.insert("events.num".into(), events.to_string());
    options
}

/// The generator's table of all events, with these fields of them or with all.
pub fn events_spec(events: usize, rate: u64, fields: Option<Fields>) -> TableSpec {
    let all = events_schema();
    let schema = match fields {
        None => all,
        Some(fields) => {
            let narrow = all.fields().iter().filter_map(|column| {
                let DataType::Struct(own) = column.data_type() else { return Some(column.as_ref().clone()) };
                let (_, names) = fields.iter().find(|(name, _)| name == column.name())?;
                let own = own.iter().filter(|f| names.contains(&f.name().as_str())).cloned();
                Some(column.as_ref().clone().with_data_type(DataType::Struct(own.collect())))
            });
            Schema::new(narrow.collect::<Vec<_>>())
        }
    };
    TableSpec {
        name: "datagen".into(),
        schema: Arc::new(schema),
        options: events_options(events, rate),
        ..generator_spec(0, rate, None)
    }
}

/// Events of all kinds in memory, with all their columns.
pub fn events_in_memory(events: usize, rate: u64) -> Result<Arc<Vec<RecordBatch>>> {
    Ok(Arc::new(read(&events_spec(events, rate, None))?.collect::<Result<_>>()?))
}

/// The generator's bids, as a loop takes them in that has the generator as its source.
pub fn generate(
    events: usize,
    rate: u64,
    projection: Option<Vec<usize>>,
) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
    read(&generator_spec(events, rate, projection))
}

/// Reads the generator's only partition, batch by batch.
pub fn read(spec: &TableSpec) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let mut source = millstream_connect::nexmark::open(spec)?;
    let mut reader = source.partitions(1)?.pop().ok_or_else(|| Error::internal("no partition"))?;
    Ok(std::iter::from_fn(move || match reader.poll() {
        Ok(Polled::Rows(rows)) => Some(Ok(rows.rows)),
        Ok(Polled::End) => None,
        Ok(Polled::Pending) => Some(Err(Error::internal("the generator waits although no rate was set"))),
        Err(e) => Some(Err(e)),
    }))
}

/// Bids in memory. Only event time depends on the rate: other rates share the other columns' buffers.
pub struct Bids {
    pub events: usize,
    rate: u64,
    batches: Arc<Vec<RecordBatch>>,
}

impl Bids {
    pub fn make(events: usize, rate: u64) -> Result<Bids> {
        Ok(Bids { events, rate, batches: Arc::new(generate(events, rate, None)?.collect::<Result<_>>()?) })
    }

    /// The same bids with event time running at `rate` events a second.
    pub fn at_rate(&mut self, rate: u64) -> Result<Arc<Vec<RecordBatch>>> {
        if rate != self.rate {
            let times = generate(self.events, rate, Some(vec![TIME]))?;
            let with_time = |(batch, time): (&RecordBatch, Result<RecordBatch>)| {
                let mut columns = batch.columns().to_vec();
                columns[TIME] = time?.column(0).clone();
                Ok(RecordBatch::try_new(batch.schema(), columns)?)
            };
            let batches = self.batches.iter().zip(times).map(with_time).collect::<Result<_>>()?;
            (self.batches, self.rate) = (Arc::new(batches), rate);
        }
        Ok(self.batches.clone())
    }
}

/// A column of text: row `i` is `bytes[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    pub offsets: &'a [i32],
    pub bytes: &'a [u8],
}

impl<'a> Text<'a> {
    #[inline(always)]
    pub fn get(&self, i: usize) -> &'a [u8] {
        &self.bytes[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
}

/// The number column `name`, or an empty slice where the batch was made without it.
pub fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    numbers_of(batch.column_by_name(name))
}

pub fn numbers_of(column: Option<&ArrayRef>) -> &[i64] {
    match column {
        None => &[],
        Some(c) if c.data_type() == &DataType::Int64 => c.as_primitive::<Int64Type>().values(),
        Some(c) => c.as_primitive::<TimestampMillisecondType>().values(),
    }
}

/// The text column `name`, or one without rows where the batch was made without it.
pub fn text<'a>(batch: &'a RecordBatch, name: &str) -> Text<'a> {
    text_of(batch.column_by_name(name))
}

pub fn text_of(column: Option<&ArrayRef>) -> Text<'_> {
    match column {
        None => Text { offsets: &[0], bytes: &[] },
        Some(c) => {
            let c = c.as_string::<i32>();
            Text { offsets: c.value_offsets(), bytes: c.value_data() }
        }
    }
}
