//! From the spool to Sentry: envelope, transport, retry, rate limits, proxy.

#![forbid(unsafe_code)]
