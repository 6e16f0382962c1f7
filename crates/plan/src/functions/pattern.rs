//! Java's patterns for dates and times: `yyyy-MM-dd HH:mm:ss.SSS`.
//!
//! Two readers share one pattern. The strict one (`DateTimeFormatter`: TO_TIMESTAMP) wants as many digits as letters and
//! the whole text; the lenient one (`SimpleDateFormat`: UNIX_TIMESTAMP, TO_DATE) takes the digits that are there,
//! carries over what is too large (month 13), and leaves alone what follows.

use super::wall::{DAY, HOUR, MILLI, MINUTE, SECOND, Wall, days_of};
use datafusion_common::{Result, exec_err};
use std::fmt::Write;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// A letter and how often it stands there.
    Field(char, usize),
}

/// A pattern, ready to write and to read.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
    /// The shortest span in which the written text can change, in nanoseconds.
    grain: i64,
}

/// What a text said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) wall: Wall,
    /// Seconds east of UTC, where the text has a zone.
    pub(super) offset: Option<i64>,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Pattern {
    pub(super) fn parse(pattern: &str) -> Result<Pattern> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut literal = String::new();
        let mut grain = DAY;
        let mut rest = pattern.chars().peekable();
        while let Some(ch) = rest.next() {
            if ch == '\'' {
                if rest.next_if_eq(&'\'').is_some() {
                    literal.push('\'');
                    continue;
                }
                loop {
                    match rest.next() {
                        Some('\'') if rest.next_if_eq(&'\'').is_some() => literal.push('\''),
                        Some('\'') => break,
                        Some(quoted) => literal.push(quoted),
                        None => return exec_err!("the pattern `{pattern}` has a quote that does not end"),
                    }
                }
                continue;
            }
            if !ch.is_ascii_alphabetic() {
                literal.push(ch);
                continue;
            }
            let mut times = 1;
            while rest.next_if_eq(&ch).is_some() {
                times += 1;
            }
            grain = grain.min(match ch {
                'y' | 'u' | 'M' | 'L' | 'd' | 'D' | 'E' | 'e' | 'w' | 'W' | 'F' | 'Y' | 'Q' | 'q' | 'G' => DAY,
                'a' | 'H' | 'h' | 'K' | 'k' => HOUR,
                'm' => MINUTE,
                's' => SECOND,
                'S' | 'n' | 'N' | 'A' => 1,
                'X' | 'x' | 'Z' | 'z' | 'V' | 'O' => 1,
                _ => {
                    return exec_err!(
                        "the pattern `{pattern}` has the letter `{ch}`, which has no meaning; put text in quotes: '{ch}'"
                    );
                }
            });
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Field(ch, times));
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Pattern { pieces, grain })
    }

    /// Nanoseconds in whose multiples, counted from midnight, readings are written alike.
    pub(super) fn grain(&self) -> i64 {
        self.grain
    }

    /// Two readings with the same key are written alike.
    pub(super) fn key(&self, wall: Wall) -> (i64, i64) {
        (wall.day, wall.nanos / self.grain)
    }

    /// Appends `wall`; `offset` in seconds east of UTC is wanted only by the letters of zones.
    pub(super) fn write(&self, wall: Wall, offset: Option<i64>, out: &mut String) -> Result<()> {
        let (year, month, day) = wall.civil();
        let weekday = (wall.day + 3).rem_euclid(7);
        let nanos = wall.nanos;
        for piece in &self.pieces {
            let (letter, times) = match piece {
                Piece::Literal(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Field(letter, times) => (*letter, *times),
            };
            let name = |out: &mut String, name: &str| out.push_str(if times > 3 { name } else { &name[..3] });
            let number = match letter {
                'y' | 'u' if times == 2 => year.rem_euclid(100),
                'y' if year <= 0 => 1 - year,
                'y' | 'u' => year,
                'Y' if times == 2 => iso_week(wall.day).0.rem_euclid(100),
                'Y' => iso_week(wall.day).0,
                'M' | 'L' if times >= 3 => {
                    name(out, MONTHS[month as usize - 1]);
                    continue;
                }
                'M' | 'L' => i64::from(month),
                'd' => i64::from(day),
                'D' => wall.day - days_of(year, 1, 1) + 1,
                'E' => {
                    name(out, DAYS[weekday as usize]);
                    continue;
                }
                'e' | 'F' => {
                    if letter == 'e' {
                        (weekday + 1) % 7 + 1
                    } else {
                        i64::from(day - 1) / 7 + 1
                    }
                }
                'w' => iso_week(wall.day).1,
                'W' => (i64::from(day) - 1 + (days_of(year, month, 1) + 3).rem_euclid(7)) / 7 + 1,
                'Q' | 'q' => i64::from(month - 1) / 3 + 1,
                'G' => {
                    out.push_str(if year > 0 { "AD" } else { "BC" });
                    continue;
                }
                'a' => {
                    out.push_str(if nanos < 12 * HOUR { "AM" } else { "PM" });
                    continue;
                }
                'H' => nanos / HOUR,
                'k' => (nanos / HOUR + 23) % 24 + 1,
                'K' => nanos / HOUR % 12,
                'h' => (nanos / HOUR + 11) % 12 + 1,
                'm' => nanos / MINUTE % 60,
                's' => nanos / SECOND % 60,
                'A' => nanos / MILLI,
                'N' => nanos,
                'n' => nanos % SECOND,
                'S' => {
                    let fraction = nanos % SECOND;
                    let digits = times.min(9);
                    let shown = fraction / 10i64.pow(9 - digits as u32);
                    write_number(out, shown, digits);
                    out.extend(std::iter::repeat_n('0', times - digits));
                    continue;
                }
                _ => {
                    let Some(offset) = offset else {
                        return exec_err!(
                            "a TIMESTAMP has no zone that the letter `{letter}` of the pattern could show"
                        );
                    };
                    write_offset(out, letter, times, offset);
                    continue;
                }
            };
            write_number(out, number, times);
        }
        Ok(())
    }

    /// Reads `text`; `None` where it does not fit the pattern.
    pub(super) fn read(&self, text: &str, strict: bool) -> Option<Reading> {
        let mut rest = if strict { text } else { text.trim_start() };
        let (mut year, mut month, mut day) = (1970i64, 1i64, 1i64);
        let (mut hour, mut minute, mut second, mut nanos) = (0i64, 0i64, 0i64, 0i64);
        let (mut afternoon, mut offset, mut day_of_year) = (None, None, None);
        for (i, piece) in self.pieces.iter().enumerate() {
            let (letter, times) = match piece {
                Piece::Literal(literal) => {
                    rest = rest.strip_prefix(literal.as_str())?;
                    continue;
                }
                Piece::Field(letter, times) => (*letter, *times),
            };
            // Digits that stand against the next number must stop where it begins.
            let adjacent = matches!(self.pieces.get(i + 1), Some(Piece::Field(next, n)) if is_number(*next, *n));
            let most = match (letter, strict, adjacent) {
                (_, _, true) => times,
                (_, false, _) => 18,
                ('y' | 'u', true, _) if times != 2 => 10,
                ('S', true, _) => times,
                (_, true, _) if times == 1 => 19,
                (_, true, _) => times,
            };
            let least = if strict && times > 1 { times } else { 1 };
            let mut number = |least: usize| -> Option<i64> {
                if !strict {
                    rest = rest.trim_start_matches(' ');
                }
                let (sign, digits) = match rest.strip_prefix('-') {
                    Some(digits) if matches!(letter, 'y' | 'u') || !strict => (-1, digits),
                    _ => (1, rest),
                };
                let end = digits.bytes().take(most).take_while(u8::is_ascii_digit).count();
                if end < least {
                    return None;
                }
                let value = digits[..end].parse::<i64>().ok()?;
                rest = &digits[end..];
                Some(sign * value)
            };
            match letter {
                'y' | 'u' | 'Y' => {
                    year = number(least)?;
                    year += if times == 2 && (0..100).contains(&year) { 2000 } else { 0 };
                }
                'M' | 'L' if times >= 3 => month = take_name(&mut rest, &MONTHS)? as i64 + 1,
                'M' | 'L' => month = number(least)?,
                'd' => day = number(least)?,
                'D' => day_of_year = Some(number(least)?),
                'E' => {
                    take_name(&mut rest, &DAYS)?;
                }
                'H' | 'K' => hour = number(least)?,
                'k' | 'h' => hour = number(least)? % if letter == 'k' { 24 } else { 12 },
                'm' => minute = number(least)?,
                's' => second = number(least)?,
                'S' if strict => {
                    let value = number(least)?;
                    let digits = u32::try_from(times).ok()?;
                    nanos = if digits <= 9 {
                        value * 10i64.pow(9 - digits)
                    } else {
                        value / 10i64.checked_pow(digits - 9)?
                    };
                }
                'S' => nanos = number(1)?.checked_mul(MILLI)?,
                'n' => nanos = number(1)?,
                'a' => {
                    let word = rest.get(..2)?;
                    afternoon = Some(match word.to_ascii_uppercase().as_str() {
                        "AM" => false,
                        "PM" => true,
                        _ => return None,
                    });
                    rest = &rest[2..];
                }
                'G' => rest = rest.strip_prefix("AD")?,
                'X' | 'x' | 'Z' | 'z' | 'V' | 'O' => offset = Some(take_offset(&mut rest)?),
                _ => {
                    number(1)?;
                }
            }
        }
        if strict && !rest.is_empty() {
            return None;
        }
        if let Some(true) = afternoon {
            hour += 12;
        }
        if strict {
            let real_month = u32::try_from(month).ok().filter(|m| (1..=12).contains(m))?;
            // Java's smart resolving cuts a day of 29 to 31 to the length of the month.
            if !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 || year.abs() > 999_999_999 {
                return None;
            }
            day = day.min(i64::from(super::wall::month_length(year, real_month)));
        }
        let far = day_of_year.unwrap_or(0);
        if [year, month, day, hour, minute, second, far].iter().any(|n| n.abs() > 1_000_000_000) {
            return None;
        }
        let months = year.checked_mul(12)?.checked_add(month - 1)?;
        let first = days_of(months.div_euclid(12), months.rem_euclid(12) as u32 + 1, 1);
        let day = match day_of_year {
            Some(n) => days_of(year, 1, 1) + n - 1,
            None => first + day - 1,
        };
        let of_day = (i128::from(hour) * 3600 + i128::from(minute) * 60 + i128::from(second)) * i128::from(SECOND);
        let wall = Wall { day, nanos: 0 }.add_nanos(of_day + i128::from(nanos))?;
        Some(Reading { wall, offset })
    }
}

