//! The version of Kubernetes, asked of the API server by the way that every pod is given.
//!
//! Only for a version question that is about to leave and that tells the distribution; who does not set `k8sDistro` never
//! has the API server asked.

#![forbid(unsafe_code)]

use crate::consent::Granted;
use crate::limits;
use crate::sys::regular;
use std::path::Path;
use std::sync::Arc;

/// Where the kubelet puts what a pod needs to reach the API server.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// `/version` is some 300 bytes.
const ANSWER_BYTES: usize = 64 * 1024;
/// Certificates of a cluster, or a token.
const FILE_BYTES: u64 = 1024 * 1024;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

/// `gitVersion` of the API server's `/version`; an error says why there is none.
pub async fn version(_permission: &Granted) -> Result<String, String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let host = variable("KUBERNETES_SERVICE_HOST").ok_or("KUBERNETES_SERVICE_HOST is not set: this is no pod")?;
    let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    ask(&format!("https://{host}:{port}/version"), Path::new(ACCOUNT)).await
}

async fn ask(url: &str, account: &Path) -> Result<String, String> {
    let certificates = read(&account.join("ca.crt"))?;
    // The address is inside of the cluster: no proxy reaches it.
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls(&certificates)?)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(limits::CONNECT_TIMEOUT)
        .timeout(limits::KUBERNETES_TIMEOUT)
        .user_agent(concat!("obit/", env!("CARGO_PKG_VERSION")))
        .build();
    let failed = |error: reqwest::Error| format!("the API server does not tell its version ({error})");
    let mut request = client.map_err(failed)?.get(url);
    // `/version` is open to all unless anonymous requests are switched off.
    if let Ok(token) = read(&account.join("token")) {
        request = request.bearer_auth(token.trim());
    }
    let mut response = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_BYTES {
            return Err("the API server tells more than a version".to_owned());
        }
    }
    let version: Version = serde_json::from_slice(&body)
        .map_err(|error| format!("the API server tells its version in a form that is not understood ({error})"))?;
    Ok(version.git_version)
}

fn read(path: &Path) -> Result<String, String> {
    regular::read_text(path, FILE_BYTES).map_err(|error| format!("{} cannot be read ({error})", path.display()))
}

/// Trusts the cluster's own authority and nobody else.
fn tls(certificates: &str) -> Result<rustls::ClientConfig, String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(certificates.as_bytes()).filter_map(Result::ok));
    if roots.is_empty() {
        return Err("the cluster's ca.crt holds no certificate".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up ({error})"))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
