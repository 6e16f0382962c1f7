//! Schemas of Avro: from their JSON to nodes under numbers, since a type may refer to itself.
//!
//! A logical type that its base cannot have is passed over, as Avro asks for: the value is then what the base says.

use arrow::datatypes::TimeUnit;
use serde_json::Value;
use std::collections::HashMap;

/// The longest schema that is read, in bytes of its JSON.
pub const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// Types that one schema may have, each use of a plain one counted.
const NODES_MAX: usize = 16 << 10;

/// The longest name or symbol. A symbol of one byte on the wire becomes this many in a column.
const NAME_BYTES_MAX: usize = 1 << 10;

/// The largest value of a `fixed`, in bytes.
const FIXED_BYTES_MAX: usize = crate::RECORD_BYTES_MAX;

pub type NodeId = usize;

#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    nodes: Vec<Node>,
    pub root: NodeId,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub kind: Kind,
    pub logical: Option<Logical>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(NodeId),
    /// Its values; keys are strings.
    Map(NodeId),
    Union(Vec<NodeId>),
    Record {
        name: String,
        fields: Vec<Field>,
    },
    Enum {
        name: String,
        symbols: Vec<String>,
    },
    Fixed {
        name: String,
        size: usize,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: String,
    pub aliases: Vec<String>,
    pub default: Option<Value>,
    pub node: NodeId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logical {
    Date,
    Time(TimeUnit),
    Timestamp(TimeUnit),
    Decimal { precision: u32, scale: u32 },
}

impl Schema {
    /// Reads a schema; what is wrong with it comes back as a sentence.
    pub fn parse(text: &str) -> Result<Schema, String> {
        Schema::parse_with(text, &[])
    }

    /// `others`: schemas whose types it may name, each behind those that it needs itself.
    pub fn parse_with(text: &str, others: &[(String, String)]) -> Result<Schema, String> {
        let mut parser = Parser { nodes: Vec::new(), names: HashMap::new() };
        for (name, text) in others {
            let value = json(text).map_err(|why| format!("what it refers to as `{name}`: {why}"))?;
            parser.node(&value, "").map_err(|why| format!("what it refers to as `{name}`: {why}"))?;
        }
        let root = parser.node(&json(text)?, "")?;
        Ok(Schema { nodes: parser.nodes, root })
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// A type as messages call it.
    pub fn describe(&self, id: NodeId) -> String {
        let node = self.node(id);
        let plain = match &node.kind {
            Kind::Null => "null".into(),
            Kind::Boolean => "boolean".into(),
            Kind::Int => "int".into(),
            Kind::Long => "long".into(),
            Kind::Float => "float".into(),
            Kind::Double => "double".into(),
            Kind::Bytes => "bytes".into(),
            Kind::String => "string".into(),
            Kind::Array(_) => "array".into(),
            Kind::Map(_) => "map".into(),
            Kind::Union(branches) => {
                let of = |id: &NodeId| match &self.node(*id).kind {
                    Kind::Union(_) => "union".into(),
                    _ => self.describe(*id),
                };
                format!("union [{}]", branches.iter().map(of).collect::<Vec<_>>().join(", "))
            }
            Kind::Record { name, .. } => format!("record {name}"),
            Kind::Enum { name, .. } => format!("enum {name}"),
            Kind::Fixed { name, size } => format!("fixed {name} of {size} bytes"),
        };
        match node.logical {
            None => plain,
            Some(Logical::Date) => format!("{plain} (date)"),
            Some(Logical::Time(unit)) => format!("{plain} (time-{})", unit_name(unit)),
            Some(Logical::Timestamp(unit)) => format!("{plain} (timestamp-{})", unit_name(unit)),
            Some(Logical::Decimal { precision, scale }) => format!("{plain} (decimal({precision}, {scale}))"),
        }
    }

    /// The one type of a union but `null`, or the type itself.
    pub fn value_of(&self, id: NodeId) -> NodeId {
        match &self.node(id).kind {
            Kind::Union(branches) => {
                let mut values = branches.iter().filter(|b| self.node(**b).kind != Kind::Null);
                match (values.next(), values.next()) {
                    (Some(one), None) => *one,
                    _ => id,
                }
            }
            _ => id,
        }
    }

    /// The fields, where the type is a record.
    pub fn fields(&self, id: NodeId) -> Option<&[Field]> {
        match &self.node(id).kind {
            Kind::Record { fields, .. } => Some(fields),
            _ => None,
        }
    }
}

pub(super) fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "seconds",
        TimeUnit::Millisecond => "millis",
        TimeUnit::Microsecond => "micros",
        TimeUnit::Nanosecond => "nanos",
    }
}

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

