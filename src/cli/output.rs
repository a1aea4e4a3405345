//! What commands print goes to stdout through here, so that none of them ends well when it did not arrive: a full disk
//! behind `obit crashes show > file` is told once, at the end, as the tools of coreutils do.

#![forbid(unsafe_code)]

use std::io::{self, IsTerminal as _, Stdout, Write};
use std::sync::Mutex;

/// The first failure to write.
static FAILURE: Mutex<Option<io::Error>> = Mutex::new(None);

/// Our stdout; what fails on the way there is noted.
#[derive(Debug)]
pub struct Output(Stdout);

pub fn stdout() -> Output {
    Output(io::stdout())
}

impl Output {
    pub fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        noted(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        noted(self.0.flush())
    }
}

fn noted<T>(result: io::Result<T>) -> io::Result<T> {
    result.inspect_err(|error| {
        let mut failure = FAILURE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if error.kind() != io::ErrorKind::Interrupted && failure.is_none() {
            *failure = Some(io::Error::new(error.kind(), error.to_string()));
        }
    })
}

/// Lets go of what is still buffered. Fails if anything that was printed did not arrive.
pub fn close() -> Result<(), String> {
    let _ = stdout().flush();
    let failure = FAILURE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    failure.map_or(Ok(()), |error| Err(not_written(&error)))
}

/// The sentence for people.
pub fn not_written(error: &io::Error) -> String {
    format!("the output could not be written: {error}")
}
