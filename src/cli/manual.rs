//! `obit man`: one page for obit and, behind it, one for each command, as man(1) shows them in a row.

#![forbid(unsafe_code)]

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::io::{self, Write};

/// Writes the pages of the whole tree, a command's own before those of its subcommands.
pub fn write(mut tree: Command, out: &mut impl Write) -> io::Result<()> {
    // What clap adds by itself: the names as they are typed, `--help`.
    tree.build();
    page(tree, out)
}

fn page(command: Command, out: &mut impl Write) -> io::Result<()> {
    let subcommands: Vec<Command> = command.get_subcommands().filter(|sub| sub.get_name() != "help").cloned().collect();
    let title = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let source = concat!("obit ", env!("CARGO_PKG_VERSION"));
    let mut command = command.disable_help_subcommand(true);
    let (usage, notes) = (command.render_usage().to_string(), command.get_after_help().map(ToString::to_string));
    let has_options = command.get_arguments().any(|argument| !argument.is_hide_set());
    let man = Man::new(command).title(title).source(source);
    man.render_title(out)?;
    man.render_name_section(out)?;
    // As `--help` has it, values included, and with a heading that man(7) knows.
    section("SYNOPSIS", usage.trim_start_matches("Usage: "), out)?;
    man.render_description_section(out)?;
    if has_options {
        man.render_options_section(out)?;
    }
    if !subcommands.is_empty() {
        man.render_subcommands_section(out)?;
    }
    if let Some(notes) = notes {
        section("NOTES", &notes, out)?;
    }
    subcommands.into_iter().try_for_each(|sub| page(sub, out))
}

/// A section whose lines stay as they are.
fn section(heading: &str, text: &str, out: &mut impl Write) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", [heading]).control("nf", []);
    for line in text.lines() {
        roff.text([roman(line.trim_start())]);
    }
    roff.control("fi", []).to_writer(out)
}
