//! Which proxy a request goes through: Go's ProxyFromEnvironment, rule by rule, so that obit agrees with the programs it
//! wraps. Source of the rules: golang.org/x/net/http/httpproxy.

#![forbid(unsafe_code)]

use super::go_url::GoUrl;
use ipnet::{IpNet, Ipv4Net};
use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use url::Host;

/// The variables that count, as Go reads them: upper case first, an empty one counts as unset. There is no ALL_PROXY.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Environment {
    http_proxy: String,
    https_proxy: String,
    no_proxy: String,
    /// REQUEST_METHOD is set: in a CGI process HTTP_PROXY comes from a header that anybody can send.
    cgi: bool,
}

impl Environment {
    /// `var` is `std::env::var_os`.
    pub fn from(var: impl Fn(&str) -> Option<OsString>) -> Environment {
        // Bytes that are no text make a proxy nobody can reach; as "unset" they would make a way around it.
        let first = |names: [&str; 2]| {
            let mut texts = names.into_iter().filter_map(|name| Some(var(name)?.to_string_lossy().into_owned()));
            texts.find(|text| !text.is_empty()).unwrap_or_default()
        };
        Environment {
            http_proxy: first(["HTTP_PROXY", "http_proxy"]),
            https_proxy: first(["HTTPS_PROXY", "https_proxy"]),
            no_proxy: first(["NO_PROXY", "no_proxy"]),
            cgi: var("REQUEST_METHOD").is_some_and(|method| !method.is_empty()),
        }
    }
}

/// The decision for one URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    Direct,
    Proxy(GoUrl),
}

/// `direct` or `proxy URL`; a password is not shown.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::Direct => f.write_str("direct"),
            Route::Proxy(url) => write!(f, "proxy {url}"),
        }
    }
}

/// Decides for a URL as it was given; errors are a URL that Go would not take, and Go's own for a CGI process.
pub fn decide(environment: &Environment, url: &str) -> Result<Route, String> {
    let url = GoUrl::parse(url).map_err(|why| format!("that is no URL: {why}"))?;
    let value = match &*url.scheme {
        "https" => &environment.https_proxy,
        "http" => &environment.http_proxy,
        _ => return Ok(Route::Direct),
    };
    let Some(proxy) = parse_proxy(value) else { return Ok(Route::Direct) };
    if environment.cgi && url.scheme == "http" {
        return Err("refusing to use HTTP_PROXY value in CGI environment; see golang.org/s/cgihttpproxy".to_owned());
    }
    Ok(if uses_proxy(&environment.no_proxy, &url) { Route::Proxy(proxy) } else { Route::Direct })
}

/// A URL, or `host[:port]` which means http. What can be read as neither counts as unset, in Go too; what is a URL without
/// a host is kept, so that connecting fails instead of going around.
fn parse_proxy(value: &str) -> Option<GoUrl> {
    if value.is_empty() {
        return None;
    }
    let as_given = GoUrl::parse(value);
    match as_given {
        Ok(url) if url.has_scheme_and_host() => Some(url),
        other => GoUrl::parse(&format!("http://{value}")).or(other).ok(),
    }
}

/// False for loopback and for what NO_PROXY lists.
fn uses_proxy(no_proxy: &str, url: &GoUrl) -> bool {
    let host = to_ascii(&url.host());
    let port = match (url.port(), &*url.scheme) {
        ("", "https") => "443",
        ("", _) => "80",
        (port, _) => port,
    };
    // Only an IPv6 address has a zone, and it does not count.
    let bare = host.split_once('%').map_or(&*host, |(address, _)| if address.contains(':') { address } else { &host });
    let ip = bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    // In this spelling only: LOCALHOST is another name to Go.
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return false;
    }
    let name = host.trim().to_lowercase();
    let entries: Vec<String> = no_proxy.split(',').map(|entry| entry.trim().to_lowercase()).collect();
    !entries.iter().any(|entry| entry == "*" || excludes(entry, &name, ip, port))
}

/// One entry of NO_PROXY: an address, a range of addresses, or a domain; all but ranges may name a port.
fn excludes(entry: &str, name: &str, ip: Option<IpAddr>, port: &str) -> bool {
    if let Ok(range) = entry.parse::<IpNet>() {
        return ip.is_some_and(|ip| canonical(range).contains(&ip));
    }
    let (host, wanted_port) = split_port(entry);
    if host.is_empty() || !(wanted_port.is_empty() || wanted_port == port) {
        return false;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return ip == Some(address.to_canonical());
    }
    if ip.is_some() {
        return false;
    }
    // `*.d` and `.d` mean what is below d, `d` means d too.
    let domain = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    match domain.strip_prefix('.') {
        Some(bare) => name.ends_with(&format!(".{}", to_ascii(bare))),
        None => {
            let domain = to_ascii(domain);
            name == domain || name.strip_suffix(&*domain).is_some_and(|rest| rest.ends_with('.'))
        }
    }
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn canonical(range: IpNet) -> IpNet {
    match range {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(range, IpNet::V4),
            None => range,
        },
        _ => range,
    }
}

/// `host:port`, `[v6]:port`, `host:`; what is of another form is a host as a whole.
fn split_port(entry: &str) -> (&str, &str) {
    if let Some(rest) = entry.strip_prefix('[') {
        return match rest.split_once("]:") {
            Some((host, port)) => (host, port),
            None => (entry, ""),
        };
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port),
        _ => (entry, ""),
    }
}

/// A name in the ASCII form of IDNA; one that has none stays as it is, and matches itself alone.
fn to_ascii(name: &str) -> String {
    if name.is_ascii() {
        return name.to_owned();
    }
    match Host::parse(name) {
        Ok(Host::Domain(ascii)) => ascii,
        Ok(Host::Ipv4(ip)) => ip.to_string(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