fn is_number(letter: char, times: usize) -> bool {
    match letter {
        'M' | 'L' => times < 3,
        'E' | 'a' | 'G' | 'X' | 'x' | 'Z' | 'z' | 'V' | 'O' => false,
        _ => true,
    }
}

fn write_number(out: &mut String, number: i64, digits: usize) {
    if digits == 2 && (0..100).contains(&number) {
        // The common case, without the machinery of formatting.
        out.push(char::from(b'0' + (number / 10) as u8));
        out.push(char::from(b'0' + (number % 10) as u8));
        return;
    }
    let sign = if number < 0 { "-" } else { "" };
    // Writing to a String cannot fail.
    let _ = write!(out, "{sign}{:0digits$}", number.unsigned_abs());
}

fn write_offset(out: &mut String, letter: char, times: usize, offset: i64) {
    if letter == 'X' && offset == 0 {
        out.push('Z');
        return;
    }
    if letter == 'O' || letter == 'z' {
        out.push_str(if offset == 0 && letter == 'z' { "UTC" } else { "GMT" });
        if offset == 0 {
            return;
        }
    }
    out.push(if offset < 0 { '-' } else { '+' });
    let (hours, minutes) = (offset.abs() / 3600, offset.abs() / 60 % 60);
    write_number(out, hours, 2);
    if letter.eq_ignore_ascii_case(&'x') && times == 1 && minutes == 0 {
        return;
    }
    if (letter.eq_ignore_ascii_case(&'x') && times == 3) || letter == 'z' || letter == 'O' {
        out.push(':');
    }
    write_number(out, minutes, 2);
}

