//! Which name servers are asked: those of resolv.conf(5), as the C library would ask them, or those that were given.
//!
//! Search list and `ndots` are not read at all: the question is an absolute name, and nobody else's zone is to hear it.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

/// resolv.conf(5), MAXNS: further ones are not asked.
const SERVERS: usize = 3;
/// resolv.conf(5): RES_MAXRETRANS and RES_MAXRETRY, the bounds of `timeout` and `attempts`.
const TIMEOUT_MAX_S: u64 = 30;
const ATTEMPTS_MAX: u32 = 5;
const PORT: u16 = 53;
/// More of the file is not read.
const FILE_BYTES: u64 = 64 * 1024;

/// The servers in their order, and how patient to be with them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Servers {
    pub addresses: Vec<SocketAddr>,
    /// For one try of one server.
    pub timeout: Duration,
    pub attempts: u32,
    /// Begin with any of them, not always with the first.
    pub rotate: bool,
    /// `use-vc`: TCP from the start.
    pub tcp_only: bool,
}

impl Servers {
    fn none() -> Servers {
        Servers { addresses: Vec::new(), timeout: Duration::from_secs(5), attempts: 2, rotate: false, tcp_only: false }
    }

    /// The system's. A file that is not there leaves the one on this host, as resolv.conf(5) says.
    pub fn system() -> Servers {
        let mut text = String::new();
        if let Ok(file) = std::fs::File::open(Path::new("/etc/resolv.conf")) {
            let _ = std::io::Read::read_to_string(&mut std::io::Read::take(file, FILE_BYTES), &mut text);
        }
        Servers::parse(&text, |name| nix::net::if_::if_nametoindex(name).ok())
    }

    /// What resolv.conf says; `scope` finds an interface's number by its name.
    fn parse(text: &str, scope: impl Fn(&str) -> Option<u32>) -> Servers {
        let mut servers = Servers::none();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if servers.addresses.len() < SERVERS => {
                    servers.addresses.extend(words.next().and_then(|word| address(word, &scope)));
                }
                Some("options") => words.for_each(|word| servers.option(word)),
                _ => {}
            }
        }
        if servers.addresses.is_empty() {
            servers.addresses.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        servers
    }

    fn option(&mut self, word: &str) {
        match word.split_once(':') {
            Some(("timeout", n)) => {
                let seconds = n.parse().unwrap_or(5).clamp(1, TIMEOUT_MAX_S);
                self.timeout = Duration::from_secs(seconds);
            }
            Some(("attempts", n)) => self.attempts = n.parse().unwrap_or(2).clamp(1, ATTEMPTS_MAX),
            None if word == "rotate" => self.rotate = true,
            None if word == "use-vc" => self.tcp_only = true,
            _ => {}
        }
    }

    /// `192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]:53`, `fe80::1%eth0`, with commas between them.
    pub fn given(text: &str) -> Result<Servers, String> {
        let scope = |name: &str| nix::net::if_::if_nametoindex(name).ok();
        let one = |word: &str| {
            let socket = word.parse().ok().or_else(|| address(word, scope));
            socket.ok_or_else(|| {
                format!("{word:?} is no name server; write 192.0.2.1, 192.0.2.1:5353 or [2001:db8::1]:53")
            })
        };
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let addresses = words.map(one).collect::<Result<Vec<_>, _>>()?;
        // Who names a server knows it to be near.
        Ok(Servers { addresses, timeout: Duration::from_secs(1), ..Servers::none() })
    }
}

fn address(word: &str, scope: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let (text, zone) = word.split_once('%').map_or((word, None), |(text, zone)| (text, Some(zone)));
    let zone = match zone {
        None => 0,
        Some(zone) => zone.parse().ok().or_else(|| scope(zone))?,
    };
    match text.parse().ok()? {
        IpAddr::V4(ip) => Some(SocketAddr::new(ip.into(), PORT)),
        IpAddr::V6(ip) => Some(SocketAddrV6::new(Ipv6Addr::from(ip.octets()), PORT, 0, zone).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Servers {
        Servers::parse(text, |name| (name == "eth0").then_some(7))
    }

    fn shown(servers: &Servers) -> Vec<String> {
        servers.addresses.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn servers_and_options_are_read_and_the_search_list_is_not() {
        let servers = parsed(
            "# by hand\nsearch svc.cluster.local cluster.local\nnameserver 10.96.0.10\nnameserver\tfe80::1%eth0\n\
             nameserver fe80::2%wlan9\n;nameserver 192.0.2.9\nnameserver 2001:db8::1 # third\nnameserver 192.0.2.4\n\
             options ndots:5 timeout:2 attempts:9 rotate use-vc\n",
        );
        assert_eq!(shown(&servers), ["10.96.0.10:53", "[fe80::1%7]:53", "[2001:db8::1]:53"]);
        assert_eq!(
            (servers.timeout, servers.attempts, servers.rotate, servers.tcp_only),
            (Duration::from_secs(2), ATTEMPTS_MAX, true, true)
        );
    }

    #[test]
    fn without_a_server_the_one_on_this_host_is_asked() {
        for text in ["", "nameserver\n", "nameserver what\n"] {
            let servers = parsed(text);
            assert_eq!(shown(&servers), ["127.0.0.1:53"]);
            assert_eq!((servers.timeout, servers.attempts), (Duration::from_secs(5), 2));
        }
        let servers = parsed("options timeout:0 attempts:x\n");
        assert_eq!((servers.timeout, servers.attempts), (Duration::from_secs(1), 2));
    }

    #[test]
    fn given_servers_have_ports_if_they_like() {
        let servers = Servers::given("192.0.2.1, 192.0.2.1:5353,[2001:db8::1]:54,2001:db8::2").unwrap();
        assert_eq!(shown(&servers), ["192.0.2.1:53", "192.0.2.1:5353", "[2001:db8::1]:54", "[2001:db8::2]:53"]);
        assert!(Servers::given("dns.example.com").unwrap_err().contains("is no name server"));
    }
}
