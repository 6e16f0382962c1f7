//! When results are safe: decides, and never writes.
//!
//! ```text
//!  start:  manifests and listing ──recover──▶ the manifest to go on from ──compare──▶ what the program keeps of it
//!  run:    events ──coordinator──▶ begin, write the manifest, commit ..
//!  after:  ──retain──▶ what may be deleted
//! ```
//!
//! Everything here is a function of what it is given, `now` included, and returns what should happen. The runtime does
//! it: `runtime` lines barriers up and drives the coordinator, `connect` has the stores.

pub mod compare;
pub mod coordinator;
pub mod manifest;
pub mod recover;
pub mod retain;

pub use coordinator::{Coordinator, CoordinatorConfig, Effect, Event, Reason, Save, TaskId};
pub use manifest::Manifest;
