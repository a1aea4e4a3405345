//! The report once a day: made from configuration, inventory and identity, kept in the spool like any other report, carried
//! by the courier when its channel is open.
//!
//! Where each field comes from and stands in the event is a table in packaging/TELEMETRY.md.

#![forbid(unsafe_code)]

use super::identity::{self, Identity};
use super::inventory::{self, Known, json};
use super::schedule::{DAY, Due, Held, Moment};
use crate::case::Id;
use crate::config::Settings;
use crate::report::daily::{CheckIn, Daily, FORMAT, Fact, Value};
use crate::report::names;
use crate::spool::{Kind, Spool, SpoolError};
use crate::sys::file::Dir;
use crate::sys::memory;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What the last inventory said of the product: crash reports tell it, too, without asking.
const PRODUCT_FILE: &str = "product.json";
const PRODUCT_FILE_BYTES: usize = 64 * 1024;
/// Somebody else is at it, or something is in the way: time to look again.
const LOOK_AGAIN: Duration = Duration::from_secs(15 * 60);
/// Sentry's bound of a monitor's slug.
const SLUG_CHARS: usize = 50;

/// Makes the report if it is due. To be called only when its channel is open. Returns how long until the next look.
pub fn look(settings: &Settings, spool: &Spool) -> Result<Duration, String> {
    let state_dir = spool.state_dir();
    let now = Moment::now();
    let Some(mut held) = take(state_dir, &now)? else { return Ok(LOOK_AGAIN) };
    let before = held.schedule.clone();
    let due = held.schedule.due(&now, random_number());
    if held.schedule != before {
        keep(&held, state_dir)?;
    }
    match due {
        Due::In(wait) => return Ok(wait),
        Due::Now => {
            let daily = compose(settings, state_dir, random_id(), now.unix_ms)?;
            begin(settings, spool, state_dir, &mut held, &now, &daily)?;
        }
        Due::Unfinished(id) => {
            let there = spool.find(&id.to_string());
            if there.iter().any(|entry| entry.kind == Kind::Daily) {
                finish(settings, spool, state_dir, &mut held, id, now.unix_ms)?;
            } else {
                let daily = compose(settings, state_dir, id, now.unix_ms)?;
                write(settings, spool, state_dir, &mut held, &daily)?;
            }
        }
    }
    Ok(DAY)
}

/// Makes a report now, due or not, for a person who asked for one. The next is a day away.
pub fn make_now(settings: &Settings, spool: &Spool) -> Result<Id, String> {
    let state_dir = spool.state_dir();
    let now = Moment::now();
    let mut held = take(state_dir, &now)?.ok_or("another obit is making the daily report at this moment")?;
    let id = random_id();
    let daily = compose(settings, state_dir, id, now.unix_ms)?;
    begin(settings, spool, state_dir, &mut held, &now, &daily)?;
    Ok(id)
}

fn begin(
    settings: &Settings,
    spool: &Spool,
    state_dir: &Path,
    held: &mut Held,
    now: &Moment,
    daily: &Daily,
) -> Result<(), String> {
    if let Some(id) = Id::parse(&daily.event_id) {
        held.schedule.begin(now, id, random_number());
    }
    keep(held, state_dir)?;
    write(settings, spool, state_dir, held, daily)
}

fn write(settings: &Settings, spool: &Spool, state_dir: &Path, held: &mut Held, daily: &Daily) -> Result<(), String> {
    let Some(id) = Id::parse(&daily.event_id) else { return Ok(()) };
    store(spool, Kind::Daily, id, daily.at_unix_ms, daily).map_err(|error| error.to_string())?;
    finish(settings, spool, state_dir, held, id, daily.at_unix_ms)
}

/// The check-in goes along if there is a monitor, and the schedule is told that all is in the spool.
fn finish(
    settings: &Settings,
    spool: &Spool,
    state_dir: &Path,
    held: &mut Held,
    id: Id,
    at_unix_ms: u64,
) -> Result<(), String> {
    if let Some(check_in) = check_in(settings, id)
        && let Some(check_in_id) = Id::parse(&check_in.check_in_id)
        && spool.find(&check_in.check_in_id).is_empty()
    {
        store(spool, Kind::CheckIn, check_in_id, at_unix_ms, &check_in).map_err(|error| error.to_string())?;
    }
    held.schedule.finish();
    keep(held, state_dir)
}

fn store(
    spool: &Spool,
    kind: Kind,
    id: Id,
    at_unix_ms: u64,
    content: &impl serde::Serialize,
) -> Result<(), SpoolError> {
    let bytes = serde_json::to_vec(content).unwrap_or_default();
    let open = spool.begin(kind, id, at_unix_ms, &bytes)?;
    spool.settle(open).map(drop)
}

fn take(state_dir: &Path, now: &Moment) -> Result<Option<Held>, String> {
    Held::take(state_dir, now, random_number()).map_err(|error| failed(state_dir, &error))
}

fn keep(held: &Held, state_dir: &Path) -> Result<(), String> {
    held.keep().map_err(|error| failed(state_dir, &error))
}

fn failed(state_dir: &Path, error: &std::io::Error) -> String {
    format!("the schedule in {} cannot be kept ({error}), so no daily report is made", state_dir.display())
}

/// Asks the inventory and puts the report together; what was learnt of the product is remembered.
pub fn compose(settings: &Settings, state_dir: &Path, id: Id, at_unix_ms: u64) -> Result<Daily, String> {
    let known = inventory::gather(settings);
    identity::learn(state_dir, known.cluster_id.as_deref(), known.node_id.as_deref())?;
    remember(state_dir, &known);
    let identity = Identity::load(settings, state_dir)?;
    Ok(put_together(settings, &identity, known, id, at_unix_ms))
}

