//! Where a channel leads, as the settings have it: the one answer for the commands, the API, the metrics and the panel.
//!
//! A DSN that is set is not yet one that anything can be sent to. What is wrong with it is told wherever the channel is.

#![forbid(unsafe_code)]

use super::check::Plan;
use crate::config::Settings;
use crate::config::value::mask_dsn;
use crate::consent::{self, Channel};
use crate::deliver::dsn::Dsn;
use crate::deliver::transport;
use std::collections::BTreeSet;
use std::path::Path;

/// Nothing is built in, so most often it is unset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// What is not set.
    Unset(&'static str),
    /// Set, and nothing can go there as it is.
    Unusable { shown: String, why: String },
    /// Without its key.
    To(String),
}

impl Destination {
    pub fn of(channel: Channel, settings: &Settings) -> Destination {
        match channel {
            Channel::Errors | Channel::Daily => match &settings.dsn {
                None => Destination::Unset("DSN"),
                Some(dsn) => {
                    let shown = mask_dsn(dsn);
                    let way = Dsn::parse(dsn).and_then(|dsn| transport::way(dsn.envelope_url().as_str()));
                    way.map_or_else(
                        |why| Destination::Unusable { shown: shown.clone(), why },
                        |_| Destination::To(shown.clone()),
                    )
                }
            },
            Channel::Dns => match &settings.dns_zone {
                None => Destination::Unset("DNS zone"),
                Some(zone) => match Plan::of(settings) {
                    Ok(plan) => Destination::To(plan.zone),
                    Err(why) => Destination::Unusable { shown: zone.clone(), why },
                },
            },
        }
    }

    /// Whether anything can go there.
    pub fn is_usable(&self) -> bool {
        matches!(self, Destination::To(_))
    }

    /// As it is set, usable or not.
    pub fn shown(&self) -> Option<&str> {
        match self {
            Destination::Unset(_) => None,
            Destination::Unusable { shown, .. } | Destination::To(shown) => Some(shown),
        }
    }

    /// What is wrong with what is set.
    pub fn unusable(&self) -> Option<&str> {
        match self {
            Destination::Unusable { why, .. } => Some(why),
            Destination::Unset(_) | Destination::To(_) => None,
        }
    }
}

/// What is wrong with the destinations of the channels that are open, each once.
pub fn unusable(settings: &Settings, state_dir: Option<&Path>) -> impl Iterator<Item = String> {
    let consent = consent::current(settings, state_dir);
    let open = Channel::ALL.into_iter().filter(|channel| consent.grant(*channel).is_ok());
    let wrong: BTreeSet<String> =
        open.filter_map(|channel| Destination::of(channel, settings).unusable().map(str::to_owned)).collect();
    wrong.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_and_cannot_be_used_is_neither_unset_nor_a_destination() {
        let of = |dsn: Option<&str>| {
            let settings = Settings { dsn: dsn.map(str::to_owned), ..Settings::default() };
            assert_eq!(Destination::of(Channel::Errors, &settings), Destination::of(Channel::Daily, &settings));
            Destination::of(Channel::Daily, &settings)
        };
        assert_eq!(of(None), Destination::Unset("DSN"));
        assert_eq!(of(Some("http://0123456789@h.test/1")), Destination::To("http://0123…@h.test/1".to_owned()));
        let bad = of(Some("https://0123456789@h.test/"));
        assert_eq!(bad.unusable(), Some("the DSN has no project at its end"));
        assert_eq!((bad.is_usable(), bad.shown()), (false, Some("https://0123…@h.test/")));
    }

    #[test]
    fn a_zone_needs_a_version_to_ask_for() {
        let mut settings = Settings::default();
        assert_eq!(Destination::of(Channel::Dns, &settings), Destination::Unset("DNS zone"));
        settings.dns_zone = Some("Updates.example.test.".to_owned());
        let bad = Destination::of(Channel::Dns, &settings);
        assert!(bad.unusable().is_some_and(|why| why.contains("--product-version")), "{bad:?}");
        settings.product_version = Some("1.5.3".to_owned());
        assert_eq!(Destination::of(Channel::Dns, &settings), Destination::To("updates.example.test".to_owned()));
    }
}
