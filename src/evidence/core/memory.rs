//! The memory that a core file holds: its segments, by address. Nothing is copied before it is asked for.

#![forbid(unsafe_code)]

use crate::evidence::memory::Memory;

/// Segments by address, each with as many bytes as the file has of it.
#[derive(Debug, Default)]
pub struct CoreMemory {
    segments: Vec<(u64, &'static [u8])>,
}

impl CoreMemory {
    /// In any order; of two that overlap the one with the higher address is read from its beginning on.
    pub(super) fn new(segments: impl Iterator<Item = (u64, &'static [u8])>) -> CoreMemory {
        let mut segments: Vec<_> = segments.filter(|(_, bytes)| !bytes.is_empty()).collect();
        segments.sort_by_key(|(start, _)| *start);
        CoreMemory { segments }
    }
}

impl Memory for CoreMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let Some(at) = address.checked_add(done as u64) else { break };
            let after = self.segments.partition_point(|(start, _)| *start <= at);
            let Some((start, bytes)) = after.checked_sub(1).map(|last| self.segments[last]) else { break };
            let found = usize::try_from(at - start).ok().and_then(|skip| bytes.get(skip..)).unwrap_or_default();
            if found.is_empty() {
                break;
            }
            let n = found.len().min(into.len() - done);
            into[done..done + n].copy_from_slice(&found[..n]);
            done += n;
        }
        done
    }

    fn is_at_hand(&self) -> bool {
        true
    }
}
