//! `obit` is an init for containers that writes the obituary of what it buries.
//!
//! It starts the program, passes signals on, reaps the dead and ends with their exit code. When a program crashes it
//! keeps what can be known of the death on disk within milliseconds and, if somebody agreed to receive it, delivers it
//! to Sentry. What matters, in this order when two pull apart: the container lives and dies as it would without us;
//! the truth about a death is kept; it reaches whoever agreed to receive it.
//!
//! # Six roles, one binary
//!
//! | role | lives | may | never |
//! |---|---|---|---|
//! | `init` | as long as the container | fork, exec, signals, wait, poll, trace the program, pass stderr on | threads, async, TLS, DNS, parsing of foreign bytes, growth |
//! | `capture` | at a signal that kills, confined | read the memory of the program while it stands still | write by path, network, signalling |
//! | `examine` | seconds after a death, confined | read what the case holds, write one spool entry | network, signalling, outliving its deadline |
//! | `courier` | until the spool is settled | the network, the spool | see a core, signal anyone |
//! | `panel` | while somebody asks | the API's socket, the spool, the stored choice | see a core, signal anyone |
//! | `cli` (`ctl`) | one command of a person | config, consent, spool | anything else |
//!
//! The workers (`capture`, `examine`, `courier`, `panel`) are forked from init without an exec: they need no `/proc`, no path to the
//! binary, and the case of a death is simply there, in the memory they inherit. A worker that dies is started again from the
//! same facts; init itself never changes for it.
//!
//! # The way of a death is the order of the folders
//!
//! `spawn → death → case → evidence → report → spool → deliver`. At a signal that will kill, `capture` reads the evidence that does
//! not outlive the death, and the case carries it. A file names only lower floors:
//!
//! | floor | rooms |
//! |---|---|
//! | 0 | [`sys`]: all the `unsafe` there is |
//! | 1 | [`death`], [`case`], [`limits`], [`say`], [`fault`] |
//! | 2 | [`config`], [`consent`], [`log`] |
//! | 3 | `evidence`: what can be learnt of a death |
//! | 4 | [`report`]: the report as it is kept; `spool`: where it is kept |
//! | 5 | `deliver`: envelope, transport, retry, proxy |
//! | 6 | `telemetry`: the daily report, the version question |
//! | 7 | the roles, none of which names another; `role` alone knows them all |

pub mod capture;
pub mod case;
pub mod cli;
pub mod config;
pub mod consent;
pub mod courier;
pub mod death;
pub mod deliver;
pub mod evidence;
pub mod examine;
pub mod fault;
pub mod init;
pub mod limits;
pub mod log;
pub mod panel;
pub mod report;
pub mod role;
pub mod say;
pub mod spool;
pub mod sys;
pub mod telemetry;
