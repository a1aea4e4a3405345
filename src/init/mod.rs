//! PID 1: one thread, one poll, a pure state machine.

#![forbid(unsafe_code)]
