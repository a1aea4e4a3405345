//! The peers' own test suites, unchanged, with obit in the place of tini and of dumb-init.
//!
//! `.ci/peers` fetches them. With `OBIT_TEST_INIT` they run on another binary, the peers' own for example.

use crate::bed::{Bed, Ended, alone, binary, first, trial};
use crate::need::Need;
use libtest_mimic::Trial;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SUITES: Need = Need::Prepared { variable: "OBIT_TEST_PEERS", what: "the suites of tini and dumb-init" };
/// 182 cases and 768 starts of an init, each a fraction of a second, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(600);

pub fn trials() -> Vec<Trial> {
    vec![
        trial("tini's inner test suite passes on obit as tini", &[SUITES], tini),
        alone("dumb-init's test suite passes on obit as dumb-init", &[SUITES], dumb_init),
        trial("what cannot be executed ends as the one would end it whose name obit has", &[], not_executed),
        first("dumb-init's zombie test passes on obit as dumb-init", &[SUITES], zombies),
    ]
}

fn suites() -> PathBuf {
    std::env::var_os("OBIT_TEST_PEERS").expect("needed").into()
}

/// A directory with obit under that name: a copy, because the suites resolve links.
fn named(bed: &Bed, name: &str) -> PathBuf {
    let directory = bed.path("bin");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(binary(), directory.join(name)).unwrap();
    directory
}

fn not_executed(bed: &Bed) {
    for (name, missing, refused) in [("dumb-init", 2, 2), ("tini", 127, 126)] {
        let obit = named(bed, name).join(name);
        bed.command(&obit).args(["/no/such/program"]).end().code(missing);
        bed.command(&obit).args(["/etc/passwd"]).end().code(refused);
    }
}

/// Runs a script in the suite's directory with the suites' Python first on PATH.
fn run(bed: &Bed, suite: &Path, bin: &Path, script: &str) -> Ended {
    let path = format!("{}:{}:/usr/bin:/bin", bin.display(), suites().join("venv/bin").display());
    bed.command("sh")
        .args(["-c", script])
        .room(["--cwd".as_ref(), suite.as_os_str()])
        .env("PATH", path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .within(PATIENCE)
        .end()
}

fn tini(bed: &Bed) {
    let suite = suites().join("tini");
    let bin = named(bed, "tini");
    std::os::unix::fs::symlink(suite.join("sigconf-test"), bin.join("sigconf-test")).unwrap();
    let script = format!(
        "SOURCE_DIR={} BUILD_DIR={} FORCE_SUBREAPER=1 exec python3 -u test/run_inner_tests.py",
        suite.display(),
        bin.display()
    );
    let ended = run(bed, &suite, &bin, &script);
    assert!(ended.stdout().contains("All done, tests as expected"), "{}\n{}", ended.stdout(), ended.stderr());
}

/// Chances of a case that failed among the others. The suite waits a second and a half by the clock for what six processes
/// do, two of them `yes`; a case that gave up leaves them running, and the next ones count them.
const CHANCES: usize = 3;

/// All 182 cases, those that failed once more by themselves, in a room without what the others left.
fn dumb_init(bed: &Bed) {
    let suite = suites().join("dumb-init");
    let bin = named(bed, "dumb-init");
    let pytest = "exec python3 -m pytest -q -p no:cacheprovider -o timeout=60";
    let all = run(bed, &suite, &bin, &format!("{pytest} tests")).stdout();
    let failed: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("FAILED ")).collect();
    let passed = 182 - failed.len();
    assert!(all.contains(&format!("{passed} passed")) && failed.len() <= 10, "{all}");
    for case in failed {
        let case = case.split(" - ").next().unwrap_or(case);
        let again = || run(bed, &suite, &bin, &format!("{pytest} '{case}'")).stdout();
        let tries: Vec<String> = (0..CHANCES).map(|_| again()).take_while(|out| !out.contains("1 passed")).collect();
        assert!(tries.len() < CHANCES, "{all}\n{}", tries.join("\n"));
    }
}

fn zombies(bed: &Bed) {
    let suite = suites().join("dumb-init");
    let bin = named(bed, "dumb-init");
    run(bed, &suite, &bin, "exec dumb-init tests/test-zombies").code(0);
}
