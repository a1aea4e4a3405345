//! obit beside the inits it is measured against, in one run: A B C D, A B C D, …, so that whatever disturbs the machine
//! disturbs them all. What counts are the ratios within one table, not its absolute values.
//!
//! `cargo bench --bench inits` takes some minutes and prints a table in Markdown, with the budgets and whether obit meets them;
//! `cargo bench --bench inits -- --quick` takes a minute and shows only that it works. It needs root (each init is PID 1 of a PID
//! namespace of its own) and a C compiler; peers that are not installed are left out, and it says so. obit is the static
//! release build, or what OBIT_BENCH_BINARY names.
//!
//! Everything of obit is on: a state directory, a DSN (a server here in the bench), a release, stderr through a pipe. `none` is
//! the program without an init, `reference` the least that an init must do (benches/reference_init.c).
//!
//! Folders: `measure/` has a file for each budget; `bed` is what they stand on; `namespace`, `board` and `probe.c` start an init
//! and learn what its program saw; `server` and `spool` see what becomes of a crash; `series` and `table` are the arithmetic.

mod bed;
mod board;
mod clock;
mod compile;
mod contender;
mod measure;
mod namespace;
mod plan;
mod proc;
mod series;
mod server;
mod spool;
mod table;

use bed::Bed;
use plan::Plan;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().len() == 1 {
        println!("benchmarks run under `cargo bench --bench inits`");
        return ExitCode::SUCCESS;
    }
    let plan = match Plan::from_arguments(std::env::args_os().skip(1)) {
        Ok(plan) => plan,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::FAILURE;
        }
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("PID namespaces need root: nothing was measured; run it again as root");
        return ExitCode::FAILURE;
    }
    match run(plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("the bench could not be set up, nothing was measured: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: Plan) -> io::Result<()> {
    let programs = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    let probe = compile::probe(programs.path())?;
    let reference = compile::reference_init(programs.path())?;
    let (contenders, missing) = contender::all(&probe, reference, programs.path())?;
    let bed = Bed::new(contenders, plan, probe, server::Server::start()?)?;

    let mut rows = Vec::new();
    for (name, measured) in measure::ALL {
        if bed.plan.wants(name) {
            eprintln!("{name} …");
            rows.extend(measured(&bed));
        }
    }
    println!("{}\n\n{}", machine(), table::markdown(&rows, &bed.contenders));
    for note in missing.into_iter().chain(bed.notes()) {
        println!("- {note}");
    }
    Ok(())
}

/// Where and when, and how busy: without it the numbers say nothing.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let today = time::OffsetDateTime::now_utc().date();
    let load = read("/proc/loadavg");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{today}, Linux {}, {cpus} CPUs, load {}",
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or("unknown")
    )
}
