//! Masks secrets before anything of a report touches the disk.
//!
//! Three ways to know one: by the name it is given (`--password=x`, `"api_key": "x"`, `DB_PASSWORD=x`), by its own look
//! (`Bearer …`, URL passwords, `AKIA…`, `eyJ….….…`, PEM blocks), and by value: what stands in an environment variable
//! with such a name is masked wherever else it occurs. One pass over the text for each, none that looks back.

#![forbid(unsafe_code)]

/// What a secret is replaced by.
pub const MASK: &str = "[masked]";

/// A name that has one of these in it, without regard to case and to `-`, `_`, `.`, names a secret.
const SECRET_WORDS: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authkey",
    "credential",
    "authorization",
    "cookie",
    "sentrydsn",
    "connectionstring",
    "signature",
];
/// Values shorter than this are too common to be hunted for elsewhere.
const HUNTED_BYTES: usize = 6;
/// Variables whose values are safe and useful to show.
const SHOWN: [&str; 20] = [
    "TZ",
    "LANG",
    "LANGUAGE",
    "PATH",
    "HOSTNAME",
    "HOME",
    "USER",
    "SHELL",
    "PWD",
    "TERM",
    "RUST_BACKTRACE",
    "GOTRACEBACK",
    "GOMAXPROCS",
    "GOMEMLIMIT",
    "GOGC",
    "GODEBUG",
    "NODE_ENV",
    "POD_NAME",
    "POD_NAMESPACE",
    "NODE_NAME",
];
/// The same for families of variables.
const SHOWN_PREFIXES: [&str; 3] = ["LC_", "MALLOC_", "PYTHON"];
/// More variables than this are a fact in itself; their names would be most of the report.
const VARIABLES: usize = 200;
/// A longer value is cut.
const VALUE_BYTES: usize = 256;

/// Masks, and counts what it masked.
#[derive(Debug, Default)]
pub struct Scrubber {
    hunted: Vec<String>,
    pub masked: u32,
}

impl Scrubber {
    /// Learns the values of variables with secret names.
    pub fn new<'a>(environment: impl IntoIterator<Item = (&'a str, &'a str)>) -> Scrubber {
        let mut hunted: Vec<String> = environment
            .into_iter()
            .filter(|(name, value)| is_secret_name(name) && value.len() >= HUNTED_BYTES)
            .map(|(_, value)| value.to_owned())
            .collect();
        // The longest first, so that a value inside another one leaves no remainder.
        hunted.sort_by_key(|value| std::cmp::Reverse(value.len()));
        hunted.dedup();
        hunted.truncate(64);
        Scrubber { hunted, masked: 0 }
    }

    /// The words of a command line; the word after `--password` is masked too.
    pub fn argv(&mut self, argv: &[String]) -> Vec<String> {
        let mut next_is_secret = false;
        argv.iter()
            .map(|word| {
                let secret = std::mem::replace(
                    &mut next_is_secret,
                    word.starts_with('-') && !word.contains('=') && is_secret_name(word),
                );
                if secret && !word.starts_with("--") {
                    self.masked += 1;
                    return MASK.to_owned();
                }
                self.text(word)
            })
            .collect()
    }

    /// Names of all variables, values of the harmless ones.
    pub fn environment<'a>(
        &mut self,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> std::collections::BTreeMap<String, String> {
        environment
            .into_iter()
            .take(VARIABLES)
            .map(|(name, value)| {
                let shown = SHOWN.contains(&name) || SHOWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
                let value = if shown && !is_secret_name(name) || name == "PWD" {
                    self.text(cut(value, VALUE_BYTES))
                } else {
                    String::new()
                };
                (cut(name, 128).to_owned(), value)
            })
            .collect()
    }

    /// Any text, lines of stderr among them.
    pub fn text(&mut self, text: &str) -> String {
        let mut out = text.to_owned();
        for value in &self.hunted {
            let found = out.matches(value.as_str()).count();
            if found > 0 {
                self.masked += found as u32;
                out = out.replace(value.as_str(), MASK);
            }
        }
        let mut masked = String::with_capacity(out.len());
        let mut in_pem = false;
        for line in out.split_inclusive('\n') {
            if in_pem {
                in_pem = !line.contains("-----END ");
                continue;
            }
            if line.contains("-----BEGIN ") && line.contains("PRIVATE KEY") {
                in_pem = !line.contains("-----END ");
                self.masked += 1;
                masked.push_str(MASK);
                masked.push('\n');
                continue;
            }
            self.line(line, &mut masked);
        }
        masked
    }

    /// One line: walks from word to word, a word being what stands between blanks, quotes and brackets.
    fn line(&mut self, line: &str, out: &mut String) {
        let mut rest = line;
        // The name just read, while nothing but `=`, `:`, blanks and quotes came since.
        let mut name_is_secret = false;
        while !rest.is_empty() {
            let end = rest.find(is_separator).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if !word.is_empty() {
                let scheme = matches!(word.to_ascii_lowercase().as_str(), "bearer" | "basic" | "digest");
                if name_is_secret && !scheme {
                    out.push_str(MASK);
                    self.masked += 1;
                    name_is_secret = false;
                    // An unquoted header value may have several words (`Cookie: a=b; c=d`): they are names of their own.
                } else {
                    let assigns = after.trim_start_matches(['"', '\'']).trim_start().starts_with(['=', ':']);
                    let looks = looks_secret(word);
                    if looks {
                        out.push_str(MASK);
                        self.masked += 1;
                    } else {
                        out.push_str(word);
                    }
                    name_is_secret = scheme && after.starts_with(' ') || assigns && is_secret_name(word);
                }
            }
            let Some(separator) = after.chars().next() else { break };
            let len = separator.len_utf8();
            if name_is_secret && !matches!(separator, '=' | ':' | ' ' | '"' | '\'' | '\t') {
                name_is_secret = false;
            }
            out.push(separator);
            rest = &after[len..];
            // `scheme://user:password@host`: what stands between `//` and `@` is masked as one.
            if separator == ':' && rest.starts_with("//") {
                let authority_end = rest[2..].find(['/', ' ', '"', '\'', '?', '#', '\n']).map_or(rest.len(), |n| n + 2);
                if let Some(at) = rest[..authority_end].rfind('@') {
                    let userinfo = &rest[2..at];
                    out.push_str("//");
                    if let Some((user, _)) = userinfo.split_once(':') {
                        out.push_str(user);
                        out.push(':');
                    }
                    out.push_str(MASK);
                    self.masked += 1;
                    rest = &rest[at..];
                    name_is_secret = false;
                }
            }
        }
    }
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '=' | ':'
                | '"'
                | '\''
                | ','
                | ';'
                | '&'
                | '?'
                | '{'
                | '}'
                | '['
                | ']'
                | '('
                | ')'
                | '<'
                | '>'
                | '@'
                | '/'
                | '|'
        )
}

