//! A Go program without symbols and debug information is named as Go's own runtime names it.

use crate::bed::{Bed, trial};
use crate::need::Need;
use libtest_mimic::Trial;
use obit::evidence::gobuild;
use obit::evidence::stack::Frame;
use obit::evidence::symbols::{Roots, Symbols};
use obit::sys::map;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub fn trials() -> Vec<Trial> {
    const NEEDS: &[Need] = &[Need::Tool("go"), Need::Tool("git")];
    vec![
        trial("every function of a stripped Go program is called what its runtime calls it", NEEDS, named),
        trial("inlined calls of a stripped Go program are those of its own traceback", NEEDS, inlined),
        trial("a Go program tells its toolchain, module and revision, stripped or not", NEEDS, facts),
        trial("the report of a Go program has its version, its revision and a release of them", NEEDS, reported),
        trial("a Go program with wrong bytes or without its end does no harm", NEEDS, hostile),
    ]
}

/// Answers what its own runtime says of addresses, or panics five calls deep, three of them inlined.
const MAIN: &str = r#"
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"example.com/shop/cart"
)

func ask() {
	maps, _ := os.ReadFile("/proc/self/maps")
	own, _, _ := strings.Cut(string(maps), "/shop\n")
	own = own[strings.LastIndex(own, "\n")+1:]
	base, _ := strconv.ParseUint(strings.SplitN(own, "-", 2)[0], 16, 64)
	linked, _ := strconv.ParseUint(os.Args[2], 16, 64)
	base -= linked
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		at, _ := strconv.ParseUint(lines.Text(), 16, 64)
		frame, _ := runtime.CallersFrames([]uintptr{uintptr(base + at + 1)}).Next()
		fmt.Fprintf(out, "%s\t%s\t%d\n", frame.Function, frame.File, frame.Line)
	}
}

func main() {
	if len(os.Args) > 2 {
		ask()
		return
	}
	shelf := cart.New[string]()
	fmt.Println(shelf.Take(len(os.Args) + 3))
}
"#;

const CART: &str = r#"
package cart

type Shelf[T any] struct{ items []T }

func New[T any]() *Shelf[T] { return &Shelf[T]{} }

func price(items []int, i int) int { return items[i] }

func twice(items []int, i int) int {
	first := price(items, 0)
	return first + price(items, i)
}

//go:noinline
func total(items []int, i int) (sum int) {
	func() {
		sum = twice(items, i)
	}()
	return sum
}

//go:noinline
func (s *Shelf[T]) Take(i int) int { return total([]int{1, 2}, i) }
"#;

/// `go` on PATH, and those that OBIT_TEST_GO names.
fn toolchains() -> Vec<PathBuf> {
    let more = std::env::var_os("OBIT_TEST_GO").unwrap_or_default();
    [PathBuf::from("go")].into_iter().chain(std::env::split_paths(&more).filter(|path| path.is_file())).collect()
}

/// How the linker is told to make it.
const MODES: [&str; 2] = ["exe", "pie"];

fn built(directory: &Path, go: &Path, mode: &str, flags: &str) -> PathBuf {
    if !directory.join("cart").exists() {
        fs::create_dir(directory.join("cart")).unwrap();
        fs::write(directory.join("go.mod"), "module example.com/shop\n\ngo 1.19\n").unwrap();
        fs::write(directory.join("main.go"), MAIN).unwrap();
        fs::write(directory.join("cart/cart.go"), CART).unwrap();
        for arguments in [
            &["init", "-q"][..],
            &["add", "go.mod", "main.go", "cart"],
            &["-c", "user.name=shop", "-c", "user.email=shop@example.com", "commit", "-qm", "open"],
        ] {
            assert!(Command::new("git").args(arguments).current_dir(directory).status().unwrap().success());
        }
    }
    let program = directory.join("shop");
    let mut build = Command::new(go);
    build.args([
        "build",
        "-trimpath",
        "-buildvcs=true",
        &format!("-buildmode={mode}"),
        &format!("-ldflags={flags}"),
        "-o",
    ]);
    build.arg(&program).current_dir(directory).env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=mod");
    let output = build.output().unwrap();
    assert!(output.status.success(), "{go:?}: {}", String::from_utf8_lossy(&output.stderr));
    program
}

