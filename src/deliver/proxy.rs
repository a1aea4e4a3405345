//! Which proxy a request goes through: Go's ProxyFromEnvironment, rule by rule, so that obit agrees with the programs it
//! wraps. Source of the rules: golang.org/x/net/http/httpproxy.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use url::{Host, Url};

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
        let first = |names: [&str; 2]| {
            let texts = names.into_iter().filter_map(|name| var(name)?.into_string().ok());
            texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
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
    Proxy(Url),
}

/// `direct` or `proxy URL`; a password is not shown.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::Direct => f.write_str("direct"),
            Route::Proxy(url) => {
                let mut url = url.clone();
                if url.password().is_some() {
                    let _ = url.set_password(Some("xxxxx"));
                }
                let text = url.to_string();
                // Go prints no slash where there was no path.
                let bare = url.path() == "/" && url.query().is_none();
                write!(f, "proxy {}", if bare { text.trim_end_matches('/') } else { &text })
            }
        }
    }
}

/// Decides for a URL; the error is Go's own for a CGI process.
pub fn decide(environment: &Environment, url: &Url) -> Result<Route, String> {
    let value = match url.scheme() {
        "https" => &environment.https_proxy,
        "http" => {
            if environment.cgi && !environment.http_proxy.is_empty() {
                return Err(
                    "refusing to use HTTP_PROXY value in CGI environment; see golang.org/s/cgihttpproxy".to_owned()
                );
            }
            &environment.http_proxy
        }
        _ => return Ok(Route::Direct),
    };
    let Some(proxy) = parse_proxy(value) else { return Ok(Route::Direct) };
    Ok(if uses_proxy(&environment.no_proxy, url) { Route::Proxy(proxy) } else { Route::Direct })
}

/// A URL, or `host[:port]` which means http; what is neither counts as unset.
fn parse_proxy(value: &str) -> Option<Url> {
    let with_host =
        |text: &str| Url::parse(text).ok().filter(|url| url.host_str().is_some_and(|host| !host.is_empty()));
    if value.is_empty() {
        return None;
    }
    match value.contains("://").then(|| with_host(value)).flatten() {
        Some(url) => Some(url),
        None => with_host(&format!("http://{value}")),
    }
}

/// False for loopback and for what NO_PROXY lists.
fn uses_proxy(no_proxy: &str, url: &Url) -> bool {
    let Some(host) = url.host() else { return true };
    let port = url.port_or_known_default().unwrap_or_default().to_string();
    let (name, ip) = match host {
        Host::Domain(name) => (name.to_lowercase(), None),
        Host::Ipv4(ip) => (ip.to_string(), Some(IpAddr::V4(ip))),
        Host::Ipv6(ip) => (ip.to_string(), Some(IpAddr::V6(ip).to_canonical())),
    };
    if name == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return false;
    }
    !no_proxy
        .split(',')
        .map(|entry| entry.trim().to_lowercase())
        .filter(|entry| !entry.is_empty())
        .any(|entry| entry == "*" || excludes(&entry, &name, ip, &port))
}

/// One entry of NO_PROXY: an address, a range of addresses, or a domain; all but ranges may name a port.
fn excludes(entry: &str, name: &str, ip: Option<IpAddr>, port: &str) -> bool {
    if let Ok(range) = entry.parse::<ipnet::IpNet>() {
        return ip.is_some_and(|ip| range.contains(&ip));
    }
    let (host, wanted_port) = split_port(entry);
    if wanted_port.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return ip == Some(address.to_canonical());
    }
    if ip.is_some() || host.is_empty() {
        return false;
    }
    // `*.d` and `.d` mean what is below d, `d` means d too.
    let domain = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    let Ok(domain) = idna_of(domain) else { return false };
    match domain.strip_prefix('.') {
        Some(_) => name.ends_with(&domain),
        None => name == domain || name.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// `host:port`, `[v6]:port`; a bare IPv6 address has no port.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    if let Some(rest) = entry.strip_prefix('[') {
        return match rest.split_once("]:") {
            Some((host, port)) => (host, Some(port)),
            None => ("", None),
        };
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (entry, None),
    }
}

