//! What the program said as it died, as the report has it: masked, in one line, and as what makes two deaths alike.

#![forbid(unsafe_code)]

use super::scrub::Scrubber;
use super::{Gap, Report};
use crate::evidence::panic::Reading;
use crate::evidence::stack::{Exception, Frame, Stack};

/// Puts a reading of stderr into the report; `scrubber` sees every text of it first.
pub fn put(report: &mut Report, reading: Reading, scrubber: &mut Scrubber) {
    if let Some(why) = reading.passed_over {
        report.gaps.push(Gap { what: "exception".to_owned(), why: scrubber.text(&why) });
    }
    let Some(mut found) = reading.found else { return };
    for exception in &mut found.exceptions {
        mask(&mut exception.value, scrubber);
        mask(&mut exception.kind, scrubber);
        exception.stack.iter_mut().for_each(|stack| mask_stack(stack, scrubber));
    }
    for thread in &mut found.threads {
        thread.name.iter_mut().for_each(|name| mask(name, scrubber));
        mask_stack(&mut thread.stack, scrubber);
    }
    report.fingerprint.extend(found.exceptions.last().map(likeness).unwrap_or_default());
    report.exceptions = found.exceptions;
    if report.threads.is_empty() {
        report.threads = found.threads;
    }
}

pub(super) fn mask_stack(stack: &mut Stack, scrubber: &mut Scrubber) {
    for frame in &mut stack.frames {
        [&mut frame.function, &mut frame.module, &mut frame.file].into_iter().flatten().for_each(|t| mask(t, scrubber));
    }
}

pub(super) fn mask(text: &mut String, scrubber: &mut Scrubber) {
    *text = scrubber.text(text);
}

/// Frames that make two stacks alike; further out all of a program's stacks are.
const LIKE_FRAMES: usize = 5;

/// What a death has in common with others of its kind: the type and the program's own calls, innermost first. No line
/// numbers, which move with every edit, and no message, which holds whatever the program was busy with; only where
/// there is no call, and the message is the runtime's own, it stands for them.
pub(super) fn likeness(exception: &Exception) -> Vec<String> {
    const FIXED: [&str; 4] = ["SIGABRT", "std::terminate", "stack overflow", "Fatal Python error"];
    let own = exception.stack.as_ref().map(calls_in_common).unwrap_or_default();
    let fixed = own.is_empty() && FIXED.contains(&exception.kind.as_str());
    let message = exception.value.lines().next().filter(|_| fixed).map(str::to_owned);
    std::iter::once(exception.kind.clone()).chain(own).chain(message).collect()
}

/// The program's own calls that two stacks share if they are alike, innermost first.
pub(super) fn calls_in_common(stack: &Stack) -> Vec<String> {
    stack.frames.iter().filter(|frame| frame.in_app).take(LIKE_FRAMES).filter_map(call_name).collect()
}

fn call_name(frame: &Frame) -> Option<String> {
    let file = || frame.file.as_deref().map(|file| file.rsplit('/').next().unwrap_or(file).to_owned());
    match (&frame.function, &frame.module) {
        (Some(function), Some(module)) if !function.starts_with(module.as_str()) => {
            Some(format!("{module}.{function}"))
        }
        (Some(function), _) => Some(function.clone()),
        (None, _) => file(),
    }
}

/// Characters of a message in a line about many things.
const HEADLINE_CHARS: usize = 120;

/// `KeyError: 'book'`, for lists; `None` where the program said nothing.
pub fn headline(report: &Report) -> Option<String> {
    let exception = report.exceptions.last()?;
    let value = exception.value.lines().next().unwrap_or_default();
    let line = match value {
        "" => exception.kind.clone(),
        // The list says it already.
        value if exception.kind == report.kind => value.to_owned(),
        value => format!("{}: {value}", exception.kind),
    };
    Some(match line.char_indices().nth(HEADLINE_CHARS) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, module: Option<&str>, line: u32, in_app: bool) -> Frame {
        let module = module.map(str::to_owned);
        Frame { function: Some(function.to_owned()), module, line: Some(line), in_app, ..Frame::default() }
    }

    fn thrown(kind: &str, value: &str, frames: Vec<Frame>) -> Exception {
        let stack = Some(Stack { frames, ..Stack::default() });
        Exception { kind: kind.to_owned(), value: value.to_owned(), stack, ..Exception::default() }
    }

    #[test]
    fn deaths_are_alike_by_type_and_own_calls_and_not_by_message_or_line() {
        let one = thrown("KeyError", "'a'", vec![frame("get", None, 1, false), frame("load", Some("shop"), 7, true)]);
        let other = thrown("KeyError", "'b'", vec![frame("pop", None, 2, false), frame("load", Some("shop"), 9, true)]);
        assert_eq!(likeness(&one), likeness(&other));
        assert_eq!(likeness(&one), ["KeyError", "shop.load"]);
        let elsewhere = thrown("KeyError", "'a'", vec![frame("save", Some("shop"), 7, true)]);
        assert_ne!(likeness(&one), likeness(&elsewhere));
        assert_eq!(likeness(&thrown("panic", "user 4711", Vec::new())), ["panic"]);
        assert_eq!(
            likeness(&thrown("SIGABRT", "free(): invalid pointer", Vec::new())),
            ["SIGABRT", "free(): invalid pointer"]
        );
    }
}
