//! Types as Flink writes them, to Arrow.
//!
//! ```text
//!  type    := name [ '(' numbers ')' ] [ suffix ] { ARRAY | MULTISET | [NOT] NULL }
//!           | ARRAY '<' type '>' | MULTISET '<' type '>' | MAP '<' type ',' type '>'
//!           | ROW ( '<' fields '>' | '(' fields ')' )
//!  fields  := name type [ 'comment' ] { ',' .. }
//! ```
//!
//! One parser serves the columns of `CREATE TABLE` and the targets of `CAST`, so a type means the same in both.
//! sqlparser's own type parser knows no `ROW<..>`, no `MAP<..>` and no `TIMESTAMP(3) WITH LOCAL TIME ZONE`; where it
//! fails, a `CAST` carries the type's text ([`ast::DataType::Custom`]) and [`arrow_type`] reads it again.

use super::{expected, fail, is_word, place_of, take_word};
use crate::dialect::MillstreamDialect;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion_sql::sqlparser::ast;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Token, Tokenizer};
use millstream_core::error::did_you_mean;
use millstream_core::multiset::multiset_of;
use std::sync::Arc;

/// How deep `ARRAY<ROW<MAP<..` may go.
const NESTED_TYPES_MAX: usize = 32;

/// A type as declared.
#[derive(Debug, Clone, PartialEq)]
pub struct SqlType {
    pub data_type: DataType,
    /// False after `NOT NULL`.
    pub nullable: bool,
    /// As it would be written in full: `DECIMAL(10, 0)`, `ROW<a INT, b STRING NOT NULL>`, without the outer `NOT NULL`.
    pub text: String,
}

/// The names that a type can start with, for "did you mean".
const NAMES: [&str; 25] = [
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "NUMERIC",
    "CHAR",
    "VARCHAR",
    "STRING",
    "BINARY",
    "VARBINARY",
    "BYTES",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "ARRAY",
    "MAP",
    "MULTISET",
    "ROW",
    "DEC",
];

/// What people who come from other systems write, and what it is here.
const ELSEWHERE: [(&str, &str); 32] = [
    ("TEXT", "STRING"),
    ("CLOB", "STRING"),
    ("NVARCHAR", "VARCHAR"),
    ("VARCHAR2", "VARCHAR"),
    ("JSON", "STRING"),
    ("JSONB", "STRING"),
    ("UUID", "STRING"),
    ("BOOL", "BOOLEAN"),
    ("INT1", "TINYINT"),
    ("INT2", "SMALLINT"),
    ("INT4", "INT"),
    ("INT8", "BIGINT"),
    ("INT16", "SMALLINT"),
    ("INT32", "INT"),
    ("INT64", "BIGINT"),
    ("LONG", "BIGINT"),
    ("SHORT", "SMALLINT"),
    ("SERIAL", "BIGINT"),
    ("REAL", "FLOAT"),
    ("FLOAT4", "FLOAT"),
    ("FLOAT8", "DOUBLE"),
    ("FLOAT32", "FLOAT"),
    ("FLOAT64", "DOUBLE"),
    ("NUMBER", "DECIMAL(p, s)"),
    ("DATETIME", "TIMESTAMP(3)"),
    ("DATETIME64", "TIMESTAMP(3)"),
    ("TIMESTAMPTZ", "TIMESTAMP_LTZ(3)"),
    ("TIMESTAMP_TZ", "TIMESTAMP_LTZ(3)"),
    ("BLOB", "BYTES"),
    ("BYTEA", "BYTES"),
    ("STRUCT", "ROW<name TYPE, ..>"),
    ("LIST", "ARRAY<TYPE>"),
];

/// The Arrow type of a type in a `CAST`. `None` when it is not one of ours.
///
/// Made for DataFusion's `TypePlanner`: what sqlparser understood is written out and read again by the one parser.
pub fn arrow_type(sql_type: &ast::DataType) -> Option<DataType> {
    parse_text(&sql_type.to_string()).ok().map(|t| t.data_type)
}

/// Reads a type from text of its own: `ROW<a INT, b ARRAY<STRING>>`.
pub fn parse_text(text: &str) -> Result<SqlType, ParserError> {
    let tokens = Tokenizer::new(&MillstreamDialect, text).tokenize_with_location()?;
    super::guard_depth(&tokens)?;
    let mut parser = Parser::new(&MillstreamDialect).with_tokens_with_locations(tokens);
    let parsed = parse_type(&mut parser)?;
    match parser.peek_token_ref().token {
        Token::EOF => Ok(parsed),
        _ => expected("the end of the type", &parser),
    }
}

