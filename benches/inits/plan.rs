//! How much of everything: the command line of the bench.

#![forbid(unsafe_code)]

use std::ffi::OsString;

pub const USAGE: &str = "\
cargo bench --bench inits -- [--quick] [--rounds N] [--only NAME,NAME…]

  --quick     a minute in all, to see that it works
  --rounds N  N rounds of every measure that has rounds
  --only …    some of: startup idle latency stop storm spawn stderr crash size

OBIT_BENCH_BINARY names the obit to run; else it is the static release build.";

pub struct Plan {
    pub startups: usize,
    pub idle_seconds: u64,
    pub signals: usize,
    pub stops: usize,
    pub storms: usize,
    pub orphans: u32,
    /// Deaths in a storm, and TERMs in a storm.
    pub deaths: usize,
    /// TERMs around the spawn, single and group.
    pub spawns: usize,
    pub streams: usize,
    pub stream_mib: u64,
    pub crashes: usize,
    /// Of the big program that crashes.
    pub crash_mib: u64,
    only: Option<Vec<String>>,
}

impl Plan {
    fn full() -> Plan {
        Plan {
            startups: 300,
            idle_seconds: 10,
            signals: 2000,
            stops: 100,
            storms: 3,
            orphans: 20_000,
            deaths: 20,
            spawns: 200,
            streams: 5,
            stream_mib: 1024,
            crashes: 20,
            crash_mib: 1024,
            only: None,
        }
    }

    fn quick() -> Plan {
        Plan {
            startups: 20,
            idle_seconds: 2,
            signals: 100,
            stops: 5,
            storms: 1,
            orphans: 2000,
            deaths: 3,
            spawns: 10,
            streams: 1,
            stream_mib: 64,
            crashes: 2,
            crash_mib: 64,
            only: None,
        }
    }

    /// `Err` is what to tell the user. cargo adds `--bench` of its own accord.
    pub fn from_arguments(arguments: impl Iterator<Item = OsString>) -> Result<Plan, String> {
        let mut plan = Plan::full();
        let mut rounds = None;
        let mut arguments = arguments.map(|a| a.to_string_lossy().into_owned());
        let mut only = None;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => {}
                "--quick" => plan = Plan::quick(),
                "--rounds" => {
                    let n = arguments.next().and_then(|n| n.parse::<usize>().ok()).filter(|n| *n > 0);
                    rounds = Some(n.ok_or_else(|| format!("--rounds needs a number from 1\n\n{USAGE}"))?);
                }
                "--only" => {
                    let names = arguments.next().ok_or_else(|| format!("--only needs names\n\n{USAGE}"))?;
                    only = Some(names.split(',').map(str::to_owned).collect());
                }
                _ => return Err(format!("unknown option {argument}\n\n{USAGE}")),
            }
        }
        if let Some(n) = rounds {
            for count in [
                &mut plan.startups,
                &mut plan.signals,
                &mut plan.stops,
                &mut plan.storms,
                &mut plan.deaths,
                &mut plan.spawns,
                &mut plan.streams,
                &mut plan.crashes,
            ] {
                *count = n;
            }
        }
        plan.only = only;
        Ok(plan)
    }

    pub fn wants(&self, measure: &str) -> bool {
        self.only.as_ref().is_none_or(|names| names.iter().any(|name| name == measure))
    }
}
