//! Who we are to those who receive: ids that never leave, and the keyed hashes of them that do.
//!
//! A cluster and a node each have an id: given (`--cluster-id`, `--node-id`), else learnt from the product's own API, else
//! made once and kept in the state directory. What leaves is HMAC-SHA256 of an id under a secret of 32 random bytes that
//! never does, so that nobody who knows an id, the vendor included, can find its reports. DNS and Sentry have domains of
//! their own: what is seen there cannot be joined.
//!
//! ```text
//! HMAC-SHA256(secret, "obit/sentry/1/" kind 0x00 id), kind = cluster | node | server: 16 bytes, in hex
//! HMAC-SHA256(secret, "obit/dns/1/"    kind 0x00 id): see `dns`
//! ```
//!
//! The secret is that of the cluster when a file with it is mounted on each node (`--cluster-secret`); one that was made
//! here is the node's own, and then DNS names no cluster at all, because nobody could count it.

#![forbid(unsafe_code)]

use super::inventory::Known;
use crate::config::Settings;
use crate::sys::file::Dir;
use crate::sys::regular::{self, Link};
use crate::sys::{clock, memory};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::path::Path;

/// In the state directory, for its owner alone.
const FILE: &str = "identity.json";
/// Two that make one at once take turns.
const LOCK: &str = "identity.lock";
/// A few lines; a larger file is not ours.
const FILE_BYTES: usize = 16 * 1024;
/// A mounted secret; a larger file is some other file.
const SECRET_FILE_BYTES: usize = 4096;
/// Less is no secret: it could be guessed.
const SECRET_LEAST_BYTES: usize = 16;
const FORMAT: u32 = 1;
/// Bytes of a keyed hash that Sentry gets.
const HASH_BYTES: usize = 16;

/// What an id is of; ids of different kinds never have equal hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Cluster,
    Node,
    Server,
}

/// Ids and the secret that hides them.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cluster_id: String,
    pub node_id: String,
    secret: Secret,
    /// Every node of the cluster has the same secret.
    pub shared: bool,
}

/// Never shown.
#[derive(Clone, PartialEq, Eq)]
struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What the state directory holds.
#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    cluster_id: String,
    node_id: String,
    /// 64 hex digits.
    secret: String,
    made_unix_ms: u64,
    /// What the product calls them, once it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    learnt_cluster_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    learnt_node_id: Option<String>,
}

impl Kept {
    fn make() -> Kept {
        let mut secret = [[0; 16]; 2];
        secret.iter_mut().for_each(memory::random);
        Kept {
            format: FORMAT,
            cluster_id: uuid(),
            node_id: uuid(),
            secret: HEX.encode(secret.as_flattened()),
            made_unix_ms: clock::unix_ms(),
            learnt_cluster_id: None,
            learnt_node_id: None,
        }
    }

