//! What the operator wants: defaults, then the file, then the environment, then the flags; the later wins.

#![forbid(unsafe_code)]

pub mod cluster_spec;
pub mod options;
pub mod section;
pub mod value;

use crate::limits;
use crate::say;
use crate::sys::regular;
use crate::sys::signal::Signal;
use nix::unistd::{AccessFlags, access};
use options::{SETTINGS, Setting};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whether a program is traced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capture {
    /// Where it does little to the program.
    Auto,
    Off,
    /// Wherever the kernel allows it.
    Ptrace,
}

/// Every setting with its value. What is `None` is unset.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Signal the child's whole process group, not only the child.
    pub group: bool,
    /// Signal n is passed on as `rewrite[n]`; 0 swallows it. Index 0 is unused.
    pub rewrite: [u8; 65],
    /// Sent to the child when init is asked to stop (SIGTERM, SIGINT …); `None`: the signal that came.
    pub stop_signal: Option<Signal>,
    /// From the forwarded stop signal to SIGKILL; `None`: never.
    pub stop_grace: Option<Duration>,
    /// Between a stop signal and its being passed on.
    pub stop_delay: Duration,
    /// Exit code n leaves as `map_exit[n]`.
    pub map_exit: [u8; 256],
    /// End by the child's signal instead of 128+n, where the kernel lets us (not as PID 1).
    pub re_raise: bool,
    /// What init is sent when its own parent dies.
    pub parent_death_signal: Option<Signal>,
    /// Bytes of stderr remembered; `None`: stderr is not touched.
    pub stderr_tail_bytes: Option<usize>,

    /// `None`: the file name of the command.
    pub component: Option<String>,
    /// Exit codes besides 0 that are no news.
    pub expected_exit: Vec<u8>,
    /// `None`: /var/lib/obit, else a per-user folder, else /dev/shm.
    pub state_dir: Option<PathBuf>,
    pub report_wait: Duration,
    /// Gets one line about the death if it exists; `None`: switched off.
    pub termination_log: Option<PathBuf>,
    /// Debug files are looked for below them, before the system's own.
    pub debug_dirs: Vec<PathBuf>,
    /// Whether the program is traced, so that its stacks can be read as it dies.
    pub capture: Capture,
    /// The program's soft RLIMIT_CORE is raised to the hard one, where no core can take the place of a file.
    pub raise_core_limit: bool,
    /// Raw memory of the stacks is kept and goes along.
    pub minidump: bool,

    /// As given; checked by whoever sends.
    pub dsn: Option<String>,
    pub release: Option<String>,
    pub environment: Option<String>,
    /// `None`: the host name.
    pub server_name: Option<String>,

    /// Switches of the three channels; see [`consent`](crate::consent).
    pub no_error_reporting: bool,
    pub no_telemetry: bool,
    pub no_version_check: bool,
    /// What becomes of reports that wait on a channel which was switched off.
    pub when_off: WhenOff,
    /// A StorageOSCluster resource, mounted.
    pub cluster_spec: Option<PathBuf>,
    /// Where the API listens; `None`: nowhere.
    pub api: Option<SocketAddr>,
    pub api_username: Option<String>,
    pub api_password: Option<String>,
    /// A file or a mounted Secret with both.
    pub api_credentials: Option<PathBuf>,
    /// Host names by which a browser may ask for the panel, besides addresses, localhost and names of a cluster.
    pub api_hosts: Vec<String>,

    /// Ids of cluster and node; `None`: learnt from the product or made once. They leave only as keyed hashes.
    pub cluster_id: Option<String>,
    pub node_id: Option<String>,
    /// A file with the secret that all nodes share; `None`: each has its own.
    pub cluster_secret: Option<PathBuf>,
    /// A pseudonym is sent in place of the host name.
    pub hide_server_name: bool,

    /// Name, version and CI reference of the product that is reported on; `None`: the program's name, the release's version.
    pub product: Option<String>,
    pub product_version: Option<String>,
    pub build_ref: Option<String>,
    /// Where its counts come from; see [`inventory`](crate::telemetry::inventory).
    pub inventory: Option<String>,
    pub inventory_map: String,
    pub inventory_user: Option<String>,
    pub inventory_password: Option<String>,
    /// Slug of a Sentry cron monitor that is checked in with the daily report.
    pub monitor: Option<String>,

    /// Zone, keys and name servers of the version question, as given; checked by whoever asks.
    pub dns_zone: Option<String>,
    pub dns_keys: Option<String>,
    pub dns_resolver: Option<String>,
    /// Told with the version question, if they are set.
    pub k8s_distro: Option<String>,
    pub k8s_version: Option<String>,

    /// `LOG_FORMAT=json`.
    pub log_json: bool,
    /// From which level on lines are wanted.
    pub log: say::Level,
    pub verbose: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            group: false,
            rewrite: std::array::from_fn(|n| n as u8),
            stop_signal: None,
            stop_grace: Some(limits::STOP_GRACE),
            stop_delay: Duration::ZERO,
            map_exit: std::array::from_fn(|n| n as u8),
            re_raise: false,
            parent_death_signal: None,
            stderr_tail_bytes: Some(limits::STDERR_TAIL_BYTES),
            component: None,
            expected_exit: Vec::new(),
            state_dir: None,
            report_wait: limits::REPORT_WAIT,
            termination_log: Some(PathBuf::from("/dev/termination-log")),
            debug_dirs: Vec::new(),
            capture: Capture::Off,
            raise_core_limit: false,
            minidump: false,
            dsn: None,
            release: None,
            environment: None,
            server_name: None,
            no_error_reporting: false,
            no_telemetry: false,
            no_version_check: false,
            when_off: WhenOff::Hold,
            cluster_spec: None,
            cluster_id: None,
            node_id: None,
            cluster_secret: None,
            hide_server_name: false,
            product: None,
            product_version: None,
            build_ref: None,
            inventory: None,
            inventory_map: String::new(),
            inventory_user: None,
            inventory_password: None,
            monitor: None,
            api: None,
            api_username: None,
            api_password: None,
            api_credentials: None,
            api_hosts: Vec::new(),

            dns_zone: None,
            dns_keys: None,
            dns_resolver: None,
            k8s_distro: None,
            k8s_version: None,
            log_json: false,
            log: say::Level::Info,
            verbose: false,
        }
    }
}

