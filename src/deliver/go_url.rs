//! A URL taken apart as Go's net/url does it: nothing is normalised, so `127.1`, `LOCALHOST` and `:80` stay what they were.
//!
//! The URL standard, which the crate `url` follows, turns those three into `127.0.0.1`, `localhost` and nothing; with it
//! the proxy rules would decide about another host than a Go program does.

#![forbid(unsafe_code)]

use std::fmt;

/// The parts that the proxy rules look at, and the text they came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoUrl {
    text: String,
    /// In lower case; empty when there is none.
    pub scheme: String,
    /// Between `//` and the path, without the user: `host`, `host:port`, `[v6]:port`.
    authority: String,
    /// Where the password stands in `text`.
    password: Option<std::ops::Range<usize>>,
}

impl GoUrl {
    /// Says what is wrong, without the text itself: it may hold a password.
    pub fn parse(text: &str) -> Result<GoUrl, String> {
        if text.contains(|c: char| c.is_ascii_control()) {
            return Err("a control character in the URL".to_owned());
        }
        if let Some((_, fragment)) = text.split_once('#') {
            check_escapes(fragment)?;
        }
        let (scheme, rest) = split_scheme(text)?;
        let rest_at = text.len() - rest.len();
        let whole = &rest[..rest.find('#').unwrap_or(rest.len())];
        let hierarchy = &whole[..whole.find('?').unwrap_or(whole.len())];
        let scheme_lower = scheme.to_ascii_lowercase();
        let mut url = GoUrl { text: text.to_owned(), scheme: scheme_lower, authority: String::new(), password: None };
        // The scheme is printed in lower case.
        url.text.replace_range(..scheme.len(), &url.scheme.clone());
        if !hierarchy.starts_with('/') {
            if !scheme.is_empty() {
                return Ok(url);
            }
            if hierarchy.split('/').next().is_some_and(|segment| segment.contains(':')) {
                return Err("the first path segment holds a colon".to_owned());
            }
        }
        let Some(after) = hierarchy.strip_prefix("//").filter(|rest| !scheme.is_empty() || !rest.starts_with('/'))
        else {
            check_escapes(hierarchy)?;
            return Ok(url);
        };
        let end = after.find('/').unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        check_escapes(path)?;
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => {
                check_user(user)?;
                let password_at = user.find(':').map(|colon| rest_at + 2 + colon + 1);
                url.password = password_at.map(|at| at..rest_at + 2 + user.len());
                host
            }
            None => authority,
        };
        check_host(host)?;
        url.authority = host.to_owned();
        Ok(url)
    }

    /// Neither of them can be empty in what is used as it stands.
    pub fn has_scheme_and_host(&self) -> bool {
        !self.scheme.is_empty() && !self.authority.is_empty()
    }

    /// Without brackets and port; the `%25` of a zone is a `%`.
    pub fn host(&self) -> String {
        let host = match self.authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host),
        };
        unescape(host)
    }

    /// Empty when there is none.
    pub fn port(&self) -> &str {
        let after = self.authority.rsplit_once(']').map_or(&*self.authority, |(_, after)| after);
        after.rsplit_once(':').map_or("", |(_, port)| port)
    }

    /// The whole of it, password included: for whoever connects.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// For people: the password is xxxxx.
impl fmt::Display for GoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.password {
            Some(password) => write!(f, "{}xxxxx{}", &self.text[..password.start], &self.text[password.end..]),
            None => f.write_str(&self.text),
        }
    }
}

/// A scheme is letters, then digits and `+-.` too, up to the first colon; anything else before it means there is none.
fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("there is no scheme before the colon".to_owned()),
            b':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_user(user: &str) -> Result<(), String> {
    if !user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte)) {
        return Err("the user or password holds a character that has to be percent-encoded".to_owned());
    }
    check_escapes(user)
}

