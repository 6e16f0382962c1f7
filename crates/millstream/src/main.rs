//! The binary `millstream`.

mod cli;

use clap::Parser;
use cli::args::{Cli, Command};
use cli::log::{self, LogFormat};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long memory that is free is kept, in ms. Batches of some MB come and go all the time: what is given back to the
/// system in between comes back as pages that it has to zero. With mimalloc's own second, that was a fifth of the CPU of a
/// top-N; with more than ten, nothing is gained.
const PURGE_DELAY_MS: std::ffi::c_long = 10_000;

/// `mi_option_purge_delay` of mimalloc 2 and 3.
const PURGE_DELAY: std::ffi::c_int = 15;

unsafe extern "C" {
    /// Sets an option of mimalloc, unless the environment has set it (`MIMALLOC_PURGE_DELAY`).
    fn mi_option_set_default(option: std::ffi::c_int, value: std::ffi::c_long);
}

fn main() -> ExitCode {
    // SAFETY: the function is mimalloc's, which is linked as the allocator; it stores a number, checks the option's, and no
    // other thread runs yet.
    unsafe { mi_option_set_default(PURGE_DELAY, PURGE_DELAY_MS) };
    let cli = Cli::try_parse().unwrap_or_else(|e| refuse(&e));
    log::begin(cli.log_format, cli.log_level);
    match cli.command {
        Command::Run(args) => cli::run::run(&args),
        Command::Check(args) => cli::run::check(&args),
        Command::Explain(args) => cli::run::explain(&args),
        Command::State { command } => cli::state::state(&command),
        Command::Savepoint(args) => cli::state::savepoint(&args),
        Command::Stop(args) => cli::state::stop(&args),
        Command::Completions { shell } => cli::run::completions(shell),
    }
}

/// Ends the process with what is wrong with its arguments; or with what was asked for, which is no fault.
fn refuse(e: &clap::Error) -> ! {
    let arguments: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let json = arguments.iter().any(|a| a == "--log-format=json")
        || arguments.windows(2).any(|pair| pair == ["--log-format", "json"]);
    if e.use_stderr() && json {
        log::begin(LogFormat::Json, log::Level::default());
        let text = e.to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let what = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let rest: Vec<&str> = lines.collect();
        let event = log::Event::new(log::Level::Error, what).with("kind", "usage").with("remedy", rest.join("; "));
        event.say("");
        std::process::exit(e.exit_code());
    }
    e.exit()
}
