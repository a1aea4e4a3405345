//! A network and a file tree of a trial's own: loopback alone is up, no route leads out of it, and every packet is counted.
//!
//! A thread of the suite moves there. What it starts, servers, proxies and obit, is there with it; the other trials are not.

use crate::bed::{Bed, wait_for};
use crate::need::Need;
use nix::sched::{CloneFlags, unshare};
use std::net::TcpStream;
use std::process::Command;

pub const NEEDS: &[Need] = &[Need::Root, Need::Tool("ip"), Need::Tool("mount")];

/// Besides those of loopback, the addresses of the one machine in it.
pub const ADDRESSES: [&str; 2] = ["10.7.0.1", "fd07::1"];

/// Runs the body there.
pub fn inside<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("root");
            carry_out(&["mount", "--make-rprivate", "/"]);
            carry_out(&["ip", "link", "set", "lo", "up"]);
            for address in ADDRESSES {
                carry_out(&["ip", "address", "add", address, "dev", "lo"]);
            }
            let out = TcpStream::connect("192.0.2.1:443").expect_err("there is no way out");
            assert_eq!(out.kind(), std::io::ErrorKind::NetworkUnreachable, "{out}");
            body()
        });
        there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Inside, a file is another one from now on.
pub fn replace(bed: &Bed, path: &str, content: &str) {
    let file = bed.path(path.replace('/', "-"));
    std::fs::write(&file, content).expect("a file");
    carry_out(&["mount", "--bind", file.to_str().expect("text"), path]);
}

/// How many packets were sent in the network of this thread, of whatever kind, once no connection is there that could send more.
pub fn packets() -> u64 {
    wait_for(|| is_quiet().then_some(())).expect("connections end");
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").expect("the devices");
    // Two lines of heading; after the name eight numbers of what came, then bytes and packets of what went.
    let sent = table.lines().skip(2).map(|line| {
        let (_, numbers) = line.split_once(':').expect("a name");
        numbers.split_whitespace().nth(9).and_then(|n| n.parse::<u64>().ok()).expect("a number")
    });
    sent.sum()
}

/// Whether there are only listeners, and ends that wait for what may still be on its way.
fn is_quiet() -> bool {
    const LISTEN: &str = "0A";
    const TIME_WAIT: &str = "06";
    ["tcp", "tcp6"].into_iter().all(|kind| {
        let table = std::fs::read_to_string(format!("/proc/thread-self/net/{kind}")).expect("the connections");
        let mut states = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
        states.all(|state| state == LISTEN || state == TIME_WAIT)
    })
}

fn carry_out(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().expect("needed");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
