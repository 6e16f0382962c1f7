//! The binary `millstream`.

mod cli;

use clap::Parser;
use cli::args::{Cli, Command};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => cli::run::run(&args),
        Command::Check(args) => cli::run::check(&args),
        Command::Explain(args) => cli::run::explain(&args),
        Command::State { command } => cli::state::state(&command),
        Command::Savepoint(args) => cli::state::savepoint(&args),
        Command::Stop(args) => cli::state::stop(&args),
        Command::Completions { shell } => cli::run::completions(shell),
    }
}