/// A domain in the ASCII form that the URL's host has too.
fn idna_of(domain: &str) -> Result<String, ()> {
    if domain.is_ascii() {
        return Ok(domain.to_owned());
    }
    let (dot, bare) = domain.strip_prefix('.').map_or(("", domain), |bare| (".", bare));
    match Host::parse(bare) {
        Ok(Host::Domain(ascii)) => Ok(format!("{dot}{ascii}")),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(vars: &[(&str, &str)], url: &str) -> String {
        let environment = Environment::from(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()));
        match decide(&environment, &Url::parse(url).unwrap()) {
            Ok(route) => route.to_string(),
            Err(text) => format!("error {text}"),
        }
    }

    #[test]
    fn the_variables_are_read_as_go_reads_them() {
        let p = ("HTTPS_PROXY", "http://p.test:3128");
        type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
        let table: &[Row<'_>] = &[
            (&[], "https://h.test/", "direct"),
            (&[p], "https://h.test/", "proxy http://p.test:3128"),
            (&[p], "http://h.test/", "direct"),
            (&[("HTTP_PROXY", "p.test:3128")], "https://h.test/", "direct"),
            (&[("HTTP_PROXY", "p.test:3128")], "http://h.test/", "proxy http://p.test:3128"),
            (&[("http_proxy", "p.test")], "http://h.test/", "proxy http://p.test"),
            (&[("HTTP_PROXY", ""), ("http_proxy", "p.test")], "http://h.test/", "proxy http://p.test"),
            (&[("HTTP_PROXY", "up.test"), ("http_proxy", "low.test")], "http://h.test/", "proxy http://up.test"),
            (&[("ALL_PROXY", "http://p.test")], "https://h.test/", "direct"),
            (&[("HTTPS_PROXY", "socks5://u:pw@p.test:1080")], "https://h.test/", "proxy socks5://u:xxxxx@p.test:1080"),
            (&[("HTTPS_PROXY", ":bad")], "https://h.test/", "direct"),
            (&[p, ("REQUEST_METHOD", "GET")], "https://h.test/", "proxy http://p.test:3128"),
            (&[("HTTP_PROXY", "p.test"), ("REQUEST_METHOD", "")], "http://h.test/", "proxy http://p.test"),
            (&[p], "ftp://h.test/", "direct"),
        ];
        for (vars, url, expected) in table {
            assert_eq!(route(vars, url), *expected, "{vars:?} {url}");
        }
        assert!(
            route(&[("HTTP_PROXY", "p.test"), ("REQUEST_METHOD", "GET")], "http://localhost/")
                .starts_with("error refusing")
        );
    }

    #[test]
    fn loopback_is_never_proxied_and_its_disguises_are() {
        let direct = [
            "http://localhost/",
            "http://127.0.0.1/",
            "http://127.9.9.9:80/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
        ];
        for url in direct {
            assert_eq!(route(&[("HTTP_PROXY", "p.test")], url), "direct", "{url}");
        }
        for url in ["http://x.localhost/", "http://localhost./", "http://0.0.0.0/", "http://10.0.0.1/"] {
            assert_eq!(route(&[("HTTP_PROXY", "p.test")], url), "proxy http://p.test", "{url}");
        }
    }

    #[test]
    fn no_proxy_lists_names_addresses_ranges_and_ports() {
        let table = [
            ("h.test", "http://h.test/", true),
            ("h.test", "http://a.h.test/", true),
            ("h.test", "http://xh.test/", false),
            (".h.test", "http://h.test/", false),
            (".h.test", "http://a.h.test/", true),
            ("*.h.test", "http://a.b.h.test/", true),
            ("*.h.test", "http://h.test/", false),
            ("*h.test", "http://h.test/", false),
            ("H.TEST", "http://h.test/", true),
            ("x.test, h.test ,y.test", "http://h.test/", true),
            ("x.test h.test", "http://h.test/", false),
            ("x.test;h.test", "http://h.test/", false),
            ("h.test:80", "http://h.test/", true),
            ("h.test:81", "http://h.test/", false),
            ("h.test:8080", "http://h.test:8080/", true),
            ("*.h.test:80", "http://a.h.test/", true),
            ("*", "http://10.0.0.1/", true),
            ("x,*", "http://h.test/", true),
            ("*:80", "http://h.test/", false),
            ("10.0.0.1", "http://10.0.0.1/", true),
            ("10.0.0.1:80", "http://10.0.0.1/", true),
            ("10.0.0.1:81", "http://10.0.0.1/", false),
            ("10.0.0.0/8", "http://10.9.9.9/", true),
            ("10.1.2.3/8", "http://10.9.9.9/", true),
            ("10.0.0.0/8", "http://11.0.0.1/", false),
            ("10.0.0.0/8", "http://h.test/", false),
            ("2001:db8::/32", "http://[2001:db8::1]/", true),
            ("[2001:db8::1]:80", "http://[2001:db8::1]/", true),
            ("[2001:db8::1]", "http://[2001:db8::1]/", false),
            ("2001:db8::1", "http://[2001:db8::1]/", true),
            ("10.0.0.1", "http://[::ffff:10.0.0.1]/", true),
            ("0.1", "http://10.0.0.1/", false),
            ("bücher.test", "http://xn--bcher-kva.test/", true),
            ("http://h.test", "http://h.test/", false),
            (",", "http://h.test/", false),
        ];
        for (no_proxy, url, direct) in table {
            let expected = if direct { "direct" } else { "proxy http://p.test" };
            assert_eq!(route(&[("HTTP_PROXY", "p.test"), ("NO_PROXY", no_proxy)], url), expected, "{no_proxy} {url}");
        }
    }
}
