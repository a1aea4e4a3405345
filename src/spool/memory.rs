//! Reports in a memory file, for machines without a disk that takes them. It lives as long as init holds the fd.
//!
//! A better report is written behind the one before it, so whoever is killed in between leaves the one before.

#![forbid(unsafe_code)]

use super::format::{self, Unreadable};
use crate::limits;
use crate::sys::file::Status;
use nix::sys::uio;
use std::io;
use std::os::fd::AsFd;

/// A minimal report and its better version, with room for their headers.
const MEMORY_BYTES: u64 = 2 * limits::ENTRY_BYTES;

/// Adds a report; from here on it is the one that is read.
pub fn write(fd: impl AsFd, content: &[u8]) -> io::Result<()> {
    let bytes = format::encode(content);
    let mut at = Status::of(&fd)?.bytes;
    if at + bytes.len() as u64 > MEMORY_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the report is larger than any report can be"));
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let n = uio::pwrite(&fd, rest, at as i64)?;
        at += n as u64;
        rest = &rest[n..];
    }
    Ok(())
}

/// The last whole report.
pub fn read(fd: impl AsFd) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; Status::of(&fd)?.bytes.min(MEMORY_BYTES) as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match uio::pread(&fd, &mut bytes[filled..], filled as i64)? {
            0 => break,
            n => filled += n,
        }
    }
    bytes.truncate(filled);
    let mut last = Err(Unreadable::Corrupt("the memory file is empty"));
    let mut rest = &bytes[..];
    while let Ok((content, behind)) = format::split(rest) {
        last = Ok(content);
        rest = behind;
    }
    last.map(<[u8]>::to_vec).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::memory_file;

    #[test]
    fn the_better_report_is_read_and_the_first_one_while_it_is_not_whole() {
        let fd = memory_file(c"report").unwrap();
        assert!(read(&fd).is_err());
        write(&fd, b"minimal").unwrap();
        let minimal_bytes = Status::of(&fd).unwrap().bytes;
        write(&fd, b"in full").unwrap();
        assert_eq!(read(&fd).unwrap(), b"in full");
        for cut in minimal_bytes..minimal_bytes * 2 {
            nix::unistd::ftruncate(&fd, cut as i64).unwrap();
            assert_eq!(read(&fd).unwrap(), b"minimal", "cut at {cut}");
            nix::unistd::ftruncate(&fd, minimal_bytes as i64).unwrap();
            write(&fd, b"in full").unwrap();
        }
    }

    #[test]
    fn what_no_report_can_be_is_refused() {
        let fd = memory_file(c"report").unwrap();
        assert!(write(&fd, &vec![0; MEMORY_BYTES as usize]).is_err());
        assert_eq!(Status::of(&fd).unwrap().bytes, 0);
    }
}
