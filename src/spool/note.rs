//! What the sender notes beside the entries: small files of its own, replaced as a whole.
//!
//! Only the holder of the sender's lock writes one. It is not synced: what a power cut takes costs one request too many.

#![forbid(unsafe_code)]

use super::Spool;
use crate::sys::file::{Access, FileKind, Status};
use std::io::{self, Read as _, Write as _};

/// A larger file is not ours.
const NOTE_BYTES: u64 = 64 * 1024;

impl Spool {
    /// The note's text; `None` when there is none of ours.
    pub fn note(&self, name: &str) -> Option<String> {
        let file = self.dir().open_file(name, Access::Read).ok()?;
        let status = Status::of(&file).ok()?;
        if status.kind != FileKind::Regular || status.bytes > NOTE_BYTES {
            return None;
        }
        let mut text = String::new();
        file.take(NOTE_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Replaces the note.
    pub fn replace_note(&self, name: &str, text: &str) -> io::Result<()> {
        let hidden = format!(".{name}");
        // What a killed sender left.
        let _ = self.dir().remove(&hidden);
        let written = self.dir().create(&hidden).and_then(|mut file| file.write_all(text.as_bytes()));
        let replaced = written.and_then(|()| self.dir().rename(&hidden, self.dir(), name));
        replaced.inspect_err(|_| {
            let _ = self.dir().remove(&hidden);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_back_replaced_and_never_a_link_or_a_fifo() {
        let temp = tempfile::tempdir().unwrap();
        let spool = Spool::open(temp.path()).unwrap();
        assert_eq!(spool.note("n"), None);
        spool.replace_note("n", "one").unwrap();
        std::fs::write(spool.root().join(".n"), "left by somebody who was killed").unwrap();
        spool.replace_note("n", "two").unwrap();
        assert_eq!(spool.note("n").as_deref(), Some("two"));
        nix::unistd::mkfifo(&spool.root().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", spool.root().join("link")).unwrap();
        std::fs::write(spool.root().join("huge"), vec![b'x'; NOTE_BYTES as usize + 1]).unwrap();
        assert_eq!(["fifo", "link", "huge"].map(|name| spool.note(name)), [None, None, None]);
    }
}
