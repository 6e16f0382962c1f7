//! What can be said on the command line.

use super::log::{Level, LogFormat};
use clap::{Args, Parser, Subcommand, ValueEnum};
use millstream::target::Target;
use millstream::{ByteSize, Mode};
use std::path::PathBuf;
use std::time::Duration;

/// Streaming SQL over real events: exact results by event time, as one binary.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, propagate_version = true, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// How standard error is written: text for people, or one JSON object a line.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
    /// How much is said there.
    #[arg(long, value_enum, default_value_t = Level::Info, global = true)]
    pub log_level: Level,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done, or stopped cleanly with Ctrl-C
  1    the input holds what its declaration does not allow (a bad row, a NULL event time, an overflow)
  2    the command line or a setting is wrong
  3    the SQL text is wrong, or asks for what is not there yet
  4    the outer world failed: a missing file, a full disk, an unwritable folder, a server that is away
  70   a bug in Millstream
  130  stopped at once by a second Ctrl-C
  141  whoever read standard output closed it";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a script of SQL statements, or a single one.
    ///
    /// INSERT writes to its table, a plain SELECT prints its rows. Progress goes to standard error. Ctrl-C stops
    /// cleanly: what is in flight arrives, files are completed, open windows are not emitted; a second Ctrl-C stops at
    /// once.
    Run(Run),
    /// Checks a script without running it: syntax, names, types, options.
    Check(Check),
    /// Shows the plan of a script's queries as a graph.
    Explain(Explain),
    /// Looks at what jobs keep: their checkpoints and savepoints.
    State {
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Lets a running job take a savepoint: a checkpoint that is kept until it is deleted.
    Savepoint(Savepoint),
    /// Stops a running job at a last checkpoint, from which it goes on when it is run again.
    Stop(StopJob),
    /// Prints completions for a shell, to be sourced from its start-up file.
    Completions { shell: clap_complete::Shell },
}

/// Where the SQL text comes from.
#[derive(Debug, Args)]
pub struct Script {
    /// The script; `-` reads standard input.
    #[arg(value_name = "FILE.sql", required_unless_present = "execute", conflicts_with = "execute")]
    pub file: Option<PathBuf>,
    /// SQL text instead of a file. Statements end with `;`, the last one may go without.
    #[arg(short, long, value_name = "SQL")]
    pub execute: Option<String>,
    /// A script of declarations and settings that comes first, such as the tables that several scripts share. May be given
    /// several times.
    #[arg(short, long, value_name = "FILE.sql")]
    pub init: Vec<PathBuf>,
    /// Settings as by `SET 'KEY' = 'VALUE'`, before the first statement.
    #[arg(short = 'S', long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub settings: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub script: Script,
    /// Streaming: by event time and watermark, as the rows come. Batch: over bounded input, all at once; the same answer.
    #[arg(long, value_enum)]
    pub mode: Option<Mode_>,
    /// Worker threads. Changes the speed, never the answer. Default: the number of cores.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub parallelism: Option<u16>,
    /// How the rows of a plain SELECT are printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Progress on standard error. Auto: live on a terminal, a plain line every 5 seconds elsewhere.
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub progress: Progress,
    /// Keep the job's state in this folder or bucket (s3://BUCKET/PREFIX, keys by AWS_ACCESS_KEY_ID and so on), with a
    /// checkpoint every 10 s: after a crash or a stop, the same command goes on where it was, and what its tables show is
    /// exact. Also SET 'execution.checkpointing.dir'.
    #[arg(long, value_name = "DIR|URL")]
    pub state: Option<String>,
    /// From one checkpoint to the next, such as 1s or 500ms. Shorter: less to do again after a crash, fresher output.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub checkpoint_interval: Option<Duration>,
    /// Where to go on: `latest`, the name of a savepoint, or another state (a folder or s3://…), whose latest checkpoint is
    /// copied.
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "latest",
        hide_default_value = true,
        conflicts_with = "restore_at"
    )]
    pub restore: String,
    /// Go on from the checkpoint with this number (see `millstream state ls`); rows since then are written again.
    #[arg(long, value_name = "N")]
    pub restore_at: Option<u64>,
    /// Let go of saved state that the changed query has no place for.
    #[arg(long)]
    pub allow_dropped_state: bool,
    /// Micro-batches: commit this often, such as 100ms. The same as --checkpoint-interval.
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "checkpoint_interval")]
    pub trigger: Option<Duration>,
    /// Process what is there at the start, commit it and end. Windows that are open stay open for the next run.
    #[arg(long)]
    pub available_now: bool,
    /// Memory for state and queues, such as 512mb. What does not fit goes to files, and results may come later; state without
    /// keys cannot, and ends the job once it is past it. Default: 60 % of what the machine or the cgroup has.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory: Option<ByteSize>,
    /// Folder for state that does not fit into memory, on a local disk. Default: the system's for temporary files.
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Serve Prometheus metrics at this address while the program runs: /metrics, /health and /ready. `:9090` is every address
    /// of this machine, port 0 a free one, which is told on standard error.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub metrics: Option<String>,
    /// Send checkpoints and starts as OpenTelemetry traces to the collector at this URL, such as http://localhost:4318.
    #[cfg(feature = "otel")]
    #[arg(long, value_name = "URL")]
    pub otel: Option<String>,
    /// On Ctrl-C also close and emit the windows that are open, as at the end of the input.
    #[arg(long)]
    pub drain: bool,
}

