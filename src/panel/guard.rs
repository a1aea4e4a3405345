//! Who may ask, and from where: decided before anything of a request is acted upon.
//!
//! | check | against |
//! |---|---|
//! | the Host is an address, localhost, a name of the cluster or one that was configured | DNS rebinding |
//! | an Origin, where a browser tells one, is that Host | other people's pages |
//! | name and password, compared in constant time as digests | everybody else |
//! | ten wrong ones in a minute from one address | guessing |

#![forbid(unsafe_code)]

use super::door::Credentials;
use crate::limits;
use data_encoding::BASE64;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use ring::digest;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq as _;

/// Addresses whose wrong passwords are remembered; one more forgets the others, which costs them their punishment only.
const REMEMBERED: usize = 1024;

/// Why a request is not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// 421: the Host is none of ours.
    Host,
    /// 403: a page of somebody else's asks.
    Origin,
    /// 401.
    Credentials,
    /// 429, for so many more seconds.
    Patience(u64),
}

/// What is checked against.
pub struct Guard {
    /// SHA-256 of `name:password`.
    credentials: digest::Digest,
    hosts: Vec<String>,
    failures: RefCell<HashMap<IpAddr, (u32, Instant)>>,
}

impl Guard {
    pub fn new(credentials: &Credentials, hosts: &[String]) -> Guard {
        let both = format!("{}:{}", credentials.name, credentials.password);
        Guard {
            credentials: digest::digest(&digest::SHA256, both.as_bytes()),
            hosts: hosts.to_vec(),
            failures: RefCell::default(),
        }
    }

