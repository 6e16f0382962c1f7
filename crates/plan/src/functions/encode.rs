//! Text and bytes in other clothes: base64, hexadecimal, binary, character sets, digests, and the parts of a URL.

use super::kernel::{Call, Function, Kind, some};
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use std::fmt::Write;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    use DataType::{Binary, Utf8};
    use Kind::{Any, Bytes, Long, Text};
    vec![
        Function::new("from_base64", &[Bytes], Utf8, from_base64),
        Function::new("to_base64", &[Bytes], Utf8, to_base64),
        Function::new("hex", &[Any], Utf8, hex),
        Function::new("unhex", &[Text], Binary, unhex),
        Function::new("bin", &[Long], Utf8, bin),
        Function::new("encode", &[Text, Text], Binary, encode),
        Function::new("decode", &[Bytes, Text], Utf8, decode),
        Function::new("md5", &[Bytes], Utf8, |c| digest(c, &datafusion_functions::crypto::md5())),
        Function::new("sha1", &[Bytes], Utf8, sha1),
        Function::new("sha224", &[Bytes], Utf8, |c| digest(c, &datafusion_functions::crypto::sha224())),
        Function::new("sha256", &[Bytes], Utf8, |c| digest(c, &datafusion_functions::crypto::sha256())),
        Function::new("sha384", &[Bytes], Utf8, |c| digest(c, &datafusion_functions::crypto::sha384())),
        Function::new("sha512", &[Bytes], Utf8, |c| digest(c, &datafusion_functions::crypto::sha512())),
        Function::new("sha2", &[Bytes, Long], Utf8, sha2),
        Function::new("parse_url", &[Text, Text, Text], Utf8, super::url::parse_url).optional(1),
        Function::new("url_encode", &[Text], Utf8, super::url::url_encode),
        Function::new("url_decode", &[Text], Utf8, super::url::url_decode),
    ]
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// With padding, in one line.
pub(super) fn write_base64(bytes: &[u8], out: &mut String) {
    for chunk in bytes.chunks(3) {
        let all = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let letter = BASE64[(all >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
}

fn to_base64(c: &Call) -> Result<ArrayRef> {
    let bytes = c.bytes(0)?;
    c.make_text(|row, out| {
        write_base64(some!(bytes.at(row)), out);
        Ok(Some(()))
    })
}

/// The decoded bytes as text; what is no UTF-8 becomes U+FFFD. Fails on what is no base64.
fn from_base64(c: &Call) -> Result<ArrayRef> {
    let bytes = c.bytes(0)?;
    let mut decoded = Vec::new();
    c.make_text(|row, out| {
        let text = some!(bytes.at(row));
        decoded.clear();
        let unpadded = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
        let padding = text.len() - unpadded.len();
        let (mut bits, mut have) = (0u32, 0);
        for (at, letter) in unpadded.iter().enumerate() {
            let value = match letter {
                b'A'..=b'Z' => letter - b'A',
                b'a'..=b'z' => letter - b'a' + 26,
                b'0'..=b'9' => letter - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return exec_err!("FROM_BASE64: byte {} of the argument is no letter of base64", at + 1),
            };
            bits = bits << 6 | u32::from(value);
            have += 6;
            if have >= 8 {
                have -= 8;
                decoded.push((bits >> have) as u8);
            }
        }
        if unpadded.len() % 4 == 1 || (padding > 0 && text.len() % 4 != 0) {
            return exec_err!("FROM_BASE64: the argument ends too early: {} letters", unpadded.len());
        }
        out.push_str(&String::from_utf8_lossy(&decoded));
        Ok(Some(()))
    })
}

/// Of an integer its two's complement without leading zeros, of text or bytes two digits for each byte; upper case.
fn hex(c: &Call) -> Result<ArrayRef> {
    let array = &c.args[0];
    if array.data_type().is_null() {
        return c.make_text(|_, _| Ok(None));
    }
    if array.data_type().is_integer() {
        let longs = arrow::compute::cast(array, &DataType::Int64)?;
        let longs = arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&longs).clone();
        return c.make_text(|row, out| {
            let row = if c.constant[0] { 0 } else { row };
            if longs.is_null(row) {
                return Ok(None);
            }
            write!(out, "{:X}", longs.value(row)).map_err(|e| exec(e.to_string()))?;
            Ok(Some(()))
        });
    }
    if !matches!(
        array.data_type(),
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
    ) {
        return plan_err!("HEX takes an integer, STRING or BYTES, not {}", array.data_type());
    }
    let bytes = c.bytes(0)?;
    c.make_text(|row, out| {
        some!(bytes.at(row)).iter().for_each(|b| push_hex(out, *b, b"0123456789ABCDEF"));
        Ok(Some(()))
    })
}

fn exec(what: String) -> datafusion_common::DataFusionError {
    datafusion_common::DataFusionError::Execution(what)
}

fn push_hex(out: &mut String, byte: u8, digits: &[u8; 16]) {
    out.push(char::from(digits[usize::from(byte >> 4)]));
    out.push(char::from(digits[usize::from(byte & 15)]));
}

/// NULL for what is no hexadecimal; an odd number of digits is read with a 0 in front.
fn unhex(c: &Call) -> Result<ArrayRef> {
    let text = c.text(0)?;
    c.make_bytes(|row, out| {
        let mut odd = some!(text.at(row)).len() % 2 == 1;
        let mut high = 0u8;
        for ch in some!(text.at(row)).chars() {
            let digit = some!(ch.to_digit(16)) as u8;
            if odd {
                out.push(high << 4 | digit);
                high = 0;
            } else {
                high = digit;
            }
            odd = !odd;
        }
        Ok(Some(()))
    })
}

fn bin(c: &Call) -> Result<ArrayRef> {
    let longs = c.longs(0)?;
    c.make_text(|row, out| {
        write!(out, "{:b}", some!(longs.at(row))).map_err(|e| exec(e.to_string()))?;
        Ok(Some(()))
    })
}

#[derive(Clone, Copy)]
enum Charset {
    Ascii,
    Latin1,
    Utf8,
    Utf16Be,
    Utf16Le,
    /// Big-endian unless a byte order mark says otherwise; written with one.
    Utf16,
}

fn charset(name: &str) -> Result<Charset> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "US-ASCII" | "ASCII" => Charset::Ascii,
        "ISO-8859-1" | "LATIN1" => Charset::Latin1,
        "UTF-8" | "UTF8" => Charset::Utf8,
        "UTF-16BE" => Charset::Utf16Be,
        "UTF-16LE" => Charset::Utf16Le,
        "UTF-16" => Charset::Utf16,
        _ => {
            return exec_err!(
                "`{name}` is no character set; there are US-ASCII, ISO-8859-1, UTF-8, UTF-16BE, UTF-16LE, UTF-16"
            );
        }
    })
}

