//! The answer as a signed record: `v=obit1;f=<from|*>;l=<latest>;s=<1-4>;n=<not-before>;e=<expires>;u=<url>;k=<key>;g=<signature>`
//!
//! Whoever answers a DNS question may lie, be late or repeat what was said long ago; so nothing is believed but what a
//! known key has signed, for this zone, within its time, and no older than what was believed before. Tags that we do not
//! know are part of what is signed and otherwise passed over, so that a later format can say more.

#![forbid(unsafe_code)]

use super::name;
use super::release::Release;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use ring::digest;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use std::fmt;

/// How far a clock may be behind the signer's.
const CLOCK_SKEW_S: u64 = 86_400;
/// One string of a TXT record holds 255 bytes; nobody needs more than a few of them.
const ANSWER_BYTES: usize = 2048;
/// The first word of what is signed.
const DOMAIN: &[u8] = b"obit-upgrade\0";

/// How much an upgrade matters, in the signer's eyes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// There is nothing newer.
    Current,
    Available,
    Recommended,
    /// Security, as a rule.
    Mandatory,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Current => "current",
            Severity::Available => "available",
            Severity::Recommended => "recommended",
            Severity::Mandatory => "mandatory",
        }
    }

    /// 1 to 4, as in the record and in the metrics.
    pub fn number(self) -> u8 {
        self as u8 + 1
    }

    pub fn parse(text: &str) -> Option<Severity> {
        let all = [Severity::Current, Severity::Available, Severity::Recommended, Severity::Mandatory];
        all.into_iter().find(|severity| severity.number().to_string() == text || severity.as_str() == text)
    }
}

/// Why an answer is not believed. In the order of the checks: the later, the closer it came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refusal {
    /// Not this format, or a tag that says nothing.
    Format,
    /// Nobody signed it.
    Unsigned,
    /// Signed by a key that is not known here.
    Key,
    /// The signature is not over this text and this zone.
    Signature,
    /// It speaks to another version.
    From,
    NotYetValid,
    Expired,
    /// Older than an answer that was believed before.
    Replayed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Format => "rejected:format",
            Refusal::Unsigned => "unverified",
            Refusal::Key => "rejected:key",
            Refusal::Signature => "rejected:signature",
            Refusal::From => "rejected:from",
            Refusal::NotYetValid => "rejected:not-yet-valid",
            Refusal::Expired => "rejected:expired",
            Refusal::Replayed => "rejected:replayed",
        })
    }
}

impl Refusal {
    /// For people.
    pub fn sentence(self) -> &'static str {
        match self {
            Refusal::Format => "the answer is in no format that this obit knows",
            Refusal::Unsigned => "the answer is not signed",
            Refusal::Key => "the answer is signed by a key that is not configured here",
            Refusal::Signature => "the signature of the answer is wrong",
            Refusal::From => "the answer is meant for another version",
            Refusal::NotYetValid => "the answer is not valid yet (is the clock right?)",
            Refusal::Expired => "the answer has expired",
            Refusal::Replayed => "the answer is older than one that came before",
        }
    }
}

/// A public key that answers may be signed with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key([u8; 32]);

impl Key {
    /// 64 hex digits, or 43 characters of base64url.
    pub fn parse(text: &str) -> Result<Key, String> {
        let text = text.trim();
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).or_else(|_| BASE64URL_NOPAD.decode(text.as_bytes()));
        bytes.ok().and_then(|bytes| bytes.try_into().ok()).map(Key).ok_or_else(|| {
            format!(
                "{text:?} is no Ed25519 public key; write its 32 bytes as 64 hex digits (obit upgrade sign prints them)"
            )
        })
    }

    /// Keys with commas between them; a rotation has two.
    pub fn parse_list(text: &str) -> Result<Vec<Key>, String> {
        text.split(',').filter(|key| !key.trim().is_empty()).map(Key::parse).collect()
    }

    /// The tag `k` of what it signs: the head of its SHA-256.
    pub fn id(&self) -> String {
        HEXLOWER_PERMISSIVE.encode(&digest::digest(&digest::SHA256, &self.0).as_ref()[..4])
    }

    pub fn hex(&self) -> String {
        HEXLOWER_PERMISSIVE.encode(&self.0)
    }
}

