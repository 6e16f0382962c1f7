//! What calls read of bags: one value, a list of all, or each with its count.

use super::{Bag, BagRead, BagSet, BagSpec, Bags, Entries, Key, PLACE};
use crate::multiset::Held;
use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::DataType;
use millstream_core::{Error, Result};
use std::sync::Arc;

impl BagSet {
    /// The result of a call over these groups. `kind` is its type.
    pub fn finish(
        &self,
        spec: &BagSpec,
        read: &BagRead,
        kind: &DataType,
        groups: impl Iterator<Item = usize>,
    ) -> Result<ArrayRef> {
        match read {
            BagRead::Least | BagRead::Greatest | BagRead::First | BagRead::Last => self.one(spec, read, groups),
            BagRead::List { separator, once } => self.texts(spec, separator, *once, groups),
            BagRead::Array { once } => self.arrays(spec, kind, *once, groups),
            BagRead::Multiset { once } => self.held(spec, *once, groups)?.into_column(kind),
        }
    }

    /// One value of each group.
    fn one(&self, spec: &BagSpec, read: &BagRead, groups: impl Iterator<Item = usize>) -> Result<ArrayRef> {
        let least = matches!(read, BagRead::Least | BagRead::First);
        fn end<K: Key>(entries: &Entries<K>, least: bool) -> Option<&K> {
            let mut present = entries.present();
            let found = if least { present.next() } else { present.next_back() };
            found.map(|(k, _)| k)
        }
        let bags = match &self.bags {
            Bags::Words(bags) => {
                let (mut words, mut valid) = (Vec::new(), Vec::new());
                for group in groups {
                    let word = end(&bags[group].entries, least);
                    words.push(word.copied().unwrap_or(0));
                    valid.push(word.is_some());
                }
                let nulls = NullBuffer::from(valid);
                return spec.column_of_words(words, (nulls.null_count() > 0).then_some(nulls));
            }
            Bags::Bytes(bags) => bags,
        };
        let by_place = spec.order.is_some() && matches!(read, BagRead::First | BagRead::Last);
        let mut keys: Vec<&[u8]> = Vec::new();
        let mut at: Vec<Option<u32>> = Vec::new();
        for group in groups {
            let key = match by_place {
                true => end(&self.by_place[group], least).map(|k| &k[PLACE..]),
                false => end(&bags[group].entries, least).map(|k| &k[..k.len() - spec.place()]),
            };
            at.push(key.map(|_| keys.len() as u32));
            keys.extend(key);
        }
        let whole = keys.len() == at.len();
        let values = spec.columns_of_bytes(keys.into_iter())?.swap_remove(0);
        if whole { Ok(values) } else { Ok(take(&values, &UInt32Array::from(at), None)?) }
    }

    /// All values of these groups as one column, by place and then by value, and how many each group has.
    fn lists(&self, spec: &BagSpec, once: bool, groups: impl Iterator<Item = usize>) -> Result<(ArrayRef, Vec<usize>)> {
        let times = |n: i64| if once { 1 } else { n as usize };
        let mut lengths = Vec::new();
        let values = match &self.bags {
            Bags::Words(bags) => {
                let mut words = Vec::new();
                for group in groups {
                    let before = words.len();
                    for (word, n) in bags[group].entries.present() {
                        words.extend(std::iter::repeat_n(*word, times(n)));
                    }
                    lengths.push(words.len() - before);
                }
                spec.column_of_words(words, None)?
            }
            Bags::Bytes(bags) => {
                let mut keys: Vec<&[u8]> = Vec::new();
                for group in groups {
                    let before = keys.len();
                    for (key, n) in bags[group].entries.present() {
                        keys.extend(std::iter::repeat_n(&key[..], times(n)));
                    }
                    if spec.order.is_some() {
                        // They lie by value; the sort is stable.
                        keys[before..].sort_by(|a, b| a[a.len() - PLACE..].cmp(&b[b.len() - PLACE..]));
                    }
                    lengths.push(keys.len() - before);
                }
                let place = spec.place();
                spec.columns_of_bytes(keys.iter().map(|k| &k[..k.len() - place]))?.swap_remove(0)
            }
        };
        Ok((values, lengths))
    }

    fn texts(
        &self,
        spec: &BagSpec,
        separator: &str,
        once: bool,
        groups: impl Iterator<Item = usize>,
    ) -> Result<ArrayRef> {
        let (values, lengths) = self.lists(spec, once, groups)?;
        let texts = cast(&values, &DataType::Utf8)?;
        let mut texts = texts.as_string::<i32>().iter().map(Option::unwrap_or_default);
        let mut joined = StringBuilder::new();
        for length in lengths {
            let list: Vec<&str> = texts.by_ref().take(length).collect();
            joined.append_option((length > 0).then(|| list.join(separator)));
        }
        Ok(Arc::new(joined.finish()))
    }

    fn arrays(
        &self,
        spec: &BagSpec,
        kind: &DataType,
        once: bool,
        groups: impl Iterator<Item = usize>,
    ) -> Result<ArrayRef> {
        let DataType::List(field) = kind else {
            return Err(Error::internal(format!("ARRAY_AGG makes lists, not {kind}")));
        };
        let (values, lengths) = self.lists(spec, once, groups)?;
        let values = if values.data_type() == field.data_type() { values } else { cast(&values, field.data_type())? };
        let valid: Vec<bool> = lengths.iter().map(|n| *n > 0).collect();
        let offsets = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, Some(valid.into()))?))
    }

    /// Each value of these groups, in order, with its count.
    fn held(&self, spec: &BagSpec, once: bool, groups: impl Iterator<Item = usize>) -> Result<Held> {
        fn all<K: Key>(bags: &[Bag<K>], groups: impl Iterator<Item = usize>) -> (Vec<&K>, Vec<i64>, Vec<usize>) {
            let (mut keys, mut counts, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
            for group in groups {
                let before = keys.len();
                for (key, n) in bags[group].entries.present() {
                    keys.push(key);
                    counts.push(n);
                }
                lengths.push(keys.len() - before);
            }
            (keys, counts, lengths)
        }
        let (values, mut counts, lengths) = match &self.bags {
            Bags::Words(bags) => {
                let (words, counts, lengths) = all(bags, groups);
                (spec.column_of_words(words.into_iter().copied().collect(), None)?, counts, lengths)
            }
            Bags::Bytes(bags) => {
                let (keys, counts, lengths) = all(bags, groups);
                (spec.columns_of_bytes(keys.into_iter().map(|k| &k[..]))?.swap_remove(0), counts, lengths)
            }
        };
        if once {
            counts.fill(1);
        }
        Ok(Held { values, counts, lengths })
    }
}
