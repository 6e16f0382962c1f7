//! What operators remember: tables of keys, and sums and sketches that do not depend on order.
//!
//! ```text
//!  key columns ──KeyCodec──▶ KeyBatch ──KeyTable──▶ group ids (dense u32) ──▶ columns of state, by group id
//! ```

pub mod chain;
pub mod exact;
pub mod keys;
pub mod parquet;
pub mod room;
pub mod sketch;
pub mod table;
pub mod tier;
pub mod view;
