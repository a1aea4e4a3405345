//! One question to the name servers: UDP with EDNS, TCP where an answer was cut, each try with a new id and a new port.
//!
//! What does not belong to the question (another id, another name) is passed over, and the wait goes on until the try is
//! over. NXDOMAIN and an empty answer are final; anything else sends us to the next server. The time in all is bounded,
//! whatever resolv.conf asks for.

#![forbid(unsafe_code)]

use super::servers::Servers;
use crate::consent::Granted;
use crate::limits;
use crate::sys::memory;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

/// What fits into a packet that no network fragments; see the DNS flag day of 2020.
const EDNS_BYTES: u16 = 1232;
/// A datagram cannot be longer.
const DATAGRAM_BYTES: usize = 65_535;
/// Aliases followed inside of one answer.
const ALIASES: usize = 8;

/// What was heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub said: Said,
    /// Who said it.
    pub by: SocketAddr,
}

/// What a name server can say for good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// The TXT records, the strings of each joined.
    Records(Vec<Vec<u8>>),
    /// The name exists and has no TXT record.
    NoRecord,
    /// NXDOMAIN.
    NoName,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Said::Records(records) => write!(f, "{} TXT", records.len()),
            Said::NoRecord => f.write_str("no TXT"),
            Said::NoName => f.write_str("NXDOMAIN"),
        }
    }
}

/// Asks for the TXT records of an absolute name; an error says what each server did. Nobody gets here without permission.
pub async fn ask(_permission: &Granted, servers: &Servers, name: &str) -> Result<Reply, String> {
    let question = Name::from_ascii(name).map_err(|error| format!("{name} cannot be asked for ({error})"))?;
    let deadline = Instant::now() + limits::DNS_TIMEOUT;
    let first = if servers.rotate { usize::from(random_id()) } else { 0 };
    let count = servers.addresses.len();
    let mut failures: Vec<(SocketAddr, String)> = Vec::new();
    for attempt in 0..servers.attempts {
        for place in 0..count {
            let server = servers.addresses[(first + place) % count];
            let until = deadline.min(Instant::now() + servers.timeout);
            let failure = match timeout_at(until, exchange(server, &question, servers.tcp_only)).await {
                Ok(Ok(said)) => return Ok(Reply { said, by: server }),
                Ok(Err(why)) => why,
                Err(_) => "did not answer".to_owned(),
            };
            match failures.iter_mut().find(|(known, _)| *known == server) {
                Some((_, why)) => *why = failure,
                None => failures.push((server, failure)),
            }
            if Instant::now() >= deadline {
                return Err(told(&failures));
            }
        }
        // Servers that refuse at once get a moment before they are asked again.
        if attempt + 1 < servers.attempts {
            let _ = timeout(limits::DNS_PAUSE, std::future::pending::<()>()).await;
        }
    }
    Err(told(&failures))
}

fn told(failures: &[(SocketAddr, String)]) -> String {
    let each: Vec<String> = failures.iter().map(|(server, why)| format!("name server {server} {why}")).collect();
    each.join("; ")
}

/// One try of one server.
async fn exchange(server: SocketAddr, question: &Name, tcp_only: bool) -> Result<Said, String> {
    let mut edns = true;
    loop {
        let answer = if tcp_only { None } else { by_udp(server, question, edns).await? };
        let message = match answer {
            Some(message) => message,
            None => by_tcp(server, question, edns).await?,
        };
        match message.metadata.response_code {
            ResponseCode::NoError => return Ok(records(&message, question)),
            ResponseCode::NXDomain => return Ok(Said::NoName),
            // A server that is older than EDNS.
            ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS if edns => edns = false,
            ResponseCode::ServFail => return Err("said SERVFAIL".to_owned()),
            ResponseCode::Refused => return Err("said REFUSED".to_owned()),
            other => return Err(format!("said {other}")),
        }
    }
}

