//! The table that rows go to, as the server knows it, held against its declaration.
//!
//! It is never made or changed: what is missing is said, with the statement that would mend it.

use super::encode::Form;
use super::options::{Settings, TABLE_NAME};
use super::session::Link;
use arrow::datatypes::{DataType, Field, TimeUnit};
use millstream_core::{Error, Result, TableSpec};
use millstream_formats::types::sql_type;

/// A table that takes the rows of its declaration.
#[derive(Debug, Clone)]
pub struct Target {
    /// Quoted, with its schema.
    pub name: String,
    /// Quoted; the epochs that are committed are noted beside the table.
    pub commits: String,
    /// A column for each of the declaration, in its order.
    pub columns: Vec<Column>,
    /// Positions in `columns`.
    pub key: Vec<usize>,
}

#[derive(Debug, Clone)]
pub struct Column {
    /// Quoted.
    pub name: String,
    pub form: Form,
}

/// A column as the catalogue describes it.
pub struct Stored {
    pub name: String,
    /// As SQL writes it: `numeric(10,2)`.
    pub shown: String,
    /// The type's short name, that of a domain's base: `int4`.
    pub base: String,
    /// The type of any length, as SQL writes it: `character varying`.
    pub whole: String,
    category: String,
    /// The short name of an array's items.
    item: String,
    /// Has to be given a value.
    wanted: bool,
    generated: bool,
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The table of the options: its number, its schema and its name. `otherwise`: what to do, or check, where there is none.
pub async fn relation(
    link: &Link,
    settings: &Settings,
    otherwise: impl FnOnce() -> String,
) -> Result<(u32, String, String)> {
    let found = link
        .query(
            "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)",
            &[&settings.table],
        )
        .await?;
    let row = found.first().ok_or_else(|| {
        Error::sql(format!(
            "there is no table {} in the database at {}, or this user may not see it",
            settings.table, settings.address
        ))
        .remedy(format!("check '{TABLE_NAME}', {}", otherwise()))
    })?;
    Ok((row.get(0), row.get(1), row.get(2)))
}

impl Target {
    pub async fn resolve(link: &Link, settings: &Settings, spec: &TableSpec) -> Result<Target> {
        let otherwise = || format!("or make it:\n{}", create_table(&settings.table, spec));
        let (oid, schema, name) = relation(link, settings, otherwise).await?;
        let stored = columns(link, oid).await?;
        let columns = fit(&settings.table, spec, &stored)?;
        let key = spec.primary_key.iter().map(|c| Ok(spec.schema.index_of(c)?)).collect::<Result<Vec<_>>>()?;
        let target = Target {
            name: format!("{}.{}", quoted(&schema), quoted(&name)),
            commits: format!("{}.millstream_commits", quoted(&schema)),
            columns,
            key,
        };
        target.check_key(link, oid, settings).await?;
        Ok(target)
    }

