//! What passes between tasks: an inbox for each task, bounded in bytes, and the sender that splits rows by key group.

use crate::metrics::TaskMetrics;
use arrow::array::UInt32Array;
use millstream_core::key::{hash_rows, key_group, owner};
use millstream_core::{Batch, Result, TimeDomain, Watermark};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// What a task tells the next one, in this order.
#[derive(Debug, Clone)]
pub(crate) enum Signal {
    Batch(Batch),
    Watermark(TimeDomain, Watermark),
    /// Nothing comes for a while: leave this channel out of the watermark.
    Idle,
    /// Rows come again.
    Active,
    /// What came before it on this channel belongs to the checkpoint of this epoch, what comes after it does not. Taken
    /// out by the task before it reaches a cell.
    Barrier(u64),
    /// The input has ended; both watermarks were `MAX` before.
    End,
    /// The job stops here: windows that are open stay open.
    Stop,
}

#[derive(Debug)]
pub(crate) struct Message {
    /// Which channel of the receiving task.
    pub channel: usize,
    pub signal: Signal,
    pub bytes: usize,
}

/// Wakes a worker that has nothing to do.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_one();
    }

    /// Waits until somebody rings, `for_at_most` at the longest.
    pub fn wait(&self, for_at_most: Duration) {
        let mut rung = lock(&self.rung);
        if !*rung {
            rung = match self.changed.wait_timeout(rung, for_at_most) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        *rung = false;
    }
}

/// A lock that another thread's panic does not spoil: the job is failing anyway and what is inside stays whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The queue in front of a task. Any number of senders, one receiver.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    room: Condvar,
    bytes_max: usize,
    receiver: Arc<Bell>,
    metrics: Arc<TaskMetrics>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Inbox {
    pub fn new(bytes_max: usize, receiver: Arc<Bell>, metrics: Arc<TaskMetrics>) -> Inbox {
        Inbox { queue: Mutex::default(), room: Condvar::new(), bytes_max, receiver, metrics }
    }

    pub fn has_room(&self) -> bool {
        lock(&self.queue).bytes < self.bytes_max
    }

    /// Waits a moment for room. Whoever waits asks again.
    pub fn wait_for_room(&self, for_at_most: Duration) {
        let queue = lock(&self.queue);
        if queue.bytes >= self.bytes_max {
            drop(self.room.wait_timeout(queue, for_at_most));
        }
    }

    /// Never blocks: who sends has asked for room before.
    pub fn put(&self, channel: usize, signal: Signal) {
        let bytes = match &signal {
            Signal::Batch(batch) => batch.bytes() + 256,
            _ => 64,
        };
        let mut queue = lock(&self.queue);
        queue.bytes += bytes;
        queue.messages.push_back(Message { channel, signal, bytes });
        drop(queue);
        self.metrics.queued_bytes.fetch_add(bytes as i64, Relaxed);
        self.receiver.ring();
    }

    /// If a barrier of this epoch waits on each of the `waiting` channels: takes them out, and returns what stands before
    /// them on their channels. `signals_of[c]`: the channel that brings the barriers of channel `c`.
    pub fn overtake(&self, epoch: u64, waiting: &[bool], signals_of: &[usize]) -> Option<Vec<(usize, Signal)>> {
        let mut queue = lock(&self.queue);
        let is_barrier = |m: &Message| matches!(m.signal, Signal::Barrier(e) if e == epoch);
        let mut place = vec![None; waiting.len()];
        for (at, message) in queue.messages.iter().enumerate().filter(|(_, m)| is_barrier(m)) {
            place[message.channel].get_or_insert(at);
        }
        if (0..waiting.len()).any(|c| waiting[c] && place[c].is_none()) {
            return None;
        }
        let before = |(at, m): &(usize, &Message)| {
            let barrier = signals_of[m.channel];
            waiting[barrier] && place[barrier].is_some_and(|b| *at < b)
        };
        let overtaken = queue.messages.iter().enumerate().filter(before).map(|(_, m)| (m.channel, m.signal.clone()));
        let overtaken = overtaken.collect();
        let freed: usize = queue.messages.iter().filter(|m| is_barrier(m)).map(|m| m.bytes).sum();
        queue.messages.retain(|m| !is_barrier(m));
        queue.bytes -= freed;
        self.metrics.queued_bytes.fetch_sub(freed as i64, Relaxed);
        Some(overtaken)
    }

    pub fn take(&self) -> Option<Message> {
        let mut queue = lock(&self.queue);
        let message = queue.messages.pop_front()?;
        queue.bytes -= message.bytes;
        let room = queue.bytes < self.bytes_max;
        drop(queue);
        self.metrics.queued_bytes.fetch_sub(message.bytes as i64, Relaxed);
        if room {
            self.room.notify_all();
        }
        Some(message)
    }
}

