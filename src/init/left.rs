//! What is left of the program's family when it has ended: every descendant that is not one of our workers.
//!
//! Found by walking `/proc/<pid>/task/*/children` from ourselves, so that neighbours in a shared PID namespace are never
//! touched. Direct children cannot be recycled before we reap them; deeper ones are signalled through a pidfd whose
//! parent was checked again after it was opened. Without that file PID 1 has kill(-1), which ends at its namespace.

#![forbid(unsafe_code)]

use crate::sys::fd::read_small;
use crate::sys::process;
use crate::sys::signal::Signal;
use std::ffi::CString;

/// One list of children; a family that is larger is signalled in rounds, as its members die.
const LIST_BYTES: usize = 64 * 1024;
/// Descendants signalled in one round.
const ROUND: usize = 4096;

/// Sends the signal to all that is left except `workers` (and their children). Returns how many were found.
pub fn signal_all(signal: Signal, workers: &[i32]) -> usize {
    let own = process::own_pid();
    let Some(direct) = children_of(own) else {
        if own == 1 {
            process::kill_all(signal);
        }
        return 0;
    };
    let mut found: Vec<i32> = direct.into_iter().filter(|pid| !workers.contains(pid)).collect();
    for &pid in &found {
        let _ = process::kill(pid, signal);
    }
    let mut next = 0;
    while next < found.len() && found.len() < ROUND {
        let parent = found[next];
        next += 1;
        for child in children_of(parent).unwrap_or_default() {
            let Some(pidfd) = process::pidfd(child) else { continue };
            // The number may have gone to somebody else between the list and the pidfd: then its parent is another.
            if children_of(parent).is_some_and(|list| list.contains(&child)) {
                let _ = process::kill_by_pidfd(&pidfd, signal);
                found.push(child);
            }
        }
    }
    found.len()
}

/// How many direct children there are besides `workers`; `None` where /proc cannot tell.
pub fn count(workers: &[i32]) -> Option<usize> {
    let children = children_of(process::own_pid())?;
    Some(children.iter().filter(|pid| !workers.contains(pid)).count())
}

/// The children of all threads of a process; `None` where /proc has no such file.
fn children_of(pid: i32) -> Option<Vec<i32>> {
    // The file of the main thread lists the children it forked; those of other threads are in their own files.
    let own_file = CString::new(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let mut pids = parse(&read_small(&own_file, LIST_BYTES)?);
    if pid != process::own_pid()
        && let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task"))
    {
        for thread in threads.flatten() {
            let name = thread.file_name();
            if name.to_str() == Some(pid.to_string().as_str()) {
                continue;
            }
            let path = thread.path().join("children");
            if let Ok(path) = CString::new(path.into_os_string().into_encoded_bytes()) {
                pids.extend(parse(&read_small(&path, LIST_BYTES).unwrap_or_default()));
            }
        }
    }
    Some(pids)
}

fn parse(list: &[u8]) -> Vec<i32> {
    list.split(u8::is_ascii_whitespace).filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_children_is_numbers_between_blanks() {
        assert_eq!(parse(b"12 345 \n"), [12, 345]);
        assert_eq!(parse(b""), [] as [i32; 0]);
        assert_eq!(parse(b"x 7 99999999999"), [7]);
    }
}
