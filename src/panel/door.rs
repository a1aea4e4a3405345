//! The listening socket and the name and password of whoever may come in by it.
//!
//! A door that would be open to everybody is not opened: on an address that others can reach there have to be credentials
//! that somebody chose, and there is no default password. On loopback, with none given, a password is made once and kept in the
//! state directory for its owner alone.

#![forbid(unsafe_code)]

use crate::config::Settings;
use crate::sys::file::{Access, Dir, FileKind, Status};
use crate::sys::regular;
use ring::rand::SecureRandom as _;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The file in the state directory: `name:password`.
const MADE: &str = "api-credentials";
/// Who comes in when only a password is given.
const NAME: &str = "obit";
/// Names of the two halves in a mounted Secret.
const SECRET_KEYS: [[&str; 2]; 2] = [["username", "password"], ["apiUsername", "apiPassword"]];
/// Nobody has longer ones.
const CREDENTIALS_BYTES: u64 = 4096;

/// Name and password; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub name: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}:…)", self.name)
    }
}

impl Credentials {
    fn parse(text: &str) -> Option<Credentials> {
        let (name, password) = text.trim_end_matches(['\r', '\n']).split_once(':')?;
        (!name.is_empty() && !password.is_empty())
            .then(|| Credentials { name: name.to_owned(), password: password.to_owned() })
    }
}

/// The open door.
#[derive(Debug)]
pub struct Door {
    listener: OwnedFd,
    address: SocketAddr,
    credentials: Credentials,
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Door {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

/// Opens the door that the settings ask for: with the line that says where it is, or the sentence that says why it stays
/// shut. `None`: nobody asked for one.
pub fn open(settings: &Settings, state_dir: Option<&Path>) -> Option<Result<(Door, String), String>> {
    let address = settings.api?;
    let shut = |why: String| format!("the API on {address} is not opened: {why}");
    Some(credentials(settings, state_dir, address.ip()).map_err(shut).and_then(|(credentials, whose)| {
        let listener = TcpListener::bind(address).map_err(|error| shut(error.to_string()))?;
        let address = listener.local_addr().unwrap_or(address);
        listener.set_nonblocking(true).map_err(|error| shut(error.to_string()))?;
        Ok((
            Door { listener: listener.into(), address, credentials },
            format!("the API and the panel are at http://{address}/, {whose}"),
        ))
    }))
}

/// Why it would stay shut whatever else is so. Opens nothing, and makes no password.
pub fn fault(settings: &Settings, address: SocketAddr) -> Option<String> {
    given(settings, address.ip()).err().map(|why| format!("the API on {address} would not be opened: {why}"))
}

/// What was given, or what was made here, with words that say which.
fn credentials(
    settings: &Settings,
    state_dir: Option<&Path>,
    address: IpAddr,
) -> Result<(Credentials, String), String> {
    if let Some(given) = given(settings, address)? {
        return Ok(given);
    }
    let dir = state_dir.ok_or("there is no state directory to keep a password in; set OBIT_API_PASSWORD")?;
    let made = kept_or_made(dir).map_err(|error| format!("{}: {error}", dir.join(MADE).display()))?;
    Ok((made, format!("with the credentials in {}", dir.join(MADE).display())))
}

/// What was given. `None`: nothing, and where only this machine reaches the address something may be made.
fn given(settings: &Settings, address: IpAddr) -> Result<Option<(Credentials, String)>, String> {
    if let Some(path) = &settings.api_credentials {
        let read = from_path(path).map_err(|error| format!("{}: {error}", path.display()))?;
        return Ok(Some((read, format!("with the credentials in {}", path.display()))));
    }
    if let Some(password) = settings.api_password.clone() {
        let name = settings.api_username.clone().unwrap_or_else(|| NAME.to_owned());
        return Ok(Some((Credentials { name, password }, "with the credentials of the environment".to_owned())));
    }
    if !is_loopback(address) {
        let how = "set OBIT_API_USERNAME and OBIT_API_PASSWORD, or OBIT_API_CREDENTIALS to a file or a mounted Secret";
        return Err(format!("others can reach that address and no password was chosen; {how}"));
    }
    Ok(None)
}

/// All of 127.0.0.0/8 and ::1, written as IPv6 too.
fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6 == Ipv6Addr::LOCALHOST || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}

/// A file with `name:password`, or a directory as a Secret is mounted.
fn from_path(path: &Path) -> io::Result<Credentials> {
    if !path.is_dir() {
        let text = regular::read_text(path, CREDENTIALS_BYTES)?;
        return Credentials::parse(&text).ok_or_else(|| unusable("it is not name:password"));
    }
    for [name, password] in SECRET_KEYS {
        let half = |key: &str| regular::read_text(&path.join(key), CREDENTIALS_BYTES);
        if let (Ok(name), Ok(password)) = (half(name), half(password)) {
            let both = format!("{}:{}", name.trim(), password.trim_end_matches(['\r', '\n']));
            return Credentials::parse(&both).ok_or_else(|| unusable("name or password is empty"));
        }
    }
    Err(unusable("it has neither username and password nor apiUsername and apiPassword"))
}

fn unusable(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn read_bounded(file: std::fs::File) -> io::Result<String> {
    if Status::of(&file)?.kind != FileKind::Regular {
        return Err(unusable("it is no regular file"));
    }
    let mut text = String::new();
    file.take(CREDENTIALS_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Those of an earlier start, or new ones. Two that start at once end up with the same: only one makes the name.
fn kept_or_made(state_dir: &Path) -> io::Result<Credentials> {
    let dir = Dir::open(state_dir)?;
    let kept = || {
        let text = read_bounded(dir.open_file(MADE, Access::Read)?)?;
        Credentials::parse(&text).ok_or_else(|| unusable("it is not name:password; remove it to get a new one"))
    };
    match kept() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut random = [0; 20];
    ring::rand::SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("there is no randomness"))?;
    let password: String = random.iter().map(|byte| ALPHABET[usize::from(byte % 32)]).map(char::from).collect();
    let hidden = format!(".{MADE}-{}", crate::sys::process::own_pid());
    let _ = dir.remove(&hidden);
    let mut file = dir.create(&hidden)?;
    let made = writeln!(file, "{NAME}:{password}").and_then(|()| file.sync_data());
    let named = made.and_then(|()| dir.link(&hidden, MADE));
    let _ = dir.remove(&hidden);
    match named {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => kept(),
    }
}

/// 32 signs that nobody mistakes for another: 20 of them are 100 bits.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn settings(api: &str) -> Settings {
        Settings { api: Some(api.parse().unwrap()), ..Settings::default() }
    }

    #[test]
    fn on_loopback_a_password_is_made_once_and_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings("127.0.0.1:0");
        let (first, line) = open(&settings, Some(dir.path())).unwrap().unwrap();
        let (second, _) = open(&settings, Some(dir.path())).unwrap().unwrap();
        assert_eq!(first.credentials, second.credentials);
        assert_eq!(first.credentials.password.len(), 20);
        let file = dir.path().join(MADE);
        assert!(line.contains(&file.display().to_string()) && !line.contains(&first.credentials.password), "{line}");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no hidden file is left");
    }

