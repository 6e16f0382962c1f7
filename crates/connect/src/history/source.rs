//! The table as a source: one reader for the history, one for each live partition, all of them there from the start.

use super::hub::Hub;
use super::layout::Layout;
use super::live::{self, LiveReader};
use super::options::{Handover, Settings};
use super::past::{self, Past};
use super::{Legs, LivePartition};
use crate::position;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, PartitionReader, Result, SavedPartition, Source};
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct HistorySource {
    settings: Settings,
    /// Taken by the readers.
    legs: Option<Box<dyn Legs>>,
    live_bounded: bool,
    live_schema: SchemaRef,
    /// How the history has ended, if it has ended before this run.
    ended: Option<past::Position>,
}

impl HistorySource {
    pub fn open(settings: Settings, legs: Box<dyn Legs>) -> Result<HistorySource> {
        let live = legs.live()?;
        let (live_bounded, live_schema) = (live.bounded(), live.schema());
        Ok(HistorySource { settings, legs: Some(legs), live_bounded, live_schema, ended: None })
    }

    fn hub(&mut self) -> Result<Arc<Hub>> {
        let legs = self.legs.take().ok_or_else(|| Error::internal("a table is opened twice"))?;
        Ok(Arc::new(Hub::new(self.settings.clone(), legs)))
    }

    fn layout(&self, read: &SchemaRef) -> Result<Layout> {
        Layout::of(&self.settings.wanted.schema, read, &self.settings.handover)
    }

    /// A reader of the history, which has not ended.
    fn past(&self, hub: &Arc<Hub>, saved: Option<past::Position>) -> Result<Past> {
        let mut source = hub.legs.history(None)?;
        let layout = self.layout(&source.schema())?;
        let mut readers = match &saved {
            None => source.partitions(1)?,
            Some(saved) => source.resume(&[saved.source()], 1)?,
        };
        let (Some(reader), true) = (readers.pop(), readers.is_empty()) else {
            return Err(Error::internal("a history is one partition"));
        };
        let cut_is_known = saved.as_ref().is_some_and(|s| s.knows_cut());
        if matches!(self.settings.handover, Handover::EventTime { at: None, .. }) && !cut_is_known {
            hub.find_cut()?;
        }
        Past::new(hub.clone(), layout, reader, saved)
    }

    /// Readers of live partitions that wait for the history to end.
    fn live(&self, hub: &Arc<Hub>, saved: BTreeMap<String, live::Position>) -> Result<Vec<Box<dyn PartitionReader>>> {
        let layout = self.layout(&self.live_schema)?;
        {
            let mut state = hub.state();
            state.known = saved.iter().map(|(name, position)| (name.clone(), position.at.clone())).collect();
            state.comparing = saved.values().filter(|p| LiveReader::compares(hub, p)).count();
        }
        let readers = saved.into_iter().enumerate().map(|(i, (name, position))| {
            let reader = LiveReader::waiting(hub.clone(), layout.clone(), &name, position, i == 0);
            Box::new(reader) as Box<dyn PartitionReader>
        });
        Ok(readers.collect())
    }

    fn describe(hub: &Hub) -> Result<Vec<LivePartition>> {
        let found = hub.legs.live()?.partitions()?;
        hub.state().described = found.iter().map(|p| (p.name.clone(), p.clone())).collect();
        Ok(found)
    }
}

impl Source for HistorySource {
    fn schema(&self) -> SchemaRef {
        self.settings.wanted.schema.clone()
    }

    fn bounded(&self) -> bool {
        self.live_bounded
    }

    fn replays(&self) -> bool {
        true
    }

    fn partitions(&mut self, _parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let hub = self.hub()?;
        let names = HistorySource::describe(&hub)?;
        let mut readers: Vec<Box<dyn PartitionReader>> = vec![Box::new(self.past(&hub, None)?)];
        let fresh = names.into_iter().map(|p| (p.name, live::Position::default())).collect();
        readers.extend(self.live(&hub, fresh)?);
        Ok(readers)
    }

    fn recall(&mut self, ended: &[SavedPartition]) -> Result<()> {
        self.ended = ended.iter().find(|p| p.name == past::NAME).map(position::read).transpose()?;
        Ok(())
    }

    fn resume(&mut self, saved: &[SavedPartition], _parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let hub = self.hub()?;
        let mut open: Option<past::Position> = None;
        let mut live = BTreeMap::new();
        for partition in saved {
            if partition.name == past::NAME {
                open = Some(position::read(partition)?);
            } else {
                live.insert(partition.name.clone(), live::Position::of(partition)?);
            }
        }
        let mut readers: Vec<Box<dyn PartitionReader>> = Vec::new();
        let ended = self.ended.take();
        for position in open.iter().chain(&ended) {
            position.check(&self.settings.handover)?;
        }
        if let Some(position) = open {
            // While the history is read it must be known which partitions have records that are older.
            let found = HistorySource::describe(&hub)?;
            if !self.live_bounded {
                for partition in found {
                    live.entry(partition.name).or_default();
                }
            }
            readers.push(Box::new(self.past(&hub, Some(position))?));
        } else if ended.is_none() {
            return Err(Error::data("the checkpoint does not say how far the history was read")
                .remedy("restore the job that it is of, or start the job afresh (another --state)"));
        }
        readers.extend(self.live(&hub, live)?);
        if let Some(position) = ended {
            hub.hand_over(position.ending(), None)?;
        }
        Ok(readers)
    }
}
