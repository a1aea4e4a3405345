//! The table that leads from each sentence of the telemetry page to the trial that holds it: `packaging/TELEMETRY.md`.

use crate::bed::trial_with;
use libtest_mimic::Trial;

const TABLE: &str = include_str!("../../packaging/TELEMETRY.md");
const HEADING: &str = "## Every sentence of the page";

/// `trials` are all the others.
pub fn trials(trials: &[Trial]) -> Vec<Trial> {
    let names: Vec<String> = trials.iter().map(|trial| trial.name().to_owned()).collect();
    vec![trial_with("every trial that the table of the page names exists", &[], move |_| {
        let (_, table) = TABLE.split_once(HEADING).expect("the table");
        let rows = table.lines().filter(|line| line.starts_with("| ") && !line.contains("| trial |"));
        let named: Vec<&str> = rows.filter_map(|row| row.trim_end_matches(" |").rsplit("| ").next()).collect();
        assert!(named.len() >= 60, "{}", named.len());
        for name in named {
            assert!(names.iter().any(|known| known == name), "no trial is called {name:?}");
        }
    })]
}