struct Parser {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
}

impl Parser {
    fn add(&mut self, kind: Kind, logical: Option<Logical>) -> Result<NodeId, String> {
        if self.nodes.len() >= NODES_MAX {
            return Err(format!("the schema has more than {NODES_MAX} types"));
        }
        self.nodes.push(Node { kind, logical });
        Ok(self.nodes.len() - 1)
    }

    /// `namespace`: of the type around it. How deep this goes, the parser of JSON has bounded.
    fn node(&mut self, value: &Value, namespace: &str) -> Result<NodeId, String> {
        match value {
            Value::String(name) => match primitive(name) {
                Some(kind) => self.add(kind, None),
                None => self.named(name, namespace),
            },
            Value::Array(branches) => {
                let ids = branches.iter().map(|b| self.node(b, namespace)).collect::<Result<Vec<_>, _>>()?;
                if ids.is_empty() {
                    return Err("a union of the schema has no types".into());
                }
                self.add(Kind::Union(ids), None)
            }
            Value::Object(_) => self.object(value, namespace),
            other => Err(format!("`{other}` is no type")),
        }
    }

    fn named(&self, name: &str, namespace: &str) -> Result<NodeId, String> {
        let full = full_name(name, namespace);
        let found = self.names.get(&full).or_else(|| self.names.get(name));
        found.copied().ok_or_else(|| format!("the schema names the type `{name}`, which it does not define"))
    }

    fn object(&mut self, value: &Value, namespace: &str) -> Result<NodeId, String> {
        let kind = match &value["type"] {
            Value::String(kind) => kind.as_str(),
            Value::Null => return Err(format!("`{}` says no type", cut(&value.to_string()))),
            // `{"type": {"type": "int", …}}`
            inner => return self.node(inner, namespace),
        };
        match kind {
            "record" | "error" => self.record(value, namespace),
            "enum" => {
                let (name, _) = self.take_name(value, namespace)?;
                let symbols = strings(value, "symbols").ok_or_else(|| format!("the enum `{name}` has no symbols"))?;
                if let Some(long) = symbols.iter().find(|s| s.len() > NAME_BYTES_MAX) {
                    return Err(format!("the symbol `{}` of `{name}` is too long", cut(long)));
                }
                let id = self.add(Kind::Enum { name: name.clone(), symbols }, None)?;
                self.define(name, id)
            }
            "fixed" => {
                let (name, _) = self.take_name(value, namespace)?;
                let size = value["size"].as_u64().and_then(|n| usize::try_from(n).ok());
                let size = size.filter(|n| *n <= FIXED_BYTES_MAX);
                let size = size.ok_or_else(|| format!("the size of the fixed `{name}` is {}", value["size"]))?;
                let logical = decimal(value).filter(|_| size > 0);
                let id = self.add(Kind::Fixed { name: name.clone(), size }, logical)?;
                self.define(name, id)
            }
            "array" => {
                let item = self.node(&value["items"], namespace).map_err(|e| format!("items of an array: {e}"))?;
                self.add(Kind::Array(item), None)
            }
            "map" => {
                let item = self.node(&value["values"], namespace).map_err(|e| format!("values of a map: {e}"))?;
                self.add(Kind::Map(item), None)
            }
            name => match primitive(name) {
                Some(kind) => {
                    let logical = logical(&kind, value);
                    self.add(kind, logical)
                }
                None => self.named(name, namespace),
            },
        }
    }

