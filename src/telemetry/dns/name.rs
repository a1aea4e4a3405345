//! The question as a name: `n<node>.c<cluster>.[k<distro/version>.]v<version>.q1.<zone>.`
//!
//! Ids leave as keyed hashes: the first ten bytes of HMAC-SHA256 under a key that never leaves the cluster, so nobody who
//! knows an id can find its label. What is not an id is encoded, not hidden: [`decode`] shows it to whoever asks. The
//! version stands right of all else, so that a wildcard record can answer for each version.

#![forbid(unsafe_code)]

use data_encoding::BASE32_DNSSEC as BASE32HEX;
use ring::hmac;

/// Bytes that fit into a label of 63 characters behind its letter, at five bits each: 38 make 61 of them, 39 would make 63.
const LABEL_BYTES: usize = 38;
/// Bytes of a keyed hash that are sent: 80 bits do not collide by chance, and make a label of 17 characters.
const HASH_BYTES: usize = 10;
/// RFC 1035: a name as text, without the dot at its end.
const NAME_CHARS: usize = 253;
/// The format of all this; the next one is `q2` under the same zone.
const FORMAT: &str = "q1";

/// What is asked with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question<'a> {
    /// The key of the hashes.
    pub salt: &'a [u8],
    /// `None`: no key is shared in the cluster, so a cluster could not be told from another and is not named at all.
    pub cluster_id: Option<&'a str>,
    pub node_id: &'a str,
    /// Of the product that runs.
    pub version: &'a str,
    pub kubernetes: Option<Kubernetes>,
    /// `updates.example.com`.
    pub zone: &'a str,
}

/// Told only when `k8sDistro` is set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kubernetes {
    pub distro: String,
    /// `None`: the API server did not say.
    pub version: Option<String>,
}

/// Ids of different kinds never have equal hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Id {
    Node,
    Cluster,
}

impl Question<'_> {
    /// The absolute name, with the dot at its end, so that no search list touches it.
    pub fn name(&self) -> Result<String, String> {
        let zone = zone(self.zone)?;
        let node = pseudonym(self.salt, Id::Node, self.node_id);
        let cluster = self.cluster_id.map_or("0".to_owned(), |id| pseudonym(self.salt, Id::Cluster, id));
        let version = encode(self.version);
        let kubernetes = self.kubernetes.as_ref().map(|kubernetes| {
            let text = format!("{}/{}", kubernetes.distro, kubernetes.version.as_deref().unwrap_or_default());
            format!("k{}.", encode(&text))
        });
        let kubernetes = kubernetes.unwrap_or_default();
        let name = format!("n{node}.c{cluster}.{kubernetes}v{version}.{FORMAT}.{zone}");
        if name.len() > NAME_CHARS {
            return Err(format!(
                "the DNS zone {zone:?} is too long: the question would have {} characters",
                name.len()
            ));
        }
        Ok(name + ".")
    }
}

/// The zone in one spelling: lower case, no dot at its end; or what is wrong with it.
pub fn zone(text: &str) -> Result<String, String> {
    let zone = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    if !zone.split('.').all(label) {
        return Err(format!("{text:?} is no DNS zone; write something like updates.example.com"));
    }
    Ok(zone)
}

/// The owner of a record within the zone: for one version, or for all that have none of their own.
pub fn wildcard(version: Option<&str>) -> String {
    version.map_or_else(|| format!("*.{FORMAT}"), |version| format!("*.v{}.{FORMAT}", encode(version)))
}

/// The label of an id, without its letter.
fn pseudonym(salt: &[u8], kind: Id, id: &str) -> String {
    let kind = match kind {
        Id::Node => "node",
        Id::Cluster => "cluster",
    };
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
    for part in ["obit/dns/1/", kind, "\0", id] {
        context.update(part.as_bytes());
    }
    BASE32HEX.encode(&context.sign().as_ref()[..HASH_BYTES])
}

/// What is longer than a label holds is cut.
fn encode(text: &str) -> String {
    BASE32HEX.encode(&text.as_bytes()[..text.len().min(LABEL_BYTES)])
}

/// What a name tells whoever receives it; labels that are none of ours are left out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decoded {
    pub node: Option<String>,
    pub cluster: Option<String>,
    pub kubernetes: Option<String>,
    pub version: Option<String>,
    pub zone: String,
}

