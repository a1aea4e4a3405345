//! What holds of every packet, whoever sends it: reading it ends, soon, without a panic; and what is believed of it in the end is
//! a text that a known key has signed, letter for letter.

#![forbid(unsafe_code)]

use super::super::answer::{self, Circumstances, Key};
use super::super::name;
use super::*;
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::{CNAME, TXT};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::sync::LazyLock;

const ID: u16 = 0x1234;
/// For one packet of any kind, on the slowest machine; it takes a few milliseconds.
const SOON: std::time::Duration = std::time::Duration::from_secs(10);

struct Vectors {
    zone: String,
    keys: Vec<Key>,
    running: String,
    /// Texts, and whether they are to be believed when they are as they are.
    answers: Vec<(String, bool)>,
    /// When all that can be believed at all is.
    at: u64,
}

static VECTORS: LazyLock<Vectors> = LazyLock::new(|| {
    let json: serde_json::Value = serde_json::from_str(include_str!("../../../../fixtures/dns/vectors.json")).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let is_good = |want: &str| ["current", "available", "recommended", "mandatory"].contains(&want);
    let answers = json["answers"].as_array().unwrap();
    let good = answers.iter().find(|case| is_good(case["want"].as_str().unwrap())).unwrap();
    let vectors = Vectors {
        zone: text(&json["suffix"]).trim_start_matches("q1.").to_owned(),
        keys: vec![Key::parse(json["signing"]["public_key_hex"].as_str().unwrap()).unwrap()],
        running: text(&json["running_version"]),
        answers: answers.iter().map(|case| (text(&case["txt"]), is_good(case["want"].as_str().unwrap()))).collect(),
        at: good["at"].as_u64().unwrap(),
    };
    assert!(vectors.answers.iter().filter(|(_, good)| *good).count() >= 3);
    vectors
});

fn question() -> Name {
    Name::from_ascii("n0123456789abcdef.c0.v64n3abhj.q1.updates.example.test.").unwrap()
}

/// What comes of a packet: the texts in it that are believed.
fn believed(packet: &[u8]) -> Vec<Vec<u8>> {
    let begun = std::time::Instant::now();
    let Read::Answer(message) = read(packet, ID, &question()) else {
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        return Vec::new();
    };
    let Said::Records(texts) = records(&message, &question()) else { return Vec::new() };
    let believed = texts.into_iter().filter(|text| judge(text)).collect();
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    believed
}

fn judge(text: &[u8]) -> bool {
    let so = Circumstances {
        zone: &VECTORS.zone,
        keys: &VECTORS.keys,
        running: &VECTORS.running,
        now_unix: VECTORS.at,
        newest_not_before: 0,
    };
    answer::judge(text, so).is_ok()
}

fn is_genuine(text: &[u8]) -> bool {
    VECTORS.answers.iter().any(|(genuine, good)| *good && genuine.as_bytes() == text)
}

/// A name server's packet with these texts; with `alias` under another name that the question's is an alias of.
fn packet(texts: &[&str], alias: bool) -> Vec<u8> {
    let mut message = Message::new(ID, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(question(), RecordType::TXT));
    let target = Name::from_ascii("all.updates.example.test.").unwrap();
    if alias {
        message.add_answer(Record::from_rdata(question(), 60, RData::CNAME(CNAME(target.clone()))));
    }
    for text in texts {
        // A string of a TXT record holds 255 bytes.
        let strings: Vec<String> =
            text.as_bytes().chunks(255).map(|s| String::from_utf8_lossy(s).into_owned()).collect();
        let owner = if alias { target.clone() } else { question() };
        message.add_answer(Record::from_rdata(owner, 60, RData::TXT(TXT::new(strings))));
    }
    message.to_vec().unwrap()
}

fn packets() -> impl Strategy<Value = Vec<u8>> {
    let text = || select(VECTORS.answers.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>());
    (vec(text(), 0..4), any::<bool>()).prop_map(|(texts, alias)| packet(&texts, alias))
}

/// What a network, or somebody in it, does to bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    Repeat(Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        at().prop_map(Change::Cut),
        (at(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), any::<u8>()).prop_map(|(at, n)| Change::Remove(at, n)),
        (at(), any::<u8>()).prop_map(|(at, n)| Change::Repeat(at, n)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let piece = |at: &Index, n: u8| {
            let from = at.index(bytes.len());
            from..bytes.len().min(from + usize::from(n))
        };
        match change {
            Change::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Change::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Change::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Change::Remove(at, n) => drop(bytes.drain(piece(at, *n))),
            Change::Repeat(at, n) => {
                let piece = bytes[piece(at, *n)].to_vec();
                bytes.extend(piece);
            }
        }
    }
    bytes
}

#[test]
fn the_good_answers_are_believed_as_they_are() {
    for (text, good) in &VECTORS.answers {
        for alias in [false, true] {
            let expected: &[&[u8]] = if *good { &[text.as_bytes()] } else { &[] };
            assert_eq!(believed(&packet(&[text], alias)), expected, "{text}");
        }
    }
}

