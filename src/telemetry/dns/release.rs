//! Which release is newer: semantic versions, read with a lenient eye for what products print (`v1.5`, `1.5.3.2-x`).

#![forbid(unsafe_code)]

use semver::Version;

/// A version that can be compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Release(Version);

impl Release {
    /// `v` in front is dropped and what is missing of the three numbers is 0. `None`: nothing to compare by.
    pub fn parse(text: &str) -> Option<Release> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (core, rest) = text.split_at(end);
        let mut numbers = [0; 3];
        let parts: Vec<&str> = core.split('.').collect();
        if parts.len() > numbers.len() {
            return None;
        }
        for (number, part) in numbers.iter_mut().zip(parts) {
            *number = part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()))?;
        }
        let [major, minor, patch] = numbers;
        Version::parse(&format!("{major}.{minor}.{patch}{rest}")).ok().map(Release)
    }

    /// Whether somebody who runs `running` should hear of it. Build metadata does not count, and a pre-release is news
    /// only to who runs one. A running version that cannot be compared hears of everything.
    pub fn is_upgrade_from(&self, running: &str) -> bool {
        let Some(Release(running)) = Release::parse(running) else { return true };
        let for_the_bold = !self.0.pre.is_empty() && running.pre.is_empty();
        !for_the_bold && self.0.cmp_precedence(&running).is_gt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_is_newer() {
        let table = [
            ("1.5.4", "1.5.3", true),
            ("1.5.3", "1.5.3", false),
            ("1.10.0", "1.9.9", true),
            ("v1.6", "1.5.9", true),
            ("2", "v1.99.99", true),
            ("1.5.3", "v1.5.3", false),
            ("1.5.3+build.9", "1.5.3+build.7", false),
            ("1.6.0-rc.1", "1.5.3", false),
            ("1.6.0-rc.2", "1.6.0-rc.1", true),
            ("1.6.0", "1.6.0-rc.1+build.7", true),
            ("1.4.0", "1.6.0-rc.1", false),
            ("1.4.0", "built-yesterday", true),
        ];
        for (latest, running, expected) in table {
            assert_eq!(Release::parse(latest).unwrap().is_upgrade_from(running), expected, "{latest} {running}");
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", "v", "1.2.3.4", "1..2", "+1.2", "1.x", "99999999999999999999.0.0", "1.2.3-", "latest"] {
            assert_eq!(Release::parse(text), None, "{text}");
        }
    }
}
