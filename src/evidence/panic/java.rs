//! Java and its kin on the JVM: `Exception in thread "main" Type: message`, `Caused by:`, `Suppressed:`, `... 2 more`;
//! what printStackTrace wrote; the fatal error log (`hs_err`), which a JVM prints to stderr where it is told to. Exit
//! code 1 once the other threads have ended too, SIGABRT for a fatal error, 3 with ExitOnOutOfMemoryError.

#![forbid(unsafe_code)]

use super::fit::ABORTS;
use super::line;
use super::{Block, Dialect, Ends, Found, exception};
use crate::evidence::stack::{Exception, Frame};

pub fn at(lines: &[&str], at: usize) -> Option<Block> {
    uncaught(lines, at).or_else(|| fatal(lines, at)).or_else(|| out_of_memory(lines, at)).or_else(|| logged(lines, at))
}

fn uncaught(lines: &[&str], at: usize) -> Option<Block> {
    let line = lines[at];
    if let Some(rest) = line.strip_prefix("Error: Could not find or load main class ") {
        let ends = Ends { codes: &[1], last_word: true, ..Ends::default() };
        let causes = line::message_end(lines, at + 1, |line| !line.starts_with("Caused by: ")).unwrap_or(lines.len());
        let value = format!("Could not find or load main class {rest}");
        return Some(found(vec![exception("Error", &value, "UncaughtExceptionHandler", Vec::new())], ends, at, causes));
    }
    let (thread, text) = line.strip_prefix("Exception in thread \"")?.split_once("\" ")?;
    let (throwable, next) = throwable(lines, at, text, "")?;
    let ends = Ends { codes: &[1], thread_only: true, last_word: thread == "main", ..Ends::default() };
    Some(found(throwable.flat("UncaughtExceptionHandler"), ends, at, next))
}

/// A stack that a program printed: the head is a qualified type, and a call is near below it.
fn logged(lines: &[&str], at: usize) -> Option<Block> {
    let line = lines[at].strip_prefix("Caused by: ").unwrap_or(lines[at]);
    let (kind, _) = named(line)?;
    let qualified = kind.contains('.') || kind.ends_with("Exception") || kind.ends_with("Error");
    if !qualified || line.starts_with(char::is_whitespace) {
        return None;
    }
    lines[at + 1..].iter().take(20).find(|line| call(line, "").is_some())?;
    let (throwable, next) = throwable(lines, at, line, "")?;
    if throwable.frames.is_empty() {
        return None;
    }
    let ends = Ends { codes: &[1], ..Ends::default() };
    Some(found(throwable.flat("generic"), ends, at, next))
}

fn found(exceptions: Vec<Exception>, ends: Ends, at: usize, next: usize) -> Block {
    let found = Found { dialect: Dialect::Java, exceptions, threads: Vec::new(), ends, lines: (at, next) };
    Block { found: Some(found), next }
}

fn named(text: &str) -> Option<(&str, &str)> {
    line::named(text, ".$/@")
}

