//! What an autopsy found, as the report has it: masked, and with the signal as the exception where the program said nothing.

#![forbid(unsafe_code)]

use super::said::{calls_in_common, likeness, mask, mask_stack};
use super::scrub::Scrubber;
use super::{Gap, Report};
use crate::evidence::autopsy::Autopsy;
use crate::evidence::stack::{Exception, Mechanism};

/// For a signal that the program sent to itself.
const RAISED: &str = "raised by the program itself";
/// For one that it caught, and then sent to itself.
const AGAIN: &str = "raised again by the program's own handler";
/// Threads that are kept, the one that crashed among them; Sentry shows a few dozen.
const THREADS: usize = 512;

/// Puts an autopsy into a report that has the program's last words already; `scrubber` sees every text of it first.
pub fn put(report: &mut Report, mut autopsy: Autopsy, scrubber: &mut Scrubber) {
    report.gaps.extend(autopsy.gaps.iter().map(|gap| Gap::of(&scrubber.text(gap))));
    autopsy.threads.sort_by_key(|thread| !thread.crashed);
    if autopsy.threads.len() > THREADS {
        report.gaps.push(Gap {
            what: "threads".to_owned(),
            why: format!("{} more than a report keeps", autopsy.threads.len() - THREADS),
        });
        autopsy.threads.truncate(THREADS);
    }
    for thread in &mut autopsy.threads {
        thread.name.iter_mut().for_each(|name| mask(name, scrubber));
        mask_stack(&mut thread.stack, scrubber);
    }
    let crashed = autopsy.threads.iter().find(|thread| thread.crashed);
    let cause = autopsy.signal.and_then(|signal| match signal.sender_pid {
        // As abort(3) does; its pid would make each run look like another.
        Some(sender) if Some(sender) == report.process.pid => {
            Some(match autopsy.fault.and_then(|fault| fault.cause()) {
                Some(fault) => format!("{fault}, {AGAIN}"),
                None => RAISED.to_owned(),
            })
        }
        _ => signal.cause(),
    });
    let value = autopsy.abort_message.as_deref().map(|message| scrubber.text(message)).or(cause);
    match report.exceptions.last_mut() {
        None if report.exit.signal.is_some() => {
            let stack = crashed.map(|thread| thread.stack.clone());
            let told = Exception { kind: report.kind.clone(), stack, ..Exception::default() };
            report.fingerprint.extend(likeness(&told).into_iter().skip(1));
            report.exceptions.push(Exception {
                value: value.unwrap_or_else(|| report.summary.clone()),
                // The stack stands with the thread.
                stack: None,
                thread: crashed.map(|thread| thread.tid),
                mechanism: Mechanism { kind: "signalhandler".to_owned(), ..Mechanism::default() },
                ..told
            });
        }
        // The runtime said what happened, the stack says where.
        Some(last) if last.stack.is_none() => {
            last.thread = last.thread.or(crashed.map(|thread| thread.tid));
            report.fingerprint.extend(crashed.map(|thread| calls_in_common(&thread.stack)).unwrap_or_default());
        }
        _ => {}
    }
    report.process.threads_at_death = u32::try_from(autopsy.threads.len()).ok();
    report.images = autopsy.images;
    report.minidump = autopsy.minidump;
    // A runtime that printed its own threads (goroutines, Java's) knows them better than its machine code does.
    if report.threads.is_empty() {
        report.threads = autopsy.threads;
    }
}

#[cfg(test)]
mod tests;
