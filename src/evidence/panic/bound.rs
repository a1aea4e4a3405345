//! The caps on what may come out of a text that somebody else wrote.

#![forbid(unsafe_code)]

use crate::evidence::stack::{Exception, Frame, Omitted, Stack, ThreadStack};

/// Sentry takes no more of an exception's value.
const VALUE_BYTES: usize = 8 * 1024;
/// Names of functions, types and files; C++ templates are the longest that were seen to matter.
const NAME_BYTES: usize = 1024;
/// Sentry keeps 250 frames of a stack: the innermost and the outermost half.
const FRAMES: usize = 250;
/// Exceptions of a chain or of all groups together.
const EXCEPTIONS: usize = 50;
/// Threads, and frames of all of them together.
const THREADS: usize = 256;
const THREAD_FRAMES: usize = 4096;

/// Cuts everything down to its cap.
pub fn bound(exceptions: &mut Vec<Exception>, threads: &mut Vec<ThreadStack>) {
    let surplus = exceptions.len().saturating_sub(EXCEPTIONS);
    exceptions.drain(..surplus);
    for exception in exceptions.iter_mut() {
        cut(&mut exception.kind, NAME_BYTES);
        cut(&mut exception.value, VALUE_BYTES);
        let mechanism = &mut exception.mechanism;
        mechanism.parent = mechanism.parent.and_then(|parent| parent.checked_sub(surplus));
        exception.stack.iter_mut().for_each(|stack| trim(stack, FRAMES));
    }
    threads.truncate(THREADS);
    let mut room = THREAD_FRAMES;
    for thread in threads.iter_mut() {
        thread.name.iter_mut().chain(&mut thread.state).for_each(|text| cut(text, NAME_BYTES));
        trim(&mut thread.stack, room.min(FRAMES));
        room -= thread.stack.frames.len().min(room);
    }
}

/// Keeps the innermost and the outermost frames, as a person would.
fn trim(stack: &mut Stack, frames: usize) {
    let surplus = stack.frames.len().saturating_sub(frames);
    if surplus > 0 {
        let innermost = frames - frames / 2;
        stack.frames.drain(innermost..innermost + surplus);
        let known = stack.omitted.map_or(0, |omitted| omitted.frames);
        stack.omitted = Some(Omitted { before: innermost, frames: known + surplus as u64 });
    }
    stack.frames.iter_mut().for_each(name_lengths);
}

fn name_lengths(frame: &mut Frame) {
    let texts = [&mut frame.function, &mut frame.module, &mut frame.file, &mut frame.symbol, &mut frame.package];
    texts.into_iter().flatten().for_each(|text| cut(text, NAME_BYTES));
}

fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}
