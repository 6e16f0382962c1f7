//! Lines up the barriers of one task's channels.
//!
//! ```text
//!  channel 0   a b │7│ c d        c and d are held until the others have come as far
//!  channel 1   x y z │7│          barrier 7 has come on every channel: the task is saved, then c and d go on
//! ```
//!
//! Or the barrier overtakes: once it waits somewhere in the queue on every channel, the task is saved at once, and what
//! the barrier has overtaken (`y z`) is saved with it.
//!
//! Always true: a channel that has ended holds no barrier back; an epoch that is older than one already seen is void.

use crate::exchange::{Inbox, Message, Signal};
use crate::sabotage::{Bug, on};
use std::collections::VecDeque;

/// What to do with a message.
#[derive(Debug)]
pub(crate) enum Step {
    Deliver(Message),
    /// Every barrier of this epoch is here: save the task, then tell [`Align::saved`].
    Save(u64),
    /// It is held, or void.
    Nothing,
}

#[derive(Debug)]
pub(crate) struct Align {
    /// The epoch being lined up; 0: none.
    epoch: u64,
    saved: u64,
    channels: Vec<Channel>,
    /// What came on channels whose barrier is here already.
    held: VecDeque<Message>,
    held_bytes: usize,
    /// What was held and goes on now, before the inbox.
    replay: VecDeque<Message>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Channel {
    arrived: bool,
    ended: bool,
    /// Brings rows only: the channel at this index brings its barriers and its end.
    signals_of: usize,
}

impl Align {
    /// `signals_of`: for each channel the one that brings its signals, mostly itself.
    pub fn new(signals_of: &[usize], saved: u64) -> Align {
        let channel = |at: &usize| Channel { signals_of: *at, ..Channel::default() };
        Align {
            epoch: 0,
            saved,
            channels: signals_of.iter().map(channel).collect(),
            held: VecDeque::new(),
            held_bytes: 0,
            replay: VecDeque::new(),
        }
    }

    /// The next message to look at.
    pub fn next(&mut self, inbox: &Inbox) -> Option<Message> {
        self.replay.pop_front().or_else(|| inbox.take())
    }

    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether no channel will ever bring a barrier.
    pub fn all_ended(&self) -> bool {
        self.channels.iter().all(|c| c.ended)
    }

    pub fn on(&mut self, message: Message) -> Step {
        match message.signal {
            Signal::Barrier(epoch) => {
                if epoch <= self.saved || epoch < self.epoch {
                    return Step::Nothing;
                }
                if epoch > self.epoch {
                    // An earlier one was given up: what was held for it goes on, and came before this barrier.
                    if !self.held.is_empty() {
                        self.held.push_back(message);
                        self.let_go();
                        return Step::Nothing;
                    }
                    self.let_go();
                    self.epoch = epoch;
                }
                self.mark(message.channel, |c| c.arrived = true);
                self.complete()
            }
            _ if self.epoch > 0 && self.channels[message.channel].arrived => {
                self.held_bytes += message.bytes;
                self.held.push_back(message);
                Step::Nothing
            }
            _ => Step::Deliver(message),
        }
    }

    /// The channel has ended (its message has been delivered).
    pub fn ended(&mut self, channel: usize) -> Step {
        self.mark(channel, |c| c.ended = true);
        self.complete()
    }

    /// The task has been saved at this epoch, by this or by other means.
    pub fn saved(&mut self, epoch: u64) {
        self.saved = epoch;
        if epoch >= self.epoch {
            self.let_go();
        }
    }

    /// If the barrier of this epoch is here or waits in the queue on every channel: the messages that it has overtaken, in
    /// their order. They stay in the queue; the barriers leave it.
    pub fn overtake(&mut self, epoch: u64, inbox: &Inbox) -> Option<Vec<(usize, Signal)>> {
        if epoch <= self.saved || epoch < self.epoch {
            return None;
        }
        let behind: Vec<bool> = self.channels.iter().map(|c| !(c.ended || c.arrived && self.epoch == epoch)).collect();
        let early = |m: &&Message| behind[m.channel];
        // What is held for an earlier epoch is among it.
        let taken = self.held.iter().chain(&self.replay);
        let replayed: Vec<_> = taken.filter(early).map(|m| (m.channel, m.signal.clone())).collect();
        let waiting: Vec<bool> = (0..behind.len()).map(|c| behind[c] && self.channels[c].signals_of == c).collect();
        let signals_of: Vec<usize> = self.channels.iter().map(|c| c.signals_of).collect();
        let queued = inbox.overtake(epoch, &waiting, &signals_of)?;
        let queued = queued.into_iter().filter(|(channel, _)| behind[*channel]);
        Some(replayed.into_iter().chain(queued).collect())
    }

    fn mark(&mut self, channel: usize, mark: impl Fn(&mut Channel)) {
        self.channels.iter_mut().filter(|c| c.signals_of == channel).for_each(mark);
    }

    fn complete(&self) -> Step {
        let early = on(Bug::BarrierNotAligned) && self.channels.iter().any(|c| c.arrived);
        match self.epoch > 0 && (early || self.channels.iter().all(|c| c.arrived || c.ended)) {
            true => Step::Save(self.epoch),
            false => Step::Nothing,
        }
    }

