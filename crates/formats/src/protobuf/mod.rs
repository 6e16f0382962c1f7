//! Protocol Buffers: records that are one message each, described by a `.proto` file, a set of descriptors, or a registry.
//!
//! ```text
//!  protobuf             schema file ─▶ message ─┐
//!                                               ├─▶ plan: fields ⇄ columns ─▶ read ─▶ columns
//!  protobuf-confluent   0, id, which message ───┘     once, or once for each schema
//! ```
//!
//! Types and rules are Flink's, and where it says nothing those of Google's implementations: fields in any order, the last value of
//! a field counts, messages that come twice are merged, what is not known is passed over. No object is made of a message: values
//! go from the bytes into columns.
//!
//! Always true:
//! - A record is one row, or bad; a bad one leaves nothing in the columns.
//! - A field that no column wants is passed over, not decoded.
//! - What a record becomes is bounded by its bytes and the table's columns, whatever its message type refers to.
//!
//! Not here: files. Whoever parses the options is given [`Files`].

mod message;
mod plan;
mod read;
mod schema;
mod wire;
mod write;

pub use message::{ProtobufDecoder, ProtobufEncoder};
pub use schema::{Files, NoFiles, SCHEMA_BYTES_MAX};

use crate::options::flag;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Result};
use plan::{Message, Missing, Rules};
use prost_reflect::MessageDescriptor;
use schema::Described;
use std::collections::BTreeMap;

pub const PROTOBUF: &str = "protobuf";
/// Messages behind the number of their schema in a registry.
pub const PROTOBUF_CONFLUENT: &str = "protobuf-confluent";

/// The options of `protobuf` and `protobuf-confluent`, but for those of the registry itself, which are the connector's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtobufOptions {
    /// `protobuf` or `protobuf-confluent`, which begins the names of its options.
    pub name: &'static str,
    /// What `protobuf.schema-file` and `protobuf.message-name` name. Records with numbers bring theirs along.
    described: Option<Box<Own>>,
    /// `protobuf.message-name`, where no file is named.
    message_name: Option<String>,
    /// `protobuf.read-default-values`, default false.
    read_defaults: bool,
    /// `protobuf.write-null-string-literal`.
    null_literal: Option<String>,
    /// `protobuf.ignore-parse-errors`, default false.
    pub ignore_parse_errors: bool,
}

/// The message that a table names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    message: MessageDescriptor,
    /// The text of its file, for a registry; `None`: it is a set of descriptors.
    text: Option<String>,
    path: String,
}

macro_rules! keys {
    ($format:literal $(, $more:literal)*) => {
        &[
            concat!($format, ".schema-file"),
            concat!($format, ".include-path"),
            concat!($format, ".message-name"),
            concat!($format, ".message-class-name"),
            concat!($format, ".ignore-parse-errors"),
            concat!($format, ".read-default-values"),
            concat!($format, ".write-null-string-literal"),
            $(concat!($format, ".", $more),)*
        ]
    };
}

impl ProtobufOptions {
    /// The option keys of such a format.
    pub fn keys(name: &str) -> &'static [&'static str] {
        match name {
            PROTOBUF => keys!("protobuf"),
            _ => keys!(
                "protobuf-confluent",
                "url",
                "subject",
                "basic-auth.credentials-source",
                "basic-auth.user-info",
                "bearer-auth.credentials-source",
                "bearer-auth.token",
                "ssl.truststore.location",
                "ssl.truststore.password",
                "ssl.keystore.location",
                "ssl.keystore.password",
                "properties.auto.register.schemas"
            ),
        }
    }

    pub fn parse(name: &'static str, options: &BTreeMap<String, String>, files: &dyn Files) -> Result<ProtobufOptions> {
        let key = |option: &str| format!("{name}.{option}");
        let get = |option: &str| options.get(&key(option)).map(|v| v.trim()).filter(|v| !v.is_empty());
        let (file, message) = (key("schema-file"), key("message-name"));
        if options.contains_key(&key("message-class-name")) {
            return Err(Error::sql(format!(
                "'{}' names a class of Java, which is not run here",
                key("message-class-name")
            ))
            .remedy(format!("set '{file}' to the .proto file, and '{message}' to the message's name in it")));
        }
        let described = match get("schema-file") {
            None if name == PROTOBUF => {
                return Err(Error::sql(format!("'format' = '{name}' needs the option '{file}'"))
                    .remedy(format!("add '{file}' = 'order.proto', a .proto file or a set of descriptors")));
            }
            None => None,
            Some(path) => {
                let includes: Vec<&str> = get("include-path").unwrap_or_default().split(';').map(str::trim).collect();
                let includes: Vec<&str> = includes.into_iter().filter(|i| !i.is_empty()).collect();
                let described = Described::read(files, &file, path, &includes)?;
                let message = described.message(&message, get("message-name"))?;
                Some(Box::new(Own { text: described.text(&message), message, path: path.to_owned() }))
            }
        };
        Ok(ProtobufOptions {
            name,
            described,
            message_name: get("message-name").map(str::to_owned),
            read_defaults: flag(options, &key("read-default-values"))?.unwrap_or(false),
            null_literal: options.get(&key("write-null-string-literal")).cloned(),
            ignore_parse_errors: flag(options, &key("ignore-parse-errors"))?.unwrap_or(false),
        })
    }

    fn rules(&self, missing: Missing) -> Rules {
        Rules { missing, defaults: self.read_defaults }
    }

    /// That records can be read into these columns.
    pub fn check(&self, columns: &SchemaRef) -> Result<()> {
        crate::columns::check(columns.fields(), "Protobuf")?;
        match &self.described {
            Some(own) => Message::of(&own.message, columns.fields(), "", self.rules(Missing::Refused)).map(drop),
            None => Ok(()),
        }
    }

    /// That rows of these columns can be written.
    pub fn check_written(&self, columns: &SchemaRef) -> Result<()> {
        if self.name == PROTOBUF_CONFLUENT {
            self.schema_text()?;
        }
        write::check(&self.own()?.message, columns.fields())
    }

    /// What is registered for records that are written.
    pub fn schema_text(&self) -> Result<String> {
        let own = self.own()?;
        let key = format!("'{}.schema-file'", self.name);
        let Some(text) = &own.text else {
            return Err(Error::sql(format!("{key}: of {} there is no text that a registry could be given", own.path))
                .remedy("name the .proto file that describes the message itself"));
        };
        let imports = own.message.parent_file().dependencies().map(|d| d.name().to_owned()).collect::<Vec<_>>();
        if let Some(import) = imports.iter().find(|i| !i.starts_with("google/protobuf/")) {
            return Err(Error::sql(format!(
                "{key}: {} imports {import}, and schemas are registered one by one",
                own.path
            ))
            .remedy("put what is imported into the file itself"));
        }
        Ok(text.clone())
    }

    fn own(&self) -> Result<&Own> {
        self.described.as_deref().ok_or_else(|| {
            Error::sql(format!("to write records of '{}' the message has to be described", self.name))
                .remedy(format!("add '{}.schema-file' = 'order.proto'", self.name))
        })
    }
}

#[cfg(test)]
mod tests;
