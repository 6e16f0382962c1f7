//! Merges the watermarks of several channels into one, with idle channels left out.
//!
//! ```text
//!  channel 0 ──wm 100──┐
//!  channel 1 ──wm 50───┤──▶ least over the channels that count ──▶ never back ──▶ output
//!  channel 2 ──idle────┘
//! ```
//!
//! A channel *counts* while it is active, has not ended and stands at the output or above it. What follows:
//! - An idle channel leaves the minimum. One that comes back below the output stays out until it has caught up, and
//!   its rows are judged by the output.
//! - When the last channel that could count goes idle, the output rises to the most that any channel has promised,
//!   so that silence holds nothing back; then the output itself is idle.
//! - Tasks of one node behind an exchange hear the same of everyone upstream, so they fall silent together and speak
//!   again together, only not at the same moment. Their channels are idle once all of them are: one that has not yet
//!   heard that rows come again, or that no more come at all, still has windows to close, and whoever reads it waits for
//!   them.
//! - A channel that has ended promises everything and holds nobody back. The output is `MAX` when all have ended, and
//!   not before: a channel that is only idle may still speak.
//!
//! Idleness is a matter of event time. A source task stamps processing time as long as it lives, so the clocks of all
//! channels count, always: rows by processing time are never late.

use millstream_core::{Batch, Millis, TimeDomain, Watermark};

#[derive(Debug, Clone, Copy)]
struct Channel {
    watermark: Watermark,
    active: bool,
    ended: bool,
}

/// The merge of one time domain.
#[derive(Debug, Clone)]
pub(crate) struct Merge {
    channels: Vec<Channel>,
    /// By channel: those of one number are idle together; `None`: this one for itself.
    together: Vec<Option<usize>>,
    output: Watermark,
}

impl Merge {
    pub(crate) fn new(channels: usize) -> Merge {
        let channel = Channel { watermark: Watermark::MIN, active: true, ended: false };
        Merge { channels: vec![channel; channels], together: vec![None; channels], output: Watermark::MIN }
    }

    /// One more channel. It starts at `MIN`: once the output has moved, it counts only after it has caught up.
    pub(crate) fn add(&mut self) -> usize {
        self.channels.push(Channel { watermark: Watermark::MIN, active: true, ended: false });
        self.together.push(None);
        self.channels.len() - 1
    }

    /// All channels and the output stand at this watermark, and all channels are active.
    pub(crate) fn resume(&mut self, at: Watermark) {
        self.channels.iter_mut().for_each(|c| *c = Channel { watermark: at, active: true, ended: false });
        self.output = at;
    }

    /// Puts a channel where it stood. The output stays: call [`Merge::resume_output`] when all of them are there.
    pub(crate) fn restore(&mut self, channel: usize, watermark: Watermark, active: bool, ended: bool) {
        self.channels[channel] = Channel { watermark, active, ended };
    }

    /// The output stood at `floor`, perhaps over other channels than these, and does not go back. It is above that
    /// where these alone promise more: where all that are active do, behind the output or not; where none is active,
    /// where one does. A channel behind the output stays out as it was.
    pub(crate) fn resume_output(&mut self, floor: Watermark) {
        let open = || self.channels.iter().filter(|c| !c.ended);
        let active = open().filter(|c| c.active).map(|c| c.watermark).min();
        let promised = match active {
            Some(least) => least,
            // An ended channel's promise counts too, as it does when the last active one goes idle.
            None if open().next().is_some() => {
                self.channels.iter().map(|c| c.watermark).max().unwrap_or(Watermark::MIN)
            }
            None => Watermark::MIN,
        };
        self.output = self.output.max(floor).max(promised);
    }

    pub(crate) fn output(&self) -> Watermark {
        self.output
    }

    pub(crate) fn is_active(&self, channel: usize) -> bool {
        self.channels[channel].active
    }

    /// The channel's own promise, apart from its end.
    pub(crate) fn watermark(&self, channel: usize) -> Watermark {
        self.channels[channel].watermark
    }

    pub(crate) fn ended(&self) -> bool {
        self.channels.iter().all(|c| c.ended)
    }