struct Throwable {
    kind: String,
    value: String,
    /// Innermost first, those that it has in common with what it caused included.
    frames: Vec<Frame>,
    /// Each with its place.
    below: Vec<(&'static str, Throwable)>,
}

/// Causes and suppressed ones within each other; deeper ones are left out.
const DEPTH: usize = 20;

fn throwable(lines: &[&str], at: usize, text: &str, indent: &str) -> Option<(Throwable, usize)> {
    within(lines, at, text, indent, &[], DEPTH)
}

/// The throwable whose head is `text`, on the line `at`. Its calls are indented by `indent` and a tab; `outer` are
/// those of what encloses it.
fn within(
    lines: &[&str],
    at: usize,
    text: &str,
    indent: &str,
    outer: &[Frame],
    depth: usize,
) -> Option<(Throwable, usize)> {
    let (kind, value) = named(text)?;
    let belongs = |line: &str| belongs(line, indent);
    let begin = line::message_end(lines, at + 1, belongs).filter(|&begin| {
        begin == at + 1 || !lines[at + 1..begin].iter().any(|line| line.starts_with("Exception in thread"))
    });
    let further = begin.map_or(&[][..], |begin| &lines[at + 1..begin]);
    let mut throwable =
        Throwable { kind: kind.to_owned(), value: line::joined(value, further), frames: Vec::new(), below: Vec::new() };
    let Some(begin) = begin else {
        throwable.value = value.to_owned();
        return Some((throwable, at + 1));
    };
    let mut next = begin;
    while let Some(i) = line::resume(lines, next, belongs) {
        let line = &lines[i][indent.len()..];
        next = i + 1;
        if let Some(frame) = call(lines[i], indent) {
            throwable.frames.push(frame);
        } else if let Some(common) = more(line) {
            let common = common.min(outer.len());
            throwable.frames.extend_from_slice(&outer[outer.len() - common..]);
        } else if depth > 0 {
            let (place, deeper, text) = match line.strip_prefix("Caused by: ") {
                Some(text) => ("cause", indent.to_owned(), text),
                None => ("suppressed", format!("{indent}\t"), line.trim_start().trim_start_matches("Suppressed: ")),
            };
            if let Some((below, after)) = within(lines, i, text, &deeper, &throwable.frames, depth - 1) {
                throwable.below.push((place, below));
                next = after;
            }
        }
    }
    Some((throwable, next))
}

fn belongs(line: &str, indent: &str) -> bool {
    let Some(line) = line.strip_prefix(indent) else { return false };
    ["\tat ", "\t... ", "Caused by: ", "\tSuppressed: "].iter().any(|begin| line.starts_with(begin))
}

/// `\t... 2 more`
fn more(line: &str) -> Option<usize> {
    line.strip_prefix("\t... ")?.split(' ').next()?.parse().ok()
}

/// `\tat java.base/java.lang.Thread.run(Thread.java:840)`
fn call(line: &str, indent: &str) -> Option<Frame> {
    let text = line.strip_prefix(indent)?.strip_prefix("\tat ")?;
    let (name, rest) = text.split_once('(')?;
    let (place, _) = rest.split_once(')')?;
    // Loader and module stand before the class: `app//`, `java.base@17/`.
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    let (class, _) = name.rsplit_once('.')?;
    let (file, line) = match place.rsplit_once(':') {
        Some((file, line)) => (Some(file), line::number(line)),
        None if place.contains(' ') => (None, None),
        None => (Some(place), None),
    };
    Some(Frame {
        function: Some(name.to_owned()),
        module: Some(class.to_owned()),
        file: file.map(str::to_owned),
        line,
        in_app: is_own(class),
        ..Frame::default()
    })
}

/// Neither the platform's nor one of the frameworks that call everybody.
fn is_own(class: &str) -> bool {
    const OTHERS: [&str; 24] = [
        "java.",
        "javax.",
        "jakarta.",
        "jdk.",
        "sun.",
        "com.sun.",
        "kotlin.",
        "kotlinx.",
        "scala.",
        "groovy.",
        "clojure.",
        "org.codehaus.groovy.",
        "org.springframework.",
        "org.apache.catalina.",
        "org.apache.tomcat.",
        "org.apache.coyote.",
        "org.hibernate.",
        "org.eclipse.jetty.",
        "io.netty.",
        "reactor.",
        "org.junit.",
        "io.micronaut.",
        "io.quarkus.",
        "com.google.common.",
    ];
    !OTHERS.iter().any(|begin| class.starts_with(begin))
}

impl Throwable {
    /// Oldest cause first; what was suppressed before what it was suppressed for.
    fn flat(self, mechanism: &str) -> Vec<Exception> {
        let mut out = Vec::new();
        self.into(&mut out);
        if let Some(last) = out.last_mut() {
            last.mechanism.kind = mechanism.to_owned();
        }
        out
    }

