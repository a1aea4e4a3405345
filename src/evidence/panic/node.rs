//! Node: the place and the line that threw, a caret, the error with its stack, its properties and causes, the version.
//! Exit code 1, or 7 from a handler that threw. Out of memory and process.abort() end with SIGABRT and two stacks,
//! native and JavaScript's. An error that a program logs itself looks the same without the place above it.

#![forbid(unsafe_code)]

use super::fit::ABORTS;
use super::line::{self, place};
use super::{Block, Dialect, Ends, Found, exception};
use crate::evidence::stack::{Exception, Frame};

pub fn at(lines: &[&str], at: usize) -> Option<Block> {
    thrown(lines, at).or_else(|| aborted(lines, at)).or_else(|| logged(lines, at))
}

/// `/srv/crash.js:3`, the source line, the caret.
fn thrown(lines: &[&str], at: usize) -> Option<Block> {
    let origin = place(lines[at]).filter(|place| place.column.is_none() && is_script(place.file))?;
    let caret = (at + 1..lines.len().min(at + 4)).find(|&i| is_caret(lines[i]))?;
    let mut begin = caret + 1;
    while lines.get(begin).is_some_and(|line| line.trim().is_empty()) {
        begin += 1;
    }
    let first = lines.get(begin)?;
    let (mut exceptions, mut next) = match error(lines, begin) {
        Some(parsed) => parsed,
        // Something was thrown that is no error: text, or an object over several lines.
        None => {
            let end = line::message_end(lines, begin, |line| {
                line.is_empty() || line.starts_with("(Use `node") || line.starts_with("Thrown at:") || is_footer(line)
            });
            let end = end.unwrap_or(begin + 1);
            let first = first.strip_prefix("Uncaught ").unwrap_or(first);
            let text = line::joined(first, lines.get(begin + 1..end).unwrap_or_default());
            let frame = origin.frame(None, is_own(origin.file));
            (vec![exception("Uncaught", &text, "onuncaughtexception", vec![frame])], end)
        }
    };
    if let Some(last) = exceptions.last_mut() {
        last.mechanism.kind = "onuncaughtexception".to_owned();
        // What does not compile has no call of its own.
        let stack = last.stack.get_or_insert_default();
        if is_own(origin.file) && !stack.frames.iter().any(|frame| frame.in_app) {
            stack.frames.insert(0, origin.frame(None, true));
        }
    }
    if let Some(footer) = lines.iter().skip(next).take(4).position(|line| is_footer(line)) {
        next += footer + 1;
    }
    let ends = Ends { codes: &[1, 7], last_word: true, ..Ends::default() };
    Some(Block { found: Some(found(exceptions, ends, at, next)), next })
}

/// An error with its stack, as console.error or a warning prints it.
fn logged(lines: &[&str], at: usize) -> Option<Block> {
    const HEADS: [&str; 3] = ["error: Uncaught (in promise) ", "error: Uncaught ", "Uncaught "];
    let line = lines[at];
    if let Some((_, text)) =
        line.split_once(" UnhandledPromiseRejectionWarning: ").filter(|_| line.starts_with("(node:"))
    {
        let (exceptions, next) = error_of(lines, at, text)?;
        // Before Node 15 this was a warning, and the process went on.
        return Some(Block { found: Some(found(exceptions, Ends::default(), at, next)), next });
    }
    let text = HEADS.iter().find_map(|head| line.strip_prefix(head)).unwrap_or(line);
    if line.starts_with(char::is_whitespace) {
        return None;
    }
    let (exceptions, next) = error_of(lines, at, text)?;
    exceptions.last()?.stack.as_ref()?;
    let ends = Ends { codes: &[1], ..Ends::default() };
    Some(Block { found: Some(found(exceptions, ends, at, next)), next })
}

fn found(exceptions: Vec<Exception>, ends: Ends, at: usize, next: usize) -> Found {
    Found { dialect: Dialect::Node, exceptions, threads: Vec::new(), ends, lines: (at, next) }
}

fn is_script(file: &str) -> bool {
    const ENDINGS: [&str; 8] = [".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx"];
    ENDINGS.iter().any(|ending| file.ends_with(ending))
        || file.starts_with("node:")
        || file.starts_with("evalmachine")
        || file.starts_with('[') && file.ends_with(']')
}

fn is_caret(line: &str) -> bool {
    line.contains('^') && line.len() < 4096 && line.bytes().all(|b| matches!(b, b' ' | b'\t' | b'^' | b'~'))
}

fn is_footer(line: &str) -> bool {
    line.strip_prefix("Node.js v").is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
}

