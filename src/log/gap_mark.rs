//! Below which offset gaps may lie between a log's batches ([`super::gaps`]), durable before the first of them is.
//!
//! Two files say it. The checkpoint says it of what there is; it changes with the very swap that makes a gap. The partition file
//! says it beforehand, of all that a compaction is about to touch or a leader has sent: it is what a log goes by whose checkpoint is
//! lost, or whose gaps are younger than its checkpoint. One that says too much costs nothing but some of the watchfulness for
//! changed base offsets; one that said too little would have sound batches taken for damage. So a crash between the two files is
//! harmless in either order but one, which is the one that is never used.

use aquifer_model::Offset;

use super::books::BooksError;
use super::checkpoint::PartitionFile;
use super::error::{ChangeError, FollowerAppendError};
use super::handle::Log;
use super::layout;
use super::state::{Books, Condition};

impl Log {
    pub(super) fn partition_file(&self, gap_mark: Offset) -> PartitionFile {
        PartitionFile { partition: self.partition(), topic: self.topic().clone(), gaps_below: Some(gap_mark) }
    }

    /// Makes it durable that gaps may lie below this offset. Blocks, where that is news.
    pub(super) fn raise_gap_mark(&self, books: &mut Books, below: Offset) -> Result<(), ChangeError> {
        if below <= books.gap_mark {
            return Ok(());
        }
        // While the books are held, it is not deleted.
        if self.state.lock().condition == Condition::Closed {
            return Err(ChangeError::Closed);
        }
        self.write_gap_mark(books, below).map_err(|error| self.books_failed(error))
    }

    /// The same, of gaps that a leader has.
    pub(super) fn expect_gaps(&self, below: Offset) -> Result<(), FollowerAppendError> {
        self.raise_gap_mark(&mut self.books.lock(), below).map_err(|error| match error {
            ChangeError::Full => FollowerAppendError::Full,
            ChangeError::Closed => FollowerAppendError::Closed,
            // Writing a small file fails for no other reasons.
            _ => FollowerAppendError::Failed,
        })
    }

    /// Takes back what was said of offsets that are no more: others will have them.
    pub(super) fn lower_gap_mark(&self, books: &mut Books, below: Offset) {
        if below < books.gap_mark
            && let Err(BooksError { path, error }) = self.write_gap_mark(books, below)
        {
            tracing::warn!(path = %path.display(), %error, "a partition file goes on to allow for gaps that were cut off");
        }
    }

    /// Has the partition file say what it did not say, because an older program wrote it or because it was lost.
    pub(super) fn note_gap_mark(&self) -> Result<(), ChangeError> {
        let mut books = self.books.lock();
        let mark = books.gap_mark;
        self.write_gap_mark(&mut books, mark).map_err(|error| self.books_failed(error))
    }

    fn write_gap_mark(&self, books: &mut Books, below: Offset) -> Result<(), BooksError> {
        let path = self.path().join(layout::PARTITION);
        let written = self.shared.world.disk.write_atomic(&path, &self.partition_file(below).encode());
        written.map_err(|error| BooksError { path, error })?;
        books.gap_mark = below;
        Ok(())
    }
}
