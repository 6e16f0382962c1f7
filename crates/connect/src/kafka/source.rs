//! A table over topics: which partitions there are, where each begins and ends, and the client they share.
//!
//! ```text
//!  open ─▶ partitions, starts, ends ─▶ one client, all partitions assigned ─▶ a reader for each
//!                                        └─ a thread of ours: hears errors, tells the group, finds new partitions
//! ```
//!
//! What keeps a reader from going on is kept in the hub, and the next poll of any reader says it: authentication,
//! missing rights, a topic that is gone, or brokers that have not been reached for [`OUTAGE_MAX`]. Shorter outages pass: the
//! client goes on by itself with the next leader it finds.

use super::client::{
    PATIENCE, ReadClient, Said, described, explain, explain_code, first_contact, known_high, no_topic, partitions_of,
    reader,
};
use super::layout::Reading;
use super::offsets::{Asking, Offsets, Partition};
use super::options::{End, Settings, TOPIC, TOPIC_PATTERN, Topics};
use super::reader::{Position, ROWS_MAX, Reader, Stop, queue_of};
use super::rows::Gather;
use crate::position;
use millstream_core::{Error, PartitionReader, Result, SavedPartition, Source, TableSpec};
use millstream_formats::OnBadRow;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long no broker at all may be reached before the job says so and ends. Until then it waits.
const OUTAGE_MAX: Duration = Duration::from_secs(300);

/// How long a partition may be unknown before it is gone. A broker that stood still, or has just started, knows for a moment
/// less than the others.
const GONE_PATIENCE: Duration = Duration::from_secs(15);

/// How often the thread beside the readers looks at what there is to do.
const ROUND: Duration = Duration::from_millis(100);

/// How long it may ask for the description of a topic.
const DESCRIBE_PATIENCE: Duration = Duration::from_secs(5);

/// The partition stands above these bits of a row's order.
const ORDER_BITS: u32 = 48;

pub struct KafkaSource {
    pub(super) table: TableSpec,
    pub(super) settings: Arc<Settings>,
    reading: Arc<Reading>,
}

impl KafkaSource {
    pub fn open(table: &TableSpec, settings: Settings) -> Result<KafkaSource> {
        let reading = Arc::new(Reading::of(table, &settings)?);
        Ok(KafkaSource { table: table.clone(), settings: Arc::new(settings), reading })
    }

    /// What readers are made of.
    fn recipe(&self) -> Recipe {
        Recipe {
            settings: self.settings.clone(),
            reading: self.reading.clone(),
            modes: (
                self.settings.key.as_ref().map_or(OnBadRow::Fail, |key| key.on_bad_row(&self.table)),
                self.settings.value.on_bad_row(&self.table),
            ),
            topics: Vec::new(),
        }
    }

    /// Readers of `positions`, over one client that has just been made.
    fn readers(
        &self,
        positions: BTreeMap<Partition, (Position, Option<Stop>)>,
        found: Found,
    ) -> Result<Vec<Box<dyn PartitionReader>>> {
        let Found { client, said, all, topics } = found;
        let mut recipe = self.recipe();
        recipe.topics = topics;
        let hub = Arc::new(Hub {
            client: Arc::new(client),
            said,
            recipe,
            state: Mutex::new(HubState { known: all.into_iter().collect(), ..HubState::default() }),
        });
        let discovers = self.settings.end == End::Never && self.settings.discovery.is_some();
        let mut readers = hub.clone().assign(positions)?;
        if let Some(first) = readers.first_mut() {
            first.finds = discovers;
        }
        hub.start(if discovers { self.settings.discovery } else { None })?;
        Ok(readers.into_iter().map(|r| Box::new(r) as Box<dyn PartitionReader>).collect())
    }

