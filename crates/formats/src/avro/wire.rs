//! How values lie in bytes, and how values that nobody wants are passed over.
//!
//! Whatever a length claims, nothing is taken that is not there, and no room is made for what a count claims. Items that are
//! no bytes at all (an array of `null`) are counted: [`NOTHINGS_MAX`] of them a record may have.

use super::schema::{Kind, NodeId, Schema};

/// Items without a byte of their own that one record may have in its arrays and maps.
pub(super) const NOTHINGS_MAX: u64 = 64 << 10;

/// Values nested deeper than this are not passed over: types may refer to themselves, and the way down is a recursion.
const DEPTH_MAX: usize = 64;

/// Bytes that are not what the schema says. Where the record ends is then not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage(pub &'static str);

pub(super) const CUT_OFF: Damage = Damage("it ends too early");

pub(super) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    nothings: u64,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Cursor<'a> {
        Cursor { bytes, at, nothings: NOTHINGS_MAX }
    }

    /// A new record begins.
    pub fn begin(&mut self) {
        self.nothings = NOTHINGS_MAX;
    }

    #[inline]
    pub fn long(&mut self) -> Result<i64, Damage> {
        // Most numbers are small.
        match self.bytes.get(self.at) {
            Some(&b) if b < 0x80 => {
                self.at += 1;
                Ok(i64::from(b >> 1) ^ -i64::from(b & 1))
            }
            _ => self.long_of_many(),
        }
    }

    fn long_of_many(&mut self) -> Result<i64, Damage> {
        let mut value = 0u64;
        for (n, &b) in self.bytes.get(self.at..).unwrap_or_default().iter().enumerate().take(10) {
            if n == 9 && b > 1 {
                break;
            }
            value |= u64::from(b & 0x7f) << (7 * n);
            if b < 0x80 {
                self.at += n + 1;
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        match self.bytes.len().saturating_sub(self.at) < 10 {
            true => Err(CUT_OFF),
            false => Err(Damage("a number is longer than 64 bits")),
        }
    }

    #[inline]
    pub fn int(&mut self) -> Result<i32, Damage> {
        i32::try_from(self.long()?).map_err(|_| Damage("an int is longer than 32 bits"))
    }

    pub fn boolean(&mut self) -> Result<bool, Damage> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Damage("a boolean is neither 0 nor 1")),
        }
    }

    pub fn float(&mut self) -> Result<f32, Damage> {
        Ok(f32::from_le_bytes(self.take(4)?.try_into().expect("four were taken")))
    }

    pub fn double(&mut self) -> Result<f64, Damage> {
        Ok(f64::from_le_bytes(self.take(8)?.try_into().expect("eight were taken")))
    }

    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        match self.bytes.get(self.at..).and_then(|rest| rest.get(..count)) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => Err(CUT_OFF),
        }
    }

    /// Bytes or text, with their length before them.
    #[inline]
    pub fn counted(&mut self) -> Result<&'a [u8], Damage> {
        let count = self.long()?;
        match usize::try_from(count) {
            Ok(count) => self.take(count),
            Err(_) => Err(Damage("a length is negative")),
        }
    }

    /// Items of the next block of an array or map; 0 ends it.
    pub fn block(&mut self) -> Result<u64, Damage> {
        let count = self.long()?;
        if count < 0 {
            // The size in bytes is for those who want to pass over the block.
            self.long()?;
        }
        Ok(count.unsigned_abs())
    }

    /// An item began at `from` and is read.
    #[inline]
    pub fn item_done(&mut self, from: usize) -> Result<(), Damage> {
        if self.at == from {
            self.nothings = self.nothings.checked_sub(1).ok_or(Damage("an array has too many items without bytes"))?;
        }
        Ok(())
    }

    /// Passes over a value.
    pub fn skip(&mut self, schema: &Schema, id: NodeId) -> Result<(), Damage> {
        self.skip_at(schema, id, 0)
    }

    fn skip_at(&mut self, schema: &Schema, id: NodeId, depth: usize) -> Result<(), Damage> {
        if depth > DEPTH_MAX {
            return Err(Damage("values are nested too deep"));
        }
        match &schema.node(id).kind {
            Kind::Null => Ok(()),
            Kind::Boolean => self.take(1).map(drop),
            Kind::Int | Kind::Long | Kind::Enum { .. } => self.long().map(drop),
            Kind::Float => self.take(4).map(drop),
            Kind::Double => self.take(8).map(drop),
            Kind::Bytes | Kind::String => self.counted().map(drop),
            Kind::Fixed { size, .. } => self.take(*size).map(drop),
            // Counted too: records of records of nothing multiply.
            Kind::Record { fields, .. } => fields.iter().try_for_each(|f| {
                let from = self.at;
                self.skip_at(schema, f.node, depth + 1)?;
                self.item_done(from)
            }),
            Kind::Union(branches) => {
                let branch = usize::try_from(self.long()?).ok().and_then(|b| branches.get(b));
                self.skip_at(schema, *branch.ok_or(NO_BRANCH)?, depth + 1)
            }
            Kind::Array(item) | Kind::Map(item) => {
                let keyed = matches!(schema.node(id).kind, Kind::Map(_));
                loop {
                    let count = self.block()?;
                    if count == 0 {
                        return Ok(());
                    }
                    for _ in 0..count {
                        let from = self.at;
                        if keyed {
                            self.counted()?;
                        }
                        self.skip_at(schema, *item, depth + 1)?;
                        self.item_done(from)?;
                    }
                }
            }
        }
    }
}

pub(super) const NO_BRANCH: Damage = Damage("a value is of a type that its union does not have");

#[inline]
pub(super) fn put_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(super) fn put_counted(value: &[u8], out: &mut Vec<u8>) {
    put_long(value.len() as i64, out);
    out.extend_from_slice(value);
}

/// A decimal's unscaled value in as few bytes as hold it, the highest first.
pub(super) fn decimal_bytes(value: &[u8; 16]) -> &[u8] {
    let fill = if value[0] & 0x80 == 0 { 0x00 } else { 0xff };
    let mut from = 0;
    while from < 15 && value[from] == fill && (value[from + 1] ^ fill) & 0x80 == 0 {
        from += 1;
    }
    &value[from..]
}
