//! Go's rules as a table: what is set, where the request goes, and the line that `obit doctor --proxy-for` prints.

use super::*;

fn route(vars: &[(&str, &str)], url: &str) -> String {
    let environment = Environment::from(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()));
    match decide(&environment, url) {
        Ok(route) => route.to_string(),
        Err(text) => format!("error {text}"),
    }
}

const CGI: &str = "error refusing to use HTTP_PROXY value in CGI environment; see golang.org/s/cgihttpproxy";

#[test]
fn the_variables_are_read_as_go_reads_them() {
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let p = ("HTTPS_PROXY", "http://p.test:3128");
    let table: &[Row<'_>] = &[
        (&[], "https://h.test/", "direct"),
        (&[], "http://h.test/", "direct"),
        (&[p], "https://h.test/", "proxy http://p.test:3128"),
        (&[p], "HTTPS://h.test/", "proxy http://p.test:3128"),
        (&[p], "http://h.test/", "direct"),
        (&[("HTTP_PROXY", "p.test:3128")], "https://h.test/", "direct"),
        (&[("HTTP_PROXY", "p.test:3128")], "http://h.test/", "proxy http://p.test:3128"),
        (&[("http_proxy", "p.test")], "http://h.test/", "proxy http://p.test"),
        (&[("https_proxy", "p.test")], "https://h.test/", "proxy http://p.test"),
        (&[("HTTP_PROXY", ""), ("http_proxy", "p.test")], "http://h.test/", "proxy http://p.test"),
        (&[("HTTPS_PROXY", ""), ("https_proxy", "p.test")], "https://h.test/", "proxy http://p.test"),
        (&[("HTTP_PROXY", "up.test"), ("http_proxy", "low.test")], "http://h.test/", "proxy http://up.test"),
        (&[p, ("NO_PROXY", ""), ("no_proxy", "h.test")], "https://h.test/", "direct"),
        (&[p, ("NO_PROXY", "x.test"), ("no_proxy", "h.test")], "https://h.test/", "proxy http://p.test:3128"),
        (&[("ALL_PROXY", "http://p.test")], "https://h.test/", "direct"),
        (&[("all_proxy", "http://p.test")], "http://h.test/", "direct"),
        (&[p, ("HTTP_PROXY", "q.test")], "ftp://h.test/", "direct"),
        (&[p, ("HTTP_PROXY", "q.test")], "wss://h.test/", "direct"),
        (&[p, ("REQUEST_METHOD", "GET")], "https://h.test/", "proxy http://p.test:3128"),
        (&[("HTTP_PROXY", "p.test"), ("REQUEST_METHOD", "")], "http://h.test/", "proxy http://p.test"),
        (&[("HTTP_PROXY", "p.test"), ("REQUEST_METHOD", "GET")], "http://h.test/", CGI),
        (&[("http_proxy", "p.test"), ("REQUEST_METHOD", "GET")], "http://h.test/", CGI),
        (&[("HTTP_PROXY", "p.test"), ("REQUEST_METHOD", "GET")], "http://localhost/", CGI),
        (&[("HTTP_PROXY", "p.test"), ("REQUEST_METHOD", "GET"), ("NO_PROXY", "*")], "http://h.test/", CGI),
        (&[("HTTPS_PROXY", "p.test"), ("REQUEST_METHOD", "GET")], "http://h.test/", "direct"),
    ];
    for (vars, url, expected) in table {
        assert_eq!(route(vars, url), *expected, "{vars:?} {url}");
    }
}

#[test]
fn a_proxy_is_a_url_or_a_host_and_is_shown_as_it_was_written() {
    let table = [
        ("p", "proxy http://p"),
        ("localhost", "proxy http://localhost"),
        ("10.0.0.9:8080", "proxy http://10.0.0.9:8080"),
        ("[2001:db8::9]:8080", "proxy http://[2001:db8::9]:8080"),
        ("p.test:80", "proxy http://p.test:80"),
        ("http://p.test:80", "proxy http://p.test:80"),
        ("http://p.test/", "proxy http://p.test/"),
        ("http://P.Test", "proxy http://P.Test"),
        ("HTTP://p.test", "proxy http://p.test"),
        ("https://p.test:3129", "proxy https://p.test:3129"),
        ("socks5://p.test:1080", "proxy socks5://p.test:1080"),
        ("socks5h://p.test", "proxy socks5h://p.test"),
        ("foo://p.test", "proxy foo://p.test"),
        ("http://u:pw@p.test:1", "proxy http://u:xxxxx@p.test:1"),
        ("u:pw@p.test:1", "proxy http://u:xxxxx@p.test:1"),
        ("http://u@p.test", "proxy http://u@p.test"),
        ("http://p.test/path?query", "proxy http://p.test/path?query"),
        ("http://p_x.test", "proxy http://p_x.test"),
        ("foo:bar", "proxy foo:bar"),
        ("http://p.test:port", "proxy http://http://p.test:port"),
        ("http://p.test:3128 ", "proxy http://http://p.test:3128 "),
        ("http://[bad", "proxy http://http://[bad"),
        ("[bad", "proxy [bad"),
        ("h^t", "proxy h^t"),
        ("p.test:port", "proxy p.test:port"),
        ("p test", "proxy p test"),
        (":bad", "direct"),
        ("%zz", "direct"),
        ("http://h\n", "direct"),
    ];
    for (value, expected) in table {
        // Some rows are junk that Go turns into a URL nobody can connect to: that fails, it does not go around the proxy.
        assert_eq!(route(&[("HTTP_PROXY", value)], "http://h.test/"), expected, "{value}");
    }
}