    /// Connects, and looks which partitions there are.
    pub(super) fn find(&self) -> Result<Found> {
        let settings = &self.settings;
        // How many partitions share the prefetch is known only after the first look.
        let (client, said) = reader(&settings.properties, 1)?;
        let any = if let Topics::Named(names) = &settings.topics { names.first().map(String::as_str) } else { None };
        first_contact(&settings.properties, &client, &said, any)?;
        let (topics, all) = list(settings, &client, &said)?;
        let (client, said) = if all.len() > 1 { reader(&settings.properties, all.len())? } else { (client, said) };
        Ok(Found { client, said, all, topics })
    }
}

pub(super) struct Found {
    pub client: ReadClient,
    pub said: Said,
    pub all: Vec<Partition>,
    /// The topics, in the order by which rows of the same time are told apart.
    topics: Vec<String>,
}

/// The topics of a table and all their partitions, in order.
fn list(settings: &Settings, client: &ReadClient, said: &Said) -> Result<(Vec<String>, Vec<Partition>)> {
    let (mut topics, mut all) = (Vec::new(), Vec::new());
    match &settings.topics {
        Topics::Named(names) => {
            for topic in names {
                let partitions = partitions_of(&settings.properties, client.client(), said, topic)?
                    .ok_or_else(|| no_topic(&settings.properties, TOPIC, topic))?;
                topics.push(topic.clone());
                all.extend(partitions.into_iter().map(|number| Partition { topic: topic.clone(), number }));
            }
        }
        Topics::Matching(pattern) => {
            let metadata = client
                .fetch_metadata(None, PATIENCE)
                .map_err(|e| explain(&settings.properties, "list its topics", &e, said))?;
            let mut names: Vec<&str> = metadata.topics().iter().map(|t| t.name()).collect();
            names.sort_unstable();
            for topic in names.into_iter().filter(|n| !n.starts_with("__") && pattern.is_match(n)) {
                let Some(partitions) = described(&settings.properties, said, &metadata, topic)? else { continue };
                topics.push(topic.to_owned());
                all.extend(partitions.into_iter().map(|number| Partition { topic: topic.to_owned(), number }));
            }
            if all.is_empty() {
                return Err(Error::usage(format!(
                    "'{TOPIC_PATTERN}': Kafka at {} has no topic that matches",
                    settings.properties.brokers()
                ))
                .remedy("correct the pattern, which has to match a whole name, or create a topic"));
            }
        }
    }
    Ok((topics, all))
}

impl Source for KafkaSource {
    fn schema(&self) -> arrow::datatypes::SchemaRef {
        self.reading.schema.clone()
    }

    fn bounded(&self) -> bool {
        self.settings.end != End::Never
    }

    fn replays(&self) -> bool {
        true
    }

    fn partitions(&mut self, _parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let found = self.find()?;
        let asking = Asking { settings: &self.settings, client: &found.client, said: &found.said };
        let (starts, limits) = (asking.starts(&found.all)?, asking.limits(&found.all)?);
        let ends = asking.ends(&limits.keys().cloned().collect::<Vec<_>>())?;
        // Named offsets and those of the group may be gone; what was asked of the brokers just now is there.
        asking.check(&starts)?;
        let positions = starts.into_iter().map(|(partition, next)| {
            let limit = limits.get(&partition).copied();
            let stop = limit.map(|before| Stop { before, there: before <= ends[&partition] });
            let end = limit.filter(|_| self.settings.end != End::Now);
            (partition, (Position { next, end }, stop))
        });
        self.readers(positions.collect(), found)
    }

