//! .NET: `Unhandled exception. Type: message`, inner exceptions after ` ---> `, FailFast, stack overflow; SIGABRT. Mono
//! prints nearly the same, twice, and ends with 1.

#![forbid(unsafe_code)]

use super::fit::ABORTS;
use super::line::{self, place};
use super::{Block, Dialect, Ends, Found, exception};
use crate::evidence::stack::{Exception, Frame};

pub fn at(lines: &[&str], at: usize) -> Option<Block> {
    unhandled(lines, at).or_else(|| ended(lines, at))
}

fn unhandled(lines: &[&str], at: usize) -> Option<Block> {
    let line = lines[at];
    let core = line.strip_prefix("Unhandled exception. ").or_else(|| line.strip_prefix("Fatal error. "));
    let framework = line.strip_prefix("Unhandled Exception: ");
    let mono = (line == "Unhandled Exception:").then(|| lines.get(at + 1).copied()).flatten();
    let text = core.or(framework).or(mono)?;
    let begin = at + usize::from(mono.is_some());
    let (exceptions, mut next) = chain(lines, begin, text)?;
    // Mono repeats itself.
    let again = lines.get(next).and_then(|line| line.strip_prefix("[ERROR] FATAL UNHANDLED EXCEPTION: "));
    if let Some((_, behind)) = again.and_then(|again| chain(lines, next, again)) {
        next = behind;
    }
    let codes: &[u8] = if mono.is_some() { &[1] } else { &[] };
    let ends = Ends { codes, signals: ABORTS, last_word: true, ..Ends::default() };
    Some(found(exceptions, ends, at, next))
}

/// Deaths without an exception object.
fn ended(lines: &[&str], at: usize) -> Option<Block> {
    let (kind, value) = match lines[at] {
        "Stack overflow." => ("System.StackOverflowException", ""),
        "Out of memory." => ("System.OutOfMemoryException", ""),
        line => ("Environment.FailFast", line.strip_prefix("Process terminated. ")?),
    };
    let mut frames = Vec::new();
    let mut next = at + 1;
    let between = |line: &str| line.starts_with("Repeat ") || line.starts_with("-----");
    while let Some(i) = line::resume(lines, next, |line| call(line).is_some() || between(line)) {
        frames.extend(call(lines[i]));
        next = i + 1;
    }
    let ends = Ends { signals: ABORTS, last_word: true, ..Ends::default() };
    Some(found(vec![exception(kind, value, "AppDomain.UnhandledException", frames)], ends, at, next))
}

fn found(exceptions: Vec<Exception>, ends: Ends, at: usize, next: usize) -> Block {
    let found = Found { dialect: Dialect::DotNet, exceptions, threads: Vec::new(), ends, lines: (at, next) };
    Block { found: Some(found), next }
}

fn named(text: &str) -> Option<(&str, &str)> {
    line::named(text, ".`+")
}

/// Links in a chain; a hostile text may have one on every line.
const LINKS: usize = 50;

/// The heads come first, the outermost before the others, each with its message; then the calls, the innermost
/// exception's before the others', with a line between them. `None` if the text is no head.
fn chain(lines: &[&str], at: usize, text: &str) -> Option<(Vec<Exception>, usize)> {
    named(text)?;
    let mut links: Vec<(String, String, Vec<Frame>)> = Vec::new();
    let push = |text: &str, links: &mut Vec<(String, String, Vec<Frame>)>| {
        for (i, part) in text.split(" ---> ").enumerate().take(LINKS) {
            match named(part) {
                Some((kind, value)) if links.len() < LINKS => {
                    links.push((kind.to_owned(), value.trim_end().to_owned(), Vec::new()));
                }
                _ => {
                    if let Some((_, value, _)) = links.last_mut() {
                        value.push_str(if i == 0 { "\n" } else { " ---> " });
                        value.push_str(part);
                    }
                }
            }
        }
    };
    push(text, &mut links);
    if links.is_empty() {
        return None;
    }
    let begin = line::message_end(lines, at + 1, |line| call(line).is_some()).unwrap_or(at + 1);
    for line in &lines[at + 1..begin] {
        match line.trim_start().strip_prefix("---> ") {
            Some(text) => push(text, &mut links),
            None => {
                // A further line of a message; in Mono's style the next head may stand at its end.
                let mut parts = line.splitn(2, " ---> ");
                if let (Some((_, value, _)), Some(rest)) = (links.last_mut(), parts.next()) {
                    value.push('\n');
                    value.push_str(rest);
                }
                parts.next().into_iter().for_each(|text| push(text, &mut links));
            }
        }
    }
    let mut current = links.len() - 1;
    let mut next = begin;
    let between = |line: &str| line.trim_start().starts_with("--- End of ");
    while let Some(i) = line::resume(lines, next, |line| call(line).is_some() || between(line)) {
        if lines[i].contains("--- End of inner exception stack trace ---") {
            current = current.saturating_sub(1);
        }
        links[current].2.extend(call(lines[i]));
        next = i + 1;
        // The members of an AggregateException are told again, one by one.
        if lines
            .get(next)
            .is_some_and(|line| line.starts_with(" ---> (Inner Exception #") || line.starts_with("---> (Inner"))
        {
            next = line::message_end(lines, next, |line| line.trim_end().ends_with("<---"))
                .map_or(next + 1, |end| end + 1);
            while lines.get(next).is_some_and(|line| line.is_empty()) {
                next += 1;
            }
            break;
        }
    }
    let newest = links.len() - 1;
    let exceptions = links.into_iter().rev().enumerate().map(|(i, (kind, value, frames))| {
        let mechanism = if i == newest { "AppDomain.UnhandledException" } else { "chained" };
        let mut exception = exception(&kind, &value, mechanism, frames);
        exception.mechanism.parent = (i < newest).then_some(i + 1);
        exception.mechanism.source = (i < newest).then(|| "InnerException".to_owned());
        exception
    });
    Some((exceptions.collect(), next))
}

/// `   at Shop.Crash.Main(String[] args) in /src/Crash.cs:line 12`; Mono: `  at A.B (T t) [0x00] in <hash>:0 `
fn call(line: &str) -> Option<Frame> {
    let text = line.strip_prefix("   at ").or_else(|| line.strip_prefix("  at "))?.trim_end();
    let (call, location) = text.rsplit_once(" in ").map_or((text, None), |(call, location)| (call, Some(location)));
    let open = call.find('(')?;
    let name = call[..open].trim_end();
    let class = name.rsplit_once('.').map(|(class, _)| class.trim_end_matches('.'))?;
    let source = location.filter(|location| !location.starts_with('<'));
    let (file, line) = match source.and_then(|location| location.rsplit_once(":line ")) {
        Some((file, number)) => (Some(file.to_owned()), line::number(number)),
        None => source.and_then(place).map_or((None, None), |place| (Some(place.file.to_owned()), Some(place.line))),
    };
    let own = !["System.", "Microsoft.", "Internal."].iter().any(|begin| name.starts_with(begin));
    Some(Frame {
        function: Some(name.to_owned()),
        module: Some(class.to_owned()),
        file,
        line,
        in_app: own,
        ..Frame::default()
    })
}