    /// True when channels are left and all of them are idle.
    pub(crate) fn idle(&self) -> bool {
        let silent = |(i, c): (usize, &Channel)| c.ended || !(c.active || self.is_awaited(i));
        !self.ended() && self.channels.iter().enumerate().all(silent)
    }

    /// `MAX` means that the channel will promise nothing more: it has ended in this domain.
    pub(crate) fn advance(&mut self, channel: usize, to: Watermark) -> Option<Watermark> {
        let c = &mut self.channels[channel];
        match to {
            Watermark::MAX => c.ended = true,
            _ if to <= c.watermark => return None,
            _ => c.watermark = to,
        }
        self.rise()
    }

    pub(crate) fn set_active(&mut self, channel: usize, active: bool) -> Option<Watermark> {
        self.channels[channel].active = active;
        self.rise()
    }

    /// Lets the output follow a promise that was made from outside, such as the clock's.
    pub(crate) fn lift(&mut self, to: Watermark) -> Option<Watermark> {
        (to > self.output).then(|| {
            self.output = to;
            to
        })
    }

    /// The least promise among the channels that count, but for `except`.
    fn least(&self, except: Option<usize>) -> Option<Watermark> {
        let counting =
            |i: usize, c: &Channel| !c.ended && c.watermark >= self.output && (c.active || self.is_awaited(i));
        let others = self.channels.iter().enumerate().filter(|(i, c)| Some(*i) != except && counting(*i, c));
        others.map(|(_, c)| c.watermark).min()
    }

    /// Whether an idle channel will soon speak, since another one that is idle together with it has spoken already, or has
    /// said its last.
    fn is_awaited(&self, channel: usize) -> bool {
        let Some(number) = self.together[channel] else { return false };
        let others = self.channels.iter().zip(&self.together).filter(|(_, n)| **n == Some(number));
        others.into_iter().any(|(c, _)| c.active || c.ended)
    }

    fn rise(&mut self) -> Option<Watermark> {
        let target = if self.ended() {
            Watermark::MAX
        } else if self.idle() {
            self.channels.iter().map(|c| c.watermark).max().unwrap_or(Watermark::MIN)
        } else {
            self.least(None)?
        };
        self.lift(target)
    }

    /// What a mark on a row of `channel` means behind the merge: at least the first, at most the second.
    pub(crate) fn bounds(&self, channel: usize) -> (Millis, Millis) {
        let ceiling = self.least(Some(channel)).unwrap_or(Watermark::MAX);
        (self.output.0, ceiling.0.max(self.output.0))
    }
}

/// Merges the watermarks of the channels of one task, for both time domains.
#[derive(Debug, Clone)]
pub struct Valve {
    event: Merge,
    processing: Merge,
    idle: bool,
}

impl Valve {
    /// A valve over at least one channel. All are active and promise nothing.
    pub fn new(channels: usize) -> Valve {
        Valve { event: Merge::new(channels), processing: Merge::new(channels), idle: false }
    }

    /// By channel: those of one number come from tasks of one node that hear the same, so they are idle together.
    pub fn idle_together(&mut self, numbers: Vec<Option<usize>>) {
        debug_assert_eq!(numbers.len(), self.event.channels.len());
        self.event.together = numbers;
    }

    /// The valve of a task that goes on: the output had been handed on up to these watermarks, so every channel had
    /// promised as much or did not count. Those that come back idle say so again.
    pub fn resume(&mut self, event: Watermark, processing: Watermark) {
        self.event.resume(event);
        self.processing.resume(processing);
        self.idle = self.idle();
    }

    /// The watermark that has been handed on.
    pub fn output(&self, domain: TimeDomain) -> Watermark {
        match domain {
            TimeDomain::Event => self.event.output(),
            TimeDomain::Processing => self.processing.output(),
        }
    }

    /// True while no channel is active: whoever reads this valve should be told.
    pub fn idle(&self) -> bool {
        self.event.idle()
    }

    /// Returns the new output, where it has risen.
    pub fn on_watermark(&mut self, channel: usize, domain: TimeDomain, to: Watermark) -> Option<Watermark> {
        match domain {
            TimeDomain::Event => self.event.advance(channel, to),
            TimeDomain::Processing => self.processing.advance(channel, to),
        }
    }

