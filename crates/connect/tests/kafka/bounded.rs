//! Reads a bounded table to its end, as a job would.

use crate::broker::PATIENCE;
use millstream_connect::Registry;
use millstream_core::table::{Connectors, TableUse};
use millstream_core::{BadRow, Polled, Result, TableSpec};
use millstream_formats::text::Printer;
use std::time::{Duration, Instant};

/// The rows of a bounded table as text, in order, and what is none.
pub fn read(spec: &TableSpec) -> Result<(Vec<String>, Vec<BadRow>)> {
    let registry = Registry::new();
    registry.validate(spec, TableUse::Source)?;
    let (mut rows, mut bad, until) = (Vec::new(), Vec::new(), Instant::now() + PATIENCE);
    for mut reader in registry.open_source(spec)?.partitions(1)? {
        loop {
            assert!(Instant::now() < until, "no end; so far {rows:?}");
            match reader.poll()? {
                Polled::End => break,
                Polled::Pending => std::thread::sleep(Duration::from_millis(1)),
                Polled::Rows(some) => {
                    let printer = Printer::new(&some.rows).expect("printable");
                    for row in 0..some.rows.num_rows() {
                        let mut out = Vec::new();
                        printer.write(row, &mut out);
                        rows.push(String::from_utf8(out).expect("text"));
                    }
                    bad.extend(some.bad);
                }
            }
        }
    }
    rows.sort();
    Ok((rows, bad))
}
