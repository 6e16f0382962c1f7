//! The commands.

use super::args::{Check, Cli, Explain, Run, Script};
use super::log::{self, Event, Level, note};
#[cfg(feature = "otel")]
use super::otel::Tracer;
use super::print::Printer;
use super::progress::Reporter;
use super::warner::{self, Warner};
use clap::CommandFactory;
use millstream::metrics::{Board, Endpoint};
use millstream::{
    CheckpointMetrics, Error, ErrorKind, JobConfig, Metrics, Plan, Program, RestoreFrom, Result, RunOptions, Runner,
    Running, StateOptions, Step, Stop, Tables, Warning, message, state,
};
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// `millstream run`.
pub fn run(args: &Run) -> ExitCode {
    let interrupted = match catch_interrupts() {
        Ok(flag) => flag,
        Err(e) => return fail(&e, None),
    };
    let board = Arc::new(Board::default());
    let endpoint = args.metrics.as_ref().map(|at| Endpoint::open(at, board.clone())).transpose();
    // Held to the end of the program.
    let _endpoint = match endpoint {
        Ok(endpoint) => endpoint.inspect(|e| note(&format!("metrics at http://{}/metrics", e.address()))),
        Err(e) => return fail(&e, None),
    };
    #[cfg(feature = "otel")]
    let tracer = match args.otel.as_deref().map(Tracer::start).transpose() {
        Ok(tracer) => tracer,
        Err(e) => return fail(&e, None),
    };
    let outside = Outside {
        board,
        #[cfg(feature = "otel")]
        tracer,
    };
    with_program(&args.script, |program| {
        let options = RunOptions {
            mode: args.mode.map(Into::into),
            parallelism: args.parallelism.map(usize::from),
            tables: Tables::default().with_result(Arc::new(Printer::new(args.format))),
            state: StateOptions {
                location: args.state.clone(),
                interval: args.checkpoint_interval.or(args.trigger),
                restore: match (args.restore_at, args.restore.as_str()) {
                    (Some(number), _) => RestoreFrom::Number(number),
                    (None, "latest") => RestoreFrom::Latest,
                    (None, name) => RestoreFrom::Named(name.to_owned()),
                },
                allow_dropped_state: args.allow_dropped_state,
                available_now: args.available_now,
            },
            job: JobConfig {
                memory: args.memory,
                scratch: args.scratch.clone(),
                measured: args.metrics.is_some(),
                ..JobConfig::default()
            },
        };
        let mut runner = Runner::new(program, options);
        loop {
            let began = now();
            let Some(step) = runner.step() else { break };
            match step? {
                Step::Declared(notices) => notices.iter().for_each(|n| note(n)),
                Step::Text(text) => show(&text)?,
                Step::Running(running) => {
                    running.notices().iter().for_each(|n| note(n));
                    let prints = running.prints_result() && std::io::stdout().is_terminal();
                    log::of_job(Some(running.name()));
                    outside.runs(&running, began);
                    watch(running, args, &interrupted, prints, &outside)?;
                    log::of_job(None);
                }
            }
            if interrupted.load(Relaxed) {
                break;
            }
        }
        Ok(())
    })
}

/// Who hears of jobs beside the one who started them.
struct Outside {
    board: Arc<Board>,
    #[cfg(feature = "otel")]
    tracer: Option<Tracer>,
}

impl Outside {
    /// A job is at work, whose statement's turn began then.
    fn runs(&self, running: &Running, began: i64) {
        self.board.runs(running.name(), running.metrics().clone());
        #[cfg(feature = "otel")]
        if let (Some(tracer), Some(generation)) = (&self.tracer, running.metrics().generation()) {
            tracer.start_of(running.name(), generation, began, now());
        }
        #[cfg(not(feature = "otel"))]
        let _ = began;
    }

    /// Hands on how checkpoints went that have ended.
    fn hears(&self, job: &str, metrics: &Metrics) {
        #[cfg(feature = "otel")]
        if let (Some(tracer), Some(generation)) = (&self.tracer, metrics.generation()) {
            let traces = metrics.checkpoints.take_traces();
            traces.iter().for_each(|trace| tracer.checkpoint(job, generation, trace));
        }
        #[cfg(not(feature = "otel"))]
        let _ = (job, metrics);
    }
}

