//! Whatever a core file holds, threads, mappings, memory and calls are read from it in bounded time, without harm. Nothing but itself is
//! read, whatever files it names.

use obit::evidence::autopsy;
use obit::evidence::core::read;
use obit::evidence::images::Files;
use obit::evidence::memory::Memory as _;
use obit::evidence::symbols::Roots;

pub fn holds(bytes: &'static [u8]) {
    let Ok(core) = read(bytes) else { return };
    for mapping in core.snapshot.mappings.iter().take(16) {
        assert!(core.memory.some(mapping.start, 4096).len() <= 4096);
    }
    let (autopsy, _) = autopsy::of(&core.snapshot, &core.memory, &Files::default(), &Roots::default());
    assert!(autopsy.threads.len() <= core.snapshot.threads.len());
}
