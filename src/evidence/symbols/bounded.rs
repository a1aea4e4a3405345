//! Debug information read with an end in sight: gimli's reader over bytes in memory, which counts.
//!
//! A few bytes of DWARF can stand for any amount of work: one line program that ten thousand units share, a directory of a
//! megabyte in front of every file name, inlined functions nested until the stack is full. All of it goes through the reader,
//! so the reader ends it: each step is paid for, and when nothing is left, or the stack has grown too far, it answers that the
//! section has ended. A cut result is as good as none, and the symbol table still has the name.

#![forbid(unsafe_code)]

use gimli::{EndianSlice, LittleEndian, Reader, ReaderOffsetId, Result};
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Steps for all the files of one process together, some seconds of work. A whole browser's debug information takes a fifth.
const STEPS: u64 = 1 << 30;
/// Bytes that are decompressed for them, all together.
const DECOMPRESSED_BYTES: u64 = 1 << 30;
/// Of the stack, from where a question was asked. Inlined functions nest some sixty deep at worst.
const STACK_BYTES: usize = 1 << 20;

/// What may still be spent. Its copies spend from the same purse.
#[derive(Clone, Debug)]
pub struct Purse(Arc<Left>);

#[derive(Debug)]
struct Left {
    steps: AtomicU64,
    decompressed_bytes: AtomicU64,
}

impl Default for Purse {
    fn default() -> Purse {
        Purse(Arc::new(Left { steps: STEPS.into(), decompressed_bytes: DECOMPRESSED_BYTES.into() }))
    }
}

impl Purse {
    /// Runs something that reads through [`Bounded`], at the cost of the steps that it takes.
    pub fn spend<T>(&self, task: impl FnOnce() -> T) -> T {
        let mark = 0u8;
        let before = self.0.steps.load(Relaxed);
        LEFT.set(before);
        BASE.set(&raw const mark as usize);
        let result = task();
        self.0.steps.fetch_sub(before - LEFT.replace(0), Relaxed);
        result
    }

    /// Whether there is room for so many bytes more; then they are taken.
    pub fn take_bytes(&self, bytes: u64) -> bool {
        let left = &self.0.decompressed_bytes;
        left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }
}

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(0) };
    static BASE: Cell<usize> = const { Cell::new(0) };
}

/// Bytes of a section.
#[derive(Clone, Copy, Debug)]
pub struct Bounded(EndianSlice<'static, LittleEndian>);

impl Bounded {
    pub fn new(bytes: &'static [u8]) -> Bounded {
        Bounded(EndianSlice::new(bytes, LittleEndian))
    }

    pub fn bytes(&self) -> &'static [u8] {
        self.0.slice()
    }

    /// Pays for one step and for what lies in it.
    fn pay(&self, bytes: usize) -> Result<()> {
        let mark = 0u8;
        let stack = BASE.get().abs_diff(&raw const mark as usize);
        let left = LEFT.get().checked_sub(1 + bytes as u64 / 8).filter(|_| stack < STACK_BYTES);
        match left {
            Some(left) => {
                LEFT.set(left);
                Ok(())
            }
            None => Err(gimli::Error::UnexpectedEof(self.0.offset_id())),
        }
    }
}

impl Reader for Bounded {
    type Endian = LittleEndian;
    type Offset = usize;

    fn endian(&self) -> LittleEndian {
        LittleEndian
    }

    fn len(&self) -> usize {
        Reader::len(&self.0)
    }

    fn empty(&mut self) {
        self.0.empty();
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.0.truncate(len)
    }

    fn offset_from(&self, base: &Bounded) -> usize {
        self.0.offset_from(base.0)
    }

    fn offset_id(&self) -> ReaderOffsetId {
        self.0.offset_id()
    }

    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        self.0.lookup_offset_id(id)
    }

    fn find(&self, byte: u8) -> Result<usize> {
        let at = Reader::find(&self.0, byte)?;
        self.pay(at)?;
        Ok(at)
    }

    fn skip(&mut self, len: usize) -> Result<()> {
        self.pay(0)?;
        self.0.skip(len)
    }

    fn split(&mut self, len: usize) -> Result<Bounded> {
        self.pay(0)?;
        self.0.split(len).map(Bounded)
    }

    fn to_slice(&self) -> Result<Cow<'_, [u8]>> {
        self.0.to_slice()
    }

    fn to_string(&self) -> Result<Cow<'_, str>> {
        self.pay(Reader::len(&self.0))?;
        Reader::to_string(&self.0)
    }

    fn to_string_lossy(&self) -> Result<Cow<'_, str>> {
        self.pay(Reader::len(&self.0))?;
        Reader::to_string_lossy(&self.0)
    }

    fn read_slice(&mut self, buf: &mut [u8]) -> Result<()> {
        self.pay(0)?;
        Reader::read_slice(&mut self.0, buf)
    }

    fn read_u8(&mut self) -> Result<u8> {
        self.pay(0)?;
        self.0.read_u8()
    }
}
