//! What is masked and what is not, and that no text takes longer than its length explains.

use super::*;
use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;

fn knowing(list: &[(&str, &str)]) -> Scrubber {
    Scrubber::new(list.iter().copied())
}

fn scrub(text: &str) -> String {
    knowing(&[]).text(text)
}

#[test]
fn secrets_are_masked_and_what_stands_around_them_is_not() {
    let table = [
        // Assignments.
        ("password=hunter2", "password=[masked]"),
        ("password = hunter2 and on", "password = [masked] and on"),
        ("DB_PASSWORD=a&b;c(d", "DB_PASSWORD=[masked]"),
        ("Password:hunter2", "Password:[masked]"),
        ("pwd := x9", "pwd := [masked]"),
        ("{:password => \"hunter2\"}", "{:password => \"[masked]\"}"),
        ("env[\"API_KEY\"] = 'k9'", "env[\"API_KEY\"] = '[masked]'"),
        ("dsn=a, user=bob", "dsn=[masked], user=bob"),
        ("Server=db;User Id=sa;Password=hunter2;", "Server=db;User Id=sa;Password=[masked];"),
        ("GET /x?token=abc&user=bob HTTP/1.1", "GET /x?token=[masked] HTTP/1.1"),
        ("\"GET /x?token=abc\" 200", "\"GET /x?token=[masked]\" 200"),
        ("password=ab\"cd ef", "password=[masked] ef"),
        ("PASSWORD=\"a b\"cd ef", "PASSWORD=\"[masked] ef"),
        // Structured logs.
        ("{\"password\": \"a b\", \"user\": \"bob\"}", "{\"password\": \"[masked]\", \"user\": \"bob\"}"),
        ("{\"password\":\"a\\\"b\",\"user\":1}", "{\"password\":\"[masked]\",\"user\":1}"),
        ("\"{\\\"password\\\":\\\"a b\\\",\\\"n\\\":1}\"", "\"{\\\"password\\\":\\\"[masked]\\\",\\\"n\\\":1}\""),
        ("{\"token\":12345,\"user\":\"bob\"}", "{\"token\":[masked],\"user\":\"bob\"}"),
        ("{\"token\":null,\"user\":\"bob\"}", "{\"token\":null,\"user\":\"bob\"}"),
        ("{\"tokens\": [\"a b\", \"c\"], \"n\": 1}", "{\"tokens\": [masked], \"n\": 1}"),
        ("Config { token: Some(\"a b\"), n: 1 }", "Config { token: [masked], n: 1 }"),
        ("{'password': b'a b', 'n': 1}", "{'password': [masked], 'n': 1}"),
        ("\x1b[3mtoken\x1b[0m\x1b[2m=\x1b[0mabc9 \x1b[3mn", "\x1b[3mtoken\x1b[0m\x1b[2m=\x1b[0m[masked] \x1b[3mn"),
        ("<password>hunter2</password>", "<password>[masked]</password>"),
        ("ALTER USER bob PASSWORD 'hunter2';", "ALTER USER bob PASSWORD '[masked]';"),
        // Headers.
        ("Authorization: Bearer abc def", "Authorization: [masked]"),
        ("'Authorization: Basic dXNlcjpwYXNz' -v", "'Authorization: [masked]' -v"),
        ("Set-Cookie: a=b; Path=/\nnext", "Set-Cookie: [masked]\nnext"),
        ("sent Bearer abcdefgh1 to it", "sent Bearer [masked] to it"),
        ("passphrase: correct horse battery", "passphrase: [masked]"),
        // Command lines in text.
        ("exec app --password hunter2 -v", "exec app --password [masked] -v"),
        ("['app', '--api-key', 'a b', '-v']", "['app', '--api-key', '[masked]', '-v']"),
        // URLs.
        ("postgres://bob:hunter2@db:5432/x?a=b", "postgres://[masked]@db:5432/x?a=b"),
        ("postgres://bob:a/b@c@db/x", "postgres://[masked]@db/x"),
        ("https://k3y@o1.ingest.example/1", "https://[masked]@o1.ingest.example/1"),
        ("open bob:hunter2@tcp(db:3306)/x", "open [masked]@tcp(db:3306)/x"),
        ("é:hunter2@unix(/s)", "[masked]@unix(/s)"),
        // Tokens by their look.
        ("key AKIAIOSFODNN7EXAMPLE.", "key [masked]"),
        ("AKIAIOSFODNN7EXAMPLE wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY ok", "[masked] [masked] ok"),
        ("push ghp_abcdefghijklmnopqrstuvwxyz0123456789 now", "push [masked] now"),
        ("glpat-abcdefghij0123456789", "[masked]"),
        ("xoxb-123456789012-abc", "[masked]"),
        ("charge sk_live_abcdefghij0123", "charge [masked]"),
        ("jwt is eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln, bad", "jwt is [masked], bad"),
        // Addresses that are secrets.
        ("post https://hooks.slack.com/services/T0/B0/x9 ok", "post https://hooks.slack.com/services/[masked] ok"),
        ("https://discord.com/api/webhooks/12/ab-c", "https://discord.com/api/webhooks/[masked]"),
        ("https://a.webhook.office.com/webhookb2/g@h/x", "https://a.webhook.office.com/webhookb2/[masked]"),
        ("https://api.telegram.org/bot12:AbC/getMe", "https://api.telegram.org/bot[masked]/getMe"),
        ("/o?X-Amz-Signature=ab12&sig=x", "/o?X-Amz-Signature=[masked]"),
        ("jdbc:mysql://h/db?user=u&password=p", "jdbc:mysql://h/db?user=u&password=[masked]"),
        ("//registry.example/:_authToken=x1", "//registry.example/:_authToken=[masked]"),
        ("AccountName=a;AccountKey=ab==;", "AccountName=a;AccountKey=[masked];"),
        ("machine h login bob password hunter2\n", "machine h login bob password [masked]\n"),
        // Control sequences within.
        ("pass\x1b[0mword=hunter2", "pass\x1b[0mword=[masked]"),
        ("password=hun\x1b[1;31mter2\x1b[0m x", "password=[masked]\x1b[0m x"),
        ("ghp_abcdefgh\x1b[1mijklmnopqrstuvwxyz\x1b(B\x1b[m ok", "[masked]\x1b(B\x1b[m ok"),
        // The value on the next line.
        ("password:\nhunter2\n", "password:\n[masked]\n"),
        ("PASSWORD: \r\nhunter2\r\nx", "PASSWORD: \r\n[masked]\r\nx"),
        // Keys.
        ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nb", "a\n[masked]\nb"),
        (
            "{\"key\":\"-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----\\n\"}",
            "{\"key\":\"[masked]\\n\"}",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIEabc\npanic: boom", "[masked]\npanic: boom"),
    ];
    for (text, shown) in table {
        assert_eq!(scrub(text), shown, "from {text}");
    }
}

#[test]
fn the_words_that_explain_a_crash_stay_readable() {
    let same = [
        "thread 'main' (7) panicked at src/auth.rs:12:5:",
        "panic: runtime error\n\tsession.go:42 +0x1d",
        "\tat com.example.TokenFilter.run(TokenFilter.java:42)",
        "auth::session::Token::parse",
        "open /run/secrets/db_password: no such file or directory",
        "SyntaxError: Unexpected token } in JSON at position 5",
        "auth: connection refused",
        "invalid token: unexpected end of input",
        "TokenError: [Errno 2]",
        "--- PASS: TestLogin (0.01s)",
        "PWD=/srv/app",
        "PASSWORD_FILE=/run/secrets/p",
        "author: Ada",
        "http://db:5432/x@v1",
        "https://proxy.golang.org/a/@v/list",
        "token\n",
        "password:",
        "key=3 monkey=4",
        "secret:\n  name: x1",
        "password:\nsrc/main.rs:42",
        "password:\nauth::check1",
        "password:\nnothing",
        "login with password failed",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "basic block 12 of 34",
        "",
    ];
    for text in same {
        assert_eq!(scrub(text), text);
    }
}

#[test]
fn arguments_are_masked_to_their_end_and_the_option_hides_the_next() {
    let table: &[(&[&str], &[&str])] = &[
        (&["app", "--password=a b", "--x=1"], &["app", "--password=[masked]", "--x=1"]),
        (&["app", "--token", "a b", "-v"], &["app", "--token", "[masked]", "-v"]),
        (&["app", "--token", "--verbose"], &["app", "--token", "--verbose"]),
        (&["app", "--token", "--aB3$"], &["app", "--token", "[masked]"]),
        (
            &["java", "-Dspring.datasource.password=x y", "Main"],
            &["java", "-Dspring.datasource.password=[masked]", "Main"],
        ),
        (&["helm", "--set=db.password=x y"], &["helm", "--set=db.password=[masked]"]),
        (
            &["curl", "-H", "X-Api-Key: a b", "-u", "bob:pw"],
            &["curl", "-H", "X-Api-Key:[masked]", "-u", "bob:[masked]"],
        ),
        (&["sh", "-c", "PGUSER=bob PASS=x exec app"], &["sh", "-c", "PGUSER=bob PASS=x exec app"]),
        (&["sh", "-c", "exec app --secret x 2>&1"], &["sh", "-c", "exec app --secret [masked] 2>&1"]),
        (&["app", "redis://:pw@r/0"], &["app", "redis://[masked]@r/0"]),
        (&["/usr/bin/mysql", "-phunter2", "shop"], &["/usr/bin/mysql", "-p[masked]", "shop"]),
        (&["mysql", "-p", "shop"], &["mysql", "-p", "shop"]),
        (&["env", "A=b", "mongosh", "-p", "hunter2", "db"], &["env", "A=b", "mongosh", "-p", "[masked]", "db"]),
        (&["sshpass", "-phunter2", "ssh", "h"], &["sshpass", "-p[masked]", "ssh", "h"]),
        (&["redis-cli", "-a", "hunter2", "ping"], &["redis-cli", "-a", "[masked]", "ping"]),
        (&["7z", "x", "-phunter2", "a.7z"], &["7z", "x", "-p[masked]", "a.7z"]),
        (&["docker", "login", "-u", "bob", "-p", "x"], &["docker", "login", "-u", "bob", "-p", "[masked]"]),
        (&["sudo", "-u", "bob", "mysql", "-phunter2"], &["sudo", "-u", "bob", "mysql", "-p[masked]"]),
        (&["docker", "exec", "db", "mysql", "-phunter2"], &["docker", "exec", "db", "mysql", "-p[masked]"]),
        (&["docker", "run", "-p80:80", "mysql"], &["docker", "run", "-p80:80", "mysql"]),
        (&["docker", "run", "-p", "8080:80", "i"], &["docker", "run", "-p", "8080:80", "i"]),
        (&["app", "-p8080"], &["app", "-p8080"]),
        (&["curl", "--user=bob:pw"], &["curl", "--user=bob:[masked]"]),
        (&["curl", "-ubob:pw"], &["curl", "-ubob:[masked]"]),
        (
            &["sh", "-c", "cd /x && mysql -phunter2 shop; curl -u 'bob:pw' http://h/ | redis-cli -a 's3' ping"],
            &[
                "sh",
                "-c",
                "cd /x && mysql -p[masked] shop; curl -u 'bob:[masked]' http://h/ | redis-cli -a '[masked]' ping",
            ],
        ),
        (&["sh", "-c", "mysql -p shop; app -p8080"], &["sh", "-c", "mysql -p shop; app -p8080"]),
        (&["app", "mysql -phunter2"], &["app", "mysql -phunter2"]),
        (&["kubectl", "--from-literal=password=x"], &["kubectl", "--from-literal=password=[masked]"]),
        (&["id", "-u", "1000:1000"], &["id", "-u", "1000:1000"]),
    ];
    let mut scrubber = knowing(&[]);
    for (argv, shown) in table {
        let argv: Vec<String> = argv.iter().map(|arg| (*arg).to_owned()).collect();
        assert_eq!(scrubber.argv(&argv), *shown);
    }
}

#[test]
fn a_huge_command_line_is_cut_and_says_so() {
    let argv: Vec<String> = (0..200_000).map(|i| format!("arg{i}")).collect();
    let shown = knowing(&[]).argv(&argv);
    assert!(shown.iter().map(String::len).sum::<usize>() < 2 * limits::ARGV_BYTES);
    assert!(shown.last().unwrap().starts_with("… "), "{:?}", shown.last());
    let long = knowing(&[]).argv(&["é".repeat(100_000)]);
    assert_eq!(long[0].chars().count(), limits::ARG_CHARS + 1);
}

#[test]
fn values_of_secret_variables_are_masked_wherever_they_stand() {
    let mut scrubber = knowing(&[
        ("STRIPE_KEY", "plainlooking"),
        ("DB_PASS", "short"),
        ("DATABASE_URL", "postgres://bob:s3cretpw@db/x"),
        ("TLS_PRIVATE_KEY", "first line\nsecond line\n"),
        ("PASSWORD_FILE", "/run/secrets/p"),
        ("HOME", "/home/plain"),
    ]);
    let masked = scrubber.text("a plainlooking b short s3cretpw second line /run/secrets/p /home/plain");
    assert_eq!(masked, "a [masked] b short [masked] [masked] /run/secrets/p /home/plain");
    assert_eq!(scrubber.masked, 3);
    assert_eq!(scrubber.text("é plain\x1b[1mlooking\x1b[0m"), "é [masked]\x1b[0m");
    assert_eq!(scrubber.argv(&["x-plainlooking-y".into()]), ["x-[masked]-y"]);
}

#[test]
fn values_that_the_command_line_gives_away_are_masked_wherever_they_stand() {
    let argv = ["app", "--password", "hunter2x", "--token=short", "redis://:s3cretpw@r/0"].map(str::to_owned);
    let mut scrubber = Scrubber::of([], &argv);
    assert_eq!(scrubber.text("bad login hunter2x, s3cretpw, short"), "bad login [masked], [masked], short");
}

#[test]
fn more_secrets_than_can_be_looked_for_withhold_the_text() {
    let many: Vec<_> = (0..40_000).map(|i| (format!("SECRET_{i}"), format!("value-{i:08}"))).collect();
    let mut scrubber = Scrubber::new(many.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    assert!(scrubber.withholds());
    assert_eq!(scrubber.text("anything value-00000007"), MASK);
}

#[test]
fn a_secret_that_the_cut_went_through_leaves_no_rest() {
    let mut scrubber = knowing(&[]);
    assert_eq!(scrubber.tail(b"ret-rest\npanic: boom\n", true), "panic: boom\n");
    assert_eq!(scrubber.tail(b"ret-rest\npanic: boom\n", false), "ret-rest\npanic: boom\n");
    assert_eq!(scrubber.tail(b"no line end at all", true), "");
    let key = b"AbC\nMIIEowIBAAKCAQEA\nabcd==\n-----END RSA PRIVATE KEY-----\npanic: boom\n";
    let shown = scrubber.tail(key, true);
    assert!(!shown.contains("MIIE") && !shown.contains("abcd==") && shown.contains("panic: boom"), "{shown}");
    let long = [b"x".repeat(20_000), b" seen".to_vec()].concat();
    assert_eq!(scrubber.tail(&long, true), " seen");
}

#[test]
fn bytes_that_are_no_text_are_shown_as_replacement_characters() {
    assert_eq!(knowing(&[]).tail(b"a\xff\xfeb", false), "a\u{fffd}\u{fffd}b");
}

#[test]
fn of_the_environment_names_are_kept_and_few_values() {
    let mut scrubber = knowing(&[]);
    let environment = scrubber.environment([
        ("LANG", "C.UTF-8"),
        ("LC_ALL", "C"),
        ("JAVA_TOOL_OPTIONS", "-Xmx1g -Djavax.net.ssl.trustStorePassword=changeit"),
        ("POD_NAME", "web-0"),
        ("POD_TOKEN", "t"),
        ("GREETING", "hello"),
        ("DB_PASSWORD", "hunter2"),
    ]);
    let shown: Vec<_> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        shown,
        [
            "DB_PASSWORD=",
            "GREETING=",
            "JAVA_TOOL_OPTIONS=-Xmx1g -Djavax.net.ssl.trustStorePassword=[masked]",
            "LANG=C.UTF-8",
            "LC_ALL=C",
            "POD_NAME=web-0",
            "POD_TOKEN=",
        ]
    );
    assert_eq!(scrubber.left_out, 0);
}

#[test]
fn a_hundred_thousand_variables_make_no_large_report() {
    let mut many: Vec<_> = (0..100_000).map(|i| (format!("V{i}"), "x".repeat(50))).collect();
    many.push(("TZ".to_owned(), "UTC".to_owned()));
    let pairs = || many.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut scrubber = Scrubber::new(pairs());
    let environment = scrubber.environment(pairs());
    assert_eq!(environment.get("TZ").map(String::as_str), Some("UTC"));
    assert_eq!(environment.len() + scrubber.left_out, 100_001);
    assert!(environment.len() <= limits::ENV_NAMES);
}

/// Of processor time, so that a busy machine changes nothing: a quadratic pass over 64 KiB would take a minute of it.
#[test]
fn hostile_text_takes_no_longer_than_its_length_explains() {
    let pieces = [
        "a-",
        "a_",
        "password=",
        "password=\"",
        "\"",
        "'",
        "://",
        "://a:b/",
        "@tcp(",
        "[",
        "password=[",
        "AKIA",
        "eyJ",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "\\",
        "\x1b[",
        "token: a b ",
        "basic basic ",
        ",'",
        "a a\t",
        "é=",
        "password=,'",
        "AKIAIOSFODNN7EXAMPLE/",
        "<secret>",
        "hooks.slack.com/services/",
        "password:\n",
        "login a password ",
        "\x1b[1",
        "\x1b[0m",
        "a-\x1b[0m",
    ];
    let mut scrubber = knowing(&[("A_KEY", &"a".repeat(5000)), ("B_KEY", "a-a-a-a-")]);
    let used = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    for piece in pieces {
        let text = piece.repeat(64 * 1024 / piece.len());
        let start = used();
        scrubber.tail(text.as_bytes(), true);
        let took = used() - start;
        assert!(took < TimeSpec::seconds(2), "{piece:?} took {took}");
    }
}

/// Names that mark a secret, and how programs write one down.
const FORMS: [(&str, &str); 11] = [
    ("password=", "\n"),
    ("DB_PASSWORD='", "'\n"),
    ("{\"api_key\": \"", "\", \"n\": 1}"),
    ("secret: ", " x"),
    ("https://bob:", "@host/x"),
    ("Authorization: Bearer ", "\r\n"),
    ("curl -H \"Cookie: sid=", "\" x"),
    ("--auth-token ", " --x"),
    ("<client_secret>", "</client_secret>"),
    ("Config { passphrase: \"", "\" }"),
    ("?access_token=", "&x=1"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic_and_a_second_pass_changes_nothing(text in "[a-z\"'\\\\=:@/\\[\\]{}<>,; \\n\u{1b}é-]{0,80}|\\PC{0,80}|(password|token|Cookie|--secret|://|bearer|AKIA|eyJ|[\"'=:, \\[\\]\\\\@\\n]|[a-z0-9]{1,12}){0,20}") {
        let once = scrub(&text);
        prop_assert_eq!(scrub(&once), once);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut: bool) {
        knowing(&[]).tail(&bytes, cut);
    }

    #[test]
    fn a_secret_never_survives(
        before in "[ -~é\\n]{0,30}",
        secret in "[A-Za-z0-9_!%*+.^~-]{4,30}[0-9][A-Z]",
        form in 0..FORMS.len(),
        after in "[ -~\\n]{0,30}",
    ) {
        let (opening, closing) = FORMS[form];
        let text = format!("{before}\n{opening}{secret}{closing}{after}");
        let shown = scrub(&text);
        prop_assert!(!shown.contains(&secret), "{} became {}", text, shown);
    }

    #[test]
    fn a_known_value_never_survives(before in "\\PC{0,30}", secret in "[A-Za-z0-9é]{6,20}", after in "\\PC{0,30}") {
        prop_assume!(!MASK.contains(&secret));
        let mut scrubber = knowing(&[("MY_SECRET", &secret)]);
        let text = format!("{before}{secret}{after}");
        let shown = scrubber.text(&text);
        prop_assert!(!shown.contains(&secret), "{} became {}", text, shown);
    }
}
