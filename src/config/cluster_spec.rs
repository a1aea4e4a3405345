//! The StorageOSCluster resource as a mounted file: whole, as `kubectl get -o yaml` prints it, or its bare `spec`.
//!
//! YAML or JSON, which YAML contains. Of it only the switches of telemetry and `k8sDistro` concern us; everything else is
//! passed over. The file is somebody else's: its size and depth are bounded, and anchors, which can make a page of text
//! fill any memory, are refused.

#![forbid(unsafe_code)]

use crate::sys::regular;
use serde_json::{Map, Value};
use std::path::Path;
use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};

/// A resource is a few KiB; etcd takes 1.5 MiB at most.
const FILE_BYTES: u64 = 1536 * 1024;
/// Nesting of a resource is below ten.
const DEPTH: usize = 64;

/// What the resource says that concerns us.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterSpec {
    /// The switches that are there.
    pub switches: Vec<Switch>,
    /// `k8sDistro`, when it is not empty.
    pub k8s_distro: Option<String>,
}

/// One `disable…` field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Switch {
    pub field: Field,
    /// As it stands there.
    pub text: String,
    /// `None`: neither true nor false.
    pub on: Option<bool>,
}

/// The switches of the resource. The second name of the crash reports is that of the product's later versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    DisableTelemetry,
    DisableErrorReporting,
    DisableCrashReporting,
    DisableVersionCheck,
}

impl Field {
    const ALL: [Field; 4] = [
        Field::DisableTelemetry,
        Field::DisableErrorReporting,
        Field::DisableCrashReporting,
        Field::DisableVersionCheck,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Field::DisableTelemetry => "disableTelemetry",
            Field::DisableErrorReporting => "disableErrorReporting",
            Field::DisableCrashReporting => "disableCrashReporting",
            Field::DisableVersionCheck => "disableVersionCheck",
        }
    }
}

impl ClusterSpec {
    /// Reads the file as it is now.
    pub fn read(path: &Path) -> Result<ClusterSpec, String> {
        let text = regular::read_text(path, FILE_BYTES).map_err(|error| error.to_string())?;
        ClusterSpec::parse(&text)
    }

    pub fn parse(text: &str) -> Result<ClusterSpec, String> {
        let documents = documents(text)?;
        let mut specs = Vec::new();
        for document in &documents {
            collect(document, &mut specs);
        }
        if specs.is_empty() {
            return Err("there is no StorageOSCluster resource and no spec in it".to_owned());
        }
        let mut found = ClusterSpec::default();
        for spec in specs {
            for field in Field::ALL {
                let text = match spec.get(field.as_str()) {
                    None | Some(Value::Null) => continue,
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                };
                let on = parse_bool(&text);
                found.switches.push(Switch { field, text, on });
            }
            let distro = spec.get("k8sDistro").and_then(Value::as_str).map(str::trim).filter(|name| !name.is_empty());
            found.k8s_distro = found.k8s_distro.or_else(|| distro.map(str::to_owned));
        }
        Ok(found)
    }
}

/// The specs in a document: of the resource, of each resource of a list, or the document itself.
fn collect<'a>(document: &'a Value, specs: &mut Vec<&'a Map<String, Value>>) {
    let Some(object) = document.as_object() else { return };
    match (object.get("kind").and_then(Value::as_str), object.get("items"), object.get("spec")) {
        (Some("StorageOSCluster"), _, spec) => specs.extend(spec.and_then(Value::as_object)),
        (_, Some(Value::Array(items)), _) => items.iter().for_each(|item| collect(item, specs)),
        // Another resource in the same file.
        (Some(_), ..) => {}
        (None, _, Some(Value::Object(spec))) => specs.push(spec),
        (None, _, _) => specs.push(object),
    }
}

/// The documents of a YAML text, scalars as their texts.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut reader = Reader::default();
    let parsed = Parser::new_from_str(text).load(&mut reader, true);
    match (reader.refused, parsed) {
        (Some(why), _) => Err(why),
        (None, Err(error)) => Err(format!("it is neither YAML nor JSON: {error}")),
        (None, Ok(())) => Ok(reader.documents),
    }
}

/// Builds values from events.
#[derive(Default)]
struct Reader {
    documents: Vec<Value>,
    /// What is being built, outermost first; of a mapping also the key that waits for its value.
    open: Vec<(Value, Option<String>)>,
    refused: Option<String>,
}

impl Reader {
    fn begin(&mut self, value: Value) {
        if self.open.len() >= DEPTH {
            self.refused = Some(format!("it is nested deeper than {DEPTH} levels"));
        }
        self.open.push((value, None));
    }