#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Lists checkpoints and savepoints.
    Ls {
        /// What --state named (a folder or s3://…), or the folder of one job in it.
        state: String,
    },
    /// Shows what a checkpoint holds: positions, tables, files.
    Show {
        state: String,
        /// Its number or the savepoint's name. Default: the latest.
        #[arg(long, value_name = "N|NAME")]
        at: Option<String>,
    },
    /// Asks a checkpoint in SQL: its tables, under the names that `state show` gives, `partitions` and `checkpoint_files`.
    Query(Query),
    /// Copies a checkpoint with its files to another place, to keep it or to start a job from it there.
    Copy {
        state: String,
        #[arg(long, value_name = "N|NAME")]
        at: Option<String>,
        to: String,
    },
    /// Removes a savepoint.
    Rm { state: String, savepoint: String },
}

#[derive(Debug, Args)]
pub struct Query {
    /// What --state named, or the folder of one job in it.
    pub state: String,
    /// Such as 'SELECT * FROM partitions'.
    #[arg(value_name = "SQL")]
    pub sql: String,
    /// The checkpoint's number or the savepoint's name. Default: the latest.
    #[arg(long, value_name = "N|NAME")]
    pub at: Option<String>,
    /// Which job, where the state holds several.
    #[arg(long)]
    pub job: Option<String>,
    /// How rows are printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Savepoint {
    /// What the running job was given as --state.
    pub state: String,
    pub name: String,
    /// Which job, where the state holds several.
    #[arg(long)]
    pub job: Option<String>,
    /// How long to wait for the job's answer. Default 60s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub timeout: Option<Duration>,
}

impl Savepoint {
    pub fn patience(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(60))
    }
}

#[derive(Debug, Args)]
pub struct StopJob {
    /// What the running job was given as --state.
    pub state: String,
    /// Take a savepoint of this name first.
    #[arg(long, value_name = "NAME")]
    pub savepoint: Option<String>,
    /// Close and emit the windows that are open, as at the end of the input.
    #[arg(long)]
    pub drain: bool,
    #[arg(long)]
    pub job: Option<String>,
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub timeout: Option<Duration>,
}

impl StopJob {
    pub fn patience(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_secs(60))
    }
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub script: Script,
    /// Also warn of what would not run, or mean something else, in that version of Apache Flink.
    #[arg(long, value_enum)]
    pub target: Option<Target_>,
    /// Also say what a run on this state (what `run` is given as --state) would keep, start anew, drop or could not read.
    #[arg(long, value_name = "DIR|URL")]
    pub against: Option<String>,
}

#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    pub script: Script,
    /// As a Mermaid diagram.
    #[arg(long)]
    pub mermaid: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Mode_ {
    Streaming,
    Batch,
}

impl From<Mode_> for Mode {
    fn from(mode: Mode_) -> Mode {
        match mode {
            Mode_::Streaming => Mode::Streaming,
            Mode_::Batch => Mode::Batch,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target_ {
    #[value(name = "flink-1.20")]
    Flink1_20,
    #[value(name = "flink-2.2")]
    Flink2_2,
}

impl From<Target_> for Target {
    fn from(target: Target_) -> Target {
        match target {
            Target_::Flink1_20 => Target::Flink1_20,
            Target_::Flink2_2 => Target::Flink2_2,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns side by side, with a header.
    Table,
    Csv,
    /// One JSON object for each row.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    Auto,
    /// One line every 5 seconds.
    Plain,
    None,
}

/// `512mb`, `2 gb`.
fn size(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>()? {
        size if size < ByteSize::mib(16) => Err("give at least 16mb".to_owned()),
        size => Ok(size),
    }
}

/// `500ms`, `1 s`, `2 min`.
fn time(text: &str) -> Result<Duration, String> {
    match millstream_core::parse_duration(text)? {
        time if time < Duration::from_millis(1) => Err("give at least 1ms, such as 500ms or 1s".to_owned()),
        time => Ok(time),
    }
}

/// `127.0.0.1:9090`, `:9090`, `[::1]:0`.
fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':').map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => {
            Err("give a host and a port, such as 127.0.0.1:9090, or :9090 for every address of this machine".to_owned())
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("`{text}` is not of the form KEY=VALUE")),
    }
}
