//! Faults that can be built in on purpose, one at a time, to see that the simulator finds them.
//!
//! Without the feature `sabotage` there is nothing to switch on, and each question is answered with a constant.

/// A fault of which we want to know that it would be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A task is saved at the first barrier that arrives.
    BarrierNotAligned,
    /// What was held back behind a barrier is lost.
    HeldRowsLost,
    /// Batches that a barrier has overtaken are not in the checkpoint.
    InFlightForgotten,
    /// The watermark that a node was handed is not saved.
    WatermarkNotSaved,
    /// A source's partitions begin with no promise after a restore.
    PartitionWatermarkReset,
    /// A source goes on one row before the place that was saved.
    OffsetOffByOne,
    /// Partitions that had ended are read again.
    EndedPartitionReadAgain,
    /// Operators are not told at which watermark they go on.
    TimersLostAtLoad,
    /// Every third file of changes is left out of the manifest.
    DeltaForgotten,
    /// Changes are put upon nothing where the tasks are not those that were saved.
    BaseForgotten,
    /// Parts that were dropped are there again after a restore.
    DropPartsIgnored,
    /// A restored task takes the share of its neighbour.
    WrongTask,
    /// Shares at different watermarks are joined as they are.
    SharesNotSettled,
    /// Sinks commit, and then the manifest is written.
    CommitBeforeManifest,
    /// A restored run does not commit what the manifest names.
    CommitNotRepeated,
    /// What sinks had prepared for an epoch that was given up is dropped.
    GivenUpCommittablesForgotten,
    /// The manifest is written though the sinks' files are not safe yet.
    SettleSkipped,
    /// Rows set aside for an epoch that was given up are dropped.
    SideRowsLost,
    /// A run that was replaced goes on to commit.
    ZombieNotFenced,
    /// Tidying up takes files that the newest manifest names.
    NeededFilesTidied,
}

#[cfg(any(test, feature = "sabotage"))]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    impl Bug {
        pub const ALL: [Bug; 20] = [
            Bug::BarrierNotAligned,
            Bug::HeldRowsLost,
            Bug::InFlightForgotten,
            Bug::WatermarkNotSaved,
            Bug::PartitionWatermarkReset,
            Bug::OffsetOffByOne,
            Bug::EndedPartitionReadAgain,
            Bug::TimersLostAtLoad,
            Bug::DeltaForgotten,
            Bug::BaseForgotten,
            Bug::DropPartsIgnored,
            Bug::WrongTask,
            Bug::SharesNotSettled,
            Bug::CommitBeforeManifest,
            Bug::CommitNotRepeated,
            Bug::GivenUpCommittablesForgotten,
            Bug::SettleSkipped,
            Bug::SideRowsLost,
            Bug::ZombieNotFenced,
            Bug::NeededFilesTidied,
        ];
    }

    /// Builds one fault into all that this thread runs from now on; `None`: no fault.
    pub fn build_in(bug: Option<Bug>) {
        NOW.with(|now| now.set(bug));
    }

    pub(crate) fn on(bug: Bug) -> bool {
        NOW.with(|now| now.get() == Some(bug))
    }
}

#[cfg(any(test, feature = "sabotage"))]
pub use switch::build_in;
#[cfg(any(test, feature = "sabotage"))]
pub(crate) use switch::on;

#[cfg(not(any(test, feature = "sabotage")))]
pub(crate) const fn on(_: Bug) -> bool {
    false
}