fn error(lines: &[&str], at: usize) -> Option<(Vec<Exception>, usize)> {
    error_of(lines, at, lines[at].strip_prefix("Uncaught ").unwrap_or(lines[at]))
}

/// The error whose first line is `text`: message, calls, and the properties in braces with the causes among them.
fn error_of(lines: &[&str], at: usize, text: &str) -> Option<(Vec<Exception>, usize)> {
    // An error without calls is printed in brackets.
    if let Some(inner) = text.strip_prefix('[')
        && let Some((inner, rest)) = inner.rsplit_once(']')
        && let Some((kind, value)) = head(inner)
    {
        let main = exception(kind, value, "generic", Vec::new());
        let (causes, next) = if rest.trim() == "{" { properties(lines, at + 1) } else { (Vec::new(), at + 1) };
        return Some((chained(causes, main, None), next));
    }
    let (kind, value) = head(text)?;
    let begin = line::message_end(lines, at + 1, |line| call(line).is_some())?;
    if begin > at + 40 {
        return None;
    }
    let (calls, next, braces) = calls(lines, begin);
    let (causes, next) = if braces { properties(lines, next) } else { (Vec::new(), next) };
    let value = line::joined(value, &lines[at + 1..begin]);
    let main = exception(kind, &value, "generic", calls.frames);
    Some((chained(causes, main, calls.common), next))
}

/// The causes before what they caused, which gets the calls that it left to them.
fn chained(
    mut causes: Vec<(String, Exception)>,
    mut main: Exception,
    common: Option<(usize, usize)>,
) -> Vec<Exception> {
    let parent = causes.len();
    if let (Some((_, cause)), Some(stack)) = (causes.iter().find(|(place, _)| place == "cause"), &mut main.stack)
        && let (Some(theirs), Some((at, count))) = (&cause.stack, common.filter(|(at, _)| *at <= stack.frames.len()))
    {
        let after = stack.frames.len() - at;
        let end = theirs.frames.len().saturating_sub(after);
        let shared = theirs.frames[end.saturating_sub(count)..end].to_vec();
        stack.frames.splice(at..at, shared);
    }
    for (place, cause) in &mut causes {
        cause.mechanism.kind = "chained".to_owned();
        cause.mechanism.source = Some(place.clone());
        cause.mechanism.parent = Some(parent);
    }
    main.mechanism.is_group = causes.iter().any(|(place, _)| place.starts_with("errors"));
    causes.into_iter().rev().map(|(_, cause)| cause).chain([main]).collect()
}

/// `TypeError: message`, `Error [ERR_X]: message`, `Error: message`.
fn head(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    let name = name.split(" [").next().unwrap_or(name);
    let is_error = line::is_name(name, ".$");
    (is_error && (value.is_empty() || value.starts_with(' '))).then_some((name, value.trim_start()))
}

struct Calls {
    frames: Vec<Frame>,
    /// Before which one, and how many, calls were left to the cause.
    common: Option<(usize, usize)>,
}

/// The calls, the line after them, and whether properties follow.
fn calls(lines: &[&str], begin: usize) -> (Calls, usize, bool) {
    let mut calls = Calls { frames: Vec::new(), common: None };
    let mut at = begin;
    let belongs = |line: &str| call(line).is_some() || matching(line).is_some();
    while let Some(i) = line::resume(lines, at, belongs) {
        at = i + 1;
        if let Some(count) = matching(lines[i]) {
            calls.common = Some((calls.frames.len(), count));
            continue;
        }
        calls.frames.extend(call(lines[i]));
        if lines[i].ends_with(" {") {
            return (calls, at, true);
        }
        // One of a list.
        if lines[i].ends_with(',') {
            break;
        }
    }
    (calls, at, false)
}

/// `    ... 5 lines matching cause stack trace ...`
fn matching(line: &str) -> Option<usize> {
    line.trim_start().strip_prefix("... ")?.split_once(" lines matching cause stack trace")?.0.parse().ok()
}

/// `    at async Object.custom [as x] (/srv/crash.js:9:20)`, `    at /srv/crash.js:9:20`
fn call(line: &str) -> Option<Frame> {
    let text = line.trim_start_matches(' ').strip_prefix("at ").filter(|_| line.starts_with("   "))?;
    let text = text.strip_suffix(" {").or_else(|| text.strip_suffix(',')).unwrap_or(text);
    let text = text.strip_prefix("async ").unwrap_or(text);
    let (function, location) = match text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")) {
        Some((function, location)) => (Some(function), location),
        None => (None, text),
    };
    let location = location.strip_prefix("file://").unwrap_or(location);
    let function =
        function.map(|name| name.split(" [as ").next().unwrap_or(name)).filter(|name| *name != "<anonymous>");
    match place(location).filter(|place| place.column.is_some()) {
        Some(place) => Some(place.frame(function, is_own(place.file))),
        None if matches!(location, "native" | "<anonymous>") || location.starts_with("index ") => {
            Some(Frame { function: function.map(str::to_owned), ..Frame::default() })
        }
        None => None,
    }
}

