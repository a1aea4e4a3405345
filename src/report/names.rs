//! The names that Sentry takes for a release and an environment. An event with another one loses it, a session is refused.
//!
//! Measured on Relay's own normaliser (PyPI sentry-relay 0.10): blanks around are cut; no slash, backslash or control
//! character; 200 and 64 bytes; not `.`, `..`, `latest` (a release) or `none` (an environment).

#![forbid(unsafe_code)]

const RELEASE_BYTES: usize = 200;
const ENVIRONMENT_BYTES: usize = 64;

/// The release as Sentry takes it.
pub fn release(name: &str) -> Option<&str> {
    taken(name, RELEASE_BYTES, "latest")
}

/// The environment as Sentry takes it.
pub fn environment(name: &str) -> Option<&str> {
    taken(name, ENVIRONMENT_BYTES, "none")
}

fn taken<'a>(name: &'a str, bytes: usize, reserved: &str) -> Option<&'a str> {
    let name = name.trim();
    let refused = name.is_empty()
        || name.len() > bytes
        || name.contains(|c: char| matches!(c, '/' | '\\') || c.is_control())
        || matches!(name, "." | "..")
        || name.eq_ignore_ascii_case(reserved);
    (!refused).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_the_server_takes_them() {
        let (longest, too_long) = ("x".repeat(200), "é".repeat(101));
        let table = [
            ("app@1.2.3+4", Some("app@1.2.3+4"), Some("app@1.2.3+4")),
            (" a b ", Some("a b"), Some("a b")),
            ("latest", None, Some("latest")),
            ("LATEST", None, Some("LATEST")),
            ("none", Some("none"), None),
            ("None", Some("None"), None),
            (&longest, Some(&*longest), None),
            (&too_long, None, None),
            ("a/b", None, None),
            ("a\\b", None, None),
            ("a\tb", None, None),
            ("a\x0cb", None, None),
            ("a\0b", None, None),
            (".", None, None),
            ("..", None, None),
            (" \n", None, None),
        ];
        for (name, as_release, as_environment) in table {
            assert_eq!((release(name), environment(name)), (as_release, as_environment), "{name:?}");
        }
        assert_eq!(environment(&"x".repeat(64)).map(str::len), Some(64));
        assert_eq!(environment(&"x".repeat(65)), None);
    }
}
