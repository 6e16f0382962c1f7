//! Prints the rows of a plain `SELECT` to standard output as they come.
//!
//! A result that is updated shows its changes: a column `op` in front says of each row that it is new (`+I`), that it is what a
//! row was (`-U`) or has become (`+U`), or that it is gone (`-D`), as Flink's SQL client does.

use super::args::Format;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::csv::WriterBuilder as CsvBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::LineDelimitedWriter;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream::{Batch, ChangeKind, Error, Result, ResultRows};
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::{Arc, Mutex, MutexGuard};

/// A table's column is as wide as its name, its type or the values of the first batch ask for, within these bounds;
/// a longer value pushes its row out of line rather than being cut.
const WIDTH_MAX: usize = 60;

/// Prints rows in one of the formats.
pub struct Printer {
    format: Format,
    state: Mutex<State>,
}

struct State {
    out: BufWriter<Stdout>,
    schema: Option<SchemaRef>,
    widths: Vec<usize>,
    updates: bool,
    rows: u64,
}

impl Printer {
    pub fn new(format: Format) -> Printer {
        let state = State {
            out: BufWriter::with_capacity(1 << 16, io::stdout()),
            schema: None,
            widths: Vec::new(),
            updates: false,
            rows: 0,
        };
        Printer { format, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|p| p.into_inner())
    }
}

impl ResultRows for Printer {
    fn start(&self, schema: &SchemaRef, updates: bool) -> Result<()> {
        let mut state = self.state();
        let schema = if updates { with_op(schema) } else { schema.clone() };
        state.updates = updates;
        state.schema = Some(schema.clone());
        state.rows = 0;
        state.widths.clear();
        if self.format == Format::Csv {
            let names: Vec<String> = schema.fields().iter().map(|f| csv_cell(f.name())).collect();
            writeln!(state.out, "{}", names.join(",")).map_err(broken)?;
        }
        Ok(())
    }

    fn rows(&self, batch: &Batch) -> Result<()> {
        let mut state = self.state();
        state.rows += batch.len() as u64;
        let rows = match (&state.schema, state.updates) {
            (Some(schema), true) => {
                let op =
                    |i| batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(i))).short();
                let ops: ArrayRef = Arc::new((0..batch.len()).map(|i| Some(op(i))).collect::<StringArray>());
                RecordBatch::try_new(schema.clone(), [&[ops], batch.rows.columns()].concat())?
            }
            _ => batch.rows.clone(),
        };
        match self.format {
            Format::Table => table(&mut state, &rows),
            Format::Csv => {
                let options = CsvBuilder::new().with_header(false).with_timestamp_format("%F %T%.3f".into());
                Ok(options.build(&mut state.out).write(&rows)?)
            }
            Format::Json => {
                let mut writer = LineDelimitedWriter::new(&mut state.out);
                writer.write(&rows)?;
                Ok(writer.finish()?)
            }
        }
    }

    fn flush(&self) -> Result<()> {
        self.state().out.flush().map_err(broken)
    }

    fn finish(&self) -> Result<()> {
        let mut state = self.state();
        if self.format == Format::Table {
            if state.widths.is_empty()
                && let Some(schema) = state.schema.clone()
            {
                header(&mut state, &RecordBatch::new_empty(schema))?;
            }
            let (rows, what) = (state.rows, if state.updates { "change" } else { "row" });
            writeln!(state.out, "({rows} {what}{})", if rows == 1 { "" } else { "s" }).map_err(broken)?;
        }
        state.out.flush().map_err(broken)
    }
}

/// The columns behind one that says what happens to the row.
fn with_op(schema: &SchemaRef) -> SchemaRef {
    let name = if schema.index_of("op").is_ok() { "$op" } else { "op" };
    let op = Arc::new(Field::new(name, DataType::Utf8, false));
    Arc::new(Schema::new(std::iter::once(op).chain(schema.fields().iter().cloned()).collect::<Vec<_>>()))
}

fn broken(e: io::Error) -> Error {
    Error::io(format!("cannot write to standard output: {e}"))
}

fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn options() -> FormatOptions<'static> {
    FormatOptions::default()
        .with_null("NULL")
        .with_timestamp_format(Some("%F %T%.3f"))
        .with_timestamp_tz_format(Some("%F %T%.3fZ"))
}

fn formatters(rows: &RecordBatch) -> Result<Vec<ArrayFormatter<'_>>> {
    // The formatters keep no reference to the options, whose texts are static.
    static OPTIONS: std::sync::OnceLock<FormatOptions<'static>> = std::sync::OnceLock::new();
    let options = OPTIONS.get_or_init(options);
    Ok(rows.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), options)).collect::<Result<_, _>>()?)
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

fn table(state: &mut State, rows: &RecordBatch) -> Result<()> {
    if state.widths.is_empty() {
        header(state, rows)?;
    }
    let formatters = formatters(rows)?;
    let mut line = String::new();
    for row in 0..rows.num_rows() {
        line.clear();
        for (i, formatter) in formatters.iter().enumerate() {
            let cell = formatter.value(row).try_to_string()?.replace(['\n', '\r'], " ");
            push_cell(&mut line, i, &cell, state.widths[i], is_number(rows.column(i).data_type()));
        }
        writeln!(state.out, "{}", line.trim_end()).map_err(broken)?;
    }
    Ok(())
}

fn push_cell(line: &mut String, column: usize, cell: &str, width: usize, right: bool) {
    if column > 0 {
        line.push_str("  ");
    }
    let padding = width.saturating_sub(cell.chars().count());
    if right {
        line.extend(std::iter::repeat_n(' ', padding));
        line.push_str(cell);
    } else {
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', padding));
    }
}

fn header(state: &mut State, first: &RecordBatch) -> Result<()> {
    let schema = first.schema();
    let formatters = formatters(first)?;
    let sample = first.num_rows().min(200);
    state.widths = schema
        .fields()
        .iter()
        .zip(&formatters)
        .map(|(field, formatter)| {
            let values = (0..sample).map(|row| formatter.value(row).to_string().chars().count());
            let widest = values.max().unwrap_or(0).max(width_of(field.data_type()));
            widest.min(WIDTH_MAX).max(field.name().chars().count())
        })
        .collect();
    let (mut names, mut rules) = (String::new(), String::new());
    for (i, field) in schema.fields().iter().enumerate() {
        push_cell(&mut names, i, field.name(), state.widths[i], is_number(field.data_type()));
        push_cell(&mut rules, i, &"─".repeat(state.widths[i]), state.widths[i], false);
    }
    let (bold, plain) = if io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    writeln!(state.out, "{bold}{}{plain}\n{rules}", names.trim_end()).map_err(broken)
}

/// What a column of this type usually needs.
fn width_of(data_type: &DataType) -> usize {
    match data_type {
        DataType::Timestamp(TimeUnit::Millisecond, _) => 23,
        DataType::Date32 => 10,
        _ => 4,
    }
}