/// `None`: the answer was cut, ask again by TCP.
async fn by_udp(server: SocketAddr, question: &Name, edns: bool) -> Result<Option<Message>, String> {
    let (id, query) = query(question, edns)?;
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let unreachable = |error: std::io::Error| format!("cannot be reached ({error})");
    let socket = UdpSocket::bind(local).await.map_err(unreachable)?;
    socket.connect(server).await.map_err(unreachable)?;
    socket.send(&query).await.map_err(unreachable)?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let n = socket.recv(&mut buffer).await.map_err(unreachable)?;
        match read(&buffer[..n], id, question) {
            Read::Answer(message) => return Ok(Some(*message)),
            Read::Cut => return Ok(None),
            // Somebody guesses, or an answer to an earlier try is late: the true one may still come.
            Read::Foreign => {}
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Name, edns: bool) -> Result<Message, String> {
    let (id, query) = query(question, edns)?;
    let broken = |error: std::io::Error| format!("does not answer by TCP ({error})");
    let mut stream = TcpStream::connect(server).await.map_err(broken)?;
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes(), &query[..]].concat()).await.map_err(broken)?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await.map_err(broken)?)];
    stream.read_exact(&mut buffer).await.map_err(broken)?;
    match read(&buffer, id, question) {
        Read::Answer(message) => Ok(*message),
        Read::Cut => Err("cuts its answer even by TCP".to_owned()),
        Read::Foreign => Err("answers another question by TCP".to_owned()),
    }
}

fn random_id() -> u16 {
    let mut random = [0; 16];
    memory::random(&mut random);
    u16::from_be_bytes([random[0], random[15]])
}

fn query(question: &Name, edns: bool) -> Result<(u16, Vec<u8>), String> {
    let id = random_id();
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(question.clone(), RecordType::TXT));
    if edns {
        let mut options = Edns::new();
        options.set_max_payload(EDNS_BYTES).set_version(0);
        message.set_edns(options);
    }
    let bytes = message.to_vec().map_err(|error| format!("the question cannot be written ({error})"))?;
    Ok((id, bytes))
}

enum Read {
    Answer(Box<Message>),
    Cut,
    /// Not the answer to this question, or none at all.
    Foreign,
}

fn read(bytes: &[u8], id: u16, question: &Name) -> Read {
    let &[id_high, id_low, flags, ..] = bytes else { return Read::Foreign };
    if u16::from_be_bytes([id_high, id_low]) != id || flags & 0x80 == 0 {
        return Read::Foreign;
    }
    let Ok(message) = Message::from_vec(bytes) else {
        // Some servers cut in the middle of a record. RFC 1035, 4.1.1: the TC bit.
        return if flags & 0x02 != 0 { Read::Cut } else { Read::Foreign };
    };
    let same = |query: &Query| {
        query.name == *question && query.query_type == RecordType::TXT && query.query_class == DNSClass::IN
    };
    let answered = match message.queries.as_slice() {
        [query] => same(query),
        // Who cannot read a question does not repeat it.
        [] => matches!(message.metadata.response_code, ResponseCode::FormErr | ResponseCode::NotImp),
        _ => false,
    };
    if !answered || message.metadata.op_code != OpCode::Query {
        return Read::Foreign;
    }
    if message.metadata.truncation { Read::Cut } else { Read::Answer(Box::new(message)) }
}

/// The TXT records of the name, or of what it is an alias of.
fn records(message: &Message, question: &Name) -> Said {
    let mut owner = question.clone();
    for _ in 0..ALIASES {
        let alias = message.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == owner => Some(target.0.clone()),
            _ => None,
        });
        match alias {
            Some(target) => owner = target,
            None => break,
        }
    }
    let texts = message.answers.iter().filter_map(|record| match &record.data {
        RData::TXT(text) if record.name == owner && record.dns_class == DNSClass::IN => Some(text.txt_data.concat()),
        _ => None,
    });
    let texts: Vec<Vec<u8>> = texts.collect();
    if texts.is_empty() { Said::NoRecord } else { Said::Records(texts) }
}

#[cfg(test)]
mod properties;
