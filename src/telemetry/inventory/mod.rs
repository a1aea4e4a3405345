//! What the product knows of its cluster: licence, nodes, volumes and the rest that the daily report counts.
//!
//! | `--inventory` | source |
//! |---|---|
//! | `storageos:http://127.0.0.1:5705` | the product's v1 API ([`storageos`]) |
//! | `http://…`, `https://…` | one JSON document, read by a mapping ([`json`]) |
//! | `file:/run/inventory.json` | the same from a file |
//! | `exec:/usr/bin/inventory --json` | the same from the output of a command, which is run without a shell |
//!
//! Every source has a deadline. What is known when it is over is sent; what is not is absent with its reason, never zero.

#![forbid(unsafe_code)]

mod command;
mod http;
pub mod json;
pub mod storageos;

use crate::config::Settings;
use crate::config::value::mask_password;
use crate::limits;
use crate::report::daily::{Fact, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;
use url::Url;

/// What a source told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    pub facts: BTreeMap<Fact, Value>,
    /// Why a fact is not among them.
    pub unknown: BTreeMap<Fact, String>,
    /// The product's own ids of its cluster and of this node.
    pub cluster_id: Option<String>,
    pub node_id: Option<String>,
}

/// Characters of a text; it becomes a value in an event.
const TEXT_CHARS: usize = 200;

impl Known {
    /// A text is one line of bounded length; an empty one says nothing.
    fn text(&mut self, fact: Fact, text: &str) {
        if let Some(text) = tidy(text) {
            self.facts.insert(fact, Value::Text(text));
        }
    }

    fn count(&mut self, fact: Fact, count: u64) {
        self.facts.insert(fact, Value::Count(count));
    }

    /// Gives each fact that is not known the reason, if it has none yet.
    fn missing(&mut self, facts: &[Fact], why: &str) {
        for fact in facts.iter().filter(|fact| !self.facts.contains_key(fact)) {
            self.unknown.entry(*fact).or_insert_with(|| why.to_owned());
        }
    }
}

fn tidy(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS).collect();
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Where the counts come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    StorageOs(Url),
    Http(Url),
    File(PathBuf),
    Command(Vec<String>),
}

impl Source {
    pub fn parse(text: &str) -> Result<Source, String> {
        let url = |text: &str| {
            let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            url.ok_or_else(|| {
                let shown = mask_password(text);
                format!("the inventory {shown:?} is no URL; write storageos:http://127.0.0.1:5705 or https://host/path")
            })
        };
        match text.split_once(':') {
            Some(("storageos", rest)) => url(rest).map(Source::StorageOs),
            Some(("http" | "https", _)) => url(text).map(Source::Http),
            Some(("file", path)) if path.starts_with('/') => Ok(Source::File(PathBuf::from(path))),
            Some(("exec", line)) if line.starts_with('/') => {
                Ok(Source::Command(line.split_whitespace().map(str::to_owned).collect()))
            }
            _ => Err(format!(
                "the inventory {:?} is of no known kind; write storageos:URL, a URL, file:/path or exec:/path",
                mask_password(text)
            )),
        }
    }
}

/// Asks the source, within [`limits::INVENTORY_DEADLINE`]. Blocks for as long.
pub fn gather(settings: &Settings) -> Known {
    let all = |why: &str| {
        let mut known = Known::default();
        known.missing(&Fact::ALL, why);
        known
    };
    let Some(text) = &settings.inventory else {
        return all("no inventory is configured");
    };
    let asked = Source::parse(text).and_then(|source| Ok((source, json::Mapping::parse(&settings.inventory_map)?)));
    let (source, mapping) = match asked {
        Ok(asked) => asked,
        Err(sentence) => return all(&sentence),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return all(&format!("no runtime can be made ({error})")),
    };
    let mut known = runtime.block_on(ask(settings, source, &mapping));
    // A resolver that hangs sits in a thread which nobody can end.
    runtime.shutdown_background();
    known.missing(&Fact::ALL, "the inventory does not say");
    known
}

