//! What would be sent, before it is: the daily report byte for byte, the version question with what its labels say. For `obit
//! telemetry show`, `obit heartbeat --dry-run` and the panel.
//!
//! Whether a channel is open does not matter here, and nothing is sent. The ids are those that will be sent; where they
//! cannot be known or kept, the preview says that it shows an example.

#![forbid(unsafe_code)]

use super::check::{Plan, server_names};
use super::daily;
use super::dns::name;
use super::identity::Identity;
use super::signer::Signer;
use crate::config::Settings;
use crate::consent::Channel;
use crate::deliver::content::Content;
use crate::deliver::envelope::Size;
use crate::report::daily::Daily;
use crate::spool::{Spool, State};
use crate::sys::clock;
use std::path::Path;

/// The daily report and, where there is a monitor, its check-in.
#[derive(Debug)]
pub struct Report {
    /// As the courier makes them; only `sent_at`, the moment of sending, is another when they are sent.
    pub envelopes: Vec<Vec<u8>>,
    /// The same, to be read; `None`: what waits is a check-in alone.
    pub daily: Option<Daily>,
    /// It was made already, and these very bytes go next.
    pub waits: bool,
    /// Why the ids in it are not those that will be sent.
    pub example: Option<String>,
}

/// What waits, else what a report made at this moment would be. Asks the inventory, for as long as that takes.
pub fn report(settings: &Settings, state_dir: Option<&Path>) -> Result<Report, String> {
    waiting(settings, state_dir).map_or_else(|| fresh(settings, state_dir), Ok)
}

/// What waits in the spool; where there is none that we may open, nothing does.
pub fn waiting(settings: &Settings, state_dir: Option<&Path>) -> Option<Report> {
    let dir = state_dir?;
    let spool = Spool::open(dir).ok()?;
    let signer = Signer::new(settings, Some(dir));
    let mut report = Report { envelopes: Vec::new(), daily: None, waits: true, example: None };
    for entry in spool.entries_in(State::Pending) {
        if entry.kind.channel() != Channel::Daily {
            continue;
        }
        let content = spool.read(&entry).ok().and_then(|content| Content::parse(&entry, &content));
        let Some(content) = content else { continue };
        report.envelopes.extend(content.envelope(&signer.sender(""), Size::Whole, entry.attempts, clock::unix_ms()));
        if let Content::Daily(daily) = content {
            report.daily = Some(daily);
        }
    }
    (!report.envelopes.is_empty()).then_some(report)
}

/// One made at this moment.
pub fn fresh(settings: &Settings, state_dir: Option<&Path>) -> Result<Report, String> {
    let (id, at) = (daily::random_id(), clock::unix_ms());
    let (report, example) = daily::compose_example(settings, state_dir, id, at)?;
    let sender = Signer::new(settings, state_dir).sender("");
    let check_in = daily::check_in(settings, id).map(Content::CheckIn);
    let contents = std::iter::once(Content::Daily(report.clone())).chain(check_in);
    let envelopes =
        contents.filter_map(|content| content.envelope(&sender, Size::Whole, 0, clock::unix_ms())).collect();
    Ok(Report { envelopes, daily: Some(report), waits: false, example })
}

/// The version question.
#[derive(Debug)]
pub struct Question {
    pub name: String,
    /// Who is asked.
    pub servers: String,
    /// Why the hashes in it are not those that will be sent.
    pub example: Option<String>,
}

/// The name that would be asked now. Nobody is asked for it, the API server neither.
pub fn question(settings: &Settings, state_dir: Option<&Path>) -> Result<Question, String> {
    let plan = Plan::of(settings)?;
    let (identity, example) = Identity::shown(settings, state_dir, None)?;
    let name = plan.question(&identity, settings.k8s_version.clone())?;
    Ok(Question { name, servers: server_names(settings)?, example })
}

impl Question {
    /// What it tells, in one sentence.
    pub fn sentence(&self) -> String {
        let decoded = name::decode(&self.name).unwrap_or_default();
        let kubernetes = decoded.kubernetes.map(|text| format!(", {}", kubernetes(&text)));
        format!(
            "one TXT question to {} tells version {}{}, a keyed hash of the node ({}) and {}",
            self.servers,
            decoded.version.unwrap_or_default(),
            kubernetes.unwrap_or_default(),
            decoded.node.unwrap_or_default(),
            match decoded.cluster.as_deref() {
                None | Some("0") => "nothing of the cluster".to_owned(),
                Some(hash) => format!("one of the cluster ({hash})"),
            }
        )
    }

