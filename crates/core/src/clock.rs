//! The only ways in which time and chance get into the engine: as traits that a driver implements.

use crate::time::Millis;

/// Wall-clock time. The runtime passes readings to state machines as arguments; only drivers hold a `Clock`.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01T00:00:00 UTC. May jump with the machine's clock.
    fn now(&self) -> Millis;

    /// Nanoseconds since some fixed moment; never goes back. For measuring and for time-outs.
    fn monotonic_nanos(&self) -> u64;
}