    /// Returns the new output of event time, where it has risen. It goes on before the news that the valve is idle.
    pub fn on_idle(&mut self, channel: usize) -> Option<Watermark> {
        self.event.set_active(channel, false)
    }

    pub fn on_active(&mut self, channel: usize) -> Option<Watermark> {
        self.event.set_active(channel, true)
    }

    /// The channel has ended. Returns the outputs that have risen by it; ask [`Valve::ended`] whether it was the last.
    pub fn on_end(&mut self, channel: usize) -> [(TimeDomain, Option<Watermark>); 2] {
        [
            (TimeDomain::Event, self.event.advance(channel, Watermark::MAX)),
            (TimeDomain::Processing, self.processing.advance(channel, Watermark::MAX)),
        ]
    }

    /// Every channel has ended in both domains.
    pub fn ended(&self) -> bool {
        self.event.ended() && self.processing.ended()
    }

    /// Whether [`Valve::idle`] has changed since this was last asked. `Some(true)`: now idle.
    pub fn idle_changed(&mut self) -> Option<bool> {
        let idle = self.idle();
        (idle != self.idle).then(|| {
            self.idle = idle;
            idle
        })
    }

    /// Makes the marks of a batch from `channel` mean what they mean behind the merge: the output, as it would have
    /// been before each row, had the rows come one by one.
    pub fn clamp(&self, channel: usize, batch: &mut Batch) {
        if batch.marks.is_none() {
            return;
        }
        let (floor, ceiling) = self.event.bounds(channel);
        if floor == ceiling {
            // Nothing in the batch can move the output, which judges every row.
            batch.marks = None;
        } else {
            batch.clamp_marks(floor, ceiling);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TimeDomain::{Event, Processing};
    use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
    use arrow::datatypes::Schema;
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn an_idle_channel_leaves_the_minimum_and_comes_back_behind_it() {
        let mut valve = Valve::new(2);
        assert_eq!(valve.on_watermark(0, Event, Watermark(100)), None);
        assert_eq!(valve.on_watermark(1, Event, Watermark(50)), Some(Watermark(50)));
        assert_eq!(valve.on_idle(1), Some(Watermark(100)));
        assert_eq!(valve.on_active(1), None);
        assert_eq!(valve.on_watermark(1, Event, Watermark(60)), None);
        assert_eq!(marks(&valve, 1, &[55, 60]), None, "its rows are judged by the output");
        assert_eq!(valve.on_watermark(0, Event, Watermark(120)), Some(Watermark(120)));
        assert_eq!(valve.on_watermark(1, Event, Watermark(130)), None);
        assert_eq!(valve.on_watermark(0, Event, Watermark(140)), Some(Watermark(130)));
    }

    #[test]
    fn a_silent_channel_is_waited_for_where_one_that_hears_the_same_has_spoken_and_ended() {
        let mut valve = Valve::new(2);
        valve.idle_together(vec![Some(0), Some(0)]);
        for channel in [0, 1] {
            valve.on_watermark(channel, Event, Watermark(10));
        }
        for channel in [0, 1] {
            valve.on_idle(channel);
        }
        assert_eq!((valve.output(Event), valve.idle_changed()), (Watermark(10), Some(true)));
        valve.on_active(0);
        assert_eq!(valve.on_watermark(0, Event, Watermark(50)), None);
        assert_eq!(valve.on_end(0)[0], (Event, None), "channel 1 has windows to close up to 50");
        assert_eq!(valve.idle_changed(), Some(false));
        valve.on_active(1);
        assert_eq!(valve.on_watermark(1, Event, Watermark(50)), Some(Watermark(50)));
        assert_eq!(valve.on_end(1)[0], (Event, Some(Watermark::MAX)));
    }

    #[test]
    fn when_the_last_channel_goes_idle_the_furthest_promise_counts() {
        let mut valve = Valve::new(3);
        valve.on_watermark(0, Event, Watermark(10));
        valve.on_watermark(1, Event, Watermark(30));
        valve.on_watermark(2, Event, Watermark(20));
        assert_eq!(valve.on_idle(1), None);
        assert_eq!(valve.on_idle(0), Some(Watermark(20)));
        assert_eq!((valve.idle(), valve.idle_changed()), (false, None));
        assert_eq!(valve.on_idle(2), Some(Watermark(30)));
        assert_eq!((valve.idle_changed(), valve.idle_changed()), (Some(true), None));
        assert_eq!(valve.on_active(2), None);
        assert_eq!(valve.idle_changed(), Some(false));
    }

    #[test]
    fn a_task_that_has_not_heard_yet_is_waited_for() {
        let mut valve = Valve::new(2);
        valve.idle_together(vec![Some(7), Some(7)]);
        valve.on_watermark(0, Event, Watermark(10));
        assert_eq!(valve.on_watermark(1, Event, Watermark(10)), Some(Watermark(10)));
        assert_eq!((valve.on_idle(0), valve.idle()), (None, false));
        assert_eq!(valve.on_watermark(1, Event, Watermark(12)), None, "the first will come to it too");
        assert_eq!((valve.on_idle(1), valve.idle()), (Some(Watermark(12)), true));
        assert_eq!(valve.on_active(0), None);
        assert_eq!(valve.on_watermark(0, Event, Watermark(28)), None, "the second may still have something for 13");
        assert_eq!(valve.on_active(1), None);
        assert_eq!(valve.on_watermark(1, Event, Watermark(28)), Some(Watermark(28)));
        // The end of one is on its way to the other, too, which is idle no longer but late with its own.
        valve.on_idle(0);
        valve.on_end(1);
        assert!(!valve.idle() && !valve.ended());
        valve.on_end(0);
        assert!(valve.ended());
    }

    #[test]
    fn an_ended_channel_holds_nobody_back_and_an_idle_one_keeps_the_end_away() {
        let mut valve = Valve::new(2);
        valve.on_watermark(0, Event, Watermark(10));
        valve.on_watermark(1, Event, Watermark(5));
        assert_eq!(valve.on_idle(1), Some(Watermark(10)));
        assert_eq!(valve.on_end(0), [(Event, None), (Processing, None)]);
        assert!(valve.idle() && !valve.ended());
        assert_eq!(valve.on_end(1), [(Event, Some(Watermark::MAX)), (Processing, Some(Watermark::MAX))]);
        assert!(valve.ended() && !valve.idle());
    }

    #[test]
    fn processing_time_counts_every_channel() {
        let mut valve = Valve::new(2);
        valve.on_watermark(0, Processing, Watermark(10));
        assert_eq!(valve.on_idle(1), None);
        assert_eq!(valve.output(Processing), Watermark::MIN);
        assert_eq!(valve.on_watermark(1, Processing, Watermark(7)), Some(Watermark(7)));
    }

    #[test]
    fn a_resumed_valve_goes_on_from_its_output_and_never_goes_back() {
        let mut valve = Valve::new(2);
        valve.on_idle(1);
        valve.resume(Watermark(50), Watermark(7));
        assert_eq!((valve.output(Event), valve.output(Processing)), (Watermark(50), Watermark(7)));
        assert_eq!((valve.idle(), valve.idle_changed()), (false, None));
        assert_eq!(valve.on_watermark(0, Event, Watermark(40)), None);
        assert_eq!(valve.on_watermark(0, Event, Watermark(60)), None, "the other stands at 50");
        assert_eq!(marks(&valve, 1, &[55, 70]), Some(vec![55, 60]));
        assert_eq!(valve.on_watermark(1, Event, Watermark(55)), Some(Watermark(55)));
        assert_eq!(valve.on_watermark(0, Processing, Watermark(9)), None);
        assert_eq!(valve.on_watermark(1, Processing, Watermark(8)), Some(Watermark(8)));
        assert_eq!(valve.on_idle(1), Some(Watermark(60)));
        assert_eq!(valve.on_end(1), [(Event, None), (Processing, Some(Watermark(9)))]);
        assert_eq!(valve.on_end(0)[0], (Event, Some(Watermark::MAX)));
    }

    fn marks(valve: &Valve, channel: usize, marks: &[i64]) -> Option<Vec<i64>> {
        let options = RecordBatchOptions::new().with_row_count(Some(marks.len()));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("no column");
        let mut batch = Batch { rows, marks: Some(Int64Array::from(marks.to_vec())), kinds: None };
        valve.clamp(channel, &mut batch);
        batch.marks.map(|m| m.values().to_vec())
    }

    #[derive(Debug, Clone)]
    enum Move {
        Advance(usize, i64),
        Idle(usize),
        Active(usize),
        End(usize),
    }

    fn moves(channels: usize) -> impl Strategy<Value = Vec<Move>> {
        let c = || 0..channels;
        let one = prop_oneof![
            8 => (c(), 0i64..100).prop_map(|(c, w)| Move::Advance(c, w)),
            2 => c().prop_map(Move::Idle),
            2 => c().prop_map(Move::Active),
            1 => c().prop_map(Move::End),
        ];
        prop::collection::vec(one, 0..60)
    }

    /// The rule as Flink's valve states it, with a flag for each channel that is in line with the output.
    struct Naive {
        channels: Vec<(i64, bool, bool, bool)>, // watermark, active, ended, in line
        output: i64,
    }

    impl Naive {
        fn play(&mut self, m: &Move) -> i64 {
            match *m {
                Move::Advance(c, w) => self.channels[c].0 = self.channels[c].0.max(w),
                Move::Idle(c) => (self.channels[c].1, self.channels[c].3) = (false, false),
                Move::Active(c) => self.channels[c].1 = true,
                Move::End(c) => self.channels[c].2 = true,
            }
            for c in &mut self.channels {
                c.3 |= c.1 && c.0 >= self.output;
            }
            let open = || self.channels.iter().filter(|c| !c.2);
            let target = if open().count() == 0 {
                i64::MAX
            } else if open().all(|c| !c.1) {
                self.channels.iter().map(|c| c.0).max().unwrap_or(i64::MIN)
            } else {
                open().filter(|c| c.3).map(|c| c.0).min().unwrap_or(i64::MIN)
            };
            self.output = self.output.max(target);
            for c in &mut self.channels {
                c.3 = c.1 && c.0 >= self.output;
            }
            self.output
        }
    }

    proptest! {
        #[test]
        fn the_output_follows_the_rule_under_any_interleaving(moves in moves(3)) {
            let mut valve = Valve::new(3);
            let mut naive = Naive { channels: vec![(i64::MIN, true, false, true); 3], output: i64::MIN };
            for m in moves {
                let before = valve.output(Event);
                let said = match m {
                    Move::Advance(c, w) => valve.on_watermark(c, Event, Watermark(w)),
                    Move::Idle(c) => valve.on_idle(c),
                    Move::Active(c) => valve.on_active(c),
                    Move::End(c) => valve.on_end(c)[0].1,
                };
                prop_assert!(valve.output(Event) >= before);
                prop_assert_eq!(said, (valve.output(Event) > before).then(|| valve.output(Event)));
                prop_assert_eq!(valve.output(Event).0, naive.play(&m), "after {:?}", m);
            }
        }

        #[test]
        fn marks_are_the_outputs_of_a_row_by_row_feed(moves in moves(3), channel in 0usize..3,
                                                      steps in prop::collection::vec(0i64..30, 1..6)) {
            let mut valve = Valve::new(3);
            for m in moves {
                match m {
                    Move::Advance(c, w) => { valve.on_watermark(c, Event, Watermark(w)); }
                    Move::Idle(c) => { valve.on_idle(c); }
                    Move::Active(c) => { valve.on_active(c); }
                    Move::End(_) => {}
                }
            }
            valve.on_active(channel);
            let own = valve.event.channels[channel].watermark.0.max(0);
            let rising: Vec<i64> = steps.iter().scan(own, |w, s| { *w += s; Some(*w) }).collect();
            let clamped = marks(&valve, channel, &rising);
            let mut one_by_one = valve.clone();
            for (i, w) in rising.iter().enumerate() {
                one_by_one.on_watermark(channel, Event, Watermark(*w));
                let mark = clamped.as_ref().map_or(valve.output(Event).0, |m| m[i]);
                prop_assert_eq!(mark, one_by_one.output(Event).0);
            }
        }
    }
}
