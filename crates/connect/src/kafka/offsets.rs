//! Where reading begins and where it ends, as offsets: asked of the brokers once, when a run starts.

use super::client::{ASK_SLICE, ReadClient, Said, explain, patiently};
use super::options::{Bound, End, Settings};
use super::properties::Reset;
use millstream_core::{Error, Place, Result};
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    pub topic: String,
    pub number: i32,
}

impl Partition {
    /// As messages and checkpoints call it.
    pub fn name(&self) -> String {
        format!("{}[{}]", self.topic, self.number)
    }

    pub fn parse(name: &str) -> Option<Partition> {
        let (topic, number) = name.strip_suffix(']')?.rsplit_once('[')?;
        Some(Partition { topic: topic.to_owned(), number: number.parse().ok()? })
    }

    pub fn at(&self, offset: i64) -> Place {
        Place(format!("{}@{offset}", self.name()))
    }
}

pub type Offsets = BTreeMap<Partition, i64>;

/// What can be asked about offsets.
pub struct Asking<'a> {
    pub settings: &'a Settings,
    pub client: &'a ReadClient,
    pub said: &'a Said,
}

impl Asking<'_> {
    fn failed(&self, doing: &str, e: &rdkafka::error::KafkaError) -> Error {
        explain(&self.settings.properties, doing, e, self.said)
    }

    /// The offsets that the brokers have for `time`: [`Offset::Beginning`], [`Offset::End`] or milliseconds. Where there is no
    /// record of that time or later, the end.
    fn listed(&self, partitions: &[Partition], time: Offset) -> Result<Offsets> {
        patiently(|| self.list(partitions, time))
    }

    fn list(&self, partitions: &[Partition], time: Offset) -> Result<Offsets> {
        let doing = "list offsets";
        if partitions.is_empty() {
            return Ok(Offsets::new());
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for p in partitions {
            list.add_partition_offset(&p.topic, p.number, time).map_err(|e| self.failed(doing, &e))?;
        }
        let list = self.client.offsets_for_times(list, ASK_SLICE).map_err(|e| self.failed(doing, &e))?;
        let (mut found, mut beyond) = (Offsets::new(), Vec::new());
        for p in partitions {
            let Some(element) = list.find_partition(&p.topic, p.number) else {
                return Err(Error::io(format!("Kafka says nothing of {}", p.name())).remedy("try again"));
            };
            element.error().map_err(|e| self.failed(&format!("list the offsets of {}", p.name()), &e))?;
            match element.offset() {
                Offset::Offset(at) => {
                    found.insert(p.clone(), at);
                }
                _ => beyond.push(p.clone()),
            }
        }
        if !beyond.is_empty() {
            if time == Offset::End {
                return Err(
                    Error::io(format!("Kafka does not say where {} ends", beyond[0].name())).remedy("try again")
                );
            }
            found.extend(self.ends(&beyond)?);
        }
        Ok(found)
    }

    /// The oldest records that are there.
    pub fn beginnings(&self, partitions: &[Partition]) -> Result<Offsets> {
        self.listed(partitions, Offset::Beginning)
    }

    /// The first records whose timestamps are this or later.
    pub fn at_time(&self, partitions: &[Partition], millis: i64) -> Result<Offsets> {
        self.listed(partitions, Offset::Offset(millis))
    }

    /// Behind the newest records that may be read: with `read_committed`, before the first transaction that is still open.
    pub fn ends(&self, partitions: &[Partition]) -> Result<Offsets> {
        self.listed(partitions, Offset::End)
    }

    /// What the group has committed.
    fn committed(&self, partitions: &[Partition]) -> Result<Offsets> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for p in partitions {
            list.add_partition(&p.topic, p.number);
        }
        let doing = "read the offsets of the group";
        let ask = || self.client.committed_offsets(list.clone(), ASK_SLICE).map_err(|e| self.failed(doing, &e));
        let list = patiently(ask)?;
        let mut found = Offsets::new();
        for element in list.elements() {
            element.error().map_err(|e| self.failed(doing, &e))?;
            if let Offset::Offset(at) = element.offset() {
                found.insert(Partition { topic: element.topic().to_owned(), number: element.partition() }, at);
            }
        }
        Ok(found)
    }

    fn bound(&self, bound: &Bound, partitions: &[Partition]) -> Result<Offsets> {
        match bound {
            Bound::Earliest => self.beginnings(partitions),
            Bound::Latest => self.ends(partitions),
            Bound::Millis(at) => self.listed(partitions, Offset::Offset(*at)),
            Bound::Group => self.committed(partitions),
            Bound::Offsets(named) => {
                Ok(partitions.iter().filter_map(|p| Some((p.clone(), *named.get(&p.number)?))).collect())
            }
        }
    }

    /// Where each partition is read from, in a run that starts afresh.
    pub fn starts(&self, partitions: &[Partition]) -> Result<Offsets> {
        let mut starts = self.bound(&self.settings.start, partitions)?;
        let open: Vec<Partition> = partitions.iter().filter(|p| !starts.contains_key(p)).cloned().collect();
        if !open.is_empty() {
            starts.extend(match (&self.settings.start, self.settings.properties.reset) {
                // As in Flink: partitions that are not named are read from their beginning.
                (Bound::Offsets(_), _) | (_, Some(Reset::Earliest)) => self.beginnings(&open)?,
                (_, Some(Reset::Latest)) => self.ends(&open)?,
                (_, None) => {
                    let group = self.settings.properties.group().unwrap_or_default();
                    return Err(Error::usage(format!("the group '{group}' has no offset of {}", open[0].name())).remedy(
                        "say where to begin then: 'properties.auto.offset.reset' = 'earliest' or 'latest', or use another \
                         'scan.startup.mode'",
                    ));
                }
            });
        }
        Ok(starts)
    }

    /// Where each partition ends for this table; one without an end is not in it.
    pub fn limits(&self, partitions: &[Partition]) -> Result<Offsets> {
        match &self.settings.end {
            End::Never => Ok(Offsets::new()),
            End::Now => self.ends(partitions),
            End::At(bound) => {
                let mut limits = self.bound(bound, partitions)?;
                let open: Vec<Partition> = partitions.iter().filter(|p| !limits.contains_key(p)).cloned().collect();
                // Those that are not named, or that the group has not come to, end where they end now.
                limits.extend(self.ends(&open)?);
                Ok(limits)
            }
        }
    }

    /// That what a checkpoint or the group says is still there to be read.
    pub fn check(&self, positions: &Offsets) -> Result<()> {
        let partitions: Vec<Partition> = positions.keys().cloned().collect();
        let (beginnings, ends) = (self.beginnings(&partitions)?, self.ends(&partitions)?);
        for (partition, &at) in positions {
            if at < beginnings[partition] {
                return Err(gone(partition, at, Some(beginnings[partition])));
            }
            if at > ends[partition] {
                return Err(Error::data(format!(
                    "the topic ends before the place where the job has to go on: at {}",
                    ends[partition]
                ))
                .at(partition.at(at))
                .remedy(
                    "it was made anew, or a broker has lost records: restore them, or start the job afresh (another --state)",
                ));
            }
        }
        Ok(())
    }
}

/// Retention has taken away what was to be read next.
pub fn gone(partition: &Partition, at: i64, oldest: Option<i64>) -> Error {
    let oldest = oldest.map(|o| format!("; the oldest record left is {o}")).unwrap_or_default();
    Error::data(format!("removed by the topic's retention before it was read{oldest}")).at(partition.at(at)).remedy(
        "the rows between are lost, which a person has to decide to live with: start the job afresh (another --state), \
         and give the topic a longer retention.ms or retention.bytes",
    )
}
