//! Cuts CSV into records and fields.
//!
//! Two ways that give the same: where no quote stands, the fields are the bytes between delimiters and line ends, and
//! are found by `memchr`, in place. From the first quote on, `csv-core` works, byte by byte, into a buffer of its
//! own. What it means by CSV is what counts; a property test holds the quick way to it.

use crate::options::CsvOptions;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use std::ops::Range;

/// Below this many bytes before the first quote the quick way is not taken.
const PLAIN_BYTES_MIN: usize = 64 << 10;

pub(super) struct Splitter {
    delimiter: u8,
    quote: Option<u8>,
    comments: bool,
    reader: Reader,
    ends: Vec<usize>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Its fields, as indices into the spans.
    pub fields: Range<usize>,
    /// Its bytes, without the line end.
    pub raw: Range<usize>,
    /// False when a quote was still open at the end of the file.
    pub closed: bool,
}

/// The front of the bytes, cut.
pub(super) struct Cut {
    pub records: Vec<Record>,
    /// From and to of each field, in [`Cut::data`].
    pub spans: Vec<(u32, u32)>,
    pub consumed: usize,
    /// The fields' text, where it is not the input itself.
    unescaped: Option<Vec<u8>>,
}

impl Cut {
    pub fn data<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        match &self.unescaped {
            Some(data) => data,
            None => &input[..self.consumed],
        }
    }
}

impl Splitter {
    pub fn new(options: &CsvOptions) -> Splitter {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(options.delimiter).escape(options.escape);
        match options.quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        if options.allow_comments {
            builder.comment(Some(b'#'));
        }
        Splitter {
            delimiter: options.delimiter,
            quote: options.quote,
            comments: options.allow_comments,
            reader: builder.build(),
            ends: vec![0; 64],
        }
    }

    /// Cuts at most `records_max` whole records from the front of `bytes`.
    pub fn split(&mut self, bytes: &[u8], last: bool, records_max: usize) -> Cut {
        // Spans are kept as u32; the caller's pieces are far below that.
        let bytes = &bytes[..bytes.len().min(u32::MAX as usize / 2)];
        self.split_plain(bytes, last, records_max).unwrap_or_else(|| self.split_quoted(bytes, last, records_max))
    }

