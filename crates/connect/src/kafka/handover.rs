//! Topics as the live leg of a table that begins with a history: partitions are known long before they are read, and where
//! each begins is said by the history.

use super::offsets::{Asking, Offsets, Partition};
use super::reader::Position;
use super::source::KafkaSource;
use crate::history::{Begin, Live, LivePartition};
use crate::position;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, PartitionReader, Result, SavedPartition, Source};
use std::collections::BTreeMap;

impl Live for KafkaSource {
    fn schema(&self) -> SchemaRef {
        Source::schema(self)
    }

    fn bounded(&self) -> bool {
        Source::bounded(self)
    }

    fn partitions(&mut self) -> Result<Vec<LivePartition>> {
        let found = self.find()?;
        let asking = Asking { settings: &self.settings, client: &found.client, said: &found.said };
        let (beginnings, ends) = (asking.beginnings(&found.all)?, asking.ends(&found.all)?);
        let described = found.all.iter().map(|p| LivePartition {
            name: p.name(),
            number: p.number,
            empty: beginnings[p] >= ends[p],
        });
        Ok(described.collect())
    }

    fn open(
        &mut self,
        begin: &Begin,
        known: &BTreeMap<String, Option<String>>,
    ) -> Result<Vec<Box<dyn PartitionReader>>> {
        let mut saved = Vec::with_capacity(known.len());
        let found = self.find()?;
        let of = |name: &String| {
            Partition::parse(name).ok_or_else(|| {
                Error::data(format!("the checkpoint has a partition `{name}`, which is none of Kafka's"))
                    .remedy("restore the job that it is of")
            })
        };
        let mut fresh = Vec::new();
        for (name, at) in known {
            match at {
                Some(position) => saved.push(SavedPartition { name: name.clone(), position: position.clone() }),
                None => fresh.push(of(name)?),
            }
        }
        let asking = Asking { settings: &self.settings, client: &found.client, said: &found.said };
        if let Some(missing) = fresh.iter().find(|p| !found.all.contains(p)) {
            return Err(Error::usage(format!("{} was there when the history began, and is gone", missing.name()))
                .remedy("put the topic back, or start the job afresh (another --state)"));
        }
        let starts = match begin {
            Begin::AsTheTableSays => asking.starts(&fresh)?,
            Begin::Beginning => asking.beginnings(&fresh)?,
            Begin::Time(at) => asking.at_time(&fresh, (*at).max(0))?,
            Begin::Offsets(next) => {
                let there =
                    |number: &i32| known.keys().filter_map(|k| Partition::parse(k)).any(|p| p.number == *number);
                if let Some((number, next)) = next.iter().find(|(number, _)| !there(number)) {
                    let topic = self.settings.topic();
                    return Err(Error::data(format!(
                        "the history holds rows of partition {number} up to offset {}, and the topic has no such partition",
                        next - 1
                    ))
                    .at(millstream_core::Place(topic.to_owned()))
                    .remedy(
                        "see that 'topic' is the topic the history was made of, and 'handover.partition-column' the \
                         column with its partitions",
                    ));
                }
                continued(&asking.beginnings(&fresh)?, &asking.ends(&fresh)?, next)?
            }
        };
        for (partition, next) in starts {
            let position = position::write(&Position { next, end: None })?;
            saved.push(SavedPartition { name: partition.name(), position });
        }
        self.resume(&saved, 1)
    }
}

/// Where partitions begin of which the history holds all records before `next`; those it has none of begin at their
/// beginning.
///
/// # Errors
/// Records are missing between the history and the oldest that the topic still has, or the topic ends before `next`.
fn continued(beginnings: &Offsets, ends: &Offsets, next: &BTreeMap<i32, i64>) -> Result<Offsets> {
    let mut starts = Offsets::new();
    for (partition, &oldest) in beginnings {
        let Some(&wanted) = next.get(&partition.number) else {
            starts.insert(partition.clone(), oldest);
            continue;
        };
        if oldest > wanted {
            return Err(Error::data(format!(
                "there is a hole between the history and the topic: the history ends with offset {}, and the oldest \
                 record that the topic still has is {oldest}; {} offsets are in neither",
                wanted - 1,
                oldest - wanted
            ))
            .at(partition.at(wanted))
            .remedy(
                "add files to the history that hold the records between, and start the job afresh (another --state); give \
                 the topic a longer retention.ms or retention.bytes than the history takes to be written and read",
            ));
        }
        let end = ends[partition];
        if wanted > end {
            return Err(Error::data(format!(
                "the history goes to offset {}, and the topic ends before that, at {end}",
                wanted - 1
            ))
            .at(partition.at(wanted))
            .remedy(
                "the topic was made anew, or the history is one of another topic: check 'topic', or hand over by \
                 'event-time' or 'id'",
            ));
        }
        starts.insert(partition.clone(), wanted);
    }
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(of: &[(i32, i64)]) -> Offsets {
        of.iter().map(|&(number, at)| (Partition { topic: "t".into(), number }, at)).collect()
    }

    #[test]
    fn each_partition_goes_on_right_behind_the_history_and_new_ones_at_their_beginning() {
        let starts = continued(
            &offsets(&[(0, 3), (1, 0), (2, 7)]),
            &offsets(&[(0, 9), (1, 5), (2, 9)]),
            &[(0, 3), (1, 5)].into(),
        );
        assert_eq!(starts.expect("no hole"), offsets(&[(0, 3), (1, 5), (2, 7)]));
    }

    #[test]
    fn a_hole_names_both_offsets_and_what_to_do() {
        let e =
            continued(&offsets(&[(0, 30)]), &offsets(&[(0, 90)]), &[(0, 21)].into()).expect_err("21 to 29 are lost");
        assert!(e.what().contains("ends with offset 20") && e.what().contains("still has is 30"), "{e}");
        assert!(e.what().contains("9 offsets") && e.help().is_some_and(|h| h.contains("retention")), "{e}");
        let e = continued(&offsets(&[(0, 0)]), &offsets(&[(0, 9)]), &[(0, 21)].into()).expect_err("behind the end");
        assert!(e.what().contains("offset 20") && e.what().contains("at 9"), "{e}");
    }
}
