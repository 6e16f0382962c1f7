//! What each declared column is: found by its name, checked against its type.

use super::options::{Kind, Options};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use millstream_core::error::did_you_mean;
use millstream_core::metadata::ROW_ORDER;
use millstream_core::{Error, Place, Result, TableSpec};
use std::sync::Arc;

/// A column of one kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    PersonId,
    PersonName,
    PersonEmail,
    PersonCard,
    PersonCity,
    PersonState,
    PersonExtra,
    AuctionId,
    AuctionItem,
    AuctionDescription,
    AuctionInitialBid,
    AuctionReserve,
    AuctionExpires,
    AuctionSeller,
    AuctionCategory,
    AuctionExtra,
    BidAuction,
    BidBidder,
    BidPrice,
    BidChannel,
    BidUrl,
    BidExtra,
    /// `dateTime` of every kind of event.
    Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    BigInt,
    Text,
    Time,
}

type Columns = &'static [(&'static str, Leaf)];

const PERSON: Columns = &[
    ("id", Leaf::PersonId),
    ("name", Leaf::PersonName),
    ("emailAddress", Leaf::PersonEmail),
    ("creditCard", Leaf::PersonCard),
    ("city", Leaf::PersonCity),
    ("state", Leaf::PersonState),
    ("dateTime", Leaf::Time),
    ("extra", Leaf::PersonExtra),
];
const AUCTION: Columns = &[
    ("id", Leaf::AuctionId),
    ("itemName", Leaf::AuctionItem),
    ("description", Leaf::AuctionDescription),
    ("initialBid", Leaf::AuctionInitialBid),
    ("reserve", Leaf::AuctionReserve),
    ("dateTime", Leaf::Time),
    ("expires", Leaf::AuctionExpires),
    ("seller", Leaf::AuctionSeller),
    ("category", Leaf::AuctionCategory),
    ("extra", Leaf::AuctionExtra),
];
const BID: Columns = &[
    ("auction", Leaf::BidAuction),
    ("bidder", Leaf::BidBidder),
    ("price", Leaf::BidPrice),
    ("channel", Leaf::BidChannel),
    ("url", Leaf::BidUrl),
    ("dateTime", Leaf::Time),
    ("extra", Leaf::BidExtra),
];
const UNIFIED: [&str; 4] = ["event_type", "person", "auction", "bid"];

impl Leaf {
    fn data_type(self) -> Type {
        use Leaf::*;
        match self {
            PersonName | PersonEmail | PersonCard | PersonCity | PersonState | PersonExtra => Type::Text,
            AuctionItem | AuctionDescription | AuctionExtra | BidChannel | BidUrl | BidExtra => Type::Text,
            Time | AuctionExpires => Type::Time,
            _ => Type::BigInt,
        }
    }
}

/// One column to make.
#[derive(Debug, Clone)]
pub(super) enum Column {
    /// A column of the events of one kind, with the type that was declared for it.
    Leaf(Kind, Leaf, DataType),
    /// A ROW of the unified table: NULL for events of another kind.
    Row(Kind, Fields, Vec<Leaf>),
    /// 0 person, 1 auction, 2 bid.
    EventType,
    /// The event's number, from 0.
    Order,
}

/// The columns to make, and the schema they make up.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub table: String,
    pub columns: Vec<Column>,
    pub schema: SchemaRef,
}

impl Layout {
    /// The projected columns, then the metadata columns.
    pub(super) fn of(spec: &TableSpec, options: &Options) -> Result<Layout> {
        let all = Layout::of_all(spec, options)?;
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        let projection: Vec<usize> = match &spec.projection {
            Some(projection) => projection.clone(),
            None => (0..all.columns.len()).collect(),
        };
        for i in projection {
            let Some(column) = all.columns.get(i) else {
                return Err(Error::internal(format!("table {}: no column {i} to project", spec.name)));
            };
            columns.push(column.clone());
            fields.push(spec.schema.fields()[i].clone());
        }
        for (key, field) in &spec.metadata {
            if key != ROW_ORDER {
                return Err(place(
                    spec,
                    Error::sql(format!("connector `nexmark` has no metadata `{key}`"))
                        .remedy(format!("the only metadata is `{ROW_ORDER}`, the number of the event")),
                ));
            }
            if field.data_type() != &DataType::Int64 {
                return Err(place(
                    spec,
                    Error::sql(format!("metadata `{key}` is declared {}, it is BIGINT", sql_type(field.data_type())))
                        .remedy("declare it BIGINT"),
                ));
            }
            columns.push(Column::Order);
            fields.push(Arc::new(field.clone()));
        }
        Ok(Layout { table: spec.name.clone(), columns, schema: Arc::new(Schema::new(fields)) })
    }