/// What was said and can be believed, in its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The version it speaks to; `None`: all.
    pub from: Option<String>,
    pub latest: String,
    pub severity: Severity,
    pub not_before: u64,
    pub expires: u64,
    /// Only ever https.
    pub url: Option<String>,
    pub key_id: String,
}

/// What an answer is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    pub zone: &'a str,
    pub keys: &'a [Key],
    pub running: &'a str,
    pub now_unix: u64,
    /// The highest `n` that was believed before.
    pub newest_not_before: u64,
}

/// What a believed answer comes to for the running version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub answer: Answer,
    pub severity: Severity,
}

/// Reads one TXT record and judges it.
pub fn judge(txt: &[u8], so: Circumstances<'_>) -> Result<Verdict, Refusal> {
    let answer = verify(txt, so.zone, so.keys)?;
    if answer.from.as_deref().is_some_and(|from| from != so.running) {
        return Err(Refusal::From);
    }
    if answer.not_before > so.now_unix.saturating_add(CLOCK_SKEW_S) {
        return Err(Refusal::NotYetValid);
    }
    if answer.expires <= so.now_unix {
        return Err(Refusal::Expired);
    }
    if answer.not_before < so.newest_not_before {
        return Err(Refusal::Replayed);
    }
    let newer = Release::parse(&answer.latest).ok_or(Refusal::Format)?.is_upgrade_from(so.running);
    let severity = if newer { answer.severity } else { Severity::Current };
    Ok(Verdict { answer, severity })
}

/// Of several records the first that is believed; else the refusal of the one that came closest.
pub fn judge_all<'a>(
    records: impl IntoIterator<Item = &'a [u8]>,
    so: Circumstances<'_>,
) -> Result<Verdict, Option<Refusal>> {
    let mut closest = None;
    for record in records {
        match judge(record, so) {
            Ok(verdict) => return Ok(verdict),
            Err(refusal) => closest = closest.max(Some(refusal)),
        }
    }
    Err(closest)
}

/// The record without regard to time and version: its form and its signature.
fn verify(txt: &[u8], zone: &str, keys: &[Key]) -> Result<Answer, Refusal> {
    let text = std::str::from_utf8(txt).map_err(|_| Refusal::Format)?;
    if txt.len() > ANSWER_BYTES || !text.bytes().all(|b| (b'!'..=b'~').contains(&b)) || !text.starts_with("v=obit1;") {
        return Err(Refusal::Format);
    }
    let mut tags = Vec::new();
    for tag in text.split(';') {
        let (name, value) = tag.split_once('=').ok_or(Refusal::Format)?;
        if tags.iter().any(|(known, _)| *known == name) {
            return Err(Refusal::Format);
        }
        tags.push((name, value));
    }
    let tag = |name: &str| tags.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let answer = Answer {
        from: tag("f").filter(|from| *from != "*").map(str::to_owned),
        latest: tag("l").filter(|latest| Release::parse(latest).is_some()).ok_or(Refusal::Format)?.to_owned(),
        severity: tag("s").filter(|s| s.len() == 1).and_then(Severity::parse).ok_or(Refusal::Format)?,
        not_before: tag("n").and_then(|n| n.parse().ok()).ok_or(Refusal::Format)?,
        expires: tag("e").and_then(|e| e.parse().ok()).ok_or(Refusal::Format)?,
        url: tag("u").filter(|url| is_https(url)).map(str::to_owned),
        key_id: tag("k").unwrap_or_default().to_owned(),
    };
    let Some((signed, signature)) = text.rsplit_once(";g=") else { return Err(Refusal::Unsigned) };
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| Refusal::Signature)?;
    let mut candidates = keys.iter().filter(|key| key.id() == answer.key_id).peekable();
    if candidates.peek().is_none() {
        return Err(Refusal::Key);
    }
    let message = message(zone, signed).ok_or(Refusal::Signature)?;
    let verified = candidates.any(|key| UnparsedPublicKey::new(&ED25519, key.0).verify(&message, &signature).is_ok());
    if verified { Ok(answer) } else { Err(Refusal::Signature) }
}

fn is_https(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| url.scheme() == "https" && url.host().is_some())
}

fn message(zone: &str, signed: &str) -> Option<Vec<u8>> {
    Some([DOMAIN, name::zone(zone).ok()?.as_bytes(), b"\0", signed.as_bytes()].concat())
}

