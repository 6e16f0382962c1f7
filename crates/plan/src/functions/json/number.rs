//! Numbers of a document with the digits that stand there: `1.50`, not `1.5`.
//!
//! The parser makes a DOUBLE of what has a point or an exponent. Where its digits are wanted, the document is read again
//! with each number as a text.

use std::fmt::Write;

/// The document with each of its numbers in quotes. What is no JSON stays none.
pub(super) fn quoted(document: &str) -> String {
    let mut out = String::with_capacity(document.len() + 16);
    let (mut from, mut in_text, mut in_number, mut escaped) = (0, false, false, false);
    for (at, byte) in document.bytes().enumerate() {
        let numeric = byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.');
        // `e` and `E` begin no number: the one of `true` is no exponent.
        let goes_on = numeric || in_number && matches!(byte, b'e' | b'E');
        if !in_text && goes_on != in_number {
            out.push_str(&document[from..at]);
            out.push('"');
            (from, in_number) = (at, goes_on);
        }
        if byte == b'"' && !escaped {
            in_text = !in_text;
        }
        escaped = in_text && byte == b'\\' && !escaped;
    }
    out.push_str(&document[from..]);
    out.push_str(if in_number { "\"" } else { "" });
    out
}

/// The number as Flink writes it, which is as Java's BigDecimal is written: all its digits, with an exponent where the point
/// would stand right of the last digit, or far left of the first. A whole number keeps its digits.
pub(super) fn decimal(written: &str) -> String {
    let (sign, rest) = written.strip_prefix('-').map_or(("", written), |rest| ("-", rest));
    let (digits, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let Ok(exponent) = exponent.parse::<i64>() else { return written.to_string() };
    let all = format!("{whole}{fraction}");
    let digits = match all.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let mut out = String::from(if digits == "0" { "" } else { sign });
    // How many digits stand behind the point, and the power of ten of the first digit.
    let scale = (fraction.len() as i64).saturating_sub(exponent);
    let power = (digits.len() as i64 - 1).saturating_sub(scale);
    if scale == 0 {
        out.push_str(digits);
    } else if scale > 0 && power >= -6 {
        match digits.len().checked_sub(scale as usize).filter(|whole| *whole > 0) {
            Some(whole) => out.extend([&digits[..whole], ".", &digits[whole..]]),
            None => out.extend(["0.", &"0".repeat(scale as usize - digits.len()), digits]),
        }
    } else {
        out.push_str(&digits[..1]);
        if digits.len() > 1 {
            out.extend([".", &digits[1..]]);
        }
        if power != 0 {
            let _ = write!(out, "E{power:+}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_in_quotes_and_texts_stay() {
        let document = r#"{"a": -1.50e+3, "b2": [1,"2\"3", true ], "\\": 4 }"#;
        assert_eq!(quoted(document), r#"{"a": "-1.50e+3", "b2": ["1","2\"3", true ], "\\": "4" }"#);
        assert_eq!(quoted("7"), "\"7\"");
        assert_eq!(quoted("\"ü1\""), "\"ü1\"");
    }

    /// What `new BigDecimal(x).toString()` says.
    #[test]
    fn decimals_are_written_as_java_writes_them() {
        let examples = [
            ("1.50", "1.50"),
            ("1e3", "1E+3"),
            ("-1.5e3", "-1.5E+3"),
            ("123.45e2", "12345"),
            ("1.50e1", "15.0"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1E-7"),
            ("0.00000012", "1.2E-7"),
            ("-0.0", "0.0"),
            ("0e2", "0E+2"),
            ("0.00", "0.00"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("-0", "0"),
        ];
        for (written, wanted) in examples {
            assert_eq!(decimal(written), wanted, "{written}");
        }
    }
}
