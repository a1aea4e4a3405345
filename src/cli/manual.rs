//! `obit man`: one page for obit and, behind it, one for each command, as man(1) shows them in a row.

#![forbid(unsafe_code)]

use clap::Command;
use clap_mangen::Man;
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
    Man::new(command.disable_help_subcommand(true)).title(title).source(source).render(out)?;
    subcommands.into_iter().try_for_each(|sub| page(sub, out))
}