/// Reads a name back, for the preview and for a vendor's log; upper case reads as lower.
pub fn decode(name: &str) -> Option<Decoded> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let (labels, zone) = name.split_once(&format!(".{FORMAT}."))?;
    let mut decoded = Decoded { zone: zone.to_owned(), ..Decoded::default() };
    for label in labels.split('.') {
        let (letter, rest) = label.split_at_checked(1)?;
        let text = || {
            let bytes = BASE32HEX.decode(rest.as_bytes()).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        match letter {
            "n" => decoded.node = Some(rest.to_owned()),
            "c" => decoded.cluster = Some(rest.to_owned()),
            "k" => decoded.kubernetes = Some(text()?),
            "v" => decoded.version = Some(text()?),
            _ => {}
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[derive(serde::Deserialize)]
    struct Vectors {
        salt_hex: String,
        suffix: String,
        queries: Vec<Query>,
    }

    #[derive(serde::Deserialize)]
    struct Query {
        cluster_id: String,
        node_id: String,
        version: String,
        k8s_distro: Option<String>,
        k8s_version: Option<String>,
        qname: String,
        qname_len: usize,
        max_label: usize,
    }

    fn vectors() -> (Vec<u8>, String, Vec<Query>) {
        let vectors: Vectors = serde_json::from_str(include_str!("../../../fixtures/dns/vectors.json")).unwrap();
        let zone = vectors.suffix.strip_prefix("q1.").unwrap().to_owned();
        (HEXLOWER.decode(vectors.salt_hex.as_bytes()).unwrap(), zone, vectors.queries)
    }

    #[test]
    fn every_question_of_the_vectors_has_its_name() {
        let (salt, zone, queries) = vectors();
        assert_eq!(queries.len(), 3);
        for query in queries {
            let kubernetes = query.k8s_distro.map(|distro| Kubernetes { distro, version: query.k8s_version });
            let question = Question {
                salt: &salt,
                cluster_id: Some(&query.cluster_id),
                node_id: &query.node_id,
                version: &query.version,
                kubernetes,
                zone: &zone,
            };
            let name = question.name().unwrap();
            assert_eq!(name, query.qname);
            assert_eq!((name.len(), name.split('.').map(str::len).max().unwrap()), (query.qname_len, query.max_label));
        }
    }

    fn asked(version: &str, kubernetes: Option<Kubernetes>, zone: &str) -> Result<String, String> {
        Question { salt: &[7; 32], cluster_id: None, node_id: "a", version, kubernetes, zone }.name()
    }

    #[test]
    fn what_is_told_can_be_read_back_and_ids_cannot() {
        let kubernetes = Kubernetes { distro: "eks".to_owned(), version: Some("v1.30".to_owned()) };
        let name = asked("1.5.3", Some(kubernetes), "Updates.Example.Test.").unwrap();
        let decoded = decode(&name.to_uppercase()).unwrap();
        assert_eq!(decoded.version.as_deref(), Some("1.5.3"));
        assert_eq!(decoded.kubernetes.as_deref(), Some("eks/v1.30"));
        assert_eq!(decoded.cluster.as_deref(), Some("0"));
        assert_eq!(decoded.node.map(|node| node.len()), Some(16));
        assert_eq!(decoded.zone, "updates.example.test");
        assert_eq!(decode("example.test."), None);
        assert_eq!(decode("n.v!.q1.example.test."), None);
    }

    #[test]
    fn what_is_too_long_is_cut_to_what_a_label_holds() {
        let long = "1.0.0-".to_owned() + &"é".repeat(60);
        let kubernetes = Kubernetes { distro: "d".repeat(80), version: None };
        let name = asked(&long, Some(kubernetes), "updates.example.test").unwrap();
        assert!(name.split('.').all(|label| label.len() <= 63), "{name}");
        assert!(name.len() <= 185, "{}", name.len());
        let much = format!("{}.test", vec!["z".repeat(60); 4].join("."));
        assert!(asked("1.0.0", None, &much).unwrap_err().contains("is too long"));
    }

    #[test]
    fn a_zone_is_a_name_and_nothing_else() {
        for wrong in ["", ".", "a..b", "exämple.test", "a b", &"x".repeat(64), "a/b"] {
            assert!(zone(wrong).unwrap_err().ends_with("write something like updates.example.com"), "{wrong}");
        }
        assert_eq!(zone("UPDATES.example.").unwrap(), "updates.example");
    }

    #[test]
    fn the_same_id_is_another_label_as_node_as_cluster_and_under_another_key() {
        let labels = [
            pseudonym(&[1; 32], Id::Node, "a"),
            pseudonym(&[1; 32], Id::Cluster, "a"),
            pseudonym(&[2; 32], Id::Node, "a"),
        ];
        assert!(labels[0] != labels[1] && labels[0] != labels[2]);
    }
}
