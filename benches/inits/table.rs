//! The rows, held against the budgets, as Markdown.

#![forbid(unsafe_code)]

use crate::contender::{Contender, NONE, OBIT, REFERENCE, TINI};
use crate::series::Cells;

/// What a value of obit's must not miss.
#[derive(Clone, Copy)]
pub enum Bound {
    AtMost(f64),
    /// At most that many times the reference's.
    OfReference(f64),
    /// At most that many times tini's.
    OfTini(f64),
    /// At least that part of what there is without an init.
    PartOfNone(f64),
}

pub struct Row {
    what: String,
    unit: &'static str,
    cells: Cells,
    must: Option<Bound>,
    stretch: Option<Bound>,
}

impl Row {
    pub fn new(what: impl Into<String>, unit: &'static str, cells: Cells) -> Row {
        Row { what: what.into(), unit, cells, must: None, stretch: None }
    }

    pub fn must(self, bound: Bound) -> Row {
        Row { must: Some(bound), ..self }
    }

    pub fn stretch(self, bound: Bound) -> Row {
        Row { stretch: Some(bound), ..self }
    }

    fn of(&self, contenders: &[Contender], name: &str) -> Option<f64> {
        self.cells[contenders.iter().position(|contender| contender.name == name)?]
    }

    /// obit's value by that of `name`.
    fn ratio(&self, contenders: &[Contender], name: &str) -> String {
        match (self.of(contenders, OBIT), self.of(contenders, name)) {
            (Some(obit), Some(other)) if other > 0.0 => format!("{:.2}", obit / other),
            _ => "–".to_owned(),
        }
    }

    /// The bound in words, and whether it is met; `None` in the second when there is nothing to compare.
    fn verdict(&self, bound: Option<Bound>, contenders: &[Contender]) -> String {
        let Some(bound) = bound else { return String::new() };
        let obit = self.of(contenders, OBIT);
        let against = |name| self.of(contenders, name);
        let (words, limit, at_least) = match bound {
            Bound::AtMost(most) => (format!("≤ {}", number(most)), Some(most), false),
            Bound::OfReference(times) => (format!("≤ {times} × ref"), against(REFERENCE).map(|r| times * r), false),
            Bound::OfTini(times) => (format!("≤ {times} × tini"), against(TINI).map(|t| times * t), false),
            Bound::PartOfNone(part) => (format!("≥ {part} × none"), against(NONE).map(|n| part * n), true),
        };
        match (obit, limit) {
            (Some(obit), Some(limit)) if (obit >= limit) == at_least || obit == limit => format!("{words} met"),
            (Some(_), Some(_)) => format!("{words} **missed**"),
            _ => words,
        }
    }
}

/// Three digits that say something.
fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if value.fract() == 0.0 || size >= 100.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

pub fn markdown(rows: &[Row], contenders: &[Contender]) -> String {
    let mut head = vec!["what".to_owned()];
    head.extend(contenders.iter().map(|c| [c.name, &c.version].join(" ").trim().to_owned()));
    head.extend(["obit ÷ reference", "obit ÷ tini", "must", "stretch"].map(str::to_owned));
    let mut lines = vec![line(&head), line(&vec!["---".to_owned(); head.len()])];
    for row in rows {
        let unit = if row.unit.is_empty() { String::new() } else { format!(", {}", row.unit) };
        let mut cells = vec![format!("{}{unit}", row.what)];
        cells.extend(row.cells.iter().map(|cell| cell.map_or("–".to_owned(), number)));
        cells.extend([REFERENCE, TINI].map(|name| row.ratio(contenders, name)));
        cells.extend([row.must, row.stretch].map(|bound| row.verdict(bound, contenders)));
        lines.push(line(&cells));
    }
    lines.concat()
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}
