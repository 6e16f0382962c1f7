//! A length of time with its unit, as options write it: `10 s`, `500ms`, `1 min`, `1h`.

use std::time::Duration;

/// Reads a length of time. The units and their long names are Flink's; a bare number means milliseconds, as there.
///
/// The error is a sentence for the user, without a place.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 =
        text[..digits].parse().map_err(|_| format!("`{text}` is not a length of time; write for example '10 s'"))?;
    let nanos_per_unit: u128 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * 1_000_000_000,
        "h" | "hour" | "hours" => 3_600 * 1_000_000_000,
        "d" | "day" | "days" => 86_400 * 1_000_000_000,
        unit => return Err(format!("`{unit}` is not a unit of time; use ms, s, min, h or d")),
    };
    // Times are kept as i64 milliseconds everywhere; what does not fit there is a slip, not a length of time.
    let nanos = u128::from(number) * nanos_per_unit;
    let millis = nanos / 1_000_000;
    if millis > i64::MAX as u128 {
        return Err(format!("`{text}` is too long a time"));
    }
    Ok(Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32))
}

/// `1 h`, `90 s`, `1500 ms`: the largest unit that leaves no fraction.
pub fn format_duration(of: Duration) -> String {
    let nanos = of.as_nanos();
    for (unit, size) in [("d", 86_400_000_000_000), ("h", 3_600_000_000_000), ("min", 60_000_000_000)] {
        if nanos > 0 && nanos.is_multiple_of(size) {
            return format!("{} {unit}", nanos / size);
        }
    }
    match nanos {
        n if n.is_multiple_of(1_000_000_000) => format!("{} s", n / 1_000_000_000),
        n if n.is_multiple_of(1_000_000) => format!("{} ms", n / 1_000_000),
        n if n.is_multiple_of(1_000) => format!("{} µs", n / 1_000),
        n => format!("{n} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_with_units() {
        assert_eq!(parse_duration("10 s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1 min"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse_duration("2 days"), Ok(Duration::from_secs(172_800)));
        assert_eq!(parse_duration("250"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("3 fortnights").is_err());
        assert!(parse_duration("-3 s").is_err());
        assert!(parse_duration("").is_err());
        assert!(parse_duration("99999999999999999999 d").is_err());
        assert!(parse_duration("9999999999999999999 d").is_err());
    }

    #[test]
    fn a_length_of_time_reads_back_as_it_was_written() {
        for nanos in [0, 1, 1_000, 1_500_000, 90_000_000_000, 3_600_000_000_000, 86_400_000_000_000] {
            let of = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&format_duration(of)), Ok(of));
        }
    }
}