/// `Z`, `+08`, `+0800`, `+08:00`, `GMT+08:00`, `UTC`.
fn take_offset(rest: &mut &str) -> Option<i64> {
    let mut text = *rest;
    let named = ["UTC", "GMT"].iter().find_map(|n| text.strip_prefix(n));
    text = named.unwrap_or(text);
    if let Some(after) = text.strip_prefix('Z') {
        *rest = after;
        return Some(0);
    }
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'+') => (1, &text[1..]),
        Some(b'-') => (-1, &text[1..]),
        _ if named.is_some() => {
            *rest = text;
            return Some(0);
        }
        _ => return None,
    };
    let two = |at: usize| digits.get(at..at + 2).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?.parse::<i64>().ok();
    let hours = two(0)?;
    let (minutes, end) = match (digits.as_bytes().get(2), two(2), two(3)) {
        (Some(b':'), _, Some(minutes)) => (minutes, 5),
        (_, Some(minutes), _) => (minutes, 4),
        _ => (0, 2),
    };
    *rest = &digits[end..];
    Some(sign * (hours * 3600 + minutes * 60))
}

/// A name of three letters or in full, in any case.
fn take_name(rest: &mut &str, names: &[&str]) -> Option<usize> {
    let (index, length) = names.iter().enumerate().find_map(|(i, name)| {
        let fits = |n: usize| rest.get(..n).is_some_and(|r| r.eq_ignore_ascii_case(&name[..n]));
        if fits(name.len()) { Some((i, name.len())) } else { fits(3).then_some((i, 3)) }
    })?;
    *rest = &rest[length..];
    Some(index)
}

