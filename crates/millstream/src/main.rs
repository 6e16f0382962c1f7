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
        Command::Completions { shell } => cli::run::completions(shell),
    }
}
