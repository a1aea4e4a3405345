//! The API and the page, asked over the real socket: who may ask, what they learn, and that PID 1 does not feel it.

use crate::bed::{Bed, Running, Setup, both, trial};
use crate::browser::Browser;
use crate::client::{Answer, ask, raw};
use crate::need::Need;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const CURL: &[Need] = &[Need::Tool("curl")];
const BROWSER: &[Need] = &[Need::Tool("chromium"), Need::Tool("chromedriver")];
/// Of init, for two hundred clients at once whom nobody serves yet. Three are needed, and not more for more clients; a few come
/// from elsewhere.
const COLD_WAKE_UPS: u64 = 6;
const SCHEMATHESIS: &[Need] = &[Need::Prepared { variable: "OBIT_TEST_SCHEMATHESIS", what: "schemathesis" }];
/// `storageos:storageos`, as the page has it.
const PAGES_OWN: &str = "authorization: Basic c3RvcmFnZW9zOnN0b3JhZ2Vvcw==";

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("the page's own curl call switches crash reports off, and they stay off", CURL, pages_call),
        trial("without the password only the probe is answered", &[], password),
        trial("a password that nobody chose is made, and only its owner can read it", &[], made_password),
        trial("an address that others reach needs a password that somebody chose", &[], open_address),
        trial("foreign pages and foreign names get nothing", &[], foreign),
        trial("what is too long or too slow is cut off", &[], limits),
        trial("every path of the OpenAPI document answers, and no other", &[], document),
        trial("a crash is told on the page and by its id, and its words are only words", &[], crash),
        trial("a choice that cannot be stored is refused", &[], unstorable),
        trial("whoever serves may be killed; the next one who asks is served", &[], killed),
        trial("whatever bytes come in whatever pieces, the one who serves goes on serving", &[], hostile),
        trial("in a browser a switch is thrown, seen, and still thrown after a restart", BROWSER, browser),
        trial("schemathesis finds nothing", SCHEMATHESIS, schemathesis),
    ];
    trials.extend(both("two hundred clients at once change nothing in init, and do not wake it up", &[], crowd));
    trials
}

/// A program that lives, with the API open and the page's credentials.
fn open(bed: &Bed) -> (Running, String) {
    open_in(bed, &bed.state())
}

fn open_in(bed: &Bed, state: &Path) -> (Running, String) {
    serving(bed, |setup| setup.env("OBIT_STATE_DIR", state))
}

/// The same, set up as it is needed.
pub fn serving(bed: &Bed, as_needed: impl FnOnce(Setup) -> Setup) -> (Running, String) {
    let setup = bed.run(&["--api", "127.0.0.1:0"], ["sleep", "1000"]);
    let run = as_needed(setup.env("USERNAME", "storageos").env("PASSWORD", "storageos")).start();
    let address = address(&run);
    (run, address)
}

pub fn address(run: &Running) -> String {
    run.complains("/, with the credentials");
    let stderr = run.stderr();
    let (_, rest) = stderr.split_once("http://").expect("the line that says where");
    rest.split_once('/').expect("an address").0.to_owned()
}

pub fn get(address: &str, path: &str) -> Answer {
    ask(address, "GET", path, &[PAGES_OWN], "")
}

fn put(address: &str, body: &str) -> Answer {
    ask(address, "PUT", "/v1/telemetry", &[PAGES_OWN, "content-type: application/json"], body)
}

