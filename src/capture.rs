//! The role that looks at a process which init holds still at a signal that will kill it: stacks first, so that it may go on dying,
//! then their names, and what was found into a memory file for the examiner.
//!
//! Like the examiner it works in a cage. The process's files are opened before it closes; inside, code and debug files
//! beside them may be read, and nothing else.

#![forbid(unsafe_code)]

use crate::case::Held;
use crate::config::Settings;
use crate::evidence::autopsy::{self, Autopsy};
use crate::evidence::images::{self, Files};
use crate::evidence::live::{self, LiveMemory, Taken};
use crate::evidence::minidump;
use crate::evidence::symbols::Roots;
use crate::evidence::unwind;
use crate::spool::memory;
use crate::sys::confine::{self, Cage};
use crate::sys::fd;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

/// The result is of no meaning to init; what was found is in the file. `held.done` is closed with our end, behind it.
pub fn capture(held: Held, settings: &Settings) -> u8 {
    let autopsy = look(&held, settings).unwrap_or_else(|gap| Autopsy { gaps: vec![gap], ..Autopsy::default() });
    let written = memory::write(&held.found, &serde_json::to_vec(&autopsy).unwrap_or_default());
    u8::from(written.is_err())
}

fn look(held: &Held, settings: &Settings) -> Result<Autopsy, String> {
    let file = |fd: &OwnedFd| {
        fd.try_clone().map(File::from).map_err(|error| format!("stacks: no fd is left to read them ({error})"))
    };
    let (mem, maps, auxv) = (file(&held.mem)?, file(&held.maps)?, file(&held.auxv)?);
    let taken = Taken {
        pid: held.pid,
        tid: held.tid,
        siginfo: &held.siginfo,
        registers: &held.registers,
        maps: &maps,
        auxv: &auxv,
    };
    let snapshot = live::snapshot(&taken)?;
    let files = Files::opened(&snapshot.mappings);
    let roots = Roots::new(settings.debug_dirs.iter().cloned());
    let readable = roots.to_read(files.paths().iter().map(PathBuf::as_path));
    let mut gaps = confine::confine(Cage { writable: &[], readable: &readable, mapped: files.bytes() });

    let memory = LiveMemory(mem);
    let (images, not_loaded) = images::loaded(&snapshot, &memory, &files);
    let unwound = unwind::all(&snapshot, &memory, &images);
    let abort_message = autopsy::abort_message(&images, &memory);
    let minidump = settings.minidump.then(|| minidump::of(&snapshot, &memory, &images));
    let _ = fd::write(held.done.as_fd(), b"!");

    let named = autopsy::name(unwound, &images, &roots);
    gaps.extend(held.gaps.iter().cloned().chain(snapshot.gaps).chain(not_loaded).chain(named.gaps));
    Ok(Autopsy { signal: snapshot.signal, abort_message, minidump, gaps, ..named })
}