/// What becomes of reports that wait when their channel is switched off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenOff {
    /// They stay, to be read here, and go when the channel is open again.
    Hold,
    /// They are removed.
    Purge,
}

impl Settings {
    /// Takes over how obit's own lines are to look, and how many there are.
    pub fn configure_lines(&self) {
        say::configure(self.log_json, if self.verbose { say::Level::Debug } else { self.log });
    }
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Origin {
    #[default]
    Default,
    File(PathBuf),
    Variable(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

/// The settings, the origin of each in the order of [`SETTINGS`], and what an operator should know.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub origins: Vec<Origin>,
    pub warnings: Vec<String>,
}

/// One flag as it was given: the setting's place in [`SETTINGS`], and its text (`true` for a switch).
pub type Flag = (usize, String);

/// Read when it exists and no other is named.
const DEFAULT_FILE: &str = "/etc/obit/obit.toml";
const FILE_BYTES: u64 = 1024 * 1024;

/// Puts the sources together. A bad flag or file is an error: somebody just wrote it. A bad variable is a warning: a
/// container must not stay down for it.
pub fn load(
    flags: &[Flag],
    file: Option<&Path>,
    var: impl Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Loaded, String> {
    let mut loaded =
        Loaded { settings: Settings::default(), origins: vec![Origin::Default; SETTINGS.len()], warnings: Vec::new() };
    let named = file.map(Path::to_owned).or_else(|| var("OBIT_CONFIG").map(PathBuf::from));
    match &named {
        Some(path) => read_file(path, &mut loaded)?,
        None if access(DEFAULT_FILE, AccessFlags::F_OK).is_ok() => read_file(Path::new(DEFAULT_FILE), &mut loaded)?,
        None => {}
    }
    for (place, setting) in SETTINGS.iter().enumerate() {
        let own = setting.variable();
        let found = setting.also.iter().copied().chain([own.as_str()]).filter_map(|name| Some((name, var(name)?)));
        for (name, value) in found.collect::<Vec<_>>() {
            let value = value.to_string_lossy();
            match (setting.apply)(&mut loaded.settings, &value) {
                Ok(()) => loaded.origins[place] = Origin::Variable(name.to_owned()),
                Err(why) => loaded.warnings.push(format!("{name}: {why}; it is not used")),
            }
        }
    }
    for (place, value) in flags {
        let setting = &SETTINGS[*place];
        (setting.apply)(&mut loaded.settings, value).map_err(|why| format!("--{}: {why}", setting.name))?;
        loaded.origins[*place] = Origin::Flag;
    }
    Ok(loaded)
}

fn read_file(path: &Path, loaded: &mut Loaded) -> Result<(), String> {
    let failed = |why: &dyn fmt::Display| format!("configuration file {}: {why}", path.display());
    // PID 1 must not wait for a FIFO's writer, nor read for ever.
    let text = regular::read_text(path, FILE_BYTES).map_err(|error| failed(&error))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| failed(&error.message()))?;
    // All that is wrong with it at once: nobody wants to start as often as there are mistakes.
    let mut wrong = Vec::new();
    for (key, value) in &table {
        let Some(place) = SETTINGS.iter().position(|setting| setting.key() == *key) else {
            let near = nearest(key, SETTINGS.iter().map(Setting::key));
            wrong.push(format!("there is no setting {key:?}{}", suggestion(near.as_deref())));
            continue;
        };
        let texts: Vec<String> = match value {
            toml::Value::Array(values) => values.iter().map(plain_text).collect(),
            value => vec![plain_text(value)],
        };
        match (SETTINGS[place].apply)(&mut loaded.settings, &texts.join(",")) {
            Ok(()) => loaded.origins[place] = Origin::File(path.to_owned()),
            Err(why) => wrong.push(format!("{key}: {why}")),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(failed(&wrong.join("; "))) }
}

fn plain_text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(on) => on.to_string(),
        _ => format!("{value:?}"),
    }
}

/// `; did you mean "x"?`
pub fn suggestion(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default()
}

/// The candidate that is fewest edits away, if that is few enough to be a slip.
pub fn nearest(word: &str, candidates: impl IntoIterator<Item = String>) -> Option<String> {
    let scored = candidates.into_iter().map(|candidate| (distance(word, &candidate), candidate));
    scored.filter(|(edits, candidate)| *edits <= 1 + candidate.len() / 4).min().map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, in bytes.
pub fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            let least = substituted.min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], least);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_with(flags: &[(&str, &str)], vars: &[(&str, &str)], file: Option<&Path>) -> Result<Loaded, String> {
        let place = |name: &str| SETTINGS.iter().position(|setting| setting.name == name).unwrap();
        let flags: Vec<Flag> = flags.iter().map(|(name, value)| (place(name), (*value).to_owned())).collect();
        load(&flags, file, |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
    }

    #[test]
    fn the_later_source_wins_and_each_value_knows_where_it_came_from() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("obit.toml");
        std::fs::write(&file, "release = \"file@1\"\nstop_grace = \"3s\"\nrewrite = [\"TERM:QUIT\", \"HUP:0\"]\n")
            .unwrap();
        let vars = [("SENTRY_RELEASE", "sentry@1"), ("OBIT_RELEASE", "ours@1"), ("OBIT_STOP_GRACE", "4s")];
        let loaded = load_with(&[("stop-grace", "5s")], &vars, Some(&file)).unwrap();
        assert_eq!(loaded.settings.release.as_deref(), Some("ours@1"));
        assert_eq!(loaded.settings.stop_grace, Some(Duration::from_secs(5)));
        assert_eq!(loaded.settings.rewrite[15], 3);
        assert_eq!(loaded.settings.rewrite[1], 0);
        let origin = |name: &str| loaded.origins[SETTINGS.iter().position(|s| s.name == name).unwrap()].to_string();
        assert_eq!(origin("release"), "OBIT_RELEASE");
        assert_eq!(origin("stop-grace"), "flag");
        assert_eq!(origin("rewrite"), file.display().to_string());
        assert_eq!(origin("dsn"), "default");
    }

    #[test]
    fn a_bad_flag_is_an_error_and_a_bad_variable_a_warning() {
        let table = [
            ("stop-grace", "soon", "--stop-grace: \"soon\" is no time; write 8s, 500ms, 2m or 0"),
            ("stderr-tail", "9G", "--stderr-tail: \"9G\" is no size up to 1M; write 64K, 1M or off"),
            ("stop-signal", "FOO", "--stop-signal: \"FOO\" is no signal; write TERM, SIGTERM or 15"),
            ("rewrite", "TERM", "--rewrite: \"TERM\" is no pair FROM:TO, such as TERM:QUIT"),
            ("map-exit", "1:300", "--map-exit: \"1:300\" is no pair of exit codes, such as 143:0"),
            ("expected-exit", "x", "--expected-exit: \"x\" is no exit code of 0 to 255"),
            ("log-format", "xml", "--log-format: \"xml\" is no format; write text or json"),
            ("group", "perhaps", "--group: \"perhaps\" is neither true nor false"),
        ];
        for (name, value, sentence) in table {
            assert_eq!(load_with(&[(name, value)], &[], None).unwrap_err(), sentence);
        }
        let loaded = load_with(&[], &[("OBIT_STOP_GRACE", "soon")], None).unwrap();
        assert_eq!(loaded.settings.stop_grace, Some(limits::STOP_GRACE));
        assert_eq!(loaded.warnings, ["OBIT_STOP_GRACE: \"soon\" is no time; write 8s, 500ms, 2m or 0; it is not used"]);
    }

    #[test]
    fn a_key_that_does_not_exist_is_answered_with_the_nearest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("obit.toml");
        std::fs::write(&file, "stop_grase = 3").unwrap();
        let sentence = load_with(&[], &[], Some(&file)).unwrap_err();
        assert!(sentence.ends_with("there is no setting \"stop_grase\"; did you mean \"stop_grace\"?"), "{sentence}");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let sentence = load_with(&[], &[], Some(&fifo)).unwrap_err();
        assert!(sentence.ends_with("not a regular file"), "{sentence}");
    }

    #[test]
    fn all_mistakes_of_a_file_are_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("obit.toml");
        std::fs::write(&file, "stop_grase = 3\nstop_delay = \"soon\"\ngroup = true\n").unwrap();
        let sentence = load_with(&[], &[], Some(&file)).unwrap_err();
        for part in ["no setting \"stop_grase\"", "stop_delay: \"soon\" is no time"] {
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_never_shown() {
        let table = [
            ("http://me:secret@host:80/a@b", "http://me:…@host:80/a@b"),
            ("storageos:http://me:se:cr@t@host", "storageos:http://me:…@host"),
            ("http://token@host/", "http://…:…@host/"),
            ("http://host/?mail=a@b", "http://host/?mail=a@b"),
            ("file:/run/a@b.json", "file:/run/a@b.json"),
        ];
        for (given, shown) in table {
            let loaded = load_with(&[("inventory", given)], &[], None).unwrap();
            let inventory = SETTINGS.iter().find(|setting| setting.name == "inventory").unwrap();
            assert_eq!((inventory.show)(&loaded.settings), shown);
        }
    }

    #[test]
    fn every_setting_is_taken_from_its_flag_and_its_variable_and_shown_again() {
        for setting in SETTINGS {
            let value = match setting.value {
                None => "true",
                Some("FROM:TO") if setting.name == "rewrite" => "SIGTERM:SIGQUIT",
                Some("FROM:TO") => "143:0",
                Some("SIGNAL") => "SIGINT",
                Some("TIME" | "TIME|off") => "7s",
                Some("SIZE|off") => "4096",
                Some("CODES") => "2,3",
                Some("text|json") => "json",
                Some("auto|off|ptrace") => "ptrace",
                Some("LEVEL") => "debug",
                Some("FACT=/POINTER") => "nodes=/a",
                Some("hold|purge") => "purge",
                Some("DSN") => "https://…@host/1",
                Some("ADDRESS:PORT|off") => "[::1]:5705",
                Some(_) => "/x/y",
            };
            let by_flag = load_with(&[(setting.name, value)], &[], None).unwrap();
            let by_variable = load_with(&[], &[(&setting.variable(), value)], None).unwrap();
            assert_eq!((setting.show)(&by_flag.settings), (setting.show)(&by_variable.settings));
            assert_ne!((setting.show)(&by_flag.settings), (setting.show)(&Settings::default()), "{}", setting.name);
        }
    }
}