    /// The parts of the name, and what each of them says to whoever receives it.
    pub fn parts(&self) -> Vec<(String, String)> {
        let decoded = name::decode(&self.name).unwrap_or_default();
        let zone = format!("{}.", decoded.zone);
        let labels = self.name.strip_suffix(&zone).unwrap_or(&self.name).trim_end_matches('.');
        let says = |label: &str| match label.get(..1).unwrap_or_default() {
            "n" => "this node: a keyed hash of its id".to_owned(),
            "c" if label == "c0" => "no cluster, for its nodes share no secret to hide it".to_owned(),
            "c" => "the cluster: a keyed hash of its id".to_owned(),
            "k" => kubernetes(decoded.kubernetes.as_deref().unwrap_or_default()),
            "v" => format!("version {}", decoded.version.as_deref().unwrap_or_default()),
            _ => "the format of the question".to_owned(),
        };
        let labels = labels.split('.').map(|label| (label.to_owned(), says(label)));
        labels.chain([(zone.clone(), "the zone whose owner answers".to_owned())]).collect()
    }
}

/// `distro/version`, in words.
fn kubernetes(text: &str) -> String {
    match text.strip_suffix('/') {
        Some(distro) => format!("Kubernetes {distro} and the version that its API server tells"),
        None => format!("Kubernetes {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn settings() -> Settings {
        Settings {
            dns_zone: Some("updates.example.test".to_owned()),
            product_version: Some("1.5.3".to_owned()),
            k8s_distro: Some("eks".to_owned()),
            k8s_version: Some("v1.30".to_owned()),
            dns_resolver: Some("192.0.2.1".to_owned()),
            ..Settings::default()
        }
    }

    #[test]
    fn each_part_of_the_name_is_explained_and_together_they_are_the_name() {
        let temp = tempfile::tempdir().unwrap();
        let question = question(&settings(), Some(temp.path())).unwrap();
        let (labels, says): (Vec<_>, Vec<_>) = question.parts().into_iter().unzip();
        assert_eq!(labels.join("."), question.name);
        assert_eq!(says[2..4], ["Kubernetes eks/v1.30", "version 1.5.3"]);
        assert_eq!((&*labels[1], &*labels[4], &*labels[5]), ("c0", "q1", "updates.example.test."));
        assert_eq!((says.len(), question.example), (6, None));
    }

    #[test]
    fn what_is_shown_before_the_first_start_is_what_the_first_start_sends_or_says_that_it_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let cluster = |report: Report| report.daily.expect("a report").cluster;
        let again = |dir: Option<&Path>| [0, 1].map(|_| cluster(report(&settings(), dir).unwrap()));
        let [first, second] = again(Some(temp.path()));
        assert_eq!(first, second, "made at the first look, and kept");
        let passing = report(&settings(), None).unwrap();
        assert!(passing.example.as_deref().is_some_and(|why| why.contains("the first start makes")), "{passing:?}");
        // Where the ids do not depend on what is kept, there is nothing to say.
        let secret = temp.path().join("secret");
        std::fs::write(&secret, "a phrase that is long enough").unwrap();
        let given = Settings {
            cluster_id: Some("c".to_owned()),
            node_id: Some("n".to_owned()),
            cluster_secret: Some(secret),
            ..settings()
        };
        assert_eq!(report(&given, None).unwrap().example, None);
    }

    #[test]
    fn an_identity_that_we_may_not_read_makes_an_example_and_a_broken_one_an_error() {
        let temp = tempfile::tempdir().unwrap();
        // Nobody can read that, root neither.
        std::os::unix::fs::symlink("identity.json", temp.path().join("identity.json")).unwrap();
        let example = report(&settings(), Some(temp.path())).unwrap().example.expect("an example");
        assert!(example.contains("identity.json cannot be read"), "{example}");
        std::fs::remove_file(temp.path().join("identity.json")).unwrap();
        std::fs::write(temp.path().join("identity.json"), "{").unwrap();
        assert!(report(&settings(), Some(temp.path())).unwrap_err().contains("reset-id"));
    }

    #[test]
    fn looking_changes_nothing_but_makes_the_ids() {
        let temp = tempfile::tempdir().unwrap();
        report(&settings(), Some(temp.path())).unwrap();
        let names = || {
            let entries = std::fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert!(names().contains(&"identity.json".to_owned()), "{:?}", names());
        assert!(!names().iter().any(|name| name.starts_with("daily")), "{:?}", names());
        let mode = std::fs::metadata(temp.path().join("identity.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
