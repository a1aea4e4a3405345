//! The spool on a real directory: durable, rename-only, and blind to what is not its own.

use super::*;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

fn spool() -> (tempfile::TempDir, Spool) {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path()).unwrap();
    (dir, spool)
}

fn id(n: u8) -> Id {
    Id([n; 16])
}

fn states(spool: &Spool) -> Vec<(State, u32)> {
    spool.entries().iter().map(|entry| (entry.state, entry.attempts)).collect()
}

fn keep(spool: &Spool, n: u8) -> Entry {
    spool.settle(spool.begin(Kind::Crash, id(n), u64::from(n), b"{}").unwrap()).unwrap()
}

#[test]
fn an_entry_goes_from_open_to_pending_to_sent() {
    let (_dir, spool) = spool();
    let mut open = spool.begin(Kind::Crash, id(1), 5, b"minimal").unwrap();
    assert_eq!(spool.adopt(), 0, "its examiner lives");
    spool.improve(&mut open, b"in full").unwrap();
    assert_eq!(spool.adopt(), 0, "the lock moved with the content");
    let entry = spool.settle(open).unwrap();
    assert_eq!(spool.read(&entry).unwrap(), b"in full");
    let entry = spool.attempted(&entry).unwrap();
    assert_eq!(states(&spool), [(State::Pending, 1)]);
    let entry = spool.mark(&entry, State::Sent).unwrap();
    assert_eq!(states(&spool), [(State::Sent, 1)]);
    spool.mark(&entry, State::Pending).unwrap();
    assert_eq!(states(&spool), [(State::Pending, 0)], "sent again it starts anew");
}

#[test]
fn what_waits_after_attempts_can_be_made_to_start_anew() {
    let (_dir, spool) = spool();
    let tried = spool.attempted(&spool.attempted(&keep(&spool, 1)).unwrap()).unwrap();
    assert_eq!(spool.resend(&tried).unwrap().attempts, 0);
    assert_eq!(states(&spool), [(State::Pending, 0)]);
}

#[test]
fn directories_and_files_are_for_their_owner_alone() {
    let (dir, spool) = spool();
    let entry = keep(&spool, 1);
    let mode = |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("spool"), mode("spool/pending")), (0o700, 0o700));
    assert_eq!(mode(&format!("spool/pending/{}", entry.file_name())), 0o600);
}

#[test]
fn what_a_dead_examiner_left_is_adopted_as_it_is() {
    let (_dir, spool) = spool();
    drop(spool.begin(Kind::Crash, id(1), 5, b"minimal").unwrap());
    assert_eq!(spool.adopt(), 1);
    assert_eq!(spool.read(&spool.entries()[0]).unwrap(), b"minimal");
}

#[test]
fn what_a_power_cut_left_of_an_open_entry_is_no_report() {
    let (dir, spool) = spool();
    let open = spool.begin(Kind::Crash, id(1), 5, b"minimal").unwrap();
    std::fs::write(dir.path().join("spool/open").join(open.entry().file_name()), b"obit 1 7 ").unwrap();
    drop(open);
    assert_eq!(spool.adopt(), 0);
    assert_eq!(states(&spool), [(State::Corrupt, 0)]);
}

#[test]
fn one_sender_at_a_time() {
    let (dir, spool) = spool();
    let other = Spool::open(dir.path()).unwrap();
    let lock = spool.sender_lock().unwrap();
    assert!(lock.is_some() && other.sender_lock().unwrap().is_none());
    drop(lock);
    assert!(other.sender_lock().unwrap().is_some());
}

#[test]
fn a_lock_that_cannot_be_is_not_taken_for_another_sender() {
    let (dir, spool) = spool();
    let name = dir.path().join("spool/sender.lock");
    std::fs::create_dir(&name).unwrap();
    let why = spool.sender_lock().unwrap_err().to_string();
    assert!(why.contains(&name.display().to_string()) && why.contains("nothing is delivered"), "{why}");
}

#[test]
fn it_works_where_no_path_leads_to_it_any_more() {
    let (dir, spool) = spool();
    let moved = dir.path().join("moved");
    std::fs::rename(dir.path().join("spool"), &moved).unwrap();
    let mut open = spool.begin(Kind::Crash, id(1), 5, b"minimal").unwrap();
    spool.improve(&mut open, b"in full").unwrap();
    let entry = spool.settle(open).unwrap();
    assert!(moved.join("pending").join(entry.file_name()).is_file());
    assert_eq!(spool.find("0101"), [spool.entries()[0].clone()]);
}