/// The wall clock, in milliseconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Waits for a query's end, shows how it is getting on, hands an interrupt on to it.
fn watch(mut running: Running, args: &Run, interrupted: &AtomicBool, prints: bool, outside: &Outside) -> Result<()> {
    let mut reporter = Reporter::new(args.progress, prints);
    let (mut warner, began) = (Warner::default(), std::time::Instant::now());
    let (mut stopping, mut checkpoints) = (false, 0);
    let (name, metrics) = (running.name().to_owned(), running.metrics().clone());
    // Short at first, so that a small job is not kept waiting; then as often as the display is renewed.
    let mut pause = std::time::Duration::from_millis(1);
    while !running.is_finished() {
        if interrupted.load(Relaxed) && !std::mem::replace(&mut stopping, true) {
            running.stop(if args.drain { Stop::Drain } else { Stop::Here });
            outside.board.stops();
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(reporter.pause());
        running.listen();
        let now = began.elapsed();
        let mut told: Vec<Warning> = running.take_warnings().into_iter().filter_map(|w| warner.tell(w, now)).collect();
        told.extend(warner.due(now));
        reporter.say(told.iter().map(warner::event));
        let snapshot = running.snapshot();
        if snapshot.checkpoints > checkpoints {
            checkpoints = snapshot.checkpoints;
            reporter.say([completed(&metrics.checkpoints)]);
        }
        outside.hears(&name, &metrics);
        reporter.show(&snapshot);
    }
    // What came since the last look, and what was kept back so as not to be told too often.
    let mut told: Vec<Warning> =
        running.take_warnings().into_iter().filter_map(|w| warner.tell(w, began.elapsed())).collect();
    told.extend(warner.rest());
    reporter.say(told.iter().map(warner::event));
    let keeps_state = running.keeps_state();
    let ended = running.wait();
    outside.hears(&name, &metrics);
    match &ended {
        Ok(_) => outside.board.has_ended(),
        Err(_) => outside.board.has_failed(),
    }
    match ended {
        Ok(summary) => {
            if summary.snapshot.checkpoints > checkpoints {
                reporter.say([completed(&metrics.checkpoints)]);
            }
            reporter.finish(&summary, summary.stopped == Some(Stop::Here), keeps_state);
            Ok(())
        }
        Err(e) => {
            reporter.clear();
            Err(e)
        }
    }
}

/// The last checkpoint that was completed.
fn completed(made: &CheckpointMetrics) -> (Event, String) {
    let (epoch, millis) = (made.epoch.load(Relaxed), made.millis.load(Relaxed));
    let bytes = made.last_bytes.load(Relaxed);
    let event = Event::new(Level::Debug, "checkpoint completed");
    let event = event.with("epoch", epoch).with("millis", millis).with("bytes", bytes);
    (event, format!("debug: checkpoint {epoch} completed in {millis} ms, {bytes} bytes"))
}

/// `millstream check`.
pub fn check(args: &Check) -> ExitCode {
    with_program(&args.script, |program| {
        let (plans, notices) = program.check(&Tables::default())?;
        notices.iter().for_each(|n| note(n));
        plans.iter().flat_map(|p| p.notices()).for_each(|n| note(n));
        let warnings = args.target.map_or_else(Vec::new, |t| program.lint(t.into()));
        for warning in &warnings {
            let event = Event::new(Level::Warn, warning.what.clone());
            let event = event.with("place", warning.place.to_string()).with("remedy", warning.remedy.clone());
            event.say(&format!("warning: {}\n  at {}\n  help: {}", warning.what, warning.place, warning.remedy));
        }
        let found = if warnings.is_empty() { String::new() } else { format!(", {} warnings", warnings.len()) };
        show(&format!("{}: ok, {} queries{found}", program.file, plans.len()))?;
        args.against.as_ref().map_or(Ok(()), |location| compare(&plans, &program.file, location))
    })
}

/// Says what becomes of the state of each job; the error is that of the first one which `run` would refuse.
fn compare(plans: &[Plan], file: &str, location: &str) -> Result<()> {
    let (jobs, left) = state::against(plans, file, &Tables::default(), location)?;
    for job in &jobs {
        show(&match &job.saved {
            None => format!("job `{}`: {location} holds none of this name, it would start from the beginning", job.job),
            Some(saved) => {
                let finished = if saved.finished { ", all input read" } else { "" };
                format!("job `{}` against checkpoint {} (epoch {}{finished})", job.job, saved.number, saved.epoch)
            }
        })?;
        job.comparison.to_string().lines().try_for_each(|line| show(&format!("  {line}")))?;
    }
    left.iter().for_each(|name| note(&format!("no query here goes on with job `{name}` of {location}")));
    jobs.iter().try_for_each(|job| job.comparison.accept(false))
}

/// `millstream explain`.
pub fn explain(args: &Explain) -> ExitCode {
    with_program(&args.script, |program| {
        let (plans, _) = program.check(&Tables::default())?;
        let texts: Vec<String> = plans.iter().map(|p| if args.mermaid { p.mermaid() } else { p.text() }).collect();
        show(texts.join("\n").trim_end())
    })
}

/// `millstream completions`.
pub fn completions(shell: clap_complete::Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Cli::command(), "millstream", &mut std::io::stdout());
    ExitCode::SUCCESS
}

