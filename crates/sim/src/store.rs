//! The store of checkpoints, as one run reaches it.

use crate::world::{Kind, Run, World};
use millstream_core::{Clock, Put, Result, Stat, Store, Stored};
use std::sync::Arc;

/// The world's store through the eyes of one run.
pub struct SimStore {
    pub world: Arc<World>,
    pub run: Arc<Run>,
}

impl Store for SimStore {
    fn put(&self, path: &str, bytes: &[u8], how: Put) -> Result<Stored> {
        let now = self.world.clock.now();
        let content =
            bytes.iter().fold(0xCBF2_9CE4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01B3));
        self.world.act(&self.run, Kind::Write, format_args!("put {path} {content:016x} {how:?}"), |core| {
            if how == Put::Create && core.objects.contains_key(path) {
                return Ok(Stored::Exists);
            }
            core.overtaken += u64::from(path.contains("-in-flight-"));
            core.objects.insert(path.to_owned(), (bytes.to_vec(), now));
            Ok(Stored::Yes)
        })
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.world.act(&self.run, Kind::Read, format_args!("get {path}"), |core| {
            Ok(core.objects.get(path).map(|(bytes, _)| bytes.clone()))
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stat>> {
        self.world.act(&self.run, Kind::Read, format_args!("list {prefix}"), |core| {
            let stat = |(path, (bytes, modified)): (&String, &(Vec<u8>, i64))| Stat {
                path: path.clone(),
                bytes: bytes.len() as u64,
                modified: *modified,
            };
            Ok(core.objects.iter().filter(|(path, _)| path.starts_with(prefix)).map(stat).collect())
        })
    }

    fn delete(&self, path: &str) -> Result<()> {
        // Deleting needs no room on the disk.
        self.world.act(&self.run, Kind::Read, format_args!("delete {path}"), |core| {
            core.objects.remove(path);
            Ok(())
        })
    }

    fn name(&self) -> String {
        "the simulated store".to_owned()
    }
}
