//! The memory of a process at its death, wherever it lies now: in a core file, in a frozen process, in pieces of its stacks.
//!
//! Whoever reads it knows nothing of the source. What lies there was written by the program that crashed, so nothing in
//! it is believed: every length that is read from it is bounded by the reader.

#![forbid(unsafe_code)]

/// Readable memory by address.
pub trait Memory {
    /// Copies the bytes from `address` on; returns how many of them there are before the first that cannot be read.
    fn read(&self, address: u64, into: &mut [u8]) -> usize;

    /// Whether reading costs no system call, as where it lies in a file that is mapped.
    fn is_at_hand(&self) -> bool {
        false
    }

    /// All `N` bytes, or nothing.
    fn bytes<const N: usize>(&self, address: u64) -> Option<[u8; N]>
    where
        Self: Sized,
    {
        let mut bytes = [0; N];
        (self.read(address, &mut bytes) == N).then_some(bytes)
    }

    /// A little-endian word; every architecture that is unwound here is little-endian.
    fn word(&self, address: u64) -> Option<u64>
    where
        Self: Sized,
    {
        self.bytes(address).map(u64::from_le_bytes)
    }

    /// What there is of `len` bytes.
    fn some(&self, address: u64, len: usize) -> Vec<u8>
    where
        Self: Sized,
    {
        let mut bytes = vec![0; len];
        let read = self.read(address, &mut bytes);
        bytes.truncate(read);
        bytes
    }
}

impl<M: Memory> Memory for &M {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        M::read(self, address, into)
    }

    fn is_at_hand(&self) -> bool {
        M::is_at_hand(self)
    }
}

/// Memory that was copied piece by piece while the process stood still.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    /// By address, none overlapping.
    pieces: Vec<(u64, Vec<u8>)>,
}

impl Pieces {
    /// In any order. Of two that overlap the one with the lower address stands, and the other keeps what lies behind it.
    pub fn new(mut pieces: Vec<(u64, Vec<u8>)>) -> Pieces {
        pieces.sort_by_key(|(address, _)| *address);
        let mut end = 0u64;
        for (address, bytes) in &mut pieces {
            let covered = end.saturating_sub(*address).min(bytes.len() as u64);
            bytes.drain(..covered as usize);
            *address += covered;
            end = end.max(address.saturating_add(bytes.len() as u64));
        }
        pieces.retain(|(_, bytes)| !bytes.is_empty());
        Pieces { pieces }
    }
}

impl Memory for Pieces {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        let first = self.pieces.partition_point(|(start, bytes)| start.saturating_add(bytes.len() as u64) <= address);
        for (start, bytes) in &self.pieces[first..] {
            let Some(skip) = address.checked_add(done as u64).and_then(|at| at.checked_sub(*start)) else { break };
            let found = bytes.get(skip as usize..).unwrap_or_default();
            let n = found.len().min(into.len() - done);
            into[done..done + n].copy_from_slice(&found[..n]);
            done += n;
            if n == 0 || done == into.len() {
                break;
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_read_across_their_borders_and_no_further_than_the_first_hole() {
        let memory = Pieces::new(vec![
            (0x2000, vec![3; 16]),
            (0x1000, vec![1; 16]),
            (0x1010, vec![2; 16]),
            (0x1008, vec![9; 10]),
            (u64::MAX - 3, vec![7; 3]),
        ]);
        let table: [(u64, usize, &[u8]); 7] = [
            (0x1000, 4, &[1; 4]),
            (0x100c, 8, &[1, 1, 1, 1, 9, 9, 2, 2]),
            (0x101c, 100, &[2; 4]),
            (0xfff, 4, &[]),
            (0x1020, 4, &[]),
            (0x2008, 8, &[3; 8]),
            (u64::MAX - 3, 16, &[7; 3]),
        ];
        for (address, len, expected) in table {
            assert_eq!(memory.some(address, len), expected, "{address:#x}");
        }
        assert_eq!(memory.word(0x2000), Some(0x0303_0303_0303_0303));
        assert_eq!(memory.word(0x200c), None);
    }
}
