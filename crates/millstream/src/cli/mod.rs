//! The command line.

pub mod args;
pub mod log;
#[cfg(feature = "otel")]
pub mod otel;
pub mod print;
pub mod progress;
pub mod run;
pub mod state;
pub mod warner;
