//! The role that carries what is in the spool to whoever agreed to receive it.
//!
//! It may be killed at any instant: an entry is moved to `sent/` only after the server took it, so the worst is that the
//! same event id is sent twice, which Sentry folds into one. How long everybody waits after a failure is kept beside the
//! spool, so the next visit knows.

#![forbid(unsafe_code)]

use crate::config::{Settings, WhenOff};
use crate::consent::gate::Gate;
use crate::consent::{self, Block, Channel};
use crate::deliver::content::Content;
use crate::deliver::dsn::Dsn;
use crate::deliver::envelope::{self, Size};
use crate::deliver::fault;
use crate::deliver::ledger::Ledger;
use crate::deliver::retry::{self, Answer, Fate, Tried};
use crate::deliver::standing::{Standing, after};
use crate::deliver::transport::Transport;
use crate::deliver::turn::{self, Turn};
use crate::limits;
use crate::log;
use crate::spool::{Entry, Kind, ReadError, SenderLock, Spool, SpoolError, State, memory, place, quota};
use crate::sys::{clock, memory as random};
use crate::telemetry::audit::{self, Record};
use crate::telemetry::signer::Signer;
use crate::telemetry::{check, daily, destination};
use std::cell::RefCell;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};
use tracing::{Instrument as _, debug, debug_span, error, warn};

/// What a visit came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    pub sent: usize,
    pub rejected: usize,
    /// Entries that wait for another time.
    pub kept: usize,
    /// Those of them whose channel is switched off; counted where somebody asks for the sum.
    pub held: usize,
    /// Why they wait, or why nothing may be sent.
    pub why: Option<String>,
    /// When one of them may be tried again.
    pub again_unix_ms: Option<u64>,
}

impl Summary {
    /// What another visit came to, besides.
    fn join(&mut self, other: Summary) {
        self.sent += other.sent;
        self.rejected += other.rejected;
        self.kept += other.kept;
        self.why = self.why.take().or(other.why);
        self.again_unix_ms = self.again_unix_ms.into_iter().chain(other.again_unix_ms).min();
    }
}

/// As a worker of init, which started at that time: 0 when nothing is left to do, else the minutes after which to call again.
pub fn run(settings: &Settings, state_dir: Option<&Path>, memory_reports: Vec<OwnedFd>, started_unix_ms: u64) -> u8 {
    log::begin();
    fault::watch("courier", settings, state_dir);
    let unusable = |error: &SpoolError| error!("{error}");
    let spool = state_dir.and_then(|dir| Spool::open(dir).inspect_err(unusable).ok());
    let nap = settings.report_wait.clamp(limits::COURIER_NAP, limits::COURIER_NAP_MAX);
    let patience = Patience::Worker { started_unix_ms, nap };
    let mut summary = visit(settings, state_dir, spool.as_ref(), memory_reports, patience);
    for refuge in state_dir.into_iter().flat_map(|home| refuges(settings, home)) {
        summary.join(visit(settings, state_dir, Some(&refuge), Vec::new(), patience));
    }
    // What leads nowhere is told before there is something to send, unless that told it.
    let told = summary.why.clone();
    for why in destination::unusable(settings, state_dir).filter(|why| told.as_ref() != Some(why)) {
        error!("{why}; nothing leaves until that is mended");
    }
    // After the crashes: an inventory may take its time.
    let look = spool.as_ref().and_then(|spool| look_at_daily(settings, spool));
    let fresh = |entry: &Entry| entry.kind == Kind::Daily && entry.attempts == 0;
    if spool.as_ref().is_some_and(|spool| spool.entries_in(State::Pending).iter().any(fresh)) {
        summary = visit(settings, state_dir, spool.as_ref(), Vec::new(), patience);
    }
    let ask = spool.as_ref().and_then(|spool| check::look(settings, spool.state_dir()));
    let now = clock::unix_ms();
    let look = look.into_iter().chain(ask).min().map(|look| after(now, look));
    let again = summary.again_unix_ms.into_iter().chain(look).min();
    let minutes = again.map_or(0, |again| minutes_until(again, now));
    debug!(?summary, minutes, "the courier leaves");
    minutes
}