    fn add(&mut self, value: Value) {
        match self.open.last_mut() {
            None => self.documents.push(value),
            Some((Value::Array(list), _)) => list.push(value),
            Some((Value::Object(object), key)) => match key.take() {
                Some(key) => {
                    object.insert(key, value);
                }
                None => *key = Some(value.as_str().unwrap_or_default().to_owned()),
            },
            Some(_) => {}
        }
    }

    fn end(&mut self) {
        if let Some((value, _)) = self.open.pop() {
            self.add(value);
        }
    }
}

impl MarkedEventReceiver for Reader {
    fn on_event(&mut self, event: Event, _: Marker) {
        if self.refused.is_some() {
            return;
        }
        match event {
            Event::Alias(_) => self.refused = Some("it uses a YAML alias, which no resource needs".to_owned()),
            Event::Scalar(text, TScalarStyle::Plain, ..) if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") => {
                self.add(Value::Null);
            }
            Event::Scalar(text, ..) => self.add(Value::String(text)),
            Event::SequenceStart(..) => self.begin(Value::Array(Vec::new())),
            Event::MappingStart(..) => self.begin(Value::Object(Map::new())),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => {}
        }
    }
}

/// Go's strconv.ParseBool, the rule of the page's product; an empty value counts as unset, that is `false`.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.trim() {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn on(text: &str) -> Vec<(&'static str, Option<bool>)> {
        ClusterSpec::parse(text).unwrap().switches.iter().map(|switch| (switch.field.as_str(), switch.on)).collect()
    }

    #[test]
    fn the_whole_resource_a_list_and_the_bare_spec_say_the_same() {
        let spec = "disableTelemetry: true\nk8sDistro: openshift-4.2\nimages: {nodeContainer: x}\n";
        let indented = spec.replace('\n', "\n  ");
        let whole = format!(
            "apiVersion: storageos.com/v1\nkind: StorageOSCluster\nmetadata: {{name: a}}\nspec:\n  {indented}\n"
        );
        let json = r#"{"kind":"List","items":[{"kind":"StorageOSCluster","spec":{"disableTelemetry":true,"k8sDistro":"openshift-4.2"}}]}"#;
        let among = format!("kind: Secret\nspec: {{disableErrorReporting: true}}\n---\n{whole}");
        for text in [spec, &whole, json, &among, &format!("spec:\n  {indented}")] {
            assert_eq!(on(text), [("disableTelemetry", Some(true))], "{text}");
            assert_eq!(ClusterSpec::parse(text).unwrap().k8s_distro.as_deref(), Some("openshift-4.2"));
        }
    }

    #[test]
    fn a_switch_is_read_as_go_reads_it_and_anything_else_is_told() {
        assert_eq!(
            on("disableTelemetry: false\ndisableVersionCheck: 'T'"),
            [("disableTelemetry", Some(false)), ("disableVersionCheck", Some(true))]
        );
        assert_eq!(on("disableErrorReporting: [1]"), [("disableErrorReporting", None)]);
        assert_eq!(on("disableTelemetry: yes"), [("disableTelemetry", None)]);
        assert_eq!(on("disableTelemetry: null"), []);
        assert_eq!(on("disableTelemetry:"), []);
    }

    #[test]
    fn what_is_no_resource_is_refused_with_its_reason() {
        let deep = "[".repeat(80);
        let table = [
            ("", "there is no StorageOSCluster resource and no spec in it"),
            ("just words", "there is no StorageOSCluster resource and no spec in it"),
            ("kind: Pod\nspec: {a: b}", "there is no StorageOSCluster resource and no spec in it"),
            ("a: &x 1\nb: *x", "it uses a YAML alias, which no resource needs"),
            (&deep, "it is nested deeper than 64 levels"),
        ];
        for (text, sentence) in table {
            assert_eq!(ClusterSpec::parse(text).unwrap_err(), sentence);
        }
        assert!(ClusterSpec::parse("a: [").unwrap_err().starts_with("it is neither YAML nor JSON: "));
        assert!(ClusterSpec::read(Path::new("/")).unwrap_err().contains("not a regular file"));
        assert!(ClusterSpec::read(Path::new("/nonexistent")).unwrap_err().contains("No such file"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_spec_or_a_sentence(text in "(\\PC|\n|[-:\\[\\]{}&*!|>'\"%@` ]){0,200}") {
            let _ = ClusterSpec::parse(&text);
        }
    }
}
