//! Every cap and timeout in one place, with its unit and its reason. What a user may set has its default here.

#![forbid(unsafe_code)]

use std::time::Duration;

/// From the forwarded stop signal to SIGKILL: two seconds less than the ten that Docker gives before it kills us.
pub const STOP_GRACE: Duration = Duration::from_secs(8);
/// Stop signals closer together than this are one wish: timeout(1) signals a process and then its group.
pub const SAME_WISH: Duration = Duration::from_millis(5);
/// Writing a report to the disk may take this long however short the stay for its delivery is.
pub const EXAMINE_LEAST: Duration = Duration::from_secs(2);
/// Workers that are killed as we leave are reaped before we go, within this.
pub const WORKERS_GONE: Duration = Duration::from_millis(200);
/// The longest stay between a death that is reported and our exit. DESIGN: a crash may cost seconds, never a restart.
pub const REPORT_WAIT: Duration = Duration::from_secs(5);
/// For descendants that are left when the main program has ended: TERM, this long, KILL.
pub const DRAIN_GRACE: Duration = Duration::from_secs(3);
/// After that KILL: a process in uninterruptible sleep must not keep the container.
pub const DRAIN_AFTER_KILL: Duration = Duration::from_secs(1);
/// How long the last bytes of stderr may wait for a reader that has stopped reading; starts anew with each byte taken.
pub const STDERR_FLUSH: Duration = Duration::from_secs(5);
/// The remembered end of stderr, in bytes.
pub const STDERR_TAIL_BYTES: usize = 64 * 1024;
/// The largest tail that may be asked for: it is PID 1's memory, and a Sentry event takes 1 MiB in all.
pub const STDERR_TAIL_MAX_BYTES: usize = 1024 * 1024;
/// Zombies reaped before signals are looked at again, so that TERM is answered within a millisecond in any storm.
pub const REAP_BATCH: usize = 256;
/// What a stop of a traced thread costs it at most, from its stop to its next step, while we are awake from the one before, and
/// where we and its processor have to be woken. Measured in a virtual machine: 25 µs, and 50 to 380 µs, the more the longer nothing
/// was to do. A signal is one stop, a thread that comes and goes two.
pub const TRACE_STOP_AWAKE: Duration = Duration::from_micros(30);
pub const TRACE_STOP_ASLEEP: Duration = Duration::from_micros(400);
/// So soon after the last stop is over.
pub const TRACE_AWAKE: Duration = Duration::from_micros(150);
/// How long a program may be held up in all before it is let go: one part in so many of its time,
pub const TRACE_COST: u32 = 100;
/// and this at once, when it starts its threads: thousands of them.
pub const TRACE_COST_AT_ONCE: Duration = Duration::from_millis(200);
/// Processes that the program may fork in a second, in the long run, and be followed: each is four stops more, of 0.4 to 0.9 ms
/// together, so at most one part in a hundred of its time.
pub const TRACE_FORKS: u32 = 10;
/// And at once, when a master starts its workers: then less than 0.1 s in all.
pub const TRACE_FORKS_AT_ONCE: u32 = 100;
/// How often the program may execute another one and have it followed anew: an entrypoint does it two or three times.
pub const TRACE_RENEWALS: u32 = 8;
/// Crashes of what it forks that are looked into at once, twice as many as are told of one kind; then one more every so often.
pub const TRACE_LOOKS: u32 = 20;
pub const TRACE_LOOK_AGAIN: Duration = Duration::from_secs(30);
/// System calls of one signal handler that are looked at.
pub const TRACE_CALLS: u32 = 1000;
/// Within this all threads of a dying process must stand still to be looked at.
pub const TRACE_HOLD: Duration = Duration::from_millis(100);
/// And this long they stand still at most; their stacks take a few milliseconds.
pub const CAPTURE_STILL: Duration = Duration::from_millis(500);
/// Names may take longer; a worker that takes more is killed.
pub const CAPTURE_DEADLINE: Duration = Duration::from_secs(8);
/// An examiner that takes longer is killed; the minimal entry it made first stands.
pub const EXAMINE_DEADLINE: Duration = Duration::from_secs(10);
/// A good end stays this long at most for its release-health record to be written to the disk.
pub const SESSION_WAIT: Duration = Duration::from_secs(1);
/// How often init starts an examiner anew for the same case when it died before anything was on disk.
pub const EXAMINE_ATTEMPTS: u32 = 3;

/// The tail in a report, as JSON, where a NUL takes six bytes; the rest of an entry fits beside it.
pub const TAIL_JSON_BYTES: usize = 2 * 1024 * 1024;
/// What a report keeps of a command line: Linux lets it be 2 MiB, a reader wants to know which program it was.
pub const ARGV_BYTES: usize = 16 * 1024;
/// And of one argument of it.
pub const ARG_CHARS: usize = 4096;
/// Environment variables named in a report, and what they may take together: there may be 100,000.
pub const ENV_NAMES: usize = 512;
pub const ENV_BYTES: usize = 32 * 1024;
/// Of one name and of one value.
pub const ENV_NAME_CHARS: usize = 200;
pub const ENV_VALUE_CHARS: usize = 1024;

