//! What people type: one command line to one role.

#![forbid(unsafe_code)]
