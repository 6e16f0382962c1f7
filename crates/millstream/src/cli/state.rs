//! `millstream state`, `savepoint` and `stop`: what a job keeps, looked at and handled from outside.

use super::args::{Query, Savepoint, StateCommand, StopJob};
use super::print::Printer;
use super::run::{fail, show};
use millstream::state::{self, Request};
use millstream::{ByteSize, Error, Manifest, Mode, Result, RunOptions, Runner, Step};
use millstream_core::Store;
use millstream_core::time::format_millis;
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a request's answer is looked for.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// `millstream state …`.
pub fn state(command: &StateCommand) -> ExitCode {
    let done = match command {
        StateCommand::Query(args) => return query(args),
        StateCommand::Ls { state } => list(state),
        StateCommand::Show { state, at } => describe(state, at.as_deref()),
        StateCommand::Copy { state, at, to } => copy(state, at.as_deref(), to),
        StateCommand::Rm { state, savepoint } => remove(state, savepoint),
    };
    done.map_or_else(|e| fail(&e, None), |()| ExitCode::SUCCESS)
}

/// `millstream state query`.
fn query(args: &Query) -> ExitCode {
    let run = || -> Result<()> {
        let store = one(&args.state, args.job.as_deref())?;
        let manifest = state::manifest(store.as_ref(), args.at.as_deref())?;
        let (program, tables) = state::query(&store, &manifest, &args.sql)?;
        let tables = tables.with_result(Arc::new(Printer::new(args.format)));
        let mut runner = Runner::new(program, RunOptions { mode: Some(Mode::Batch), tables, ..RunOptions::default() });
        while let Some(step) = runner.step() {
            match step? {
                Step::Declared(_) => {}
                Step::Text(text) => show(&text)?,
                Step::Running(running) => drop(running.wait()?),
            }
        }
        Ok(())
    };
    run().map_or_else(|e| fail(&e, Some(&args.sql)), |()| ExitCode::SUCCESS)
}

/// `millstream savepoint`.
pub fn savepoint(args: &Savepoint) -> ExitCode {
    let request = Request::Savepoint(args.name.clone());
    let done = ask(&args.state, args.job.as_deref(), &request, args.patience()).and_then(|answer| {
        show(&format!("savepoint `{}` is checkpoint {answer}; go on from it with --restore {}", args.name, args.name))
    });
    done.map_or_else(|e| fail(&e, None), |()| ExitCode::SUCCESS)
}

/// `millstream stop`.
pub fn stop(args: &StopJob) -> ExitCode {
    let patience = args.patience();
    let named = match &args.savepoint {
        Some(name) => ask(&args.state, args.job.as_deref(), &Request::Savepoint(name.clone()), patience).map(drop),
        None => Ok(()),
    };
    let done = named
        .and_then(|()| ask(&args.state, args.job.as_deref(), &Request::Stop { drain: args.drain }, patience))
        .and_then(|_| show("the job has been asked to stop; it goes on where it stops when it is run again"));
    done.map_or_else(|e| fail(&e, None), |()| ExitCode::SUCCESS)
}

fn list(location: &str) -> Result<()> {
    let mut text = String::new();
    for (job, store) in state::job_stores(location)? {
        if !job.is_empty() {
            let _ = writeln!(text, "job {job}");
        }
        let _ = writeln!(
            text,
            "{:>8}  {:>8}  {:<23}  {:>10}  {:>10}  what",
            "number", "epoch", "written (UTC)", "rows", "size"
        );
        let listing = store.list("")?;
        let files = listing.iter().filter(|s| {
            Manifest::number_of(&s.path).is_some() || s.path.starts_with("savepoints/") && s.path.ends_with(".json")
        });
        for stat in files {
            let Some(bytes) = store.get(&stat.path)? else { continue };
            match Manifest::from_json(&bytes) {
                Ok(m) => {
                    let what = match stat.path.strip_prefix("savepoints/") {
                        Some(name) => format!("savepoint {}", name.trim_end_matches(".json")),
                        None if m.finished => "finished".to_owned(),
                        None => String::new(),
                    };
                    let (rows, size) = (m.files().map(|f| f.rows).sum::<u64>(), m.files().map(|f| f.bytes).sum());
                    let at = format_millis(m.written);
                    let _ = writeln!(
                        text,
                        "{:>8}  {:>8}  {at:<23}  {rows:>10}  {:>10}  {what}",
                        m.number,
                        m.epoch,
                        ByteSize(size).to_string()
                    );
                }
                Err(e) => drop(writeln!(text, "{}: {}", stat.path, e.what())),
            }
        }
    }
    show(text.trim_end())
}

