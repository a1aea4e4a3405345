//! One request to Sentry: the way is decided by [`proxy`](super::proxy), TLS is always verified, every wait is bounded.

#![forbid(unsafe_code)]

use super::cause::{Way, deepest};
use super::dsn::Dsn;
use super::proxy::{self, Environment, Route};
use super::rate;
use super::retry::Answer;
use crate::consent::Granted;
use crate::limits;
use crate::sys::clock;
use std::io::Write as _;
use std::sync::Arc;

/// Of what a server says for itself, as far as a log line goes.
const DETAIL_CHARS: usize = 200;

/// A client for one destination.
pub struct Transport {
    client: reqwest::Client,
    pub dsn: Dsn,
    way: Way,
}

impl Transport {
    /// Fails when the proxy variables or the system's roots make no way there.
    pub fn new(dsn: Dsn) -> Result<Transport, String> {
        let way = way(dsn.envelope_url().as_str())?;
        Ok(Transport { client: client_by(&way)?, dsn, way })
    }

    /// How it goes there, for the log.
    pub fn route(&self) -> &Route {
        &self.way.route
    }

    /// Sends one envelope. Nobody gets here without permission.
    pub async fn send(&self, _permission: &Granted, envelope: &[u8]) -> Answer {
        let request = self
            .client
            .post(self.dsn.envelope_url())
            .header("X-Sentry-Auth", self.dsn.auth())
            .header("Content-Type", "application/x-sentry-envelope")
            .header("Content-Encoding", "gzip")
            .body(gzip(envelope));
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Answer::Unsent(self.way.clause(&error)),
            Err(error) => return Answer::Unanswered(self.way.clause(&error)),
        };
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let limits = header("X-Sentry-Rate-Limits").map(rate::limits).unwrap_or_default();
        let retry_after = header("Retry-After").and_then(|header| rate::retry_after(header, clock::unix_ms()));
        let code = response.status().as_u16();
        let detail = if (400..500).contains(&code) { detail(&mut response).await } else { None };
        Answer::Status { code, limits, retry_after, detail }
    }
}

/// The way that the proxy variables give to a URL. An error says why there is none.
pub fn way(url: &str) -> Result<Way, String> {
    let environment = Environment::from(|name| std::env::var_os(name));
    let route = proxy::decide(&environment, url)?;
    let parsed = url::Url::parse(url).map_err(|error| format!("{url} is no URL ({error})"))?;
    // reqwest 0.13 takes the brackets for a part of the name that the certificate has to be of: its issue 3094.
    if matches!(route, Route::Proxy(_))
        && parsed.scheme() == "https"
        && matches!(parsed.host(), Some(url::Host::Ipv6(_)))
    {
        return Err(format!(
            "{route} cannot be used for https to an IPv6 address: give the server a name, or list the address in NO_PROXY"
        ));
    }
    Ok(Way { url: parsed, route, connect: limits::CONNECT_TIMEOUT, whole: limits::REQUEST_TIMEOUT })
}

/// A client for one URL's host, by the way that the proxy variables give it.
pub fn client(url: &str) -> Result<reqwest::Client, String> {
    client_by(&way(url)?)
}

fn client_by(way: &Way) -> Result<reqwest::Client, String> {
    let speaks_tls =
        way.url.scheme() == "https" || matches!(&way.route, Route::Proxy(proxy) if proxy.scheme == "https");
    // Where nobody has to be trusted, roots that cannot be read are no obstacle.
    assemble(way, if speaks_tls { roots()? } else { rustls::RootCertStore::empty() })
}

/// No redirects: whoever answers is who was asked.
pub(super) fn assemble(way: &Way, roots: rustls::RootCertStore) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls(roots)?)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(way.connect)
        .timeout(way.whole)
        .user_agent(concat!("obit/", env!("CARGO_PKG_VERSION")));
    if let route @ Route::Proxy(url) = &way.route {
        let proxy = reqwest::Proxy::all(url.as_str()).map_err(|_| format!("{route} cannot be used"))?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| deepest(&error))
}

/// What an answer says for itself: Sentry's `{"detail": …, "causes": [ … ]}`, in one line. Nobody waits long for it.
async fn detail(response: &mut reqwest::Response) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Said {
        detail: String,
        #[serde(default)]
        causes: Vec<String>,
    }
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk[..chunk.len().min(limits::ANSWER_BYTES - body.len())]);
            if body.len() == limits::ANSWER_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(limits::DETAIL_TIMEOUT, read).await;
    let Said { detail, causes } = serde_json::from_slice(&body).ok()?;
    let said = std::iter::once(detail).chain(causes).collect::<Vec<_>>().join(": ");
    Some(said.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS).collect())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing into memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// The system's roots (SSL_CERT_FILE and SSL_CERT_DIR first); Mozilla's where an image has none.
fn roots() -> Result<rustls::RootCertStore, String> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        // Whoever names roots trusts no others.
        if let Some(name) = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find(|name| std::env::var_os(name).is_some())
        {
            let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(format!("{name} names no certificate that can be read{why}, so no server can be trusted"));
        }
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(roots)
}

fn tls(roots: rustls::RootCertStore) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up ({error})"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
