//! All the `unsafe` there is: system calls as functions with types, owned fds and the manual page named.

pub mod signal;
