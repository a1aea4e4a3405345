//! RLIMIT_CORE is the program's own affair, and raised only where that was asked for and no file can be lost by it.

use crate::bed::{Bed, Ended, alone, binary, both, trial};
use crate::deaths::house::{PIPE, Pattern};
use crate::need::Need;
use libtest_mimic::Trial;

const PLAIN: &[Need] = &[Need::PlainCores];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::from(both("the limit of core files is as it was given", &[], as_given));
    trials.extend([
        trial("the limit of core files stays where a core would take the place of another file", PLAIN, refused),
        alone("the limit of core files is raised where no core takes the place of another file", PIPE, raised),
    ]);
    trials
}

/// What a program sees of it, soft and hard, of those that were given: in KiB, as sh(1) counts.
fn seen(bed: &Bed, soft: &str, hard: &str, options: &str) -> Ended {
    let script = format!(
        "ulimit -S -c {soft} && ulimit -H -c {hard} && exec \"$0\" run {options} -- sh -c 'ulimit -S -c; ulimit -H -c'"
    );
    bed.command("sh").args(["-c", &script]).args([binary()]).end()
}

fn as_given(bed: &Bed) {
    for (soft, hard) in [("0", "0"), ("0", "unlimited"), ("8", "64"), ("unlimited", "unlimited")] {
        let ended = seen(bed, soft, hard, "");
        ended.code(0).quiet();
        assert_eq!(ended.stdout(), format!("{soft}\n{hard}\n"));
    }
}

fn refused(bed: &Bed) {
    let ended = seen(bed, "0", "unlimited", "--raise-core-limit");
    ended.code(0).complains("RLIMIT_CORE stays as it is: with core_pattern core");
    assert_eq!(ended.stdout(), "0\nunlimited\n");
    // What is not needed is not spoken of.
    let ended = seen(bed, "unlimited", "unlimited", "--raise-core-limit");
    ended.code(0).quiet();
    assert_eq!(ended.stdout(), "unlimited\nunlimited\n");
    let doctor = bed.command("sh").args(["-c", "ulimit -S -c 0; exec \"$0\" doctor"]);
    let doctor = doctor.args([binary()]).env("OBIT_RAISE_CORE_LIMIT", "1").end();
    assert!(doctor.stdout().contains("stays as it is for all of --raise-core-limit"), "{}", doctor.stdout());
}

fn raised(bed: &Bed) {
    let cores = bed.path("cores");
    std::fs::create_dir(&cores).unwrap();
    let file = |name: &str| format!("{}/{name}", cores.display());
    for pattern in ["|/bin/false %P".to_owned(), file("%e.%p.%t"), file("%e.%p")] {
        let _pattern = Pattern::set(&pattern);
        let ended = seen(bed, "0", "64", "--raise-core-limit");
        ended.code(0).quiet();
        assert_eq!(ended.stdout(), "64\n64\n", "{pattern}");
    }
    let _pattern = Pattern::set(&file("%e.%p"));
    // By the first crash there is a core, and by the second one, of the same name perhaps, it must not be lost.
    let crash = "ulimit -S -c 0; exec \"$0\" run --raise-core-limit --capture off -- sh -c 'kill -SEGV $$'";
    let crash = || bed.command("sh").args(["-c", crash]).args([binary()]).end();
    let count = || std::fs::read_dir(&cores).unwrap().count();
    crash();
    assert_eq!(count(), 1);
    crash().complains("RLIMIT_CORE stays as it is");
    assert_eq!(count(), 1);
}
