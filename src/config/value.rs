//! How the text of a setting becomes its value, or a sentence that says what would be right; and how a value is shown again.

#![forbid(unsafe_code)]

use super::{Capture, Settings, WhenOff};
use crate::limits;
use crate::say::Level;
use crate::sys::signal::Signal;
use std::net::SocketAddr;
use std::time::Duration;

/// `8s`, `500ms`, `2m`, `1h`, `0`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number: u64 = number.parse().unwrap_or(u64::MAX);
    let total = number.checked_mul(millis).filter(|_| millis > 0 && number <= 1_000_000_000);
    total.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is no time; write 8s, 500ms, 2m or 0"))
}

pub fn show_duration(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}

pub fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?} is no size up to {}M; write 64K, 1M or off", limits::STDERR_TAIL_MAX_BYTES >> 20);
    let upper = text.to_ascii_uppercase();
    let plain = upper.trim_end_matches("IB").trim_end_matches('B');
    let (number, factor) = match plain.strip_suffix('K') {
        Some(number) => (number, 1024),
        None => plain.strip_suffix('M').map_or((plain, 1), |number| (number, 1024 * 1024)),
    };
    let bytes = number.parse::<usize>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)?;
    (1..=limits::STDERR_TAIL_MAX_BYTES).contains(&bytes).then_some(bytes).ok_or_else(wrong)
}

/// Go's strconv.ParseBool, and what people write besides.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" | "on" => Ok(true),
        "0" | "f" | "false" | "no" | "off" | "" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// A switch of consent: what cannot be read is "off", with a warning from whoever decides.
pub fn switched_off(text: &str) -> Result<bool, String> {
    Ok(boolean(text).unwrap_or(true))
}

pub fn when_off(settings: &mut Settings, value: &str) -> Result<(), String> {
    settings.when_off = match value {
        "hold" | "" => WhenOff::Hold,
        "purge" => WhenOff::Purge,
        _ => return Err(format!("{value:?} is neither hold nor purge")),
    };
    Ok(())
}

pub fn unless_off<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.eq_ignore_ascii_case("off") { Ok(None) } else { parse(text).map(Some) }
}

/// `127.0.0.1:5705`, `[::1]:5705`, `localhost:5705`; `:5705` is every address, as in Go.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let whole = match host {
        "" => format!("[::]:{port}"),
        "localhost" => format!("127.0.0.1:{port}"),
        _ => text.to_owned(),
    };
    whole.parse().map_err(|_| format!("{text:?} is no address with a port, such as 127.0.0.1:5705"))
}

pub fn signal(text: &str) -> Result<Signal, String> {
    Signal::parse(text).ok_or_else(|| format!("{text:?} is no signal; write TERM, SIGTERM or 15"))
}

pub fn text(value: &str) -> Result<Option<String>, String> {
    Ok(Some(value.trim().to_owned()).filter(|value| !value.is_empty()))
}

pub fn shown(signal: Option<Signal>) -> String {
    signal.map(Signal::name).unwrap_or_default()
}

pub fn rewrite(settings: &mut Settings, value: &str) -> Result<(), String> {
    for pair in value.split(',').filter(|pair| !pair.is_empty()) {
        let (from, to) =
            pair.split_once(':').ok_or_else(|| format!("{pair:?} is no pair FROM:TO, such as TERM:QUIT"))?;
        let from = signal(from)?;
        if matches!(from, Signal::KILL | Signal::STOP) {
            return Err(format!("nobody can catch {}, so it cannot be passed on as another", from.name()));
        }
        let to = if to == "0" { 0 } else { signal(to)?.number() as u8 };
        settings.rewrite[from.number() as usize] = to;
    }
    Ok(())
}

pub fn show_rewrite(settings: &Settings) -> String {
    let changed = (1..=64u8).filter(|n| settings.rewrite[usize::from(*n)] != *n);
    let pair = |n: u8| {
        let to = Signal::new(i32::from(settings.rewrite[usize::from(n)]));
        format!("{}:{}", shown(Signal::new(i32::from(n))), to.map_or("0".to_owned(), Signal::name))
    };
    changed.map(pair).collect::<Vec<_>>().join(",")
}

