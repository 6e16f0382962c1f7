//! The options of the formats, with Flink's names.

use crate::avro::AvroOptions;
use crate::changes::{ChangeFormat, ChangeOptions};
use millstream_core::Error;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Csv,
    Json,
    Parquet,
    /// Files of Avro, which carry their schema.
    Avro,
    /// JSON in which a record says what has become of a row.
    Changes(ChangeFormat),
}

impl Format {
    pub const NAMES: [&'static str; 7] =
        ["csv", "json", "parquet", "avro", "debezium-json", "maxwell-json", "canal-json"];

    /// The option keys of this format.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Format::Csv => &[
                "csv.field-delimiter",
                "csv.disable-quote-character",
                "csv.quote-character",
                "csv.escape-character",
                "csv.null-literal",
                "csv.ignore-parse-errors",
                "csv.allow-comments",
                "csv.header",
            ],
            Format::Json => &[
                "json.ignore-parse-errors",
                "json.fail-on-missing-field",
                "json.timestamp-format.standard",
                "json.encode.ignore-null-fields",
                "json.encode.decimal-as-plain-number",
            ],
            Format::Parquet => &["parquet.compression", "sink.parquet.compression"],
            Format::Avro => &AvroOptions::KEYS,
            Format::Changes(format) => format.keys(),
        }
    }

    /// The ending of file names, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Json | Format::Changes(_) => "json",
            Format::Parquet => "parquet",
            Format::Avro => "avro",
        }
    }
}

impl FromStr for Format {
    type Err = ();

    fn from_str(name: &str) -> Result<Format, ()> {
        match name {
            "csv" => Ok(Format::Csv),
            "json" => Ok(Format::Json),
            "parquet" => Ok(Format::Parquet),
            "avro" => Ok(Format::Avro),
            _ => ChangeFormat::of(name).map(Format::Changes).ok_or(()),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Changes(format) => format.name(),
            _ => self.extension(),
        })
    }
}

/// The options of a table's format, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormatOptions {
    Csv(CsvOptions),
    Json(JsonOptions),
    Parquet(ParquetOptions),
    Avro(AvroOptions),
    Changes(ChangeOptions),
}

/// How CSV is written. Defaults are Flink's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// `csv.field-delimiter`, default `,`. One ASCII character; `\t` stands for the tabulator.
    pub delimiter: u8,
    /// `csv.quote-character`, default `"`; `None` by `csv.disable-quote-character`.
    pub quote: Option<u8>,
    /// `csv.escape-character`, default none. It escapes inside quotes; a doubled quote is understood in any case.
    pub escape: Option<u8>,
    /// `csv.null-literal`, default none: a field of exactly this text is NULL.
    pub null_literal: Option<String>,
    /// `csv.ignore-parse-errors`, default false.
    pub ignore_parse_errors: bool,
    /// `csv.allow-comments`, default false: lines that begin with `#` are skipped.
    pub allow_comments: bool,
    /// `csv.header`, our own.
    pub header: Header,
}

/// Whether a file begins with the names of its columns (`csv.header`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Header {
    /// Not said. Columns go by position; a first line that holds exactly the declared names, in their order, is the
    /// header and is skipped. Files are written without one. So a file with a header is no trap, and every file
    /// that Flink reads is read alike.
    #[default]
    Unsaid,
    /// `true`: the first line names the columns, and they are matched by name. Files are written with one.
    Yes,
    /// `false`: the first line is a row, whatever it holds.
    No,
}

/// How JSON lines are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JsonOptions {
    /// `json.ignore-parse-errors`, default false.
    pub ignore_parse_errors: bool,
    /// `json.fail-on-missing-field`, default false: a column that a row does not name is NULL.
    pub fail_on_missing_field: bool,
    /// `json.timestamp-format.standard`: `SQL` (false, default) writes `2013-01-01 10:15:00`, `ISO-8601` (true) writes
    /// `2013-01-01T10:15:00`. Both are read in any case.
    pub iso_8601: bool,
    /// `json.encode.ignore-null-fields`, default false: columns that are NULL are left out of the object.
    pub ignore_null_fields: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParquetOptions {
    /// `sink.parquet.compression` or Flink's `parquet.compression`. Default snappy, as in Flink.
    pub compression: Compression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    None,
    #[default]
    Snappy,
    Zstd,
}

impl Default for CsvOptions {
    fn default() -> CsvOptions {
        CsvOptions {
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            null_literal: None,
            ignore_parse_errors: false,
            allow_comments: false,
            header: Header::Unsaid,
        }
    }
}