/// The year and week of ISO 8601: week 1 has the year's first Thursday.
pub(super) fn iso_week(day: i64) -> (i64, i64) {
    let thursday = day - (day + 3).rem_euclid(7) + 3;
    let (year, ..) = super::wall::civil_of(thursday);
    (year, (thursday - days_of(year, 1, 1)) / 7 + 1)
}

/// The text of a date as Flink reads it: `yyyy-MM-dd`, with one digit or two; a time after a blank is left alone.
pub(super) fn read_date(text: &str) -> Option<i64> {
    let text = text.split_once(' ').filter(|(d, _)| !d.is_empty()).map_or(text, |(date, _)| date);
    let mut parts = text.split('-').map(|p| {
        let p = p.trim();
        let digits = !p.is_empty() && p.len() <= 4 && p.bytes().all(|b| b.is_ascii_digit());
        if digits { p.parse::<u32>().ok() } else { None }
    });
    let year = i64::from(parts.next()??);
    let month = parts.next().unwrap_or(Some(1))?;
    let day = parts.next().unwrap_or(Some(1))?;
    let real = parts.next().is_none() && (1..=12).contains(&month);
    (real && day >= 1 && day <= super::wall::month_length(year, month)).then(|| days_of(year, month, day))
}

/// The text of a timestamp as Flink reads it without a pattern: `yyyy-M-d[ H:m:s[.fraction]]`.
pub(super) fn read_timestamp(text: &str) -> Option<Wall> {
    let (date, time) = match text.split_once(' ') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = digits(parts.next()?, 4, 4)?;
    let (month, day) = (digits(parts.next()?, 1, 2)? as u32, digits(parts.next()?, 1, 2)? as u32);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if day > super::wall::month_length(year, month) {
        return None;
    }
    let nanos = match time {
        Some(time) => read_time(time)?,
        None => 0,
    };
    Some(Wall { day: days_of(year, month, day), nanos })
}

/// `H:m[:s[.fraction]]`, in nanoseconds since midnight.
pub(super) fn read_time(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let mut parts = clock.split(':');
    let (hour, minute) = (digits(parts.next()?, 1, 2)?, digits(parts.next()?, 1, 2)?);
    let second = match parts.next() {
        Some(second) => digits(second, 1, 2)?,
        None if fraction.is_none() => 0,
        None => return None,
    };
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = match fraction {
        Some(f) => digits(f, 1, 9)? * 10i64.pow(9 - f.len() as u32),
        None => 0,
    };
    Some(hour * HOUR + minute * MINUTE + second * SECOND + fraction)
}

fn digits(text: &str, least: usize, most: usize) -> Option<i64> {
    let fits = text.len() >= least && text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}
