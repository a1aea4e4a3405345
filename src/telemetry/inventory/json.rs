//! One JSON document as an inventory: each fact is found by a JSON pointer (RFC 6901).
//!
//! Without a mapping a fact stands under its own name: `{"nodes": 3, "license_type": "basic"}`. `--inventory-map
//! nodes=/cluster/members,license_type=/licence/kind` says where it stands instead. Where a number is wanted, a list or an
//! object is counted.

#![forbid(unsafe_code)]

use super::{Known, tidy};
use crate::report::daily::{self, Fact};
use serde_json::Value;
use std::collections::BTreeMap;

/// Names of the two ids, beside those of the facts.
const CLUSTER_ID: &str = "cluster_id";
const NODE_ID: &str = "node_id";

/// Where facts stand, if not under their names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mapping(BTreeMap<String, String>);

impl Mapping {
    /// `fact=/pointer`, separated by commas.
    pub fn parse(text: &str) -> Result<Mapping, String> {
        let mut mapping = Mapping::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, pointer) = pair
                .split_once('=')
                .filter(|(_, pointer)| pointer.starts_with('/'))
                .ok_or_else(|| format!("{pair:?} is no pair fact=/pointer, such as nodes=/cluster/members"))?;
            if Fact::parse(name).is_none() && ![CLUSTER_ID, NODE_ID].contains(&name) {
                let names = Fact::ALL.iter().map(|fact| fact.name().to_owned());
                let near = crate::config::nearest(name, names);
                return Err(format!("there is no fact {name:?}{}", crate::config::suggestion(near.as_deref())));
            }
            mapping.0.insert(name.to_owned(), pointer.to_owned());
        }
        Ok(mapping)
    }

    fn find<'a>(&self, document: &'a Value, name: &str) -> Option<&'a Value> {
        let found = match self.0.get(name) {
            Some(pointer) => document.pointer(pointer),
            None => document.get(name),
        };
        found.filter(|value| !value.is_null())
    }
}

/// Takes what the document says.
pub fn read(document: &Value, mapping: &Mapping, known: &mut Known) {
    for fact in Fact::ALL {
        let Some(value) = mapping.find(document, fact.name()) else { continue };
        match (fact.is_count(), count(value), text(value)) {
            (true, Some(count), _) => known.count(fact, count),
            (false, _, Some(text)) => known.text(fact, &text),
            (true, ..) => drop(known.unknown.insert(fact, "the inventory holds no number there".to_owned())),
            (false, ..) => drop(known.unknown.insert(fact, "the inventory holds no text there".to_owned())),
        }
    }
    known.cluster_id = mapping.find(document, CLUSTER_ID).and_then(text).and_then(|id| tidy(&id));
    known.node_id = mapping.find(document, NODE_ID).and_then(text).and_then(|id| tidy(&id));
}

fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Array(list) => Some(list.len() as u64),
        Value::Object(object) => Some(object.len() as u64),
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_u64(),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// As a document that [`read`] takes: what is remembered of an inventory between two reports.
pub fn write(known: &Known) -> Value {
    let mut document = serde_json::Map::new();
    for (fact, value) in &known.facts {
        let value = match value {
            daily::Value::Count(count) => (*count).into(),
            daily::Value::Text(text) => text.as_str().into(),
        };
        document.insert(fact.name().to_owned(), value);
    }
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn facts_are_found_by_pointer_or_by_name() {
        let mapping = Mapping::parse("nodes=/cluster/members, rules=/rules~1all,cluster_id=/cluster/uid").unwrap();
        let document = json!({"cluster": {"members": [{}, {}], "uid": "c-1"}, "rules/all": {"a": 1, "b": 2, "c": 3}, "pools": "4",
            "volumes": -1, "version": 7, "license_type": [], "namespaces": null, "nodes": 99});
        let mut known = Known::default();
        read(&document, &mapping, &mut known);
        let count = |fact| match known.facts.get(&fact) {
            Some(daily::Value::Count(count)) => Some(*count),
            _ => None,
        };
        assert_eq!(
            [Fact::Nodes, Fact::Rules, Fact::Pools, Fact::Volumes].map(count),
            [Some(2), Some(3), Some(4), None]
        );
        assert_eq!(known.facts[&Fact::Version], daily::Value::Text("7".to_owned()));
        assert_eq!(known.unknown[&Fact::Volumes], "the inventory holds no number there");
        assert_eq!(known.unknown[&Fact::LicenseType], "the inventory holds no text there");
        assert!(!known.facts.contains_key(&Fact::Namespaces) && !known.unknown.contains_key(&Fact::Namespaces));
        assert_eq!(known.cluster_id.as_deref(), Some("c-1"));
    }

    #[test]
    fn a_mapping_that_is_none_is_answered() {
        let table = [
            ("nodes", "\"nodes\" is no pair fact=/pointer, such as nodes=/cluster/members"),
            ("nodes=x", "\"nodes=x\" is no pair fact=/pointer, such as nodes=/cluster/members"),
            ("node=/x", "there is no fact \"node\"; did you mean \"nodes\"?"),
        ];
        for (text, sentence) in table {
            assert_eq!(Mapping::parse(text).unwrap_err(), sentence);
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut known = Known::default();
        known.count(Fact::Nodes, 3);
        known.text(Fact::Version, "1.5.3");
        let mut again = Known::default();
        read(&write(&known), &Mapping::default(), &mut again);
        assert_eq!(again, known);
    }

    proptest! {
        #[test]
        fn a_text_never_breaks_a_line_or_grows(text in "\\PC{0,400}|[\u{0}-\u{1f}]{0,9}") {
            let mut known = Known::default();
            read(&json!({"version": text}), &Mapping::default(), &mut known);
            if let Some(daily::Value::Text(kept)) = known.facts.get(&Fact::Version) {
                prop_assert!(kept.chars().count() <= 200 && !kept.chars().any(char::is_control) && !kept.is_empty());
            }
        }
    }
}
