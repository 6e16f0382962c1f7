//! A checkpoint of the log: all actions that still count, in one Parquet file.
//!
//! The columns of the file are the actions, with the fields that they have in JSON. So a file is read by way of JSON, and
//! written that way; it is read once at the start of a job, and written once in some ten commits.

use super::actions::Line;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::json::{LineDelimitedWriter, ReaderBuilder};
use millstream_core::{Error, Place, Result};
use millstream_formats::parquet::each_batch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::sync::Arc;

/// Actions that are turned into columns at a time.
const LINES_AT_A_TIME: usize = 4096;

const ACTIONS: [&str; 6] = ["protocol", "metaData", "txn", "add", "remove", "domainMetadata"];

/// What is in a file a second time, in another form.
const PARSED: [&str; 2] = ["stats_parsed", "partitionValues_parsed"];

/// Reads the actions of a checkpoint.
pub fn read(bytes: Vec<u8>, name: &str, mut each: impl FnMut(Line) -> Result<()>) -> Result<()> {
    let wanted = |path: &[String]| {
        path.first().is_some_and(|root| ACTIONS.contains(&root.as_str()))
            && path.get(1).is_none_or(|field| !PARSED.contains(&field.as_str()))
    };
    each_batch(bytes::Bytes::from(bytes), name, wanted, |rows| {
        let mut text = LineDelimitedWriter::new(Vec::new());
        text.write(&rows)?;
        text.finish()?;
        // By lines: each is an action.
        for line in text.into_inner().split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            each(serde_json::from_slice(line).map_err(|e| {
                Error::data(format!("an action of the checkpoint cannot be read: {e}"))
                    .at(Place(name.to_owned()))
                    .remedy("restore the file from a copy, or remove it and _last_checkpoint if all commits are there")
            })?)?;
        }
        Ok(())
    })
}

/// A file with these actions.
pub fn write(lines: &[Line]) -> Result<Vec<u8>> {
    let failed = |e: parquet::errors::ParquetError| Error::internal(format!("a checkpoint of a log: {e}"));
    let schema = schema();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(failed)?;
    for lines in lines.chunks(LINES_AT_A_TIME) {
        let mut decoder = ReaderBuilder::new(schema.clone()).build_decoder()?;
        decoder.serialize(lines)?;
        if let Some(rows) = decoder.flush()? {
            writer.write(&rows).map_err(failed)?;
        }
    }
    writer.into_inner().map_err(failed)
}

fn schema() -> SchemaRef {
    use DataType::{Boolean, Int32, Int64, Utf8};
    let some = |name: &str, of: DataType| Field::new(name, of, true);
    let must = |name: &str, of: DataType| Field::new(name, of, false);
    let row = |fields: Vec<Field>| DataType::Struct(Fields::from(fields));
    let texts = || {
        let entries = row(vec![must("key", Utf8), some("value", Utf8)]);
        DataType::Map(Arc::new(must("key_value", entries)), false)
    };
    let list = || DataType::List(Arc::new(some("element", Utf8)));
    let deleted = || {
        row(vec![
            must("storageType", Utf8),
            must("pathOrInlineDv", Utf8),
            some("offset", Int32),
            must("sizeInBytes", Int32),
            must("cardinality", Int64),
        ])
    };
    Arc::new(Schema::new(vec![
        some("txn", row(vec![must("appId", Utf8), must("version", Int64), some("lastUpdated", Int64)])),
        some(
            "add",
            row(vec![
                must("path", Utf8),
                must("partitionValues", texts()),
                must("size", Int64),
                must("modificationTime", Int64),
                must("dataChange", Boolean),
                some("stats", Utf8),
                some("tags", texts()),
                some("deletionVector", deleted()),
            ]),
        ),
        some(
            "remove",
            row(vec![
                must("path", Utf8),
                some("deletionTimestamp", Int64),
                must("dataChange", Boolean),
                some("extendedFileMetadata", Boolean),
                some("partitionValues", texts()),
                some("size", Int64),
                some("deletionVector", deleted()),
            ]),
        ),
        some(
            "metaData",
            row(vec![
                must("id", Utf8),
                some("name", Utf8),
                some("description", Utf8),
                must("format", row(vec![must("provider", Utf8), must("options", texts())])),
                must("schemaString", Utf8),
                must("partitionColumns", list()),
                must("configuration", texts()),
                some("createdTime", Int64),
            ]),
        ),
        some(
            "protocol",
            row(vec![
                must("minReaderVersion", Int32),
                must("minWriterVersion", Int32),
                some("readerFeatures", list()),
                some("writerFeatures", list()),
            ]),
        ),
        some("domainMetadata", row(vec![must("domain", Utf8), must("configuration", Utf8), must("removed", Boolean)])),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_comes_back_as_it_was() {
        let lines: Vec<Line> = [
            r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["a"],"writerFeatures":["a","b"]}}"#,
            r#"{"metaData":{"id":"x","format":{"provider":"parquet","options":{}},"schemaString":"{\"a\": [1]}","partitionColumns":["d"],"configuration":{"k":"v"},"createdTime":5}}"#,
            r#"{"txn":{"appId":"job/t","version":7,"lastUpdated":3}}"#,
            r#"{"domainMetadata":{"domain":"d","configuration":"{}","removed":false}}"#,
            r#"{"add":{"path":"d=1/a%20b.parquet","partitionValues":{"d":"1","e":"ä\n"},"size":9,"modificationTime":4,"dataChange":false,"stats":"{\"numRecords\":1}","tags":{"t":"u"}}}"#,
            r#"{"add":{"path":"b","partitionValues":{},"size":9,"modificationTime":4,"dataChange":false,"deletionVector":{"storageType":"u","pathOrInlineDv":"x","offset":1,"sizeInBytes":2,"cardinality":3}}}"#,
            r#"{"remove":{"path":"c","deletionTimestamp":8,"dataChange":false,"extendedFileMetadata":true,"partitionValues":{"d":"1"},"size":3}}"#,
        ]
        .iter()
        .map(|text| serde_json::from_str(text).expect("an action"))
        .collect();
        let many: Vec<Line> = lines.iter().cycle().take(3 * LINES_AT_A_TIME).cloned().collect();
        let mut back = Vec::new();
        read(write(&many).expect("written"), "c.parquet", |line| {
            back.push(line);
            Ok(())
        })
        .expect("read");
        assert_eq!(back.len(), many.len());
        assert_eq!(back, many);
        let e = read(vec![1; 40], "c.parquet", |_| Ok(())).expect_err("no Parquet");
        assert_eq!(e.place().map(ToString::to_string), Some("c.parquet".to_owned()));
    }
}