    #[test]
    fn a_door_that_others_can_reach_needs_a_password_that_somebody_chose() {
        let dir = tempfile::tempdir().unwrap();
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:10.0.0.1]:0"] {
            let why = open(&settings(address), Some(dir.path())).unwrap().unwrap_err();
            assert!(why.contains("others can reach that address"), "{address}: {why}");
        }
        let chosen = Settings { api_password: Some("chosen".to_owned()), ..settings("0.0.0.0:0") };
        let (door, _) = open(&chosen, None).unwrap().unwrap();
        assert_eq!(door.credentials, Credentials { name: "obit".to_owned(), password: "chosen".to_owned() });
        assert_eq!(format!("{:?}", door.credentials), "Credentials(obit:…)");
    }

    #[test]
    fn credentials_come_from_a_file_or_a_mounted_secret() {
        let dir = tempfile::tempdir().unwrap();
        let with = |path: &Path| {
            let settings = Settings { api_credentials: Some(path.to_owned()), ..settings("127.0.0.1:0") };
            open(&settings, None).unwrap().map(|(door, _)| door.credentials)
        };
        let file = dir.path().join("file");
        std::fs::write(&file, "me:pass:word\r\n").unwrap();
        assert_eq!(with(&file).unwrap(), Credentials { name: "me".to_owned(), password: "pass:word".to_owned() });
        std::fs::write(&file, "nobody").unwrap();
        assert!(with(&file).unwrap_err().contains("it is not name:password"));
        assert!(with(&dir.path().join("missing")).unwrap_err().contains("No such file"));
        assert!(with(dir.path()).unwrap_err().contains("neither username and password"));
        std::fs::write(dir.path().join("apiUsername"), "storageos").unwrap();
        std::fs::write(dir.path().join("apiPassword"), "secret\n").unwrap();
        assert_eq!(with(dir.path()).unwrap().password, "secret");
        assert!(open(&settings("127.0.0.1:0"), None).unwrap().unwrap_err().contains("no state directory"));
    }
}
