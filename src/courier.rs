//! The role that carries what is in the spool to whoever agreed to receive it.

#![forbid(unsafe_code)]