fn check_host(host: &str) -> Result<(), String> {
    let (name, after) = match host.strip_prefix('[') {
        Some(rest) => rest.rsplit_once(']').ok_or_else(|| "the [ of the host has no ]".to_owned())?,
        None => host.rfind(':').map_or((host, ""), |colon| host.split_at(colon)),
    };
    let port_fits = after.is_empty() || after.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    if !port_fits {
        return Err("what follows the host is no port".to_owned());
    }
    let allowed = |byte: u8| byte >= 0x80 || byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"%".contains(&byte);
    if !name.bytes().all(allowed) {
        return Err("the host holds a character that no host can have".to_owned());
    }
    check_escapes(name)?;
    // Only a zone is written with an encoded ASCII character, and that one is the % itself.
    let zoned = host.starts_with('[');
    let plain =
        |code: &str| code.as_bytes().first().is_some_and(|digit| *digit < b'8') && !(zoned && code.starts_with("25"));
    if name.split('%').skip(1).take(1).any(plain) {
        return Err("the host holds a percent-encoded character".to_owned());
    }
    Ok(())
}

/// Two hexadecimal digits after each %.
fn check_escapes(text: &str) -> Result<(), String> {
    let broken =
        |rest: &str| !rest.bytes().take(2).eq(rest.bytes().filter(u8::is_ascii_hexdigit).take(2)) || rest.len() < 2;
    if text.split('%').skip(1).any(broken) {
        return Err("a % without two hexadecimal digits".to_owned());
    }
    Ok(())
}

/// Percent-encoded bytes as they are meant; what is no UTF-8 then is U+FFFD.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let mut ahead = rest.clone();
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = ahead;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_normalised() {
        let table = [
            ("HTTP://LOCALHOST:80/a?b", "http", "LOCALHOST", "80", "http://LOCALHOST:80/a?b"),
            ("http://127.1", "http", "127.1", "", "http://127.1"),
            ("https://[fe80::1%25eth0]:8443", "https", "fe80::1%eth0", "8443", "https://[fe80::1%25eth0]:8443"),
            ("http://h:/", "http", "h", "", "http://h:/"),
            ("socks5://u:p%40s@h:1", "socks5", "h", "1", "socks5://u:xxxxx@h:1"),
            ("http://u@h", "http", "h", "", "http://u@h"),
            ("http://u:@h", "http", "h", "", "http://u:xxxxx@h"),
            ("http://u:a@b:c@h", "http", "h", "", "http://u:xxxxx@h"),
            ("http://b%C3%BCcher.test", "http", "bücher.test", "", "http://b%C3%BCcher.test"),
            ("mailto:a@b", "mailto", "", "", "mailto:a@b"),
        ];
        for (text, scheme, host, port, shown) in table {
            let url = GoUrl::parse(text).unwrap();
            assert_eq!(
                (&*url.scheme, &*url.host(), url.port(), &*url.to_string()),
                (scheme, host, port, shown),
                "{text}"
            );
        }
    }

    #[test]
    fn what_go_refuses_is_refused_without_showing_it() {
        let table = [
            ("http://h\n", "a control character in the URL"),
            (":h", "there is no scheme before the colon"),
            ("10.0.0.1:80", "the first path segment holds a colon"),
            ("http://h:port", "what follows the host is no port"),
            ("http://[::1", "the [ of the host has no ]"),
            ("http://[::1]x", "what follows the host is no port"),
            ("http://a b", "the host holds a character that no host can have"),
            ("http://a%41", "the host holds a percent-encoded character"),
            ("http://h/%zz", "a % without two hexadecimal digits"),
            ("http://h/%2", "a % without two hexadecimal digits"),
            ("http://u:p w@h", "the user or password holds a character that has to be percent-encoded"),
        ];
        for (text, sentence) in table {
            assert_eq!(GoUrl::parse(text).unwrap_err(), sentence, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z0-9:/@%\\[\\]?#. \u{e9}]{0,24}") {
            if let Ok(url) = GoUrl::parse(&text) {
                let _ = (url.host(), url.port().len(), url.to_string());
            }
        }
    }
}
