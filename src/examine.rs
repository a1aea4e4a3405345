//! The role that turns a case into a report, confined, under a deadline.

#![forbid(unsafe_code)]
