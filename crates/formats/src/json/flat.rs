//! Lines that are read in one pass: an object of texts, whole numbers, numbers and truth values, which is most of what there is.
//!
//! ```text
//!  {"id":7,"name":"ann"}  ── is it `"id":` that comes? yes, as in the line before ─▶ digits ─▶ the column `id`
//!                         ── is it `"name":`? … no ─▶ which column is it? none ─▶ pass over the value
//! ```
//!
//! Arrow's reader first makes a list of all that stands in a line and then makes columns of that. Here a value goes where it
//! belongs as it is met, and which name comes next is guessed from the line before.
//!
//! It decides nothing: [`Flat::read`] reads lines as Arrow's reader would or not at all. Whatever is out of the ordinary (an
//! escape in a text, a list, a number that a column cannot hold, a name given twice, anything that is wrong) makes it say `None`,
//! and Arrow reads the piece. Where that comes again and again fewer and fewer pieces are tried.

use crate::lines::Line;
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, NullBufferBuilder,
    PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, SchemaRef};
use std::sync::Arc;

/// Pieces that are left to Arrow at most before one is tried again.
const PAUSE_MAX: u32 = 255;

/// Places of a line that it is guessed for which name stands there.
const GUESSES_MAX: usize = 256;

/// Digits of a whole number that is read here: all of them fit.
const DIGITS_MAX: usize = 18;

pub(super) struct Flat {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// What came at each place of the line before: a name with its quotes and the colon, and its column.
    guesses: Vec<Guess>,
    /// Pieces that have not been tried since the last one, and how many are not to be.
    passed: u32,
    pause: u32,
}

struct Guess {
    begins: Vec<u8>,
    column: Option<usize>,
}

struct Column {
    name: Vec<u8>,
    values: Values,
    nulls: NullBufferBuilder,
    /// Rows that it has.
    rows: usize,
}

enum Values {
    Text { ends: Vec<i32>, bytes: Vec<u8> },
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Boolean(Vec<bool>),
}

impl Values {
    fn of(data_type: &DataType) -> Option<Values> {
        Some(match data_type {
            DataType::Utf8 => Values::Text { ends: Vec::new(), bytes: Vec::new() },
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Boolean => Values::Boolean(Vec::new()),
            _ => return None,
        })
    }

    /// A place for a row that has no value.
    fn push_null(&mut self) {
        match self {
            Values::Text { ends, bytes } => ends.push(bytes.len() as i32),
            Values::Int8(of) => of.push(0),
            Values::Int16(of) => of.push(0),
            Values::Int32(of) => of.push(0),
            Values::Int64(of) => of.push(0),
            Values::Float64(of) => of.push(0.0),
            Values::Boolean(of) => of.push(false),
        }
    }

    fn clear(&mut self) {
        match self {
            Values::Text { ends, bytes } => {
                ends.clear();
                bytes.clear();
            }
            Values::Int8(of) => of.clear(),
            Values::Int16(of) => of.clear(),
            Values::Int32(of) => of.clear(),
            Values::Int64(of) => of.clear(),
            Values::Float64(of) => of.clear(),
            Values::Boolean(of) => of.clear(),
        }
    }

