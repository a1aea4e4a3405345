//! Who a report is from, as its event says it: server name, cluster and product. Resolved when it is sent, so that a change
//! of mind about one's name holds for what waits, too.

#![forbid(unsafe_code)]

use crate::report::daily::{Fact, Value};
use serde_json::json;
use std::collections::BTreeMap;

/// The names that go into an event.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sender {
    /// In place of the host name in the report.
    pub server_name: Option<String>,
    /// The keyed hash of the cluster's id.
    pub cluster: Option<String>,
    /// What is known of the product.
    pub facts: BTreeMap<Fact, Value>,
}

impl Sender {
    /// Writes cluster and product into an event that has `tags` and `contexts`.
    pub fn sign(&self, event: &mut serde_json::Value) {
        if let Some(cluster) = &self.cluster {
            event["tags"]["cluster.id"] = cluster.as_str().into();
        }
        for (fact, value) in &self.facts {
            let context = fact.place().context();
            let value = match value {
                Value::Count(count) => json!(count),
                Value::Text(text) => json!(text),
            };
            if event["contexts"].get(context).is_none() {
                event["contexts"][context] = json!({"type": context});
            }
            event["contexts"][context][fact.name()] = value;
        }
    }
}