fn describe(location: &str, at: Option<&str>) -> Result<()> {
    let mut text = String::new();
    for (_, store) in state::job_stores(location)? {
        let m = state::manifest(store.as_ref(), at)?;
        let _ = writeln!(
            text,
            "checkpoint {} of job {}: epoch {}, run {}, written {} UTC by millstream {}, parallelism {}{}",
            m.number,
            m.job,
            m.epoch,
            m.generation,
            format_millis(m.written),
            m.program,
            m.parallelism,
            if m.finished { ", finished" } else { "" }
        );
        let names = state::tables(&m);
        for node in &m.nodes {
            let watermark = node.event_watermark.map_or("none".to_owned(), |w| match w {
                i64::MAX => "at the end".to_owned(),
                w => format_millis(w),
            });
            if node.tables.is_empty() && node.partitions.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\n{} ({}), watermark {watermark}", node.id, node.label);
            for p in &node.partitions {
                let ended = if p.ended { ", ended" } else { "" };
                let _ = writeln!(text, "  partition {}: {} rows, at {}{ended}", p.name, p.rows, p.position);
            }
            for table in &node.tables {
                let pieces: Vec<_> = table.chains.iter().flat_map(|c| &c.pieces).collect();
                let (rows, bytes) = (pieces.iter().map(|f| f.rows).sum::<u64>(), pieces.iter().map(|f| f.bytes).sum());
                let _ = writeln!(
                    text,
                    "  table {}: {rows} rows in {} files, {}",
                    table.name,
                    pieces.len(),
                    ByteSize(bytes)
                );
                let name = names.iter().find(|t| std::ptr::eq(t.table, table)).map_or("", |t| &t.name);
                let _ = writeln!(text, "    in SQL {name}");
                let _ = match table.key {
                    0 => writeln!(text, "    a log: no columns name a row"),
                    key => writeln!(text, "    key {key} columns, part {}", table.part),
                };
                let _ = writeln!(text, "    columns {}", table.columns.join(", "));
                for file in pieces {
                    let _ = writeln!(text, "    {}/{}", store.name(), file.path);
                }
            }
        }
        for sink in m.sinks.iter().filter(|s| !s.committables.is_empty()) {
            let _ = writeln!(text, "\nsink {} ({}): {} to commit", sink.id, sink.table, sink.committables.len());
        }
    }
    show(text.trim_end())
}

fn copy(location: &str, at: Option<&str>, to: &str) -> Result<()> {
    for (job, store) in state::job_stores(location)? {
        let m = state::manifest(store.as_ref(), at)?;
        let job = if job.is_empty() { m.job.clone() } else { job };
        let into = state::open_at(&format!("{}/{job}", to.trim_end_matches('/')))?;
        state::copy(store.as_ref(), &m, into.as_ref(), &m.job)?;
        show(&format!("checkpoint {} of job {} is now in {}", m.number, m.job, into.name()))?;
    }
    Ok(())
}

fn remove(location: &str, savepoint: &str) -> Result<()> {
    let mut found = false;
    for (_, store) in state::job_stores(location)? {
        found |= state::remove_savepoint(store.as_ref(), savepoint)?;
    }
    match found {
        true => show(&format!("savepoint `{savepoint}` is gone; its files go with the job's next checkpoint")),
        false => Err(Error::usage(format!("there is no savepoint `{savepoint}` in {location}"))
            .remedy("see `millstream state ls`; checkpoints that are no savepoints go by themselves")),
    }
}

/// Asks the job that runs on this state, and waits for its answer.
fn ask(location: &str, job: Option<&str>, request: &Request, patience: Duration) -> Result<String> {
    let store = one(location, job)?;
    let id = format!("{}-{}", std::process::id(), Instant::now().elapsed().as_nanos());
    state::ask(store.as_ref(), &id, request)?;
    let until = Instant::now() + patience;
    loop {
        if let Some(answer) = state::answer(store.as_ref(), &id)? {
            return answer;
        }
        if Instant::now() >= until {
            state::withdraw(store.as_ref(), &id)?;
            return Err(Error::usage(format!("no job that runs on {} has answered", store.name()))
                .remedy("is it running? Wait longer with --timeout"));
        }
        std::thread::sleep(ASK_EVERY);
    }
}

fn one(location: &str, job: Option<&str>) -> Result<Arc<dyn Store>> {
    let mut jobs = state::job_stores(location)?;
    if let Some(job) = job {
        jobs.retain(|(name, _)| name == job);
    }
    match jobs.len() {
        1 => Ok(jobs.remove(0).1),
        0 => Err(Error::usage(format!("{location} holds no job `{}`", job.unwrap_or("")))
            .remedy("see `millstream state ls`")),
        _ => {
            let names: Vec<String> = jobs.into_iter().map(|(n, _)| n).collect();
            Err(Error::usage(format!("{location} holds several jobs"))
                .remedy(format!("say which by --job: {}", names.join(", "))))
        }
    }
}