fn pages_call(bed: &Bed) {
    let (run, address) = open(bed);
    // As it stands on the page, but for the port.
    let call = r#"curl -sS -X "PUT" "http://ADDRESS/v1/telemetry"        \
         -H 'Content-Type: application/json; charset=utf-8' \
         -u 'storageos:storageos'                           \
         -d $'{
             "telemetryEnabled": true,
             "reportErrors": false
         }'"#;
    let output = Command::new("bash").args(["-c", &call.replace("ADDRESS", &address)]).output().expect("bash");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&answer["telemetryEnabled"], &answer["reportErrors"]), (&true.into(), &false.into()));
    assert_eq!(answer["effective"]["errors"], false);
    run.complains("the API, user storageos switched crash reports off, the daily report on, the version query on");
    // A part of it leaves the rest as it is.
    assert_eq!(put(&address, r#"{"telemetryEnabled": false}"#).json()["reportErrors"], false);
    drop(run);
    let (_run, address) = open(bed);
    let answer = get(&address, "/v1/telemetry").json();
    assert_eq!((&answer["telemetryEnabled"], &answer["reportErrors"]), (&false.into(), &false.into()));
    let by = answer["channels"][0]["closedBy"][0]["by"].as_str().unwrap();
    assert!(by.starts_with("the choice of the API, user storageos at 2"), "{by}");
}

/// The API takes this choice, and the run is over.
pub fn switched(bed: &Bed, body: &str) {
    switched_in(bed, &bed.state(), body);
}

pub fn switched_in(bed: &Bed, state: &Path, body: &str) {
    let (run, address) = open_in(bed, state);
    assert_eq!(put(&address, body).status, 200);
    run.signal(Signal::SIGTERM);
    run.end();
}

fn password(bed: &Bed) {
    let (_run, address) = open(bed);
    assert_eq!(ask(&address, "GET", "/v1/health", &[], "").body, "{\"status\":\"ok\"}\n");
    for path in ["/", "/metrics", "/v1/crashes", "/v1/telemetry", "/panel.css", "/nothing"] {
        let answer = ask(&address, "GET", path, &[], "");
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.head.contains("www-authenticate: basic realm="), "{}", answer.head);
    }
    let wrong = "authorization: Basic c3RvcmFnZW9zOndyb25n";
    let statuses: Vec<u16> = (0..12).map(|_| ask(&address, "GET", "/v1/crashes", &[wrong], "").status).collect();
    assert_eq!(statuses, [[401; 10].as_slice(), &[429; 2]].concat());
    let answer = get(&address, "/v1/crashes");
    assert!(answer.status == 429 && answer.head.contains("retry-after: "), "{}", answer.head);
}

