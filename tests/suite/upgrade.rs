//! The version question: what leaves, what is believed, and what a known notice survives.

use crate::bed::{Bed, Setup, trial};
use crate::client::ask;
use crate::nameserver::{Mood, NameServer};
use crate::need::Need;
use libtest_mimic::Trial;
use serde_json::Value;
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("a signed answer becomes a notice in every place", &[], notice),
        trial("the question tells pseudonyms and a version and nothing else", &[], question),
        trial("with k8sDistro set the distribution and its version are told", &[], distro),
        trial("an answer with a wrong id or name is passed over and the true one is heard", &[], guessed),
        trial("an answer that was cut is asked for again by TCP", &[], cut),
        trial("a name server without EDNS is asked without it", &[], no_edns),
        trial("a question that was lost is asked again with another id from another port", &[], late),
        trial("the next name server is asked when one refuses, and IPv6 is spoken", &[], next_server),
        trial("an alias is followed within the answer", &[], alias),
        trial("of several records and strings the signed one is found", &[], several),
        trial("no failure clears a known notice, and without one each is named", &[], failures),
        trial("forged, stale, replayed and unsigned answers never make or change a notice", &[], forged),
        trial("switched off is not one packet", &[], off),
        trial("without a zone or a version nothing is asked and it is said why", &[], nothing_to_ask),
        trial("nsd answers the question with a signed wildcard record", NSD, nsd),
        trial("the system's resolver and the API server are asked, and no search list", SYSTEM, system_resolver),
        trial("a running init asks when it is time and the notice is in every place", &[], running),
        trial("a running init that may not ask does not", &[], running_off),
        trial("the name that would be asked can be seen before, while off too", &[], preview),
        trial("sign refuses what no obit would believe", &[], sign_refuses),
    ]
}

const NSD: &[Need] = &[Need::Tool("nsd")];
const SYSTEM: &[Need] = &[Need::Tool("nsd"), Need::Tool("unshare"), Need::Tool("ip"), Need::Tool("openssl")];
const ZONE: &str = "updates.example.test";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dns").join(name)
}

/// A record as `obit upgrade sign` makes it.
pub fn signed(bed: &Bed, key: &str, arguments: &[&str]) -> Value {
    let key = fixture(key).display().to_string();
    let sign = bed.obit(["upgrade", "sign", "--key", &key, "--json"]).args(arguments).end();
    sign.code(0);
    serde_json::from_str(&sign.stdout()).expect("an object")
}

pub fn record(bed: &Bed, latest: &str, severity: &str) -> String {
    let record = signed(
        bed,
        "signing-key.pem",
        &["--zone", ZONE, "--latest", latest, "--severity", severity, "--url", "https://example.test/r"],
    );
    record["txt"].as_str().expect("a text").to_owned()
}

fn public_key(bed: &Bed) -> String {
    let record = signed(bed, "signing-key.pem", &["--zone", ZONE, "--latest", "1.0.0"]);
    record["public_key"].as_str().expect("a key").to_owned()
}

pub fn with_question(bed: &Bed, setup: Setup, server: &NameServer) -> Setup {
    setup
        .env("OBIT_DNS_ZONE", ZONE)
        .env("OBIT_DNS_KEYS", public_key(bed))
        .env("OBIT_PRODUCT_VERSION", "1.5.3")
        .env("OBIT_DNS_RESOLVER", server.address.to_string())
}

pub fn asks(bed: &Bed, server: &NameServer) -> Setup {
    with_question(bed, bed.obit(["upgrade", "check", "--json"]), server)
}

/// Asks, whatever comes of it.
fn check(bed: &Bed, server: &NameServer) -> Value {
    let ended = asks(bed, server).end();
    serde_json::from_str(&ended.stdout()).unwrap_or_else(|_| panic!("no object: {ended:?}"))
}