impl FormatOptions {
    /// Reads the options of `format` out of all options of a table. Keys of others are passed over; checking for
    /// unknown ones is the connector's part, since it knows its own.
    pub fn parse(format: Format, options: &BTreeMap<String, String>) -> Result<FormatOptions, Error> {
        let get = |key: &str| options.get(key).map(String::as_str);
        match format {
            Format::Csv => {
                let d = CsvOptions::default();
                let parsed = CsvOptions {
                    delimiter: match get("csv.field-delimiter") {
                        Some(text) => ascii("csv.field-delimiter", text)?,
                        None => d.delimiter,
                    },
                    quote: match (flag(options, "csv.disable-quote-character")?, get("csv.quote-character")) {
                        (Some(true), Some(_)) => {
                            return Err(Error::sql(
                                "'csv.quote-character' is set, and 'csv.disable-quote-character' says that there is none",
                            )
                            .remedy("leave one of the two out"));
                        }
                        (Some(true), None) => None,
                        (_, Some(text)) => Some(ascii("csv.quote-character", text)?),
                        (_, None) => d.quote,
                    },
                    escape: get("csv.escape-character").map(|text| ascii("csv.escape-character", text)).transpose()?,
                    null_literal: get("csv.null-literal").map(str::to_owned),
                    ignore_parse_errors: flag(options, "csv.ignore-parse-errors")?.unwrap_or(false),
                    allow_comments: flag(options, "csv.allow-comments")?.unwrap_or(false),
                    header: match flag(options, "csv.header")? {
                        None => Header::Unsaid,
                        Some(true) => Header::Yes,
                        Some(false) => Header::No,
                    },
                };
                if Some(parsed.delimiter) == parsed.quote || Some(parsed.delimiter) == parsed.escape {
                    return Err(Error::sql("'csv.field-delimiter' is also the quote or escape character")
                        .remedy("use three different characters"));
                }
                Ok(FormatOptions::Csv(parsed))
            }
            Format::Json => Ok(FormatOptions::Json(JsonOptions::parse("json", options)?)),
            Format::Avro => Ok(FormatOptions::Avro(AvroOptions::parse(options)?)),
            Format::Changes(format) => Ok(FormatOptions::Changes(ChangeOptions::parse(format, options)?)),
            Format::Parquet => {
                let name = get("sink.parquet.compression").or(get("parquet.compression")).unwrap_or("snappy");
                let compression = match name.to_ascii_lowercase().as_str() {
                    "none" | "uncompressed" => Compression::None,
                    "snappy" => Compression::Snappy,
                    "zstd" => Compression::Zstd,
                    other => {
                        return Err(Error::sql(format!("'sink.parquet.compression' cannot be '{other}'"))
                            .remedy("use 'snappy', 'zstd' or 'none'"));
                    }
                };
                Ok(FormatOptions::Parquet(ParquetOptions { compression }))
            }
        }
    }

    pub fn format(&self) -> Format {
        match self {
            FormatOptions::Csv(_) => Format::Csv,
            FormatOptions::Json(_) => Format::Json,
            FormatOptions::Parquet(_) => Format::Parquet,
            FormatOptions::Avro(_) => Format::Avro,
            FormatOptions::Changes(o) => Format::Changes(o.format),
        }
    }

    pub fn ignore_parse_errors(&self) -> bool {
        match self {
            FormatOptions::Csv(o) => o.ignore_parse_errors,
            FormatOptions::Json(o) => o.ignore_parse_errors,
            FormatOptions::Parquet(_) => false,
            FormatOptions::Avro(o) => o.ignore_parse_errors,
            FormatOptions::Changes(o) => o.json.ignore_parse_errors,
        }
    }
}

impl JsonOptions {
    /// Reads the options of the format `name`, which is JSON or stands on it: `json.ignore-parse-errors` and so on.
    pub fn parse(name: &str, options: &BTreeMap<String, String>) -> Result<JsonOptions, Error> {
        let key = |option: &str| format!("{name}.{option}");
        let standard = key("timestamp-format.standard");
        let parsed = JsonOptions {
            ignore_parse_errors: flag(options, &key("ignore-parse-errors"))?.unwrap_or(false),
            fail_on_missing_field: flag(options, &key("fail-on-missing-field"))?.unwrap_or(false),
            iso_8601: match options.get(&standard).map(String::as_str) {
                None | Some("SQL") => false,
                Some("ISO-8601") => true,
                Some(other) => {
                    return Err(
                        Error::sql(format!("'{standard}' cannot be '{other}'")).remedy("use 'SQL' or 'ISO-8601'")
                    );
                }
            },
            ignore_null_fields: flag(options, &key("encode.ignore-null-fields"))?.unwrap_or(false),
        };
        // Decimals are plain numbers in any case, which is what the option may ask for.
        flag(options, &key("encode.decimal-as-plain-number"))?;
        if parsed.ignore_parse_errors && parsed.fail_on_missing_field {
            return Err(Error::sql(format!(
                "'{name}.ignore-parse-errors' and '{name}.fail-on-missing-field' cannot both be 'true'"
            ))
            .remedy("leave one of the two out"));
        }
        Ok(parsed)
    }
}

/// `true` or `false`, in any case of letters.
pub fn flag(options: &BTreeMap<String, String>, key: &str) -> Result<Option<bool>, Error> {
    match options.get(key).map(|v| v.trim().to_ascii_lowercase()).as_deref() {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(Error::sql(format!("'{key}' cannot be '{other}'")).remedy("use 'true' or 'false'")),
    }
}

/// One ASCII character, or the name of one that is awkward to type.
fn ascii(key: &str, text: &str) -> Result<u8, Error> {
    let found = match text {
        "\\t" => Some(b'\t'),
        "\\u0001" | "\\001" => Some(1),
        _ if text.len() == 1 => Some(text.as_bytes()[0]),
        _ => None,
    };
    match found {
        Some(b'\n' | b'\r') | None => Err(Error::sql(format!("'{key}' cannot be '{}'", text.escape_debug()))
            .remedy("use one ASCII character that ends no line, or '\\t'")),
        Some(c) => Ok(c),
    }
}