fn made_password(bed: &Bed) {
    let run = bed.run(&["--api", "127.0.0.1:0"], ["sleep", "1000"]).start();
    let address = address(&run);
    let file = bed.state().join("api-credentials");
    run.complains(&format!("with the credentials in {}", file.display()));
    let credentials = std::fs::read_to_string(&file).unwrap();
    let basic = data_encoding::BASE64.encode(credentials.trim_end().as_bytes());
    let answer = ask(&address, "GET", "/v1/version", &[&format!("authorization: Basic {basic}")], "");
    assert_eq!(answer.json()["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(ask(&address, "GET", "/v1/version", &[PAGES_OWN], "").status, 401);
}

fn open_address(bed: &Bed) {
    let run = bed.run(&["--api", "0.0.0.0:0"], ["sh", "-c", "exit 4"]).end();
    run.code(4)
        .complains("the API on 0.0.0.0:0 is not opened: others can reach that address and no password was chosen");
}

fn foreign(bed: &Bed) {
    let (_run, address) = open(bed);
    let with = |line: &str| ask(&address, "GET", "/v1/telemetry", &[PAGES_OWN, line], "").status;
    assert_eq!(with("host: evil.example"), 421);
    assert_eq!(with("host: app.ns.svc:5705"), 200);
    assert_eq!(with("origin: http://evil.example"), 403);
    assert_eq!(with(&format!("origin: http://{address}")), 200);
    assert_eq!(with("sec-fetch-site: cross-site"), 403);
    let answer = ask(&address, "OPTIONS", "/v1/telemetry", &[PAGES_OWN], "");
    assert!(answer.status == 405 && !answer.head.contains("access-control"), "{}", answer.head);
    let form = ask(&address, "PUT", "/v1/telemetry", &[PAGES_OWN, "content-type: text/plain"], "{}");
    assert_eq!(form.status, 415);
}

fn limits(bed: &Bed) {
    let (_run, address) = open(bed);
    assert_eq!(put(&address, &format!("{{{}}}", " ".repeat(70_000))).status, 413);
    assert_eq!(get(&address, &format!("/{}", "x".repeat(20_000))).status, 431);
    let long = format!("x: {}", "y".repeat(20_000));
    assert_eq!(ask(&address, "GET", "/v1/health", &[&long], "").status, 431);
    for body in ["", "[]", "{", "{\"reportErrors\": 1}", "{\"reportError\": false}", "{\"reportErrors\": false} x"] {
        assert_eq!(put(&address, body).status, 400, "{body}");
    }
    // The body never comes; then the head never ends.
    let head = format!("PUT /v1/telemetry HTTP/1.1\r\nhost: {address}\r\n{PAGES_OWN}\r\n");
    let late = raw(&address, &format!("{head}content-type: application/json\r\ncontent-length: 10\r\n\r\n{{"));
    assert_eq!(late.status, 408);
    assert_ne!(raw(&address, &head).status, 200);
    assert_eq!(get(&address, "/v1/telemetry").json()["reportErrors"], true);
}

fn document(bed: &Bed) {
    let (_run, address) = open(bed);
    let document = get(&address, "/v1/openapi.json").json();
    let paths = document["paths"].as_object().expect("paths");
    for (path, methods) in paths {
        let answer = get(&address, &path.replace("{id}", "00"));
        let expected = if path.contains("{id}") { 404 } else { 200 };
        assert_eq!(answer.status, expected, "{path}");
        assert!(methods["get"]["responses"].get(expected.to_string()).is_some(), "{path}");
        let refused = ask(&address, "DELETE", path, &[PAGES_OWN], "");
        assert_eq!(refused.status, 405, "{path}");
    }
    assert_eq!(paths.len(), 8);
    for path in ["/v1", "/v1/", "/v2/health", "/v1/health/x", "//", "/../v1/health", "/crashes/zz"] {
        assert_eq!(get(&address, path).status, 404, "{path}");
    }
}

fn crash(bed: &Bed) {
    let words = "<script>alert(1)</script> & more";
    let script = format!("echo '{words}' >&2; kill -SEGV $$");
    bed.run(&["--component", "<b>web</b>"], ["sh", "-c", &script]).end().code(139);
    let (_run, address) = open(bed);
    let list = get(&address, "/v1/crashes").json();
    let id = list[0]["event_id"].as_str().unwrap().to_owned();
    assert_eq!((&list[0]["kind"], &list[0]["component"]), (&"SIGSEGV".into(), &"<b>web</b>".into()));
    let report = get(&address, &format!("/v1/crashes/{}", &id[..6])).json();
    assert_eq!(report["event_id"], *id);
    for path in ["/", &format!("/crashes/{id}")] {
        let page = get(&address, path);
        assert!(page.body.contains("SIGSEGV") && page.body.contains("&lt;b&gt;web&lt;/b&gt;"), "{}", page.body);
        assert!(!page.body.contains("<script>alert") && !page.body.contains("<b>web"), "{}", page.body);
        assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    }
    assert!(get(&address, &format!("/crashes/{id}")).body.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; more"));
    let metrics = get(&address, "/metrics").body;
    assert!(metrics.contains("\nobit_crash_reports{state=\"pending\"} 1\n"), "{metrics}");
    assert_eq!(get(&address, "/v1/components").json()[0]["name"], "sleep");
}

fn unstorable(bed: &Bed) {
    let (_run, address) = open(bed);
    std::fs::create_dir(bed.state().join("consent.lock")).unwrap();
    let answer = put(&address, "{\"reportErrors\": false}");
    assert_eq!(answer.status, 503);
    assert!(answer.json()["message"].as_str().unwrap().contains("nothing has changed"), "{}", answer.body);
}

/// The one who serves, as we see it.
fn server(run: &Running) -> Option<i32> {
    let is_panel = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == "obit-panel")
    };
    run.children().into_iter().find(is_panel)
}

fn killed(bed: &Bed) {
    let (run, address) = open(bed);
    assert_eq!(ask(&address, "GET", "/v1/health", &[], "").status, 200);
    let first = run.until("somebody serves", || server(&run));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), Signal::SIGKILL).unwrap();
    run.until("it is gone", || (server(&run) != Some(first)).then_some(()));
    assert_eq!(ask(&address, "GET", "/v1/health", &[], "").status, 200);
}