fn notice(bed: &Bed) {
    let server = NameServer::new(Mood::says(&record(bed, "1.6.0", "mandatory")));
    let told = check(bed, &server);
    assert_eq!(told["state"], "mandatory", "{told}");
    assert_eq!((&told["latest"], &told["running"]), (&"1.6.0".into(), &"1.5.3".into()));
    assert_eq!(told["url"], "https://example.test/r");
    let sentence = "release 1.6.0 is needed for security, 1.5.3 is running";
    let status = with_question(bed, bed.obit(["upgrade", "status"]), &server).end();
    assert!(status.code(0).stdout().contains(sentence), "{}", status.stdout());
    let status = with_question(bed, bed.obit(["status"]), &server).end();
    assert!(status.code(0).stdout().contains(sentence), "{}", status.stdout());
    assert_eq!(server.asked().len(), 1, "looking asks nobody");
    // The upgrade itself ends the notice.
    let upgraded =
        with_question(bed, bed.obit(["upgrade", "status", "--json"]), &server).env("OBIT_PRODUCT_VERSION", "1.6.0");
    let upgraded: Value = serde_json::from_str(&upgraded.end().stdout()).expect("an object");
    assert_eq!(upgraded["state"], "current", "{upgraded}");
}

fn question(bed: &Bed) {
    let server = NameServer::new(Mood::says(&record(bed, "1.5.3", "current")));
    let secret = bed.path("secret");
    std::fs::write(&secret, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n").unwrap();
    let ids = |setup: Setup| {
        setup
            .env("OBIT_CLUSTER_ID", "5e9c7b1e-0000-4000-8000-000000000001")
            .env("OBIT_NODE_ID", "5e9c7b1e-0000-4000-8000-000000000101")
    };
    ids(asks(bed, &server)).env("OBIT_CLUSTER_SECRET", &secret).end().code(0);
    ids(asks(bed, &server)).end().code(0);
    let asked = server.asked();
    // The first of fixtures/dns/vectors.json.
    assert_eq!(asked[0].name, "nvossn89bfgdonoqt.cgrdloplopnstavdc.v64n3abhj.q1.updates.example.test.");
    assert_eq!((asked[0].kind, asked[0].edns, asked[0].tcp), (16, true, false));
    // With a secret of its own a node cannot be joined with others, nor found by its id.
    assert!(asked[1].name.ends_with(".c0.v64n3abhj.q1.updates.example.test."), "{}", asked[1].name);
    assert_ne!(asked[1].name[..17], asked[0].name[..17]);
    assert_eq!(asked.len(), 2, "one question each");
}

fn distro(bed: &Bed) {
    let server = NameServer::new(Mood::says(&record(bed, "1.5.3", "current")));
    asks(bed, &server).env("K8S_DISTRO", "openshift-4.2").env("OBIT_K8S_VERSION", "v1.14.6").end().code(0);
    let spec = bed.path("spec.yaml");
    std::fs::write(&spec, "spec:\n  k8sDistro: eks\n").unwrap();
    asks(bed, &server).env("OBIT_CLUSTER_SPEC", &spec).end().code(0);
    let asked = server.asked();
    // The second of fixtures/dns/vectors.json; then "eks/", where no API server tells a version.
    assert!(asked[0].name.contains(".kdto6arjjd1kmct1d6gn34brm64n32d1e6o.v64n3abhj.q1."), "{}", asked[0].name);
    assert!(asked[1].name.contains(".kclln6bo.v64n3abhj.q1."), "{}", asked[1].name);
}

fn guessed(bed: &Bed) {
    let server = NameServer::new(Mood::Guessed(record(bed, "1.6.0", "available")));
    let told = check(bed, &server);
    assert_eq!((&told["state"], &told["latest"]), (&"available".into(), &"1.6.0".into()), "{told}");
    assert_eq!(server.asked().len(), 1);
}

fn cut(bed: &Bed) {
    for mood in [Mood::Cut(record(bed, "1.6.0", "available")), Mood::CutHalf(record(bed, "1.6.0", "available"))] {
        let server = NameServer::new(mood);
        let told = check(bed, &server);
        assert_eq!(told["state"], "available", "{told}");
        let asked = server.asked();
        assert_eq!(asked.iter().map(|asked| asked.tcp).collect::<Vec<_>>(), [false, true]);
        assert_ne!(asked[0].id, asked[1].id);
    }
}

fn no_edns(bed: &Bed) {
    let server = NameServer::new(Mood::NoEdns(record(bed, "1.6.0", "recommended")));
    assert_eq!(check(bed, &server)["state"], "recommended");
    assert_eq!(server.asked().iter().map(|asked| asked.edns).collect::<Vec<_>>(), [true, false]);
}

fn late(bed: &Bed) {
    let server = NameServer::new(Mood::Late(record(bed, "1.6.0", "available")));
    assert_eq!(check(bed, &server)["state"], "available");
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].name, asked[1].name);
    assert!(asked[0].id != asked[1].id && asked[0].from != asked[1].from, "{asked:?}");
}

