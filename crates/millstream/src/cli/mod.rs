//! The command line.

pub mod args;
pub mod log;
pub mod print;
pub mod progress;
pub mod run;
pub mod state;
pub mod warner;