/// Makes the daily report if it is due and somebody agreed to receive it. How long until it is worth another look; `None`:
/// not in this life.
fn look_at_daily(settings: &Settings, spool: &Spool) -> Option<Duration> {
    settings.dsn.as_ref()?;
    match consent::current(settings, Some(spool.state_dir())).grant(Channel::Daily) {
        Err(block) => block.may_change().then_some(limits::CONSENT_AGAIN),
        Ok(_) => match daily::look(settings, spool) {
            Ok(wait) => Some(wait.min(limits::CONSENT_AGAIN)),
            Err(sentence) => {
                warn!("{sentence}");
                Some(limits::CONSENT_AGAIN)
            }
        },
    }
}

/// Rounded up; who has to wait longer than [`CALL_AGAIN_MAX`] looks again then.
pub fn minutes_until(then_unix_ms: u64, now_unix_ms: u64) -> u8 {
    let minutes = then_unix_ms.saturating_sub(now_unix_ms).div_ceil(60_000);
    minutes.clamp(1, CALL_AGAIN_MAX.into()) as u8
}

/// Four hours: an exit status holds no more than 255.
pub const CALL_AGAIN_MAX: u8 = 240;

/// `obit flush`: in the foreground, one attempt for each entry or until one fails. Whoever asks for it wants it now, so
/// what was to be waited for does not count; if it still holds, the first answer says so.
pub fn flush(settings: &Settings, spool: &Spool) -> Summary {
    let home = spool.state_dir();
    let mut summary = visit(settings, Some(home), Some(spool), Vec::new(), Patience::None);
    let mut left = spool.entries_in(State::Pending);
    for refuge in refuges(settings, home) {
        summary.join(visit(settings, Some(home), Some(&refuge), Vec::new(), Patience::None));
        left.extend(refuge.entries_in(State::Pending));
    }
    let consent = consent::current(settings, Some(home));
    let held = left.iter().filter(|entry| consent.grant(entry.kind.channel()).is_err()).count();
    Summary { kept: left.len(), held, ..summary }
}

/// Where reports are that the state directory refused.
fn refuges(settings: &Settings, home: &Path) -> impl Iterator<Item = Spool> {
    place::refuges_in_use(settings, home).into_iter().filter_map(|dir| Spool::open(&dir).ok())
}

/// How a visit takes it that something has to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Patience {
    /// It waits for what may be tried again soon, and heeds what the server asked for before.
    Worker { started_unix_ms: u64, nap: Duration },
    /// One attempt for each.
    None,
}

impl Patience {
    fn nap(self) -> Duration {
        match self {
            Patience::Worker { nap, .. } => nap,
            Patience::None => Duration::ZERO,
        }
    }

    /// An attempt before this moment is no reason to wait.
    fn since_unix_ms(self) -> u64 {
        match self {
            Patience::Worker { started_unix_ms, .. } => started_unix_ms,
            Patience::None => u64::MAX,
        }
    }
}

