//! What has been declared so far: tables, views, settings.

use arrow::datatypes::{DataType, Field};
use datafusion_sql::sqlparser::ast;
use millstream_core::Place;
use std::collections::BTreeMap;

/// Tables, views and settings, by name. Names are kept as written; look-ups ignore case only where the SQL text was not
/// quoted (the parser folds nothing; Flink's identifiers are case-sensitive, and so are ours).
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub tables: BTreeMap<String, TableDef>,
    pub views: BTreeMap<String, ViewDef>,
    pub settings: crate::statement::Settings,
}

/// `CREATE TABLE`.
#[derive(Debug, Clone)]
pub struct TableDef {
    pub name: String,
    /// All columns in the order of their declaration.
    pub columns: Vec<ColumnDef>,
    pub watermark: Option<WatermarkDef>,
    pub primary_key: Vec<String>,
    pub partitioned_by: Vec<String>,
    /// The `WITH` clause: keys and values as written.
    pub options: BTreeMap<String, String>,
    /// Where `CREATE` stands.
    pub place: Place,
}

#[derive(Debug, Clone)]
pub struct ColumnDef {
    pub name: String,
    pub kind: ColumnKind,
    pub comment: Option<String>,
    /// Where the column stands in the text.
    pub span: Span,
}

#[derive(Debug, Clone)]
pub enum ColumnKind {
    /// Stored outside.
    Physical { data_type: DataType, nullable: bool },
    /// `name TYPE METADATA [FROM 'key'] [VIRTUAL]`. The key defaults to the column's name.
    Metadata { data_type: DataType, nullable: bool, key: String, is_virtual: bool },
    /// `name AS expression`. `PROCTIME()` as the whole expression makes a processing-time attribute.
    Computed { expression: ast::Expr },
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, Clone)]
pub struct WatermarkDef {
    pub column: String,
    pub expression: ast::Expr,
    pub span: Span,
}

/// `CREATE [TEMPORARY] VIEW name [(columns)] AS query`.
#[derive(Debug, Clone)]
pub struct ViewDef {
    pub name: String,
    pub columns: Vec<String>,
    pub query: Box<ast::Query>,
    pub place: Place,
}

/// A place in the SQL text: line and column, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub line: u64,
    pub column: u64,
}

impl TableDef {
    /// The physical columns as Arrow fields, in the order of their declaration.
    pub fn physical_fields(&self) -> Vec<Field> {
        self.columns
            .iter()
            .filter_map(|c| match &c.kind {
                ColumnKind::Physical { data_type, nullable } => Some(Field::new(&c.name, data_type.clone(), *nullable)),
                _ => None,
            })
            .collect()
    }
}