/// A small generator: the same bytes in each run of the suite.
struct Noise(u64);

impl Noise {
    /// Below `n`.
    fn below(&mut self, n: usize) -> usize {
        // xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

fn hostile(bed: &Bed) {
    let (run, address) = open(bed);
    let ok = || ask(&address, "GET", "/v1/health", &[], "").status == 200;
    assert!(ok());
    let first = run.until("somebody serves", || server(&run));
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let whole = format!(
        "PUT /v1/telemetry HTTP/1.1\r\nhost: {address}\r\n{PAGES_OWN}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: 24\r\n\r\n{{\"telemetryEnabled\":true}}"
    );
    for n in 0..400 {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..noise.below(6) {
            let at = noise.below(bytes.len());
            match noise.below(4) {
                0 => bytes[at] = noise.below(256) as u8,
                1 => bytes.truncate(at + 1),
                2 => drop(bytes.drain(at..(at + noise.below(20)).min(bytes.len() - 1).max(at))),
                _ => (0..noise.below(40)).for_each(|_| bytes.insert(at, noise.below(256) as u8)),
            }
        }
        if n % 10 == 0 {
            bytes = (0..noise.below(3000)).map(|_| noise.below(256) as u8).collect();
        }
        let mut stream = TcpStream::connect(&address).expect("somebody listens");
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(crate::bed::DEADLINE)).unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + noise.below(rest.len()));
            // Whoever was answered already may have closed.
            let Ok(()) = stream.write_all(piece) else { break };
            rest = after;
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{n}: {}", String::from_utf8_lossy(&answer));
    }
    assert!(ok());
    assert_eq!(server(&run), Some(first), "it is still the same one");
    assert_eq!(run.stderr().matches("a fault of obit's own").count(), 0, "{}", run.stderr());
}

/// How often init has gone to sleep, which is how often it was woken up; asked for when it sleeps.
fn wake_ups(run: &Running) -> u64 {
    let pid = run.pid();
    let status = run.until("init sleeps", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.contains("\nState:\tS").then_some(status)
    });
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("a count");
    count.trim().parse().expect("a number")
}

/// Dirty memory in KiB, threads.
fn weight(pid: i32) -> (u64, u64) {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap()
    };
    // Its own pages, whether a worker that was forked from it is there to share them at this moment or not.
    let dirty = field("smaps_rollup", "Private_Dirty") + field("smaps_rollup", "Shared_Dirty");
    (dirty, field("status", "Threads"))
}

/// Two hundred clients at once, good ones, guesses and one in four that never ends its request.
fn two_hundred(address: &str) -> Vec<u16> {
    let clients: Vec<_> = (0..200)
        .map(|n| {
            let address = address.to_owned();
            std::thread::spawn(move || match n % 4 {
                0 => get(&address, "/").status,
                1 => ask(&address, "GET", "/", &["authorization: Basic eDp5"], "").status,
                2 => raw(&address, "GET / HT").status,
                _ => get(&address, "/v1/crashes").status,
            })
        })
        .collect();
    clients.into_iter().map(|client| client.join().unwrap()).collect()
}

