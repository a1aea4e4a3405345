//! A flood of stderr through a pipe that is read as fast as it comes: how fast, and is every byte there, in order?
//!
//! The program writes blocks of 4 KiB that bear their number; the bench reads and looks at each number and each end of a block.

use super::us;
use crate::bed::{Bed, Bout};
use crate::clock::now_ns;
use crate::series::Series;
use crate::table::{
    Bound::{AtMost, PartOfNone},
    Row,
};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::SeqCst;

/// The same in probe.c.
const BLOCK: usize = 4096;
/// Whole blocks, and no smaller than a pipe.
const BUFFER: usize = 64 * BLOCK;
const PATIENCE_MS: i32 = 20_000;

pub fn rows(bed: &Bed) -> Vec<Row> {
    let n = bed.contenders.len();
    let (mut speed, mut missing, mut wrong) = (Series::new(n), Series::new(n), Series::new(n));
    let bytes = bed.plan.stream_mib << 20;
    bed.turns(
        "stderr",
        bed.plan.streams,
        |_| true,
        |i, contender| {
            let blocks = bytes / BLOCK as u64;
            let mut bout = bed.start_shipped(contender, "write", &[blocks])?;
            let flood = Flood::read(&mut bout)?;
            bout.ends_with(0)?;
            let us = us(bout.board.facts().main_ns.load(SeqCst), flood.end_ns);
            speed.push(i, flood.bytes as f64 / us);
            missing.push(i, (bytes as f64 - flood.bytes as f64).abs());
            wrong.push(i, flood.wrong_blocks as f64);
            Ok(())
        },
    );
    let mib = bed.plan.stream_mib;
    vec![
        Row::new(format!("stderr through a pipe, {mib} MiB, median"), "MB/s", speed.median())
            .must(PartOfNone(0.5))
            .stretch(PartOfNone(0.9)),
        Row::new("stderr: bytes lost or added", "", missing.sum()).must(AtMost(0.0)),
        Row::new("stderr: blocks out of order or torn", "", wrong.sum()).must(AtMost(0.0)),
    ]
}

struct Flood {
    bytes: u64,
    wrong_blocks: u64,
    end_ns: u64,
}

impl Flood {
    /// Until the end of the pipe, which comes when the last process of the namespace has let go of it.
    fn read(bout: &mut Bout) -> Result<Flood, String> {
        let mut buffer = vec![0; BUFFER];
        let mut flood = Flood { bytes: 0, wrong_blocks: 0, end_ns: 0 };
        loop {
            let mut filled = 0;
            while filled < BUFFER {
                readable(&bout.running.stderr)?;
                match bout.running.stderr.read(&mut buffer[filled..]) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(e) => return Err(format!("the pipe cannot be read: {e}")),
                }
            }
            let first = flood.bytes / BLOCK as u64;
            let blocks = buffer[..filled].chunks(BLOCK).zip(first..);
            flood.wrong_blocks += blocks.filter(|(block, number)| !is_block(block, *number)).count() as u64;
            flood.bytes += filled as u64;
            if filled < BUFFER {
                flood.end_ns = now_ns();
                return Ok(flood);
            }
        }
    }
}

fn is_block(block: &[u8], number: u64) -> bool {
    block.len() == BLOCK && block[..8] == number.to_ne_bytes() && block[8] == b'.' && block[BLOCK - 1] == b'\n'
}

fn readable(pipe: &impl AsRawFd) -> Result<(), String> {
    let mut wait = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, ours, for the length of the call.
    match unsafe { libc::poll(&mut wait, 1, PATIENCE_MS) } {
        1 => Ok(()),
        _ => Err(format!("nothing came for {} s", PATIENCE_MS / 1000)),
    }
}
