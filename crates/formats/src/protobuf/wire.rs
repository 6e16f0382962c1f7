//! How values lie in bytes. Nothing is taken that is not there, whatever a length claims.

/// Groups within groups that are passed over: the way down is a recursion.
const GROUPS_MAX: u32 = 100;

/// The ways in which the bytes of a value are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Counted,
    Group,
    GroupEnd,
    Fixed32,
}

impl Wire {
    pub fn name(self) -> &'static str {
        match self {
            Wire::Varint => "a varint",
            Wire::Fixed64 => "8 bytes",
            Wire::Counted => "bytes with their length",
            Wire::Group => "the start of a group",
            Wire::GroupEnd => "the end of a group",
            Wire::Fixed32 => "4 bytes",
        }
    }

    pub fn code(self) -> u32 {
        match self {
            Wire::Varint => 0,
            Wire::Fixed64 => 1,
            Wire::Counted => 2,
            Wire::Group => 3,
            Wire::GroupEnd => 4,
            Wire::Fixed32 => 5,
        }
    }
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damage(pub &'static str);

pub(super) const CUT_OFF: Damage = Damage("the bytes end too early");

/// A value as it was found: a number's bits, or where its bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Raw {
    Bits(u64),
    /// From, to.
    Bytes(usize, usize),
}

pub(super) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub fn done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, Damage> {
        // Most numbers, and nearly all tags, are small.
        match self.bytes.get(self.at) {
            Some(&b) if b < 0x80 => {
                self.at += 1;
                Ok(u64::from(b))
            }
            _ => self.varint_of_many(),
        }
    }

    fn varint_of_many(&mut self) -> Result<u64, Damage> {
        let mut value = 0u64;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        for (n, &b) in rest.iter().enumerate().take(10) {
            if n == 9 && b > 1 {
                return Err(Damage("a number is longer than 64 bits"));
            }
            value |= u64::from(b & 0x7f) << (7 * n);
            if b < 0x80 {
                self.at += n + 1;
                return Ok(value);
            }
        }
        if rest.len() < 10 { Err(CUT_OFF) } else { Err(Damage("a number is longer than 64 bits")) }
    }

    #[inline]
    pub fn tag(&mut self) -> Result<(u32, Wire), Damage> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Counted,
            3 => Wire::Group,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            _ => return Err(Damage("a tag says neither how long its value is nor where it ends")),
        };
        match u32::try_from(tag >> 3) {
            Ok(number @ 1..=0x1fff_ffff) => Ok((number, wire)),
            _ => Err(Damage("a tag has a number that no field may have")),
        }
    }

    #[inline]
    pub fn fixed32(&mut self) -> Result<u32, Damage> {
        let four = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(CUT_OFF)?;
        self.at += 4;
        Ok(u32::from_le_bytes(*four))
    }

    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, Damage> {
        let eight = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()).ok_or(CUT_OFF)?;
        self.at += 8;
        Ok(u64::from_le_bytes(*eight))
    }

    /// Where bytes with their length before them begin and end.
    #[inline]
    pub fn counted(&mut self) -> Result<(usize, usize), Damage> {
        let count = self.varint()?;
        let (from, left) = (self.at, self.bytes.len() - self.at);
        match usize::try_from(count) {
            Ok(count) if count <= left => {
                self.at += count;
                Ok((from, from + count))
            }
            _ => Err(Damage("a length is greater than what is left")),
        }
    }

    /// The value behind a tag. That of a group is passed over, and is no bits.
    #[inline]
    pub fn value(&mut self, number: u32, wire: Wire) -> Result<Raw, Damage> {
        Ok(match wire {
            Wire::Varint => Raw::Bits(self.varint()?),
            Wire::Fixed64 => Raw::Bits(self.fixed64()?),
            Wire::Fixed32 => Raw::Bits(u64::from(self.fixed32()?)),
            Wire::Counted => {
                let (from, to) = self.counted()?;
                Raw::Bytes(from, to)
            }
            Wire::Group => {
                self.group(number, 0)?;
                Raw::Bits(0)
            }
            Wire::GroupEnd => return Err(Damage("a group ends that did not begin")),
        })
    }

    /// Passes over a group that has begun.
    fn group(&mut self, number: u32, depth: u32) -> Result<(), Damage> {
        if depth >= GROUPS_MAX {
            return Err(Damage("groups are nested too deep"));
        }
        loop {
            let (inner, wire) = self.tag()?;
            match wire {
                Wire::GroupEnd if inner == number => return Ok(()),
                Wire::GroupEnd => return Err(Damage("a group ends with the number of another")),
                Wire::Group => self.group(inner, depth + 1)?,
                _ => drop(self.value(inner, wire)?),
            }
        }
    }
}

#[inline]
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_tag(number: u32, wire: Wire, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | wire.code()), out);
}

pub(super) fn put_counted(value: &[u8], out: &mut Vec<u8>) {
    put_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Writes what `write` writes, with its length before it.
pub(super) fn put_within<E>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let at = out.len();
    // Room for a short one; a longer one moves.
    out.push(0);
    write(out)?;
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
    } else {
        let mut prefix = Vec::with_capacity(5);
        put_varint(len as u64, &mut prefix);
        out.splice(at..at + 1, prefix);
    }
    Ok(())
}

#[inline]
pub(super) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
