//! The metrics of a job as text: names, what they mean, and how a reading becomes samples.
//!
//! Every name begins with `millstream_`, counters end with `_total`, units are seconds and bytes. Each family has its HELP
//! and TYPE once and its samples together, as the format asks for. What is not known has no sample: no zero that nobody counted.

use millstream_core::{Millis, Watermark};
use millstream_runtime::{Metrics, NodeMetrics, TOOK_BOUNDS};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Letters of an operator's description that are shown.
const LABEL_MAX: usize = 200;

/// What is known of the process, whatever it does.
pub fn of_process() -> String {
    let mut text = Text::default();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    text.family("millstream_build_info", "gauge", "The version that runs; always 1.", [(version.to_vec(), 1.0)]);
    let resident = resident_bytes().map(|bytes| (Vec::new(), bytes as f64));
    text.family("process_resident_memory_bytes", "gauge", "Memory that the process holds, of all kinds.", resident);
    text.out
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Everything a job counts. `uptime`: since it began in this process; `now`: the wall clock.
pub fn of_job(job: &str, metrics: &Metrics, uptime: Duration, now: Millis) -> String {
    let mut text = Text { job: Some(job.to_owned()), ..Text::default() };
    text.one("millstream_uptime_seconds", "gauge", "Since the job began in this process.", Some(uptime.as_secs_f64()));
    text.one(
        "millstream_job_generation",
        "gauge",
        "Which run of the job this is: each start from its state makes one more. Only where it keeps state.",
        metrics.generation().map(|g| g as f64),
    );
    operators(&mut text, metrics);
    sources_and_sinks(&mut text, metrics);
    time(&mut text, metrics, now);
    tasks(&mut text, metrics);
    memory(&mut text, metrics);
    if metrics.generation().is_some() {
        checkpoints(&mut text, metrics, now);
    }
    text.out
}

fn operators(text: &mut Text, metrics: &Metrics) {
    let all = || metrics.nodes.iter();
    let count = |n: &std::sync::atomic::AtomicU64| n.load(Relaxed) as f64;
    let infos = all().map(|n| {
        let label: String = n.label.chars().take(LABEL_MAX).collect();
        (n, label, n.stage.to_string())
    });
    let infos: Vec<_> = infos.collect();
    let labelled = infos.iter().map(|(n, label, stage)| {
        let mut labels = of_node(n);
        labels.extend([("label", label.as_str()), ("stage", stage.as_str())]);
        (labels, 1.0)
    });
    text.family("millstream_operator_info", "gauge", "What an operator is, as EXPLAIN shows it; always 1.", labelled);
    let each = |value: fn(&NodeMetrics) -> f64| all().map(move |n| (of_node(n), value(n)));
    let rows_in = all().filter(|n| !n.is_source).map(|n| (of_node(n), count(&n.rows_in)));
    text.family("millstream_operator_rows_in_total", "counter", "Rows handed to an operator or a sink.", rows_in);
    let rows_out = all().filter(|n| !n.is_sink).map(|n| (of_node(n), count(&n.rows_out)));
    text.family(
        "millstream_operator_rows_out_total",
        "counter",
        "Rows that an operator or a source handed on.",
        rows_out,
    );
    if metrics.measured {
        let bytes_in = all().filter(|n| !n.is_source).map(|n| (of_node(n), count(&n.bytes_in)));
        let help = "Bytes in memory of the rows handed to an operator or a sink.";
        text.family("millstream_operator_bytes_in_total", "counter", help, bytes_in);
        let bytes_out = all().filter(|n| !n.is_sink).map(|n| (of_node(n), count(&n.bytes_out)));
        let help = "Bytes in memory of the rows that an operator or a source handed on.";
        text.family("millstream_operator_bytes_out_total", "counter", help, bytes_out);
    }
    let help = "Rows that came after their time was over.";
    text.family("millstream_late_rows_total", "counter", help, each(|n| n.late.load(Relaxed) as f64));
    let help = "Rows that could not be read or written and were set aside or left out.";
    text.family("millstream_bad_rows_total", "counter", help, each(|n| n.bad.load(Relaxed) as f64));
    let skipped = all().filter(|n| n.is_source).map(|n| (of_node(n), count(&n.skipped)));
    let help = "Rows left out, and fields made NULL, because the table's options say so.";
    text.family("millstream_skipped_total", "counter", help, skipped);
    let remember = || all().filter(|n| !n.is_source && !n.is_sink);
    let held = remember().map(|n| (of_node(n), n.state_bytes() as f64));
    text.family("millstream_state_memory_bytes", "gauge", "What an operator remembers in memory.", held);
    let spilled = remember().map(|n| (of_node(n), count(&n.spilled)));
    let help = "What an operator remembers in scratch files, since it did not fit into memory.";
    text.family("millstream_state_disk_bytes", "gauge", help, spilled);
}

fn sources_and_sinks(text: &mut Text, metrics: &Metrics) {
    let sources = || metrics.nodes.iter().filter(|n| n.is_source);
    let sinks = || metrics.nodes.iter().filter(|n| n.is_sink);
    let rows = sources().map(|n| (of_node(n), n.rows_out.load(Relaxed) as f64));
    text.family("millstream_source_rows_total", "counter", "Rows read from a table.", rows);
    let bytes = sources().map(|n| (of_node(n), n.bytes() as f64));
    text.family("millstream_source_bytes_total", "counter", "Bytes read from a table, as they came.", bytes);
    let rows = sinks().map(|n| (of_node(n), n.rows_in.load(Relaxed) as f64));
    text.family("millstream_sink_rows_total", "counter", "Rows given to a table.", rows);
    let bytes = sinks().map(|n| (of_node(n), n.bytes() as f64));
    text.family("millstream_sink_bytes_total", "counter", "Bytes written to a table, where it counts them.", bytes);
    let partitions: Vec<_> = sources().map(|n| (n, n.partitions())).collect();
    let open = partitions.iter().map(|(n, p)| (of_node(n), p.len() as f64));
    text.family("millstream_source_partitions", "gauge", "Partitions of a table that have not ended.", open);
    let idle = partitions.iter().map(|(n, p)| (of_node(n), p.iter().filter(|p| p.idle).count() as f64));
    let help = "Partitions of a table that are silent, so that nobody waits for their watermark.";
    text.family("millstream_source_idle_partitions", "gauge", help, idle);
    for (name, help, of) in [
        (
            "millstream_source_lag_rows",
            "Rows that are there and have not been read, as far as the reader knows without asking.",
            (|b| b.rows) as fn(&millstream_core::Behind) -> Option<u64>,
        ),
        ("millstream_source_lag_files", "Files that are there and have not been read to their end.", |b| b.files),
        ("millstream_source_lag_bytes", "Bytes that are there, packed or not, and have not been read.", |b| b.bytes),
    ] {
        let lags = partitions.iter().flat_map(|(n, partitions)| {
            partitions.iter().filter_map(move |p| {
                let mut labels = of_node(n);
                labels.push(("partition", p.name.as_str()));
                Some((labels, of(&p.behind)? as f64))
            })
        });
        text.family(name, "gauge", help, lags);
    }
    let histories: Vec<_> = sources().filter_map(|n| Some((n, n.backfill.get()?))).collect();
    let complete = histories.iter().map(|(n, h)| (of_node(n), f64::from(u8::from(h.complete))));
    let help = "1 once the history of a table has been read; until then results lack what is still to come of it.";
    text.family("millstream_source_history_complete", "gauge", help, complete);
    let all = histories.iter().map(|(n, h)| (of_node(n), h.all_bytes as f64));
    text.family("millstream_source_history_bytes", "gauge", "Bytes of a table's history.", all);
    let done = histories.iter().map(|(n, h)| (of_node(n), h.done_bytes as f64));
    text.family(
        "millstream_source_history_read_bytes",
        "gauge",
        "Bytes of a table's history that have been read.",
        done,
    );
}

fn time(text: &mut Text, metrics: &Metrics, now: Millis) {
    let known = || metrics.nodes.iter().map(|n| (n, n.watermark())).filter(|(_, at)| *at > Watermark::MIN);
    let at = known().map(|(n, at)| (of_node(n), if at == Watermark::MAX { f64::INFINITY } else { seconds(at.0) }));
    let help = "The event time up to which all rows have come, since 1970; +Inf after the last one.";
    text.family("millstream_watermark_timestamp_seconds", "gauge", help, at);
    let lag =
        known().filter(|(_, at)| *at < Watermark::MAX).map(|(n, at)| (of_node(n), seconds(now.saturating_sub(at.0))));
    let help = "How far the watermark is behind the clock; less than nothing where event times lie ahead of it.";
    text.family("millstream_watermark_lag_seconds", "gauge", help, lag);
}

fn tasks(text: &mut Text, metrics: &Metrics) {
    let tasks = metrics.tasks.iter().filter(|t| !t.is_left_out());
    let tasks: Vec<_> = tasks.map(|t| (t, format!("{}-{}", t.stage, t.task))).collect();
    let queued = tasks.iter().map(|(t, name)| (vec![("task", name.as_str())], t.queued_bytes() as f64));
    text.family("millstream_queue_bytes", "gauge", "Bytes that wait in front of a task.", queued);
    if metrics.measured {
        let times = tasks.iter().flat_map(|(t, name)| {
            let time = t.time();
            [("busy", time.busy), ("waiting", time.waiting), ("backpressured", time.held_up)]
                .map(|(state, spent)| (vec![("task", name.as_str()), ("state", state)], spent.as_secs_f64()))
        });
        let help = "Time of a task: at work, waiting for input or its turn, or held up by a full queue behind it.";
        text.family("millstream_task_seconds_total", "counter", help, times);
    }
}

fn memory(text: &mut Text, metrics: &Metrics) {
    let memory = &metrics.memory;
    if memory.budget_bytes() == 0 {
        return;
    }
    let mut one = |name, kind, help, value: u64| text.one(name, kind, help, Some(value as f64));
    one("millstream_memory_budget_bytes", "gauge", "What operators may hold in memory.", memory.budget_bytes());
    one("millstream_memory_used_bytes", "gauge", "What operators hold in memory.", memory.used_bytes());
    one("millstream_scratch_bytes", "gauge", "What lies in scratch files now.", memory.scratch_bytes());
    let help = "What has been written to scratch files.";
    one("millstream_scratch_written_bytes_total", "counter", help, memory.scratch_written());
}

fn checkpoints(text: &mut Text, metrics: &Metrics, now: Millis) {
    let made = &metrics.checkpoints;
    let outcomes = [("completed", &made.done), ("given_up", &made.given_up), ("failed", &made.failed)];
    let outcomes = outcomes.map(|(outcome, count)| (vec![("outcome", outcome)], count.load(Relaxed) as f64));
    let help = "Checkpoints: completed; given up, and the job went on; failed, which ended the job.";
    text.family("millstream_checkpoints_total", "counter", help, outcomes);
    let retried = made.retried.load(Relaxed) as f64;
    let help = "Commits of a table that failed and were tried again.";
    text.one("millstream_commit_retries_total", "counter", help, Some(retried));
    let help = "How long completed checkpoints took, from their beginning to the last commit.";
    text.head("millstream_checkpoint_duration_seconds", "histogram", help);
    let (counts, sum) = made.took().cumulative();
    let all = *counts.last().unwrap_or(&0) as f64;
    let bounds = TOOK_BOUNDS.iter().map(|bound| number(seconds(*bound as i64))).chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(&counts) {
        text.sample("millstream_checkpoint_duration_seconds_bucket", &[("le", &bound)], *count as f64);
    }
    text.sample("millstream_checkpoint_duration_seconds_sum", &[], seconds(sum as i64));
    text.sample("millstream_checkpoint_duration_seconds_count", &[], all);
    let written = made.bytes.load(Relaxed) as f64;
    let help = "Bytes written for checkpoints, merging old ones among them.";
    text.one("millstream_checkpoint_written_bytes_total", "counter", help, Some(written));
    let done_at = made.done_at.load(Relaxed);
    let last = |value: f64| (done_at > 0).then_some(value);
    let size = last(made.last_bytes.load(Relaxed) as f64);
    text.one("millstream_checkpoint_last_size_bytes", "gauge", "Bytes that the last completed checkpoint wrote.", size);
    let epoch = last(made.epoch.load(Relaxed) as f64);
    text.one("millstream_checkpoint_last_epoch", "gauge", "The epoch of the last completed checkpoint.", epoch);
    let age = last(seconds(now.saturating_sub(done_at)));
    text.one("millstream_checkpoint_age_seconds", "gauge", "Since the last checkpoint was completed.", age);
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

fn of_node(node: &Arc<NodeMetrics>) -> Labels<'_> {
    let mut labels = vec![("operator", node.id.as_str())];
    labels.extend(node.table.as_deref().map(|table| ("table", table)));
    labels
}

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1e3
}