pub fn map_exit(settings: &mut Settings, value: &str) -> Result<(), String> {
    for pair in value.split(',').filter(|pair| !pair.is_empty()) {
        let parsed =
            pair.split_once(':').and_then(|(from, to)| Some((from.parse::<u8>().ok()?, to.parse::<u8>().ok()?)));
        let (from, to) = parsed.ok_or_else(|| format!("{pair:?} is no pair of exit codes, such as 143:0"))?;
        settings.map_exit[usize::from(from)] = to;
    }
    Ok(())
}

pub fn show_map_exit(settings: &Settings) -> String {
    let changed = (0..=255u8).filter(|n| settings.map_exit[usize::from(*n)] != *n);
    changed.map(|n| format!("{n}:{}", settings.map_exit[usize::from(n)])).collect::<Vec<_>>().join(",")
}

/// Each adds to those before.
pub fn inventory_map(settings: &mut Settings, value: &str) -> Result<(), String> {
    if !settings.inventory_map.is_empty() {
        settings.inventory_map.push(',');
    }
    settings.inventory_map.push_str(value.trim());
    Ok(())
}

pub fn expected_exit(settings: &mut Settings, value: &str) -> Result<(), String> {
    let code = |code: &str| code.trim().parse::<u8>().map_err(|_| format!("{code:?} is no exit code of 0 to 255"));
    settings.expected_exit =
        value.split(',').filter(|code| !code.trim().is_empty()).map(code).collect::<Result<_, _>>()?;
    Ok(())
}

pub fn capture(settings: &mut Settings, value: &str) -> Result<(), String> {
    let known = [Capture::Auto, Capture::Off, Capture::Ptrace].into_iter().find(|known| show_capture(*known) == value);
    settings.capture = known.ok_or_else(|| format!("{value:?} is none of auto, off and ptrace"))?;
    Ok(())
}

pub fn show_capture(capture: Capture) -> &'static str {
    match capture {
        Capture::Auto => "auto",
        Capture::Off => "off",
        Capture::Ptrace => "ptrace",
    }
}

pub fn debug_dirs(settings: &mut Settings, value: &str) -> Result<(), String> {
    let dirs = value.split(':').filter(|dir| !dir.is_empty());
    settings.debug_dirs = dirs
        .map(|dir| if dir.starts_with('/') { Ok(dir.into()) } else { Err(format!("{dir:?} is no absolute path")) })
        .collect::<Result<_, _>>()?;
    Ok(())
}

pub fn log_level(settings: &mut Settings, value: &str) -> Result<(), String> {
    settings.log = match value.trim().to_ascii_lowercase().as_str() {
        "error" => Level::Error,
        "warning" | "warn" => Level::Warning,
        "info" => Level::Info,
        "debug" | "trace" => Level::Debug,
        _ => return Err(format!("{value:?} is no level; write error, warning, info or debug")),
    };
    Ok(())
}

pub fn log_format(settings: &mut Settings, value: &str) -> Result<(), String> {
    match value {
        "json" => settings.log_json = true,
        "text" | "" => settings.log_json = false,
        _ => return Err(format!("{value:?} is no format; write text or json")),
    }
    Ok(())
}

/// A URL without the password in it, for people: `http://user:…@host/path`.
pub fn mask_password(url: &str) -> String {
    let Some(start) = url.find("://").map(|scheme| scheme + 3) else { return url.to_owned() };
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |end| start + end);
    let Some(at) = url[start..end].rfind('@').map(|at| start + at) else { return url.to_owned() };
    let user = url[start..at].split_once(':').map_or("…", |(user, _)| user);
    format!("{}{user}:…{}", &url[..start], &url[at..])
}

/// The key of a DSN is what lets anybody send; only its head is shown.
pub fn mask_dsn(dsn: &str) -> String {
    match (dsn.find("://"), dsn.find('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            let key = &dsn[scheme + 3..at];
            let head: String = key.chars().take(4).collect();
            format!("{}{head}…{}", &dsn[..scheme + 3], &dsn[at..])
        }
        _ => "…".to_owned(),
    }
}