/// The same for whoever only looks: nothing is remembered. With the reason why its ids are an example, where they are.
pub fn compose_example(
    settings: &Settings,
    state_dir: Option<&Path>,
    id: Id,
    at_unix_ms: u64,
) -> Result<(Daily, Option<String>), String> {
    let known = inventory::gather(settings);
    let (identity, example) = Identity::shown(settings, state_dir, Some(&known))?;
    Ok((put_together(settings, &identity, known, id, at_unix_ms), example))
}

fn put_together(settings: &Settings, identity: &Identity, known: Known, id: Id, at_unix_ms: u64) -> Daily {
    let product = product_name(settings);
    let Known { mut facts, mut unknown, .. } = known;
    for (fact, text) in configured(settings) {
        facts.insert(fact, Value::Text(text));
    }
    for (fact, text) in of_this_machine() {
        facts.entry(fact).or_insert(Value::Text(text));
    }
    unknown.retain(|fact, _| !facts.contains_key(fact));
    let version = match facts.get(&Fact::Version) {
        Some(Value::Text(version)) => Some(version.as_str()),
        _ => None,
    };
    let release = settings.release.clone().or_else(|| version.map(|version| format!("{product}@{version}")));
    Daily {
        format: FORMAT,
        event_id: id.to_string(),
        at_unix_ms,
        release: release.as_deref().and_then(names::release).map(str::to_owned),
        environment: settings.environment.as_deref().and_then(names::environment).map(str::to_owned),
        server_name: server_name(settings, identity),
        cluster: identity.pseudonym(identity::Kind::Cluster, &identity.cluster_id),
        product,
        facts: facts.into_iter().map(|(fact, value)| (fact.name().to_owned(), value)).collect(),
        unknown: unknown.into_iter().map(|(fact, why)| (fact.name().to_owned(), why)).collect(),
        obit_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn product_name(settings: &Settings) -> String {
    let of_release = || settings.release.as_deref().and_then(|release| release.split_once('@')).map(|(name, _)| name);
    let names = [settings.product.as_deref(), of_release(), settings.component.as_deref()];
    names.into_iter().flatten().find(|name| !name.is_empty()).unwrap_or("product").to_owned()
}

/// What the configuration says, which goes before the inventory.
fn configured(settings: &Settings) -> Vec<(Fact, String)> {
    let version = settings.product_version.clone();
    [(Fact::Version, version), (Fact::BuildRef, settings.build_ref.clone())]
        .into_iter()
        .filter_map(|(fact, text)| Some((fact, text?)))
        .collect()
}

/// What this machine says where the inventory is silent.
fn of_this_machine() -> Vec<(Fact, String)> {
    let arch = nix::sys::utsname::uname().ok().map(|uname| uname.machine().to_string_lossy().into_owned());
    let level = std::env::var("LOG_LEVEL").ok().filter(|level| !level.trim().is_empty());
    [(Fact::Arch, arch), (Fact::Os, Some("linux".to_owned())), (Fact::LoggingLevel, level)]
        .into_iter()
        .filter_map(|(fact, text)| Some((fact, text?)))
        .collect()
}

/// The host's name, another one that was asked for, or its keyed hash.
fn server_name(settings: &Settings, identity: &Identity) -> String {
    let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let name = settings.server_name.clone().unwrap_or_else(host);
    match settings.hide_server_name {
        true => identity.pseudonym(identity::Kind::Server, &name),
        false => name,
    }
}

fn remember(state_dir: &Path, known: &Known) {
    // What was known stays known while the inventory is silent.
    if known.facts.is_empty() {
        return;
    }
    let bytes = json::write(known).to_string();
    let _ = Dir::open(state_dir).and_then(|dir| dir.replace(PRODUCT_FILE, bytes.as_bytes()));
}

/// What crash reports say of the product besides what the death itself says: texts, no counts.
pub fn product(settings: &Settings, state_dir: Option<&Path>) -> BTreeMap<Fact, Value> {
    let mut known = Known::default();
    let kept = state_dir.map(|dir| Dir::open(dir).and_then(|dir| dir.read_small(PRODUCT_FILE, PRODUCT_FILE_BYTES)));
    if let Some(document) = kept.and_then(Result::ok).and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        json::read(&document, &json::Mapping::default(), &mut known);
    }
    let mut facts = known.facts;
    facts.retain(|fact, _| !fact.is_count());
    facts.extend(configured(settings).into_iter().map(|(fact, text)| (fact, Value::Text(text))));
    facts
}

/// The check-in that goes with a report.
pub(super) fn check_in(settings: &Settings, id: Id) -> Option<CheckIn> {
    let slug = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let slug: String = lower
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' })
            .take(SLUG_CHARS)
            .collect();
        Some(slug).filter(|slug| !slug.trim_matches('-').is_empty())
    };
    // Another id that is always the same for this report.
    let mut other = id.0;
    other.iter_mut().for_each(|byte| *byte = !*byte);
    other[6] = other[6] & 0x0f | 0x40;
    other[8] = other[8] & 0x3f | 0x80;
    Some(CheckIn {
        format: FORMAT,
        check_in_id: Id(other).to_string(),
        monitor: slug(settings.monitor.as_deref()?)?,
        release: settings.release.as_deref().and_then(names::release).map(str::to_owned),
        environment: settings.environment.as_deref().and_then(names::environment).map(str::to_owned),
    })
}

fn random_number() -> u64 {
    let mut random = [0; 16];
    memory::random(&mut random);
    u128::from_ne_bytes(random) as u64
}

/// A fresh event id: a UUID of version 4, as Sentry wants one.
pub fn random_id() -> Id {
    let mut bytes = [0; 16];
    memory::random(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Id(bytes)
}