fn next_server(bed: &Bed) {
    let refuses = NameServer::new(Mood::Code(5));
    let answers = NameServer::at("::1".parse().unwrap(), Mood::says(&record(bed, "1.6.0", "available")));
    // Nobody listens there: the port was given back.
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let servers = format!("{nobody},{},{}", refuses.address, answers.address);
    let ended = asks(bed, &answers).env("OBIT_DNS_RESOLVER", servers).end();
    ended.code(0);
    assert_eq!((refuses.asked().len(), answers.asked().len()), (1, 1));
}

fn alias(bed: &Bed) {
    let server = NameServer::new(Mood::Alias(record(bed, "1.6.0", "available")));
    assert_eq!(check(bed, &server)["state"], "available");
}

fn several(bed: &Bed) {
    let text = record(bed, "1.6.0", "available");
    let (head, tail) = text.split_at(40);
    let records = vec![
        vec!["v=spf1 -all".to_owned()],
        vec!["v=obit1;f=*;l=9.9.9;s=4;n=1;e=99999999999".to_owned()],
        vec![head.to_owned(), tail.to_owned()],
    ];
    let told = check(bed, &NameServer::new(Mood::Says(records)));
    assert_eq!((&told["state"], &told["latest"]), (&"available".into(), &"1.6.0".into()), "{told}");
}

/// Each way to fail, what it is called where nothing is known, and a part of the sentence.
fn failures(bed: &Bed) {
    let text = record(bed, "1.6.0", "available");
    let table = [
        (Mood::Code(3), "unknown", "says that there is no such name"),
        (Mood::Code(2), "unknown", "said SERVFAIL"),
        (Mood::Code(5), "unknown", "said REFUSED"),
        (Mood::Says(vec![]), "unknown", "has no record for this version"),
        (Mood::Silent, "unknown", "did not answer"),
        (Mood::Foreign(text.clone()), "unknown", "did not answer"),
        (Mood::CutAndShut, "unknown", "does not answer by TCP"),
        (Mood::says("v=spf1 -all"), "unverified", "in no format that this obit knows"),
    ];
    let server = NameServer::new(Mood::Silent);
    for (mood, state, sentence) in &table {
        server.becomes(mood.clone());
        let ended = asks(bed, &server).end();
        ended.code(1);
        let told: Value = serde_json::from_str(&ended.stdout()).expect("an object");
        assert_eq!(told["state"], *state, "{mood:?}: {told}");
        assert!(told["why"].as_str().unwrap().contains(sentence), "{mood:?}: {told}");
    }
    server.becomes(Mood::says(&text));
    assert_eq!(check(bed, &server)["state"], "available");
    for (mood, _, sentence) in table.iter().filter(|(mood, ..)| *mood != Mood::Silent) {
        server.becomes(mood.clone());
        let told = check(bed, &server);
        assert_eq!((&told["state"], &told["latest"]), (&"available".into(), &"1.6.0".into()), "{mood:?}: {told}");
        assert!(told["failure"].as_str().unwrap().contains(sentence), "{mood:?}: {told}");
    }
}

