//! Reads messages into columns.
//!
//! ```text
//!  bytes ─▶ scan: the last value of each wanted field, or where its occurrences lie ─▶ one value into each column
//! ```
//!
//! Fields come in any order, more than once, or not at all, and columns grow in one order: so a message is gone through twice. What
//! the first way finds stands in [`Slot`]s, a stack of them, and no memory is asked for. A field that is repeated is gone
//! through once more, from its first occurrence to its last.
//!
//! Row by row, since a record says only by being read where its next value begins. A message that is bad leaves nothing in the
//! columns.

use super::plan::{Absent, FieldPlan, Message, Number, Read, Shape};
use super::wire::{Cursor, Damage, Raw, Wire};
use crate::RECORD_BYTES_MAX;
use crate::bad::shown;
use crate::columns::{Column, Store};
use crate::types::sql_type;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use millstream_core::Result;

/// Bytes that a value takes in its column, about: what a message that is nearly empty becomes.
const CELL_BYTES: usize = 8;

/// Why a message is no row, and of which field that is known.
#[derive(Debug)]
pub(super) struct Fault {
    path: String,
    why: String,
}

impl Fault {
    fn new(why: impl Into<String>) -> Box<Fault> {
        Box::new(Fault { path: String::new(), why: why.into() })
    }

    fn within(mut self: Box<Self>, name: &str) -> Box<Fault> {
        let dot = if self.path.is_empty() || self.path.starts_with(['[', '{']) { "" } else { "." };
        self.path = format!("{name}{dot}{}", self.path);
        self
    }

    /// A sentence about the record.
    pub fn told(self, message: &str) -> String {
        match self.path.is_empty() {
            true => format!("the record is no {message}: {}", self.why),
            false => format!("field `{}` of {message}: {}", self.path, self.why),
        }
    }
}

impl From<Damage> for Box<Fault> {
    fn from(Damage(why): Damage) -> Box<Fault> {
        Fault::new(why)
    }
}

type Done = std::result::Result<(), Box<Fault>>;

/// What a message holds of one field.
#[derive(Debug, Clone, Copy)]
struct Slot {
    occurrences: u32,
    /// Where the first one's tag begins, and the last one's value ends.
    from: u32,
    to: u32,
    last: Raw,
}

const NOTHING: Slot = Slot { occurrences: 0, from: 0, to: 0, last: Raw::Bits(0) };

/// An entry of a map: where it lies, and what stands for its key.
#[derive(Debug, Clone, Copy)]
struct Entry {
    from: u32,
    to: u32,
    key: Raw,
    replaced: bool,
}

/// Rows that are being made.
pub(super) struct Rows {
    schema: SchemaRef,
    columns: Vec<Column>,
    len: usize,
    state: State,
}

/// What is known while a record is read.
#[derive(Default)]
struct State {
    slots: Vec<Slot>,
    entries: Vec<Entry>,
    order: Vec<u32>,
    /// Bytes that are in the columns and did not stand in the record.
    made: usize,
}

impl State {
    fn room(&mut self, bytes: usize) -> Done {
        self.made += bytes;
        match self.made > RECORD_BYTES_MAX {
            true => Err(Fault::new("with all that is absent in it the row is larger than a record may be")),
            false => Ok(()),
        }
    }
}

impl Rows {
    pub fn new(schema: &SchemaRef) -> Result<Rows> {
        let columns = schema.fields().iter().map(Column::new).collect::<Result<_>>()?;
        Ok(Rows { schema: schema.clone(), columns, len: 0, state: State::default() })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads one record, all of whose bytes are the message.
    pub fn read(&mut self, message: &Message, bytes: &[u8]) -> std::result::Result<(), String> {
        self.state.made = 0;
        match fill(&mut self.columns, message, bytes, &mut self.state) {
            Ok(()) => {
                self.len += 1;
                Ok(())
            }
            Err(fault) => {
                self.state.slots.clear();
                self.state.entries.clear();
                let len = self.len;
                self.columns.iter_mut().for_each(|c| c.truncate(len));
                Err(fault.told(&message.name))
            }
        }
    }

    pub fn finish(&mut self) -> Result<RecordBatch> {
        let columns = self.columns.iter_mut().map(Column::finish).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.len)));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// One value for each of the columns.