    fn let_go(&mut self) {
        self.epoch = 0;
        self.channels.iter_mut().for_each(|c| c.arrived = false);
        if on(Bug::HeldRowsLost) {
            self.held.clear();
        }
        self.held.append(&mut self.replay);
        std::mem::swap(&mut self.held, &mut self.replay);
        self.held_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Bell;
    use millstream_core::{TimeDomain, Watermark};
    use std::sync::Arc;

    fn inbox() -> Inbox {
        Inbox::new(1 << 20, Arc::new(Bell::default()), Arc::default())
    }

    /// A message that can be told from others.
    fn note(n: i64) -> Signal {
        Signal::Watermark(TimeDomain::Event, Watermark(n))
    }

    /// What is delivered, and `s7` where the task is saved at 7.
    fn play(align: &mut Align, inbox: &Inbox) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(message) = align.next(inbox) {
            let channel = message.channel;
            let step = match align.on(message) {
                Step::Deliver(Message { signal: Signal::Watermark(_, n), .. }) => {
                    seen.push(n.0.to_string());
                    Step::Nothing
                }
                Step::Deliver(Message { signal: Signal::End, .. }) => align.ended(channel),
                step => step,
            };
            if let Step::Save(epoch) = step {
                seen.push(format!("s{epoch}"));
                align.saved(epoch);
            }
        }
        seen
    }

    #[test]
    fn what_comes_behind_a_barrier_waits_for_the_others() {
        let (mut align, inbox) = (Align::new(&[0, 1], 0), inbox());
        for (channel, signal) in [(0, note(1)), (0, Signal::Barrier(7)), (0, note(2)), (1, note(3))] {
            inbox.put(channel, signal);
        }
        assert_eq!(play(&mut align, &inbox), ["1", "3"]);
        inbox.put(1, Signal::Barrier(7));
        inbox.put(1, note(4));
        assert_eq!(play(&mut align, &inbox), ["s7", "2", "4"]);
        assert_eq!(align.held_bytes(), 0);
    }

    #[test]
    fn a_channel_that_has_ended_holds_no_barrier_back() {
        let (mut align, inbox) = (Align::new(&[0, 1], 0), inbox());
        for (channel, signal) in [(0, Signal::Barrier(1)), (0, note(2)), (1, note(3)), (1, Signal::End)] {
            inbox.put(channel, signal);
        }
        assert_eq!(play(&mut align, &inbox), ["3", "s1", "2"]);
    }

    #[test]
    fn a_later_epoch_voids_an_earlier_one() {
        let (mut align, inbox) = (Align::new(&[0, 1], 0), inbox());
        for (channel, signal) in [(0, Signal::Barrier(1)), (0, note(2)), (1, Signal::Barrier(2)), (1, note(9))] {
            inbox.put(channel, signal);
        }
        assert_eq!(play(&mut align, &inbox), ["2"]);
        inbox.put(0, Signal::Barrier(2));
        inbox.put(1, Signal::Barrier(1));
        assert_eq!(play(&mut align, &inbox), ["s2", "9"]);
    }

    #[test]
    fn what_an_earlier_epoch_held_comes_before_the_barrier_that_voids_it() {
        let (mut align, inbox) = (Align::new(&[0, 1], 0), inbox());
        for (channel, signal) in [(0, Signal::Barrier(1)), (0, note(2)), (0, Signal::Barrier(2)), (0, note(3))] {
            inbox.put(channel, signal);
        }
        assert_eq!(play(&mut align, &inbox), ["2"], "the row before the second barrier belongs into its checkpoint");
        inbox.put(1, Signal::Barrier(2));
        assert_eq!(play(&mut align, &inbox), ["s2", "3"]);
    }

    #[test]
    fn a_barrier_overtakes_what_an_earlier_epoch_holds() {
        let (mut align, inbox) = (Align::new(&[0, 1], 0), inbox());
        inbox.put(0, Signal::Barrier(1));
        inbox.put(0, note(5));
        assert!(play(&mut align, &inbox).is_empty());
        inbox.put(0, note(6));
        [0, 1].iter().for_each(|channel| inbox.put(*channel, Signal::Barrier(2)));
        let overtaken = align.overtake(2, &inbox).expect("every barrier is here");
        assert_eq!(overtaken.len(), 2, "{overtaken:?}");
        align.saved(2);
        assert_eq!(play(&mut align, &inbox), ["5", "6"]);
    }

    #[test]
    fn a_barrier_overtakes_what_waits_and_what_it_overtook_is_told() {
        let (mut align, inbox) = (Align::new(&[0, 1], 0), inbox());
        inbox.put(0, Signal::Barrier(1));
        inbox.put(0, note(5));
        assert!(play(&mut align, &inbox).is_empty());
        inbox.put(1, note(6));
        inbox.put(1, note(7));
        assert!(align.overtake(1, &inbox).is_none(), "channel 1 has not got its barrier yet");
        inbox.put(1, Signal::Barrier(1));
        inbox.put(1, note(8));
        let overtaken = align.overtake(1, &inbox).expect("every barrier is here");
        let overtaken: Vec<_> = overtaken.iter().map(|(c, s)| format!("{c} {s:?}")).collect();
        assert_eq!(overtaken.len(), 2, "{overtaken:?}");
        align.saved(1);
        assert_eq!(play(&mut align, &inbox), ["5", "6", "7", "8"]);
    }
}
