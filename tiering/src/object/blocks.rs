//! Checksums of a log's blocks, computed while its bytes pass by and are at hand in the processor's cache.

use crc_fast::{CrcAlgorithm, Digest};

use super::BLOCK_BYTES;

/// Sums up a run of blocks, piece by piece.
#[derive(Debug)]
pub struct BlockSums {
    done: Vec<u32>,
    current: Digest,
    in_current: usize,
}

/// Before the first byte of a block.
impl Default for BlockSums {
    fn default() -> BlockSums {
        BlockSums { done: Vec::new(), current: Digest::new(CrcAlgorithm::Crc32Iscsi), in_current: 0 }
    }
}

impl BlockSums {
    /// The bytes that follow.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = bytes.len().min(BLOCK_BYTES as usize - self.in_current);
            let (these, rest) = bytes.split_at(count);
            self.current.update(these);
            self.in_current += count;
            bytes = rest;
            if self.in_current == BLOCK_BYTES as usize {
                self.close();
            }
        }
    }

    /// The CRC-32C of each block; the last may be short.
    pub fn finish(&mut self) -> Vec<u32> {
        if self.in_current > 0 {
            self.close();
        }
        std::mem::take(&mut self.done)
    }

    fn close(&mut self) {
        self.done.push(self.current.finalize_reset() as u32);
        self.in_current = 0;
    }
}
