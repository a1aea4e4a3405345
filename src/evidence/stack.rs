//! Stacks and exceptions as evidence finds them, whatever found them: a panic text, a core file, a live process.
//!
//! Frames stand innermost first, as debuggers print them; exceptions stand oldest cause first, as Sentry wants its
//! `exception.values`. All text in here is the program's own and not yet scrubbed.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One call. Inline frames are frames of their own that share their `address`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Frame {
    /// Demangled, as a person would write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// What the language calls the place of a function: a Java class, a Python module, a Go package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Path of the source file as the program or its debug info has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The program counter: of the fault in the innermost frame, of the return into the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
    /// The symbol as the linker knows it, where it differs from `function`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Where that symbol begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol_address: Option<u64>,
    /// Path of the ELF file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Where that file is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_address: Option<u64>,
    /// The program's own code, not its runtime's or a library's.
    #[serde(default)]
    pub in_app: bool,
    /// How the unwinder came to it; `None` for frames that a runtime printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
}

/// How an unwinder found a frame, best first, in Sentry's words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// The registers of the thread.
    Context,
    /// Call frame information.
    Cfi,
    /// The chain of frame pointers, or the return address of a call to where there is no code.
    Fp,
    /// Something on the stack that looks like a return address.
    Scan,
}

/// The calls of one thread.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Stack {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// Of the innermost frame, by their DWARF names (`rip`, `x0`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registers: BTreeMap<String, u64>,
    /// What was left out of a stack too deep to be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<Omitted>,
}

/// A hole in a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Omitted {
    /// Index of the frame before which the hole is.
    pub before: usize,
    /// How many frames are missing there; 0 when nobody knows.
    pub frames: u64,
}

/// One exception, panic or fatal signal.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Exception {
    /// `ValueError`, `java.lang.IllegalStateException`, `panic`, `SIGSEGV`: Sentry's `type`.
    pub kind: String,
    /// What it said of itself; empty when it said nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<Stack>,
    /// The thread it happened in, as [`ThreadStack::tid`] has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<u64>,
    pub mechanism: Mechanism,
}

/// How an exception came to us, Sentry's `mechanism`. Whatever ended a process was not handled.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Mechanism {
    /// `signalhandler` for a signal, `panic`, `onuncaughtexception` …, `chained` for a cause.
    pub kind: String,
    /// The place of a group's member or of a cause among its siblings (`__cause__`, `exceptions[1]`, `cause`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Index of the exception in the chain that this one is a part or a cause of, in the order in which they are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<usize>,
    /// It holds others (an exception group).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_group: bool,
}

/// What one thread was doing at the death.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ThreadStack {
    /// Of the kernel, or the number that the runtime gave (a goroutine's).
    pub tid: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it waited for, in the words of its runtime (`chan receive`, `select`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// At most one of all is: the one whose exception or signal ended the process.
    #[serde(default)]
    pub crashed: bool,
    pub stack: Stack,
}

/// An ELF file that was mapped into the process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Image {
    pub file: String,
    /// GNU build id in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// Where it begins, as [`Frame::image_address`] has it.
    pub address: u64,
    pub size: u64,
}

impl Image {
    /// What Sentry finds debug files by; `None` without a build id.
    pub fn debug_id(&self) -> Option<String> {
        debug_id(self.build_id.as_deref()?)
    }
}

/// The first 16 bytes of a build id as a GUID whose first three fields are little-endian; a short one is filled up.
fn debug_id(code_id: &str) -> Option<String> {
    let digits: Vec<&str> = (0..code_id.len() / 2).map(|n| code_id.get(n * 2..n * 2 + 2)).collect::<Option<_>>()?;
    if digits.is_empty() || digits.iter().any(|pair| u8::from_str_radix(pair, 16).is_err()) {
        return None;
    }
    let byte = |n: usize| digits.get(n).copied().unwrap_or("00");
    let group = |places: &[usize]| places.iter().map(|n| byte(*n)).collect::<String>().to_lowercase();
    let groups =
        [group(&[3, 2, 1, 0]), group(&[5, 4]), group(&[7, 6]), group(&[8, 9]), group(&[10, 11, 12, 13, 14, 15])];
    Some(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debug_id_is_the_guid_of_a_build_id() {
        let table = [
            ("68220ae2c65d65c1b6aaa12fa6765a6ec2f5f434", Some("e20a2268-5dc6-c165-b6aa-a12fa6765a6e")),
            ("68220AE2", Some("e20a2268-0000-0000-0000-000000000000")),
            ("", None),
            ("no", None),
            ("éé", None),
        ];
        for (code_id, debug_id) in table {
            assert_eq!(super::debug_id(code_id).as_deref(), debug_id, "{code_id}");
        }
    }

    #[test]
    fn what_is_not_known_takes_no_room_and_reads_back() {
        let frame = Frame { function: Some("main".to_owned()), in_app: true, ..Frame::default() };
        let stack = Stack { frames: vec![frame], ..Stack::default() };
        let text = serde_json::to_string(&stack).unwrap();
        assert_eq!(text, r#"{"frames":[{"function":"main","in_app":true}]}"#);
        assert_eq!(serde_json::from_str::<Stack>(&text).unwrap(), stack);
    }
}
