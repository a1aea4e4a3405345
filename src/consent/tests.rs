//! Each source, each channel, and what becomes of them together.

#![forbid(unsafe_code)]

use super::*;

fn from_environment(vars: &[(&str, &str)]) -> Consent {
    let var = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
    decide(&Sources::at_hand(&Settings::default(), var))
}

/// Who closed errors, daily and dns.
fn closed(consent: &Consent) -> [Option<String>; 3] {
    Channel::ALL.map(|channel| consent.grant(channel).err().map(|block| block.by.clone()))
}

#[test]
fn each_variable_closes_its_channels_and_is_named() {
    const ALL: [bool; 3] = [true, true, true];
    let names: [(&str, [bool; 3]); 5] = [
        ("DO_NOT_TRACK", ALL),
        ("DISABLE_TELEMETRY", [false, true, true]),
        ("DISABLE_ERROR_REPORTING", [true, false, false]),
        ("DISABLE_CRASH_REPORTING", [true, false, false]),
        ("DISABLE_VERSION_CHECK", [false, false, true]),
    ];
    for (name, closes) in names {
        for name in [name.to_owned(), format!("OBIT_{name}")] {
            for value in ["1", "t", "T", "true", "TRUE", "True"] {
                let by = format!("{name}={value}");
                let expected = closes.map(|closed| closed.then(|| by.clone()));
                assert_eq!(closed(&from_environment(&[(&name, value)])), expected, "{by}");
            }
            let off =
                if name.ends_with("TRACK") { &["", "0"][..] } else { &["", "0", "f", "F", "false", "FALSE", "False"] };
            for value in off {
                assert_eq!(closed(&from_environment(&[(&name, value)])), [None, None, None], "{name}={value}");
            }
        }
    }
    for (name, closes) in [
        ("OBIT_NO_ERROR_REPORTING", [true, false, false]),
        ("OBIT_NO_TELEMETRY", [false, true, true]),
        ("OBIT_NO_VERSION_CHECK", [false, false, true]),
    ] {
        assert_eq!(closed(&from_environment(&[(name, "1")])).map(|by| by.is_some()), closes, "{name}");
    }
}

#[test]
fn any_off_wins_over_every_on() {
    let consent = from_environment(&[("DISABLE_ERROR_REPORTING", "false"), ("DISABLE_CRASH_REPORTING", "1")]);
    assert_eq!(closed(&consent)[0].as_deref(), Some("DISABLE_CRASH_REPORTING=1"));
    let consent = from_environment(&[("DO_NOT_TRACK", "false"), ("DISABLE_TELEMETRY", "0")]);
    assert!(closed(&consent).iter().all(Option::is_some), "DO_NOT_TRACK=false is a value all the same");
}

#[test]
fn a_value_that_is_no_boolean_is_off_and_a_warning() {
    let consent = from_environment(&[("DISABLE_ERROR_REPORTING", "maybe")]);
    assert_eq!(closed(&consent), [Some("DISABLE_ERROR_REPORTING=maybe".to_owned()), None, None]);
    assert_eq!(
        consent.warnings,
        ["DISABLE_ERROR_REPORTING=\"maybe\" is neither true nor false; taken as true, so crash reports are not sent"]
    );
    let consent = from_environment(&[("DISABLE_TELEMETRY", "yes please")]);
    assert_eq!(
        consent.warnings,
        ["DISABLE_TELEMETRY=\"yes please\" is neither true nor false; taken as true, so the daily report and the \
          version query are not sent"]
    );
}

#[test]
fn each_option_closes_its_channels_and_its_variable_is_named_when_it_was_the_variable() {
    let none = |_: &str| None;
    let settings = Settings { no_telemetry: true, ..Settings::default() };
    let by = Some("the option no-telemetry".to_owned());
    assert_eq!(closed(&decide(&Sources::at_hand(&settings, none))), [None, by.clone(), by]);
    let variable = |name: &str| (name == "OBIT_NO_TELEMETRY").then(|| "1".into());
    let by = Some("OBIT_NO_TELEMETRY=1".to_owned());
    assert_eq!(closed(&decide(&Sources::at_hand(&settings, variable))), [None, by.clone(), by]);
    let settings = Settings { no_error_reporting: true, no_version_check: true, ..Settings::default() };
    let expected =
        [Some("the option no-error-reporting".to_owned()), None, Some("the option no-version-check".to_owned())];
    assert_eq!(closed(&decide(&Sources::at_hand(&settings, none))), expected);
}

fn with_spec(text: &str) -> Consent {
    let path = PathBuf::from("/s.yaml");
    decide(&Sources { spec: Some((path, ClusterSpec::parse(text))), ..Sources::default() })
}

#[test]
fn the_cluster_spec_closes_what_its_fields_say_and_everything_when_it_cannot_be_read() {
    let by = |field: &str| Some(format!("{field} in /s.yaml"));
    let table = [
        ("disableTelemetry: false", [None, None, None]),
        ("disableTelemetry: true", [by("disableTelemetry"), by("disableTelemetry"), by("disableTelemetry")]),
        ("disableErrorReporting: true", [by("disableErrorReporting"), None, None]),
        ("disableCrashReporting: \"true\"", [by("disableCrashReporting"), None, None]),
        ("disableVersionCheck: true", [None, None, by("disableVersionCheck")]),
        ("k8sDistro: eks", [None, None, None]),
    ];
    for (text, expected) in table {
        assert_eq!(closed(&with_spec(text)), expected, "{text}");
    }
    let consent = with_spec("disableTelemetry: perhaps");
    assert!(closed(&consent).iter().all(Option::is_some));
    assert_eq!(consent.warnings, ["disableTelemetry in /s.yaml is \"perhaps\", neither true nor false; taken as true"]);
    let consent = with_spec("a: [");
    assert!(closed(&consent).iter().all(|by| by.as_deref() == Some("the cluster spec /s.yaml, which cannot be read")));
    assert_eq!(consent.warnings.len(), 1);
}

#[test]
fn the_stored_choice_closes_and_never_opens_what_another_closed() {
    let temp = tempfile::tempdir().unwrap();
    stored::choose(temp.path(), &[(Channel::Errors, false), (Channel::Daily, true)], "obit telemetry, uid 0").unwrap();
    let settings = Settings { no_telemetry: true, ..Settings::default() };
    let mut sources = Sources::at_hand(&settings, |_| None);
    sources.stored = Some((temp.path().join(stored::FILE), stored::read(temp.path())));
    let consent = decide(&sources);
    assert!(consent.grant(Channel::Errors).unwrap_err().by.starts_with("the choice of obit telemetry, uid 0 at 2"));
    assert_eq!(consent.grant(Channel::Daily).unwrap_err().by, "the option no-telemetry");
    std::fs::write(temp.path().join(stored::FILE), "{").unwrap();
    sources.stored = Some((temp.path().join(stored::FILE), stored::read(temp.path())));
    let consent = decide(&sources);
    assert!(Channel::ALL.iter().all(|channel| consent.grant(*channel).is_err()));
    assert!(consent.warnings[0].contains("consent.json cannot be read ("), "{:?}", consent.warnings);
}