/// How one task sends to the tasks of the next stage.
pub(crate) struct Sender {
    /// Key columns; without any, all rows go to the first target.
    pub keys: Vec<usize>,
    /// All rows go to every target.
    pub to_all: bool,
    /// The inboxes of the next stage's tasks, each with the channel that is ours there.
    pub targets: Vec<(Arc<Inbox>, usize)>,
    pub hashes: Vec<u64>,
}

impl Sender {
    /// Cuts the rows into one piece for each target that gets any.
    ///
    /// The key columns are hashed once; a counting sort makes one index list, whose parts are gathered.
    pub fn cut(&mut self, batch: Batch) -> Result<Vec<(usize, Batch)>> {
        if self.to_all {
            return Ok((0..self.targets.len()).map(|target| (target, batch.clone())).collect());
        }
        if self.targets.len() == 1 || self.keys.is_empty() {
            return Ok(vec![(0, batch)]);
        }
        let columns: Vec<_> = self.keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        hash_rows(&columns, batch.len(), &mut self.hashes)?;
        let n = self.targets.len();
        let mut starts = vec![0u32; n + 1];
        for h in &mut self.hashes {
            *h = u64::from(owner(key_group(*h), n as u32));
            starts[*h as usize + 1] += 1;
        }
        for t in 0..n {
            starts[t + 1] += starts[t];
        }
        let mut next = starts.clone();
        let mut order = vec![0u32; batch.len()];
        // Row by row: this is the counting sort itself, two loads and two stores for a row.
        for (row, target) in self.hashes.iter().enumerate() {
            let slot = &mut next[*target as usize];
            order[*slot as usize] = row as u32;
            *slot += 1;
        }
        let order = UInt32Array::from(order);
        let mut pieces = Vec::with_capacity(n);
        for t in 0..n {
            let (from, to) = (starts[t] as usize, starts[t + 1] as usize);
            if to - from == batch.len() {
                return Ok(vec![(t, batch)]);
            }
            if to > from {
                pieces.push((t, batch.take(&order.slice(from, to - from))?));
            }
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;

    fn inbox(bytes_max: usize) -> Arc<Inbox> {
        Arc::new(Inbox::new(bytes_max, Arc::new(Bell::default()), Arc::default()))
    }

    #[test]
    fn every_row_goes_to_the_owner_of_its_key_group_in_its_order() {
        let keys: Vec<i64> = (0..1_000).map(|i| i % 97).collect();
        let rows: Vec<i64> = (0..1_000).collect();
        let batch = RecordBatch::try_from_iter([
            ("k", Arc::new(Int64Array::from(keys)) as ArrayRef),
            ("n", Arc::new(Int64Array::from(rows)) as ArrayRef),
        ])
        .expect("columns of one length");
        let targets = (0..7).map(|_| (inbox(1), 0)).collect();
        let mut sender = Sender { keys: vec![0], to_all: false, targets, hashes: Vec::new() };
        let pieces = sender.cut(batch.into()).expect("cut");
        let mut seen = 0;
        let mut hashes = Vec::new();
        for (target, piece) in &pieces {
            hash_rows(&[piece.rows.column(0).clone()], piece.len(), &mut hashes).expect("hash");
            assert!(hashes.iter().all(|h| owner(key_group(*h), 7) == *target as u32));
            let n = piece.rows.column(1).as_primitive::<Int64Type>().values();
            assert!(n.windows(2).all(|w| w[0] < w[1]), "order within a target is kept");
            seen += piece.len();
        }
        assert_eq!((pieces.len(), seen), (7, 1_000));
    }

    #[test]
    fn an_inbox_tells_when_it_is_full() {
        let inbox = inbox(300);
        assert!(inbox.has_room());
        (0..5).for_each(|_| inbox.put(0, Signal::Idle));
        assert!(!inbox.has_room());
        while inbox.take().is_some() {}
        assert!(inbox.has_room());
    }
}
