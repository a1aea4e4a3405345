//! From the spool to Sentry: the envelope, the way there, and what an answer means.

#![forbid(unsafe_code)]

pub mod cause;
pub mod content;
pub mod daily;
pub mod dsn;
pub mod envelope;
pub mod event;
pub mod fault;
pub mod go_url;
pub mod ledger;
pub mod proxy;
pub mod rate;
pub mod retry;
pub mod sender;
pub mod stack;
pub mod standing;
pub mod transport;
pub mod turn;
