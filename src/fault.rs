//! Fault points: where a debug build breaks when its environment asks for it, so that trials can see what follows.
//! A release build has none.

#![forbid(unsafe_code)]

/// The variable that names the fault.
#[cfg(debug_assertions)]
const VARIABLE: &str = "OBIT_FAULT";

/// In PID 1, where no panic is expected and none may end it: breaks if the environment says `panic` or `abort`.
pub fn strike() {
    #[cfg(debug_assertions)]
    match std::env::var(VARIABLE).as_deref() {
        Ok("panic") => panic!("fault point"),
        Ok("abort") => std::process::abort(),
        _ => {}
    }
}