    /// The quick way, as far as no quote stands in it. `None` where it does not serve.
    fn split_plain(&self, bytes: &[u8], last: bool, records_max: usize) -> Option<Cut> {
        let first_quote = self.quote.and_then(|q| memchr::memchr(q, bytes));
        let plain = match first_quote {
            // The record in which the first quote stands is not for here, and where it comes soon, the batch would be
            // too small to be worth it.
            Some(at) if at < PLAIN_BYTES_MIN => return None,
            Some(at) => memchr::memrchr(b'\n', &bytes[..at])? + 1,
            None if last => bytes.len(),
            None => memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1),
        };
        if plain == 0 && memchr::memchr(b'\r', bytes).is_some() {
            // Perhaps the lines end with carriage returns alone.
            return None;
        }
        let text = &bytes[..plain];
        let returns = memchr::memchr(b'\r', text).is_some();
        let mut spans = Vec::with_capacity(text.len() / 8);
        let mut records = Vec::with_capacity(records_max.min(text.len() / 16));
        let (mut record_from, mut field_from, mut first_field) = (0, 0, 0);
        let mut in_comment = self.comments && text.first() == Some(&b'#');
        // Delimiters and line ends in order; `plain` itself stands for the missing line end of the last record.
        let stops = memchr::memchr2_iter(self.delimiter, b'\n', text).chain(std::iter::once(plain));
        for at in stops {
            let at_end = at == plain;
            if at_end && record_from == plain {
                break;
            }
            if !at_end && text[at] == self.delimiter {
                if !in_comment {
                    spans.push((field_from as u32, at as u32));
                    field_from = at + 1;
                }
                continue;
            }
            let end = if returns && at > record_from && text[at - 1] == b'\r' { at - 1 } else { at };
            if returns && memchr::memchr(b'\r', &text[record_from..end]).is_some() {
                // A lone carriage return ends a line for `csv-core`: rare enough to leave it to it.
                return None;
            }
            if end > record_from && !in_comment {
                spans.push((field_from as u32, end as u32));
                records.push(Record { fields: first_field..spans.len(), raw: record_from..end, closed: true });
                first_field = spans.len();
            }
            record_from = (at + 1).min(plain);
            field_from = record_from;
            if records.len() == records_max {
                break;
            }
            in_comment = self.comments && text.get(record_from) == Some(&b'#');
        }
        Some(Cut { records, spans, consumed: record_from, unescaped: None })
    }

    fn split_quoted(&mut self, bytes: &[u8], last: bool, records_max: usize) -> Cut {
        // Fields only shrink when unescaped, so this never has to grow.
        let mut data = vec![0; bytes.len() + 8];
        let mut spans = Vec::new();
        let mut records: Vec<Record> = Vec::new();
        self.reader.reset();
        // At its very first byte the reader would strip a byte order mark; here that may be anywhere in a file.
        let _ = self.reader.read_record(b"\n", &mut data, &mut self.ends);
        let (mut at, mut out, mut consumed) = (0, 0, 0);
        while records.len() < records_max && at < bytes.len() {
            let (record_at, record_out) = (at, out);
            let mut ends = 0;
            let closed = loop {
                let (result, read, wrote, fields) =
                    self.reader.read_record(&bytes[at..], &mut data[out..], &mut self.ends[ends..]);
                at += read;
                out += wrote;
                ends += fields;
                match result {
                    ReadRecordResult::Record => break Some(true),
                    ReadRecordResult::OutputEndsFull => {
                        let more = self.ends.len() * 2;
                        self.ends.resize(more, 0);
                    }
                    ReadRecordResult::OutputFull => data.resize(data.len() * 2, 0),
                    ReadRecordResult::InputEmpty | ReadRecordResult::End if !last => break None,
                    ReadRecordResult::InputEmpty | ReadRecordResult::End => {
                        // The end of the file, not of a record: a line end closes it, unless a quote is open.
                        if ends == self.ends.len() {
                            self.ends.push(0);
                        }
                        let (result, _, wrote, fields) =
                            self.reader.read_record(b"\n", &mut data[out..], &mut self.ends[ends..]);
                        out += wrote;
                        ends += fields;
                        break Some(matches!(result, ReadRecordResult::Record));
                    }
                }
            };
            match closed {
                None => break,
                Some(closed) => {
                    let raw = self.raw(bytes, record_at..at);
                    if raw.is_empty() {
                        // Only blank lines and comments were left.
                        consumed = at;
                        break;
                    }
                    let first = spans.len();
                    let mut from = record_out;
                    if closed {
                        for &end in &self.ends[..ends] {
                            spans.push((from as u32, (record_out + end) as u32));
                            from = record_out + end;
                        }
                    }
                    records.push(Record { fields: first..spans.len(), raw, closed });
                    consumed = at;
                }
            }
        }
        data.truncate(out);
        Cut { records, spans, consumed, unescaped: Some(data) }
    }

    /// The bytes of a record, without the blank lines and comments that the reader passed over before it and without
    /// its line end.
    fn raw(&self, bytes: &[u8], range: Range<usize>) -> Range<usize> {
        let Range { mut start, mut end } = range;
        loop {
            match bytes[start..end].first() {
                Some(b'\n' | b'\r') => start += 1,
                Some(b'#') if self.comments => {
                    start += memchr::memchr(b'\n', &bytes[start..end]).unwrap_or(end - start);
                }
                _ => break,
            }
        }
        while end > start && matches!(bytes[end - 1], b'\n' | b'\r') {
            end -= 1;
        }
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(cut: &Cut, input: &[u8]) -> Vec<(Vec<Vec<u8>>, Range<usize>)> {
        let data = cut.data(input);
        cut.records
            .iter()
            .map(|r| {
                let fields = &cut.spans[r.fields.clone()];
                (fields.iter().map(|&(a, b)| data[a as usize..b as usize].to_vec()).collect(), r.raw.clone())
            })
            .collect()
    }

    fn few_bytes(from: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(proptest::sample::select(from), 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn the_quick_way_cuts_as_the_careful_one(bytes in few_bytes(b"ab,,\n\n\r#"), last: bool, comments: bool, max in 1usize..6) {
            let options = CsvOptions { allow_comments: comments, ..CsvOptions::default() };
            let mut splitter = Splitter::new(&options);
            // A carriage return at the very end may end a record at once, or with the line end that is still to come.
            prop_assume!(last || !bytes.contains(&b'\r'));
            if let Some(plain) = splitter.split_plain(&bytes, last, max) {
                let quoted = splitter.split_quoted(&bytes, last, max);
                prop_assert_eq!(fields(&plain, &bytes), fields(&quoted, &bytes));
            }
        }

        #[test]
        fn any_cut_of_the_input_gives_the_same_records(bytes in few_bytes(b"ab,\"\n\n\r"), step in 1usize..9) {
            let mut splitter = Splitter::new(&CsvOptions::default());
            let mut whole = Vec::new();
            let mut at = 0;
            while at < bytes.len() {
                let cut = splitter.split(&bytes[at..], true, 1000);
                prop_assert!(cut.consumed > 0);
                whole.extend(fields(&cut, &bytes[at..]).into_iter().map(|(f, raw)| (f, raw.start + at..raw.end + at)));
                at += cut.consumed;
            }
            let mut pieces = Vec::new();
            let (mut from, mut to) = (0, 0);
            while from < bytes.len() {
                to = (to + step).min(bytes.len());
                let cut = splitter.split(&bytes[from..to], to == bytes.len(), 2);
                let input = &bytes[from..to];
                pieces.extend(fields(&cut, input).into_iter().map(|(f, raw)| (f, raw.start + from..raw.end + from)));
                from += cut.consumed;
            }
            prop_assert_eq!(whole, pieces);
        }
    }
}
