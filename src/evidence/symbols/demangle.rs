//! The names of linkers as people write them: Rust and C++.
//!
//! A mangled name of a few hundred bytes can stand for one of any length, so what is written is cut at a limit.

#![forbid(unsafe_code)]

use std::fmt::{self, Write};

/// Longer ones are left as they are. Real names of deep templates take tens of KiB.
const MANGLED_BYTES: usize = 64 * 1024;
/// What is kept of a name; Sentry keeps fewer.
const BYTES: usize = 4 * 1024;

/// `None` if the name is not mangled, so that it is right as it is.
pub fn demangle(name: &str) -> Option<String> {
    if name.len() > MANGLED_BYTES {
        return None;
    }
    let mut out = Cut::default();
    if is_rust(name) {
        let demangled = rustc_demangle::try_demangle(name).ok()?;
        let _ = write!(out, "{demangled:#}");
    } else if name.starts_with("_Z") {
        let options = cpp_demangle::DemangleOptions::new().no_return_type().hide_expression_literal_types();
        let parsed = cpp_demangle::Symbol::new(name.as_bytes()).ok()?;
        if parsed.structured_demangle(&mut out, &options).is_err() && !out.is_full {
            return None;
        }
    }
    if out.is_full {
        out.text.push('…');
    }
    (!out.text.is_empty()).then_some(out.text)
}

/// Whether rustc made the name.
pub fn is_rust(name: &str) -> bool {
    name.starts_with("_R") || is_legacy_rust(name)
}

/// `_ZN…17h0123456789abcdefE`, perhaps with what LLVM appended: C++ has no such names.
fn is_legacy_rust(name: &str) -> bool {
    let Some(at) = name.strip_prefix("_ZN").and_then(|rest| rest.find("17h")) else { return false };
    name[at..].match_indices("17h").any(|(hash, _)| {
        let hash = &name.as_bytes()[at + hash + 3..];
        hash.len() > 16 && hash[..16].iter().all(u8::is_ascii_hexdigit) && hash[16] == b'E'
    })
}

#[derive(Default)]
struct Cut {
    text: String,
    is_full: bool,
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(BYTES - self.text.len().min(BYTES));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.push_str(&text[..end]);
        self.is_full |= end < text.len();
        if self.is_full { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_read_as_they_were_written() {
        let table = [
            ("main", None),
            ("_start", None),
            ("_ZN3app4main17h0123456789abcdefE", Some("app::main")),
            ("_ZN3app4main17h0123456789abcdefE.llvm.17", Some("app::main")),
            (
                "_ZN61_$LT$alloc..vec..Vec$LT$T$GT$$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE",
                Some("<alloc::vec::Vec<T> as core::fmt::Debug>::fmt"),
            ),
            ("_RNvCs1234_7mycrate3foo", Some("mycrate::foo")),
            ("_ZN5space3fooEibc", Some("space::foo(int, bool, char)")),
            ("_Z1fIiEiT_", Some("f<int>(int)")),
            ("_ZN3foo3barEv.cold", Some("foo::bar() [clone .cold]")),
            ("_ZN12_GLOBAL__N_13runEv", Some("(anonymous namespace)::run()")),
            ("_Znope", None),
        ];
        for (mangled, expected) in table {
            assert_eq!(demangle(mangled).as_deref(), expected, "{mangled}");
        }
    }

    #[test]
    fn a_name_that_unfolds_without_end_is_cut() {
        // Each argument is a pair of the one before, so the last would take 2^40 words.
        let mut bomb = String::from("_Z1fSt4pairIiiE");
        for i in 0..40 {
            let before = if i == 0 { "S0_".to_owned() } else { format!("S{}_", base36(i)) };
            bomb += &format!("S_I{before}{before}E");
        }
        let name = demangle(&bomb);
        assert!(name.is_none_or(|name| name.len() <= BYTES + '…'.len_utf8()));
        let long = format!("_Z1fI{}EvT_", "i".repeat(5000));
        assert!(demangle(&long).is_none_or(|name| name.len() <= BYTES + '…'.len_utf8()));
        assert_eq!(demangle(&"_Z".repeat(MANGLED_BYTES)), None);
    }

    fn base36(n: usize) -> String {
        const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        if n < 36 { char::from(DIGITS[n]).to_string() } else { base36(n / 36) + &base36(n % 36) }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_foreign_name_does_no_harm(name in "(_Z|_ZN|_R|_RNv)[A-Za-z0-9_$.]{0,200}") {
            if let Some(demangled) = demangle(&name) {
                prop_assert!(demangled.len() <= BYTES + '…'.len_utf8());
            }
        }
    }
}
