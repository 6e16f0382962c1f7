//! Live progress on standard error: a few lines that renew themselves on a terminal, plain lines elsewhere.

use super::args::Progress;
use super::log::{self, Event, Level};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use millstream::{Behind, ByteSize, Snapshot, Stop, Summary, Watermark};
use std::io::IsTerminal;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time between two renewals on a terminal.
const LIVE_EVERY: Duration = Duration::from_millis(100);
/// Time between two lines elsewhere.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Shows how a job is getting on.
pub struct Reporter {
    bar: Option<ProgressBar>,
    plain: bool,
    started: Instant,
    last: Instant,
    rows_before: u64,
    rate: f64,
}

impl Reporter {
    /// `result_on_terminal`: rows are printed to the same terminal, so the bar is left out.
    pub fn new(how: Progress, result_on_terminal: bool) -> Reporter {
        let live = how == Progress::Auto && std::io::stderr().is_terminal() && !result_on_terminal && !log::is_json();
        let bar = live.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner:.cyan} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        let now = Instant::now();
        Reporter {
            bar,
            plain: how == Progress::Plain || (how == Progress::Auto && !live),
            started: now,
            last: now,
            rows_before: 0,
            rate: 0.0,
        }
    }

    /// How long to wait before the next look.
    pub fn pause(&self) -> Duration {
        LIVE_EVERY
    }

    pub fn show(&mut self, snapshot: &Snapshot) {
        let every = if self.bar.is_some() { LIVE_EVERY } else { PLAIN_EVERY };
        let since = self.last.elapsed();
        if since < every {
            return;
        }
        let rate = (snapshot.rows_in - self.rows_before) as f64 / since.as_secs_f64();
        // Smoothed on a terminal, where ten readings a second would flicker.
        self.rate = if self.bar.is_some() && self.rate > 0.0 { 0.8 * self.rate + 0.2 * rate } else { rate };
        self.last = Instant::now();
        self.rows_before = snapshot.rows_in;
        let text = self.line(snapshot);
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.tick();
            }
            None if self.plain => self.event(snapshot, "progress").say(&text),
            None => {}
        }
    }

    /// The same in numbers.
    fn event(&self, s: &Snapshot, what: &str) -> Event {
        let mut event = Event::new(Level::Info, what)
            .with("rows_in", s.rows_in)
            .with("rows_out", s.rows_out)
            .with("bytes_in", s.bytes_in)
            .with("bytes_out", s.bytes_out)
            .with("seconds", self.started.elapsed().as_secs_f64())
            .with("late", s.late)
            .with("bad", s.bad)
            .with("state_bytes", s.state_bytes)
            .with("checkpoints", s.checkpoints);
        let at = (s.watermark > Watermark::MIN && s.watermark < Watermark::MAX).then_some(s.watermark.0);
        event.set("watermark", at.map(|at| millstream_core::time::format_millis(at).replacen(' ', "T", 1) + "Z"));
        event.set("behind_rows", s.behind.rows);
        event.set("behind_files", s.behind.files);
        event.set("behind_bytes", s.behind.bytes);
        event
    }

    fn line(&self, s: &Snapshot) -> String {
        let mut text = format!(
            "{:>4.0} s  in {} ({}/s)  out {}",
            self.started.elapsed().as_secs_f64(),
            HumanCount(s.rows_in),
            HumanCount(self.rate as u64),
            HumanCount(s.rows_out),
        );
        match s.watermark {
            Watermark::MIN => {}
            Watermark::MAX => text += "  watermark at the end",
            at => {
                text += &format!("  watermark {at}");
                if let Some(lag) = lag(at) {
                    text += &format!(" (lag {lag})");
                }
            }
        }
        text += &behind(s.behind);
        if let Some(history) = s.backfill.filter(|h| !h.complete) {
            text += &format!("  history {} % of {}", history.percent(), ByteSize(history.all_bytes));
        }
        if s.late > 0 {
            text += &format!("  late {}", HumanCount(s.late));
        }
        if s.bad > 0 {
            text += &format!("  bad {}", HumanCount(s.bad));
        }
        text += &format!("  state {}", ByteSize(s.state_bytes));
        if s.checkpoints > 0 {
            text += &format!("  checkpoint {} ({})", s.checkpoints, took(s.checkpoint_millis as f64 / 1e3));
        }
        if let Some(memory) = memory("VmRSS:") {
            text += &format!("  memory {memory}");
        }
        text
    }

    /// The last word: what was done.
    pub fn finish(self, summary: &Summary, stopped_here: bool, keeps_state: bool) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if !self.plain && self.bar.is_none() {
            return;
        }
        let s = &summary.snapshot;
        let seconds = summary.wall.as_secs_f64();
        let mut text = match summary.stopped {
            None => "done".to_owned(),
            Some(Stop::Drain) => "stopped, every window closed".to_owned(),
            Some(Stop::Here) => "stopped".to_owned(),
        };
        text += &format!(
            ": {} rows in, {} rows out in {}, {} rows/s",
            HumanCount(s.rows_in),
            HumanCount(s.rows_out),
            took(seconds),
            HumanCount((s.rows_in as f64 / seconds.max(1e-9)) as u64),
        );
        if s.late > 0 {
            text += &format!(", {} late", HumanCount(s.late));
        }
        if s.bad > 0 {
            text += &format!(", {} bad", HumanCount(s.bad));
        }
        if s.checkpoints > 0 {
            text += &format!(", {} checkpoints", HumanCount(s.checkpoints));
        }
        match s.backfill {
            None => {}
            Some(history) if history.complete => text += ", history complete",
            Some(history) => {
                text += &format!(", {} % of the history read: results are not complete yet", history.percent())
            }
        }
        if let Some(memory) = memory("VmHWM:") {
            text += &format!(", peak memory {memory}");
        }
        let what = text.split(':').next().unwrap_or_default();
        self.event(s, what).say(&text);
        if stopped_here && keeps_state {
            log::note("the job goes on here when it is run again with the same --state");
        } else if stopped_here && s.state_bytes > 0 {
            log::note("windows that were still open were not emitted; run with --drain to emit them on Ctrl-C");
        }
    }

    /// Says something above the line that renews itself.
    pub fn say(&self, events: impl IntoIterator<Item = (Event, String)>) {
        for (event, text) in events {
            match &self.bar {
                Some(bar) => bar.suspend(|| event.say(&text)),
                None => event.say(&text),
            }
        }
    }

    /// Clears the terminal line before an error is printed.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What waits in front of the sources: in rows where they count them, else in bytes of files that are left.
fn behind(behind: Behind) -> String {
    match behind {
        Behind { rows: Some(rows), .. } => format!("  behind {} rows", HumanCount(rows)),
        Behind { files: Some(files), bytes: Some(bytes), .. } if files > 0 => {
            format!("  left {} in {} {}", ByteSize(bytes), HumanCount(files), if files == 1 { "file" } else { "files" })
        }
        _ => String::new(),
    }
}

fn took(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// How far the watermark is behind the clock; nothing for data of long ago, where the figure says nothing.
fn lag(at: Watermark) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis() as i64;
    let lag = now.checked_sub(at.0)?;
    match lag {
        0..3_600_000 => Some(took(lag as f64 / 1e3)),
        3_600_000..172_800_000 => Some(format!("{:.1} h", lag as f64 / 3.6e6)),
        _ => None,
    }
}

/// A memory figure of this process, where the system tells.
fn memory(key: &str) -> Option<ByteSize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with(key))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(ByteSize::kib(kib))
}