/// Neither Node's own nor a dependency's.
fn is_own(file: &str) -> bool {
    file.contains('/')
        && !file.starts_with("node:")
        && !file.starts_with("internal/")
        && !file.contains("/node_modules/")
}

/// What stands in the braces after the calls, of which causes and grouped errors matter, to the closing brace.
fn properties(lines: &[&str], begin: usize) -> (Vec<(String, Exception)>, usize) {
    const LINES: usize = 500;
    let mut causes = Vec::new();
    let mut errors = None;
    let mut at = begin;
    while at < lines.len().min(begin + LINES) {
        let line = lines[at];
        let text = line.trim_start();
        let place = match (text.strip_prefix("[cause]: "), errors) {
            (Some(text), _) => Some(("cause".to_owned(), text)),
            (None, Some(n)) if head(text).is_some() && line.starts_with("    ") => Some((format!("errors[{n}]"), text)),
            _ => None,
        };
        errors = errors.or((text == "[errors]: [").then_some(0_usize));
        if let Some((place, text)) = place
            && let Some((kind, value)) = head(text)
            && let Some(below) = line::message_end(lines, at + 1, |line| call(line).is_some())
            && below < at + 20
        {
            let (calls, next, _) = calls(lines, below);
            let value = line::joined(value, &lines[at + 1..below]);
            causes.push((place, exception(kind, &value, "chained", calls.frames)));
            errors = errors.map(|n| n + 1);
            at = next;
        } else if line == "}" {
            return (causes, at + 1);
        } else {
            at += 1;
        }
    }
    (causes, begin)
}

/// `FATAL ERROR: … heap out of memory`, V8's `# Fatal error in`, or process.abort(), with native and JavaScript stacks.
fn aborted(lines: &[&str], at: usize) -> Option<Block> {
    let line = lines[at];
    let (kind, value, begin) = if let Some(value) = line.strip_prefix("FATAL ERROR: ") {
        ("FATAL ERROR", value.to_owned(), at + 1)
    } else if line.starts_with("# Fatal error in ") {
        let said = lines.get(at + 1).and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
        ("FATAL ERROR", said.to_owned(), at + 2)
    } else if line == "----- Native stack trace -----" || native(line).is_some_and(|frame| frame.address.is_some()) {
        ("abort", String::new(), at)
    } else {
        return None;
    };
    let mut native_calls = Vec::new();
    let mut calls = Vec::new();
    let mut next = begin;
    let belongs = |line: &str| native(line).is_some() || script(line).is_some() || line.starts_with("----- ");
    while let Some(i) = line::resume(lines, next, belongs) {
        native_calls.extend(native(lines[i]));
        calls.extend(script(lines[i]));
        next = i + 1;
    }
    if kind == "abort" && native_calls.is_empty() {
        return None;
    }
    native_calls.append(&mut calls);
    let ends = Ends { codes: &[5], signals: ABORTS, last_word: true, ..Ends::default() };
    Some(Block {
        found: Some(found(vec![exception(kind, &value, "signalhandler", native_calls)], ends, at, next)),
        next,
    })
}

/// ` 1: 0xa1ae50 node::Abort() [/usr/bin/node]`
fn native(line: &str) -> Option<Frame> {
    let (number, rest) = line.trim_start().split_once(": 0x")?;
    line::number(number)?;
    let (text, package) = rest.strip_suffix(']')?.rsplit_once(" [")?;
    let (address, function) = text.split_once(' ').unwrap_or((text, ""));
    Some(Frame {
        function: (!function.trim().is_empty()).then(|| function.trim().to_owned()),
        address: Some(u64::from_str_radix(address, 16).ok()?),
        package: Some(package.to_owned()),
        ..Frame::default()
    })
}

/// `1: abort (/srv/shop/crash.js:20:21)`
fn script(line: &str) -> Option<Frame> {
    let (number, rest) = line.trim_start().split_once(": ")?;
    line::number(number).filter(|_| !number.is_empty() && !rest.starts_with("0x"))?;
    call(&format!("    at {rest}"))
}