/// Reads a type where the parser stands, with the `NOT NULL` behind it.
pub fn parse_type(parser: &mut Parser) -> Result<SqlType, ParserError> {
    let mut reader = Reader { parser, closed: false, depth: 0 };
    let parsed = reader.any()?;
    if reader.closed {
        return fail("one `>` too many", "each `<` of a type is closed by one `>`", reader.here());
    }
    Ok(parsed)
}

/// One read of a type.
struct Reader<'p, 'a> {
    parser: &'p mut Parser<'a>,
    /// The tokenizer makes `>>` one token. Whoever meets it takes the first half and leaves the second here.
    closed: bool,
    depth: usize,
}

impl Reader<'_, '_> {
    fn here(&self) -> Location {
        place_of(self.parser)
    }

    fn any(&mut self) -> Result<SqlType, ParserError> {
        self.depth += 1;
        if self.depth > NESTED_TYPES_MAX {
            return fail(
                format!("a type may be nested at most {NESTED_TYPES_MAX} deep"),
                "keep the inner part as STRING and take it apart with JSON functions",
                self.here(),
            );
        }
        let mut parsed = self.head()?;
        while !self.closed {
            if take_word(self.parser, "ARRAY") {
                let element = Field::new("item", parsed.data_type, true);
                let not_null = if parsed.nullable { "" } else { " NOT NULL" };
                parsed = SqlType::new(DataType::List(Arc::new(element)), format!("ARRAY<{}{not_null}>", parsed.text));
            } else if take_word(self.parser, "MULTISET") {
                let text = format!("MULTISET<{}>", parsed.with_null());
                parsed = SqlType::new(multiset_of(&parsed.data_type), text);
            } else if is_word(self.parser, 0, "NOT") && is_word(self.parser, 1, "NULL") {
                self.parser.advance_token();
                self.parser.advance_token();
                parsed.nullable = false;
            } else if is_word(self.parser, 0, "NULL") && !is_word(self.parser, 1, "ON") {
                // Not the NULL of `JSON_VALUE(.. RETURNING INT NULL ON EMPTY)`.
                self.parser.advance_token();
                parsed.nullable = true;
            } else {
                break;
            }
        }
        self.depth -= 1;
        Ok(parsed)
    }

    fn head(&mut self) -> Result<SqlType, ParserError> {
        let at = self.here();
        let name = match &self.parser.peek_token_ref().token {
            Token::Word(w) if w.quote_style.is_none() => w.value.to_uppercase(),
            _ => return expected("a type", self.parser),
        };
        self.parser.advance_token();
        let plain = |data_type: DataType, text: &str| Ok(SqlType::new(data_type, text));
        match name.as_str() {
            "BOOLEAN" => plain(DataType::Boolean, "BOOLEAN"),
            "TINYINT" => plain(DataType::Int8, "TINYINT"),
            "SMALLINT" => plain(DataType::Int16, "SMALLINT"),
            "INT" | "INTEGER" => plain(DataType::Int32, "INT"),
            "BIGINT" => plain(DataType::Int64, "BIGINT"),
            "FLOAT" => plain(DataType::Float32, "FLOAT"),
            "DOUBLE" => {
                take_word(self.parser, "PRECISION");
                plain(DataType::Float64, "DOUBLE")
            }
            "DECIMAL" | "DEC" | "NUMERIC" => self.decimal(at),
            "CHAR" | "VARCHAR" => self.sized(DataType::Utf8, &name, at),
            "CHARACTER" => {
                let name = if take_word(self.parser, "VARYING") { "VARCHAR" } else { "CHAR" };
                self.sized(DataType::Utf8, name, at)
            }
            "STRING" => plain(DataType::Utf8, "STRING"),
            "BINARY" => {
                let name = if take_word(self.parser, "VARYING") { "VARBINARY" } else { "BINARY" };
                self.sized(DataType::Binary, name, at)
            }
            "VARBINARY" => self.sized(DataType::Binary, &name, at),
            "BYTES" => plain(DataType::Binary, "BYTES"),
            "DATE" => plain(DataType::Date32, "DATE"),
            "TIME" => self.time(at),
            "TIMESTAMP" => self.timestamp(at),
            "TIMESTAMP_LTZ" => {
                let p = self.precision("TIMESTAMP_LTZ", 9, at)?.unwrap_or(6);
                Ok(SqlType::new(DataType::Timestamp(unit(p), Some("UTC".into())), format!("TIMESTAMP_LTZ({p})")))
            }
            "ARRAY" => {
                self.open("ARRAY<TYPE>")?;
                let element = self.any()?;
                self.close()?;
                let text = format!("ARRAY<{}>", element.with_null());
                Ok(SqlType::new(DataType::List(Arc::new(Field::new("item", element.data_type, true))), text))
            }
            "MULTISET" => {
                self.open("MULTISET<TYPE>")?;
                let element = self.any()?;
                self.close()?;
                Ok(SqlType::new(multiset_of(&element.data_type), format!("MULTISET<{}>", element.with_null())))
            }
            "MAP" => {
                self.open("MAP<KEY, VALUE>")?;
                let key = self.any()?;
                if self.closed || !self.parser.consume_token(&Token::Comma) {
                    return expected("`,` and the type of the map's values", self.parser);
                }
                let value = self.any()?;
                self.close()?;
                let text = format!("MAP<{}, {}>", key.with_null(), value.with_null());
                let entries = Fields::from(vec![
                    Field::new("key", key.data_type, false),
                    Field::new("value", value.data_type, true),
                ]);
                let entries = Field::new("entries", DataType::Struct(entries), false);
                Ok(SqlType::new(DataType::Map(Arc::new(entries), false), text))
            }
            "ROW" => self.row(),
            "RAW" | "INTERVAL" | "VARIANT" | "SYMBOL" | "NULL" => fail(
                format!("the type {name} is not supported"),
                match name.as_str() {
                    "INTERVAL" => "store the length of time as BIGINT (milliseconds)",
                    "VARIANT" => "use STRING and the JSON functions",
                    _ => "use BYTES",
                },
                at,
            ),
            _ => {
                let same = ELSEWHERE.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
                fail(
                    format!("the type {name} is unknown"),
                    match (same, did_you_mean(&name, NAMES)) {
                        (Some(ours), _) => format!("use {ours}"),
                        (None, Some(ours)) => format!("did you mean {ours}?"),
                        (None, None) => {
                            "types are BOOLEAN, INT, BIGINT, DOUBLE, DECIMAL(p, s), STRING, BYTES, DATE, TIME, \
                                 TIMESTAMP(p), TIMESTAMP_LTZ(p), ARRAY<..>, MAP<..>, MULTISET<..> and ROW<..>"
                                .into()
                        }
                    },
                    at,
                )
            }
        }
    }

