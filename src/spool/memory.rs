//! A report in a memory file, for machines without a disk that takes it. It lives as long as init holds the fd.

#![forbid(unsafe_code)]

use crate::limits;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;

/// Replaces the content.
pub fn write(fd: OwnedFd, content: &[u8]) -> io::Result<()> {
    let mut file = File::from(fd);
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(content)
}

/// The whole content.
pub fn read(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let mut file = File::from(fd);
    file.rewind()?;
    let mut content = Vec::new();
    file.take(limits::ENTRY_BYTES).read_to_end(&mut content)?;
    Ok(content)
}
