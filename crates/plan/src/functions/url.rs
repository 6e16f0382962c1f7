//! The parts of a URL, as `java.net.URL` cuts them, and percent-encoding as of HTML forms.

use super::kernel::{Call, some};
use arrow::array::ArrayRef;
use datafusion_common::Result;

/// `protocol://userinfo@host:port/path?query#ref`, cut where the signs stand; nothing is decoded.
struct Url<'a> {
    protocol: &'a str,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
    reference: Option<&'a str>,
    /// Path and query.
    file: &'a str,
}

/// The protocols that `java.net.URL` knows by itself; others make PARSE_URL answer NULL, as in Flink.
const PROTOCOLS: [&str; 5] = ["http", "https", "ftp", "file", "jar"];

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Url<'a>> {
        let text = text.trim_matches(|c: char| c <= ' ');
        let (protocol, rest) = text.split_once(':')?;
        if !PROTOCOLS.iter().any(|p| protocol.eq_ignore_ascii_case(p)) {
            return None;
        }
        let (rest, reference) = match rest.split_once('#') {
            Some((rest, reference)) => (rest, Some(reference)),
            None => (rest, None),
        };
        let (authority, file) = match rest.strip_prefix("//") {
            Some(after) => {
                let end = after.find(['/', '?']).unwrap_or(after.len());
                (Some(&after[..end]), &after[end..])
            }
            None => (None, rest),
        };
        let (path, query) = match file.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (file, None),
        };
        let url = Url { protocol, authority, path, query, reference, file };
        let port = url.host_and_port().and_then(|(_, port)| port);
        port.is_none_or(|p| p.is_empty() || p.parse::<u32>().is_ok()).then_some(url)
    }

    fn userinfo(&self) -> Option<&'a str> {
        Some(self.authority?.rsplit_once('@')?.0)
    }

    fn host_and_port(&self) -> Option<(&'a str, Option<&'a str>)> {
        let authority = self.authority?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        // The address of IPv6 stands in brackets and has colons of its own.
        let after = host.rfind(']').map_or(0, |at| at + 1);
        Some(match host[after..].find(':') {
            Some(at) => (&host[..after + at], Some(&host[after + at + 1..])),
            None => (host, None),
        })
    }

    fn part(&self, part: &str) -> Option<&'a str> {
        match part {
            "HOST" => Some(self.host_and_port().map_or("", |(host, _)| host)),
            "PATH" => Some(self.path),
            "QUERY" => self.query,
            "REF" => self.reference,
            "PROTOCOL" => Some(self.protocol),
            "FILE" => Some(self.file),
            "AUTHORITY" => self.authority,
            "USERINFO" => self.userinfo(),
            _ => None,
        }
    }
}

/// PARSE_URL(url, part[, key]): the key asks for one value of the query.
pub(super) fn parse_url(c: &Call) -> Result<ArrayRef> {
    let (text, part, key) = (c.text(0)?, c.text(1)?, c.optional_text(2)?);
    c.pick_text(|row| {
        let (text, part) = (some!(text.at(row)), some!(part.at(row)));
        let key = match &key {
            Some(key) => Some(some!(key.at(row))),
            None => None,
        };
        let found = some!(Url::parse(text)).part(part);
        Ok(match key {
            None => found,
            Some(key) if part == "QUERY" => {
                found.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')))
            }
            Some(_) => None,
        })
    })
}

pub(super) fn url_encode(c: &Call) -> Result<ArrayRef> {
    let text = c.text(0)?;
    c.make_text(|row, out| {
        for byte in some!(text.at(row)).bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => out.push(char::from(byte)),
                b' ' => out.push('+'),
                _ => {
                    out.push('%');
                    for digit in [byte >> 4, byte & 15] {
                        out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                    }
                }
            }
        }
        Ok(Some(()))
    })
}

/// NULL where a `%` is not followed by two hexadecimal digits; what is no UTF-8 becomes U+FFFD.
pub(super) fn url_decode(c: &Call) -> Result<ArrayRef> {
    let text = c.text(0)?;
    let mut decoded = Vec::new();
    c.make_text(|row, out| {
        decoded.clear();
        let mut rest = some!(text.at(row)).as_bytes();
        while let [byte, after @ ..] = rest {
            rest = after;
            match byte {
                b'+' => decoded.push(b' '),
                b'%' => {
                    let digit = |i: usize| rest.get(i).and_then(|b| char::from(*b).to_digit(16));
                    decoded.push((some!(digit(0)) * 16 + some!(digit(1))) as u8);
                    rest = &rest[2..];
                }
                _ => decoded.push(*byte),
            }
        }
        out.push_str(&String::from_utf8_lossy(&decoded));
        Ok(Some(()))
    })
}
