//! GET with a deadline, a bound and a login, for the two inventories that are asked over HTTP.
//!
//! A reason never holds a URL, a host or a credential: it goes into the report.

#![forbid(unsafe_code)]

use super::bounded;
use crate::deliver::transport;
use crate::limits;
use std::fmt;
use tokio::time::Instant;
use url::Url;

/// Who we are to the API.
#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:…", self.user)
    }
}

/// An API that is asked several times.
pub struct Api {
    client: reqwest::Client,
    base: Url,
    login: Option<Login>,
    /// Taken in place of the password, once the API wanted that.
    token: Option<String>,
    deadline: Instant,
}

impl Api {
    pub fn new(base: Url, login: Option<Login>, deadline: Instant) -> Result<Api, String> {
        let client =
            transport::client(base.as_str()).map_err(|_| "the proxy for the inventory cannot be used".to_owned())?;
        Ok(Api { client, base, login, token: None, deadline })
    }

    /// The body of the answer at a path below the base.
    pub async fn get(&mut self, path: &str) -> Result<Vec<u8>, String> {
        let url = self.at(path)?;
        self.get_url(url).await
    }

    pub async fn get_url(&mut self, url: Url) -> Result<Vec<u8>, String> {
        match self.ask(url.clone()).await {
            Err(Refusal::Unauthorised) if self.token.is_none() && self.login.is_some() => {
                self.log_in().await?;
                self.ask(url).await.map_err(Refusal::into_sentence)
            }
            answer => answer.map_err(Refusal::into_sentence),
        }
    }

    fn at(&self, path: &str) -> Result<Url, String> {
        let mut url = self.base.clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}{path}"));
        Ok(url)
    }

    async fn ask(&self, url: Url) -> Result<Vec<u8>, Refusal> {
        let mut request = self.client.get(url).header("Accept", "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        } else if let Some(login) = &self.login {
            request = request.basic_auth(&login.user, Some(&login.password));
        }
        self.read(request).await
    }

    /// POST /v1/auth/login, whose token goes with all later questions.
    async fn log_in(&mut self) -> Result<(), String> {
        #[derive(serde::Deserialize)]
        struct Token {
            token: String,
        }
        let Some(login) = &self.login else { return Ok(()) };
        let body = serde_json::json!({"username": login.user, "password": login.password}).to_string();
        let request =
            self.client.post(self.at("/v1/auth/login")?).header("Content-Type", "application/json").body(body);
        let answer = self.read(request).await.map_err(Refusal::into_sentence)?;
        let token: Token =
            serde_json::from_slice(&answer).map_err(|_| "the inventory's login gave no token".to_owned())?;
        self.token = Some(token.token);
        Ok(())
    }

    async fn read(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, Refusal> {
        let asked = async {
            let mut answer = request.send().await.map_err(|_| Refusal::Unreachable)?;
            match answer.status().as_u16() {
                200..=299 => {}
                401 => return Err(Refusal::Unauthorised),
                code => return Err(Refusal::Answered(code)),
            }
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(|_| Refusal::Broke)? {
                body.extend_from_slice(&chunk);
                if body.len() > limits::INVENTORY_BYTES {
                    break;
                }
            }
            bounded(body).map_err(Refusal::TooLarge)
        };
        let until = self.deadline.min(Instant::now() + limits::INVENTORY_REQUEST);
        tokio::time::timeout_at(until, asked).await.unwrap_or(Err(Refusal::TooSlow))
    }
}

/// Why there is no answer.
enum Refusal {
    Unreachable,
    Unauthorised,
    Answered(u16),
    Broke,
    TooSlow,
    TooLarge(String),
}

impl Refusal {
    fn into_sentence(self) -> String {
        match self {
            Refusal::Unreachable => "the inventory cannot be reached".to_owned(),
            Refusal::Unauthorised => "the inventory wants other credentials (401)".to_owned(),
            Refusal::Answered(code) => format!("the inventory answered {code}"),
            Refusal::Broke => "the inventory's answer broke off".to_owned(),
            Refusal::TooSlow => "the inventory did not answer in time".to_owned(),
            Refusal::TooLarge(sentence) => sentence,
        }
    }
}
