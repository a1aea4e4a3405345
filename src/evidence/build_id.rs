//! The GNU build id of an ELF file: what tells one build of a program from another.

#![forbid(unsafe_code)]

use object::read::{Object as _, ReadCache};
use std::fs::File;

/// In hex. The error says why there is none, for the gap.
pub fn of(file: &File) -> Result<String, String> {
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    if !is_file {
        return Err("the program is no regular file".to_owned());
    }
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).map_err(|_| "the program is a script, or no ELF file".to_owned())?;
    match elf.build_id() {
        Ok(Some(id)) if !id.is_empty() && id.len() <= 64 => Ok(id.iter().map(|byte| format!("{byte:02x}")).collect()),
        Ok(_) => Err("the program was linked without one (ld --build-id)".to_owned()),
        Err(error) => Err(format!("the program's notes cannot be read ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn what_is_no_elf_file_is_named_and_hostile_bytes_do_no_harm() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"#!/bin/sh\n").unwrap();
        assert_eq!(of(&file).unwrap_err(), "the program is a script, or no ELF file");
        let own = std::fs::read("/proc/self/exe").unwrap();
        for cut in [0, 4, 64, 65, 500, own.len() / 2] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&own[..cut]).unwrap();
            assert!(of(&file).is_err() || cut > 500);
        }
    }
}
