//! A running program seen from outside: its metrics as Prometheus reads them, and whether it lives.
//!
//! ```text
//!  Runner ──the job at work──▶ Board ◀──asks── Endpoint (a thread of its own) ◀──GET /metrics── a scraper
//!                                └─▶ text: a reading of the job's counters, made when it is asked for
//! ```
//!
//! Counters are read, never reset, and nobody waits for whoever reads them: a scrape takes no lock that a worker holds for
//! longer than it takes to copy some names.

mod endpoint;
mod text;

pub use endpoint::Endpoint;

use millstream_runtime::Metrics;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What is going on in this program, for whoever asks.
#[derive(Default)]
pub struct Board(Mutex<State>);

#[derive(Default)]
enum State {
    /// No job has begun yet, or the next one of the script has not.
    #[default]
    Between,
    Running(Job),
    /// It has been asked to stop and still works.
    Stopping(Job),
    /// A job has failed, and nothing comes after it.
    Over,
}

struct Job {
    name: String,
    metrics: Arc<Metrics>,
    began: Instant,
}

impl Board {
    /// A job runs from now on.
    pub fn runs(&self, name: &str, metrics: Arc<Metrics>) {
        *self.state() = State::Running(Job { name: name.to_owned(), metrics, began: Instant::now() });
    }

    /// The job is to stop; what is under way still arrives.
    pub fn stops(&self) {
        let mut state = self.state();
        *state = match std::mem::take(&mut *state) {
            State::Running(job) => State::Stopping(job),
            other => other,
        };
    }

    /// The job has ended well: the next one may follow.
    pub fn has_ended(&self) {
        *self.state() = State::Between;
    }

    /// The job has failed.
    pub fn has_failed(&self) {
        *self.state() = State::Over;
    }

    /// Whether this program is alive: it is about to begin something, or a job is at work.
    pub fn lives(&self) -> bool {
        !matches!(&*self.state(), State::Over)
    }

    /// Whether a job takes in rows.
    pub fn is_ready(&self) -> bool {
        matches!(&*self.state(), State::Running(_))
    }

    /// All metrics, in Prometheus' text format 0.0.4.
    pub fn text(&self) -> String {
        let (name, metrics, began) = match &*self.state() {
            State::Running(job) | State::Stopping(job) => (job.name.clone(), job.metrics.clone(), job.began),
            State::Between | State::Over => return text::of_process(),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        text::of_process() + &text::of_job(&name, &metrics, began.elapsed(), now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
