//! Why a request brought no answer, in one clause: who could not be reached or did not answer, and the cause. It is found in the
//! chain of errors that the HTTP library wraps around it, of which nobody wants to read more.

#![forbid(unsafe_code)]

use super::proxy::Route;
use rustls::{AlertDescription, CertificateError};
use std::error::Error;
use std::io;
use std::time::Duration;
use url::Url;

/// The way that was tried, and how long it had.
#[derive(Clone, Debug)]
pub struct Way {
    pub url: Url,
    pub route: Route,
    /// For a connection.
    pub connect: Duration,
    /// For all of it.
    pub whole: Duration,
}

impl Way {
    /// The clause for an error of a request that went this way.
    pub fn clause(&self, error: &reqwest::Error) -> String {
        let causes = || chain(error);
        let says = |words: &str| causes().any(|cause| cause.to_string() == words);
        let server = self.server();
        // The first hop: the proxy's own connection, or all of plain HTTP by way of it.
        let through = matches!(self.route, Route::Proxy(_));
        let tunnelled = through && self.url.scheme() == "https";
        let of_proxy = says("tunnel error: failed to create underlying connection");
        let who = if through && (!tunnelled || of_proxy) { format!("the {}", self.route) } else { server.clone() };
        if says("tunnel error: proxy authorization required") {
            return format!("the {} wants a name and a password (407)", self.route);
        }
        if let Some(cause) =
            causes().map(ToString::to_string).find_map(|text| text.strip_prefix("SOCKS error: ").map(str::to_owned))
        {
            return format!("the {} does not lead to {server} ({cause})", self.route);
        }
        if says("tunnel error: unsuccessful") {
            return format!("the {} does not let us through to {server}", self.route);
        }
        if says("dns error") {
            let host = who.rsplit_once(':').map_or(&*who, |(host, _)| host);
            let why = deepest(error).replace("failed to lookup address information: ", "");
            return format!("the name of {host} cannot be resolved ({why})");
        }
        if let Some(why) = causes().find_map(tls) {
            return format!("no TLS with {who}: {}", self.tls_clause(why));
        }
        if says("tls handshake eof") {
            return format!("no TLS with {who}: it closed the connection before TLS was agreed on");
        }
        if error.is_timeout() && error.is_connect() {
            return format!("no connection to {who} within {}", seconds(self.connect));
        }
        if error.is_timeout() {
            return format!("{who} did not answer within {}", seconds(self.whole));
        }
        if error.is_connect() {
            let told = causes().find_map(of_system).map_or_else(|| deepest(error), in_words);
            return match says("tunnel error: unexpected end of file")
                || says("tunnel error: io error establishing tunnel")
            {
                true => format!("the {} closed the connection before it led to {server}", self.route),
                false => format!("no connection to {who} ({told})"),
            };
        }
        let closed =
            causes().any(|cause| cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message));
        match causes().find_map(of_system) {
            Some(broken) => format!("{who} broke off before it answered ({})", in_words(broken)),
            None if closed => format!("{who} closed the connection before it answered"),
            None => format!("{who} gave no answer ({})", deepest(error)),
        }
    }

    /// `host:port`.
    fn server(&self) -> String {
        let port = self.url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", self.url.host_str().unwrap_or_default())
    }

    fn tls_clause(&self, why: &rustls::Error) -> String {
        match why {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
                CertificateError::NotValidForNameContext { expected, presented } => format!(
                    "its certificate is for {}, not for {}",
                    presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", "),
                    expected.to_str()
                ),
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "its certificate has expired".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "its certificate is not valid yet (is the clock right?)".to_owned()
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "its certificate is signed by nobody that is trusted here (see SSL_CERT_FILE)".to_owned()
                }
                other => format!("its certificate is not accepted ({other})"),
            },
            rustls::Error::InvalidMessage(_) => "it does not speak TLS on that port".to_owned(),
            rustls::Error::AlertReceived(AlertDescription::UnrecognisedName) => "it does not know that name".to_owned(),
            other => other.to_string(),
        }
    }
}

/// rustls writes names as `DnsName("a.test")`.
fn bare(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

/// What TLS says. An I/O error does not tell the one that it carries as its source, and may carry another I/O error.
fn tls<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let inside = |error: &'a io::Error| -> Option<&'a (dyn Error + 'static)> { Some(error.get_ref()?) };
    let carried = |cause: &&'a (dyn Error + 'static)| cause.downcast_ref::<io::Error>().and_then(inside);
    std::iter::successors(Some(cause), carried).find_map(|cause| cause.downcast_ref::<rustls::Error>())
}

/// What the kernel says.
fn of_system<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    cause.downcast_ref::<io::Error>().filter(|error| error.raw_os_error().is_some())
}

/// `connection refused`.
fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(&*text, |(text, _)| text);
    text.chars().take(1).flat_map(char::to_lowercase).chain(text.chars().skip(1)).collect()
}

/// The error that all the others only pass on.
pub fn deepest(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// An error and its causes.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        error.source()
    })
}

fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) { format!("{} ms", time.as_millis()) } else { format!("{} s", time.as_secs()) }
}

#[cfg(test)]
mod tests;