    fn take(&mut self, nulls: &mut NullBufferBuilder) -> ArrayRef {
        let nulls = nulls.finish();
        fn primitive<T: ArrowPrimitiveType>(
            of: &mut Vec<T::Native>,
            nulls: Option<arrow::buffer::NullBuffer>,
        ) -> PrimitiveArray<T> {
            let next = Vec::with_capacity(of.len());
            PrimitiveArray::new(ScalarBuffer::from(std::mem::replace(of, next)), nulls)
        }
        match self {
            Values::Text { ends, bytes } => {
                let (next_ends, next_bytes) = (Vec::with_capacity(ends.len() + 1), Vec::with_capacity(bytes.len()));
                let mut offsets = Vec::with_capacity(ends.len() + 1);
                offsets.push(0);
                offsets.append(ends);
                *ends = next_ends;
                let bytes = std::mem::replace(bytes, next_bytes);
                Arc::new(StringArray::new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(bytes), nulls))
            }
            Values::Int8(of) => Arc::new(primitive(of, nulls) as Int8Array),
            Values::Int16(of) => Arc::new(primitive(of, nulls) as Int16Array),
            Values::Int32(of) => Arc::new(primitive(of, nulls) as Int32Array),
            Values::Int64(of) => Arc::new(primitive(of, nulls) as Int64Array),
            Values::Float64(of) => Arc::new(primitive(of, nulls) as Float64Array),
            Values::Boolean(of) => {
                let values = BooleanArray::from(std::mem::take(of)).values().clone();
                Arc::new(BooleanArray::new(values, nulls))
            }
        }
    }
}

/// Where a value ends and what it is.
enum Token {
    Text(std::ops::Range<usize>),
    /// Of this many digits and a sign at most; `whole`: without a fraction or an exponent.
    Number {
        at: std::ops::Range<usize>,
        whole: bool,
    },
    True,
    False,
    Null,
}

impl Flat {
    /// For the columns as Arrow reads them; `None` where one of them is of another kind.
    pub fn of(schema: &SchemaRef) -> Option<Flat> {
        let columns = schema.fields().iter().map(|field| {
            let (name, values) = (field.name().as_bytes().to_vec(), Values::of(field.data_type())?);
            Some(Column { name, values, nulls: NullBufferBuilder::new(0), rows: 0 })
        });
        Some(Flat {
            schema: schema.clone(),
            columns: columns.collect::<Option<_>>()?,
            guesses: Vec::new(),
            passed: 0,
            pause: 0,
        })
    }

    /// All of the lines, as Arrow would read them, or `None`.
    pub fn read(&mut self, bytes: &[u8], lines: &[Line]) -> Option<RecordBatch> {
        if self.passed < self.pause {
            self.passed += 1;
            return None;
        }
        let read = self.read_lines(bytes, lines);
        self.passed = 0;
        self.pause = if read.is_some() { 0 } else { (self.pause * 2 + 1).min(PAUSE_MAX) };
        if read.is_none() {
            for column in &mut self.columns {
                column.values.clear();
                column.nulls = NullBufferBuilder::new(0);
                column.rows = 0;
            }
        }
        read
    }