fn fill(columns: &mut [Column], message: &Message, bytes: &[u8], state: &mut State) -> Done {
    let base = state.slots.len();
    scan(message, bytes, base, state)?;
    for (n, (column, field)) in columns.iter_mut().zip(&message.fields).enumerate() {
        let slot = state.slots[base + n];
        self::field(column, field, slot, bytes, state).map_err(|fault| fault.within(&field.name))?;
    }
    state.slots.truncate(base);
    Ok(())
}

/// Goes through a message and notes what it holds of the wanted fields, in slots from `base` on.
fn scan(message: &Message, bytes: &[u8], base: usize, state: &mut State) -> Done {
    state.slots.truncate(base);
    state.slots.resize(base + message.fields.len(), NOTHING);
    let slots = &mut state.slots[base..];
    let mut cursor = Cursor::new(bytes);
    while !cursor.done() {
        let from = cursor.at;
        let (number, wire) = cursor.tag()?;
        let Some(known) = message.known(number) else {
            cursor.value(number, wire)?;
            continue;
        };
        let field = known.slot.map(|slot| &message.fields[slot]);
        let value = cursor.value(number, wire).map_err(|Damage(why)| match field {
            Some(field) => Fault::new(why).within(&field.name),
            None => Fault::new(why),
        })?;
        if let Some(field) = field {
            expect(field, wire)?;
            if let (Shape::One(read), Raw::Bits(bits)) = (&field.shape, value)
                && read.passed_over(bits)
            {
                continue;
            }
        }
        for &other in &known.others {
            slots[other] = NOTHING;
        }
        if let Some(slot) = known.slot {
            let slot = &mut slots[slot];
            if slot.occurrences == 0 {
                slot.from = from as u32;
            }
            slot.occurrences += 1;
            slot.to = cursor.at as u32;
            slot.last = value;
        }
    }
    Ok(())
}

/// That the value of a field lies as its type does.
#[inline]
fn expect(field: &FieldPlan, wire: Wire) -> Done {
    let (wanted, packed) = match &field.shape {
        Shape::One(read) => (read.wire(), false),
        Shape::List(read) => (read.wire(), wire == Wire::Counted),
        Shape::Map(_) => (Wire::Counted, false),
        Shape::Nothing => return Ok(()),
    };
    if wire == wanted || packed {
        return Ok(());
    }
    let (wanted, found) = (wanted.name(), wire.name());
    Err(Fault::new(format!(
        "it is {wanted} by its type, and the record has {found}: it was written as another message"
    ))
    .within(&field.name))
}

/// The values of the field `number` between two places of a message that has been scanned.
fn occurrences(bytes: &[u8], number: u32, slot: Slot, mut each: impl FnMut(Wire, Raw, &[u8]) -> Done) -> Done {
    let mut cursor = Cursor { bytes, at: slot.from as usize };
    while cursor.at < slot.to as usize {
        let (found, wire) = cursor.tag()?;
        let value = cursor.value(found, wire)?;
        if found == number {
            let payload = if let Raw::Bytes(from, to) = value { &bytes[from..to] } else { &[] };
            each(wire, value, payload)?;
        }
    }
    Ok(())
}

fn field(column: &mut Column, field: &FieldPlan, slot: Slot, bytes: &[u8], state: &mut State) -> Done {
    match &field.shape {
        _ if slot.occurrences == 0 => absent(column, field, state),
        Shape::One(read) => one(column, field, read, slot, bytes, state),
        Shape::List(read) => list(column, field, read, slot, bytes, state),
        Shape::Map(entry) => map(column, field, entry, slot, bytes, state),
        Shape::Nothing => null(column),
    }
}

