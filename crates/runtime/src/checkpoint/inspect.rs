//! The tables of a checkpoint for a reader who is not the job: with what the manifest and the files say of themselves,
//! and no operator.

use super::files;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_checkpoint::manifest::{Chain, TableState};
use millstream_core::{Result, Store};
use millstream_state::table::{TableDef, alive};
use std::sync::Arc;

/// The columns of a table, all of which may be NULL: from the manifest, or where that writes a type which cannot be read
/// back, from the table's first file. `None`: such a table without a file, so without a row.
pub fn columns(store: &dyn Store, table: &TableState) -> Result<Option<SchemaRef>> {
    let named: Option<Vec<Field>> = table.columns.iter().map(|c| column(c)).collect();
    if let Some(fields) = named {
        return Ok(Some(Arc::new(Schema::new(fields))));
    }
    let Some(file) = table.chains.iter().flat_map(|c| &c.pieces).next() else { return Ok(None) };
    Ok(files::read(store, file)?.first().map(without_change))
}

/// `name Type`, as manifests write it. A name may have blanks: the type is the longest end that is one.
fn column(text: &str) -> Option<Field> {
    let cut = |(at, _): (usize, &str)| Some(Field::new(&text[..at], text[at + 1..].parse::<DataType>().ok()?, true));
    text.match_indices(' ').find_map(cut)
}

fn without_change(piece: &RecordBatch) -> SchemaRef {
    Arc::new(Schema::new(piece.schema().fields().iter().skip(1).cloned().collect::<Vec<_>>()))
}

/// The rows of one chain that are alive, in the order in which they were put. Held in memory, as the task that saved
/// them does.
pub fn rows(store: &dyn Store, table: &TableState, chain: &Chain) -> Result<Vec<RecordBatch>> {
    let pieces = chain.pieces.iter().map(|f| files::read(store, f));
    let pieces: Vec<RecordBatch> = pieces.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return Ok(Vec::new()) };
    // The newest piece has all columns; what an older one lacks has come with a later version.
    let (columns, before) = (without_change(last), without_change(first));
    let is_new = |at: &usize| before.column_with_name(columns.field(*at).name()).is_none();
    let later = (0..columns.fields().len()).filter(is_new).collect();
    let def = TableDef {
        name: table.name.clone(),
        version: table.version,
        columns,
        key: table.key,
        part: table.part,
        group_by: Vec::new(),
        later,
    };
    alive(&def, &pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Fields, TimeUnit};

    #[test]
    fn columns_are_read_back_as_manifests_write_them() {
        let text = |name: &str, t: &DataType| column(&format!("{name} {t}"));
        for t in [
            DataType::Int64,
            DataType::Utf8,
            DataType::FixedSizeBinary(24),
            DataType::Decimal128(20, 3),
            DataType::Timestamp(TimeUnit::Millisecond, None),
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            DataType::Struct(Fields::from(vec![Field::new("a", DataType::Int64, true)])),
            DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
        ] {
            for name in ["n", "with Int64 in it", ""] {
                assert_eq!(text(name, &t), Some(Field::new(name, t.clone(), true)), "{name} {t}");
            }
        }
        assert_eq!(column("n Whatever"), None);
    }
}
