//! The version question from end to end: what is needed for it, whether it may be asked, and what came of it.
//!
//! Permission comes first and is asked for again at the last moment: while it is missing nothing leaves, no lookup of the
//! name, no request to the API server.

#![forbid(unsafe_code)]

use super::audit;
use super::dns::answer::{self, Circumstances, Key, Verdict};
use super::dns::kubernetes;
use super::dns::name::{self, Kubernetes, Question};
use super::dns::resolver::{self, Reply, Said};
use super::dns::servers::Servers;
use super::identity::Identity;
use super::upgrade::{Failure, FailureKind, Record, State, sentence};
use super::wait::Moment;
use crate::config::Settings;
use crate::config::cluster_spec::ClusterSpec;
use crate::consent::gate::Gate;
use crate::consent::{Channel, Granted};
use crate::limits;
use crate::report::text::utc;
use crate::say::{Level, say};
use crate::sys::{clock, memory};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// What the settings say about the question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub zone: String,
    pub keys: Vec<Key>,
    /// What runs here.
    pub version: String,
    pub distro: Option<String>,
}

impl Plan {
    /// Why nothing is asked, where something is missing: nothing is built in.
    pub fn of(settings: &Settings) -> Result<Plan, String> {
        let zone = settings.dns_zone.as_deref().ok_or("no DNS zone is set (--dns-zone)")?;
        let version =
            running_version(settings).ok_or("the version of what runs here is not set (--product-version)")?;
        let keys = settings.dns_keys.as_deref().unwrap_or_default();
        Ok(Plan {
            zone: name::zone(zone)?,
            keys: Key::parse_list(keys)?,
            version,
            distro: settings.k8s_distro.clone().or_else(|| {
                let spec = settings.cluster_spec.as_deref().map(ClusterSpec::read)?;
                spec.ok()?.k8s_distro
            }),
        })
    }

    /// The name that is asked.
    pub fn question(&self, identity: &Identity, kubernetes_version: Option<String>) -> Result<String, String> {
        let kubernetes = self.distro.clone().map(|distro| Kubernetes { distro, version: kubernetes_version });
        Question {
            salt: identity.dns_salt(),
            cluster_id: identity.dns_cluster_id(),
            node_id: &identity.node_id,
            version: &self.version,
            kubernetes,
            zone: &self.zone,
        }
        .name()
    }
}

/// The version of the product, else that of the release `name@version`.
pub fn running_version(settings: &Settings) -> Option<String> {
    settings.product_version.clone().or_else(|| {
        let (_, version) = settings.release.as_deref()?.rsplit_once('@')?;
        Some(version.to_owned()).filter(|version| !version.is_empty())
    })
}

/// Where things stand, for log, status, API and panel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    pub state: State,
    pub running: Option<String>,
    pub zone: Option<String>,
    pub record: Option<Record>,
    /// Why a question that was asked just now brought nothing.
    pub failure: Option<String>,
}

/// What is known, without asking anybody.
pub fn standing(settings: &Settings, state_dir: Option<&Path>) -> Standing {
    let mut standing = Standing {
        state: State::Disabled(String::new()),
        running: running_version(settings),
        zone: settings.dns_zone.clone(),
        record: None,
        failure: None,
    };
    let closed = Gate::new(settings, state_dir).grant(Channel::Dns).err().map(|block| format!("off by {block}"));
    match (closed, Plan::of(settings)) {
        (Some(why), _) | (None, Err(why)) => standing.state = State::Disabled(why),
        (None, Ok(plan)) => {
            let record = state_dir.map_or_else(|| Record::new(&plan.zone), |dir| Record::read(dir, &plan.zone));
            standing.state = record.state(&plan.version, unix());
            standing.record = Some(record);
        }
    }
    standing
}