    fn read(dir: &Dir) -> io::Result<Option<Kept>> {
        match dir.read_small(FILE, FILE_BYTES) {
            Ok(bytes) => {
                let kept: Kept = serde_json::from_slice(&bytes)?;
                let sound = kept.format == FORMAT && HEX.decode(kept.secret.as_bytes()).is_ok_and(|s| s.len() == 32);
                sound.then_some(Some(kept)).ok_or_else(|| io::Error::other("it is not of this format"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, dir: &Dir) -> io::Result<()> {
        dir.replace(FILE, serde_json::json!(self).to_string().as_bytes())
    }
}

/// Changes what is kept, one at a time. An identity that cannot be read is never replaced unasked: that would be another one.
fn change(state_dir: &Path, change: impl FnOnce(Option<Kept>) -> Option<Kept>) -> Result<(), String> {
    let changed = Dir::open(state_dir).and_then(|dir| {
        let lock = dir.open_or_create(LOCK)?;
        lock.lock()?;
        match change(Kept::read(&dir)?) {
            Some(kept) => kept.write(&dir),
            None => Ok(()),
        }
    });
    changed.map_err(|error| failed(state_dir, &error))
}

fn failed(state_dir: &Path, error: &io::Error) -> String {
    format!(
        "the identity in {} cannot be used ({error}), so nothing that needs one is sent; obit telemetry reset-id makes a new one",
        state_dir.join(FILE).display()
    )
}

impl Identity {
    /// The identity of this state directory, made if there is none.
    pub fn load(settings: &Settings, state_dir: &Path) -> Result<Identity, String> {
        let read = || Dir::open(state_dir).and_then(|dir| Kept::read(&dir)).map_err(|error| failed(state_dir, &error));
        if read()?.is_none() {
            change(state_dir, |kept| kept.is_none().then(Kept::make))?;
        }
        let kept = read()?.ok_or_else(|| failed(state_dir, &io::ErrorKind::NotFound.into()))?;
        Identity::of(settings, kept)
    }

    /// One for a single use, where there is no state directory to keep it.
    pub fn passing(settings: &Settings) -> Result<Identity, String> {
        Identity::of(settings, Kept::make())
    }

    /// The one that will be sent under, for whoever only looks: made and kept if there is none yet. Where it cannot be read or
    /// kept, one that is an example, with the sentence that says so. `learnt` is what the product says now that it is called.
    pub fn shown(
        settings: &Settings,
        state_dir: Option<&Path>,
        learnt: Option<&Known>,
    ) -> Result<(Identity, Option<String>), String> {
        let kept = match state_dir {
            None => {
                Err("there is no state directory of ours here yet, so these ids are an example: the first start makes those that \
                         are sent, and keeps them"
                    .to_owned())
            }
            Some(dir) => kept_or_made(dir)?,
        };
        // What is given, and hidden by a secret that is given, is what it will be.
        let all_given =
            settings.cluster_secret.is_some() && settings.cluster_id.is_some() && settings.node_id.is_some();
        let (mut kept, example) = match kept {
            Ok(kept) => (kept, None),
            Err(why) => (Kept::make(), Some(why).filter(|_| !all_given)),
        };
        if let Some(known) = learnt {
            kept.learnt_cluster_id = known.cluster_id.clone().or(kept.learnt_cluster_id);
            kept.learnt_node_id = known.node_id.clone().or(kept.learnt_node_id);
        }
        Ok((Identity::of(settings, kept)?, example))
    }

    fn of(settings: &Settings, kept: Kept) -> Result<Identity, String> {
        let own = Secret(HEX.decode(kept.secret.as_bytes()).unwrap_or_default());
        let mounted = settings.cluster_secret.as_deref().map(mounted_secret).transpose()?;
        Ok(Identity {
            cluster_id: settings.cluster_id.clone().or(kept.learnt_cluster_id).unwrap_or(kept.cluster_id),
            node_id: settings.node_id.clone().or(kept.learnt_node_id).unwrap_or(kept.node_id),
            shared: mounted.is_some(),
            secret: mounted.unwrap_or(own),
        })
    }

    /// The key of the hashes in a DNS question.
    pub fn dns_salt(&self) -> &[u8] {
        &self.secret.0
    }

    /// The id that a DNS question may name: only one that all nodes hash alike.
    pub fn dns_cluster_id(&self) -> Option<&str> {
        self.shared.then_some(&*self.cluster_id)
    }

    /// What Sentry gets in place of an id.
    pub fn pseudonym(&self, kind: Kind, id: &str) -> String {
        let kind = match kind {
            Kind::Cluster => "cluster",
            Kind::Node => "node",
            Kind::Server => "server",
        };
        let hash = self.keyed(&["obit/sentry/1/", kind, "\0", id]);
        HEX.encode(&hash[..HASH_BYTES])
    }

    /// A keyed hash of parts, for whoever needs an unguessable number that is always the same.
    pub fn keyed(&self, parts: &[&str]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret.0));
        parts.iter().for_each(|part| context.update(part.as_bytes()));
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }
}

/// What is kept, made if there is nothing; or why we, who only look, can neither read nor keep it. The outer error: nobody can.
fn kept_or_made(state_dir: &Path) -> Result<Result<Kept, String>, String> {
    let file = state_dir.join(FILE);
    let read = || Dir::open(state_dir).and_then(|dir| Kept::read(&dir));
    let example = |what: &str, error: &io::Error| {
        format!("{} {what} ({error}), so these ids are an example, not those that are sent", file.display())
    };
    match read() {
        Ok(Some(kept)) => return Ok(Ok(kept)),
        Ok(None) => {}
        // What is there and is no identity stops whoever sends, too.
        Err(error) if error.raw_os_error().is_none() => return Err(failed(state_dir, &error)),
        Err(error) => return Ok(Err(example("cannot be read", &error))),
    }
    let made = Dir::open(state_dir).and_then(|dir| {
        let lock = dir.open_or_create(LOCK)?;
        lock.lock()?;
        if Kept::read(&dir)?.is_none() {
            Kept::make().write(&dir)?;
        }
        Kept::read(&dir)
    });
    match made {
        Ok(Some(kept)) => Ok(Ok(kept)),
        Ok(None) => Ok(Err(example("cannot be kept", &io::ErrorKind::NotFound.into()))),
        Err(error) => Ok(Err(example("cannot be kept", &error))),
    }
}

/// The ids that the product itself gave its cluster and this node.
pub fn learn(state_dir: &Path, cluster_id: Option<&str>, node_id: Option<&str>) -> Result<(), String> {
    change(state_dir, |kept| {
        let mut kept = kept.unwrap_or_else(Kept::make);
        let before = (kept.learnt_cluster_id.clone(), kept.learnt_node_id.clone());
        kept.learnt_cluster_id = cluster_id.map(str::to_owned).or(kept.learnt_cluster_id);
        kept.learnt_node_id = node_id.map(str::to_owned).or(kept.learnt_node_id);
        (before != (kept.learnt_cluster_id.clone(), kept.learnt_node_id.clone())).then_some(kept)
    })
}

/// A new identity in place of the old, readable or not: what is sent from now on cannot be joined with what was sent before.
pub fn reset(state_dir: &Path) -> io::Result<()> {
    let dir = Dir::open(state_dir)?;
    let lock = dir.open_or_create(LOCK)?;
    lock.lock()?;
    Kept::make().write(&dir)
}

/// What is wrong with the secret that is mounted.
pub fn fault(secret: &Path) -> Option<String> {
    mounted_secret(secret).err()
}

/// 64 hex digits are 32 bytes, anything else is the bytes themselves without blanks around them.
fn mounted_secret(path: &Path) -> Result<Secret, String> {
    use std::io::Read as _;
    let failed = |why: &dyn fmt::Display| {
        format!("the cluster secret {} cannot be used ({why}), so nothing that needs it is sent", path.display())
    };
    let mut bytes = Vec::new();
    let file = regular::open(path, Link::Followed).map_err(|error| failed(&error))?;
    file.take(SECRET_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    let trimmed = bytes.trim_ascii();
    match HEX.decode(trimmed) {
        Ok(decoded) if decoded.len() == 32 => Ok(Secret(decoded)),
        _ if trimmed.len() < SECRET_LEAST_BYTES => Err(failed(&format!("it has less than {SECRET_LEAST_BYTES} bytes"))),
        _ if bytes.len() > SECRET_FILE_BYTES => Err(failed(&format!("it has more than {SECRET_FILE_BYTES} bytes"))),
        _ => Ok(Secret(trimmed.to_vec())),
    }
}

/// Version 4, RFC 9562.
fn uuid() -> String {
    let mut bytes = [0; 16];
    memory::random(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = HEX.encode(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn load(settings: &Settings, dir: &Path) -> Identity {
        Identity::load(settings, dir).unwrap()
    }

    #[test]
    fn it_is_made_once_for_its_owner_alone_and_reset_makes_another() {
        let temp = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let [first, again] = [0, 1].map(|_| load(&settings, temp.path()));
        let sent = |identity: &Identity| identity.pseudonym(Kind::Node, &identity.node_id);
        assert_eq!(sent(&first), sent(&again));
        assert_eq!(std::fs::metadata(temp.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        reset(temp.path()).unwrap();
        let other = load(&settings, temp.path());
        assert_ne!((sent(&first), first.cluster_id, first.node_id), (sent(&other), other.cluster_id, other.node_id));
    }

    #[test]
    fn one_that_cannot_be_read_is_not_replaced_unasked() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join(FILE), "{").unwrap();
        let sentence = Identity::load(&Settings::default(), temp.path()).unwrap_err();
        assert!(sentence.contains("identity.json cannot be used (") && sentence.contains("reset-id"), "{sentence}");
        assert!(learn(temp.path(), Some("x"), None).is_err());
        reset(temp.path()).unwrap();
        assert!(Identity::load(&Settings::default(), temp.path()).is_ok());
    }

    #[test]
    fn given_ids_go_before_learnt_ones_and_those_before_made_ones() {
        let temp = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        let made = load(&settings, temp.path()).cluster_id;
        learn(temp.path(), Some("learnt"), Some("node-7")).unwrap();
        learn(temp.path(), None, None).unwrap();
        let learnt = load(&settings, temp.path());
        assert_eq!((&*learnt.cluster_id, &*learnt.node_id), ("learnt", "node-7"));
        assert_ne!(made, "learnt");
        settings.cluster_id = Some("given".to_owned());
        assert_eq!(load(&settings, temp.path()).cluster_id, "given");
    }

    #[test]
    fn hashes_of_different_kinds_domains_and_secrets_differ() {
        let temp = tempfile::tempdir().unwrap();
        let secret = temp.path().join("secret");
        std::fs::write(&secret, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n").unwrap();
        let settings = Settings { cluster_secret: Some(secret.clone()), ..Settings::default() };
        let identity = load(&settings, temp.path());
        assert_eq!(identity.dns_salt(), (0..32).collect::<Vec<u8>>());
        assert_eq!(identity.dns_cluster_id(), Some(&*identity.cluster_id));
        // printf 'obit/sentry/1/cluster\0c' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0001…1f
        assert_eq!(identity.pseudonym(Kind::Cluster, "c"), "c5364d56c127cdc76307bd37ab384d9c");
        assert_ne!(identity.pseudonym(Kind::Cluster, "c"), identity.pseudonym(Kind::Node, "c"));
        assert_ne!(
            identity.pseudonym(Kind::Node, "c"),
            HEX.encode(&identity.keyed(&["obit/dns/1/node\0c"])[..HASH_BYTES])
        );
        let own = load(&Settings::default(), temp.path());
        assert_eq!(own.dns_cluster_id(), None, "a secret of one node alone names no cluster");
        assert_ne!(own.pseudonym(Kind::Node, "c"), identity.pseudonym(Kind::Node, "c"));
        assert!(!format!("{identity:?}").contains("[0, 1, 2"));
    }

    #[test]
    fn a_secret_that_is_none_is_told_and_nothing_else_is_used_in_its_place() {
        let temp = tempfile::tempdir().unwrap();
        let secret = temp.path().join("secret");
        let settings = Settings { cluster_secret: Some(secret.clone()), ..Settings::default() };
        assert!(Identity::load(&settings, temp.path()).unwrap_err().contains("No such file"));
        std::fs::write(&secret, "short\n").unwrap();
        assert!(Identity::load(&settings, temp.path()).unwrap_err().contains("less than 16 bytes"));
        std::fs::write(&secret, "a phrase that is long enough\n").unwrap();
        assert_eq!(load(&settings, temp.path()).dns_salt(), b"a phrase that is long enough");
    }
}