fn forged(bed: &Bed) {
    let by = |key: &str, arguments: &[&str]| {
        let all = [&["--severity", "mandatory", "--latest", "9.9.9"], arguments].concat();
        signed(bed, key, &all)["txt"].as_str().expect("a text").to_owned()
    };
    let good = by("signing-key.pem", &["--zone", ZONE]);
    let unsigned = good.rsplit_once(";g=").unwrap().0.to_owned();
    let stale = by("signing-key.pem", &["--zone", ZONE, "--not-before", "1700000000", "--valid", "30d"]);
    let table = [
        (by("strangers-key.pem", &["--zone", ZONE]), "signed by a key that is not configured here"),
        (by("signing-key.pem", &["--zone", "other.test"]), "the signature of the answer is wrong"),
        (good.replace("l=9.9.9", "l=9.9.8"), "the signature of the answer is wrong"),
        (unsigned, "the answer is not signed"),
        (stale, "the answer has expired"),
        (by("signing-key.pem", &["--zone", ZONE, "--not-before", "99999999999"]), "the answer is not valid yet"),
        (by("signing-key.pem", &["--zone", ZONE, "--from", "1.0.0"]), "meant for another version"),
    ];
    let server = NameServer::new(Mood::Silent);
    for (text, sentence) in &table {
        server.becomes(Mood::says(text));
        let told = check(bed, &server);
        assert_eq!(told["state"], "unverified", "{text}: {told}");
        assert!(told["why"].as_str().unwrap().contains(sentence), "{told}");
    }
    let known = record(bed, "1.6.0", "recommended");
    server.becomes(Mood::says(&known));
    assert_eq!(check(bed, &server)["state"], "recommended");
    // As good as the first, and older: what somebody could replay to hide the notice.
    let earlier =
        known.split(";n=").nth(1).and_then(|rest| rest.split(';').next()).unwrap().parse::<u64>().unwrap() - 60;
    let replayed = signed(
        bed,
        "signing-key.pem",
        &["--zone", ZONE, "--latest", "1.5.3", "--severity", "current", "--not-before", &earlier.to_string()],
    );
    let replayed = (replayed["txt"].as_str().unwrap().to_owned(), "older than one that came before");
    for (text, sentence) in table.iter().chain([&replayed]) {
        server.becomes(Mood::says(text));
        let told = check(bed, &server);
        assert_eq!((&told["state"], &told["latest"]), (&"recommended".into(), &"1.6.0".into()), "{text}: {told}");
        assert!(told["failure"].as_str().unwrap().contains(sentence), "{told}");
    }
}

fn off(bed: &Bed) {
    let server = NameServer::new(Mood::says(&record(bed, "1.6.0", "available")));
    for (name, value) in [
        ("DISABLE_TELEMETRY", "true"),
        ("OBIT_DISABLE_TELEMETRY", "1"),
        ("DISABLE_VERSION_CHECK", "1"),
        ("OBIT_DISABLE_VERSION_CHECK", "perhaps"),
        ("DO_NOT_TRACK", "1"),
        ("OBIT_NO_VERSION_CHECK", "1"),
        ("OBIT_NO_TELEMETRY", "1"),
    ] {
        let ended = asks(bed, &server).env(name, value).end();
        ended.code(1).complains("off by ").complains(name.trim_start_matches("OBIT_NO_").trim_start_matches("OBIT_"));
        let status = with_question(bed, bed.obit(["upgrade", "status", "--json"]), &server).env(name, value).end();
        let status: Value = serde_json::from_str(&status.stdout()).expect("an object");
        assert_eq!(status["state"], "disabled", "{name}: {status}");
    }
    bed.obit(["telemetry", "disable", "--channel", "dns"]).end().code(0);
    asks(bed, &server).end().code(1).complains("off by the choice of obit telemetry");
    bed.obit(["telemetry", "enable", "--channel", "dns"]).end().code(0);
    assert_eq!(server.asked(), []);
    asks(bed, &server).end().code(0);
    assert_eq!(server.asked().len(), 1);
}

fn nothing_to_ask(bed: &Bed) {
    let server = NameServer::new(Mood::Silent);
    for (name, sentence) in
        [("OBIT_DNS_ZONE", "no DNS zone is set"), ("OBIT_PRODUCT_VERSION", "the version of what runs here")]
    {
        asks(bed, &server).env(name, "").end().code(1).complains(sentence);
    }
    asks(bed, &server).env("OBIT_DNS_ZONE", "no zone").end().code(1).complains("is no DNS zone");
    asks(bed, &server).env("OBIT_DNS_KEYS", "abc").end().code(1).complains("is no Ed25519 public key");
    assert_eq!(server.asked(), []);
}