async fn ask(settings: &Settings, source: Source, mapping: &json::Mapping) -> Known {
    let user = settings.inventory_user.clone();
    let login =
        user.map(|user| http::Login { user, password: settings.inventory_password.clone().unwrap_or_default() });
    let deadline = tokio::time::Instant::now() + limits::INVENTORY_DEADLINE;
    let document = match source {
        Source::StorageOs(base) => return storageos::ask(base, login, deadline).await,
        Source::Http(url) => match http::Api::new(url.clone(), login, deadline) {
            Ok(mut api) => api.get_url(url).await,
            Err(why) => Err(why),
        },
        Source::File(path) => read_file(&path),
        Source::Command(words) => command::output(&words, deadline).await,
    };
    let mut known = Known::default();
    match document
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| format!("the inventory is no JSON ({error})")))
    {
        Ok(document) => json::read(&document, mapping, &mut known),
        Err(why) => known.missing(&Fact::ALL, &why),
    }
    known
}

fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |error: std::io::Error| format!("the inventory file cannot be read ({})", error.kind());
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err("the inventory file is no file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(limits::INVENTORY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    bounded(bytes)
}

fn bounded(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    match bytes.len() <= limits::INVENTORY_BYTES {
        true => Ok(bytes),
        false => Err(format!("the inventory is larger than {} MiB", limits::INVENTORY_BYTES >> 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_source_is_read_and_anything_else_answered() {
        let url = |text: &str| Url::parse(text).unwrap();
        let table = [
            ("storageos:http://127.0.0.1:5705", Source::StorageOs(url("http://127.0.0.1:5705"))),
            ("https://h/x?y", Source::Http(url("https://h/x?y"))),
            ("file:/run/i.json", Source::File("/run/i.json".into())),
            ("exec:/bin/i -a  b", Source::Command(["/bin/i", "-a", "b"].map(str::to_owned).to_vec())),
        ];
        for (text, source) in table {
            assert_eq!(Source::parse(text), Ok(source));
        }
        for text in ["", "x", "storageos:", "storageos:ftp://h", "file:relative", "exec:relative", "ftp://h/"] {
            assert!(Source::parse(text).unwrap_err().contains("write storageos:"), "{text}");
        }
    }

    #[test]
    fn without_an_inventory_everything_is_absent_with_the_reason() {
        let known = gather(&Settings::default());
        assert!(known.facts.is_empty());
        assert!(Fact::ALL.iter().all(|fact| known.unknown[fact] == "no inventory is configured"));
    }

    #[test]
    fn a_file_and_a_command_tell_what_they_know() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("i.json");
        std::fs::write(&file, r#"{"nodes": 3, "license_type": "basic", "volumes": [1, 2]}"#).unwrap();
        for source in [format!("file:{}", file.display()), format!("exec:/bin/cat {}", file.display())] {
            let known = gather(&Settings { inventory: Some(source), ..Settings::default() });
            assert_eq!(known.facts[&Fact::Nodes], Value::Count(3));
            assert_eq!(known.facts[&Fact::Volumes], Value::Count(2), "a list is counted");
            assert_eq!(known.facts[&Fact::LicenseType], Value::Text("basic".to_owned()));
            assert_eq!(known.unknown[&Fact::Rules], "the inventory does not say");
        }
    }

    #[test]
    fn what_fails_says_so_without_a_path_or_a_host() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().display();
        let why = |source: String| {
            gather(&Settings { inventory: Some(source), ..Settings::default() }).unknown[&Fact::Nodes].clone()
        };
        assert_eq!(why(format!("file:{dir}/none")), "the inventory file cannot be read (entity not found)");
        assert_eq!(why(format!("file:{dir}")), "the inventory file is no file");
        assert_eq!(why("exec:/bin/false".to_owned()), "the inventory command ended with exit status: 1");
        assert_eq!(why("exec:/nonexistent".to_owned()), "the inventory command cannot be started (entity not found)");
        assert!(why("exec:/bin/echo [".to_owned()).starts_with("the inventory is no JSON ("));
        assert_eq!(why("http://127.0.0.1:1/".to_owned()), "the inventory cannot be reached");
    }
}
