//! The report once a day as it is kept: what is known of the product and its cluster, and what is not, with the reason.
//!
//! The fields are those of the page, and no others. Ids are keyed hashes by the time they are in here.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format written today.
pub const FORMAT: u32 = 1;

/// One day's report.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Daily {
    pub format: u32,
    /// 32 hex digits.
    pub event_id: String,
    pub at_unix_ms: u64,
    /// Name of the product.
    pub product: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    pub server_name: String,
    /// The keyed hash of the cluster's id.
    pub cluster: String,
    /// By the names of [`Fact`].
    pub facts: BTreeMap<String, Value>,
    /// What could not be learnt, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown: BTreeMap<String, String>,
    pub obit_version: String,
}

/// A check-in of a Sentry cron monitor: that we are alive, and nothing else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckIn {
    pub format: u32,
    /// 32 hex digits.
    pub check_in_id: String,
    pub monitor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

/// A number or a text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Count(u64),
    Text(String),
}

/// What an inventory can tell, in the order of the page's list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fact {
    ApiVersion,
    Arch,
    GoVersion,
    VolumesHealthy,
    LoggingLevel,
    LoggingUser,
    LicenseType,
    Namespaces,
    Nodes,
    Pools,
    Os,
    Rules,
    BuildRef,
    Version,
    VolumesSuspect,
    VolumeSizeGb,
    Volumes,
    VolumesDegraded,
    VolumesOffline,
    VolumesSyncing,
}

/// Where in the event a fact stands: the name of its context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Product,
    Logging,
    Inventory,
}

impl Fact {
    pub const ALL: [Fact; 20] = [
        Fact::ApiVersion,
        Fact::Arch,
        Fact::GoVersion,
        Fact::VolumesHealthy,
        Fact::LoggingLevel,
        Fact::LoggingUser,
        Fact::LicenseType,
        Fact::Namespaces,
        Fact::Nodes,
        Fact::Pools,
        Fact::Os,
        Fact::Rules,
        Fact::BuildRef,
        Fact::Version,
        Fact::VolumesSuspect,
        Fact::VolumeSizeGb,
        Fact::Volumes,
        Fact::VolumesDegraded,
        Fact::VolumesOffline,
        Fact::VolumesSyncing,
    ];

    /// In reports, in mappings and in the JSON of a file or a command.
    pub fn name(self) -> &'static str {
        match self {
            Fact::ApiVersion => "api_version",
            Fact::Arch => "arch",
            Fact::GoVersion => "go_version",
            Fact::VolumesHealthy => "volumes_healthy",
            Fact::LoggingLevel => "logging_level",
            Fact::LoggingUser => "logging_user",
            Fact::LicenseType => "license_type",
            Fact::Namespaces => "namespaces",
            Fact::Nodes => "nodes",
            Fact::Pools => "pools",
            Fact::Os => "os",
            Fact::Rules => "rules",
            Fact::BuildRef => "build_ref",
            Fact::Version => "version",
            Fact::VolumesSuspect => "volumes_suspect",
            Fact::VolumeSizeGb => "volume_size_gb",
            Fact::Volumes => "volumes",
            Fact::VolumesDegraded => "volumes_degraded",
            Fact::VolumesOffline => "volumes_offline",
            Fact::VolumesSyncing => "volumes_syncing",
        }
    }

    pub fn parse(name: &str) -> Option<Fact> {
        Fact::ALL.into_iter().find(|fact| fact.name() == name)
    }

    pub fn place(self) -> Place {
        match self {
            Fact::ApiVersion
            | Fact::Arch
            | Fact::GoVersion
            | Fact::LicenseType
            | Fact::Os
            | Fact::BuildRef
            | Fact::Version => Place::Product,
            Fact::LoggingLevel | Fact::LoggingUser => Place::Logging,
            _ => Place::Inventory,
        }
    }

    /// Whether it is a number.
    pub fn is_count(self) -> bool {
        self.place() == Place::Inventory
    }
}

impl Place {
    pub fn context(self) -> &'static str {
        match self {
            Place::Product => "product",
            Place::Logging => "logging",
            Place::Inventory => "inventory",
        }
    }
}