fn sign_refuses(bed: &Bed) {
    let key = fixture("signing-key.pem").display().to_string();
    let sign = |arguments: &[&str]| bed.obit(["upgrade", "sign", "--key", &key, "--zone", ZONE]).args(arguments).end();
    sign(&["--latest", "soon"]).code(1).complains("would not be understood");
    sign(&["--latest", "1.0.0", "--url", "http://example.test/"]).code(1).complains("https://");
    sign(&["--latest", "1.0.0", "--severity", "high"]).code(1).complains("is no level");
    bed.obit(["upgrade", "sign", "--key", "/dev/null", "--zone", ZONE, "--latest", "1.0.0"])
        .end()
        .code(1)
        .complains("openssl genpkey -algorithm ed25519");
    let ended = sign(&["--latest", "1.6.0", "--from", "1.5.3"]);
    let line = ended.code(0).stdout();
    assert!(line.contains("\n*.v64n3abhj.q1.updates.example.test. 3600 IN TXT \"v=obit1;f=1.5.3;l=1.6.0;"), "{line}");
}

/// Debian's nsd with the zone as a vendor would write it: the line of `obit upgrade sign` for all, one for a version alone.
fn nsd(bed: &Bed) {
    // Of one moment: signed in two seconds, the earlier record would be older than the later one.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    let line = |arguments: &[&str]| {
        let all = [&["--zone", ZONE, "--url", "https://example.test/r", "--not-before", &now], arguments].concat();
        signed(bed, "signing-key.pem", &all)["record"].as_str().expect("a line").to_owned()
    };
    let zone = [
        "$ORIGIN updates.example.test.".to_owned(),
        "@ 3600 IN SOA ns hostmaster 1 3600 600 604800 300".to_owned(),
        "@ 3600 IN NS ns".to_owned(),
        "ns 3600 IN A 127.0.0.1".to_owned(),
        line(&["--latest", "1.6.0", "--severity", "available"]),
        line(&["--latest", "1.6.0", "--severity", "mandatory", "--from", "1.4.0"]),
    ];
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let here = bed.path("nsd");
    std::fs::create_dir(&here).unwrap();
    std::fs::write(here.join("zone"), zone.join("\n") + "\n").unwrap();
    let dir = here.display();
    let config = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  database: \"\"\n  zonesdir: {dir}\n  \
         pidfile: {dir}/pid\n  xfrdfile: {dir}/xfrd\n  zonelistfile: {dir}/list\n  logfile: {dir}/log\n\
         remote-control:\n  control-enable: no\nzone:\n  name: {ZONE}\n  zonefile: zone\n"
    );
    std::fs::write(here.join("conf"), config).unwrap();
    let conf = here.join("conf").display().to_string();
    let server = bed.command("nsd").args(["-d", "-c", &conf]).start();
    let asks = |version: &str| {
        bed.obit(["upgrade", "check", "--json"])
            .env("OBIT_DNS_ZONE", ZONE)
            .env("OBIT_DNS_KEYS", public_key(bed))
            .env("OBIT_PRODUCT_VERSION", version)
            .env("OBIT_DNS_RESOLVER", format!("127.0.0.1:{port}"))
            .env("K8S_DISTRO", "eks")
            .end()
    };
    let told = server.until("nsd answers", || {
        let ended = asks("1.5.3");
        let told: Value = serde_json::from_str(&ended.stdout()).ok()?;
        (told["state"] != "unknown").then_some(told)
    });
    assert_eq!((&told["state"], &told["latest"]), (&"available".into(), &"1.6.0".into()), "{told}");
    let older: Value = serde_json::from_str(&asks("1.4.0").stdout()).expect("an object");
    assert_eq!(older["state"], "mandatory", "a version has a record of its own: {older}");
    let newest: Value = serde_json::from_str(&asks("1.6.0").stdout()).expect("an object");
    assert_eq!(newest["state"], "current", "{newest}");
}

/// In a network and a file tree of its own: resolv.conf as Kubernetes writes it, the API server's address and account, and
/// nobody else to ask.
fn system_resolver(bed: &Bed) {
    let script = r#"
set -eu
mount --make-rprivate /
ip link set lo up
mkdir -p "$DIR/account"
new() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "$@" 2>/dev/null; }
new -keyout "$DIR/authority" -out "$DIR/account/ca.crt" -subj /CN=kubernetes
new -keyout "$DIR/key" -out "$DIR/cert" -subj /CN=apiserver -CA "$DIR/account/ca.crt" -CAkey "$DIR/authority" \
  -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE
mkdir "$DIR/www"
printf '{"major":"1","minor":"30","gitVersion":"v1.30.2"}' >"$DIR/www/version"
printf 'nameserver 127.0.0.1\nsearch svc.cluster.local cluster.local\noptions ndots:5 timeout:1\n' >"$DIR/resolv.conf"
mount --bind "$DIR/resolv.conf" /etc/resolv.conf
mount -t tmpfs none /var/run
mkdir -p /var/run/secrets/kubernetes.io
cp -r "$DIR/account" /var/run/secrets/kubernetes.io/serviceaccount
nsd -d -c "$DIR/conf" >/dev/null 2>&1 &
(cd "$DIR/www" && exec openssl s_server -quiet -accept 127.0.0.1:6443 -key "$DIR/key" -cert "$DIR/cert" -WWW >/dev/null 2>&1 </dev/null) &
n=0
until "$OBIT" upgrade check --json >"$DIR/told" 2>"$DIR/why"; do
  n=$((n + 1)); [ $n -lt 20 ] || { cat "$DIR/told" "$DIR/why" "$DIR/log" >&2; exit 1; }
done
cat "$DIR/told"
"#;
    let here = bed.path("nsd");
    std::fs::create_dir(&here).unwrap();
    let dir = here.display();
    // Only the question with distribution and version has an answer: eks/v1.30.2 and 1.5.3, whoever asks.
    let line = signed(bed, "signing-key.pem", &["--zone", ZONE, "--latest", "1.6.0", "--severity", "recommended"]);
    let line = line["record"].as_str().unwrap().replace("*.q1.", "*.c0.kclln6brm64n36c1e68.v64n3abhj.q1.");
    assert!(line.starts_with("*.c0."), "the node's label is what the wildcard matches: {line}");
    let zone = format!(
        "$ORIGIN {ZONE}.\n@ 3600 IN SOA ns hostmaster 1 3600 600 604800 300\n@ 3600 IN NS ns\nns 3600 IN A 127.0.0.1\n{line}\n"
    );
    std::fs::write(here.join("zone"), zone).unwrap();
    let config = format!(
        "server:\n  ip-address: 127.0.0.1@53\n  username: \"\"\n  chroot: \"\"\n  database: \"\"\n  zonesdir: {dir}\n  \
         pidfile: {dir}/pid\n  xfrdfile: {dir}/xfrd\n  zonelistfile: {dir}/list\n  logfile: {dir}/log\n\
         remote-control:\n  control-enable: no\nzone:\n  name: {ZONE}\n  zonefile: zone\n"
    );
    std::fs::write(here.join("conf"), config).unwrap();
    let ended = bed
        .command("unshare")
        .args(["-nm", "sh", "-c", script])
        .env("DIR", &here)
        .env("OBIT", crate::bed::binary())
        .env("OBIT_DNS_ZONE", ZONE)
        .env("OBIT_DNS_KEYS", public_key(bed))
        .env("OBIT_PRODUCT_VERSION", "1.5.3")
        .env("K8S_DISTRO", "eks")
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", "6443")
        .end();
    let told: Value = serde_json::from_str(&ended.stdout()).unwrap_or_else(|_| panic!("no object: {ended:?}"));
    assert_eq!((&told["state"], &told["latest"]), (&"recommended".into(), &"1.6.0".into()), "{told}");
}

/// A state directory in which the question has been due for a minute.
pub fn due_in(state: &Path) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_millis();
    let anchor = serde_json::json!({"unix_ms": now as u64 - 60_000, "boot_id": "another", "boot_ms": 0});
    let record = serde_json::json!({
        "format": 1, "zone": ZONE, "asked_unix": null, "wait": {"anchor": anchor, "wait_ms": 1, "spread": false},
        "notice": null, "newest_not_before": 0, "failure": null, "told": null,
    });
    std::fs::create_dir_all(state).unwrap();
    std::fs::write(state.join("upgrade.json"), record.to_string()).unwrap();
}