    /// `(n)` behind a name. The length is read and checked, and not enforced: values are stored as they come.
    fn sized(&mut self, data_type: DataType, name: &str, at: Location) -> Result<SqlType, ParserError> {
        match self.numbers()?.as_slice() {
            [] => Ok(SqlType::new(data_type, format!("{name}(1)"))),
            [0] => fail(format!("{name}(0) holds nothing"), format!("give a length from 1, as in {name}(20)"), at),
            [n] => Ok(SqlType::new(data_type, format!("{name}({n})"))),
            _ => fail(format!("{name} takes one length"), format!("write {name}(20)"), at),
        }
    }

    fn decimal(&mut self, at: Location) -> Result<SqlType, ParserError> {
        let (p, s) = match self.numbers()?.as_slice() {
            [] => (10, 0),
            [p] => (*p, 0),
            [p, s] => (*p, *s),
            _ => return fail("DECIMAL takes a precision and a scale", "write DECIMAL(10, 2)", at),
        };
        if !(1..=38).contains(&p) || s > p {
            return fail(
                format!("DECIMAL({p}, {s}) is not possible"),
                "the precision goes from 1 to 38, the scale from 0 to the precision",
                at,
            );
        }
        Ok(SqlType::new(DataType::Decimal128(p as u8, s as i8), format!("DECIMAL({p}, {s})")))
    }

    fn time(&mut self, at: Location) -> Result<SqlType, ParserError> {
        let p = self.precision("TIME", 9, at)?.unwrap_or(0);
        self.without_time_zone("TIME", at)?;
        if p > 3 {
            return fail(format!("TIME({p}) is not supported"), "use TIME(3): milliseconds are the finest", at);
        }
        Ok(SqlType::new(DataType::Time32(TimeUnit::Millisecond), format!("TIME({p})")))
    }

    fn timestamp(&mut self, at: Location) -> Result<SqlType, ParserError> {
        let p = self.precision("TIMESTAMP", 9, at)?.unwrap_or(6);
        if is_word(self.parser, 0, "WITH") && is_word(self.parser, 1, "LOCAL") {
            for word in ["WITH", "LOCAL", "TIME", "ZONE"] {
                if !take_word(self.parser, word) {
                    return expected("WITH LOCAL TIME ZONE", self.parser);
                }
            }
            let data_type = DataType::Timestamp(unit(p), Some("UTC".into()));
            return Ok(SqlType::new(data_type, format!("TIMESTAMP_LTZ({p})")));
        }
        self.without_time_zone("TIMESTAMP", at)?;
        Ok(SqlType::new(DataType::Timestamp(unit(p), None), format!("TIMESTAMP({p})")))
    }

