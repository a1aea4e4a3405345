//! The names that a report is sent under: the same for the courier that sends it and for the preview that shows it.

#![forbid(unsafe_code)]

use super::daily;
use super::identity::{self, Identity};
use crate::config::Settings;
use crate::deliver::sender::Sender;
use crate::report::daily::{Fact, Value};
use std::collections::BTreeMap;
use std::path::Path;
use tracing::debug;

/// What does not change between two reports.
pub struct Signer<'a> {
    settings: &'a Settings,
    /// `None`: there is no place to keep one, or it cannot be read; then no cluster is named.
    identity: Option<Identity>,
    facts: BTreeMap<Fact, Value>,
}

impl Signer<'_> {
    /// Reads identity and product from the state directory; what is missing is made or left out.
    pub fn new<'a>(settings: &'a Settings, state_dir: Option<&Path>) -> Signer<'a> {
        // Whoever makes the identity's report tells why it cannot; a crash goes without naming a cluster.
        let told = |sentence: &String| debug!("{sentence}");
        let identity = state_dir.and_then(|dir| Identity::load(settings, dir).inspect_err(told).ok());
        Signer { settings, identity, facts: daily::product(settings, state_dir) }
    }

    /// Who sends a report about this host.
    pub fn sender(&self, host: &str) -> Sender {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        let server_name = match (self.settings.hide_server_name, &self.identity) {
            (false, _) => name.to_owned(),
            (true, Some(identity)) => identity.pseudonym(identity::Kind::Server, name),
            (true, None) => "hidden".to_owned(),
        };
        let cluster = self.identity.as_ref().map(|own| own.pseudonym(identity::Kind::Cluster, &own.cluster_id));
        Sender { server_name: Some(server_name), cluster, facts: self.facts.clone() }
    }
}
