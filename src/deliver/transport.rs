//! One request to Sentry: the way is decided by [`proxy`](super::proxy), TLS is always verified, every wait is bounded.

#![forbid(unsafe_code)]

use super::dsn::Dsn;
use super::proxy::{self, Environment, Route};
use super::retry::{self, Answer};
use crate::consent::Granted;
use crate::limits;
use std::io::Write as _;
use std::sync::Arc;

/// A client for one destination.
pub struct Transport {
    client: reqwest::Client,
    dsn: Dsn,
    /// How it goes there, for the log.
    pub route: Route,
}

impl Transport {
    /// Fails when the proxy variables or the system's roots make no way there.
    pub fn new(dsn: Dsn) -> Result<Transport, String> {
        let environment = Environment::from(|name| std::env::var_os(name));
        let route = proxy::decide(&environment, dsn.envelope_url().as_str())?;
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .tls_backend_preconfigured(tls()?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(limits::CONNECT_TIMEOUT)
            .timeout(limits::REQUEST_TIMEOUT)
            .user_agent(concat!("obit/", env!("CARGO_PKG_VERSION")));
        if let Route::Proxy(url) = &route {
            let proxy = reqwest::Proxy::all(url.as_str()).map_err(|_| format!("{route} cannot be used"))?;
            builder = builder.proxy(proxy);
        }
        let client = builder.build().map_err(|error| chain(&error))?;
        Ok(Transport { client, dsn, route })
    }

    /// Sends one envelope. Nobody gets here without permission.
    pub async fn send(&self, _permission: &Granted, envelope: &[u8], category: &str) -> Answer {
        let request = self
            .client
            .post(self.dsn.envelope_url())
            .header("X-Sentry-Auth", self.dsn.auth())
            .header("Content-Type", "application/x-sentry-envelope")
            .header("Content-Encoding", "gzip")
            .body(gzip(envelope));
        match request.send().await {
            Ok(response) => {
                let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
                let stay_away = retry::stay_away(header("X-Sentry-Rate-Limits"), header("Retry-After"), category);
                Answer::Status { code: response.status().as_u16(), stay_away }
            }
            Err(error) => Answer::Nothing(chain(&error.without_url())),
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing into memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// The system's roots (SSL_CERT_FILE and SSL_CERT_DIR first); Mozilla's where an image has none.
fn tls() -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up ({error})"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// An error with its causes, which is where reqwest keeps what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