    /// `"a", "b"`.
    pub fn list(&self, of: impl IntoIterator<Item = usize>) -> String {
        of.into_iter().map(|c| self.columns[c].name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// ON CONFLICT finds a row by a unique index and by nothing else.
    async fn check_key(&self, link: &Link, oid: u32, settings: &Settings) -> Result<()> {
        if self.key.is_empty() {
            return Ok(());
        }
        let rows = link
            .query(
                "SELECT i.indexrelid, a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid \
                 AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) WHERE i.indrelid = $1 AND i.indisunique \
                 AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND i.indimmediate ORDER BY 1",
                &[&oid],
            )
            .await?;
        let mut key: Vec<&str> = self.key.iter().map(|&c| self.columns[c].name.as_str()).collect();
        key.sort_unstable();
        let mut indexes: std::collections::BTreeMap<u32, Vec<String>> = Default::default();
        for row in &rows {
            indexes.entry(row.get(0)).or_default().push(quoted(row.get(1)));
        }
        let found = indexes.into_values().any(|mut columns| {
            columns.sort_unstable();
            columns == key
        });
        if found {
            return Ok(());
        }
        let key = self.list(self.key.iter().copied());
        Err(Error::sql(format!(
            "the table {} has no unique index on its key ({key}), so rows cannot be found by it",
            settings.table
        ))
        .remedy(format!("ALTER TABLE {} ADD PRIMARY KEY ({key})", self.name)))
    }
}

pub async fn columns(link: &Link, oid: u32) -> Result<Vec<Stored>> {
    let rows = link
        .query(
            "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), b.typname::text, b.typcategory::text, \
             COALESCE(e.typname::text, ''), a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', \
             a.attgenerated <> '', format_type(b.oid, -1) FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
             JOIN pg_type b ON b.oid = COALESCE(NULLIF(t.typbasetype, 0), t.oid) \
             LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typcategory = 'A' \
             WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[&oid],
        )
        .await?;
    let stored = rows.iter().map(|r| Stored {
        name: r.get(0),
        shown: r.get(1),
        base: r.get(2),
        category: r.get(3),
        item: r.get(4),
        wanted: r.get(5),
        generated: r.get(6),
        whole: r.get(7),
    });
    Ok(stored.collect())
}

/// The stored column of each declared one.
fn fit(table: &str, spec: &TableSpec, stored: &[Stored]) -> Result<Vec<Column>> {
    let mut used = Vec::new();
    let columns = spec.schema.fields().iter().map(|field| {
        // Folded, as PostgreSQL folds what is not quoted: Flink's connector quotes nothing.
        let folded = field.name().to_lowercase();
        let found = stored.iter().find(|s| s.name == *field.name()).or_else(|| stored.iter().find(|s| s.name == folded));
        let Some(column) = found else {
            let known: Vec<&str> = stored.iter().map(|s| s.name.as_str()).collect();
            return Err(Error::sql(format!("the table {table} has no column `{}`", field.name())).remedy(format!(
                "it has {}; or ALTER TABLE {table} ADD COLUMN {} {}",
                known.join(", "),
                quoted(field.name()),
                stored_type(field.data_type())
            )));
        };
        used.push(column.name.as_str());
        if column.generated {
            return Err(Error::sql(format!("the column `{}` of {table} is computed there", column.name))
                .remedy("take it out of the declaration"));
        }
        let form = form(field, column).ok_or_else(|| {
            Error::sql(format!(
                "the column `{}` is {} and in the table {table} {}, which does not hold all of its values",
                field.name(),
                sql_type(field.data_type()),
                column.shown
            ))
            .remedy(format!(
                "CAST it in the query and declare it as the table has it, or ALTER TABLE {table} ALTER COLUMN {} TYPE {}",
                quoted(&column.name),
                stored_type(field.data_type())
            ))
        })?;
        Ok(Column { name: quoted(&column.name), form })
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    if let Some(left_out) = stored.iter().find(|s| s.wanted && !s.generated && !used.contains(&s.name.as_str())) {
        return Err(Error::sql(format!(
            "the column `{}` of {table} is NOT NULL without a default, and the declaration does not have it",
            left_out.name
        ))
        .remedy(format!("declare it, or ALTER TABLE {table} ALTER COLUMN {} SET DEFAULT ..", quoted(&left_out.name))));
    }
    Ok(columns)
}

/// How values of a declared column go into a stored one; `None` where some would not fit. Whatever fits does so
/// without loss, but for the nanoseconds of TIMESTAMP(9).
fn form(field: &Field, stored: &Stored) -> Option<Form> {
    let textual = matches!(stored.category.as_str(), "S" | "E" | "I")
        || (stored.category == "U" && stored.base != "bytea")
        || stored.category == "X";
    let json = matches!(stored.base.as_str(), "json" | "jsonb");
    match field.data_type() {
        DataType::Utf8 if textual => Some(Form::Plain),
        DataType::List(item) if stored.category == "A" => {
            fits(item.data_type(), &stored.item, &stored.shown).then_some(Form::Array)
        }
        DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => {
            (json || stored.category == "S").then_some(Form::Json)
        }
        scalar => fits(scalar, &stored.base, &stored.shown).then_some(Form::Plain),
    }
}

pub fn fits(scalar: &DataType, base: &str, shown: &str) -> bool {
    let among = |names: &[&str]| names.contains(&base);
    match scalar {
        DataType::Boolean => base == "bool",
        DataType::Int8 | DataType::Int16 => {
            among(&["int2", "int4", "int8", "float4", "float8"]) || whole(base, shown, 5)
        }
        DataType::Int32 => among(&["int4", "int8", "float8"]) || whole(base, shown, 10),
        DataType::Int64 => among(&["int8"]) || whole(base, shown, 19),
        DataType::Float32 => among(&["float4", "float8"]),
        DataType::Float64 => among(&["float8"]),
        DataType::Decimal128(p, s) => {
            let (p, s) = (i32::from(*p), i32::from(*s));
            base == "numeric" && modifiers(shown).is_none_or(|(sp, ss)| ss >= s && sp - ss >= p - s)
        }
        DataType::Utf8 => among(&["text", "varchar", "bpchar", "citext", "uuid", "json", "jsonb"]),
        DataType::Binary => base == "bytea",
        DataType::Date32 => among(&["date", "timestamp"]),
        DataType::Time32(_) => base == "time" && digits(shown) >= 3,
        DataType::Timestamp(unit, zone) => {
            let needed = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond | TimeUnit::Nanosecond => 6,
            };
            base == if zone.is_some() { "timestamptz" } else { "timestamp" } && digits(shown) >= needed
        }
        _ => false,
    }
}

/// Whether `numeric` holds whole numbers of so many digits.
fn whole(base: &str, shown: &str, needed: i32) -> bool {
    base == "numeric" && modifiers(shown).is_none_or(|(p, s)| p - s >= needed)
}

/// Precision and scale of `numeric(10,2)`.
fn modifiers(shown: &str) -> Option<(i32, i32)> {
    let (inner, _) = shown.split_once('(')?.1.split_once(')')?;
    let (p, s) = inner.split_once(',').unwrap_or((inner, "0"));
    Some((p.trim().parse().ok()?, s.trim().parse().ok()?))
}

/// Digits of the second of `timestamp(3) without time zone`; 6 where it does not say.
fn digits(shown: &str) -> i32 {
    modifiers(shown).map_or(6, |(p, _)| p)
}

/// The type that a column is best stored as.
pub fn stored_type(of: &DataType) -> String {
    match of {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::Int16 => "smallint".into(),
        DataType::Int32 => "integer".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal128(p, s) => format!("numeric({p},{s})"),
        DataType::Binary => "bytea".into(),
        DataType::Date32 => "date".into(),
        DataType::Time32(_) => "time".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Timestamp(_, Some(_)) => "timestamptz".into(),
        DataType::List(item) if !item.data_type().is_nested() => format!("{}[]", stored_type(item.data_type())),
        DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => "jsonb".into(),
        _ => "text".into(),
    }
}

/// The statement that makes the table, to be copied. Names are folded as `fit` folds them.
fn create_table(table: &str, spec: &TableSpec) -> String {
    let mut lines: Vec<String> = spec
        .schema
        .fields()
        .iter()
        .map(|f| {
            let not_null = if f.is_nullable() { "" } else { " NOT NULL" };
            format!("  {} {}{not_null}", quoted(f.name()), stored_type(f.data_type()))
        })
        .collect();
    if !spec.primary_key.is_empty() {
        let key: Vec<String> = spec.primary_key.iter().map(|c| quoted(c)).collect();
        lines.push(format!("  PRIMARY KEY ({})", key.join(", ")));
    }
    format!("CREATE TABLE {table} (\n{}\n);", lines.join(",\n"))
}