/// A private key of a vendor: PKCS#8 in PEM or DER, as `openssl genpkey -algorithm ed25519` writes it.
pub struct Signer {
    pair: Ed25519KeyPair,
    /// What the world may know of it.
    pub key: Key,
}

impl Signer {
    pub fn parse(file: &[u8]) -> Result<Signer, String> {
        let wrong = || "it holds no Ed25519 private key; make one with: openssl genpkey -algorithm ed25519".to_owned();
        let der = match std::str::from_utf8(file).ok().filter(|text| text.contains("-----BEGIN PRIVATE KEY-----")) {
            Some(pem) => {
                let inner: String = pem
                    .lines()
                    .filter(|line| !line.starts_with("-----"))
                    .flat_map(|line| line.trim().chars())
                    .collect();
                data_encoding::BASE64.decode(inner.as_bytes()).map_err(|_| wrong())?
            }
            None => file.to_vec(),
        };
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| wrong())?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| wrong())?;
        Ok(Signer { pair, key: Key(public) })
    }

    /// The text of the TXT record. What an obit would not believe is not signed.
    pub fn sign(&self, zone: &str, answer: &Answer) -> Result<String, String> {
        let from = answer.from.as_deref().unwrap_or("*");
        let url = answer.url.as_ref().map(|url| format!("u={url};")).unwrap_or_default();
        let text = format!(
            "v=obit1;f={from};l={};s={};n={};e={};{url}k={}",
            answer.latest,
            answer.severity.number(),
            answer.not_before,
            answer.expires,
            self.key.id()
        );
        name::zone(zone)?;
        let signature = self.pair.sign(&message(zone, &text).unwrap_or_default());
        let record = format!("{text};g={}", BASE64URL_NOPAD.encode(signature.as_ref()));
        if answer.url.as_deref().is_some_and(|url| !is_https(url)) {
            return Err("the URL is not shown unless it begins with https://".to_owned());
        }
        match verify(record.as_bytes(), zone, std::slice::from_ref(&self.key)) {
            Ok(read) if Answer { key_id: self.key.id(), ..answer.clone() } == read => Ok(record),
            _ => Err(format!(
                "{text:?} would not be understood: no value may have blanks or semicolons, and the \
                              release has to read like 1.5.4"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Vectors {
        suffix: String,
        signing: Signing,
        running_version: String,
        answers: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Signing {
        public_key_hex: String,
        kid: String,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        at: u64,
        txt: String,
        want: String,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../../../fixtures/dns/vectors.json")).unwrap()
    }

    #[test]
    fn every_answer_of_the_vectors_has_its_verdict() {
        let vectors = vectors();
        let keys = [Key::parse(&vectors.signing.public_key_hex).unwrap()];
        assert_eq!(keys[0].id(), vectors.signing.kid);
        assert_eq!(vectors.answers.len(), 13);
        for case in vectors.answers {
            let so = Circumstances {
                zone: vectors.suffix.strip_prefix("q1.").unwrap(),
                keys: &keys,
                running: &vectors.running_version,
                now_unix: case.at,
                newest_not_before: 0,
            };
            let verdict = match judge(case.txt.as_bytes(), so) {
                Ok(verdict) => verdict.severity.as_str().to_owned(),
                Err(refusal) => refusal.to_string(),
            };
            assert_eq!(verdict, case.want, "{}", case.name);
        }
    }

    fn signer() -> Signer {
        // The fixture of RFC 8032, 7.1, test 1, in PKCS#8 version 1.
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let der = HEXLOWER_PERMISSIVE.decode(format!("302e020100300506032b657004220420{seed}").as_bytes()).unwrap();
        Signer::parse(&der).unwrap()
    }

    fn answer() -> Answer {
        Answer {
            from: None,
            latest: "2.0.0".to_owned(),
            severity: Severity::Mandatory,
            not_before: 1_000_000,
            expires: 2_000_000,
            url: Some("https://example.test/2.0.0".to_owned()),
            key_id: String::new(),
        }
    }

    fn judged(record: &str, now_unix: u64, newest_not_before: u64) -> Result<Severity, Refusal> {
        let keys = [signer().key];
        let so = Circumstances { zone: "Example.test.", keys: &keys, running: "1.0.0", now_unix, newest_not_before };
        judge(record.as_bytes(), so).map(|verdict| verdict.severity)
    }

    #[test]
    fn what_is_signed_is_believed_in_its_time_and_not_after_something_newer() {
        let record = signer().sign("example.test", &answer()).unwrap();
        assert!(record.len() <= 255, "it fits into one string");
        let table = [
            (1_500_000, 0, Ok(Severity::Mandatory)),
            (1_000_000 - CLOCK_SKEW_S, 0, Ok(Severity::Mandatory)),
            (1_000_000 - CLOCK_SKEW_S - 1, 0, Err(Refusal::NotYetValid)),
            (1_999_999, 0, Ok(Severity::Mandatory)),
            (2_000_000, 0, Err(Refusal::Expired)),
            (1_500_000, 1_000_000, Ok(Severity::Mandatory)),
            (1_500_000, 1_000_001, Err(Refusal::Replayed)),
        ];
        for (now, newest, expected) in table {
            assert_eq!(judged(&record, now, newest), expected, "{now} {newest}");
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let record = signer().sign("example.test", &answer()).unwrap();
        for at in 0..record.len() {
            let mut changed = record.clone().into_bytes();
            changed[at] = if changed[at] == b'7' { b'8' } else { b'7' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(judged(&changed, 1_500_000, 0).is_err(), "{changed}");
        }
    }

    #[test]
    fn foreign_records_are_no_format_and_a_tag_said_twice_is_none() {
        for text in ["", "v=spf1 -all", "v=obit1", "v=obit1;", "l=2;v=obit1;", "v=obit1;l=2.0.0;l=3.0.0", "v=obit1;;"] {
            assert_eq!(judged(text, 1_500_000, 0), Err(Refusal::Format), "{text}");
        }
        assert_eq!(
            judge(
                &[0xff; 300],
                Circumstances { zone: "a", keys: &[], running: "1", now_unix: 0, newest_not_before: 0 }
            ),
            Err(Refusal::Format)
        );
    }

    #[test]
    fn of_several_records_the_believed_one_counts() {
        let record = signer().sign("example.test", &answer()).unwrap();
        let keys = [signer().key];
        let so = Circumstances {
            zone: "example.test",
            keys: &keys,
            running: "1.0.0",
            now_unix: 1_500_000,
            newest_not_before: 0,
        };
        let first =
            |records: &[&str]| judge_all(records.iter().map(|r| r.as_bytes()), so).map(|verdict| verdict.severity);
        assert_eq!(first(&["v=spf1 -all", &record]), Ok(Severity::Mandatory));
        assert_eq!(first(&["v=spf1 -all", "v=obit1;f=*;l=2.0.0;s=4;n=1;e=2"]), Err(Some(Refusal::Unsigned)));
        assert_eq!(first(&[]), Err(None));
        let stranger = Circumstances { keys: &[], ..so };
        assert_eq!(judge(record.as_bytes(), stranger), Err(Refusal::Key));
    }

    #[test]
    fn nothing_is_signed_that_would_not_be_believed() {
        let signer = signer();
        let refused = |change: fn(&mut Answer)| {
            let mut answer = answer();
            change(&mut answer);
            signer.sign("example.test", &answer).unwrap_err()
        };
        assert!(refused(|answer| answer.latest = "new".to_owned()).contains("would not be understood"));
        assert!(refused(|answer| answer.from = Some("1.0;s=4".to_owned())).contains("would not be understood"));
        assert!(refused(|answer| answer.url = Some("http://example.test/".to_owned())).contains("https://"));
        assert!(signer.sign("no zone", &answer()).is_err());
        assert!(Signer::parse(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_err());
    }

    #[test]
    fn a_url_that_is_not_https_is_never_shown() {
        let signer = signer();
        let text = format!("v=obit1;f=*;l=2.0.0;s=2;n=1000000;e=2000000;u=javascript:alert(1);k={}", signer.key.id());
        let signature = signer.pair.sign(&message("example.test", &text).unwrap());
        let record = format!("{text};g={}", BASE64URL_NOPAD.encode(signature.as_ref()));
        assert_eq!(verify(record.as_bytes(), "example.test", &[signer.key]).unwrap().url, None);
    }
}
