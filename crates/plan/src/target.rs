//! What would not run, or would mean something else, on an existing Flink cluster.

use crate::statement::Statement;
use millstream_core::Place;

/// The engine that a script should also run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Flink1_20,
    Flink2_2,
}

/// One thing that would not travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub place: Place,
    pub what: String,
    pub remedy: String,
}

pub fn lint(_statements: &[Statement], _target: Target, _file: &str) -> Vec<Warning> {
    Vec::new()
}