    fn resume(&mut self, saved: &[SavedPartition], _parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let mut positions: BTreeMap<Partition, Position> = BTreeMap::new();
        for partition in saved {
            let parsed = Partition::parse(&partition.name).ok_or_else(|| {
                Error::data(format!("the checkpoint has a partition `{}`, which is none of Kafka's", partition.name))
                    .remedy("restore the job that it is of")
            })?;
            positions.insert(parsed, position::read(partition)?);
        }
        let found = self.find()?;
        if let Some(missing) = positions.keys().find(|p| !found.all.contains(p)) {
            return Err(Error::usage(format!(
                "the job was reading {}, which is not among the partitions of `{}` any more",
                missing.name(),
                self.table.name
            ))
            .remedy("put the topic back into the table's options, or start the job afresh (another --state)"));
        }
        let asking = Asking { settings: &self.settings, client: &found.client, said: &found.said };
        asking.check(&positions.iter().map(|(p, at)| (p.clone(), at.next)).collect())?;
        let new: Vec<Partition> = found.all.iter().filter(|p| !positions.contains_key(p)).cloned().collect();
        // Partitions that have come since belong to the job from their first record on; to a bounded one they do not.
        let begun: Offsets =
            if self.bounded() && self.settings.end != End::Now { Offsets::new() } else { asking.beginnings(&new)? };
        positions.extend(begun.into_iter().map(|(p, next)| (p, Position { next, end: None })));
        let all: Vec<Partition> = positions.keys().cloned().collect();
        // A table that has been bounded only now ends where it would if it began now.
        let limits = asking.limits(&all)?;
        let ends = if limits.is_empty() { Offsets::new() } else { asking.ends(&all)? };
        let positions = positions.into_iter().map(|(partition, mut position)| {
            let limit = match self.settings.end {
                End::Never => None,
                End::Now => limits.get(&partition).copied(),
                End::At(_) => position.end.or_else(|| limits.get(&partition).copied()),
            };
            position.end = limit.filter(|_| self.settings.end != End::Now);
            let stop = limit.map(|before| Stop { before, there: before <= ends[&partition] });
            (partition, (position, stop))
        });
        self.readers(positions.collect(), found)
    }
}

struct Recipe {
    settings: Arc<Settings>,
    reading: Arc<Reading>,
    modes: (OnBadRow, OnBadRow),
    topics: Vec<String>,
}

/// What the readers of a table share.
pub struct Hub {
    pub client: Arc<ReadClient>,
    said: Said,
    recipe: Recipe,
    state: Mutex<HubState>,
}

#[derive(Default)]
struct HubState {
    known: BTreeSet<Partition>,
    /// Partitions that have come since, and have no reader yet.
    found: Vec<Partition>,
    /// What keeps everybody from going on.
    failed: Option<Error>,
    /// Since when no broker can be reached.
    down: Option<Instant>,
    /// What a broker does not know that is read here.
    missing: Option<Missing>,
    /// Positions that are safe and that the group has not been told.
    safe: Offsets,
}