/// Asks at once, whenever it was asked last; an error says why nothing was asked.
pub fn now(settings: &Settings, state_dir: Option<&Path>) -> Result<Standing, String> {
    let plan = Plan::of(settings)?;
    let permission = Gate::new(settings, state_dir).grant(Channel::Dns).map_err(|block| format!("off by {block}"))?;
    let identity = match state_dir {
        Some(dir) => Identity::load(settings, dir)?,
        None => Identity::passing(settings)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime can be made ({error})"))?;
    let mut record = state_dir.map_or_else(|| Record::new(&plan.zone), |dir| Record::read(dir, &plan.zone));
    runtime.block_on(ask(settings, state_dir, &plan, &identity, &permission, &mut record));
    runtime.shutdown_background();
    let failure = record.failure.as_ref().map(|failure| failure.why.clone());
    Ok(Standing { failure, record: Some(record), ..standing(settings, state_dir) })
}

/// Asks if it is time and nobody forbids it. How long until it is worth another look; `None`: not in this life. Nobody asks
/// without a state directory: who would remember that it was asked?
pub fn look(settings: &Settings, state_dir: &Path) -> Option<Duration> {
    let plan = Plan::of(settings).ok()?;
    let permission = match Gate::new(settings, Some(state_dir)).grant(Channel::Dns) {
        Ok(permission) => permission,
        Err(block) => return block.may_change().then_some(limits::CONSENT_AGAIN),
    };
    let mut record = Record::read(state_dir, &plan.zone);
    let known = record.clone();
    let mut left = record.left(&Moment::now(), random());
    // A moment that cannot be kept would be another one at each start.
    if record != known && record.write(state_dir).is_err() {
        return None;
    }
    if left.is_none() {
        let identity = Identity::load(settings, state_dir).inspect_err(|why| say(Level::Error, why)).ok()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(ask(settings, Some(state_dir), &plan, &identity, &permission, &mut record));
        runtime.shutdown_background();
        left = record.left(&Moment::now(), random());
    }
    tell(&plan, &mut record, state_dir);
    left.map(|left| left.min(limits::CONSENT_AGAIN))
}

fn servers(settings: &Settings) -> Result<Servers, String> {
    settings.dns_resolver.as_deref().map_or_else(|| Ok(Servers::system()), Servers::given)
}

/// Who would be asked.
pub(super) fn server_names(settings: &Settings) -> Result<String, String> {
    let names: Vec<String> = servers(settings)?.addresses.iter().map(ToString::to_string).collect();
    Ok(names.join(" or "))
}

/// Logs what is news; an urgent upgrade is news once a day.
fn tell(plan: &Plan, record: &mut Record, state_dir: &Path) {
    let state = record.state(&plan.version, unix());
    let before = record.clone();
    let line = record.news(&state, &plan.version, unix());
    // What cannot be remembered as told would be told at each visit.
    if *record != before
        && record.write(state_dir).is_ok()
        && let Some((level, line)) = line
    {
        say(level, &line);
    }
}

async fn ask(
    settings: &Settings,
    state_dir: Option<&Path>,
    plan: &Plan,
    identity: &Identity,
    permission: &Granted,
    record: &mut Record,
) {
    let write = |record: &Record| state_dir.map_or(Ok(()), |dir| record.write(dir));
    record.asking(&Moment::now(), random());
    let outcome = match write(record) {
        Err(error) => {
            Err((FailureKind::Unanswered, format!("not asked: the state directory takes no record ({error})")))
        }
        Ok(()) => put(settings, state_dir, plan, identity, permission, record).await,
    };
    let now = unix();
    record.heard(outcome.map_err(|(kind, why)| Failure { at_unix: now, kind, why }), now);
    if let Err(error) = write(record) {
        say(Level::Warning, &format!("what is known of upgrades cannot be kept ({error})"));
    }
}

/// The question and the judgement of its answer.
async fn put(
    settings: &Settings,
    state_dir: Option<&Path>,
    plan: &Plan,
    identity: &Identity,
    permission: &Granted,
    record: &Record,
) -> Result<Verdict, (FailureKind, String)> {
    let unanswered = |why: String| (FailureKind::Unanswered, why);
    let kubernetes_version = match (&plan.distro, &settings.k8s_version) {
        (None, _) => None,
        (Some(_), Some(given)) => Some(given.clone()),
        (Some(_), None) => kubernetes::version(permission).await.inspect_err(|why| say(Level::Debug, why)).ok(),
    };
    let name = plan.question(identity, kubernetes_version).map_err(unanswered)?;
    let servers = servers(settings).map_err(unanswered)?;
    audit::notice(state_dir, &format!("{} (a DNS question once a day)", plan.zone));
    let reply = resolver::ask(permission, &servers, &name).await;
    if let Some(dir) = state_dir {
        let (to, result) = match &reply {
            Ok(Reply { said, by }) => (by.to_string(), said.to_string()),
            Err(why) => (server_names(settings).unwrap_or_default(), why.clone()),
        };
        let record = audit::Record {
            at_unix_ms: clock::unix_ms(),
            channel: permission.channel().as_str().to_owned(),
            what: name.clone(),
            to,
            proxy: "direct".to_owned(),
            bytes: name.len() as u64,
            result,
        };
        audit::note(dir, &record);
    }
    let reply = reply.map_err(unanswered)?;
    let by = reply.by;
    let records = match reply.said {
        Said::Records(records) => records,
        Said::NoRecord => {
            return Err((FailureKind::Absent, format!("name server {by} has no record for this version")));
        }
        Said::NoName => return Err((FailureKind::Absent, format!("name server {by} says that there is no such name"))),
    };
    let so = Circumstances {
        zone: &plan.zone,
        keys: &plan.keys,
        running: &plan.version,
        now_unix: unix(),
        newest_not_before: record.newest_not_before,
    };
    answer::judge_all(records.iter().map(Vec::as_slice), so).map_err(|refusal| {
        let why = refusal.map_or("the answer is empty", answer::Refusal::sentence);
        (FailureKind::Unverified, why.to_owned())
    })
}

impl Standing {
    /// One sentence of it all.
    pub fn sentence(&self) -> String {
        let running = self.running.as_deref().unwrap_or_default();
        let latest = self.record.as_ref().and_then(|record| record.notice_for(&self.state));
        let latest = latest.map(|notice| notice.latest.as_str()).unwrap_or_default();
        match &self.state {
            State::Upgrade(severity) => sentence(*severity, latest, running),
            State::Current => format!("{running} is the latest release"),
            State::Disabled(why) => format!("nothing is asked: {why}"),
            State::Unknown(why) => format!("not known: {why}"),
            State::Unverified(why) => format!("not to be believed: {why}"),
        }
    }

    /// A notice stands through failures; then they are told beside it.
    pub fn failed_since(&self) -> Option<&str> {
        let failure = self.record.as_ref()?.failure.as_ref()?;
        matches!(self.state, State::Upgrade(_)).then_some(&failure.why)
    }

    /// The contract with scripts; see packaging/TELEMETRY.md.
    pub fn json(&self) -> Value {
        let notice = self.record.as_ref().and_then(|record| record.notice_for(&self.state));
        let record = self.record.as_ref();
        let time = |second: Option<u64>| second.map(|second| utc(second.saturating_mul(1000)));
        json!({
            "state": self.state.as_str(),
            "upgrade": matches!(self.state, State::Upgrade(_)),
            "running": self.running,
            "latest": notice.map(|notice| &notice.latest),
            "url": notice.and_then(|notice| notice.url.as_ref()),
            "sentence": self.sentence(),
            "why": self.state.why(),
            "failure": record.and_then(|record| record.failure.as_ref()).map(|failure| &failure.why),
            "zone": self.zone,
            "asked": time(record.and_then(|record| record.asked_unix)),
            "heard": time(notice.map(|notice| notice.heard_unix)),
            "next": time(record.and_then(|record| record.next_unix(&Moment::now()))),
        })
    }

    /// For people.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let json = self.json();
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        let mut rows = vec![("state", self.state.as_str().to_owned()), ("", self.sentence())];
        for (name, key) in
            [("read more", "url"), ("last question", "asked"), ("last answer", "heard"), ("next question", "next")]
        {
            rows.extend(text(key).map(|value| (name, value)));
        }
        rows.extend(self.failed_since().map(|failure| ("since then", failure.to_owned())));
        rows
    }
}

fn unix() -> u64 {
    clock::unix_ms() / 1000
}

fn random() -> u64 {
    let mut bytes = [0; 16];
    memory::random(&mut bytes);
    u64::from_le_bytes(bytes[..8].try_into().unwrap_or_default())
}