/// Text that grows family by family.
#[derive(Default)]
struct Text {
    /// Stands on every sample.
    job: Option<String>,
    out: String,
}

impl Text {
    fn one(&mut self, name: &str, kind: &str, help: &str, value: Option<f64>) {
        self.family(name, kind, help, value.map(|value| (Vec::new(), value)));
    }

    /// A family that has no sample is left out.
    fn family<'a>(&mut self, name: &str, kind: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        self.head(name, kind, help);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.out += name;
        let job = self.job.as_deref().map(|job| ("job", job));
        let mut separator = '{';
        for (key, text) in job.iter().chain(labels) {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.out, "{separator}{key}=\"{text}\"");
            separator = ',';
        }
        if separator == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {}", number(value));
    }
}

fn number(value: f64) -> String {
    if value == f64::INFINITY { "+Inf".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::Backfill;

    #[test]
    fn a_history_is_told_of_where_there_is_one() {
        let of = |history| {
            let node = NodeMetrics::new("Source(t)".into(), true, false, 1).known_as("source-t", Some("t"), 0);
            if let Some(history) = history {
                node.backfill.set(history);
            }
            of_job("j", &Metrics::of(vec![Arc::new(node)]), Duration::ZERO, 0)
        };
        assert!(!of(None).contains("history"));
        let begun = Backfill { done_bytes: 25, all_bytes: 100, complete: false };
        let (half, whole) = (of(Some(begun)), of(Some(Backfill { done_bytes: 100, complete: true, ..begun })));
        for (text, name, value) in [
            (&half, "complete", 0),
            (&half, "bytes", 100),
            (&half, "read_bytes", 25),
            (&whole, "complete", 1),
            (&whole, "read_bytes", 100),
        ] {
            let line =
                format!("millstream_source_history_{name}{{job=\"j\",operator=\"source-t\",table=\"t\"}} {value}\n");
            assert!(text.contains(&line), "{line}in\n{text}");
        }
    }

    #[test]
    fn labels_are_escaped_and_families_stand_together() {
        let node = NodeMetrics::new("Source(\"x\")".into(), true, false, 1);
        let node = node.known_as("source-a\"b", Some("a\\b\nc"), 0);
        node.rows_out.store(12_345_678_901, Relaxed);
        let text = of_job("my \"job\"", &Metrics::of(vec![Arc::new(node)]), Duration::from_millis(1500), 0);
        let labels = "job=\"my \\\"job\\\"\",operator=\"source-a\\\"b\",table=\"a\\\\b\\nc\"";
        assert!(text.contains(&format!("millstream_source_rows_total{{{labels}}} 12345678901\n")), "{text}");
        assert!(text.contains("millstream_uptime_seconds{job=\"my \\\"job\\\"\"} 1.5\n"), "{text}");
        assert_eq!(text.matches("# TYPE millstream_source_rows_total counter\n").count(), 1);
        assert!(!text.contains("millstream_watermark"), "a watermark that nobody has is not told: {text}");
        assert!(!text.contains("lag_rows") && !text.contains("checkpoint"), "{text}");
    }
}
