//! The role that carries what is in the spool to whoever agreed to receive it.
//!
//! It may be killed at any instant: an entry is moved to `sent/` only after the server took it, so the worst is that the
//! same event id is sent twice, which Sentry folds into one.

#![forbid(unsafe_code)]

use crate::config::{Settings, WhenOff};
use crate::consent::gate::Gate;
use crate::consent::{Block, Channel};
use crate::deliver::dsn::Dsn;
use crate::deliver::envelope;
use crate::deliver::retry::{self, Answer, Fate};
use crate::deliver::transport::Transport;
use crate::limits;
use crate::report::{Report, Session};
use crate::say::{Level, say};
use crate::spool::{Entry, Kind, ReadError, Spool, SpoolError, State, memory, quota};
use crate::sys::clock;
use std::cell::RefCell;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a visit came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    pub sent: usize,
    pub rejected: usize,
    /// Entries that wait for another time.
    pub kept: usize,
    /// Why they wait, or why nothing may be sent.
    pub why: Option<String>,
}

/// As a worker of init: 0 when nothing is left to do, else the minutes after which to call again.
pub fn run(settings: &Settings, state_dir: Option<&Path>, memory_reports: Vec<OwnedFd>) -> u8 {
    let unusable = |error: &SpoolError| say(Level::Error, &error.to_string());
    let spool = state_dir.and_then(|dir| Spool::open(dir).inspect_err(unusable).ok());
    let summary = visit(settings, spool.as_ref(), memory_reports, limits::COURIER_IDLE);
    if summary.kept == 0 { 0 } else { CALL_AGAIN_MINUTES }
}

/// When entries are left over after a visit of a minute, the next one may wait as long as the longest backoff.
const CALL_AGAIN_MINUTES: u8 = 15;

/// `obit flush`: one attempt for each entry, in the foreground.
pub fn flush(settings: &Settings, spool: &Spool) -> Summary {
    visit(settings, Some(spool), Vec::new(), Duration::ZERO)
}

fn visit(settings: &Settings, spool: Option<&Spool>, memory_reports: Vec<OwnedFd>, patience: Duration) -> Summary {
    let closed = |why: String| Summary { why: Some(why), ..Summary::default() };
    // Nothing of the network is touched before there is a destination and permission.
    let Some(dsn) = &settings.dsn else { return closed("there is no DSN".to_owned()) };
    let mut gate = Gate::new(settings, spool.and_then(Spool::state_dir));
    if let Err(block) = gate.grant(Channel::Errors) {
        let kept = spool.map_or(0, |spool| put_aside(settings, spool, Channel::Errors));
        return Summary { kept, ..closed(format!("switched off by {block}")) };
    }
    let transport = match Dsn::parse(dsn).and_then(Transport::new) {
        Ok(transport) => transport,
        Err(sentence) => {
            say(Level::Error, &format!("{sentence}; reports stay here until that is mended"));
            return closed(sentence);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return closed(format!("no runtime can be made ({error})")),
    };
    let visit = Visit { settings, gate: RefCell::new(gate), transport };
    runtime.block_on(async {
        let mut summary = Summary::default();
        for fd in memory_reports {
            visit.deliver_memory(fd, &mut summary, patience).await;
        }
        if let Some(spool) = spool {
            visit.deliver_spool(spool, &mut summary, patience).await;
        }
        summary
    })
}

/// What waits on a channel that is closed stays or goes, as it was asked for. Returns how many stay.
fn put_aside(settings: &Settings, spool: &Spool, channel: Channel) -> usize {
    let waiting = spool.entries_in(State::Pending).into_iter().filter(|entry| entry.kind.channel() == channel);
    match settings.when_off {
        WhenOff::Hold => waiting.count(),
        WhenOff::Purge => {
            let gone = waiting.filter(|entry| spool.remove(entry).is_ok()).count();
            if gone > 0 {
                let what = channel.what();
                say(
                    Level::Warning,
                    &format!("{what}: switched off, so {gone} that waited were removed (when-off is purge)"),
                );
            }
            0
        }
    }
}

struct Visit<'a> {
    settings: &'a Settings,
    gate: RefCell<Gate>,
    transport: Transport,
}

/// How an attempt ended: with an answer, or because somebody switched the channel off before there was one.
type Attempt = Result<Answer, Block>;

