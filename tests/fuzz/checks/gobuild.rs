//! Whatever a file holds, what it was built with is read from it in bounded time, to a bounded result, without harm.

use obit::evidence::toolchain;

pub fn holds(bytes: &'static [u8]) {
    let built = toolchain::read(bytes);
    let texts = built.go.iter().flat_map(|go| &go.settings).map(|(key, value)| key.len() + value.len());
    assert!(texts.sum::<usize>() + built.by.map_or(0, |by| by.len()) <= 64 << 10);
}
