//! The queue of one partition, apart from those of the others: records as the client hands them out, many for one look
//! into it.
//!
//! The crate's own queue hands out one at a time, each as an event of its own with two looks at the clock; at half a million
//! records a second that was a tenth of what reading them costs. The library can hand out many, and the crate has no
//! safe name for that. What has been taken and not been read yet waits here, at most [`TAKEN_MAX`] records: all of them have
//! come within the bound of the client's queue, which may have filled up once more meanwhile.

use super::client::ReadClient;
use super::offsets::Partition;
use millstream_core::{Error, Result};
use rdkafka::bindings as native;
use rdkafka::error::{IsError, KafkaError};
use rdkafka::message::Timestamp;
use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr::{NonNull, null, null_mut};
use std::sync::Arc;

/// Records that are taken out of the client's queue at a time.
const TAKEN_MAX: usize = 256;

pub struct Queue {
    native: NonNull<native::rd_kafka_queue_t>,
    /// Taken out and not handed on yet are those from `next` on.
    taken: Vec<*mut native::rd_kafka_message_t>,
    next: usize,
    /// What queue and records belong to: it has to outlive them.
    _client: Arc<ReadClient>,
}

// SAFETY: the library's queues and records may be used from any thread, by one at a time, which `&mut self` sees to.
unsafe impl Send for Queue {}

impl Queue {
    pub fn of(client: &Arc<ReadClient>, partition: &Partition) -> Result<Queue> {
        let no_room =
            || Error::io(format!("the Kafka client has no room for {}", partition.name())).remedy("try again");
        let topic = CString::new(partition.topic.as_str()).map_err(|_| no_room())?;
        // SAFETY: the client is held, and the topic ends with a NUL. A queue that is given has to be given back: see `drop`.
        let queue = unsafe {
            native::rd_kafka_queue_get_partition(
                rdkafka::consumer::Consumer::client(client.as_ref()).native_ptr(),
                topic.as_ptr(),
                partition.number,
            )
        };
        let queue = NonNull::new(queue).ok_or_else(no_room)?;
        // SAFETY: to nowhere, so that records stay in it and do not go to the queue of the whole client.
        unsafe { native::rd_kafka_queue_forward(queue.as_ptr(), null_mut()) };
        Ok(Queue { native: queue, taken: Vec::with_capacity(TAKEN_MAX), next: 0, _client: client.clone() })
    }

    /// The next record, or what the client has to say in its place; does not wait.
    pub fn next(&mut self) -> Option<Result<Record<'_>, KafkaError>> {
        if self.next == self.taken.len() {
            self.take();
        }
        let message = NonNull::new(*self.taken.get(self.next)?)?;
        self.next += 1;
        let record = Record { message, _queue: PhantomData };
        let said = record.fields().err;
        Some(match said {
            native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                Err(KafkaError::PartitionEOF(record.fields().partition))
            }
            said if said.is_error() => Err(KafkaError::MessageConsumption(said.into())),
            _ => Ok(record),
        })
    }

    fn take(&mut self) {
        self.taken.clear();
        self.next = 0;
        // SAFETY: there is room for so many pointers, and as many as it says are set behind the call.
        unsafe {
            let count =
                native::rd_kafka_consume_batch_queue(self.native.as_ptr(), 0, self.taken.as_mut_ptr(), TAKEN_MAX);
            // Below zero where the library refuses, which it does for no queue of a consumer.
            self.taken.set_len(usize::try_from(count).unwrap_or(0));
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        for message in &self.taken[self.next..] {
            // SAFETY: taken, and handed to nobody: those before `next` were given back by their records.
            unsafe { native::rd_kafka_message_destroy(*message) };
        }
        // SAFETY: got in `of`, and nobody else has it.
        unsafe { native::rd_kafka_queue_destroy(self.native.as_ptr()) };
    }
}

/// A record, until it is dropped.
pub struct Record<'a> {
    message: NonNull<native::rd_kafka_message_t>,
    _queue: PhantomData<&'a Queue>,
}

impl Record<'_> {
    fn fields(&self) -> &native::rd_kafka_message_t {
        // SAFETY: the library has made it, and it is given back when this is dropped.
        unsafe { self.message.as_ref() }
    }

    pub fn key(&self) -> Option<&[u8]> {
        // SAFETY: of this record, for as long as it is there.
        unsafe { bytes(self.fields().key, self.fields().key_len) }
    }

    pub fn value(&self) -> Option<&[u8]> {
        // SAFETY: as above.
        unsafe { bytes(self.fields().payload, self.fields().len) }
    }

    pub fn offset(&self) -> i64 {
        self.fields().offset
    }

    pub fn timestamp(&self) -> Timestamp {
        use native::rd_kafka_timestamp_type_t as Type;
        let mut kind = Type::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the record is there, and the result has a place of its own.
        let millis = unsafe { native::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        match kind {
            _ if millis == -1 => Timestamp::NotAvailable,
            Type::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => Timestamp::NotAvailable,
            Type::RD_KAFKA_TIMESTAMP_CREATE_TIME => Timestamp::CreateTime(millis),
            Type::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Timestamp::LogAppendTime(millis),
        }
    }

    /// Names and values, in the order of the record.
    pub fn headers(&self) -> Vec<(&str, Option<&[u8]>)> {
        let (mut all, mut found) = (null_mut(), Vec::new());
        // SAFETY: the record is there, and keeps its headers; names and values are theirs. A name ends with a NUL.
        unsafe {
            let code = native::rd_kafka_message_headers(self.message.as_ptr(), &mut all);
            if code.is_error() {
                return found; // It has none.
            }
            let (mut name, mut value, mut length) = (null(), null(), 0);
            while !native::rd_kafka_header_get_all(all, found.len(), &mut name, &mut value, &mut length).is_error() {
                // The protocol asks for UTF-8.
                let name = CStr::from_ptr(name).to_str().unwrap_or_default();
                found.push((name, bytes(value, length)));
            }
        }
        found
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        // SAFETY: taken from the queue, once.
        unsafe { native::rd_kafka_message_destroy(self.message.as_ptr()) };
    }
}

/// # Safety
/// So many bytes lie there for as long as the result is used, if any do.
unsafe fn bytes<'a>(at: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at.cast::<u8>(), length) })
}