/// `home` is the state directory, where the choices and the identity are; the spool may be in a refuge.
fn visit(
    settings: &Settings,
    home: Option<&Path>,
    spool: Option<&Spool>,
    memory_reports: Vec<OwnedFd>,
    patience: Patience,
) -> Summary {
    let closed = |why: String| Summary { why: Some(why), ..Summary::default() };
    // Nothing of the network is touched before there is a destination and permission.
    let Some(dsn) = &settings.dsn else { return closed("there is no DSN".to_owned()) };
    let mut gate = Gate::new(settings, home);
    if let (Err(block), Err(_)) = (gate.grant(Channel::Errors), gate.grant(Channel::Daily)) {
        let aside = |channel| spool.map_or(0, |spool| put_aside(settings, spool, channel));
        let kept = aside(Channel::Errors) + aside(Channel::Daily);
        let again_unix_ms = (block.may_change() && kept > 0).then(|| after(clock::unix_ms(), limits::CONSENT_AGAIN));
        return Summary { kept, again_unix_ms, ..closed(format!("switched off by {block}")) };
    }
    if spool.is_some_and(|spool| !spool.anything_waits()) && memory_reports.is_empty() {
        return Summary::default();
    }
    let transport = match Dsn::parse(dsn).and_then(Transport::new) {
        Ok(transport) => transport,
        Err(sentence) => {
            error!("{sentence}; reports stay here until that is mended");
            return closed(sentence);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let what = format!("no runtime can be made ({error})");
            fault::tell("courier", settings, home, &what);
            return closed(what);
        }
    };
    let mut visit = Visit {
        settings,
        gate: RefCell::new(gate),
        signer: Signer::new(settings, home),
        state_dir: home,
        transport,
        patience,
        ledger: Ledger::default(),
        standing: Standing::default(),
        done: HashSet::new(),
        summary: Summary::default(),
    };
    let span = debug_span!("visit", to = %visit.transport.dsn, way = %visit.transport.route());
    let work = async {
        match spool {
            Some(spool) => visit.with_spool(spool, memory_reports).await,
            None => visit.deliver_memory(memory_reports).await,
        }
        visit.summary
    };
    let summary = runtime.block_on(work.instrument(span));
    // A resolver that hangs sits in a thread which nobody can end.
    runtime.shutdown_background();
    summary
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
                warn!("{what}: switched off, so {gone} that waited were removed (when-off is purge)");
            }
            0
        }
    }
}

struct Visit<'a> {
    settings: &'a Settings,
    gate: RefCell<Gate>,
    signer: Signer<'a>,
    state_dir: Option<&'a Path>,
    transport: Transport,
    patience: Patience,
    ledger: Ledger,
    standing: Standing,
    /// File names that had their turn and are there all the same: once in a visit is enough.
    done: HashSet<String>,
    summary: Summary,
}

/// What became of an entry's turn.
enum Turned {
    /// It is settled, or can have no other turn in this visit.
    Done,
    /// It waits.
    Waits,
    /// Somebody switched the channel off meanwhile.
    Off,
}