#[test]
fn loopback_is_never_proxied_and_its_disguises_are() {
    for host in ["localhost", "localhost:8080", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:9", "[::ffff:127.0.0.1]"] {
        assert_eq!(route(&[("HTTP_PROXY", "p.test")], &format!("http://{host}/")), "direct", "{host}");
    }
    let proxied = [
        "LOCALHOST",
        "Localhost",
        "localhost.",
        "x.localhost",
        "localhost.test",
        "127.1",
        "0x7f.0.0.1",
        "0.0.0.0",
        "2130706433",
        "127.0.0.01",
        "10.0.0.1",
        "[::2]",
        "[::]",
        "169.254.1.1",
    ];
    for host in proxied {
        assert_eq!(route(&[("HTTP_PROXY", "p.test")], &format!("http://{host}/")), "proxy http://p.test", "{host}");
    }
}

/// (NO_PROXY, the URL, whether it goes around the proxy)
const NO_PROXY: &[(&str, &str, bool)] = &[
    ("h.test", "http://h.test/", true),
    ("h.test", "http://a.h.test/", true),
    ("h.test", "http://a.b.h.test/", true),
    ("h.test", "http://xh.test/", false),
    ("h.test", "http://h.test.example/", false),
    ("h.test", "http://H.TEST/", true),
    ("H.TEST", "http://h.test/", true),
    ("h.test", "http://h.test./", false),
    ("h.test.", "http://h.test/", false),
    (".h.test", "http://h.test/", false),
    (".h.test", "http://a.h.test/", true),
    ("*.h.test", "http://a.b.h.test/", true),
    ("*.h.test", "http://h.test/", false),
    ("*h.test", "http://h.test/", false),
    ("*h.test", "http://ah.test/", false),
    ("a.*.test", "http://a.h.test/", false),
    ("test", "http://h.test/", true),
    ("x.test, h.test ,y.test", "http://h.test/", true),
    ("\tx.test,\th.test\t", "http://h.test/", true),
    ("x.test h.test", "http://h.test/", false),
    ("x.test;h.test", "http://h.test/", false),
    (",", "http://h.test/", false),
    (",,h.test", "http://h.test/", true),
    ("h.test:80", "http://h.test/", true),
    ("h.test:80", "http://h.test:80/", true),
    ("h.test:80", "http://h.test:81/", false),
    ("h.test:81", "http://h.test/", false),
    ("h.test:8080", "http://h.test:8080/", true),
    ("h.test:", "http://h.test:81/", true),
    ("h.test:80", "http://a.h.test/", true),
    ("*.h.test:80", "http://a.h.test/", true),
    (".h.test:81", "http://a.h.test/", false),
    ("*", "http://h.test/", true),
    ("*", "http://10.0.0.1/", true),
    ("*", "http://[2001:db8::1]/", true),
    ("x,*", "http://h.test/", true),
    (" * ,x", "http://h.test/", true),
    ("*:80", "http://h.test/", false),
    (":80", "http://h.test/", false),
    ("10.0.0.1", "http://10.0.0.1/", true),
    ("10.0.0.1", "http://10.0.0.1:99/", true),
    ("10.0.0.1:80", "http://10.0.0.1/", true),
    ("10.0.0.1:81", "http://10.0.0.1/", false),
    ("10.0.0.0/8", "http://10.9.9.9/", true),
    ("10.1.2.3/8", "http://10.9.9.9/", true),
    ("10.0.0.0/8", "http://11.0.0.1/", false),
    ("10.0.0.0/8", "http://h.test/", false),
    ("10.0.0.0/8:80", "http://10.0.0.1/", false),
    ("10.0.0.0/33", "http://10.0.0.1/", false),
    ("0.0.0.0/0", "http://10.0.0.1/", true),
    ("0.0.0.0/0", "http://[2001:db8::1]/", false),
    ("::/0", "http://[2001:db8::1]/", true),
    ("::/0", "http://10.0.0.1/", false),
    ("2001:db8::/32", "http://[2001:db8::1]/", true),
    ("2001:db8::/32", "http://[2001:db9::1]/", false),
    ("[2001:db8::1]:80", "http://[2001:db8::1]/", true),
    ("[2001:db8::1]:81", "http://[2001:db8::1]/", false),
    ("[2001:db8::1]", "http://[2001:db8::1]/", false),
    ("2001:db8::1", "http://[2001:db8::1]/", true),
    ("2001:DB8:0::1", "http://[2001:db8::1]/", true),
    ("2001:db8::1", "http://[2001:db8::1%25eth0]/", true),
    ("test", "http://[2001:db8::1%25.h.test]/", false),
    ("10.0.0.1", "http://[::ffff:10.0.0.1]/", true),
    ("::ffff:10.0.0.1", "http://10.0.0.1/", true),
    ("10.0.0.0/8", "http://[::ffff:10.0.0.1]/", true),
    ("::ffff:10.0.0.0/104", "http://10.0.0.1/", true),
    ("0.1", "http://10.0.0.1/", false),
    ("1", "http://10.0.0.1/", false),
    ("bücher.test", "http://xn--bcher-kva.test/", true),
    ("xn--bcher-kva.test", "http://a.bücher.test/", true),
    (".bücher.test", "http://a.xn--bcher-kva.test/", true),
    (".bücher.test", "http://bücher.test/", false),
    ("BÜCHER.test", "http://bücher.test/", true),
    ("http://h.test", "http://h.test/", false),
    ("h.test/", "http://h.test/", false),
    ("a@h.test", "http://h.test/", false),
    ("h.test", "http://user:pw@h.test/", true),
    ("h.test:443", "http://h.test/", false),
];