/// Reads and parses the script, then does `what` with it; an error is shown with its line of the script.
fn with_program(script: &Script, what: impl FnOnce(Program) -> Result<()>) -> ExitCode {
    let inits = script.init.iter().map(|path| read_file(path)).collect::<Result<Vec<_>>>();
    let (inits, (file, text)) = match inits.and_then(|inits| Ok((inits, read(script)?))) {
        Ok(read) => read,
        Err(e) => return fail(&e, None),
    };
    let done = Program::parse(&text, &file).and_then(|mut program| {
        script.settings.iter().try_for_each(|(key, value)| program.set(key, value))?;
        for (file, text) in &inits {
            program.initialize(text, file, &Tables::default())?.iter().for_each(|n| note(n));
        }
        what(program)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let place = e.place().map(ToString::to_string).unwrap_or_default();
            let of = inits.iter().find(|(file, _)| place.starts_with(&format!("{file}:")));
            fail(&e, Some(of.map_or(&text, |(_, text)| text)))
        }
    }
}

fn read(script: &Script) -> Result<(String, String)> {
    if let Some(text) = &script.execute {
        return Ok(("-e".to_owned(), text.clone()));
    }
    let path = script.file.clone().unwrap_or_default();
    let name = path.display().to_string();
    if name == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|e| Error::io(format!("cannot read standard input: {e}")))?;
        return Ok(("<stdin>".to_owned(), text));
    }
    read_file(&path)
}

fn read_file(path: &Path) -> Result<(String, String)> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(e) => Err(Error::io(format!("cannot read the script {name}: {e}"))
            .remedy("give the path of a text file with SQL statements, or the statements themselves with -e")),
    }
}

/// Prints the error and gives its exit code.
pub(super) fn fail(e: &Error, text: Option<&str>) -> ExitCode {
    // Whoever reads standard output has seen enough (`| head`): no error, and the code that a shell gives for it.
    if e.kind() == ErrorKind::Io && e.what().contains("Broken pipe") {
        return ExitCode::from(141);
    }
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Event::of_error(e).say(message::render(e, text.unwrap_or(""), colour).trim_end());
    ExitCode::from(match e.kind() {
        ErrorKind::Data => 1,
        ErrorKind::Usage => 2,
        ErrorKind::Sql => 3,
        ErrorKind::Io => 4,
        ErrorKind::Internal => 70,
    })
}

pub(super) fn show(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|e| Error::io(format!("cannot write to standard output: {e}")))
}

/// The first Ctrl-C (or SIGTERM) raises the flag; the second ends the process at once.
fn catch_interrupts() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the exit looks at the flag before the flag is raised.
        let both = signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()));
        both.map_err(|e| Error::io(format!("cannot catch interrupts: {e}")))?;
    }
    Ok(flag)
}