/// What the character set does not have becomes `?`.
fn encode(c: &Call) -> Result<ArrayRef> {
    let (text, name) = (c.text(0)?, c.text(1)?);
    c.make_bytes(|row, out| {
        let (text, set) = (some!(text.at(row)), charset(some!(name.at(row)))?);
        let narrow = |limit: u32| text.chars().map(move |ch| if (ch as u32) < limit { ch as u32 as u8 } else { b'?' });
        match set {
            Charset::Ascii => out.extend(narrow(0x80)),
            Charset::Latin1 => out.extend(narrow(0x100)),
            Charset::Utf8 => out.extend_from_slice(text.as_bytes()),
            Charset::Utf16Be => out.extend(text.encode_utf16().flat_map(u16::to_be_bytes)),
            Charset::Utf16Le => out.extend(text.encode_utf16().flat_map(u16::to_le_bytes)),
            Charset::Utf16 => {
                out.extend_from_slice(&[0xfe, 0xff]);
                out.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
            }
        }
        Ok(Some(()))
    })
}

/// What cannot be decoded becomes U+FFFD.
fn decode(c: &Call) -> Result<ArrayRef> {
    let (bytes, name) = (c.bytes(0)?, c.text(1)?);
    c.make_text(|row, out| {
        let (bytes, set) = (some!(bytes.at(row)), charset(some!(name.at(row)))?);
        let mut wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
            let units = bytes.chunks(2).map(|pair| if let [a, b] = *pair { unit([a, b]) } else { 0xfffd });
            out.extend(char::decode_utf16(units).map(|ch| ch.unwrap_or('\u{fffd}')));
        };
        match set {
            Charset::Utf16Be => wide(bytes, u16::from_be_bytes),
            Charset::Utf16Le => wide(bytes, u16::from_le_bytes),
            Charset::Utf16 => match bytes {
                [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
                [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
                _ => wide(bytes, u16::from_be_bytes),
            },
            Charset::Utf8 => out.push_str(&String::from_utf8_lossy(bytes)),
            Charset::Latin1 => out.extend(bytes.iter().map(|b| char::from(*b))),
            Charset::Ascii => out.extend(bytes.iter().map(|b| if b.is_ascii() { char::from(*b) } else { '\u{fffd}' })),
        }
        Ok(Some(()))
    })
}

/// The digest of the library as text of hexadecimal digits, lower case.
fn digest(c: &Call, by: &Arc<ScalarUDF>) -> Result<ArrayRef> {
    let types = [c.args[0].data_type().clone()];
    let args = ScalarFunctionArgs {
        args: vec![ColumnarValue::Array(c.whole(0)?)],
        arg_fields: vec![c.fields[0].clone()],
        number_rows: c.rows,
        return_field: Arc::new(arrow::datatypes::Field::new("digest", by.return_type(&types)?, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    let made = by.invoke_with_args(args)?.into_array(c.rows)?;
    if let Some(text) = super::kernel::Text::of(&made) {
        return c.pick_text(|row| Ok(text.at(row)));
    }
    let made = arrow::compute::cast(&made, &DataType::Binary)?;
    let made = arrow::array::AsArray::as_binary::<i32>(&made);
    c.make_text(|row, out| {
        if made.is_null(row) {
            return Ok(None);
        }
        made.value(row).iter().for_each(|b| push_hex(out, *b, b"0123456789abcdef"));
        Ok(Some(()))
    })
}

fn sha2(c: &Call) -> Result<ArrayRef> {
    use datafusion_functions::crypto;
    let bits = c.longs(1)?;
    if !c.constant[1] {
        return exec_err!("SHA2: the length must be a constant: 224, 256, 384 or 512");
    }
    match bits.at(0) {
        None => c.make_text(|_, _| Ok(None)),
        Some(224) => digest(c, &crypto::sha224()),
        Some(256) => digest(c, &crypto::sha256()),
        Some(384) => digest(c, &crypto::sha384()),
        Some(512) => digest(c, &crypto::sha512()),
        Some(other) => exec_err!("SHA2: {other} is no length; there are 224, 256, 384 and 512"),
    }
}

/// SHA-1 (FIPS 180-4), which the library of the others does not have.
fn sha1(c: &Call) -> Result<ArrayRef> {
    let bytes = c.bytes(0)?;
    c.make_text(|row, out| {
        for byte in sha1_of(some!(bytes.at(row))) {
            push_hex(out, byte, b"0123456789abcdef");
        }
        Ok(Some(()))
    })
}

fn sha1_of(bytes: &[u8]) -> [u8; 20] {
    let mut h: [u32; 5] = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
    let (blocks, rest) = bytes.split_at(bytes.len() / 64 * 64);
    let mut tail = [0u8; 128];
    tail[..rest.len()].copy_from_slice(rest);
    tail[rest.len()] = 0x80;
    let end = if rest.len() < 56 { 64 } else { 128 };
    tail[end - 8..end].copy_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    for block in blocks.chunks_exact(64).chain(tail[..end].chunks_exact(64)) {
        let mut w = [0u32; 80];
        for (word, four) in w.iter_mut().zip(block.chunks_exact(4)) {
            *word = four.iter().fold(0, |n, b| n << 8 | u32::from(*b));
        }
        for i in 16..80 {
            w[i] = (w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = h;
        for (i, word) in w.iter().enumerate() {
            let (f, k) = match i / 20 {
                0 => (b & c | !b & d, 0x5a827999),
                1 => (b ^ c ^ d, 0x6ed9eba1),
                2 => (b & c | b & d | c & d, 0x8f1bbcdcu32),
                _ => (b ^ c ^ d, 0xca62c1d6),
            };
            let next = a.rotate_left(5).wrapping_add(f).wrapping_add(e).wrapping_add(k).wrapping_add(*word);
            (a, b, c, d, e) = (next, a, b.rotate_left(30), c, d);
        }
        for (sum, add) in h.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(add);
        }
    }
    let mut out = [0u8; 20];
    for (four, word) in out.chunks_exact_mut(4).zip(h) {
        four.copy_from_slice(&word.to_be_bytes());
    }
    out
}
