//! Whether a name says that its value is secret: `DB_PASSWORD`, `apiKey`, `--auth-token`, `Cookie`.
//!
//! Names are compared by their words, so that `author` is no `auth` and `PASSWORD_FILE` is a path that the reader of a crash
//! needs. In doubt the answer is yes: a masked harmless value costs a look elsewhere, a shown secret cannot be taken back.

#![forbid(unsafe_code)]

/// How a name's value is dealt with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Name {
    /// Nothing secret about it.
    Plain,
    /// Also an everyday word of error messages (`token: unexpected end`): after a colon, prose is left alone.
    Wordy,
    /// Its value is masked wherever it stands.
    Secret,
    /// Its value is several words long: an HTTP header, a passphrase. Masked to the end of the line.
    Line,
}

/// Longer names are cut to this many bytes, from the front: what a name is about stands at its end.
const NAME_BYTES: usize = 128;

/// Found anywhere in the name once `_`, `-` and `.` are taken out.
const SECRET_PARTS: [&str; 20] = [
    "password",
    "passwd",
    "passwort",
    "secret",
    "apikey",
    "accesskey",
    "accountkey",
    "authkey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "encryptkey",
    "masterkey",
    "sharedkey",
    "storagekey",
    "sshkey",
    "connectionstring",
    "xsrf",
    "csrf",
    "webhookurl",
];
const WORDY_PARTS: [&str; 3] = ["token", "credential", "session"];
const LINE_PARTS: [&str; 4] = ["passphrase", "authorization", "cookie", "mnemonic"];

/// Whole words of the name.
const SECRET_WORDS: [&str; 13] =
    ["pwd", "pw", "pass", "pat", "pin", "otp", "jwt", "psk", "dsn", "sid", "signature", "sig", "creds"];
const WORDY_WORDS: [&str; 4] = ["auth", "oauth", "oauth2", "bearer"];

/// A last word that says the value is about the secret, and is not the secret.
const ABOUT: [&str; 31] = [
    "file",
    "path",
    "dir",
    "directory",
    "host",
    "port",
    "domain",
    "driver",
    "mode",
    "type",
    "enabled",
    "disabled",
    "required",
    "ttl",
    "timeout",
    "expiry",
    "expires",
    "sock",
    "algorithm",
    "method",
    "provider",
    "length",
    "len",
    "count",
    "policy",
    "validator",
    "manager",
    "error",
    "exception",
    "failure",
    "warning",
];

/// What a name in running text, an option or a header says of its value.
pub(super) fn classify(name: &str) -> Name {
    let name = name.as_bytes();
    let name = &name[name.len().saturating_sub(NAME_BYTES)..];
    // The working directory, and the verdict of test runners.
    if [&b"PWD"[..], b"OLDPWD", b"PASS"].contains(&name) {
        return Name::Plain;
    }
    let words = words(name);
    let Some(last) = words.last() else { return Name::Plain };
    if words.len() > 1 && ABOUT.contains(&last.as_str()) {
        return Name::Plain;
    }
    let joined = words.concat();
    let part = |parts: &[&str]| parts.iter().any(|part| joined.contains(part));
    let word = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    if part(&LINE_PARTS) {
        Name::Line
    } else if part(&SECRET_PARTS) || word(&SECRET_WORDS) {
        Name::Secret
    } else if part(&WORDY_PARTS) || word(&WORDY_WORDS) {
        Name::Wordy
    } else {
        Name::Plain
    }
}

/// The same of an environment variable, where `KEY` alone is enough: `STRIPE_KEY`, `APP_KEY`.
pub(super) fn is_secret_variable(name: &str) -> bool {
    classify(name) != Name::Plain || {
        let words = words(name.as_bytes());
        words.iter().any(|word| word == "key") && words.last().is_some_and(|last| !ABOUT.contains(&last.as_str()))
    }
}

/// Lower-case words of `snake_case`, `kebab-case`, `dotted.names`, `camelCase` and `HTTPHeader`.
fn words(name: &[u8]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut start = true;
    for (i, &byte) in name.iter().enumerate() {
        if !byte.is_ascii_alphanumeric() {
            start = true;
            continue;
        }
        let before = i.checked_sub(1).map(|i| name[i]);
        let after = name.get(i + 1);
        let hump = byte.is_ascii_uppercase()
            && (before.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                || before.is_some_and(|b| b.is_ascii_uppercase()) && after.is_some_and(u8::is_ascii_lowercase));
        if start || hump {
            words.push(String::new());
            start = false;
        }
        if let Some(word) = words.last_mut() {
            word.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_told_from_their_neighbours() {
        let table = [
            ("password", Name::Secret),
            ("DB_PASSWORD", Name::Secret),
            ("dbPassword", Name::Secret),
            ("GITHUB_PAT", Name::Secret),
            ("AZURE_DEVOPS_PAT", Name::Secret),
            ("PATH", Name::Plain),
            ("PATTERN", Name::Plain),
            ("PATCH", Name::Plain),
            ("PGPASSWORD", Name::Secret),
            ("--db-passwd", Name::Secret),
            ("DB_PASS", Name::Secret),
            ("apiKey", Name::Secret),
            ("X-Api-Key", Name::Secret),
            ("AWSSecretAccessKey", Name::Secret),
            ("AccountKey", Name::Secret),
            ("SENTRY_DSN", Name::Secret),
            ("client.secret", Name::Secret),
            ("access_token", Name::Wordy),
            ("auth", Name::Wordy),
            ("sessionId", Name::Wordy),
            ("Authorization", Name::Line),
            ("Set-Cookie", Name::Line),
            ("passphrase", Name::Line),
            ("author", Name::Plain),
            ("authority", Name::Plain),
            ("compass", Name::Plain),
            ("PASSWORD_FILE", Name::Plain),
            ("token_type", Name::Plain),
            ("session_timeout", Name::Plain),
            ("PWD", Name::Plain),
            ("pwd", Name::Secret),
            ("key", Name::Plain),
            ("", Name::Plain),
            ("---", Name::Plain),
        ];
        for (name, kind) in table {
            assert_eq!(classify(name), kind, "{name}");
        }
    }

    #[test]
    fn a_variable_called_key_is_secret_and_a_path_to_one_is_not() {
        assert!(is_secret_variable("STRIPE_KEY"));
        assert!(is_secret_variable("AWS_ACCESS_KEY_ID"));
        assert!(!is_secret_variable("TLS_KEY_FILE"));
        assert!(!is_secret_variable("KEYBOARD"));
        assert!(!is_secret_variable("HOME"));
    }
}
