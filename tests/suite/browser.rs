//! A real browser, driven over WebDriver (w3.org/TR/webdriver2).

use crate::bed::wait_for;
use crate::client::ask;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Chromium without a screen; dropping it ends it.
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
}

/// A driver of browsers, and its address. It takes any port for IPv4 and then wants the same one for IPv6: where another
/// process has that, it ends, and the next one takes another port.
fn drive() -> (Child, String) {
    for _ in 0..10 {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let mut lines = BufReader::new(driver.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let mut said = Vec::new();
        for line in lines.by_ref() {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                let address = format!("127.0.0.1:{}", port.trim_end_matches('.'));
                // It goes on talking, and must be heard to the end.
                std::thread::spawn(move || lines.for_each(drop));
                return (driver, address);
            }
            said.push(line);
        }
        let status = driver.wait().expect("it can be waited for");
        eprintln!("chromedriver ended ({status}): {}", said.join(" / "));
    }
    panic!("chromedriver does not start");
}

impl Browser {
    pub fn start(profile: &Path) -> Browser {
        let (driver, address) = drive();
        let profile = format!("--user-data-dir={}", profile.display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
            &profile,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = ask(&address, "POST", "/session", &[], &wanted.to_string()).json();
        let session =
            answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}")).to_owned();
        Browser { driver, address, session }
    }

    fn call(&self, command: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        let answer = ask(&self.address, "POST", &path, &[], &body.to_string());
        assert_eq!(answer.status, 200, "{command}: {}", answer.body);
        answer.json()["value"].clone()
    }

    pub fn open(&self, url: &str) {
        self.call("url", &json!({ "url": url }));
    }

    /// The value of an expression in the page.
    pub fn eval(&self, expression: &str) -> Value {
        self.call("execute/sync", &json!({ "script": format!("return {expression}"), "args": [] }))
    }

    /// As a person would: at its place, if nothing is before it.
    pub fn click(&self, selector: &str) {
        let found = self.call("element", &json!({ "using": "css selector", "value": selector }));
        let element =
            found.as_object().and_then(|ids| ids.values().next()).and_then(Value::as_str).expect("an element");
        self.call(&format!("element/{element}/click"), &json!({}));
    }

    /// From now on the page has so many CSS pixels from left to right.
    pub fn is_wide(&self, pixels: u32) {
        let metrics = json!({ "width": pixels, "height": 800, "deviceScaleFactor": 1, "mobile": pixels < 500 });
        self.call("goog/cdp/execute", &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics }));
    }

    /// A key, held for a moment by whoever has the focus: its code point in WebDriver.
    pub fn press(&self, key: &str) {
        let keys = [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })];
        self.call("actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": keys }] }));
    }

    /// Waits until the expression is true; while the page changes there may be none to ask.
    pub fn until(&self, expression: &str) {
        let holds = || {
            (self.eval(&format!("(() => {{ try {{ return {expression} }} catch {{ return false }} }})()")) == true)
                .then_some(())
        };
        wait_for(holds).unwrap_or_else(|| panic!("never true: {expression}"));
    }

    /// What the browser's console says against the page: scripts that failed, what the policy forbade.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.call("se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().cloned().unwrap_or_default();
        let severe = entries.iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        severe.map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = ask(&self.address, "DELETE", &format!("/session/{}", self.session), &[], "");
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