fn null(column: &mut Column) -> Done {
    match column.add_null() {
        Some(why) => Err(Fault::new(why)),
        None => Ok(()),
    }
}

fn absent(column: &mut Column, field: &FieldPlan, state: &mut State) -> Done {
    match (&field.absent, &field.shape) {
        (Absent::Value(bits, bytes), Shape::One(read)) => {
            state.room(bytes.len())?;
            value(column, read, *bits, bytes, state)
        }
        (Absent::Empty, Shape::One(read)) => value(column, read, 0, &[], state),
        (Absent::Empty, Shape::List(_) | Shape::Map(_)) => {
            if let Store::List(_, ends) | Store::Map(_, ends) = &mut column.store {
                ends.push(ends.last().copied().unwrap_or_default());
            }
            column.added();
            Ok(())
        }
        (Absent::Required, _) => Err(Fault::new("it is required, and is not there")),
        _ => null(column),
    }
}

/// A field that counts once: the last value wins, and messages are merged.
fn one(column: &mut Column, field: &FieldPlan, read: &Read, slot: Slot, bytes: &[u8], state: &mut State) -> Done {
    match (slot.last, read) {
        (Raw::Bits(bits), _) => value(column, read, bits, &[], state),
        (Raw::Bytes(..), Read::Message(_) | Read::Timestamp(_) | Read::Wrapped(_)) if slot.occurrences > 1 => {
            // To merge messages is to read one after the other. Seldom: nothing is lost by asking for memory.
            let mut merged = Vec::with_capacity((slot.to - slot.from) as usize);
            occurrences(bytes, field.number, slot, |_, _, payload| {
                merged.extend_from_slice(payload);
                Ok(())
            })?;
            value(column, read, 0, &merged, state)
        }
        (Raw::Bytes(from, to), _) => value(column, read, 0, &bytes[from..to], state),
    }
}

fn list(column: &mut Column, field: &FieldPlan, read: &Read, slot: Slot, bytes: &[u8], state: &mut State) -> Done {
    let Store::List(items, ends) = &mut column.store else { return Ok(()) };
    let first = items.len();
    let item_wire = read.wire();
    let item = |items: &mut Column, bits: u64, payload: &[u8], state: &mut State| {
        if read.passed_over(bits) {
            return Ok(());
        }
        let at = items.len() - first;
        value(items, read, bits, payload, state).map_err(|fault| fault.within(&format!("[{at}]")))
    };
    occurrences(bytes, field.number, slot, |wire, raw, payload| match raw {
        Raw::Bits(bits) => item(items, bits, &[], state),
        Raw::Bytes(..) if wire == item_wire => item(items, 0, payload, state),
        Raw::Bytes(..) => {
            let mut packed = Cursor::new(payload);
            while !packed.done() {
                let bits = match item_wire {
                    Wire::Fixed32 => u64::from(packed.fixed32()?),
                    Wire::Fixed64 => packed.fixed64()?,
                    _ => packed.varint()?,
                };
                item(items, bits, &[], state)?;
            }
            Ok(())
        }
    })?;
    ends.push(end(items.len())?);
    column.added();
    Ok(())
}

