//! Memory read by the page, for one thread: its stack is read word by word, and each word of a live process is a system call.

#![forbid(unsafe_code)]

use crate::evidence::memory::Memory;
use std::cell::RefCell;
use std::collections::HashMap;

const PAGE: usize = 4096;
/// At a time where each costs a system call; the stack of a thread that waits takes a page or two.
const READ: usize = 16 * PAGE;
/// At most 16 MiB; then it is begun anew.
const KEPT: usize = 256;

pub struct Pages<'m, M> {
    memory: &'m M,
    block_bytes: usize,
    kept: RefCell<HashMap<u64, Vec<u8>>>,
}

impl<'m, M: Memory> Pages<'m, M> {
    pub fn new(memory: &'m M) -> Pages<'m, M> {
        let block_bytes = if memory.is_at_hand() { PAGE } else { READ };
        Pages { memory, block_bytes, kept: RefCell::default() }
    }
}

impl<M: Memory> Memory for Pages<'_, M> {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let Some(at) = address.checked_add(done as u64) else { break };
            let start = at & !(self.block_bytes as u64 - 1);
            let mut kept = self.kept.borrow_mut();
            if kept.len() >= KEPT {
                kept.clear();
            }
            let bytes = kept.entry(start).or_insert_with(|| self.memory.some(start, self.block_bytes));
            let found = bytes.get((at - start) as usize..).unwrap_or_default();
            if found.is_empty() {
                // A hole in the block, behind which there may be more.
                drop(kept);
                let read = self.memory.read(at, &mut into[done..]);
                return done + read;
            }
            let n = found.len().min(into.len() - done);
            into[done..done + n].copy_from_slice(&found[..n]);
            done += n;
        }
        done
    }
}
