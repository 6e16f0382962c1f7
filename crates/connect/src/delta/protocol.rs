//! Which tables can be read, and which can be written to.
//!
//! A table says what its readers and writers have to know. Something unknown may change what the rows are (deleted rows,
//! other names of columns), so such a table is refused and not read half right. A feature that a table names and does not use
//! is no obstacle, where the log tells that.

use super::actions::{Protocol, Snapshot};
use millstream_core::{Error, Place, Result};

/// The only feature that is ever asked of readers by tables that are made here: TIMESTAMP without a zone.
pub const TIMESTAMP_NTZ: &str = "timestampNtz";

/// Versions up to which the protocol is known. From reader 3 and writer 7 on features are named one by one.
const READER_MAX: i32 = 3;
const WRITER_MAX: i32 = 7;

/// What a table made here needs: the least, so that old readers can read it.
pub fn of_new_table(has_ntz: bool) -> Protocol {
    if !has_ntz {
        return Protocol { min_reader_version: 1, min_writer_version: 2, reader_features: None, writer_features: None };
    }
    let features = |all: &[&str]| Some(all.iter().map(ToString::to_string).collect());
    Protocol {
        min_reader_version: 3,
        min_writer_version: 7,
        reader_features: features(&[TIMESTAMP_NTZ]),
        // Since a writer of version 7 knows only what is named, what version 2 means is named.
        writer_features: features(&["appendOnly", "invariants", TIMESTAMP_NTZ]),
    }
}

fn refused(what: String, shown: &str, remedy: &str) -> Error {
    Error::data(what).at(Place(shown.to_owned())).remedy(remedy)
}

/// That the rows of the table can be read right.
pub fn check_read(snapshot: &Snapshot, shown: &str) -> Result<()> {
    let protocol = &snapshot.protocol;
    if protocol.min_reader_version > READER_MAX {
        return Err(refused(
            format!(
                "the table needs readers of version {}, and this is one of {READER_MAX}",
                protocol.min_reader_version
            ),
            shown,
            "read it with a newer Millstream",
        ));
    }
    let mode = snapshot.metadata.property("delta.columnMapping.mode").unwrap_or("none");
    if mode != "none" {
        return Err(refused(
            format!("the table stores its columns under other names (column mapping by {mode}), which is not read"),
            shown,
            "rewrite it without: ALTER TABLE .. SET TBLPROPERTIES ('delta.columnMapping.mode' = 'none'), or CREATE TABLE .. AS SELECT",
        ));
    }
    if let Some(file) = snapshot.files().find(|file| file.deletion_vector.is_some()) {
        return Err(refused(
            format!("rows of the file {} are deleted by a deletion vector, which is not read", file.path),
            shown,
            "write them out: REORG TABLE .. APPLY (PURGE), then switch them off: 'delta.enableDeletionVectors' = 'false'",
        ));
    }
    // What is checked above, what changes no rows, and what only says how types may have grown.
    let known = [
        TIMESTAMP_NTZ,
        "columnMapping",
        "deletionVectors",
        "vacuumProtocolCheck",
        "typeWidening",
        "typeWidening-preview",
    ];
    let features = protocol.reader_features.iter().flatten();
    for feature in features {
        if !known.contains(&feature.as_str()) {
            return Err(refused(
                format!("the table has the feature `{feature}`, which is not read"),
                shown,
                "drop the feature (ALTER TABLE .. DROP FEATURE), or copy the rows into a table without it",
            ));
        }
    }
    Ok(())
}

/// That rows can be added to the table, or, with `changes`, also be taken away.
pub fn check_write(snapshot: &Snapshot, shown: &str, changes: bool) -> Result<()> {
    check_read(snapshot, shown)?;
    let (protocol, metadata) = (&snapshot.protocol, &snapshot.metadata);
    let version = protocol.min_writer_version;
    if version > WRITER_MAX {
        return Err(refused(
            format!("the table needs writers of version {version}, and this is one of {WRITER_MAX}"),
            shown,
            "write to it with a newer Millstream",
        ));
    }
    if changes && metadata.is_on("delta.appendOnly") {
        return Err(refused(
            "the table takes new rows only ('delta.appendOnly' = 'true'), and this one has a PRIMARY KEY".into(),
            shown,
            "leave out PRIMARY KEY, or set 'delta.appendOnly' = 'false' on the table",
        ));
    }
    let known = [
        TIMESTAMP_NTZ,
        "appendOnly",
        "invariants",
        "checkConstraints",
        "generatedColumns",
        "changeDataFeed",
        "columnMapping",
        "identityColumns",
        "deletionVectors",
        "domainMetadata",
        "vacuumProtocolCheck",
    ];
    for feature in protocol.writer_features.iter().flatten() {
        if !known.contains(&feature.as_str()) {
            return Err(refused(
                format!("writers of the table have to know the feature `{feature}`, which is not known here"),
                shown,
                "drop the feature (ALTER TABLE .. DROP FEATURE), or write to another table",
            ));
        }
    }
    let constraint = metadata.configuration.keys().find(|key| key.starts_with("delta.constraints."));
    let schema = &metadata.schema_string;
    let asks = |key: &str| schema.contains(&format!("\"{key}\""));
    let used = match constraint {
        Some(key) => Some(format!("a constraint ({key})")),
        None if asks("delta.invariants") => Some("an invariant of a column".to_owned()),
        None if asks("delta.generationExpression") => Some("a generated column".to_owned()),
        None if asks("delta.identity.start") => Some("an identity column".to_owned()),
        None if changes && metadata.is_on("delta.enableChangeDataFeed") => {
            Some("a change data feed, which an upsert would have to write".to_owned())
        }
        None => None,
    };
    match used {
        Some(used) => Err(refused(
            format!("the table has {used}, and what it asks of writers is not done here"),
            shown,
            "take it off the table, or write to another one",
        )),
        None => Ok(()),
    }
}
