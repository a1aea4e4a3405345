//! `obit config check`: whether what was configured can be used, the parts included that are otherwise read only when something
//! is sent, asked or opened. Nothing is: no packet leaves, no file is made, and whether an inventory answers is not tried.

#![forbid(unsafe_code)]

use super::output;
use crate::config::cluster_spec::ClusterSpec;
use crate::config::{Loaded, Settings};
use crate::deliver::dsn::Dsn;
use crate::panel::door;
use crate::say::{Level, say};
use crate::telemetry::dns::answer::Key;
use crate::telemetry::dns::name;
use crate::telemetry::dns::servers::Servers;
use crate::telemetry::identity;
use crate::telemetry::inventory::Source;
use crate::telemetry::inventory::json::Mapping;
use std::io::Write as _;

/// Says what is wrong, a line each. Fails if anything is.
pub fn run(loaded: Loaded) -> Result<(), String> {
    let mut faults = loaded.warnings;
    faults.extend(unusable(&loaded.settings));
    for fault in &faults {
        say(Level::Warning, fault);
    }
    match faults.len() {
        0 => {
            let _ = writeln!(output::stdout(), "the configuration is sound");
            Ok(())
        }
        n => Err(format!("{n} value{} not used", if n == 1 { " is" } else { "s are" })),
    }
}

/// What is well written and cannot be used all the same.
fn unusable(settings: &Settings) -> impl Iterator<Item = String> {
    fn of<T>(text: Option<&str>, parse: impl Fn(&str) -> Result<T, String>) -> Option<String> {
        parse(text?).err()
    }
    let spec = settings.cluster_spec.as_deref().map(|path| {
        ClusterSpec::read(path).map_err(|error| format!("the cluster spec {} cannot be used: {error}", path.display()))
    });
    let faults = [
        of(settings.dsn.as_deref(), Dsn::parse),
        of(settings.dns_zone.as_deref(), name::zone),
        of(settings.dns_keys.as_deref(), Key::parse_list),
        of(settings.dns_resolver.as_deref(), Servers::given),
        of(settings.inventory.as_deref(), Source::parse),
        of(Some(&settings.inventory_map), Mapping::parse),
        settings.cluster_secret.as_deref().and_then(identity::fault),
        spec.and_then(Result::err),
        settings.api.and_then(|address| door::fault(settings, address)),
    ];
    faults.into_iter().flatten()
}
