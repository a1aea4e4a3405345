//! The v1 HTTP API of the page's product: eight lists and objects, each asked for on its own, so that one that fails takes
//! nothing else with it.
//!
//! | path | facts |
//! |---|---|
//! | `/version` | API, Go and product version, architecture, OS, revision |
//! | `/v1/licencing` | licence type; the cluster's id |
//! | `/v1/nodes` | number of nodes; this node's id; logging level where the next does not say |
//! | `/v1/logs/cluster/config` | logging level |
//! | `/v1/pools`, `/v1/namespaces`, `/v1/rules` | their numbers |
//! | `/v1/volumes` | number, total size, and how many are in each state of health |
//!
//! `decommissioned` volumes are in no bucket, so the buckets add up to no more than the number of volumes.

#![forbid(unsafe_code)]

use super::http::{Api, Login};
use super::{Known, tidy};
use crate::report::daily::Fact;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    api_version: Option<String>,
    arch: Option<String>,
    go_version: Option<String>,
    os: Option<String>,
    revision: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Licence {
    #[serde(rename = "clusterID")]
    cluster_id: Option<String>,
    #[serde(rename = "arrayUUID")]
    array_uuid: Option<String>,
    licence_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: Option<String>,
    hostname: Option<String>,
    name: Option<String>,
    log_level: Option<String>,
}

#[derive(Deserialize)]
struct LogConfig {
    node: Option<String>,
    level: Option<String>,
}

#[derive(Deserialize)]
struct Volume {
    /// In GB.
    size: Option<u64>,
    health: Option<String>,
}

/// Volumes by health: exactly the states of the page.
const BUCKETS: [(&str, Fact); 5] = [
    ("healthy", Fact::VolumesHealthy),
    ("suspect", Fact::VolumesSuspect),
    ("degraded", Fact::VolumesDegraded),
    ("offline", Fact::VolumesOffline),
    ("syncing", Fact::VolumesSyncing),
];
const VERSION_FACTS: [Fact; 6] =
    [Fact::ApiVersion, Fact::Arch, Fact::GoVersion, Fact::Os, Fact::BuildRef, Fact::Version];
const VOLUME_FACTS: [Fact; 7] = [
    Fact::Volumes,
    Fact::VolumeSizeGb,
    Fact::VolumesHealthy,
    Fact::VolumesSuspect,
    Fact::VolumesDegraded,
    Fact::VolumesOffline,
    Fact::VolumesSyncing,
];

/// Asks for everything.
pub async fn ask(base: Url, login: Option<Login>, deadline: Instant) -> Known {
    let mut known = Known::default();
    if let Some(login) = &login {
        known.text(Fact::LoggingUser, &login.user);
    }
    known.missing(&[Fact::LoggingUser], "no user of the API is configured");
    let mut api = match Api::new(base, login, deadline) {
        Ok(api) => api,
        Err(why) => {
            known.missing(&Fact::ALL, &why);
            return known;
        }
    };
    match get::<Version>(&mut api, "/version").await {
        Ok(version) => take_version(&version, &mut known),
        Err(why) => known.missing(&VERSION_FACTS, &why),
    }
    match get::<Licence>(&mut api, "/v1/licencing").await {
        Ok(licence) => {
            known.text(Fact::LicenseType, licence.licence_type.as_deref().unwrap_or_default());
            known.cluster_id = licence.cluster_id.or(licence.array_uuid).and_then(|id| tidy(&id));
        }
        Err(why) => known.missing(&[Fact::LicenseType], &why),
    }
    let here = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let nodes = list::<Node>(&mut api, "/v1/nodes").await;
    if let Ok(nodes) = &nodes {
        known.count(Fact::Nodes, nodes.len() as u64);
        let ours =
            nodes.iter().find(|node| [&node.hostname, &node.name].into_iter().flatten().any(|name| *name == here));
        known.node_id = ours.and_then(|node| node.id.as_deref()).and_then(tidy);
    }
    match list::<LogConfig>(&mut api, "/v1/logs/cluster/config").await {
        Ok(configs) => {
            let configs = configs.iter().map(|config| (config.node.as_deref(), config.level.as_deref()));
            known.text(Fact::LoggingLevel, &level(configs, &here));
        }
        Err(why) => {
            let nodes = nodes.as_ref().map(Vec::as_slice).unwrap_or_default();
            let levels = nodes.iter().map(|node| (node.hostname.as_deref(), node.log_level.as_deref()));
            known.text(Fact::LoggingLevel, &level(levels, &here));
            known.missing(&[Fact::LoggingLevel], &why);
        }
    }
    if let Err(why) = nodes {
        known.missing(&[Fact::Nodes], &why);
    }
    for (path, fact) in [("/v1/pools", Fact::Pools), ("/v1/namespaces", Fact::Namespaces), ("/v1/rules", Fact::Rules)] {
        match list::<serde::de::IgnoredAny>(&mut api, path).await {
            Ok(list) => known.count(fact, list.len() as u64),
            Err(why) => known.missing(&[fact], &why),
        }
    }
    match list::<Volume>(&mut api, "/v1/volumes").await {
        Ok(volumes) => take_volumes(&volumes, &mut known),
        Err(why) => known.missing(&VOLUME_FACTS, &why),
    }
    known
}

fn take_version(version: &Version, known: &mut Known) {
    let texts = [
        (Fact::ApiVersion, &version.api_version),
        (Fact::Arch, &version.arch),
        (Fact::GoVersion, &version.go_version),
        (Fact::Os, &version.os),
        (Fact::BuildRef, &version.revision),
        (Fact::Version, &version.version),
    ];
    for (fact, text) in texts {
        known.text(fact, text.as_deref().unwrap_or_default());
    }
}

fn take_volumes(volumes: &[Volume], known: &mut Known) {
    known.count(Fact::Volumes, volumes.len() as u64);
    let sizes = volumes.iter().filter_map(|volume| volume.size);
    known.count(Fact::VolumeSizeGb, sizes.fold(0, u64::saturating_add));
    for (health, fact) in BUCKETS {
        let there = volumes.iter().filter(|volume| volume.health.as_deref() == Some(health)).count();
        known.count(fact, there as u64);
    }
}

/// This node's, else what all say, else each that somebody says.
fn level<'a>(levels: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>, here: &str) -> String {
    let levels: Vec<_> = levels.filter_map(|(node, level)| Some((node, level?))).collect();
    if let Some((_, level)) = levels.iter().find(|(node, _)| *node == Some(here)) {
        return (*level).to_owned();
    }
    let mut all: Vec<&str> = levels.into_iter().map(|(_, level)| level).collect();
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

async fn get<T: DeserializeOwned>(api: &mut Api, path: &str) -> Result<T, String> {
    let body = api.get(path).await.map_err(|why| format!("{path}: {why}"))?;
    serde_json::from_slice(&body).map_err(|_| format!("{path}: the answer is not of the v1 API"))
}

/// Go's empty list is `null`.
async fn list<T: DeserializeOwned>(api: &mut Api, path: &str) -> Result<Vec<T>, String> {
    get::<Option<Vec<T>>>(api, path).await.map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests;
