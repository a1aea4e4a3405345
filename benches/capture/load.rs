//! The loads: what is run, and how it is made from `programs/`.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Load {
    pub name: String,
    pub command: Vec<OsString>,
    /// Who asks a server that does not end by itself.
    pub client: Option<Client>,
}

pub struct Client {
    pub port: u16,
    pub command: Vec<OsString>,
}

/// Those whose runtime is here, and a line for each that is not.
pub fn all(bench: &Path) -> io::Result<(Vec<Load>, Vec<String>)> {
    let mut loads = Vec::new();
    let mut missing = Vec::new();
    let mut add = |needs: &[&str], make: &dyn Fn() -> io::Result<Load>| -> io::Result<()> {
        match needs.iter().find(|need| !is_here(need)) {
            None => loads.push(make()?),
            Some(need) => missing.push(format!("{need} is not installed; its load was left out")),
        }
        Ok(())
    };
    let go = bench.join("go-load");
    add(&["go"], &|| {
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(&go).arg(program("load.go"));
        built(build.env("GOFLAGS", "-mod=mod").env("GOCACHE", bench.join("go-cache")))?;
        Ok(plain("Go: 200 goroutines, garbage collected", [go.clone().into_os_string()]))
    })?;
    add(&["java", "javac"], &|| {
        built(Command::new("javac").arg("-d").arg(bench).arg(program("Load.java")))?;
        Ok(plain("JVM: 16 threads, implicit null checks", ["java".into(), "-cp".into(), bench.into(), "Load".into()]))
    })?;
    for (name, way) in [
        ("C: 64 threads that contend for a lock", "contend"),
        ("C: 100 threads a second that come and go", "steady"),
        ("C: 20,000 threads that come and go at once", "storm"),
    ] {
        let made = bench.join("threads");
        add(&["cc"], &|| {
            built(Command::new("cc").args(["-O2", "-pthread", "-o"]).arg(&made).arg(program("threads.c")))?;
            Ok(plain(name, [made.clone().into_os_string(), way.into()]))
        })?;
    }
    add(&["sh"], &|| Ok(plain("sh: 2000 forks and execs", ["sh".into(), program("forks.sh").into_os_string()])))?;
    add(&["python3"], &|| {
        Ok(plain("Python: signals, 200 a second", ["python3".into(), program("signals.py").into_os_string()]))
    })?;
    add(&["nginx", "ab"], &|| nginx(bench))?;
    Ok((loads, missing))
}

fn plain(name: &str, command: impl IntoIterator<Item = OsString>) -> Load {
    Load { name: name.to_owned(), command: command.into_iter().collect(), client: None }
}

fn nginx(bench: &Path) -> io::Result<Load> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    drop(listener);
    let text = include_str!("programs/nginx.conf");
    let configuration = text.replace("DIRECTORY", &bench.display().to_string()).replace("PORT", &port.to_string());
    let file = bench.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    std::fs::write(bench.join("page.html"), "x".repeat(4096))?;
    let url = format!("http://127.0.0.1:{port}/page.html");
    Ok(Load {
        name: "nginx: 40,000 requests by 16 clients".to_owned(),
        command: vec!["nginx".into(), "-c".into(), file.into()],
        client: Some(Client {
            port,
            command: ["ab", "-q", "-k", "-n", "40000", "-c", "16", &url].map(Into::into).to_vec(),
        }),
    })
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/capture/programs").join(name)
}

fn built(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{} fails: {complaint}", command.get_program().display())))
}

fn is_here(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}
