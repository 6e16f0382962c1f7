//! What goes into a checkpoint as text: JSON with a version, so that a later program can read what an earlier one saved.

use millstream_core::{Error, Place, Result, SavedPartition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What is written today.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Written<'a, T> {
    v: u32,
    #[serde(flatten)]
    what: &'a T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

pub(crate) fn write(what: &impl Serialize) -> Result<String> {
    serde_json::to_string(&Written { v: VERSION, what }).map_err(|e| {
        Error::data(format!("the position cannot be written as text: {e}"))
            .remedy("a job with checkpoints can only read files whose paths are UTF-8: rename the file")
    })
}

pub(crate) fn read<T: DeserializeOwned>(saved: &SavedPartition) -> Result<T> {
    parse(&saved.position, &saved.name)
}

/// Reads what [`write`] has written; `of` is whose it is, for messages.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, of: &str) -> Result<T> {
    let wrong = |why: String| {
        Error::data(format!("what the checkpoint holds of it cannot be read: {why}"))
            .at(Place(of.to_owned()))
            .remedy("restore with the version that saved it, or start the job afresh")
    };
    let version: Version = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    if version.v > VERSION {
        return Err(wrong(format!("it has version {}, and this program knows those up to {VERSION}", version.v)));
    }
    serde_json::from_str(text).map_err(|e| wrong(e.to_string()))
}
