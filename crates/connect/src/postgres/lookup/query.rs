//! The one statement of a look-up: all keys of a batch go in as arrays, and each row says which key it belongs to.
//!
//! ```text
//!  SELECT k.n, t."id"::int8, t."name"::text
//!  FROM unnest($1::text[]::int8[]) WITH ORDINALITY AS k (k0, n) JOIN "public"."people" AS t ON t."id" = k.k0  ORDER BY k.n
//! ```
//!
//! Keys travel as texts, so that the server reads each as the type of its column; values come back in a few types that hold
//! all others without loss. Which key a row belongs to is the server's word: what is equal there is equal.

use super::super::encode::write_value;
use super::super::options::Settings;
use super::super::session::Link;
use super::super::target::{Stored, columns, fits, quoted, relation, stored_type};
use super::answer::{Answer, read_as};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Result, TableSpec};
use millstream_formats::types::sql_type;
use std::sync::Arc;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

/// What is asked for, before the server has been seen.
pub struct Query {
    schema: SchemaRef,
    /// Among the columns of `schema`.
    keys: Vec<usize>,
}

pub struct Prepared {
    sql: String,
    statement: Statement,
}

impl Query {
    pub fn new(table: &TableSpec, keys: &[usize]) -> Result<Query> {
        if let Some((key, _)) = table.metadata.first() {
            return Err(Error::sql(format!("there is no metadata `{key}` in a table of PostgreSQL"))
                .remedy("take the METADATA column out of the declaration"));
        }
        let schema = match &table.projection {
            Some(wanted) => table.schema.project(wanted)?,
            None => table.schema.as_ref().clone(),
        };
        for field in schema.fields() {
            if read_as(field.data_type()).is_none() {
                return Err(Error::sql(format!(
                    "the column `{}` is {}, which cannot be looked up in PostgreSQL",
                    field.name(),
                    sql_type(field.data_type())
                ))
                .remedy("declare it STRING and take it apart in the query (JSON_VALUE), or leave it out"));
            }
        }
        // NULL may come whatever is declared: whether it may go on is decided where the rows go.
        let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
        Ok(Query { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), keys: keys.to_vec() })
    }

    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    pub async fn prepare(&self, link: &Link, settings: &Settings) -> Result<Prepared> {
        let otherwise = || "the database in 'url' and the user".to_owned();
        let (oid, schema, name) = relation(link, settings, otherwise).await?;
        let stored = columns(link, oid).await?;
        let sql = self.sql(&format!("{}.{}", quoted(&schema), quoted(&name)), &settings.table, &stored)?;
        let statement = link.prepare(&sql).await?;
        Ok(Prepared { sql, statement })
    }

    fn sql(&self, from: &str, table: &str, stored: &[Stored]) -> Result<String> {
        let mut values = Vec::new();
        let mut found = Vec::new();
        for field in self.schema.fields() {
            let column = find(field.name(), table, stored)?;
            let value = format!("t.{}", quoted(&column.name));
            values.push(read_as(field.data_type()).map_or_else(|| value.clone(), |r| r.sql(&value)));
            found.push(column);
        }
        let (mut arrays, mut names, mut tests) = (Vec::new(), Vec::new(), Vec::new());
        for (n, key) in self.keys.iter().enumerate() {
            let (declared, column) = (self.schema.field(*key).data_type(), found[*key]);
            let value = format!("t.{}", quoted(&column.name));
            // As the column's own type where texts are compared; else as the declared one, which an index on a narrower or
            // wider column of its kind serves as well. What is no match of that kind is compared as it is read.
            let (as_type, value) = match declared {
                DataType::Utf8 => (column.whole.clone(), value),
                other if fits(other, &column.base, &column.shown) => (stored_type(other), value),
                other => (stored_type(other), format!("{value}::{}", stored_type(other))),
            };
            arrays.push(format!("${}::text[]::{as_type}[]", n + 1));
            names.push(format!("k{n}"));
            tests.push(format!("{value} = k.k{n}"));
        }
        Ok(format!(
            "SELECT k.n{}{} FROM unnest({}) WITH ORDINALITY AS k ({}, n) JOIN {from} AS t ON {} ORDER BY k.n",
            if values.is_empty() { "" } else { ", " },
            values.join(", "),
            arrays.join(", "),
            names.join(", "),
            tests.join(" AND ")
        ))
    }

    /// Asks for these keys: distinct, none of them NULL.
    pub async fn ask(&self, link: &Link, prepared: &Prepared, keys: &[ArrayRef]) -> Result<Answer> {
        let mut texts: Vec<Vec<String>> = Vec::with_capacity(keys.len());
        for key in keys {
            let column = (0..key.len()).map(|row| {
                let mut text = Vec::new();
                write_value(key.as_ref(), row, &mut text)?;
                String::from_utf8(text).map_err(|_| Error::internal("a key that is no text"))
            });
            texts.push(column.collect::<Result<_>>()?);
        }
        let parameters: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|t| t as &(dyn ToSql + Sync)).collect();
        let mut answer = Answer::to(&self.schema)?;
        link.rows(&prepared.sql, &prepared.statement, &parameters, |row| answer.push(row)).await?;
        answer.finish()
    }
}

fn find<'s>(name: &str, table: &str, stored: &'s [Stored]) -> Result<&'s Stored> {
    // Folded, as PostgreSQL folds what is not quoted: Flink's connector quotes nothing.
    let folded = name.to_lowercase();
    let found = stored.iter().find(|s| s.name == name).or_else(|| stored.iter().find(|s| s.name == folded));
    found.ok_or_else(|| {
        let known: Vec<&str> = stored.iter().map(|s| s.name.as_str()).collect();
        let guess = did_you_mean(name, known.iter().copied()).map(|g| format!("did you mean `{g}`? "));
        Error::sql(format!("the table {table} has no column `{name}`")).remedy(format!(
            "{}It has {}",
            guess.unwrap_or_default(),
            known.join(", ")
        ))
    })
}