/// Of entries with the same key the last one counts.
fn map(column: &mut Column, field: &FieldPlan, entry: &Message, slot: Slot, bytes: &[u8], state: &mut State) -> Done {
    let Store::Map(pair, ends) = &mut column.store else { return Ok(()) };
    let [keys, values] = pair.as_mut();
    let [key_plan, value_plan] = &entry.fields[..] else { return Ok(()) };
    let (base, slots) = (state.entries.len(), state.slots.len());
    occurrences(bytes, field.number, slot, |_, raw, payload| {
        let Raw::Bytes(start, end) = raw else { return Ok(()) };
        scan(entry, payload, slots, state)?;
        let key = match (&key_plan.shape, state.slots[slots]) {
            (Shape::One(Read::Text), Slot { occurrences: 0, .. }) => Raw::Bytes(0, 0),
            (Shape::One(Read::Text), Slot { last: Raw::Bytes(from, to), .. }) => Raw::Bytes(start + from, start + to),
            // Different bits may be one number.
            (Shape::One(Read::Number(number)), Slot { last: Raw::Bits(bits), .. }) => {
                Raw::Bits(number.value(bits).map_or_else(|great| great, |v| v as u64))
            }
            (_, Slot { last: Raw::Bits(bits), .. }) => Raw::Bits(u64::from(bits != 0)),
            (_, slot) => slot.last,
        };
        // A value that is passed over takes its entry with it.
        let passed_over = match (&value_plan.shape, state.slots[slots + 1]) {
            (Shape::One(read), Slot { occurrences: 0, .. }) => unknown_alone(read, value_plan, payload),
            _ => false,
        };
        state.entries.push(Entry { from: start as u32, to: end as u32, key, replaced: passed_over });
        Ok(())
    })?;
    state.slots.truncate(slots);
    let count = state.entries.len() - base;
    if count > 1 {
        let State { entries, order, .. } = state;
        let entries = &mut entries[base..];
        order.clear();
        order.extend(0..count as u32);
        let key = |e: &Entry| match e.key {
            Raw::Bits(bits) => (bits, &[] as &[u8]),
            Raw::Bytes(from, to) => (0, &bytes[from..to]),
        };
        order.retain(|&n| !entries[n as usize].replaced);
        order.sort_unstable_by(|&a, &b| key(&entries[a as usize]).cmp(&key(&entries[b as usize])).then(a.cmp(&b)));
        for pair in order.windows(2) {
            if key(&entries[pair[0] as usize]) == key(&entries[pair[1] as usize]) {
                entries[pair[0] as usize].replaced = true;
            }
        }
    }
    for n in base..base + count {
        let Entry { from, to, replaced, .. } = state.entries[n];
        if replaced {
            continue;
        }
        let payload = &bytes[from as usize..to as usize];
        scan(entry, payload, slots, state)?;
        let (key_slot, value_slot) = (state.slots[slots], state.slots[slots + 1]);
        self::field(keys, key_plan, key_slot, payload, state).map_err(|fault| fault.within("{key}"))?;
        self::field(values, value_plan, value_slot, payload, state).map_err(|fault| {
            let key = match state.entries[n].key {
                Raw::Bytes(from, to) => shown(&bytes[from..to]),
                Raw::Bits(bits) => (bits as i64).to_string(),
            };
            fault.within(&format!("{{{key}}}"))
        })?;
        state.slots.truncate(slots);
    }
    state.entries.truncate(base);
    ends.push(end(keys.len())?);
    column.added();
    Ok(())
}

/// Whether an entry has a value, and none that counts.
fn unknown_alone(read: &Read, value: &FieldPlan, entry: &[u8]) -> bool {
    if !matches!(read, Read::Symbol(symbols) | Read::EnumNumber(symbols) if symbols.closed) {
        return false;
    }
    let mut cursor = Cursor::new(entry);
    while let Ok((number, wire)) = cursor.tag() {
        if number == value.number {
            return true;
        }
        if cursor.value(number, wire).is_err() {
            break;
        }
    }
    false
}

fn end(items: usize) -> std::result::Result<i32, Box<Fault>> {
    i32::try_from(items).map_err(|_| Fault::new("its batch has more items than a column holds"))
}

