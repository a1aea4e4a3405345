//! What live capture costs a program that does not crash: the same work under `--capture off` and `--capture auto`, in turns.
//!
//! `cargo bench --bench capture` takes some minutes and prints a table in Markdown. It needs root, and obit's static release build or
//! what OBIT_BENCH_BINARY names; a load whose runtime is not installed is left out, and it says so. The programs are in
//! `programs/`. nginx serves in one process, so that it is traced; its work is that of a client (ab) beside it.

mod load;

use load::{Client, Load};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const CAPTURES: [&str; 2] = ["off", "auto"];
/// For a server to listen.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    if std::env::args().len() == 1 {
        println!("benchmarks run under `cargo bench --bench capture`");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the bench could not be set up, nothing was measured: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let obit = obit_binary();
    if !obit.is_file() {
        return Err(io::Error::other(format!("{} is not there; packaging/build-static makes it", obit.display())));
    }
    let bench = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (loads, missing) = load::all(bench.path())?;
    println!("| load | off, ms | auto, ms | auto ÷ off, median of pairs | p25 – p75 | the program stays traced |");
    println!("|---|---|---|---|---|---|");
    for load in &loads {
        eprintln!("{} …", load.name);
        let row = measure(&obit, load, bench.path())?;
        println!("{row}");
    }
    for note in missing {
        println!("- {note}");
    }
    Ok(())
}

/// Each round runs both, the one that is first by turns; the ratio is taken within a round.
fn measure(obit: &Path, load: &Load, bench: &Path) -> io::Result<String> {
    let mut times = [Vec::new(), Vec::new()];
    let mut stays_traced = true;
    for round in 0..=ROUNDS {
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let (time, traced) = once(obit, load, CAPTURES[which], bench)?;
            // The first round fills caches.
            if round > 0 {
                times[which].push(time.as_secs_f64() * 1e3);
            }
            stays_traced &= which == 0 || traced;
        }
    }
    let mut ratios: Vec<f64> = times[1].iter().zip(&times[0]).map(|(auto, off)| auto / off).collect();
    let [off, auto] = &mut times;
    let middle = quantile(&mut ratios, 0.5);
    let (low, high) = (quantile(&mut ratios, 0.25), quantile(&mut ratios, 0.75));
    Ok(format!(
        "| {} | {:.0} | {:.0} | {middle:.3} | {low:.3} – {high:.3} | {} |",
        load.name,
        quantile(off, 0.5),
        quantile(auto, 0.5),
        if stays_traced { "yes" } else { "no: let go" }
    ))
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((q * values.len() as f64) as usize).min(values.len() - 1)]
}

/// The time of the work, and whether the program was still traced when it was done.
fn once(obit: &Path, load: &Load, capture: &str, bench: &Path) -> io::Result<(Duration, bool)> {
    let mut command = Command::new(obit);
    command.args(["run", "--capture", capture, "--"]).args(&load.command);
    command.env("OBIT_STATE_DIR", bench.join("state")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let mut running = command.spawn()?;
    let Some(Client { port, command }) = &load.client else {
        // Looked at shortly before it ends by itself, as far as that can be known: it is let go early or not at all.
        let program = child_of(running.id());
        let mut traced = false;
        let status = loop {
            if let Some(status) = running.try_wait()? {
                break status;
            }
            if let Some(now) = program.and_then(is_traced) {
                traced = now;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        return if status.success() { Ok((began.elapsed(), traced)) } else { Err(failed(&load.name, status)) };
    };
    while std::net::TcpStream::connect(("127.0.0.1", *port)).is_err() {
        if began.elapsed() > PATIENCE {
            let _ = running.kill();
            return Err(io::Error::other(format!("{} does not listen on port {port}", load.name)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let asked = Instant::now();
    let status = Command::new(&command[0]).args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let time = asked.elapsed();
    let traced = child_of(running.id()).and_then(is_traced).unwrap_or(false);
    let _ = Command::new("kill").arg(running.id().to_string()).status();
    running.wait()?;
    if status.success() { Ok((time, traced)) } else { Err(failed(&load.name, status)) }
}

fn failed(name: &str, status: std::process::ExitStatus) -> io::Error {
    io::Error::other(format!("{name} ended with {status}"))
}

/// The first child that obit has, once it has one.
fn child_of(pid: u32) -> Option<i32> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        if let Some(child) = children.split_whitespace().next() {
            return child.parse().ok();
        }
        std::thread::yield_now();
    }
    None
}

fn is_traced(pid: i32) -> Option<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    if status.contains("\nState:\tZ") {
        return None;
    }
    Some(!status.lines().any(|line| line == "TracerPid:\t0"))
}

fn obit_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OBIT_BENCH_BINARY") {
        return path.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join(triple).join("release/obit")
}