fn crowd(bed: &Bed) {
    let (run, address) = open(bed);
    assert_eq!(ask(&address, "GET", "/v1/health", &[], "").status, 200);
    run.until("somebody serves", || server(&run));
    let before = (weight(run.pid()), wake_ups(&run));
    for _ in 0..2 {
        let statuses = two_hundred(&address);
        assert!(statuses.contains(&401), "{statuses:?}");
    }
    assert_eq!(ask(&address, "GET", "/v1/health", &[], "").status, 200);
    let after = (weight(run.pid()), wake_ups(&run));
    assert_eq!(after.0.1, 1);
    assert!(after.0.0 <= before.0.0 + 16, "{before:?} {after:?}");
    // Whoever serves has the socket: init is not even told that somebody has come.
    assert_eq!(after.1, before.1, "init was woken up");
    // When nobody serves, it is woken up to bury the last one, to look at the door again, and to let one in who serves them all.
    let last = run.until("somebody serves", || server(&run));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(last), Signal::SIGKILL).unwrap();
    let statuses = two_hundred(&address);
    assert!(statuses.contains(&401), "{statuses:?}");
    let woken = wake_ups(&run) - after.1;
    assert!((1..=COLD_WAKE_UPS).contains(&woken), "{woken} wake-ups for two hundred clients");
    run.signal(Signal::SIGTERM);
    assert!(run.end().took < Duration::from_secs(50));
}

fn browser(bed: &Bed) {
    bed.script("echo 'the end is near' >&2; kill -SEGV $$").end().code(139);
    // The version query is decided elsewhere.
    let held = |setup: Setup| setup.env("DISABLE_VERSION_CHECK", "1");
    let (run, address) = serving(bed, held);
    let browser = Browser::start(&bed.path("browser"));
    let page = format!("http://storageos:storageos@{address}/");
    let switch = "document.querySelector('[data-name=reportErrors]')";
    browser.open(&page);
    assert_eq!(browser.eval("document.querySelectorAll('h2').length"), 4);
    assert_eq!(browser.eval(&format!("{switch}.getAttribute('aria-checked')")), "true");
    browser.until(&format!("{switch}.disabled === false"));
    assert_eq!(browser.eval("document.querySelector('[data-name=versionCheck]').disabled"), true);
    let why = browser.eval("document.querySelector('#switch-dns-why').textContent");
    let why = why.as_str().unwrap();
    assert!(
        why.contains("Closed by DISABLE_VERSION_CHECK=1. This cannot be changed here: it is decided by the env"),
        "{why}"
    );
    // As narrow as a telephone: the page does not scroll sideways, its tables do, and by the keyboard too.
    browser.is_wide(360);
    assert_eq!(browser.eval("document.documentElement.scrollWidth"), 360);
    let table = "document.querySelector('[role=region][tabindex=\"0\"][aria-label^=Deaths]')";
    assert_eq!(browser.eval(&format!("{table}.scrollWidth > {table}.clientWidth")), true);
    browser.eval(&format!("{table}.focus()"));
    browser.press("\u{e014}");
    browser.until(&format!("{table}.scrollLeft > 0 && document.activeElement === {table}"));
    browser.is_wide(1280);
    browser.click("[data-name=reportErrors]");
    browser.until(&format!("{switch}.getAttribute('aria-checked') === 'false'"));
    assert_eq!(get(&address, "/v1/telemetry").json()["channels"][0]["open"], false);
    let why = browser.eval("document.querySelector('#switch-errors-why').textContent");
    assert!(why.as_str().unwrap().contains("Closed by the choice of the API, user storageos at"), "{why}");
    browser.click("tbody a");
    browser.until("location.pathname.startsWith('/crashes/')");
    browser.until("[...document.querySelectorAll('pre')].some(pre => pre.textContent === 'the end is near')");
    drop(run);
    let (_run, address) = serving(bed, held);
    browser.open(&format!("http://storageos:storageos@{address}/"));
    assert_eq!(browser.eval(&format!("{switch}.getAttribute('aria-checked')")), "false");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

fn schemathesis(bed: &Bed) {
    bed.script("exit 3").end().code(3);
    let (_run, address) = open(bed);
    let output = Command::new(std::env::var_os("OBIT_TEST_SCHEMATHESIS").expect("needed"))
        .args(["run", &format!("http://{address}/v1/openapi.json"), "--auth", "storageos:storageos"])
        .args(["--max-examples", "20", "--seed", "1", "--no-color"])
        .current_dir(bed.path(""))
        .output()
        .expect("schemathesis");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