    /// Every declared column: what `validate` looks at.
    pub(super) fn of_all(spec: &TableSpec, options: &Options) -> Result<Layout> {
        let columns = spec.schema.fields().iter().map(|field| match options.kind {
            Kind::Person => leaf(Kind::Person, PERSON, field),
            Kind::Auction => leaf(Kind::Auction, AUCTION, field),
            Kind::Bid => leaf(Kind::Bid, BID, field),
            Kind::All => unified(field),
        });
        let columns = columns.collect::<Result<Vec<_>>>().map_err(|e| place(spec, e))?;
        Ok(Layout { table: spec.name.clone(), columns, schema: spec.schema.clone() })
    }
}

fn place(spec: &TableSpec, error: Error) -> Error {
    match &spec.place {
        Some(place) => error.at(place.clone()),
        None => error.at(Place(format!("table {}", spec.name))),
    }
}

fn leaf(kind: Kind, known: Columns, field: &Field) -> Result<Column> {
    find(known, field, "").map(|leaf| Column::Leaf(kind, leaf, field.data_type().clone()))
}

fn unified(field: &Field) -> Result<Column> {
    let (kind, known) = match field.name().to_lowercase().as_str() {
        "event_type" => {
            if field.data_type() != &DataType::Int32 {
                return Err(wrong_type("event_type", field.data_type(), "INT"));
            }
            return Ok(Column::EventType);
        }
        "person" => (Kind::Person, PERSON),
        "auction" => (Kind::Auction, AUCTION),
        "bid" => (Kind::Bid, BID),
        _ => {
            let error = unknown(field.name(), &UNIFIED);
            return Err(
                match BID.iter().chain(AUCTION).chain(PERSON).any(|(n, _)| n.eq_ignore_ascii_case(field.name())) {
                    true => Error::sql(format!("column `{}` is not one of all nexmark events", field.name()))
                        .remedy("say which events the table holds, for example 'nexmark.table' = 'bid'"),
                    false => error,
                },
            );
        }
    };
    let DataType::Struct(fields) = field.data_type() else {
        return Err(wrong_type(field.name(), field.data_type(), "ROW<..>"));
    };
    if !field.is_nullable() {
        return Err(Error::sql(format!("column `{}` is declared NOT NULL", field.name()))
            .remedy("it is NULL in events of another kind: leave out NOT NULL"));
    }
    let prefix = format!("{}.", field.name());
    let leaves = fields.iter().map(|f| find(known, f, &prefix)).collect::<Result<Vec<_>>>()?;
    Ok(Column::Row(kind, fields.clone(), leaves))
}

fn find(known: Columns, field: &Field, prefix: &str) -> Result<Leaf> {
    let Some((_, leaf)) = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(field.name())) else {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        return Err(unknown(field.name(), &names));
    };
    let (fits, wanted) = match leaf.data_type() {
        Type::BigInt => (field.data_type() == &DataType::Int64, "BIGINT"),
        Type::Text => (field.data_type() == &DataType::Utf8, "STRING"),
        Type::Time => (matches!(field.data_type(), DataType::Timestamp(TimeUnit::Millisecond, _)), "TIMESTAMP(3)"),
    };
    match fits {
        true => Ok(*leaf),
        false => Err(wrong_type(&format!("{prefix}{}", field.name()), field.data_type(), wanted)),
    }
}

fn wrong_type(name: &str, declared: &DataType, is: &str) -> Error {
    Error::sql(format!("column `{name}` is declared {}, nexmark makes it {is}", sql_type(declared)))
        .remedy(format!("declare it {is}, and CAST it in the query"))
}

fn unknown(name: &str, known: &[&str]) -> Error {
    let error = Error::sql(format!("nexmark has no column `{name}`"));
    match did_you_mean(name, known.iter().copied()) {
        Some(close) => error.remedy(format!("did you mean `{close}`?")),
        None => error.remedy(format!("its columns are {}", known.join(", "))),
    }
}

/// The name of a type as the SQL text writes it, for messages.
fn sql_type(t: &DataType) -> String {
    match t {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 => "STRING".into(),
        DataType::Binary => "BYTES".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Decimal128(p, s) => format!("DECIMAL({p}, {s})"),
        DataType::Timestamp(unit, zone) => {
            let name = if zone.is_some() { "TIMESTAMP_LTZ" } else { "TIMESTAMP" };
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            format!("{name}({digits})")
        }
        DataType::Struct(_) => "ROW<..>".into(),
        other => other.to_string(),
    }
}
