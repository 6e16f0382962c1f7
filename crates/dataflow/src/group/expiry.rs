//! Which groups are forgotten, and when: by event time, without looking at all of them.
//!
//! ```text
//!  spans of time by their number ──▶ group ⇄ group ⇄ group        each group is in one list
//!        a watermark passes a span ──▶ its groups: expired? removed : moved to the span in which they do
//! ```
//!
//! A row that touches a group only raises the group's last touch. The group is moved when the watermark has passed the span that
//! it lies in, so a group costs one look for each time that it is kept, however often it is touched. Whether a row finds its
//! group is judged by the row's own mark and to the millisecond; that a group is removed up to one span later is never seen.

use millstream_core::{Millis, Watermark};
use std::collections::BTreeMap;

/// Spans that the time for which a group is kept is divided into. More: memory is given back sooner; fewer: groups are moved less
/// often.
const SPANS: i64 = 64;

const NONE: u32 = u32::MAX;

/// A group's place in the list of its span.
#[derive(Clone, Copy)]
struct Link {
    before: u32,
    behind: u32,
    span: i64,
}

const UNLINKED: Link = Link { before: NONE, behind: NONE, span: i64::MIN };

pub(super) struct Expiry {
    keep: Millis,
    span: Millis,
    /// By group: the latest event time of its rows.
    touched: Vec<Millis>,
    links: Vec<Link>,
    /// By span: its first group.
    first: BTreeMap<i64, u32>,
}

impl Expiry {
    pub fn new(keep: Millis) -> Expiry {
        let keep = keep.max(0);
        let span = (keep / SPANS).max(1);
        Expiry { keep, span, touched: Vec::new(), links: Vec::new(), first: BTreeMap::new() }
    }

    pub fn resize(&mut self, groups: usize) {
        self.touched.resize(groups, Millis::MIN);
        self.links.resize(groups, UNLINKED);
    }

    /// Whether a row that is judged by this watermark finds the group no more.
    #[inline]
    pub fn has_expired(&self, group: u32, mark: Watermark) -> bool {
        mark.0 >= self.deadline(group)
    }

    fn deadline(&self, group: u32) -> Millis {
        self.touched[group as usize].saturating_add(self.keep)
    }

    pub fn touched(&self, group: u32) -> Millis {
        self.touched[group as usize]
    }

    /// A row of a group that is there.
    #[inline]
    pub fn touch(&mut self, group: u32, at: Millis) {
        let touched = &mut self.touched[group as usize];
        *touched = at.max(*touched);
    }

    /// The first row of a group, or its first one after it was forgotten.
    pub fn begin(&mut self, group: u32, at: Millis) {
        self.touched[group as usize] = at;
        if self.links[group as usize].span == i64::MIN {
            self.link(group);
        }
    }

    fn link(&mut self, group: u32) {
        let span = self.deadline(group).div_euclid(self.span);
        let behind = self.first.insert(span, group).unwrap_or(NONE);
        if behind != NONE {
            self.links[behind as usize].before = group;
        }
        self.links[group as usize] = Link { before: NONE, behind, span };
    }

    fn unlink(&mut self, group: u32) {
        let Link { before, behind, span } = std::mem::replace(&mut self.links[group as usize], UNLINKED);
        if span == i64::MIN {
            return;
        }
        if behind != NONE {
            self.links[behind as usize].before = before;
        }
        match (before, behind) {
            (NONE, NONE) => drop(self.first.remove(&span)),
            (NONE, behind) => drop(self.first.insert(span, behind)),
            (before, behind) => self.links[before as usize].behind = behind,
        }
    }

    /// The groups that have expired by this watermark, as far as it has passed their spans.
    pub fn expired(&mut self, by: Watermark) -> Vec<u32> {
        let mut expired = Vec::new();
        while let Some((&span, &first)) = self.first.first_key_value() {
            if span.saturating_add(1).saturating_mul(self.span) > by.0 {
                break;
            }
            self.first.remove(&span);
            let mut next = first;
            while next != NONE {
                let group = next;
                next = std::mem::replace(&mut self.links[group as usize], UNLINKED).behind;
                if self.has_expired(group, by) {
                    expired.push(group);
                } else {
                    self.link(group);
                }
            }
        }
        expired
    }

    /// Removes a group; the last one takes its id.
    pub fn swap_remove(&mut self, group: u32) {
        self.unlink(group);
        let last = self.links.len() as u32 - 1;
        self.touched.swap_remove(group as usize);
        self.links.swap_remove(group as usize);
        if group == last {
            return;
        }
        let Link { before, behind, span } = self.links[group as usize];
        if span == i64::MIN {
            return;
        }
        match before {
            NONE => drop(self.first.insert(span, group)),
            before => self.links[before as usize].behind = group,
        }
        if behind != NONE {
            self.links[behind as usize].before = group;
        }
    }

    pub fn shrink(&mut self) {
        self.touched.shrink_to_fit();
        self.links.shrink_to_fit();
    }

    pub fn bytes(&self) -> usize {
        self.touched.capacity() * 8 + self.links.capacity() * size_of::<Link>() + self.first.len() * 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is in the lists, by following them in both directions.
    fn listed(expiry: &Expiry) -> Vec<u32> {
        let mut all = Vec::new();
        for (span, first) in &expiry.first {
            let (mut before, mut at) = (NONE, *first);
            while at != NONE {
                let link = expiry.links[at as usize];
                assert_eq!((link.before, link.span), (before, *span), "group {at}");
                all.push(at);
                (before, at) = (at, link.behind);
            }
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn groups_expire_in_the_order_of_time_and_leave_no_trace() {
        let mut expiry = Expiry::new(1000);
        let mut model: Vec<Millis> = Vec::new();
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        let mut most = 0;
        for now in 0..4000i64 {
            for _ in 0..random(6) {
                let at = now - random(50) as i64;
                if model.is_empty() || random(3) == 0 {
                    expiry.resize(model.len() + 1);
                    expiry.begin(model.len() as u32, at);
                    model.push(at);
                } else {
                    let group = random(model.len() as u64) as usize;
                    expiry.touch(group as u32, at);
                    model[group] = model[group].max(at);
                }
            }
            if random(40) == 0 && !model.is_empty() {
                let group = random(model.len() as u64) as usize;
                expiry.swap_remove(group as u32);
                model.swap_remove(group);
            }
            let mut expired = expiry.expired(Watermark(now));
            expired.sort_unstable_by(|a, b| b.cmp(a));
            for group in expired {
                assert!(now >= model[group as usize] + 1000, "removed too early");
                expiry.swap_remove(group);
                model.swap_remove(group as usize);
            }
            let span = 1000 / SPANS + 1;
            assert!(model.iter().all(|at| now < at + 1000 + span), "removed too late");
            assert_eq!(listed(&expiry), (0..model.len() as u32).collect::<Vec<_>>());
            most = most.max(model.len());
        }
        assert!(most > 100, "there was something to remove");
        assert!(expiry.expired(Watermark(10_000)).len() == model.len() && expiry.first.is_empty());
    }
}
