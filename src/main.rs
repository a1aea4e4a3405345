//! The process begins here, at the C `main`: Rust's own start would ignore SIGPIPE, open closed standard streams and
//! install signal handlers before we could see what our caller wanted.
#![no_main]

#[unsafe(no_mangle)]
extern "C" fn main(_argc: i32, _argv: *const *const std::ffi::c_char) -> i32 {
    i32::from(obit::role::play())
}
