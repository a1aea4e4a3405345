//! The remembered end of a stream: a ring that takes memory only as far as it was ever filled.

#![forbid(unsafe_code)]

use crate::case::Tail;
use crate::sys::memory::Pages;
use std::io;

/// The last `capacity` bytes of a stream.
#[derive(Debug)]
pub struct Ring {
    pages: Pages,
    /// Where the next byte goes.
    next: usize,
    total: u64,
}

impl Ring {
    /// Reserves address space for `capacity` bytes; memory comes with the first write.
    pub fn new(capacity: usize) -> io::Result<Ring> {
        Ok(Ring { pages: Pages::new(capacity)?, next: 0, total: 0 })
    }

    /// Lets `read` fill the free run at the write position with at most `limit` bytes, and takes what it says it read.
    pub fn fill(&mut self, limit: usize, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        let end = self.pages.len().min(self.next + limit);
        let n = read(&mut self.pages[self.next..end])?;
        self.next = (self.next + n) % self.pages.len();
        self.total += n as u64;
        Ok(n)
    }

    /// The bytes of the last `fill`, when it took `n`.
    pub fn last(&self, n: usize) -> &[u8] {
        let end = if self.next == 0 && n > 0 { self.pages.len() } else { self.next };
        &self.pages[end - n..end]
    }

    /// How many bytes it remembers at most.
    pub fn capacity(&self) -> usize {
        self.pages.len()
    }

    /// How many bytes went through.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The last byte of the stream so far.
    pub fn last_byte(&self) -> Option<u8> {
        (self.total > 0).then(|| self.pages[(self.next + self.pages.len() - 1) % self.pages.len()])
    }

    /// What is remembered, oldest byte first.
    pub fn tail(&self) -> Tail {
        let capacity = self.pages.len();
        let mut bytes = Vec::new();
        if self.total >= capacity as u64 {
            bytes.extend_from_slice(&self.pages[self.next..]);
        }
        bytes.extend_from_slice(&self.pages[..self.next]);
        Tail { bytes, total_bytes: self.total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ring: &mut Ring, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let n = ring
                .fill(bytes.len(), |room| {
                    let n = room.len().min(bytes.len());
                    room[..n].copy_from_slice(&bytes[..n]);
                    Ok(n)
                })
                .unwrap();
            assert_eq!(ring.last(n), &bytes[..n]);
            bytes = &bytes[n..];
        }
    }

    #[test]
    fn the_ring_keeps_the_last_bytes_in_order_and_counts_all() {
        for capacity in [1, 2, 7, 16] {
            let mut ring = Ring::new(capacity).unwrap();
            let mut all = Vec::new();
            assert_eq!(ring.last_byte(), None);
            for round in 0..40u8 {
                let piece: Vec<u8> = (0..round % 9).map(|n| n.wrapping_mul(round)).collect();
                push(&mut ring, &piece);
                all.extend_from_slice(&piece);
                let expected = &all[all.len().saturating_sub(capacity)..];
                assert_eq!(ring.tail(), Tail { bytes: expected.to_vec(), total_bytes: all.len() as u64 });
                assert_eq!(ring.last_byte(), all.last().copied());
            }
        }
    }
}