fn running(bed: &Bed) {
    let server = NameServer::new(Mood::says(&record(bed, "1.6.0", "mandatory")));
    due_in(&bed.state());
    let shown = with_question(bed, bed.obit(["telemetry", "show", "--channel", "dns"]), &server).end();
    let api = |run: Setup| run.env("OBIT_API", "127.0.0.1:0").env("USERNAME", "storageos").env("PASSWORD", "storageos");
    let run = api(with_question(bed, bed.under(["sleep", "100"]), &server)).start();
    let sentence = "release 1.6.0 is needed for security, 1.5.3 is running";
    run.complains(&format!("obit: {sentence}: https://example.test/r"));
    let stderr = run.stderr();
    let notice =
        stderr.find("from now on; see them with obit telemetry show").expect("a notice before the first question");
    assert!(notice < stderr.find(sentence).unwrap(), "{stderr}");
    // The same in the API, the metrics and on the page.
    let address = stderr.split_once("http://").and_then(|(_, rest)| rest.split_once('/')).expect("an address").0;
    let get = |path: &str| ask(address, "GET", path, &["authorization: Basic c3RvcmFnZW9zOnN0b3JhZ2Vvcw=="], "");
    assert_eq!(get("/v1/upgrade").json()["sentence"], sentence);
    assert!(get("/metrics").body.contains("obit_upgrade_severity{state=\"mandatory\"} 4\n"));
    let page = get("/").body;
    assert!(page.contains("Security upgrade") && page.contains("href=\"https://example.test/r\""), "{page}");
    let name = &server.asked()[0].name;
    assert_eq!(*name, shown.stdout().trim_end(), "what is asked is what was shown before");
    assert_eq!(page.matches(name.as_str()).count(), 2, "what would be asked, and what was: {page}");
    assert!(page.contains("1 TXT") && page.contains("a keyed hash of the node ("), "{page}");
    run.signal(nix::sys::signal::Signal::SIGTERM);
    run.end();
    // Asked once, and noted: the name, the name server, what it said. A restart asks no more.
    let log = bed.obit(["telemetry", "log", "--json"]).end();
    let asked = server.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    for part in [asked[0].name.as_str(), &server.address.to_string(), "1 TXT"] {
        assert!(log.code(0).stdout().contains(part), "{part}: {}", log.stdout());
    }
    let again = with_question(bed, bed.under(["sleep", "2"]), &server).end();
    assert!(!again.stderr().contains("needed for security"), "once a day is enough: {}", again.stderr());
    assert_eq!(server.asked().len(), 1);
    let status = with_question(bed, bed.obit(["upgrade", "status", "--json"]), &server).end();
    let status: Value = serde_json::from_str(&status.stdout()).expect("an object");
    assert_eq!(status["state"], "mandatory", "{status}");
}

fn running_off(bed: &Bed) {
    let server = NameServer::new(Mood::says(&record(bed, "1.6.0", "mandatory")));
    due_in(&bed.state());
    std::fs::write(bed.path("off.yaml"), "spec:\n  disableVersionCheck: true\n").unwrap();
    let off = bed.path("off.yaml").display().to_string();
    let cases = [
        ("DISABLE_TELEMETRY", "1"),
        ("DISABLE_VERSION_CHECK", "true"),
        ("DO_NOT_TRACK", "1"),
        ("OBIT_CLUSTER_SPEC", &off),
    ];
    let runs: Vec<_> = cases
        .iter()
        .map(|(name, value)| with_question(bed, bed.under(["sleep", "3"]), &server).env(*name, *value).start())
        .collect();
    for run in runs {
        run.end().code(0);
    }
    assert_eq!(server.asked(), []);
}

fn preview(bed: &Bed) {
    let server = NameServer::new(Mood::says(&record(bed, "1.5.3", "current")));
    let show = |value: &str| {
        let show = with_question(bed, bed.obit(["telemetry", "show", "--channel", "dns"]), &server);
        show.env("DISABLE_TELEMETRY", value).env("K8S_DISTRO", "eks").env("OBIT_K8S_VERSION", "v1.30.2").end()
    };
    asks(bed, &server).env("K8S_DISTRO", "eks").env("OBIT_K8S_VERSION", "v1.30.2").end().code(0);
    for value in ["0", "1"] {
        let shown = show(value);
        shown.code(0).complains("tells version 1.5.3, Kubernetes eks/v1.30.2, a keyed hash of the node (");
        assert_eq!(shown.stdout().trim_end(), server.asked()[0].name);
    }
    assert_eq!(server.asked().len(), 1, "looking asks nobody");
}
