//! A column of text that is put together row by row from texts that are there already.

use arrow::array::{NullBufferBuilder, StringArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion_common::{Result, exec_err};

/// How many bytes are moved at once: most parts of a text that SQL cuts out are shorter.
const MOVE_BYTES: usize = 16;

/// A column of text being built. As arrow's builder, but short parts of longer texts are moved without a call for each.
pub struct TextColumn {
    ends: Vec<i32>,
    bytes: Vec<u8>,
    nulls: NullBufferBuilder,
}

impl TextColumn {
    pub fn with_capacity(rows: usize, bytes: usize) -> TextColumn {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        TextColumn { ends, bytes: Vec::with_capacity(bytes), nulls: NullBufferBuilder::new(rows) }
    }

    #[inline]
    pub fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.end();
    }

    /// Appends `text[from..to]`, where both lie between characters.
    #[inline]
    pub fn push_part(&mut self, text: &str, from: usize, to: usize) {
        let bytes = text.as_bytes();
        match bytes.get(from..).and_then(<[u8]>::first_chunk::<MOVE_BYTES>) {
            Some(wide) if to - from <= MOVE_BYTES => {
                let end = self.bytes.len() + (to - from);
                self.bytes.extend_from_slice(wide);
                self.bytes.truncate(end);
            }
            _ => self.bytes.extend_from_slice(&bytes[from..to]),
        }
        self.end();
    }

    #[inline]
    pub fn push_null(&mut self) {
        self.ends.push(self.bytes.len() as i32);
        self.nulls.append_null();
    }

    #[inline]
    fn end(&mut self) {
        // Past 2 GiB this wraps; `finish` sees it.
        self.ends.push(self.bytes.len() as i32);
        self.nulls.append_non_null();
    }

    /// The column.
    ///
    /// # Errors
    /// More than 2 GiB of text, which one column cannot hold.
    pub fn finish(mut self) -> Result<StringArray> {
        if i32::try_from(self.bytes.len()).is_err() {
            return exec_err!("more than 2 GiB of text from one batch");
        }
        let ends = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        Ok(StringArray::try_new(ends, self.bytes.into(), self.nulls.finish())?)
    }
}
