//! Every trial of the real binary, in one program, so that it is linked once. Each module is one promise of obit's.

mod adversity;
mod bed;
mod bridge;
mod browser;
mod capture;
mod client;
mod commands;
mod consent;
mod container;
mod core_limit;
mod cores;
mod daily;
mod days;
mod deaths;
mod delivery;
mod docker;
mod ends;
mod foreign;
mod forked;
mod fuzzed;
mod gosymbols;
mod kills;
mod last_resort;
mod minidump;
mod nameserver;
mod need;
mod network;
mod noroute;
mod page;
mod panel;
mod panics;
mod peers;
mod preview;
mod product;
mod proxied;
mod proxy;
mod reap;
mod sentry;
mod server;
mod signals;
mod stderr;
mod stop;
mod switches;
mod symbols;
mod terminal;
mod tls;
mod upgrade;
mod view;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = libtest_mimic::Arguments::from_args();
    // Trials wait more than they compute.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(cores + cores.div_ceil(2));
    let mut trials: Vec<_> = [
        capture::trials(),
        forked::trials(),
        commands::trials(),
        core_limit::trials(),
        cores::trials(),
        foreign::trials(),
        deaths::trials(),
        ends::trials(),
        signals::trials(),
        stop::trials(),
        last_resort::trials(),
        kills::trials(),
        adversity::trials(),
        terminal::trials(),
        reap::trials(),
        view::trials(),
        stderr::trials(),
        delivery::trials(),
        tls::trials(),
        proxied::trials(),
        noroute::trials(),
        consent::trials(),
        switches::trials(),
        daily::trials(),
        days::trials(),
        panel::trials(),
        preview::trials(),
        panics::trials(),
        upgrade::trials(),
        symbols::trials(),
        minidump::trials(),
        fuzzed::trials(),
        gosymbols::trials(),
        peers::trials(),
        container::trials(),
        sentry::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    trials.extend(page::trials(&trials));
    let conclusion = libtest_mimic::run(&arguments, trials);
    need::clean_up();
    conclusion.exit_code()
}
