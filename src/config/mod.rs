//! What the operator wants: defaults, then the file, then the environment, then the flags; the later wins.

#![forbid(unsafe_code)]

use crate::limits;
use crate::sys::signal::Signal;
use std::path::PathBuf;
use std::time::Duration;

/// Every setting with its value. What is `None` is unset.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Signal the child's whole process group, not only the child.
    pub group: bool,
    /// Signal n is passed on as `rewrite[n]`; 0 swallows it. Index 0 is unused.
    pub rewrite: [u8; 65],
    /// Sent to the child when init is asked to stop (SIGTERM, SIGINT …); `None`: the signal that came.
    pub stop_signal: Option<Signal>,
    /// From the forwarded stop signal to SIGKILL; `None`: never.
    pub stop_grace: Option<Duration>,
    /// Between a stop signal and its being passed on.
    pub stop_delay: Duration,
    /// Exit code n leaves as `map_exit[n]`.
    pub map_exit: [u8; 256],
    /// End by the child's signal instead of 128+n, where the kernel lets us (not as PID 1).
    pub re_raise: bool,
    /// What init is sent when its own parent dies.
    pub parent_death_signal: Option<Signal>,
    /// Bytes of stderr remembered; `None`: stderr is not touched.
    pub stderr_tail_bytes: Option<usize>,

    /// `None`: the file name of the command.
    pub component: Option<String>,
    /// Exit codes besides 0 that are no news.
    pub expected_exit: Vec<u8>,
    /// `None`: /var/lib/obit, else a per-user folder, else /dev/shm.
    pub state_dir: Option<PathBuf>,
    pub report_wait: Duration,
    /// Gets one line about the death if it exists; `None`: switched off.
    pub termination_log: Option<PathBuf>,

    /// As given; checked by whoever sends.
    pub dsn: Option<String>,
    pub release: Option<String>,
    pub environment: Option<String>,
    /// `None`: the host name.
    pub server_name: Option<String>,

    /// `LOG_FORMAT=json`.
    pub log_json: bool,
    pub verbose: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            group: false,
            rewrite: std::array::from_fn(|n| n as u8),
            stop_signal: None,
            stop_grace: Some(limits::STOP_GRACE),
            stop_delay: Duration::ZERO,
            map_exit: std::array::from_fn(|n| n as u8),
            re_raise: false,
            parent_death_signal: None,
            stderr_tail_bytes: Some(limits::STDERR_TAIL_BYTES),
            component: None,
            expected_exit: Vec::new(),
            state_dir: None,
            report_wait: limits::REPORT_WAIT,
            termination_log: Some(PathBuf::from("/dev/termination-log")),
            dsn: None,
            release: None,
            environment: None,
            server_name: None,
            log_json: false,
            verbose: false,
        }
    }
}