    /// `WITHOUT TIME ZONE` says what is meant anyway; `WITH TIME ZONE` is what Flink has not either.
    fn without_time_zone(&mut self, name: &str, at: Location) -> Result<(), ParserError> {
        let zone = |p: &Parser| is_word(p, 1, "TIME") && is_word(p, 2, "ZONE");
        if is_word(self.parser, 0, "WITHOUT") && zone(self.parser) {
            for _ in 0..3 {
                self.parser.advance_token();
            }
        } else if is_word(self.parser, 0, "WITH") && zone(self.parser) {
            return fail(
                format!("{name} WITH TIME ZONE is not supported"),
                "use TIMESTAMP_LTZ(3): a point in time, shown in the session's time zone",
                at,
            );
        }
        Ok(())
    }

    fn precision(&mut self, name: &str, max: u64, at: Location) -> Result<Option<u64>, ParserError> {
        match self.numbers()?.as_slice() {
            [] => Ok(None),
            [p] if *p <= max => Ok(Some(*p)),
            [p] => fail(format!("{name}({p}) is not possible"), format!("the precision goes from 0 to {max}"), at),
            _ => fail(format!("{name} takes one precision"), format!("write {name}(3)"), at),
        }
    }

    /// `(1, 2)`, or nothing.
    fn numbers(&mut self) -> Result<Vec<u64>, ParserError> {
        let mut numbers = Vec::new();
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(numbers);
        }
        loop {
            match &self.parser.peek_token_ref().token {
                Token::Number(digits, false) if digits.parse::<i32>().is_ok_and(|n| n >= 0) => {
                    numbers.push(digits.parse().unwrap_or_default());
                    self.parser.advance_token();
                }
                _ => return expected("a whole number", self.parser),
            }
            if self.parser.consume_token(&Token::RParen) {
                return Ok(numbers);
            }
            if !self.parser.consume_token(&Token::Comma) {
                return expected("`,` or `)`", self.parser);
            }
        }
    }

    fn row(&mut self) -> Result<SqlType, ParserError> {
        let in_parentheses = self.parser.consume_token(&Token::LParen);
        if !in_parentheses {
            self.open("ROW<name TYPE, ..>")?;
        }
        let (mut fields, mut texts) = (Vec::<Field>::new(), Vec::new());
        loop {
            let at = self.here();
            let name = match &self.parser.peek_token_ref().token {
                Token::Word(_) => self.parser.parse_identifier()?,
                _ => return expected("the name of a field", self.parser),
            };
            if fields.iter().any(|f| *f.name() == name.value) {
                return fail(
                    format!("the field `{}` is declared twice in one ROW", name.value),
                    "give each field a name of its own",
                    at,
                );
            }
            let declared = self.any()?;
            texts.push(format!("{name} {}", declared.with_null()));
            fields.push(Field::new(name.value, declared.data_type, declared.nullable));
            if !self.closed && matches!(self.parser.peek_token_ref().token, Token::SingleQuotedString(_)) {
                self.parser.advance_token(); // A comment says nothing to the engine.
            }
            if self.closed || !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        if in_parentheses {
            if self.closed || !self.parser.consume_token(&Token::RParen) {
                return expected("`,` or `)`", self.parser);
            }
        } else {
            self.close()?;
        }
        Ok(SqlType::new(DataType::Struct(Fields::from(fields)), format!("ROW<{}>", texts.join(", "))))
    }

    fn open(&mut self, example: &str) -> Result<(), ParserError> {
        if self.parser.consume_token(&Token::Lt) {
            Ok(())
        } else {
            expected(&format!("`<` as in {example}"), self.parser)
        }
    }

    fn close(&mut self) -> Result<(), ParserError> {
        if self.closed {
            self.closed = false;
            Ok(())
        } else if self.parser.consume_token(&Token::Gt) {
            Ok(())
        } else if self.parser.consume_token(&Token::ShiftRight) {
            self.closed = true;
            Ok(())
        } else {
            expected("`,` or `>`", self.parser)
        }
    }
}

impl SqlType {
    fn new(data_type: DataType, text: impl Into<String>) -> SqlType {
        SqlType { data_type, nullable: true, text: text.into() }
    }

    fn with_null(&self) -> String {
        if self.nullable { self.text.clone() } else { format!("{} NOT NULL", self.text) }
    }
}

fn unit(precision: u64) -> TimeUnit {
    match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}
