//! A name server that answers as it is told: what no well-behaved one would show. It speaks DNS by hand, so that it and
//! obit's library cannot share a mistake.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

/// What is done with a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mood {
    /// Answered with these TXT records, each of some strings.
    Says(Vec<Vec<String>>),
    /// First an answer with another id, one to another name, one that is a question, and garbage; then the true one.
    Guessed(String),
    /// Only answers with another id, and to another name.
    Foreign(String),
    /// Cut by UDP, whole by TCP.
    Cut(String),
    /// As `Cut`, and cut in the middle of a record.
    CutHalf(String),
    /// Cut by UDP, and by TCP the connection is closed.
    CutAndShut,
    /// Who sends EDNS gets FORMERR.
    NoEdns(String),
    /// The first question gets no answer, the second its own.
    Late(String),
    /// The name is an alias of another one, which has the record.
    Alias(String),
    /// This response code.
    Code(u8),
    Silent,
}

impl Mood {
    pub fn says(text: &str) -> Mood {
        Mood::Says(vec![vec![text.to_owned()]])
    }
}

/// One question as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    pub id: u16,
    pub from: SocketAddr,
    pub name: String,
    pub kind: u16,
    pub edns: bool,
    pub tcp: bool,
}

/// Listens on one port, UDP and TCP, for as long as the trial runs.
pub struct NameServer {
    pub address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl NameServer {
    pub fn new(mood: Mood) -> NameServer {
        NameServer::at("127.0.0.1".parse().expect("an address"), mood)
    }

    pub fn at(ip: IpAddr, mood: Mood) -> NameServer {
        // The kernel may give a UDP port whose TCP twin is taken.
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = UdpSocket::bind((ip, 0)).ok()?;
                let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .expect("a port");
        let address = udp.local_addr().expect("its address");
        let server = NameServer { address, mood: Arc::new(Mutex::new(mood)), asked: Arc::default() };
        let (mood, asked) = (server.mood.clone(), server.asked.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((n, from)) = udp.recv_from(&mut buffer) {
                let Some(question) = Question::read(&buffer[..n], from, false) else { continue };
                let earlier = asked.lock().unwrap().len();
                asked.lock().unwrap().push(question.asked.clone());
                let mood = mood.lock().unwrap().clone();
                for answer in by_udp(&mood, &question, earlier) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let (mood, asked) = (server.mood.clone(), server.asked.clone());
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let Ok(from) = stream.peer_addr() else { continue };
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    continue;
                }
                let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
                if stream.read_exact(&mut buffer).is_err() {
                    continue;
                }
                let Some(question) = Question::read(&buffer, from, true) else { continue };
                asked.lock().unwrap().push(question.asked.clone());
                let mood = mood.lock().unwrap().clone();
                if let Some(answer) = by_tcp(&mood, &question) {
                    let _ = stream.write_all(&[&(answer.len() as u16).to_be_bytes(), &answer[..]].concat());
                }
            }
        });
        server
    }

    pub fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

struct Question {
    asked: Asked,
    /// Name, type and class as they came.
    section: Vec<u8>,
}

impl Question {
    fn read(bytes: &[u8], from: SocketAddr, tcp: bool) -> Option<Question> {
        let number = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let (mut at, mut labels) = (12, VecDeque::new());
        loop {
            let length = usize::from(*bytes.get(at)?);
            if length == 0 {
                break;
            }
            labels.push_back(String::from_utf8_lossy(bytes.get(at + 1..at + 1 + length)?).into_owned());
            at += 1 + length;
        }
        let end = at + 5;
        let name = labels.iter().map(|label| format!("{label}.")).collect();
        // The only additional record there can be is EDNS.
        let asked = Asked { id: number(0)?, from, name, kind: number(at + 1)?, edns: number(10)? > 0, tcp };
        Some(Question { asked, section: bytes.get(12..end)?.to_vec() })
    }

    /// A message of our own with a record for each text.
    fn answer(&self, id: u16, section: &[u8], flags: u16, records: &[Vec<String>]) -> Vec<u8> {
        let mut message = Vec::new();
        for number in [id, flags, 1, records.len() as u16, 0, 0] {
            message.extend(number.to_be_bytes());
        }
        message.extend(section);
        for strings in records {
            let data: Vec<u8> = strings.iter().flat_map(|s| [&[s.len() as u8], s.as_bytes()].concat()).collect();
            record(&mut message, &[0xc0, 12], 16, &data);
        }
        message
    }

    fn says(&self, flags: u16, records: &[Vec<String>]) -> Vec<u8> {
        self.answer(self.asked.id, &self.section, flags, records)
    }
}

fn record(message: &mut Vec<u8>, owner: &[u8], kind: u16, data: &[u8]) {
    message.extend(owner);
    for number in [kind, 1, 0, 3600, data.len() as u16] {
        message.extend(number.to_be_bytes());
    }
    message.extend(data);
}

/// QR, RD, RA.
const ANSWER: u16 = 0x8180;
const CUT: u16 = 0x0200;

fn one(text: &str) -> Vec<Vec<String>> {
    // A string holds 255 bytes.
    vec![text.as_bytes().chunks(200).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()]
}

fn by_udp(mood: &Mood, question: &Question, earlier: usize) -> Vec<Vec<u8>> {
    let id = question.asked.id;
    let elsewhere = || [b"\x05other".as_slice(), &question.section].concat();
    match mood {
        Mood::Says(records) => vec![question.says(ANSWER, records)],
        Mood::Guessed(text) => vec![
            question.answer(id.wrapping_add(1), &question.section, ANSWER, &one("v=obit1;f=*;l=9.9.9;s=4;n=1;e=2")),
            question.answer(id, &elsewhere(), ANSWER, &one("v=obit1;f=*;l=9.9.9;s=4;n=1;e=2")),
            question.says(0, &[]),
            vec![0xff; 5],
            [&id.to_be_bytes()[..], &[0x81, 0x80], &[0xff; 40]].concat(),
            question.says(ANSWER, &one(text)),
        ],
        Mood::Foreign(text) => vec![
            question.answer(id ^ 1, &question.section, ANSWER, &one(text)),
            question.answer(id, &elsewhere(), ANSWER, &one(text)),
        ],
        Mood::Cut(_) | Mood::CutAndShut => vec![question.says(ANSWER | CUT, &[])],
        Mood::CutHalf(text) => {
            let mut message = question.says(ANSWER | CUT, &one(text));
            message.truncate(message.len() - 20);
            vec![message]
        }
        Mood::NoEdns(_) if question.asked.edns => vec![question.says(ANSWER | 1, &[])],
        Mood::NoEdns(text) => vec![question.says(ANSWER, &one(text))],
        Mood::Late(_) if earlier == 0 => vec![],
        Mood::Late(text) => vec![question.says(ANSWER, &one(text))],
        Mood::Alias(text) => {
            let mut message = question.says(ANSWER, &[]);
            message[7] = 2;
            record(&mut message, &[0xc0, 12], 5, b"\x05other\x04test\x00");
            let data: Vec<u8> = one(text)[0].iter().flat_map(|s| [&[s.len() as u8], s.as_bytes()].concat()).collect();
            record(&mut message, b"\x05OTHER\x04test\x00", 16, &data);
            vec![message]
        }
        Mood::Code(code) => vec![question.says(ANSWER | u16::from(*code), &[])],
        Mood::Silent => vec![],
    }
}

fn by_tcp(mood: &Mood, question: &Question) -> Option<Vec<u8>> {
    match mood {
        Mood::Cut(text) | Mood::CutHalf(text) => Some(question.says(ANSWER, &one(text))),
        _ => None,
    }
}
