//! Runs SQL and gives the rows back as sorted text, so that answers compare as multisets.

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream::{Mode, Program, Result, RunOptions};

pub fn run(sql: &str, mode: Mode, parallelism: usize) -> Result<Vec<String>> {
    let program = Program::parse(sql, "test.sql")?;
    let options = RunOptions { mode: Some(mode), parallelism: Some(parallelism), ..RunOptions::default() };
    let mut rows = texts(&millstream::collect(program, options)?);
    rows.sort_unstable();
    Ok(rows)
}

/// Each row as `a|b|c`, with NULL spelled out.
pub fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|c| ArrayFormatter::try_new(c.as_ref(), &options).expect("every type has a text"))
            .collect();
        rows.extend((0..batch.num_rows()).map(|row| {
            let cells: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
            cells.join("|")
        }));
    }
    rows
}

/// Where two answers part, with a few rows of each.
pub fn difference(left: &[String], right: &[String]) -> String {
    let missing = |a: &[String], b: &[String]| -> Vec<String> {
        let mut rest = b.to_vec();
        a.iter()
            .filter(|row| match rest.iter().position(|r| r == *row) {
                Some(at) => {
                    rest.swap_remove(at);
                    false
                }
                None => true,
            })
            .take(8)
            .cloned()
            .collect()
    };
    format!(
        "{} rows against {}\n  only left:\n    {}\n  only right:\n    {}",
        left.len(),
        right.len(),
        missing(left, right).join("\n    "),
        missing(right, left).join("\n    ")
    )
}
