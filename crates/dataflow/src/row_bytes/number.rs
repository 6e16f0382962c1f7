//! Numbers as bits that compare as the numbers do.

use arrow::array::{ArrayData, ArrayRef, make_array};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType};
use millstream_core::Result;

/// A type whose values lie side by side, with as many bytes each.
#[derive(Clone, Copy)]
pub(super) struct Number {
    pub bytes: usize,
    sign: Sign,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    None,
    Integer,
    Float,
}

impl Number {
    /// `None`: the type is none of these.
    pub fn of(kind: &DataType) -> Option<Number> {
        use DataType::*;
        let (bytes, sign) = match kind {
            UInt8 => (1, Sign::None),
            UInt16 => (2, Sign::None),
            UInt32 => (4, Sign::None),
            UInt64 => (8, Sign::None),
            Int8 => (1, Sign::Integer),
            Int16 => (2, Sign::Integer),
            Int32 | Date32 | Time32(_) | Decimal32(..) => (4, Sign::Integer),
            Int64 | Date64 | Time64(_) | Timestamp(..) | Duration(_) | Decimal64(..) => (8, Sign::Integer),
            Decimal128(..) => (16, Sign::Integer),
            Float32 => (4, Sign::Float),
            Float64 => (8, Sign::Float),
            _ => return None,
        };
        Some(Number { bytes, sign })
    }

    /// The column's values as bits, and what is laid over them to make them compare.
    pub fn bits<T: Bits>(self, column: &ArrayRef) -> (ScalarBuffer<T>, T) {
        let data = column.to_data();
        let values = ScalarBuffer::<T>::new(data.buffers()[0].clone(), data.offset(), data.len());
        match self.sign {
            Sign::None => (values, T::ZERO),
            Sign::Integer => (values, T::SIGN),
            Sign::Float => (values.iter().map(|v| v.float_in_order()).collect(), T::ZERO),
        }
    }

    /// Bits without what was laid over them, as a column.
    pub fn column<T: Bits>(self, kind: &DataType, mut bits: Vec<T>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        match self.sign {
            Sign::None => {}
            Sign::Integer => bits.iter_mut().for_each(|v| *v = v.xor(T::SIGN)),
            Sign::Float => bits.iter_mut().for_each(|v| *v = v.float_as_it_was()),
        }
        let data = ArrayData::builder(kind.clone()).len(bits.len()).nulls(nulls).add_buffer(Buffer::from_vec(bits));
        Ok(make_array(data.build()?))
    }
}

/// The bits of a number.
pub(super) trait Bits: ArrowNativeType {
    const ZERO: Self;
    const ONES: Self;
    const SIGN: Self;

    fn xor(self, other: Self) -> Self;

    /// A float's bits so that they compare as integers without a sign: negative numbers turned, and the sign.
    fn float_in_order(self) -> Self;

    fn float_as_it_was(self) -> Self;

    fn write(self, bytes: &mut Vec<u8>);

    /// From as many first bytes of a slice.
    fn read(bytes: &[u8]) -> Self;
}

macro_rules! bits {
    ($($type:ty),*) => {$(
        impl Bits for $type {
            const ZERO: $type = 0;
            const ONES: $type = <$type>::MAX;
            const SIGN: $type = 1 << (<$type>::BITS - 1);

            #[inline(always)]
            fn xor(self, other: $type) -> $type {
                self ^ other
            }

            #[inline(always)]
            fn float_in_order(self) -> $type {
                if self & Self::SIGN == 0 { self ^ Self::SIGN } else { !self }
            }

            #[inline(always)]
            fn float_as_it_was(self) -> $type {
                if self & Self::SIGN == 0 { !self } else { self ^ Self::SIGN }
            }

            #[inline(always)]
            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_be_bytes());
            }

            #[inline(always)]
            fn read(bytes: &[u8]) -> $type {
                const LEN: usize = size_of::<$type>();
                <$type>::from_be_bytes(bytes[..LEN].try_into().expect("as many bytes"))
            }
        }
    )*};
}

bits!(u8, u16, u32, u64, u128);