/// `DB_PASSWORD`, `--api-key`, `x.auth.token`, but not `MAX_TOKENS` nor `token_count`.
pub fn is_secret_name(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect();
    if plain.ends_with("tokens") || plain.ends_with("count") || plain.ends_with("file") || plain.ends_with("path") {
        return false;
    }
    plain == "auth" || plain == "dsn" || SECRET_WORDS.iter().any(|word| plain.contains(word))
}

/// Prefixes that well-known services give their keys, with the least length of the whole.
const KEY_PREFIXES: [(&str, usize); 12] = [
    ("AKIA", 20),
    ("ASIA", 20),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghs_", 20),
    ("github_pat_", 30),
    ("glpat-", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("AIza", 35),
];

/// A word that is a key or a JSON web token by its own look.
fn looks_secret(word: &str) -> bool {
    let by_prefix = KEY_PREFIXES.iter().any(|(prefix, least)| word.len() >= *least && word.starts_with(prefix));
    let by_shape = word.starts_with("eyJ") && word.len() > 30 && word.matches('.').count() == 2;
    by_prefix || by_shape
}

/// At most `bytes` bytes, cut between characters.
pub fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scrub(text: &str) -> String {
        Scrubber::new([("DB_PASSWORD", "hunter2"), ("SHORT_SECRET", "abc"), ("PLAIN", "visible")]).text(text)
    }

    #[test]
    fn secrets_are_masked_by_name_by_look_and_by_value() {
        let table = [
            ("--password=x1 --user=bob", "--password=[masked] --user=bob"),
            ("DB_PASSWORD=abc rest", "DB_PASSWORD=[masked] rest"),
            (r#"{"api_key": "k1", "n": 3}"#, r#"{"api_key": "[masked]", "n": 3}"#),
            ("postgres://bob:pw@db:5432/x", "postgres://bob:[masked]@db:5432/x"),
            ("https://token@host/path", "https://[masked]@host/path"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer [masked]"),
            ("got Bearer abcdef now", "got Bearer [masked] now"),
            ("key AKIAABCDEFGHIJKLMNOP end", "key [masked] end"),
            ("login hunter2 failed", "login [masked] failed"),
            ("abc visible", "abc visible"),
            ("tokens: 512, token_count=7", "tokens: 512, token_count=7"),
            ("password is wrong", "password is wrong"),
            ("no secret: here?", "no secret: [masked]?"),
            ("http://host/path:80 a@b", "http://host/path:80 a@b"),
        ];
        for (text, expected) in table {
            assert_eq!(scrub(text), expected);
        }
    }

    #[test]
    fn a_private_key_goes_as_a_whole_even_when_it_is_cut() {
        let text = "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nb\n";
        assert_eq!(scrub(text), "a\n[masked]\nb\n");
        assert_eq!(scrub("-----BEGIN PRIVATE KEY-----\nMIIE"), "[masked]\n");
    }

    #[test]
    fn the_word_after_a_secret_option_is_masked() {
        let argv = ["app", "--token", "t0ken", "--db-password", "--verbose", "-p", "80"].map(str::to_owned);
        let mut scrubber = Scrubber::default();
        let expected = ["app", "--token", "[masked]", "--db-password", "--verbose", "-p", "80"];
        assert_eq!(scrubber.argv(&argv), expected);
        assert_eq!(scrubber.masked, 1);
    }

    #[test]
    fn variables_keep_their_names_and_lose_their_values() {
        let env = [("DB_PASSWORD", "hunter2"), ("LANG", "C"), ("FOO", "bar"), ("PATH", "/bin:hunter2")];
        let shown = Scrubber::new(env).environment(env);
        let expected = [("DB_PASSWORD", ""), ("FOO", ""), ("LANG", "C"), ("PATH", "/bin:[masked]")];
        assert_eq!(shown, expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    }

    proptest! {
        #[test]
        fn any_text_is_scrubbed_without_a_panic_and_a_known_value_never_survives(text in "\\PC{0,80}", glue in "[ =:\"/@]{0,3}") {
            let out = scrub(&format!("{text}{glue}hunter2{glue}{text}"));
            prop_assert!(!out.contains("hunter2"));
        }
    }
}