fn symbols(program: &Path) -> Symbols {
    Symbols::of(bytes(program), Some(program), &Roots::default())
}

fn bytes(program: &Path) -> &'static [u8] {
    map::file(&File::open(program).unwrap()).unwrap()
}

/// Name, file and line of the innermost call.
fn told(frames: &[Frame]) -> String {
    frames.first().map_or_else(|| "\t\t0".to_owned(), one)
}

fn one(frame: &Frame) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}\t{}\t{}", text(&frame.function), text(&frame.file), frame.line.unwrap_or_default())
}

/// Address and size of `.text`, and where the program is linked to begin.
fn places(program: &Path) -> (u64, u64, String) {
    let read = |option: &str| {
        let output = Command::new("readelf").arg(option).arg(program).output().unwrap().stdout;
        String::from_utf8(output).unwrap()
    };
    let headers = read("-SW");
    let row = headers.lines().find(|line| line.contains(" .text ")).expect("a section of code");
    let fields: Vec<&str> = row.split(".text").nth(1).unwrap().split_whitespace().collect();
    let number = |i: usize| u64::from_str_radix(fields[i], 16).unwrap();
    let segments = read("-lW");
    let first = segments.lines().find(|line| line.trim().starts_with("LOAD")).expect("a segment");
    let begins = first.split_whitespace().nth(2).unwrap().trim_start_matches("0x");
    (number(1), number(3), begins.to_owned())
}

fn named(bed: &Bed) {
    for go in toolchains() {
        for mode in MODES {
            let program = built(&bed.path(""), &go, mode, "-s -w");
            let (start, size, begins) = places(&program);
            // Neither even nor a multiple of anything, so that instructions are met anywhere.
            let addresses: Vec<u64> = (start..start + size).step_by(41).collect();
            let mut run = Command::new(&program);
            let mut run = run.args(["ask", &begins]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut input = run.stdin.take().unwrap();
            let question: String = addresses.iter().map(|address| format!("{address:x}\n")).collect();
            let asking = std::thread::spawn(move || input.write_all(question.as_bytes()));
            let answer = String::from_utf8(run.wait_with_output().unwrap().stdout).unwrap();
            asking.join().unwrap().unwrap();
            let symbols = symbols(&program);
            let mut same = 0;
            for (address, theirs) in addresses.iter().zip(answer.lines()) {
                let ours = told(&symbols.frames(*address));
                // Between two functions there is nothing, and the runtime says one or the other or nothing.
                let next = symbols.frames(address + 1);
                if next.first().is_some_and(|frame| frame.symbol_address == Some(address + 1)) {
                    // The runtime takes the answer for the function that begins there.
                    continue;
                }
                let is_padding = theirs.ends_with("\t?\t0") || ours.ends_with("\t\t0");
                assert!(ours.ends_with(theirs) || is_padding, "{go:?} {mode} {address:#x}: {ours:?}, not {theirs:?}");
                same += usize::from(ours == theirs);
            }
            assert!(same > addresses.len() * 8 / 10, "{same} of {}", addresses.len());
        }
    }
}

/// The calls of a traceback as GOTRACEBACK=system prints them: name, file and line, and the program counter, which inlined
/// calls share with the function that they are in. Before Go 1.21 they have none of their own.
fn traceback(said: &str) -> Vec<(u64, String)> {
    let lines: Vec<&str> = said.lines().collect();
    let mut calls = Vec::new();
    let mut within = Vec::new();
    for pair in lines.windows(2) {
        let Some(place) = pair[1].strip_prefix('\t').filter(|_| pair[0].ends_with(')')) else { continue };
        let (file, line) = place.split_whitespace().next().unwrap().rsplit_once(':').expect("a place");
        let name = &pair[0][..pair[0].rfind('(').unwrap()];
        let name = if name == "panic" { "runtime.gopanic" } else { name };
        within.push(format!("{name}\t{file}\t{line}"));
        let pc = place.split(" pc=0x").nth(1).and_then(|rest| rest.split_whitespace().next());
        if let Some(pc) = pc.map(|pc| u64::from_str_radix(pc, 16).unwrap()) {
            calls.extend(within.drain(..).map(|call| (pc, call)));
        }
    }
    calls
}

fn inlined(bed: &Bed) {
    for go in toolchains() {
        let program = built(&bed.path(""), &go, "exe", "-s -w");
        let run = Command::new(&program).env("GOTRACEBACK", "system").output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        let theirs = traceback(&said);
        let take = theirs.iter().position(|(_, call)| call.starts_with("example.com/shop/cart.price\t")).expect(&said);
        let symbols = symbols(&program);
        // A return address, so the call is before it.
        let at = theirs[take].0 - 1;
        let expected: Vec<&str> = theirs.iter().filter(|(pc, _)| *pc == at + 1).map(|(_, call)| &**call).collect();
        assert!(expected.len() >= 3, "{go:?}: price, twice and the closure are one function: {said}");
        let ours = symbols.frames(at);
        assert_eq!(ours.iter().map(one).collect::<Vec<_>>(), expected, "{go:?}");
        assert!(ours.iter().all(|frame| frame.in_app && frame.module.as_deref() == Some("example.com/shop/cart")));
        for (pc, call) in &theirs {
            // Of the functions that a goroutine began with it is the entry.
            let frames = [symbols.frames(pc - 1), symbols.frames(*pc)].concat();
            assert!(frames.iter().any(|frame| one(frame) == *call), "{go:?}: {call} {frames:?}");
        }
    }
}

fn facts(bed: &Bed) {
    for go in toolchains() {
        for (mode, flags) in [("exe", "-s -w"), ("pie", "-s -w"), ("exe", "")] {
            let directory = bed.path("");
            let program = built(&directory, &go, mode, flags);
            let said = Command::new(&go).arg("version").env("GOTOOLCHAIN", "local").output().unwrap().stdout;
            let version = String::from_utf8(said).unwrap().split_whitespace().nth(2).unwrap().to_owned();
            let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(&directory).output().unwrap().stdout;
            let build = gobuild::read(bytes(&program)).expect("a Go program");
            assert_eq!(build.version, version);
            assert_eq!(build.path.as_deref(), Some("example.com/shop"));
            assert_eq!(build.module.as_deref(), Some("example.com/shop"));
            assert_eq!(build.revision(), Some(String::from_utf8(head).unwrap().trim()));
            assert_eq!(build.setting("GOARCH"), Some(if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }));
            assert!(build.setting("CGO_ENABLED").is_some());
        }
    }
}