    fn into(self, out: &mut Vec<Exception>) {
        let mut direct = Vec::new();
        for (place, below) in self.below.into_iter().rev() {
            below.into(out);
            if let Some(last) = out.last_mut() {
                last.mechanism.source = Some(place.to_owned());
                direct.push(out.len() - 1);
            }
        }
        let parent = out.len();
        for i in direct {
            out[i].mechanism.parent = Some(parent);
        }
        out.push(exception(&self.kind, &self.value, "chained", self.frames));
    }
}

/// `Terminating due to java.lang.OutOfMemoryError: Java heap space`
fn out_of_memory(lines: &[&str], at: usize) -> Option<Block> {
    let rest = lines[at].strip_prefix("Terminating due to ").or_else(|| lines[at].strip_prefix("Aborting due to "))?;
    let (kind, value) = named(rest)?;
    let ends = Ends { codes: &[3], signals: ABORTS, last_word: true, ..Ends::default() };
    Some(found(vec![exception(kind, value, "UncaughtExceptionHandler", Vec::new())], ends, at, at + 1))
}

/// The head of the fatal error log, and its frames where they follow.
fn fatal(lines: &[&str], at: usize) -> Option<Block> {
    const HEADS: [&str; 2] = [
        "# A fatal error has been detected by the Java Runtime Environment:",
        "# There is insufficient memory for the Java Runtime Environment to continue.",
    ];
    if !HEADS.contains(&lines[at]) {
        return None;
    }
    let size = lines[at..].iter().take(60).take_while(|line| line.starts_with('#')).count();
    let head = &lines[at..at + size];
    let said: Vec<&str> =
        head[1..].iter().filter_map(|line| line.strip_prefix("#  ").or(line.strip_prefix("# "))).collect();
    let first = said.first().copied().unwrap_or_default();
    let signal = first.split_once(" (0x").map(|(name, _)| name).filter(|name| name.starts_with("SIG"));
    let problem = said.iter().position(|line| *line == "Problematic frame:").and_then(|i| said.get(i + 1)).copied();
    let (kind, value) = match (signal, problem) {
        (Some(signal), problem) => (signal, problem.and_then(native_name).unwrap_or_default()),
        (None, _) if lines[at] == HEADS[1] => ("java.lang.OutOfMemoryError", first.to_owned()),
        (None, _) if !first.starts_with("Internal Error") => return None,
        (None, _) => {
            ("Internal Error", said.get(1).filter(|line| !line.is_empty()).copied().unwrap_or(first).to_owned())
        }
    };
    let (frames, next) = native_frames(lines, at + size);
    let frames = if frames.is_empty() { problem.and_then(native_call).into_iter().collect() } else { frames };
    let ends = Ends { codes: &[1], signals: ABORTS, last_word: true, ..Ends::default() };
    Some(found(vec![exception(kind, &value, "signalhandler", frames)], ends, at, next))
}

/// `V  [libjvm.so+0xed2f94]  Unsafe_PutLong+0x124` as `Unsafe_PutLong in libjvm.so`.
fn native_name(line: &str) -> Option<String> {
    let frame = native_call(line)?;
    match (frame.function, frame.package) {
        (Some(function), Some(package)) => Some(format!("{function} in {package}")),
        (function, package) => function.or(package),
    }
}

/// How far below its head a fatal error log has its frames, and how long it may be.
const LOG_LINES: usize = 4000;

fn native_frames(lines: &[&str], begin: usize) -> (Vec<Frame>, usize) {
    let rest = &lines[begin..lines.len().min(begin + LOG_LINES)];
    if !rest.iter().take(3).any(|line| line.starts_with("---------------  S U M M A R Y")) {
        return (Vec::new(), begin);
    }
    let end = rest.iter().position(|line| *line == "END.").map_or(rest.len(), |end| end + 1);
    let native = rest[..end].iter().position(|line| line.starts_with("Native frames:"));
    let java = rest[..end].iter().position(|line| line.starts_with("Java frames:"));
    let frames = native.or(java).map_or(&[][..], |begin| &rest[begin + 1..end]);
    (frames.iter().map_while(|line| native_call(line)).collect(), begin + end)
}

/// One call of a mixed stack: `C`, `V`: native and the VM's; `j`, `J`: Java's, interpreted and compiled; `v`, `A`: stubs.
fn native_call(line: &str) -> Option<Frame> {
    let (sort, rest) = line.split_at_checked(1)?;
    let text = rest.strip_prefix(' ')?.trim_start();
    match sort {
        "C" | "V" => {
            let (image, function) = text.strip_prefix('[')?.split_once(']')?;
            let (package, offset) = image.split_once("+0x").unwrap_or((image, ""));
            let name = function.trim().split("+0x").next().unwrap_or_default().trim();
            Some(Frame {
                function: (!name.is_empty()).then(|| name.to_owned()),
                package: Some(package.to_owned()),
                in_app: sort == "C" && !offset.is_empty() && !package.starts_with("lib"),
                ..Frame::default()
            })
        }
        "j" | "J" | "A" => {
            let words = text.split(' ').find(|word| word.contains('(')).or_else(|| text.split(' ').next())?;
            let name = words.split('(').next()?;
            let class = name.rsplit_once('.').map(|(class, _)| class)?;
            Some(Frame {
                function: Some(name.to_owned()),
                module: Some(class.to_owned()),
                in_app: is_own(class),
                ..Frame::default()
            })
        }
        "v" => Some(Frame { function: Some(text.to_owned()), ..Frame::default() }),
        _ => None,
    }
}