    fn read_lines(&mut self, bytes: &[u8], lines: &[Line]) -> Option<RecordBatch> {
        let length: usize = lines.iter().map(|line| line.bytes.len()).sum();
        i32::try_from(length).ok()?;
        for (row, line) in lines.iter().enumerate() {
            // Whole, so that each text that is taken out of it is well formed too.
            let text = std::str::from_utf8(&bytes[line.bytes.clone()]).ok()?.as_bytes();
            self.read_line(text, row)?;
            for column in &mut self.columns {
                if column.rows == row {
                    column.values.push_null();
                    column.nulls.append_null();
                    column.rows += 1;
                }
            }
        }
        let columns = self.columns.iter_mut().map(|column| {
            column.rows = 0;
            column.values.take(&mut column.nulls)
        });
        let columns = columns.collect();
        let options = RecordBatchOptions::new().with_row_count(Some(lines.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).ok()
    }

    fn read_line(&mut self, text: &[u8], row: usize) -> Option<()> {
        let mut at = space(text, 0);
        if text.get(at) != Some(&b'{') {
            return None;
        }
        at = space(text, at + 1);
        if text.get(at) == Some(&b'}') {
            return (space(text, at + 1) == text.len()).then_some(());
        }
        for place in 0.. {
            let column;
            (column, at) = self.name(text, at, place)?;
            let (token, end) = token(text, space(text, at))?;
            if let Some(column) = column {
                self.columns[column].push(text, token, row)?;
            }
            at = space(text, end);
            match text.get(at) {
                Some(b',') => at = space(text, at + 1),
                Some(b'}') => return (space(text, at + 1) == text.len()).then_some(()),
                _ => return None,
            }
        }
        None
    }

    /// The column that is named here, and where its value begins or the space before it.
    fn name(&mut self, text: &[u8], at: usize, place: usize) -> Option<(Option<usize>, usize)> {
        if let Some(guess) = self.guesses.get(place)
            && text[at..].starts_with(&guess.begins)
        {
            return Some((guess.column, at + guess.begins.len()));
        }
        if text.get(at) != Some(&b'"') {
            return None;
        }
        let end = text_end(text, at + 1)?;
        let column = self.columns.iter().position(|c| c.name == text[at + 1..end]);
        let colon = space(text, end + 1);
        if text.get(colon) != Some(&b':') {
            return None;
        }
        // Each place before this one has been met in this line.
        if place == self.guesses.len() && place < GUESSES_MAX {
            self.guesses.push(Guess { begins: Vec::new(), column });
        }
        if let Some(guess) = self.guesses.get_mut(place) {
            guess.begins.clear();
            guess.begins.extend_from_slice(&text[at..=colon]);
            guess.column = column;
        }
        Some((column, colon + 1))
    }
}

impl Column {
    fn push(&mut self, text: &[u8], token: Token, row: usize) -> Option<()> {
        // A name that is given twice.
        if self.rows != row {
            return None;
        }
        self.rows += 1;
        match (&mut self.values, token) {
            (values, Token::Null) => {
                values.push_null();
                self.nulls.append_null();
                return Some(());
            }
            // A number or a truth value in a column of texts is its own text.
            (Values::Text { ends, bytes }, Token::Text(at) | Token::Number { at, .. }) => {
                bytes.extend_from_slice(&text[at]);
                ends.push(bytes.len() as i32);
            }
            (Values::Text { ends, bytes }, truth @ (Token::True | Token::False)) => {
                bytes.extend_from_slice(if matches!(truth, Token::True) { b"true" } else { b"false" });
                ends.push(bytes.len() as i32);
            }
            (Values::Int64(of), Token::Number { at, whole: true }) => of.push(whole(&text[at])?),
            (Values::Int32(of), Token::Number { at, whole: true }) => of.push(whole(&text[at])?.try_into().ok()?),
            (Values::Int16(of), Token::Number { at, whole: true }) => of.push(whole(&text[at])?.try_into().ok()?),
            (Values::Int8(of), Token::Number { at, whole: true }) => of.push(whole(&text[at])?.try_into().ok()?),
            (Values::Float64(of), Token::Number { at, .. }) => {
                let number: f64 = std::str::from_utf8(&text[at]).ok()?.parse().ok()?;
                of.push(Some(number).filter(|n| n.is_finite())?);
            }
            (Values::Boolean(of), Token::True) => of.push(true),
            (Values::Boolean(of), Token::False) => of.push(false),
            _ => return None,
        }
        self.nulls.append_non_null();
        Some(())
    }
}

fn space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// The value that begins here, and where it ends.
fn token(text: &[u8], at: usize) -> Option<(Token, usize)> {
    let word = |word: &[u8], token| text[at..].starts_with(word).then_some((token, at + word.len()));
    match text.get(at)? {
        b'"' => {
            let end = text_end(text, at + 1)?;
            Some((Token::Text(at + 1..end), end + 1))
        }
        b't' => word(b"true", Token::True),
        b'f' => word(b"false", Token::False),
        b'n' => word(b"null", Token::Null),
        b'-' | b'0'..=b'9' => {
            let (end, whole) = number_end(text, at)?;
            Some((Token::Number { at: at..end, whole }, end))
        }
        _ => None,
    }
}

/// Where the text that begins here has its quote; `None`: there is an escape in it, or no end.
fn text_end(text: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // The lowest bit that is set is that of the first byte that is zero; above it others may be.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    while let Some(eight) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("eight bytes"));
        let found = zeros(word ^ (ONES * b'"' as u64)) | zeros(word ^ (ONES * b'\\' as u64));
        if found != 0 {
            at += (found.trailing_zeros() / 8) as usize;
            return (text[at] == b'"').then_some(at);
        }
        at += 8;
    }
    let end = at + text[at..].iter().position(|b| matches!(b, b'"' | b'\\'))?;
    (text[end] == b'"').then_some(end)
}