impl Visit<'_> {
    async fn with_spool(&mut self, spool: &Spool, memory_reports: Vec<OwnedFd>) {
        let Some(lock) = self.lock(spool).await else {
            self.summary.kept = spool.entries_in(State::Pending).len();
            self.summary.again_unix_ms = Some(clock::unix_ms());
            return;
        };
        self.remember(spool);
        self.deliver_memory(memory_reports).await;
        if let Some(_lock) = self.deliver_spool(spool, lock).await {
            self.tell_losses(spool).await;
            self.note(spool);
        }
    }

    fn remember(&mut self, spool: &Spool) {
        self.ledger = Ledger::read(spool);
        if let Patience::Worker { started_unix_ms, .. } = self.patience {
            self.standing = self.ledger.standing(&self.transport.dsn);
            self.standing.started(started_unix_ms);
        }
    }

    /// There is no lock with a deadline, so it is asked for now and then.
    async fn lock(&mut self, spool: &Spool) -> Option<SenderLock> {
        let begin = Instant::now();
        let why = loop {
            match spool.sender_lock() {
                Ok(Some(lock)) => return Some(lock),
                Ok(None) if begin.elapsed() < self.patience.nap() => tokio::time::sleep(limits::SEND_SPACING).await,
                Ok(None) => break "another obit delivers from this state directory".to_owned(),
                Err(error) => {
                    warn!("{error}");
                    break error.to_string();
                }
            }
        };
        self.summary.why = Some(why);
        None
    }

    fn note(&mut self, spool: &Spool) {
        self.ledger.stands(&self.transport.dsn, &self.standing);
        self.ledger.keep(spool, clock::unix_ms());
    }

    /// Gives everybody who waits a turn, until nobody waits or the next turn is too far away. Whoever wants to deliver while
    /// we nap may: then the lock is theirs.
    async fn deliver_spool(&mut self, spool: &Spool, mut lock: SenderLock) -> Option<SenderLock> {
        loop {
            spool.adopt();
            let evicted = quota::enforce(spool, clock::unix_ms());
            if evicted > 0 {
                warn!("the spool is over its bounds; {evicted} undelivered entries were dropped");
            }
            let held = self.put_closed_aside(spool);
            let pending = spool.entries_in(State::Pending).into_iter();
            let mut waiting: Vec<Entry> = pending
                .filter(|entry| !self.done.contains(&entry.file_name()) && self.is_open(entry.kind.channel()))
                .collect();
            for entry in waiting.iter_mut().filter(|entry| entry.tried_unix_ms < self.patience.since_unix_ms()) {
                entry.tried_unix_ms = 0;
            }
            let now = clock::unix_ms();
            match turn::next(&waiting, &self.standing, now) {
                Turn::Nothing => {
                    self.summary.kept = held;
                    return Some(lock);
                }
                Turn::Deliver(entry) => {
                    let span = debug_span!("entry", id = %entry.id, kind = ?entry.kind, attempts = entry.attempts);
                    match self.deliver(spool, &entry).instrument(span).await {
                        Turned::Waits if self.patience != Patience::None => {}
                        Turned::Waits | Turned::Done => drop(self.done.insert(entry.file_name())),
                        // The next look finds its channel closed.
                        Turned::Off => {}
                    }
                    self.note(spool);
                    if waiting.len() > limits::SEND_TOGETHER {
                        tokio::time::sleep(limits::SEND_SPACING).await;
                    }
                }
                Turn::Wait { until_unix_ms, why } => {
                    let pause = Duration::from_millis(until_unix_ms - now);
                    if pause > self.patience.nap() {
                        debug!(?pause, why, "nobody may go now");
                        self.summary.kept = waiting.len() + held;
                        self.summary.why = Some(why);
                        self.summary.again_unix_ms = Some(until_unix_ms);
                        return Some(lock);
                    }
                    drop(lock);
                    tokio::time::sleep(pause.min(limits::COURIER_LOOK)).await;
                    lock = self.lock(spool).await?;
                    self.remember(spool);
                }
            }
        }
    }

    fn is_open(&self, channel: Channel) -> bool {
        self.gate.borrow_mut().grant(channel).is_ok()
    }

    /// What waits on closed channels. Returns how many entries stay there.
    fn put_closed_aside(&mut self, spool: &Spool) -> usize {
        let mut held = 0;
        for channel in [Channel::Errors, Channel::Daily] {
            let Err(block) = self.gate.borrow_mut().grant(channel) else { continue };
            if spool.entries_in(State::Pending).iter().any(|entry| entry.kind.channel() == channel) {
                self.summary.why = Some(format!("switched off by {block}"));
                held += put_aside(self.settings, spool, channel);
                if block.may_change() && held > 0 {
                    self.summary.again_unix_ms = Some(after(clock::unix_ms(), limits::CONSENT_AGAIN));
                }
            }
        }
        held
    }

    async fn deliver(&mut self, spool: &Spool, entry: &Entry) -> Turned {
        let content = match spool.read(entry) {
            Ok(content) => Content::parse(entry, &content),
            Err(ReadError::Corrupt(_)) => None,
            Err(error @ ReadError::Newer(_)) => {
                warn!("{} {} stays: {error}", entry.kind.what(), entry.id);
                return Turned::Done;
            }
            // It went while we looked: somebody purged it.
            Err(ReadError::Io(_)) => return Turned::Done,
        };
        let Some(content) = content else {
            warn!("{} {} is corrupt on disk and cannot be delivered", entry.kind.what(), entry.id);
            let _ = spool.mark(entry, State::Corrupt);
            return Turned::Done;
        };
        let now = clock::unix_ms();
        let age = Duration::from_millis(now.saturating_sub(entry.at_unix_ms));
        let tried = Tried { category: entry.kind.category(), attempts: entry.attempts, age };
        let fate = match self.attempt(&content, tried).await {
            Ok(fate) => fate,
            Err(_) => return Turned::Off,
        };
        match fate {
            Fate::Sent => {
                self.summary.sent += 1;
                let settled = match entry.kind.is_report() {
                    true => spool.mark(entry, State::Sent).map(drop),
                    false => spool.remove(entry),
                };
                if let Err(error) = settled.or_else(|error| if error.is_gone() { Ok(()) } else { Err(error) }) {
                    warn!("delivered, but {error}; it may be sent once more");
                }
                Turned::Done
            }
            Fate::Keep(failure) => {
                warn!("{} {} waits: {}", entry.kind.what(), entry.id, failure.why);
                if failure.counts {
                    let _ = spool.attempted(entry);
                    spool.expire(clock::unix_ms());
                }
                self.standing.failed(failure, random_number(), clock::unix_ms());
                Turned::Waits
            }
            Fate::Limited(limits) => {
                warn!("{} {} waits: the server limits our rate (429)", entry.kind.what(), entry.id);
                self.standing.limit(&limits, clock::unix_ms());
                Turned::Waits
            }
            Fate::TooLarge { why } | Fate::Reject { why } => {
                self.summary.rejected += 1;
                let what = entry.kind.what();
                if !entry.kind.is_report() {
                    error!("{what} {} was refused: {why}; it is not kept", entry.id);
                    let _ = spool.remove(entry);
                } else if let Ok(rejected) = spool.mark(entry, State::Rejected) {
                    error!("{what} {} was refused: {why}; it stays in rejected/", entry.id);
                    spool.note_refusal(&rejected, &why);
                }
                spool.note_discard("send_error", entry.kind.category(), 1);
                self.summary.why = Some(why);
                Turned::Done
            }
        }
    }

    /// One request, with the permission of this moment; withdrawn while it is under way it is broken off.
    async fn send(&self, channel: Channel, what: &str, envelope: &[u8]) -> Result<Answer, Block> {
        let permission = self.gate.borrow_mut().grant(channel)?;
        audit::notice(self.state_dir, &self.transport.dsn.to_string());
        let withdrawn = async {
            loop {
                tokio::time::sleep(limits::CONSENT_LOOK).await;
                if let Err(block) = self.gate.borrow_mut().grant(channel) {
                    break block;
                }
            }
        };
        let answer = tokio::select! {
            answer = self.transport.send(&permission, envelope) => Ok(answer),
            block = withdrawn => Err(block),
        };
        if let Some(dir) = self.state_dir {
            let result = match &answer {
                Ok(Answer::Status { code, .. }) => code.to_string(),
                Ok(Answer::Unsent(why) | Answer::Unanswered(why)) => why.clone(),
                Err(block) => format!("broken off, switched off by {block}"),
            };
            let record = Record {
                at_unix_ms: clock::unix_ms(),
                channel: channel.as_str().to_owned(),
                what: what.to_owned(),
                to: self.transport.dsn.to_string(),
                proxy: self.transport.route().to_string(),
                bytes: envelope.len() as u64,
                result,
            };
            audit::note(dir, &record);
        }
        answer
    }

    /// One attempt, in ever smaller sizes as long as the server says that it is too large.
    async fn attempt(&mut self, content: &Content, tried: Tried) -> Result<Fate, Block> {
        let mut size = Size::Whole;
        if self.standing.closed("attachment", clock::unix_ms()).is_some() {
            size = Size::Bare;
        }
        loop {
            let Some(envelope) = self.envelope(content, size, tried.attempts) else {
                let why = "Sentry takes no session of such a release".to_owned();
                return Ok(Fate::Reject { why });
            };
            let begin = Instant::now();
            let answer = self.send(content.kind().channel(), &content.label(), &envelope).await?;
            debug!(?size, bytes = envelope.len(), took = ?begin.elapsed(), ?answer, "one request");
            if let Answer::Status { limits, .. } = &answer {
                self.standing.limit(limits, clock::unix_ms());
            }
            let fate = retry::fate(answer, tried);
            if matches!(fate, Fate::Sent | Fate::TooLarge { .. } | Fate::Reject { .. }) {
                self.standing.succeeded();
            }
            match (fate, size.smaller()) {
                (Fate::TooLarge { .. }, Some(smaller)) if matches!(content, Content::Crash(_)) => size = smaller,
                (fate, _) => return Ok(fate),
            }
        }
    }

    fn envelope(&self, content: &Content, size: Size, attempts: u32) -> Option<Vec<u8>> {
        content.envelope(&self.signer.sender(content.host()), size, attempts, clock::unix_ms())
    }

    /// Reports that no disk took: sent from memory, for as long as we may.
    async fn deliver_memory(&mut self, reports: Vec<OwnedFd>) {
        for fd in reports {
            let Some(report) = memory::read(fd).ok().and_then(|content| serde_json::from_slice(&content).ok()) else {
                continue;
            };
            let content = Content::Crash(Box::new(report));
            let why = loop {
                let now = clock::unix_ms();
                if let Some((until, why)) = self.standing.closed("error", now) {
                    let pause = Duration::from_millis(until - now);
                    if pause > self.patience.nap() {
                        break Some(why.to_owned());
                    }
                    tokio::time::sleep(pause).await;
                }
                let tried = Tried { category: "error", attempts: 0, age: Duration::ZERO };
                match self.attempt(&content, tried).await {
                    Ok(Fate::Sent) => {
                        self.summary.sent += 1;
                        break None;
                    }
                    Ok(Fate::Keep(failure)) => self.standing.failed(failure, random_number(), clock::unix_ms()),
                    Ok(Fate::Limited(limits)) => self.standing.limit(&limits, clock::unix_ms()),
                    Ok(Fate::TooLarge { why } | Fate::Reject { why }) => break Some(why),
                    Err(block) => break Some(format!("switched off by {block}")),
                }
            };
            if let Some(why) = why {
                error!("the report is lost, it was only in memory: {why}");
                self.summary.why = Some(why);
            }
        }
    }

    /// Sentry learns what was lost here, once something else has shown that it listens.
    async fn tell_losses(&mut self, spool: &Spool) {
        if self.summary.sent == 0 || self.standing.closed("internal", clock::unix_ms()).is_some() {
            return;
        }
        let losses = spool.take_discards();
        if losses.is_empty() {
            return;
        }
        let report = envelope::client_report(&losses, clock::unix_ms());
        match self.send(Channel::Errors, "losses", &report).await {
            // Who refuses it once refuses it always.
            Ok(Answer::Status { code: 200..=428 | 430..=499, .. }) => {}
            _ => losses.iter().for_each(|lost| spool.note_discard(&lost.reason, &lost.category, lost.quantity)),
        }
    }
}

fn random_number() -> u64 {
    let mut bytes = [0; 16];
    random::random(&mut bytes);
    u128::from_le_bytes(bytes) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_call_is_in_whole_minutes_that_an_exit_status_holds() {
        let table = [(0, 1), (1, 1), (60_000, 1), (60_001, 2), (15 * 60_000, 15), (u64::MAX, 240)];
        for (then, minutes) in table {
            assert_eq!(minutes_until(then, 0), minutes, "{then}");
        }
        assert_eq!(minutes_until(0, 5), 1);
    }
}
