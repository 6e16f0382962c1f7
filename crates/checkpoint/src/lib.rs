//! When results are safe: decides, and never writes.

pub mod manifest;

pub use manifest::Manifest;