#[test]
fn no_proxy_lists_names_addresses_ranges_and_ports() {
    for (no_proxy, url, direct) in NO_PROXY {
        let expected = if *direct { "direct" } else { "proxy http://p.test" };
        assert_eq!(route(&[("HTTP_PROXY", "p.test"), ("NO_PROXY", no_proxy)], url), expected, "{no_proxy} {url}");
    }
    let https = [("HTTPS_PROXY", "p.test"), ("NO_PROXY", "h.test:443")];
    assert_eq!(route(&https, "https://h.test/"), "direct");
}

/// `fixtures/proxy/go.jsonl` holds the answers of Go's own net/http; `decide.go` beside it made them.
#[test]
fn every_answer_is_gos() {
    #[derive(serde::Deserialize)]
    struct Case {
        env: std::collections::BTreeMap<String, String>,
        url: String,
        go: String,
    }
    let text = std::fs::read_to_string("fixtures/proxy/go.jsonl").unwrap();
    let cases: Vec<Case> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(cases.len() > 900, "{}", cases.len());
    let mut others = Vec::new();
    for case in cases {
        let vars: Vec<(&str, &str)> = case.env.iter().map(|(name, value)| (&**name, &**value)).collect();
        let ours = route(&vars, &case.url);
        // Of a URL that is none Go says why in its own words, and junk it spells anew; what counts is that neither goes around.
        let is_junk = vars.iter().any(|(_, value)| ["h^t", "p test", "?p"].contains(value));
        let same_error = case.go == "error" && ours.starts_with("error ");
        let same_junk = is_junk && case.go.starts_with("proxy ") && ours.starts_with("proxy ");
        if ours != case.go && !same_error && !same_junk {
            others.push(format!("{:?} {}: {ours}, not {}", case.env, case.url, case.go));
        }
    }
    assert!(others.is_empty(), "{} differ:\n{}", others.len(), others.join("\n"));
}

#[test]
fn a_value_that_is_no_text_does_not_open_a_way_around_the_proxy() {
    use std::os::unix::ffi::OsStringExt;
    let environment =
        Environment::from(|name| (name == "HTTPS_PROXY").then(|| OsString::from_vec(b"http://p\xff.test".to_vec())));
    assert_ne!(decide(&environment, "https://h.test/"), Ok(Route::Direct));
}

#[test]
fn a_request_url_that_is_none_is_an_error_that_says_why() {
    assert_eq!(route(&[], "http://a b/"), "error that is no URL: the host holds a character that no host can have");
    assert_eq!(route(&[], ":"), "error that is no URL: there is no scheme before the colon");
}
