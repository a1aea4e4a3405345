//! From the spool to Sentry: the envelope, the way there, and what an answer means.

#![forbid(unsafe_code)]

pub mod dsn;
pub mod envelope;
pub mod go_url;
pub mod proxy;
pub mod retry;
pub mod transport;