fn reported(bed: &Bed) {
    let program = built(&bed.path(""), Path::new("go"), "exe", "-s -w");
    let build = gobuild::read(bytes(&program)).unwrap();
    let revision = build.revision().expect("a revision");
    bed.under([&program]).end().code(2);
    let shown = bed.obit(["crashes", "show", "--json"]).end().stdout();
    let report: serde_json::Value = serde_json::from_str(&shown).expect("a report");
    assert_eq!(report["process"]["built"]["go_version"], build.version);
    assert_eq!(report["process"]["built"]["revision"], revision);
    let modified = if build.is_modified() { "+dirty" } else { "" };
    assert_eq!(report["run"]["release"], format!("shop@{revision}{modified}"));
    let page = bed.obit(["crashes", "show"]).end().stdout();
    assert!(page.contains(&format!("built by     {}", build.version)) && page.contains("example.com/shop"), "{page}");
}

/// Each copy is wrong in another way: in the head of the table, in the module data, anywhere.
fn hostile(bed: &Bed) {
    const COPIES: u64 = 60;
    let program = built(&bed.path(""), Path::new("go"), "exe", "-s -w");
    let (start, size, _) = places(&program);
    let whole = fs::read(&program).unwrap();
    let table =
        whole.windows(8).position(|bytes| bytes[1..6] == [0xff, 0xff, 0xff, 0, 0] && bytes[7] == 8).expect("a table");
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for copy in 0..COPIES {
        let mut bytes = whole.clone();
        match copy % 3 {
            0 => bytes.truncate(random(whole.len())),
            1 => bytes[table + 8 + random(64)] ^= 1 << random(8),
            _ => {
                for _ in 0..2000 {
                    let at = random(whole.len());
                    bytes[at] ^= 1 << random(8);
                }
            }
        }
        let bytes = bytes.leak();
        let _ = gobuild::read(bytes);
        let symbols = Symbols::of(bytes, Some(&program), &Roots::default());
        for address in (start..start + size).step_by(9973) {
            assert!(symbols.frames(address).len() < 300);
        }
    }
}