    fn record(&mut self, value: &Value, namespace: &str) -> Result<NodeId, String> {
        let (name, namespace) = self.take_name(value, namespace)?;
        // Known before its fields are read: one of them may be of this very type.
        let id = self.add(Kind::Record { name: name.clone(), fields: Vec::new() }, None)?;
        self.define(name.clone(), id)?;
        let listed = value["fields"].as_array().ok_or_else(|| format!("the record `{name}` has no list of fields"))?;
        let mut fields: Vec<Field> = Vec::with_capacity(listed.len().min(NODES_MAX));
        for field in listed {
            let Some(field_name) = field["name"].as_str().filter(|n| n.len() <= NAME_BYTES_MAX) else {
                return Err(format!("a field of `{name}` has no name"));
            };
            if fields.iter().any(|f| f.name == field_name) {
                return Err(format!("the record `{name}` has the field `{field_name}` twice"));
            }
            let node = self.node(&field["type"], &namespace).map_err(|e| format!("field `{field_name}`: {e}"))?;
            fields.push(Field {
                name: field_name.to_owned(),
                aliases: strings(field, "aliases").unwrap_or_default(),
                default: field.get("default").cloned(),
                node,
            });
        }
        self.nodes[id].kind = Kind::Record { name, fields };
        Ok(id)
    }

    fn define(&mut self, name: String, id: NodeId) -> Result<NodeId, String> {
        match self.names.insert(name.clone(), id) {
            None => Ok(id),
            Some(_) => Err(format!("the schema defines `{name}` twice")),
        }
    }

    /// The full name of a type that is defined, and the namespace in it.
    fn take_name(&self, value: &Value, around: &str) -> Result<(String, String), String> {
        let Some(name) = value["name"].as_str().filter(|n| !n.is_empty() && n.len() <= NAME_BYTES_MAX) else {
            return Err(format!("`{}` has no name", cut(&value.to_string())));
        };
        let namespace = value["namespace"].as_str().unwrap_or(around);
        let full = full_name(name, namespace);
        let namespace = full.rsplit_once('.').map(|(space, _)| space.to_owned()).unwrap_or_default();
        Ok((full, namespace))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    match name.contains('.') || namespace.is_empty() {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

fn logical(kind: &Kind, value: &Value) -> Option<Logical> {
    use TimeUnit::*;
    Some(match (value["logicalType"].as_str()?, kind) {
        ("date", Kind::Int) => Logical::Date,
        ("time-millis", Kind::Int) => Logical::Time(Millisecond),
        ("time-micros", Kind::Long) => Logical::Time(Microsecond),
        ("timestamp-millis" | "local-timestamp-millis", Kind::Long) => Logical::Timestamp(Millisecond),
        ("timestamp-micros" | "local-timestamp-micros", Kind::Long) => Logical::Timestamp(Microsecond),
        ("timestamp-nanos" | "local-timestamp-nanos", Kind::Long) => Logical::Timestamp(Nanosecond),
        ("decimal", Kind::Bytes) => return decimal(value),
        _ => return None,
    })
}

/// The text of a schema as JSON.
fn json(text: &str) -> Result<Value, String> {
    if text.len() > SCHEMA_BYTES_MAX {
        return Err(format!("the schema has {} bytes, and {SCHEMA_BYTES_MAX} may be", text.len()));
    }
    // A plain name may stand without quotes around it: `string`.
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if PRIMITIVES.contains(&text.trim()) => Ok(Value::String(text.trim().to_owned())),
        Err(e) => Err(format!("the schema is no JSON: {e}")),
    }
}

fn decimal(value: &Value) -> Option<Logical> {
    if value["logicalType"] != "decimal" {
        return None;
    }
    let precision = u32::try_from(value["precision"].as_u64()?).ok().filter(|p| *p > 0)?;
    let scale = match &value["scale"] {
        Value::Null => 0,
        scale => u32::try_from(scale.as_u64()?).ok()?,
    };
    (scale <= precision).then_some(Logical::Decimal { precision, scale })
}

fn strings(value: &Value, key: &str) -> Option<Vec<String>> {
    value[key].as_array()?.iter().map(|s| s.as_str().map(str::to_owned)).collect()
}

/// As much as a message shows.
fn cut(text: &str) -> String {
    crate::bad::shown(text.as_bytes())
}