#[test]
fn what_is_not_ours_is_not_seen_and_holds_nobody() {
    let (dir, spool) = spool();
    for state in State::ALL {
        let here = dir.path().join("spool").join(state.dir_name());
        let name = |n: u8| format!("5-{}-0.crash", id(n));
        std::os::unix::fs::symlink("/etc/passwd", here.join(name(1))).unwrap();
        std::fs::create_dir(here.join(name(2))).unwrap();
        nix::unistd::mkfifo(&here.join(name(3)), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(here.join("notes.txt"), "x").unwrap();
        std::fs::write(here.join("5-zz-0.crash"), "x").unwrap();
        std::fs::write(here.join(std::ffi::OsStr::from_bytes(b"5-\xff\xfe-0.crash")), "x").unwrap();
        std::fs::write(here.join("-".repeat(255)), "x").unwrap();
        // Made by hand: whoever asks for one of these by name is not held either.
        for n in 1..4 {
            let entry =
                Entry { state, kind: Kind::Crash, id: id(n), at_unix_ms: 5, attempts: 0, bytes: 0, tried_unix_ms: 0 };
            assert!(spool.read(&entry).is_err());
        }
    }
    assert_eq!(spool.entries(), []);
    assert_eq!(spool.adopt(), 0);
    assert_eq!(quota::enforce(&spool, u64::MAX), 0);
    assert_eq!(
        std::fs::read_link(dir.path().join("spool/open").join(format!("5-{}-0.crash", id(1)))).unwrap(),
        Path::new("/etc/passwd")
    );
}

#[test]
fn a_huge_file_is_not_read() {
    let (dir, spool) = spool();
    let path = dir.path().join("spool/pending").join(format!("5-{}-0.crash", id(4)));
    File::create(path).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(spool.read(&spool.entries()[0]), Err(ReadError::Corrupt(_))));
}

#[test]
fn a_directory_in_the_place_of_an_entry_is_moved_aside() {
    let (dir, spool) = spool();
    let open = spool.begin(Kind::Crash, id(1), 5, b"minimal").unwrap();
    let obstacle = dir.path().join("spool/pending").join(open.entry().file_name());
    std::fs::create_dir_all(obstacle.join("sub")).unwrap();
    let entry = spool.settle(open).unwrap();
    assert_eq!(spool.read(&entry).unwrap(), b"minimal");
    let aside = std::fs::read_dir(dir.path().join("spool/corrupt")).unwrap().next().unwrap().unwrap();
    assert!(aside.path().join("sub").is_dir());
}

#[test]
fn an_entry_that_went_meanwhile_is_said_to_be_gone() {
    let (_dir, spool) = spool();
    let entry = keep(&spool, 1);
    spool.remove(&entry).unwrap();
    assert!(spool.remove(&entry).unwrap_err().is_gone());
    assert!(spool.mark(&entry, State::Sent).unwrap_err().is_gone());
    assert!(matches!(spool.read(&entry), Err(ReadError::Io(_))));
}

#[test]
fn what_is_too_large_is_refused_and_what_was_there_stands() {
    let (_dir, spool) = spool();
    let mut open = spool.begin(Kind::Crash, id(1), 5, b"minimal").unwrap();
    let huge = vec![b' '; limits::ENTRY_BYTES as usize];
    let error = spool.improve(&mut open, &huge).unwrap_err().to_string();
    assert!(error.ends_with("(it is larger than any entry may be), so the report stays as it was before"), "{error}");
    let entry = spool.settle(open).unwrap();
    assert_eq!(spool.read(&entry).unwrap(), b"minimal");
}

#[test]
fn beyond_a_hundred_the_oldest_of_a_fingerprint_goes_and_is_counted_and_the_first_stays() {
    let (_dir, spool) = spool();
    let grouped = |at: u64, group: &str| {
        let content = format!("{{\"fingerprint\":[\"{group}\"],\"more\":1}}");
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&at.to_le_bytes());
        spool.settle(spool.begin(Kind::Crash, Id(bytes), at, content.as_bytes()).unwrap()).unwrap();
    };
    for at in 1..=limits::SPOOL_ENTRIES as u64 {
        grouped(at, "a");
    }
    grouped(500, "b");
    assert_eq!(spool.entries_in(State::Pending).len(), limits::SPOOL_ENTRIES);
    let mut times: Vec<u64> = spool.entries().iter().map(|entry| entry.at_unix_ms).collect();
    times.reverse();
    assert_eq!(times[..2], [1, 3], "the first of its kind stayed, the second went");
    let lost = Discard { reason: "cache_overflow".to_owned(), category: "error".to_owned(), quantity: 1 };
    assert_eq!(spool.take_discards(), [lost]);
}

#[test]
fn what_is_too_old_is_rejected_only_after_an_attempt() {
    let (_dir, spool) = spool();
    let entry = keep(&spool, 1);
    let late = limits::EVENT_AGE.as_millis() as u64 + 10;
    assert_eq!(spool.expire(late), 0);
    spool.attempted(&entry).unwrap();
    assert_eq!(spool.expire(1000), 0);
    assert_eq!(spool.expire(late), 1);
    assert_eq!(states(&spool), [(State::Rejected, 1)]);
}

#[test]
fn a_leftover_of_a_dead_writer_goes_when_it_is_old_and_one_of_a_living_writer_stays() {
    let (dir, spool) = spool();
    let old = SystemTime::now() - LEFTOVER * 2;
    let leave = |n: u8| {
        let file = File::create(dir.path().join("spool/open").join(format!(".{}", id(n)))).unwrap();
        file.set_modified(old).unwrap();
        file
    };
    let living = leave(1);
    living.lock().unwrap();
    drop(leave(2));
    File::create(dir.path().join("spool/open").join(format!(".{}", id(3)))).unwrap();
    spool.adopt();
    let left: Vec<_> = spool.dir_of(State::Open).names().unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!left.contains(&format!(".{}", id(2)).into()));
}
