//! The C parts, compiled with the machine's own cc: the reference init and the program that all inits start.

#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn reference_init(into: &Path) -> io::Result<PathBuf> {
    compile("benches/reference_init.c", into.join("reference_init"))
}

pub fn probe(into: &Path) -> io::Result<PathBuf> {
    compile("benches/inits/probe.c", into.join("probe"))
}

fn compile(source: &str, program: PathBuf) -> io::Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let made = Command::new(&cc).args(["-O2", "-static", "-pthread", "-s", "-o"]).arg(&program).arg(&source).output();
    let made = made.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}; a C compiler is needed", cc.display())))?;
    if !made.status.success() {
        let complaint = String::from_utf8_lossy(&made.stderr).trim().to_owned();
        return Err(io::Error::other(format!("{} does not compile: {complaint}", source.display())));
    }
    Ok(program)
}