#[test]
fn every_truncation_of_a_good_answer_is_read_to_its_end_and_believed_nowhere() {
    for (text, _) in VECTORS.answers.iter().filter(|(_, good)| *good) {
        let whole = packet(&[text], true);
        for length in 0..whole.len() {
            assert_eq!(believed(&whole[..length]), Vec::<Vec<u8>>::new(), "{length}");
        }
        for length in 0..text.len() {
            assert!(!judge(&text.as_bytes()[..length]), "{length}");
        }
    }
}

/// Names that are nothing but pointers, each to the one before: as much work as a packet can ask for.
#[test]
fn a_packet_made_to_be_expensive_is_read_soon() {
    let mut header = packet(&[], false);
    let answers = |header: &mut Vec<u8>, n: u16| header[6..8].copy_from_slice(&n.to_be_bytes());
    for target in [0u16, 12, 0x3fff] {
        let mut bytes = header.clone();
        let mut n = 0u16;
        while bytes.len() + 12 < DATAGRAM_BYTES {
            let place = bytes.len() as u16;
            // The record before this one, or one and the same place, itself included.
            let pointer = if target == 0x3fff {
                place
            } else if n == 0 {
                12
            } else {
                target.max((place - 12) & 0x3fff)
            };
            bytes.extend((0xc000 | (pointer & 0x3fff)).to_be_bytes());
            bytes.extend([0, 16, 0, 1, 0, 0, 0, 0, 0, 0]);
            n = n.saturating_add(1);
        }
        answers(&mut bytes, n);
        assert!(believed(&bytes).is_empty());
    }
    answers(&mut header, u16::MAX);
    assert!(believed(&header).is_empty(), "more records are promised than there are");
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(bytes in vec(any::<u8>(), 0..1500)) {
        prop_assert_eq!(believed(&bytes), Vec::<Vec<u8>>::new());
    }

    /// Past the checks of the head: the right id, a response, the question, then anything.
    #[test]
    fn any_bytes_behind_the_right_question_are_read_to_their_end(
        flags in any::<u8>(),
        counts in vec(any::<u8>(), 6),
        bytes in vec(any::<u8>(), 0..1500),
    ) {
        let mut packet = packet(&[], false);
        packet[2] = flags | 0x80;
        packet[6..12].copy_from_slice(&counts);
        packet.extend(bytes);
        prop_assert_eq!(believed(&packet), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn of_a_packet_that_somebody_changed_nothing_is_believed_but_what_was_signed(
        packet in packets(),
        changes in vec(change(), 1..6),
    ) {
        let believed = believed(&changed(packet, &changes));
        prop_assert!(believed.iter().all(|text| is_genuine(text)), "{:?}", believed);
    }

    #[test]
    fn of_a_text_that_somebody_changed_nothing_is_believed_but_what_was_signed(
        which in any::<Index>(),
        changes in vec(change(), 1..4),
    ) {
        let (text, _) = &VECTORS.answers[which.index(VECTORS.answers.len())];
        let text = changed(text.clone().into_bytes(), &changes);
        prop_assert_eq!(judge(&text), is_genuine(&text));
    }

    /// A good signature under words of somebody else's.
    #[test]
    fn no_words_but_the_signers_are_believed_under_a_signature(
        which in any::<Index>(),
        tags in vec((select(vec!["f", "l", "s", "n", "e", "u", "k", "x", "g"]), "[!-:<-~]{0,12}"), 0..9),
    ) {
        let (text, _) = &VECTORS.answers[which.index(VECTORS.answers.len())];
        let signature = text.rsplit_once(";g=").map_or("", |(_, signature)| signature);
        let tags: String = tags.iter().map(|(name, value)| format!(";{name}={value}")).collect();
        let unsigned = format!("v=obit1{tags}");
        let forged = format!("{unsigned};g={signature}");
        prop_assert!(!judge(forged.as_bytes()), "{}", forged);
        prop_assert!(!judge(unsigned.as_bytes()), "{}", unsigned);
    }

    /// Only an answer to this question, with this id, is one.
    #[test]
    fn an_answer_to_another_question_is_foreign(packet in packets(), id in any::<u16>(), other in "[a-z]{1,20}") {
        let mut foreign = packet.clone();
        foreign[..2].copy_from_slice(&id.to_be_bytes());
        prop_assert_eq!(matches!(read(&foreign, ID, &question()), Read::Answer(_)), id == ID);
        let another = Name::from_ascii(format!("{other}.example.test.")).unwrap();
        prop_assert!(matches!(read(&packet, ID, &another), Read::Foreign));
    }

    #[test]
    fn a_name_of_any_kind_can_be_looked_at(name in "\\PC{0,80}", labels in vec("[nckv]?[0-9a-v!.]{0,20}", 0..6)) {
        let _ = name::decode(&name);
        let _ = name::decode(&format!("{}.q1.example.test.", labels.join(".")));
    }
}
