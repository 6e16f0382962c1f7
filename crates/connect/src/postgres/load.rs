//! Puts rows into the table, within a transaction that the caller holds.
//!
//! ```text
//!  without a key:  rows ──COPY──▶ table
//!  with a key:     +I +U ──COPY──▶ temporary table ──INSERT … ON CONFLICT DO UPDATE──▶ table
//!                  -U -D ──COPY──▶ temporary table of keys ──────DELETE … USING──────▶ table
//! ```
//!
//! The keys of the rows must differ (see `compact`): then the order of the two steps does not matter. The temporary
//! tables live as long as the transaction, so a new connection needs nothing, and neither does a pool in between.

use super::encode::Rows;
use super::session::Link;
use super::target::Target;
use crate::compact::takes_away;
use millstream_core::{Batch, Result};

/// Bytes of one piece of a COPY.
const PIECE_BYTES: usize = 256 << 10;

/// Bytes of rows that one statement writes by key. Each has to be answered within the patience of the connection, which
/// an epoch's worth of them might not be: 16 MiB of small rows take some seconds.
const STEP_BYTES: usize = 16 << 20;

/// Returns the bytes sent.
pub async fn load(link: &Link, target: &Target, batches: &[Batch]) -> Result<u64> {
    let all: Vec<usize> = (0..target.columns.len()).collect();
    if target.key.is_empty() {
        return copy(link, target, &target.name, &all, batches, |_, _| true).await;
    }
    let mut sent = 0;
    for step in steps(batches) {
        sent += change(link, target, &all, &step).await?;
    }
    Ok(sent)
}

/// The rows in portions of about `STEP_BYTES`.
fn steps(batches: &[Batch]) -> Vec<Vec<Batch>> {
    let (mut steps, mut step, mut bytes) = (Vec::new(), Vec::new(), 0);
    for batch in batches.iter().filter(|b| !b.is_empty()) {
        // One that was read back from a checkpoint may be an epoch by itself.
        let parts = batch.bytes().div_ceil(STEP_BYTES).max(1);
        let rows = batch.len().div_ceil(parts);
        for from in (0..batch.len()).step_by(rows) {
            let part = batch.slice(from, rows.min(batch.len() - from));
            bytes += part.bytes();
            step.push(part);
            if bytes >= STEP_BYTES {
                steps.push(std::mem::take(&mut step));
                bytes = 0;
            }
        }
    }
    if !step.is_empty() {
        steps.push(step);
    }
    steps
}

/// Deletes and writes rows by key.
async fn change(link: &Link, target: &Target, all: &[usize], batches: &[Batch]) -> Result<u64> {
    let mut sent = 0;
    let any = |gone: bool| batches.iter().any(|b| (0..b.len()).any(|row| takes_away(b, row) == gone));
    if any(true) {
        let on: Vec<String> =
            target.key.iter().map(|&c| &target.columns[c].name).map(|n| format!("t.{n} = s.{n}")).collect();
        stage(link, target, "millstream_gone", &target.key).await?;
        sent += copy(link, target, "pg_temp.millstream_gone", &target.key, batches, takes_away).await?;
        link.execute(&format!(
            "DELETE FROM {} t USING pg_temp.millstream_gone s WHERE {}; DROP TABLE pg_temp.millstream_gone",
            target.name,
            on.join(" AND ")
        ))
        .await?;
    }
    if any(false) {
        stage(link, target, "millstream_rows", all).await?;
        sent += copy(link, target, "pg_temp.millstream_rows", all, batches, |b, row| !takes_away(b, row)).await?;
        let list = target.list(all.iter().copied());
        let set: Vec<String> = all
            .iter()
            .filter(|c| !target.key.contains(c))
            .map(|&c| &target.columns[c].name)
            .map(|n| format!("{n} = EXCLUDED.{n}"))
            .collect();
        let action = if set.is_empty() { "NOTHING".into() } else { format!("UPDATE SET {}", set.join(", ")) };
        link.execute(&format!(
            "INSERT INTO {} ({list}) SELECT {list} FROM pg_temp.millstream_rows ON CONFLICT ({}) DO {action}; \
             DROP TABLE pg_temp.millstream_rows",
            target.name,
            target.list(target.key.iter().copied()),
        ))
        .await?;
    }
    Ok(sent)
}

/// A temporary table with columns of exactly the target's types.
async fn stage(link: &Link, target: &Target, name: &str, columns: &[usize]) -> Result<()> {
    let list = target.list(columns.iter().copied());
    link.execute(&format!(
        "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {list} FROM {} WITH NO DATA",
        target.name
    ))
    .await
}

/// COPY of the rows that `of` chooses.
async fn copy(
    link: &Link,
    target: &Target,
    into: &str,
    columns: &[usize],
    batches: &[Batch],
    of: impl Fn(&Batch, usize) -> bool,
) -> Result<u64> {
    let sql = format!("COPY {into} ({}) FROM STDIN", target.list(columns.iter().copied()));
    let rows = batches
        .iter()
        .map(|b| Rows::new(&b.rows, columns.iter().map(|&c| (c, target.columns[c].form))))
        .collect::<Result<Vec<_>>>()?;
    let (mut batch, mut row, mut sent) = (0, 0, 0);
    link.copy(&sql, || {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        while batch < batches.len() && piece.len() < PIECE_BYTES {
            if row == batches[batch].len() {
                (batch, row) = (batch + 1, 0);
                continue;
            }
            if of(&batches[batch], row) {
                rows[batch].write(row, &mut piece)?;
            }
            row += 1;
        }
        sent += piece.len() as u64;
        Ok((!piece.is_empty()).then_some(piece))
    })
    .await?;
    Ok(sent)
}
