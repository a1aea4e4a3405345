//! How the program was built, as the report keeps it, and the release that follows from it.
//!
//! Where it goes: Go's version is the page's `Go version`, `contexts.runtime` of the event; the rest is `contexts.build`, and rows
//! of the obituary. Flags of compilers and linkers are not kept: people pass secrets in them (`-X main.key=…`).

#![forbid(unsafe_code)]

use super::names;
use crate::evidence::toolchain::Built;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the program's file tells.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BuildFacts {
    /// `go1.25.5`, `rustc version 1.95.0 (…)`, `GCC: (Debian …) 12.2.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolchain: Option<String>,
    /// `go1.25.5`, if Go linked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub go_version: Option<String>,
    /// Go's main module and its version, which a working copy has none of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_version: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// RFC 3339, of the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_time: Option<String>,
    /// The working copy had changes that were not committed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub modified: bool,
    /// `CGO_ENABLED`, `GOARCH`, `GOAMD64`, `GOOS` and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

impl BuildFacts {
    /// `None` if the file tells nothing.
    pub fn of(built: Built) -> Option<BuildFacts> {
        const SETTINGS: [&str; 9] =
            ["-buildmode", "-compiler", "-race", "CGO_ENABLED", "GOAMD64", "GOARCH", "GOARM64", "GOEXPERIMENT", "GOOS"];
        let mut facts = BuildFacts { toolchain: built.by, ..BuildFacts::default() };
        if let Some(go) = built.go {
            facts.revision = go.revision().map(str::to_owned);
            facts.revision_time = go.setting("vcs.time").map(str::to_owned);
            facts.modified = go.is_modified();
            facts.go_version = Some(go.version);
            facts.module = go.module.or(go.path);
            facts.module_version = go.module_version;
            facts.settings = go.settings.into_iter().filter(|(key, _)| SETTINGS.contains(&&**key)).collect();
        }
        Some(facts).filter(|facts| *facts != BuildFacts::default())
    }

    /// `package@version` as Sentry wants it: the last word of the module's path, with its version, else with the revision.
    pub fn release(&self) -> Option<String> {
        let is_major = |word: &str| word.strip_prefix('v').is_some_and(|n| n.bytes().all(|byte| byte.is_ascii_digit()));
        let package = self.module.as_deref()?.rsplit('/').find(|word| !is_major(word))?;
        // Sentry orders releases whose version begins with a number.
        let version =
            self.module_version.as_deref().map(|version| version.strip_prefix('v').unwrap_or(version).to_owned());
        let dirty = if self.modified { "+dirty" } else { "" };
        let version = version.or_else(|| Some(format!("{}{dirty}", self.revision.as_deref()?)))?;
        names::release(&format!("{package}@{version}")).map(str::to_owned)
    }

    /// Module, version and revision for one line.
    pub fn source(&self) -> String {
        let version = self.module_version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        let module = self.module.as_deref().map(|module| format!("{module}{version}"));
        let changed = if self.modified { " with changes" } else { "" };
        let revision = self.revision.as_deref().map(|revision| format!("revision {revision}{changed}"));
        [module, revision].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::gobuild::GoBuild;

    fn facts(module: &str, version: Option<&str>, revision: Option<&str>, modified: bool) -> BuildFacts {
        BuildFacts {
            module: Some(module.to_owned()),
            module_version: version.map(str::to_owned),
            revision: revision.map(str::to_owned),
            modified,
            ..BuildFacts::default()
        }
    }

    #[test]
    fn a_release_is_the_package_with_its_version_or_its_revision() {
        let table = [
            (facts("example.com/shop", Some("v1.2.3"), Some("abc"), true), Some("shop@1.2.3")),
            (facts("example.com/shop/v2", Some("v2.0.1"), None, false), Some("shop@2.0.1")),
            (
                facts("shop", Some("v0.0.0-20260101120000-0123456789ab+dirty"), None, true),
                Some("shop@0.0.0-20260101120000-0123456789ab+dirty"),
            ),
            (facts("example.com/shop", None, Some("0123abcd"), false), Some("shop@0123abcd")),
            (facts("example.com/shop", None, Some("0123abcd"), true), Some("shop@0123abcd+dirty")),
            (facts("example.com/shop", None, None, false), None),
            (facts("example.com/shop", None, Some("not/one"), false), None),
            (facts("v2", Some("v2.0.0"), None, false), None),
            (BuildFacts::default(), None),
        ];
        for (facts, expected) in table {
            assert_eq!(facts.release().as_deref(), expected, "{facts:?}");
        }
    }

    #[test]
    fn what_could_hold_a_secret_is_not_kept() {
        let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let settings = vec![
            setting("-ldflags", "-X main.key=s3cr3t"),
            setting("CGO_CFLAGS", "-DKEY=s3cr3t"),
            setting("GOARCH", "amd64"),
            setting("vcs.revision", "0123abcd"),
            setting("vcs.time", "2026-01-01T12:00:00Z"),
            setting("vcs.modified", "true"),
        ];
        let go = GoBuild {
            version: "go1.25.5".to_owned(),
            module: Some("example.com/shop".to_owned()),
            settings,
            ..GoBuild::default()
        };
        let facts = BuildFacts::of(Built { by: Some("go1.25.5".to_owned()), go: Some(go) }).unwrap();
        assert!(!format!("{facts:?}").contains("s3cr3t"));
        assert_eq!(facts.settings, BTreeMap::from([setting("GOARCH", "amd64")]));
        assert_eq!(facts.source(), "example.com/shop, revision 0123abcd with changes");
        assert_eq!(facts.go_version.as_deref(), Some("go1.25.5"));
        assert_eq!(BuildFacts::of(Built::default()), None);
    }
}