/// What the spool of one state directory may hold in bytes, all states together.
pub const SPOOL_BYTES: u64 = 64 * 1024 * 1024;
/// How many entries may wait, and how many of each settled state are kept for reading.
pub const SPOOL_ENTRIES: usize = 100;
/// Sentry clamps the time of an event that is older than 30 days.
pub const EVENT_AGE: Duration = Duration::from_secs(30 * 86_400);
/// Sentry drops sessions older than this.
pub const SESSION_AGE: Duration = Duration::from_secs(5 * 86_400);
/// A check-in says that we are alive now; yesterday's says nothing.
pub const CHECK_IN_AGE: Duration = Duration::from_secs(86_400);
/// One entry on disk; a larger file is not ours.
pub const ENTRY_BYTES: u64 = 4 * 1024 * 1024;

/// Reports of one fingerprint within [`LOOP_WINDOW`] before the rest is only counted.
pub const LOOP_REPORTS: u32 = 10;
/// The window of a crash loop.
pub const LOOP_WINDOW: Duration = Duration::from_secs(600);

/// TCP, proxy and TLS handshakes together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One whole request, answer included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer only the head matters; more than this of its body is not read.
pub const ANSWER_BYTES: usize = 64 * 1024;
/// For the words that come with a refusal; the refusal is known before.
pub const DETAIL_TIMEOUT: Duration = Duration::from_secs(2);
/// First pause after a failed attempt; doubles up to [`RETRY_MAX`], with full jitter.
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
pub const RETRY_MAX: Duration = Duration::from_secs(15 * 60);
/// A hostile Retry-After cannot silence us for longer.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);
/// Answers of 5xx before an entry is given up, and how old it is by then: an outage of hours loses nothing.
pub const ATTEMPTS_MAX: u32 = 12;
pub const GIVE_UP_AGE: Duration = Duration::from_secs(86_400);
/// A wrong key (401, 403, 404) pauses the whole destination.
pub const WRONG_KEY_PAUSE: Duration = Duration::from_secs(3_600);
/// A 429 that names no time.
pub const RATE_LIMIT_DEFAULT: Duration = Duration::from_secs(60);
/// Between two sends, so that a full spool is not a burst.
pub const SEND_SPACING: Duration = Duration::from_millis(100);
/// When no more than these are left they go at once: what one death leaves (its report, the session of its run, a client
/// report) shall not hold up the container's end.
pub const SEND_TOGETHER: usize = 3;
/// While a request is under way its permission is looked at this often: two stat(2) each.
pub const CONSENT_LOOK: Duration = Duration::from_millis(100);
/// A courier that would have to wait longer than this, or than a report may be waited for, leaves and is called again.
pub const COURIER_NAP: Duration = Duration::from_secs(10);
pub const COURIER_NAP_MAX: Duration = Duration::from_secs(60);
/// While it waits it looks this often whether something came that may go.
pub const COURIER_LOOK: Duration = Duration::from_secs(1);
/// From the start to the first look whether the daily report is due: the program's own start comes first.
pub const FIRST_LOOK: Duration = Duration::from_secs(1);
/// A channel that a file closed, and the daily report: looked at again after so long.
pub const CONSENT_AGAIN: Duration = Duration::from_secs(3600);
/// The log of what was sent; an old one of this size is kept beside it. A line takes about 300 bytes.
pub const AUDIT_BYTES: u64 = 512 * 1024;
/// Sentry takes an event item of at most 1 MiB.
pub const EVENT_ITEM_BYTES: usize = 1024 * 1024;

/// An inventory is asked for no longer than this, all its questions together; what is known then is sent.
pub const INVENTORY_DEADLINE: Duration = Duration::from_secs(20);
/// One question of it.
pub const INVENTORY_REQUEST: Duration = Duration::from_secs(5);
/// One answer: a list of ten thousand volumes is about 9 MB.
pub const INVENTORY_BYTES: usize = 16 * 1024 * 1024;
/// Connections served at once by the API; whoever comes then waits in the kernel's queue.
pub const API_CONNECTIONS: usize = 64;
/// A client has this long for the head of a request, and again for its body.
pub const API_READ: Duration = Duration::from_secs(5);
/// And this long for all it does on one connection, so that a slow reader cannot hold one for ever.
pub const API_CONNECTION: Duration = Duration::from_secs(60);
/// Head and body of a request: what the API takes is a few hundred bytes.
pub const API_HEAD_BYTES: usize = 16 * 1024;
pub const API_BODY_BYTES: usize = 64 * 1024;
/// Whoever serves leaves when nobody has come for so long.
pub const API_IDLE: Duration = Duration::from_secs(60);
/// Wrong passwords from one address within [`API_FAILURES_WINDOW`] before all from there is refused for the rest of it.
pub const API_FAILURES: u32 = 10;
pub const API_FAILURES_WINDOW: Duration = Duration::from_secs(60);
/// Crashes told in one answer.
pub const API_CRASHES: usize = 100;

/// The version question in all: every try of every name server.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two rounds through the name servers.
pub const DNS_PAUSE: Duration = Duration::from_millis(500);
/// Between two version questions, more or less [`ASK_SPREAD`], so that a fleet that started together drifts apart.
pub const ASK_EVERY: Duration = Duration::from_secs(24 * 3_600);
pub const ASK_SPREAD: Duration = Duration::from_secs(4 * 3_600);
/// An urgent upgrade is logged again after this.
pub const NOTICE_AGAIN: Duration = Duration::from_secs(24 * 3_600);
/// The API server's version, of which nothing depends.
pub const KUBERNETES_TIMEOUT: Duration = Duration::from_secs(5);
