//! The spool on a real directory: durable, rename-only, and blind to what is not its own.

use super::*;
use crate::config::Settings;
use proptest::prelude::*;

fn spool() -> (tempfile::TempDir, Spool) {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { state_dir: Some(dir.path().to_owned()), ..Settings::default() };
    assert!(place::resolve(&settings).refused.is_empty());
    let spool = Spool::open(dir.path());
    (dir, spool)
}

fn states(spool: &Spool) -> Vec<(State, u32)> {
    spool.entries().iter().map(|entry| (entry.state, entry.attempts)).collect()
}

#[test]
fn an_entry_goes_from_open_to_pending_to_sent() {
    let (_dir, spool) = spool();
    let mut open = spool.begin(Kind::Crash, Id([1; 16]), 5, b"minimal").unwrap();
    assert_eq!(spool.adopt(), 0, "its examiner lives");
    spool.improve(&mut open, b"in full").unwrap();
    assert_eq!(spool.adopt(), 0, "the lock moved with the content");
    let entry = spool.settle(open).unwrap();
    assert_eq!(spool.read(&entry).unwrap(), b"in full");
    let entry = spool.attempted(&entry).unwrap();
    assert_eq!(states(&spool), [(State::Pending, 1)]);
    spool.mark(&entry, State::Sent).unwrap();
    assert_eq!(states(&spool), [(State::Sent, 1)]);
}

#[test]
fn what_a_dead_examiner_left_is_adopted_as_it_is() {
    let (_dir, spool) = spool();
    drop(spool.begin(Kind::Crash, Id([1; 16]), 5, b"minimal").unwrap());
    assert_eq!(spool.adopt(), 1);
    assert_eq!(spool.read(&spool.entries()[0]).unwrap(), b"minimal");
}

#[test]
fn one_sender_at_a_time() {
    let (_dir, spool) = spool();
    let lock = spool.sender_lock().unwrap();
    assert!(spool.sender_lock().is_none());
    drop(lock);
    assert!(spool.sender_lock().is_some());
}

#[test]
fn what_is_not_ours_is_not_seen_and_holds_nobody() {
    let (dir, spool) = spool();
    let pending = dir.path().join("spool/pending");
    let name = |n: u8| format!("5-{}-0.crash", Id([n; 16]));
    std::os::unix::fs::symlink("/etc/passwd", pending.join(name(1))).unwrap();
    std::fs::create_dir(pending.join(name(2))).unwrap();
    nix::unistd::mkfifo(&pending.join(name(3)), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(pending.join("notes.txt"), "x").unwrap();
    std::fs::write(pending.join("5-zz-0.crash"), "x").unwrap();
    assert_eq!(spool.entries(), []);
    std::fs::write(pending.join(name(4)), vec![b'x'; limits::ENTRY_BYTES as usize + 2]).unwrap();
    assert!(matches!(spool.read(&spool.entries()[0]), Err(ReadError::Corrupt(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_cut_or_a_changed_byte_is_found(content in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<bool>()) {
        let (dir, spool) = spool();
        let open = spool.begin(Kind::Crash, Id([1; 16]), 5, &content).unwrap();
        let entry = spool.settle(open).unwrap();
        let path = dir.path().join("spool/pending").join(entry.file_name());
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
        std::fs::write(&path, bytes).unwrap();
        prop_assert!(matches!(spool.read(&entry), Err(ReadError::Corrupt(_))));
    }
}