/// Adds one value.
fn value(column: &mut Column, read: &Read, bits: u64, bytes: &[u8], state: &mut State) -> Done {
    match read {
        Read::Number(number) => return whole(column, *number, bits),
        Read::Text => {
            if std::str::from_utf8(bytes).is_err() {
                return Err(Fault::new(format!("it holds `{}`, which is not UTF-8", shown(bytes))));
            }
            return put(column, bytes);
        }
        Read::Bytes => return put(column, bytes),
        Read::Double => {
            if let Store::F64(values) = &mut column.store {
                values.push(f64::from_bits(bits));
            }
        }
        Read::Float => match &mut column.store {
            Store::F32(values) => values.push(f32::from_bits(bits as u32)),
            Store::F64(values) => values.push(f64::from(f32::from_bits(bits as u32))),
            _ => {}
        },
        Read::Bool => {
            if let Store::Boolean(values) = &mut column.store {
                values.append(bits != 0);
            }
        }
        Read::Symbol(symbols) => {
            let number = bits as i32;
            return match symbols.name(number) {
                Some(name) => {
                    state.room(name.len())?;
                    put(column, name.as_bytes())
                }
                // A name that this description does not know yet.
                None => put(column, number.to_string().as_bytes()),
            };
        }
        Read::EnumNumber(_) => return whole(column, Number::Int32, bits),
        Read::Timestamp(per_second) => {
            let at = timestamp(bytes, *per_second)?;
            if let Store::I64(values) = &mut column.store {
                values.push(at);
            }
        }
        Read::Wrapped(message) => {
            let base = state.slots.len();
            scan(message, bytes, base, state)?;
            let (slot, plan) = (state.slots[base], &message.fields[0]);
            state.slots.truncate(base);
            return field(column, plan, slot, bytes, state);
        }
        Read::Message(message) => {
            state.room(message.width * CELL_BYTES)?;
            let Store::Struct(columns) = &mut column.store else { return Ok(()) };
            fill(columns, message, bytes, state)?;
        }
    }
    column.added();
    Ok(())
}

#[inline]
fn whole(column: &mut Column, number: Number, bits: u64) -> Done {
    let value = number.value(bits);
    let fits = match (&mut column.store, value) {
        (Store::I64(values), Ok(v)) => {
            values.push(v);
            true
        }
        (Store::I32(values), Ok(v)) => i32::try_from(v).map(|v| values.push(v)).is_ok(),
        (Store::I16(values), Ok(v)) => i16::try_from(v).map(|v| values.push(v)).is_ok(),
        (Store::I8(values), Ok(v)) => i8::try_from(v).map(|v| values.push(v)).is_ok(),
        (Store::I128(values), Ok(v)) => {
            values.push(i128::from(v));
            true
        }
        (Store::I128(values), Err(great)) => {
            values.push(i128::from(great));
            true
        }
        _ => false,
    };
    if fits {
        column.added();
        return Ok(());
    }
    let value = value.map_or_else(|great| great.to_string(), |v| v.to_string());
    Err(Fault::new(format!("it holds {value}, the table declares {}", sql_type(column.field.data_type()))))
}

#[inline]
fn put(column: &mut Column, bytes: &[u8]) -> Done {
    let Store::Bytes(all, ends) = &mut column.store else { return Ok(()) };
    let Ok(end) = i32::try_from(all.len() + bytes.len()) else {
        return Err(Fault::new("the column has become too long in this batch"));
    };
    all.extend_from_slice(bytes);
    ends.push(end);
    column.added();
    Ok(())
}

/// A `google.protobuf.Timestamp`: seconds since 1970 and billionths of one.
fn timestamp(bytes: &[u8], per_second: i64) -> std::result::Result<i64, Box<Fault>> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    let mut cursor = Cursor::new(bytes);
    while !cursor.done() {
        let (number, wire) = cursor.tag()?;
        match (number, wire, cursor.value(number, wire)?) {
            (1, Wire::Varint, Raw::Bits(bits)) => seconds = bits as i64,
            (2, Wire::Varint, Raw::Bits(bits)) => nanos = bits as i32,
            (1 | 2, ..) => return Err(Fault::new("it is a time whose parts are no numbers")),
            _ => {}
        }
    }
    if !(0..1_000_000_000).contains(&nanos) {
        return Err(Fault::new(format!("it is a time with {nanos} billionths of a second")));
    }
    let part = i64::from(nanos) / (1_000_000_000 / per_second);
    let at = seconds.checked_mul(per_second).and_then(|at| at.checked_add(part));
    at.ok_or_else(|| Fault::new("it is a time that is too far away"))
}
