//! A command as an inventory: its standard output, within the deadline and the bound. No shell is involved.

#![forbid(unsafe_code)]

use super::bounded;
use crate::limits;
use std::process::Stdio;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::Instant;

/// Runs it to its end or ours: whoever takes too long is killed.
pub async fn output(words: &[String], deadline: Instant) -> Result<Vec<u8>, String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("there is no inventory command".to_owned());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("the inventory command cannot be started ({})", error.kind()))?;
    let stdout = child.stdout.take();
    let run = async {
        let mut bytes = Vec::new();
        if let Some(stdout) = stdout {
            let read = stdout.take(limits::INVENTORY_BYTES as u64 + 1).read_to_end(&mut bytes).await;
            read.map_err(|error| format!("the output of the inventory command cannot be read ({})", error.kind()))?;
        }
        let bytes = bounded(bytes)?;
        let status = child.wait().await.map_err(|error| format!("the inventory command is lost ({})", error.kind()))?;
        match status.success() {
            true => Ok(bytes),
            false => Err(format!("the inventory command ended with {status}")),
        }
    };
    tokio::time::timeout_at(deadline, run)
        .await
        .unwrap_or_else(|_| Err("the inventory command did not end in time".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn run(words: &[&str]) -> Result<Vec<u8>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        runtime.block_on(async { output(&words, Instant::now() + Duration::from_millis(300)).await })
    }

    #[test]
    fn who_does_not_end_and_who_talks_without_end_are_cut_off() {
        assert_eq!(run(&["/bin/sleep", "1000"]).unwrap_err(), "the inventory command did not end in time");
        let endless = run(&["/usr/bin/yes"]).unwrap_err();
        assert!(endless.contains("larger than") || endless.contains("in time"), "{endless}");
        assert_eq!(run(&["/bin/echo", "a b"]).unwrap(), b"a b\n");
    }
}
