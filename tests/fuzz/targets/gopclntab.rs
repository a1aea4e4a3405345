#![no_main]

#[path = "../checks/gopclntab.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // SAFETY: nothing that is made of the bytes outlives this run.
    check::holds(unsafe { std::mem::transmute::<&[u8], &'static [u8]>(bytes) });
});