impl Visit<'_> {
    /// Goes through what waits, newest crash first, until nothing waits or patience is over.
    async fn deliver_spool(&self, spool: &Spool, summary: &mut Summary, patience: Duration) {
        let begin = Instant::now();
        let lock = loop {
            match spool.sender_lock() {
                Some(lock) => break lock,
                None if begin.elapsed() >= patience => {
                    summary.why = Some("another obit delivers from this state directory".to_owned());
                    return;
                }
                None => tokio::time::sleep(limits::SEND_SPACING).await,
            }
        };
        // What was dealt with and is there all the same cannot be moved or is not for us: once is enough.
        let mut done = HashSet::new();
        loop {
            spool.adopt();
            let evicted = quota::enforce(spool, clock::unix_ms());
            if evicted > 0 {
                say(
                    Level::Warning,
                    &format!("the spool is over its bounds; {evicted} undelivered entries were dropped"),
                );
            }
            let waits = |entry: &Entry| entry.state == State::Pending && !done.contains(&entry.file_name());
            let mut waiting: Vec<Entry> = spool.entries().into_iter().filter(waits).collect();
            waiting.sort_by_key(|entry| entry.kind == Kind::Session);
            summary.kept = waiting.len();
            let mut pause = None;
            for entry in waiting {
                match self.deliver(spool, &entry, summary).await {
                    Some(wait) => {
                        pause = Some(wait);
                        break;
                    }
                    None => summary.kept -= 1,
                }
                done.insert(entry.file_name());
                tokio::time::sleep(limits::SEND_SPACING).await;
            }
            match pause {
                Some(pause) if begin.elapsed().saturating_add(pause) < patience => tokio::time::sleep(pause).await,
                None if spool.entries().iter().any(|e| e.state == State::Pending && !done.contains(&e.file_name())) => {
                }
                _ => break,
            }
        }
        drop(lock);
    }

    /// One attempt, with the permission of this moment; withdrawn while it is under way it is broken off.
    async fn send(&self, kind: Kind, envelope: &[u8]) -> Attempt {
        let permission = self.gate.borrow_mut().grant(kind.channel())?;
        let withdrawn = async {
            loop {
                tokio::time::sleep(limits::CONSENT_LOOK).await;
                if let Err(block) = self.gate.borrow_mut().grant(kind.channel()) {
                    break block;
                }
            }
        };
        tokio::select! {
            answer = self.transport.send(&permission, envelope, kind.category()) => Ok(answer),
            block = withdrawn => Err(block),
        }
    }

    /// One entry; `Some`: it waits, and so does everything else, for so long.
    async fn deliver(&self, spool: &Spool, entry: &Entry, summary: &mut Summary) -> Option<Duration> {
        let envelope = match spool.read(entry).map(|content| self.envelope(entry.kind, &content)) {
            Ok(Some(envelope)) => envelope,
            Ok(None) | Err(ReadError::Corrupt(_)) => {
                say(Level::Warning, &format!("the report {} is corrupt on disk and cannot be delivered", entry.id));
                let _ = spool.mark(entry, State::Corrupt);
                return None;
            }
            Err(error @ ReadError::Newer(_)) => {
                say(Level::Warning, &format!("the report {} stays: {error}", entry.id));
                return None;
            }
            // It went while we looked: somebody purged it.
            Err(ReadError::Io(_)) => return None,
        };
        let answer = match self.send(entry.kind, &envelope).await {
            Ok(answer) => answer,
            Err(block) => {
                summary.why = Some(format!("switched off by {block}"));
                put_aside(self.settings, spool, entry.kind.channel());
                return Some(Duration::MAX);
            }
        };
        match retry::fate(answer, entry.attempts + 1) {
            Fate::Sent => {
                summary.sent += 1;
                let settled = match entry.kind {
                    Kind::Crash => spool.mark(entry, State::Sent).map(drop),
                    Kind::Session => spool.remove(entry),
                };
                if let Err(error) = settled {
                    say(Level::Warning, &format!("delivered, but {error}; it may be sent once more"));
                    return Some(limits::RETRY_MAX);
                }
                None
            }
            Fate::Keep { pause, why } => {
                say(Level::Warning, &format!("the report {} waits: {why}", entry.id));
                let _ = spool.attempted(entry);
                spool.expire(clock::unix_ms());
                summary.why = Some(why);
                Some(pause)
            }
            Fate::Reject { why } => {
                say(Level::Error, &format!("the report {} was refused: {why}; it stays in rejected/", entry.id));
                summary.rejected += 1;
                let _ = spool.mark(entry, State::Rejected);
                spool.note_discard("send_error", entry.kind.category(), 1);
                summary.why = Some(why);
                None
            }
        }
    }

    /// A report that no disk took: sent from memory, for as long as we may.
    async fn deliver_memory(&self, fd: OwnedFd, summary: &mut Summary, patience: Duration) {
        let begin = Instant::now();
        let Some(envelope) = memory::read(fd).ok().and_then(|content| self.envelope(Kind::Crash, &content)) else {
            return;
        };
        for attempt in 1.. {
            let answer = match self.send(Kind::Crash, &envelope).await {
                Ok(answer) => answer,
                Err(block) => {
                    summary.why = Some(format!("switched off by {block}"));
                    return;
                }
            };
            match retry::fate(answer, attempt) {
                Fate::Sent => {
                    summary.sent += 1;
                    return;
                }
                Fate::Keep { pause, .. } if begin.elapsed() + pause < patience => tokio::time::sleep(pause).await,
                Fate::Keep { why, .. } | Fate::Reject { why } => {
                    say(Level::Error, &format!("the report is lost, it was only in memory: {why}"));
                    summary.why = Some(why);
                    return;
                }
            }
        }
    }

    fn envelope(&self, kind: Kind, content: &[u8]) -> Option<Vec<u8>> {
        let now = clock::unix_ms();
        match kind {
            Kind::Crash => {
                let report: Report = serde_json::from_slice(content).ok()?;
                Some(envelope::crash(&report, self.settings.server_name.as_deref(), now))
            }
            Kind::Session => {
                let session: Session = serde_json::from_slice(content).ok()?;
                Some(envelope::session(&session, now))
            }
        }
    }
}
