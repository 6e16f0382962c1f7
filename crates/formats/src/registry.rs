//! Schemas under numbers: what stands before a record whose schema is in a registry, and what is known of such a schema.
//!
//! Not here: who asks a registry. Whoever reads is given [`Schemas`]; whoever writes is told under which number.

use crate::bad::shown;
use millstream_core::Result;
use std::fmt;
use std::sync::Arc;

/// What begins a record that names its schema: this byte, and the number in four.
const MAGIC: u8 = 0;
pub(crate) const PREFIX_BYTES: usize = 5;

/// Who knows the schema of a number.
pub trait Schemas: fmt::Debug + Send + Sync {
    /// The schema, or a sentence that says why there is none of this number: then the record is bad. An error is for those who
    /// could not be asked.
    fn schema(&self, id: u32) -> Result<std::result::Result<Arc<Registered>, String>>;
}

/// A schema as a registry has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registered {
    pub text: String,
    /// The schemas of other subjects that it refers to, by the names it gives them, and those that they refer to. Each stands
    /// behind those that it needs.
    pub references: Vec<(String, String)>,
}

impl Registered {
    /// One that refers to no other.
    pub fn alone(text: impl Into<String>) -> Arc<Registered> {
        Arc::new(Registered { text: text.into(), references: Vec::new() })
    }

    pub fn reference(&self, name: &str) -> Option<&str> {
        self.references.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str())
    }

    pub fn bytes(&self) -> usize {
        self.text.len() + self.references.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>()
    }
}

/// The number of the schema that a record was written with.
pub(crate) fn number(record: &[u8]) -> std::result::Result<u32, String> {
    match record {
        [MAGIC, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        [MAGIC, ..] => {
            Err(format!("the record has {} bytes, and the number of its schema alone takes 5", record.len()))
        }
        [] => Err("the record is empty".into()),
        [first, ..] => Err(format!(
            "the record begins with the byte {first} where a record with a schema of a registry begins with 0; it holds `{}`",
            shown(record)
        )),
    }
}

/// What stands before a record with this schema.
pub(crate) fn prefix(id: u32) -> [u8; PREFIX_BYTES] {
    let [a, b, c, d] = id.to_be_bytes();
    [MAGIC, a, b, c, d]
}