    /// Whether it comes by a name of ours and from no page but our own. For every request.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(Ok(host)), None) = (hosts.next().map(|host| host.to_str()), hosts.next()) else {
            return Err(Refusal::Host);
        };
        if !self.is_ours(host) {
            return Err(Refusal::Host);
        }
        let own = |origin: &str| ["http://", "https://"].iter().any(|s| origin.strip_prefix(s) == Some(host));
        if headers.get(ORIGIN).is_some_and(|origin| !origin.to_str().is_ok_and(own)) {
            return Err(Refusal::Origin);
        }
        let fetch_site = headers.get(HeaderName::from_static("sec-fetch-site")).and_then(|site| site.to_str().ok());
        match fetch_site {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) => Err(Refusal::Origin),
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((v6, rest)) => {
                return v6.parse::<std::net::Ipv6Addr>().is_ok() && (rest.is_empty() || is_port(rest));
            }
            None => host.split_at(host.find(':').unwrap_or(host.len())),
        };
        if !(port.is_empty() || is_port(port)) {
            return false;
        }
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        // A page of an attacker's comes by a name of the public DNS, which none of these can be.
        !name.is_empty()
            && (!name.contains('.')
                || name.parse::<std::net::Ipv4Addr>().is_ok()
                || [".localhost", ".svc", ".cluster.local", ".internal"].iter().any(|end| name.ends_with(end))
                || self.hosts.iter().any(|own| own == name))
    }

    /// Whether name and password are right.
    pub fn check_credentials(&self, headers: &HeaderMap, peer: IpAddr, now: Instant) -> Result<(), Refusal> {
        let mut failures = self.failures.borrow_mut();
        if let Some((count, since)) = failures.get(&peer) {
            let left = limits::API_FAILURES_WINDOW.saturating_sub(now.saturating_duration_since(*since));
            if left == Duration::ZERO {
                failures.remove(&peer);
            } else if *count >= limits::API_FAILURES {
                return Err(Refusal::Patience(left.as_secs() + 1));
            }
        }
        let given = headers.get(AUTHORIZATION).and_then(|value| basic(value.as_bytes()));
        match given {
            Some(given) => {
                let given = digest::digest(&digest::SHA256, &given);
                if bool::from(given.as_ref().ct_eq(self.credentials.as_ref())) {
                    failures.remove(&peer);
                    return Ok(());
                }
                if failures.len() >= REMEMBERED {
                    failures.clear();
                }
                failures.entry(peer).or_insert((0, now)).0 += 1;
                Err(Refusal::Credentials)
            }
            // Browsers ask without first; that is no guess.
            None => Err(Refusal::Credentials),
        }
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

/// RFC 7617: the scheme in any case, then base64 of `name:password`.
fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, token) = value.split_at_checked(6)?;
    scheme.eq_ignore_ascii_case(b"basic ").then(|| BASE64.decode(token.trim_ascii()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn guard() -> Guard {
        let credentials = Credentials { name: "storageos".to_owned(), password: "sto:rageos".to_owned() };
        Guard::new(&credentials, &["panel.example.com".to_owned()])
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_names_that_no_stranger_can_own_are_hosts() {
        let ours = "127.0.0.1:5705 10.1.2.3 [::1]:5705 [fe80::1] localhost localhost:5705 LOCALHOST:1 app app.ns.svc:5705 \
                    app.ns.svc.cluster.local panel.example.com PANEL.example.com.:80 x.localhost";
        for host in ours.split(' ') {
            assert_eq!(guard().check_origin(&headers(&[("host", host)])), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.com",
            "127.0.0.1.evil.com",
            "panel.example.com.evil.com",
            "a:b",
            "localhost:99999",
            "[::1",
            "[x]",
            "[::1]x",
        ] {
            assert_eq!(guard().check_origin(&headers(&[("host", host)])), Err(Refusal::Host), "{host}");
        }
        assert_eq!(guard().check_origin(&HeaderMap::new()), Err(Refusal::Host));
        let mut two = headers(&[("host", "localhost")]);
        two.append(HOST, HeaderValue::from_static("evil.com"));
        assert_eq!(guard().check_origin(&two), Err(Refusal::Host));
    }

    #[test]
    fn only_our_own_page_may_ask() {
        let from = |name, value| guard().check_origin(&headers(&[("host", "localhost:5705"), (name, value)]));
        assert_eq!(from("origin", "http://localhost:5705"), Ok(()));
        assert_eq!(from("sec-fetch-site", "same-origin"), Ok(()));
        assert_eq!(from("sec-fetch-site", "none"), Ok(()));
        for origin in ["http://localhost", "http://evil.com", "null", "http://localhost:5705.evil.com", ""] {
            assert_eq!(from("origin", origin), Err(Refusal::Origin), "{origin}");
        }
        assert_eq!(from("sec-fetch-site", "cross-site"), Err(Refusal::Origin));
        assert_eq!(from("sec-fetch-site", "same-site"), Err(Refusal::Origin));
    }

    #[test]
    fn the_right_password_comes_in_and_guessing_is_stopped() {
        let guard = guard();
        let peer: IpAddr = "127.0.0.1".parse().unwrap();
        let now = Instant::now();
        let basic = |text: &str| headers(&[("authorization", &format!("bASIC {}", BASE64.encode(text.as_bytes())))]);
        let check = |headers: &HeaderMap, at: Instant| guard.check_credentials(headers, peer, at);
        assert_eq!(check(&basic("storageos:sto:rageos"), now), Ok(()));
        for odd in ["", "Basic", "Basic %%%", "Bearer abc", "Basic"] {
            assert_eq!(check(&headers(&[("authorization", odd)]), now), Err(Refusal::Credentials), "{odd}");
        }
        for wrong in ["storageos:", "storageos", "", ":", "storageos:sto:rageos ", "x:sto:rageos"] {
            assert_eq!(check(&basic(wrong), now), Err(Refusal::Credentials), "{wrong}");
        }
        for _ in 6..limits::API_FAILURES {
            assert_eq!(check(&basic("guess"), now), Err(Refusal::Credentials));
        }
        assert!(matches!(check(&basic("storageos:sto:rageos"), now), Err(Refusal::Patience(1..=61))));
        let other = "127.0.0.2".parse().unwrap();
        assert_eq!(guard.check_credentials(&basic("storageos:sto:rageos"), other, now), Ok(()));
        assert_eq!(check(&basic("storageos:sto:rageos"), now + limits::API_FAILURES_WINDOW), Ok(()));
    }
}
