//! A Sentry DSN taken apart: `scheme://key@host[:port][/path]/project`.

#![forbid(unsafe_code)]

use std::fmt;
use url::Url;

/// Where reports go, and the key that lets them in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dsn {
    url: Url,
    pub public_key: String,
    pub project: String,
}

impl Dsn {
    /// Says which part is wrong; the key is never part of the sentence.
    pub fn parse(text: &str) -> Result<Dsn, String> {
        let url = Url::parse(text.trim()).map_err(|error| format!("the DSN is no URL ({error})"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("the DSN's scheme is {:?}, not http or https", url.scheme()));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the DSN has no host".to_owned());
        }
        let public_key = url.username().to_owned();
        if public_key.is_empty() {
            return Err("the DSN has no key before the @".to_owned());
        }
        let project = url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        if project.is_empty() {
            return Err("the DSN has no project at its end".to_owned());
        }
        Ok(Dsn { url, public_key, project })
    }

    /// `scheme://host[:port][/path]/api/PROJECT/envelope/`.
    pub fn envelope_url(&self) -> Url {
        let mut url = self.url.clone();
        let prefix = url.path().trim_end_matches('/').rsplit_once('/').map_or("", |(prefix, _)| prefix).to_owned();
        url.set_path(&format!("{prefix}/api/{}/envelope/", self.project));
        url.set_query(None);
        url.set_fragment(None);
        // Both fail only for URLs without a host, which `parse` refused.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url
    }

    /// The header X-Sentry-Auth.
    pub fn auth(&self) -> String {
        format!(
            "Sentry sentry_version=7, sentry_client=obit/{}, sentry_key={}",
            env!("CARGO_PKG_VERSION"),
            self.public_key
        )
    }
}

/// Without the key.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.envelope_url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_leads_to_its_envelope_endpoint() {
        let table = [
            ("https://k@o1.example.test/42", "https://o1.example.test/api/42/envelope/"),
            ("http://k:secret@127.0.0.1:9000/a/b/7/", "http://127.0.0.1:9000/a/b/api/7/envelope/"),
        ];
        for (text, url) in table {
            let dsn = Dsn::parse(text).unwrap();
            assert_eq!(dsn.to_string(), url);
            assert_eq!(dsn.public_key, "k");
        }
    }

    #[test]
    fn each_mistake_names_its_part() {
        let table = [
            ("nonsense", "the DSN is no URL (relative URL without a base)"),
            ("ftp://k@h/1", "the DSN's scheme is \"ftp\", not http or https"),
            ("https://h/1", "the DSN has no key before the @"),
            ("https://k@h/", "the DSN has no project at its end"),
        ];
        for (text, sentence) in table {
            assert_eq!(Dsn::parse(text).unwrap_err(), sentence);
        }
    }
}
