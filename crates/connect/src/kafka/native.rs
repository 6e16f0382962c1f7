//! What the client library can do and the crate has no safe name for: to take records many at a time, and to wait until all
//! have arrived.
//!
//! The crate hands records over one by one: for each it looks up the topic by its name and twice at the clock. And it waits
//! in steps of a tenth of a second for the end of what it sends, since it hears only of records that were not taken.

use super::client::WriteClient;
use rdkafka::bindings as native;
use rdkafka::error::{IsError, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use std::ffi::CString;
use std::os::raw::c_int;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::time::Duration;

/// Records that are handed over in one call.
const RECORDS_MAX: usize = 1024;

/// A topic that is written to.
pub struct OutTopic {
    native: NonNull<native::rd_kafka_topic_t>,
    /// Whose it is: it has to outlive the topic.
    _client: Arc<WriteClient>,
}

// SAFETY: the library's topics may be used by many threads at once.
unsafe impl Send for OutTopic {}
// SAFETY: as above.
unsafe impl Sync for OutTopic {}

/// A record of a key and a value; `None` where there is none, which is not the same as no bytes.
pub struct Out<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// `None`: by the key, as the client was set up.
    pub partition: Option<i32>,
}

impl OutTopic {
    /// `None`: the library has no room.
    pub fn new(client: &Arc<WriteClient>, name: &str) -> Option<OutTopic> {
        let name = CString::new(name).ok()?;
        // SAFETY: the client is held, the name ends with a NUL, and no settings of the topic's own are handed over.
        let topic = unsafe { native::rd_kafka_topic_new(client.client().native_ptr(), name.as_ptr(), null_mut()) };
        Some(OutTopic { native: NonNull::new(topic)?, _client: client.clone() })
    }

    /// Hands over records in their order, without waiting. How many have been taken, and why not the next. Where that is
    /// [`QueueFull`](RDKafkaErrorCode::QueueFull) none behind it has been taken either; else some may have been.
    pub fn hand_over<'a>(&self, mut records: impl Iterator<Item = Out<'a>>) -> (usize, Option<RDKafkaErrorCode>) {
        let mut taken = 0;
        let mut messages = Vec::new();
        loop {
            messages.clear();
            messages.extend(records.by_ref().take(RECORDS_MAX).map(|record| self.message(&record)));
            if messages.is_empty() {
                return (taken, None);
            }
            // SAFETY: so many messages lie there. With `COPY` the library copies key and value before it returns, and does not
            // write to them, so that they may be borrowed; each borrow of `records` lives as long as this call at least.
            let good = unsafe {
                native::rd_kafka_produce_batch(
                    self.native.as_ptr(),
                    -1,
                    native::RD_KAFKA_MSG_F_COPY | native::RD_KAFKA_MSG_F_PARTITION,
                    messages.as_mut_ptr(),
                    messages.len() as c_int,
                )
            };
            if good == messages.len() as c_int {
                taken += messages.len();
                continue;
            }
            let at = messages.iter().position(|m| m.err.is_error()).unwrap_or_default();
            return (taken + at, Some(messages[at].err.into()));
        }
    }

    fn message(&self, record: &Out<'_>) -> native::rd_kafka_message_t {
        let bytes = |of: Option<&[u8]>| of.map_or((null_mut(), 0), |of| (of.as_ptr().cast_mut().cast(), of.len()));
        let ((key, key_len), (payload, len)) = (bytes(record.key), bytes(record.value));
        native::rd_kafka_message_t {
            err: native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
            rkt: null_mut(),
            partition: record.partition.unwrap_or(-1),
            payload,
            len,
            key,
            key_len,
            offset: 0,
            _private: null_mut(),
        }
    }
}

impl Drop for OutTopic {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and given back once; the client is still there.
        unsafe { native::rd_kafka_topic_destroy(self.native.as_ptr()) };
    }
}

/// Waits until nothing is under way any more, and sends at once what lingers. False: not within this time.
pub fn all_arrived(client: &WriteClient, patience: Duration) -> bool {
    let millis = c_int::try_from(patience.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the client is there. What the library has to say meanwhile the client's own thread listens to.
    let waited = unsafe { native::rd_kafka_flush(client.client().native_ptr(), millis) };
    !waited.is_error()
}