/// Where a number ends that is written as JSON wants it, and whether it is a whole one.
fn number_end(text: &[u8], begin: usize) -> Option<(usize, bool)> {
    let digits = |mut at: usize| {
        while text.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let first = begin + usize::from(text[begin] == b'-');
    let mut end = digits(first);
    // None at all, or one too many before others.
    if end == first || (text[first] == b'0' && end > first + 1) {
        return None;
    }
    let whole_end = end;
    if text.get(end) == Some(&b'.') {
        let fraction = end + 1;
        end = digits(fraction);
        if end == fraction {
            return None;
        }
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let exponent = end + 1 + usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        end = digits(exponent);
        if end == exponent {
            return None;
        }
    }
    Some((end, end == whole_end))
}

fn whole(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.len() > DIGITS_MAX {
        return None;
    }
    let number = digits.iter().fold(0i64, |number, digit| number * 10 + i64::from(digit - b'0'));
    Some(if digits.len() < text.len() { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;
    use arrow::datatypes::{Field, Schema};
    use proptest::prelude::*;

    fn schema() -> SchemaRef {
        let types = [
            ("id", DataType::Int64),
            ("name", DataType::Utf8),
            ("ok", DataType::Boolean),
            ("x", DataType::Float64),
            ("tiny", DataType::Int8),
            ("a\"b", DataType::Int32),
        ];
        Arc::new(Schema::new(types.map(|(name, of)| Field::new(name, of, true)).to_vec()))
    }

    fn lines(text: &str) -> Vec<Line> {
        let mut at = 0;
        let lines = text.split('\n').enumerate().map(|(record, line)| {
            let bytes = at..at + line.len();
            at += line.len() + 1;
            Line { number: 0, record, bytes }
        });
        lines.collect()
    }

    fn flat(text: &str) -> Option<RecordBatch> {
        Flat::of(&schema()).expect("all of these kinds").read(text.as_bytes(), &lines(text))
    }

    /// As Arrow alone reads it.
    fn arrow(text: &str) -> Option<RecordBatch> {
        let mut decoder = super::super::fresh(&schema()).expect("a decoder");
        for (i, line) in lines(text).iter().enumerate() {
            let line = &text.as_bytes()[line.bytes.clone()];
            let all = decoder.decode(line).is_ok_and(|n| n == line.len()) && decoder.decode(b"\n").is_ok();
            if !all || decoder.len() != i + 1 || decoder.has_partial_record() {
                return None;
            }
        }
        decoder.flush().ok().flatten()
    }

    #[test]
    fn ordinary_lines_are_read() {
        let text = r#"{"id":1,"name":"ann","ok":true,"x":1.5,"tiny":-128}
{"id":-9,"name":"","ok":false,"x":-2e3,"tiny":127,"more":"passed over","n":-0.5e-1}
 { "name" : "a longer text with ünïcode, and more" , "id" : 7 , "none" : null } 
{}
{"id":null,"name":12.50,"x":3}
{"name":true,"name2":false,"id":999999999999999999}"#;
        let read = flat(text).expect("nothing in it is out of the ordinary");
        assert_eq!(Some(&read), arrow(text).as_ref());
        assert_eq!((read.num_rows(), read.column(0).null_count(), read.column(1).null_count()), (6, 2, 1));
    }

    #[test]
    fn what_is_out_of_the_ordinary_is_left_to_arrow() {
        for line in [
            r#"{"name":"a\"b"}"#,
            r#"{"name":"\u0041"}"#,
            r#"{"a\"b":1}"#,
            r#"{"id":1,"id":2}"#,
            r#"{"id":"1"}"#,
            r#"{"id":1.0}"#,
            r#"{"id":1e2}"#,
            r#"{"id":9223372036854775807}"#,
            r#"{"tiny":128}"#,
            r#"{"ok":1}"#,
            r#"{"x":1e999}"#,
            r#"{"name":["a"]}"#,
            r#"{"more":{"a":1}}"#,
            r#"{"id":01}"#,
            r#"{"id":-}"#,
            r#"{"id":1.}"#,
            r#"{"id":+1}"#,
            r#"{"id":1} x"#,
            r#"{"id":1}{"id":2}"#,
            r#"{"id":1,}"#,
            r#"{,"id":1}"#,
            r#"{"id" 1}"#,
            r#"{"id":1"#,
            r#"{"name":"a}"#,
            r#"{"ok":tru}"#,
            r#"[1]"#,
            "1",
            "",
        ] {
            assert_eq!(flat(line), None, "{line}");
        }
    }

    #[test]
    fn pieces_that_are_hardly_ever_flat_are_hardly_ever_tried() {
        let mut flat = Flat::of(&schema()).expect("all of these kinds");
        let (odd, even) = (r#"{"id":"1"}"#, r#"{"id":1}"#);
        for _ in 0..20_000 {
            assert_eq!(flat.read(odd.as_bytes(), &lines(odd)), None);
        }
        let tried = (0..=PAUSE_MAX).position(|_| flat.read(even.as_bytes(), &lines(even)).is_some());
        assert!(tried.is_some_and(|n| n > 0));
        assert!(flat.read(even.as_bytes(), &lines(even)).is_some(), "and then each is");
    }

    /// Pieces of lines, well formed and not, put together at random.
    fn piece() -> impl Strategy<Value = String> {
        let parts = [
            "{",
            "}",
            "\"id\":",
            "\"name\":",
            "\"ok\":",
            "\"x\":",
            "\"tiny\":",
            "\"zzz\":",
            ",",
            ", ",
            " ",
            "1",
            "-1",
            "0",
            "00",
            "12.5",
            "1e3",
            "1.5E-7",
            "-0",
            "-0.0",
            "300",
            "1234567890123456789",
            "true",
            "false",
            "null",
            "\"\"",
            "\"a\"",
            "\"abcdefg\"",
            "\"abcdefgh\"",
            "\"a longer text, of \u{e4}\"",
            "\"\\n\"",
            "\"\\",
            "[1]",
            "{\"id\":1}",
            "\t",
            "\u{1}",
            "\"a\u{1}b\"",
            "nul",
            "{\"id\":5,\"name\":\"x\"}",
            "\"id\"",
            ":",
            "1.",
            "-",
            "\n",
            "0.1",
            "1e400",
            "\"1\"",
            "1.0",
        ];
        proptest::collection::vec(proptest::sample::select(parts.to_vec()).prop_map(str::to_owned), 1..14)
            .prop_map(|parts| parts.concat())
    }

    /// Lines that are objects, of values that may or may not fit.
    fn objects() -> impl Strategy<Value = String> {
        let name = proptest::sample::select(vec!["id", "name", "ok", "x", "tiny", "other"]);
        let value = prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<i8>().prop_map(|n| n.to_string()),
            any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(|n| n.to_string()),
            any::<f32>().prop_filter("JSON has no others", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
            any::<bool>().prop_map(|b| b.to_string()),
            "[ -~]{0,20}".prop_map(|text| serde_json::to_string(&text).expect("a text")),
            Just("null".to_owned()),
        ];
        let line = proptest::collection::vec((name, value), 0..6).prop_map(|fields| {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        });
        proptest::collection::vec(line, 1..5).prop_map(|lines| lines.join("\n"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn it_reads_as_arrow_does_or_not_at_all(text in prop_oneof![piece(), objects()]) {
            if let Some(read) = flat(&text) {
                prop_assert_eq!(Some(read), arrow(&text), "{}", text);
            }
        }
    }
}