struct Missing {
    since: Instant,
    /// Of what, in words.
    of: String,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds partitions to the client and makes their readers.
    fn assign(self: Arc<Hub>, positions: BTreeMap<Partition, (Position, Option<Stop>)>) -> Result<Vec<Reader>> {
        let Recipe { settings, reading, modes, topics } = &self.recipe;
        let mut list = TopicPartitionList::new();
        let mut readers = Vec::with_capacity(positions.len());
        for (partition, (position, stop)) in positions {
            let empty = stop.is_some_and(|stop| position.next >= stop.before);
            // Before it is assigned: what is fetched then goes into its own queue from the first record on.
            let queue = if empty { None } else { Some(queue_of(&self.client, &partition)?) };
            if !empty {
                list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(position.next))
                    .map_err(|e| explain(&settings.properties, "assign partitions", &e, &self.said))?;
            }
            let among = topics.iter().position(|t| *t == partition.topic).unwrap_or(topics.len());
            let ordinal = i64::from(partition.number) * topics.len().max(1) as i64 + among as i64;
            if ordinal >= 1 << (63 - ORDER_BITS) {
                return Err(Error::usage(format!("`{}` has more partitions than can be told apart", settings.table))
                    .remedy("declare several tables over fewer topics, and join them with UNION ALL"));
            }
            let gather =
                Gather::new(reading.clone(), *modes, &partition.topic, partition.number, ordinal << ORDER_BITS)?;
            readers.push(Reader {
                name: partition.name(),
                partition,
                queue,
                hub: self.clone(),
                gather,
                position,
                stop,
                ended: false,
                read_to: 0,
                rows_max: ROWS_MAX,
                finds: false,
            });
        }
        if list.count() > 0 {
            self.client
                .incremental_assign(&list)
                .map_err(|e| explain(&settings.properties, "assign partitions", &e, &self.said))?;
        }
        Ok(readers)
    }

    /// Readers of the partitions that have been found since this was last asked.
    pub fn readers_found(self: Arc<Hub>) -> Result<Vec<Box<dyn PartitionReader>>> {
        let found = std::mem::take(&mut self.state().found);
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let positions = found.into_iter().map(|p| (p, (Position { next: 0, end: None }, None)));
        let readers = self.assign(positions.collect())?;
        Ok(readers.into_iter().map(|r| Box::new(r) as Box<dyn PartitionReader>).collect())
    }

    /// A reader has ended.
    pub fn release(&self, partition: &Partition) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, partition.number);
        // It costs a little bandwidth if that does not succeed, and the reader does not look at it any more.
        let _ = self.client.incremental_unassign(&list);
    }

    /// What keeps the job from going on, if anything does.
    pub fn check(&self) -> Result<()> {
        let state = self.state();
        if let Some(e) = &state.failed {
            return Err(e.clone());
        }
        match state.down {
            Some(since) if since.elapsed() >= OUTAGE_MAX => {
                drop(state);
                let waited = millstream_core::format_duration(OUTAGE_MAX);
                let brokers = self.recipe.settings.properties.brokers();
                let last = self.said.log().map(|l| format!("; the last thing heard: {l}")).unwrap_or_default();
                Err(Error::io(format!("no broker of Kafka at {brokers} could be reached for {waited}{last}"))
                    .remedy("see that the brokers are well, then start the job again: it goes on where it was"))
            }
            _ => Ok(()),
        }
    }

    /// Sorts out what the client says: what ends the job, and what passes.
    pub fn hear(&self, e: &KafkaError, of: &str) -> Option<Error> {
        use RDKafkaErrorCode as Code;
        match e.rdkafka_error_code()? {
            Code::AllBrokersDown => {
                self.state().down.get_or_insert_with(Instant::now);
                None
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                let missing = Missing { since: Instant::now(), of: of.to_owned() };
                self.state().missing.get_or_insert(missing);
                None
            }
            // Nobody has asked for a group here, so nobody needs it.
            Code::GroupAuthorizationFailed if self.recipe.settings.properties.group().is_none() => None,
            code @ (Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::SSL
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::NotImplemented
            | Code::BadCompression
            | Code::UnsupportedCompressionType
            | Code::BadMessage
            | Code::Fatal) => Some(self.explain_code(of, code)),
            _ => None,
        }
    }

    fn explain_code(&self, of: &str, code: RDKafkaErrorCode) -> Error {
        explain_code(&self.recipe.settings.properties, &format!("give the records of {of}"), code, &self.said)
    }

    /// One past the last record of a partition, as far as the client has heard of it with what it fetched.
    pub fn high_watermark(&self, partition: &Partition) -> Option<i64> {
        known_high(&self.client, &partition.topic, partition.number)
    }

    /// A checkpoint holds this position.
    pub fn tell_group(&self, partition: &Partition, next: i64) {
        let properties = &self.recipe.settings.properties;
        if properties.group().is_some() && properties.tells_group {
            self.state().safe.insert(partition.clone(), next);
        }
    }

    fn start(self: Arc<Hub>, discovery: Option<Duration>) -> Result<()> {
        // It does not keep the hub alive: the readers do.
        let weak = Arc::downgrade(&self);
        let started = std::thread::Builder::new().name("kafka".into()).spawn(move || {
            let mut looked = Instant::now();
            while let Some(hub) = weak.upgrade() {
                hub.round();
                if discovery.is_some_and(|d| looked.elapsed() >= d) {
                    hub.discover();
                    looked = Instant::now();
                }
            }
        });
        started.map(drop).map_err(|e| Error::io(format!("cannot start a thread for Kafka: {e}")))
    }

    fn round(&self) {
        if let Some(Err(e)) = self.client.poll(ROUND)
            && let Some(e) = self.hear(&e, &format!("`{}`", self.recipe.settings.table))
        {
            self.state().failed.get_or_insert(e);
        }
        self.look_for_missing();
        self.commit(CommitMode::Async);
        if self.state().down.is_some() && self.client.fetch_metadata(self.any_topic(), Duration::from_secs(1)).is_ok() {
            self.state().down = None;
        }
    }

    /// Whether what a broker does not know is there after all.
    fn look_for_missing(&self) {
        if self.state().missing.is_none() {
            return;
        }
        // Where nobody can be asked, nothing is known to be gone.
        let Some(there) = self.all_there() else { return };
        let mut state = self.state();
        if there {
            state.missing = None;
        } else if let Some(missing) = state.missing.take_if(|missing| missing.since.elapsed() >= GONE_PATIENCE) {
            state.failed.get_or_insert(self.explain_code(&missing.of, RDKafkaErrorCode::UnknownTopicOrPartition));
        }
    }

    /// Whether the brokers know all partitions that are read. `None`: they could not be asked.
    fn all_there(&self) -> Option<bool> {
        let known: BTreeSet<Partition> = self.state().known.clone();
        let topics: BTreeSet<&str> = known.iter().map(|p| p.topic.as_str()).collect();
        let mut there = BTreeSet::new();
        for topic in topics {
            let metadata = self.client.fetch_metadata(Some(topic), Duration::from_secs(1)).ok()?;
            let found = described(&self.recipe.settings.properties, &self.said, &metadata, topic).ok()?;
            let found = found.unwrap_or_default().into_iter();
            there.extend(found.map(|number| Partition { topic: topic.to_owned(), number }));
        }
        Some(known.is_subset(&there))
    }

    fn any_topic(&self) -> Option<&str> {
        self.recipe.topics.first().map(String::as_str)
    }

    /// Tells the group what is safe. Only tools read it, so one that is lost does no harm: a later one says more.
    fn commit(&self, mode: CommitMode) {
        let safe = std::mem::take(&mut self.state().safe);
        if safe.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(safe.len());
        for (partition, next) in safe {
            let _ = list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(next));
        }
        let _ = self.client.commit(&list, mode);
    }

    /// Looks for partitions that have come since. What cannot be asked now is asked again later.
    fn discover(&self) {
        let Recipe { settings, topics, .. } = &self.recipe;
        let mut there = Vec::new();
        match &settings.topics {
            Topics::Named(names) => {
                for topic in names {
                    let Ok(metadata) = self.client.fetch_metadata(Some(topic), DESCRIBE_PATIENCE) else { return };
                    let partitions = described(&settings.properties, &self.said, &metadata, topic).ok().flatten();
                    let partitions = partitions.unwrap_or_default().into_iter();
                    there.extend(partitions.map(|number| Partition { topic: topic.clone(), number }));
                }
            }
            Topics::Matching(_) => {
                let Ok(metadata) = self.client.fetch_metadata(None, DESCRIBE_PATIENCE) else { return };
                // A topic that is new needs a place in the order of topics, which it gets at the next start.
                for topic in topics {
                    let partitions = described(&settings.properties, &self.said, &metadata, topic).ok().flatten();
                    let partitions = partitions.unwrap_or_default().into_iter();
                    there.extend(partitions.map(|number| Partition { topic: topic.clone(), number }));
                }
            }
        }
        let mut state = self.state();
        for partition in there {
            if state.known.insert(partition.clone()) {
                state.found.push(partition);
            }
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.commit(CommitMode::Sync);
    }
}
