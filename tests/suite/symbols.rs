//! Names and lines agree with binutils' and Go's own tools, address by address, wherever a build left them.

use crate::bed::{Bed, trial};
use crate::need::Need;
use libtest_mimic::Trial;
use obit::evidence::stack::Frame;
use obit::evidence::symbols::{Roots, Symbols, demangle};
use obit::sys::map;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn trials() -> Vec<Trial> {
    const BINUTILS: Need = Need::Tool("addr2line");
    const OBJCOPY: Need = Need::Tool("objcopy");
    vec![
        trial("every instruction of a C program is called what binutils call it", &[BINUTILS], c),
        trial("units of debug information that need each other are read together", &[BINUTILS], lto),
        trial("every instruction of a C++ program is called what binutils call it", &[BINUTILS, CXX], cxx),
        trial("every instruction of a Rust program is called what binutils call it", &[BINUTILS, RUSTC], rust),
        trial("compressed debug sections are read, by zlib, zstd and the old way", &[OBJCOPY], compressed),
        trial("a stripped program is named by its debug link, wherever the file is kept", &[OBJCOPY], debug_link),
        trial("a debug file of another build is not used, and said", &[OBJCOPY], other_build),
        trial("a stripped program is named by its build id below a root", &[OBJCOPY], build_id),
        trial("the report of a stripped program is named by its build id below a root", &[OBJCOPY], reported),
        trial("a stripped program is named by the table inside it", &[OBJCOPY, Need::Tool("xz")], mini),
        trial("split debug information is read from its units and from its package", &[Need::Tool("dwp")], split),
        trial("a program with wrong bytes or without its end does no harm", &[OBJCOPY, Need::Tool("xz")], hostile),
        trial("debug information that dwz shared out is read", &[OBJCOPY, Need::Tool("dwz")], shared),
        trial("a large library of the system is told in brief by its symbols and lines alone", &[], brief),
    ]
}

const RUSTC: Need = Need::Tool("rustc");
const CXX: Need = Need::Tool("g++");

/// Of the C runtime's start files, which have no lines.
const CRT: [&str; 7] =
    ["_start", "_init", "_fini", "deregister_tm_clones", "register_tm_clones", "__do_global_dtors_aux", "frame_dummy"];

const C: &str = r#"
#include <stdlib.h>
#include <stdio.h>
static volatile int depth;
static inline __attribute__((always_inline)) int take(int *shelf, int i) {
    depth++;
    return shelf[i] + depth;
}
static inline __attribute__((always_inline)) int twice(int *shelf, int i) {
    int a = take(shelf, i);
    int b = take(shelf, i + 1);
    return a * b;
}
static __attribute__((noinline)) int hidden(int *shelf, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += twice(shelf, i);
    return sum;
}
__attribute__((noinline)) int open_shop(int n) {
    int *shelf = calloc(n + 2, sizeof *shelf);
    int sum = hidden(shelf, n);
    free(shelf);
    return sum;
}
int main(int argc, char **argv) {
    (void)argv;
    printf("%d\n", open_shop(argc * 10));
    return 0;
}
"#;

const CXX_SOURCE: &str = r#"
#include <cstdio>
#include <map>
#include <string>
#include <vector>
namespace shop {
template <typename T> struct Shelf {
    std::vector<T> items;
    __attribute__((noinline)) void put(T item) { items.push_back(item); }
    T take(size_t i) { return items.at(i); }
};
namespace { __attribute__((noinline)) int quiet(int x) { return x * 3 + 1; } }
static __attribute__((noinline)) int local(int x) { return quiet(x) + 2; }
struct Book { std::string name; int price; virtual ~Book() {} virtual int cost() const { return price; } };
struct Rare : Book { int cost() const override { return price * 10; } };
}
int main(int argc, char **) {
    shop::Shelf<int> shelf;
    for (int i = 0; i < argc + 3; i++) shelf.put(shop::local(i));
    std::map<std::string, int> prices{{"a", 1}};
    shop::Rare rare; rare.price = shelf.take(1);
    auto print = [&](int n) { std::printf("%d %d\n", n, rare.cost() + prices["a"]); };
    print(argc);
    return 0;
}
"#;

const RUST: &str = r#"
use std::collections::BTreeMap;
#[inline(always)]
fn price(book: &str) -> usize { book.len() * 3 }
#[inline(never)]
fn total<T: AsRef<str>>(books: &[T]) -> usize { books.iter().map(|b| price(b.as_ref())).sum() }
struct Shelf { books: BTreeMap<String, usize> }
impl Drop for Shelf { #[inline(never)] fn drop(&mut self) { println!("{}", self.books.len()); } }
fn main() {
    let names: Vec<String> = std::env::args().collect();
    let mut shelf = Shelf { books: BTreeMap::new() };
    for name in &names { shelf.books.insert(name.clone(), total(&names)); }
    println!("{:?}", shelf.books);
}
"#;

/// Compiles and returns the program's path.
fn built(directory: &Path, compiler: &str, name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let extension = if compiler == "gcc" {
        "c"
    } else if compiler == "g++" {
        "cc"
    } else {
        "rs"
    };
    let (file, program) = (directory.join(format!("{name}.{extension}")), directory.join(name));
    fs::write(&file, source).unwrap();
    run(directory, compiler, &[&["-o", text(&program), text(&file)], flags].concat());
    program
}

fn run(directory: &Path, tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).current_dir(directory).output().expect(tool);
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn symbols(program: &Path, roots: &Roots) -> Symbols {
    Symbols::of(map::file(&File::open(program).unwrap()).unwrap(), Some(program), roots)
}

/// Name and `file:line` of each call at an address, innermost first, as addr2line(1) prints them.
type Calls = Vec<(String, String)>;

fn calls(frames: &[Frame]) -> Calls {
    frames
        .iter()
        .map(|frame| {
            let name = frame.symbol.clone().or_else(|| frame.function.clone()).unwrap_or_else(|| "??".to_owned());
            let name = uncloned(&name);
            let file = frame.file.clone().unwrap_or_else(|| "??".to_owned());
            let line = frame.line.map_or("?".to_owned(), |line| line.to_string());
            (name, format!("{}:{line}", tidy(&file)))
        })
        .collect()
}

/// Debug information knows one function where the linker knows its parts, and one destructor where it knows three.
fn uncloned(name: &str) -> String {
    const MARKS: [&str; 5] = [".cold", ".part.", ".isra.", ".constprop.", ".llvm."];
    let end = MARKS.iter().find_map(|mark| name.find(mark)).unwrap_or(name.len());
    demangle(&name[..end]).unwrap_or_else(|| name[..end].to_owned())
}

/// Without `/./`, and `a/..`.
fn tidy(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." if parts.last().is_some_and(|last| !last.is_empty() && *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What addr2line(1) says of the addresses.
fn oracle(program: &Path, addresses: &[u64]) -> BTreeMap<u64, Calls> {
    let mut all = BTreeMap::new();
    for some in addresses.chunks(2000) {
        let words: Vec<String> = some.iter().map(|address| format!("{address:#x}")).collect();
        let arguments: Vec<&str> =
            ["-a", "-f", "-i", "-e", text(program)].into_iter().chain(words.iter().map(String::as_str)).collect();
        let said = run(Path::new("/"), "addr2line", &arguments);
        let mut lines = said.lines().peekable();
        while let Some(address) = lines.next() {
            let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).expect("an address");
            let mut calls = Calls::new();
            while lines.peek().is_some_and(|line| !line.starts_with("0x")) {
                let name = uncloned(lines.next().unwrap());
                let place = lines.next().unwrap().split(" (discriminator").next().unwrap().to_owned();
                calls.push((name, tidy(&place)));
            }
            all.insert(address, calls);
        }
    }
    all
}

/// Every instruction of the functions that `choose` takes, without the padding behind each: each line of objdump's.
fn instructions(program: &Path, choose: impl Fn(&str) -> bool) -> Vec<u64> {
    const PADDING: [&str; 6] = ["nop", "int3", "cs nop", "data16", "xchg   %ax,%ax", "add    %al"];
    let mut addresses = Vec::new();
    let mut padding = 0;
    let mut chosen = false;
    let said = run(Path::new("/"), "objdump", &["-d", "--no-show-raw-insn", text(program)]);
    for line in said.lines() {
        if let Some(name) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")).map(|(_, name)| name) {
            addresses.truncate(addresses.len() - std::mem::take(&mut padding));
            chosen = choose(name);
        } else if let Some((address, what)) = line.split_once(':').filter(|_| chosen && line.starts_with(' ')) {
            addresses.extend(u64::from_str_radix(address.trim(), 16));
            padding = if PADDING.iter().any(|nothing| what.trim().starts_with(nothing)) { padding + 1 } else { 0 };
        }
    }
    addresses.truncate(addresses.len() - padding);
    addresses
}

/// Fails unless every address has the calls that binutils give it; returns how many were asked.
fn agree(program: &Path, source: &str, choose: impl Fn(&str) -> bool) -> usize {
    let addresses = instructions(program, choose);
    let symbols = symbols(program, &Roots::default());
    let differ = oracle(program, &addresses).into_iter().find_map(|(address, theirs)| {
        let ours = calls(&symbols.frames(address));
        let same = ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|pair| is_same(pair.0, pair.1, source));
        (!same).then(|| format!("{address:#x}\n  ours   {ours:?}\n  theirs {theirs:?}"))
    });
    assert_eq!(differ, None, "{}", program.display());
    addresses.len()
}

/// Where binutils 2.40 is known to be wrong it need not agree: a lambda has the name of the function around it, and the line
/// of an inlined function's header is shown in the main file, which has no such line.
fn is_same(ours: &(String, String), theirs: &(String, String), source: &str) -> bool {
    let line = |place: &str| place.rsplit(':').next().and_then(|line| line.parse::<usize>().ok());
    let beyond = line(&theirs.1).is_some_and(|line| line > source.lines().count() && theirs.1.contains("/shop."));
    (ours.0 == theirs.0 || ours.0 == "operator()") && (ours.1 == theirs.1 || beyond && line(&ours.1) == line(&theirs.1))
}

fn c(bed: &Bed) {
    for flags in [&["-g", "-O2"][..], &["-g", "-O0"], &["-gdwarf-4", "-O2"], &["-g1", "-O2"], &["-g", "-O2", "-static"]]
    {
        let program = built(&bed.path(""), "gcc", "shop", C, flags);
        let asked = agree(&program, C, |name| ["main", "hidden", "open_shop"].contains(&name));
        assert!(asked > 40, "{asked} instructions with {flags:?}");
    }
}

/// Where a program is optimised as a whole its units name what is in others.
fn lto(bed: &Bed) {
    let inlined = |flags: &[&str]| {
        let program = built(&bed.path(""), "gcc", "shop", C, flags);
        inlined(&program, &program, &Roots::default())
    };
    let alone = inlined(&["-g", "-O2"]);
    assert_eq!(inlined(&["-g", "-O2", "-flto"]), alone);
    assert_eq!(alone.len(), 3, "{alone:?}");
}

fn cxx(bed: &Bed) {
    for flags in [&["-g", "-O2"][..], &["-g", "-O0"]] {
        let program = built(&bed.path(""), "g++", "shop", CXX_SOURCE, flags);
        let asked = agree(&program, CXX_SOURCE, |name| !name.contains('@') && !CRT.contains(&name));
        assert!(asked > 900, "{asked} instructions with {flags:?}");
    }
}

fn rust(bed: &Bed) {
    for flags in [&["-g", "-O"][..], &["-g"], &["-g", "-Csymbol-mangling-version=v0"]] {
        let program = built(&bed.path(""), "rustc", "shop", RUST, flags);
        let own = |name: &str| ["shop", "total", "BTreeMap"].iter().any(|part| name.contains(part));
        let asked = agree(&program, RUST, own);
        assert!(asked > 500, "{asked} instructions with {flags:?}");
    }
}

/// The calls at the instruction in `hidden` that adds up, where two functions are inlined into a third.
fn inlined(program: &Path, like: &Path, roots: &Roots) -> Calls {
    let source = symbols(like, &Roots::default());
    let deep = |address: &u64| source.frames(*address).len() == 3;
    let address = instructions(like, |name| name == "hidden").into_iter().find(deep).expect("an inlined call");
    calls(&symbols(program, roots).frames(address))
}

/// What the debug information of the program `C` says there.
fn assert_told(found: &Calls, what: &str) {
    let told: Vec<_> = found.iter().map(|(name, place)| (&**name, place.rsplit('/').next().unwrap())).collect();
    assert_eq!(told.len(), 3, "{what}: {told:?}");
    assert_eq!((told[0].0, told[1].0, told[2].0), ("take", "twice", "hidden"), "{what}");
    assert!(told.iter().all(|(_, place)| place.starts_with("shop.c:")), "{what}: {told:?}");
}

fn compressed(bed: &Bed) {
    let directory = bed.path("");
    let program = built(&directory, "gcc", "shop", C, &["-g", "-O2"]);
    for kind in ["zlib", "zlib-gnu", "zstd"] {
        let packed = directory.join(kind);
        run(&directory, "objcopy", &[&format!("--compress-debug-sections={kind}"), "shop", kind]);
        assert_told(&inlined(&packed, &program, &Roots::default()), kind);
    }
}

/// The program stripped, its debug information in `shop.debug`, with a link to it.
fn stripped(directory: &Path) -> (PathBuf, PathBuf) {
    let program = built(directory, "gcc", "shop", C, &["-g", "-O2"]);
    run(directory, "objcopy", &["--only-keep-debug", "shop", "shop.debug"]);
    run(directory, "objcopy", &["--strip-all", "--add-gnu-debuglink=shop.debug", "shop", "bare"]);
    (program, directory.join("bare"))
}

fn debug_link(bed: &Bed) {
    let directory = bed.path("");
    let (program, bare) = stripped(&directory);
    let file = directory.join("shop.debug");
    assert_told(&inlined(&bare, &program, &Roots::default()), "beside the program");
    fs::create_dir(directory.join(".debug")).unwrap();
    fs::rename(&file, directory.join(".debug/shop.debug")).unwrap();
    assert_told(&inlined(&bare, &program, &Roots::default()), "in .debug");
    let below = directory.join("root").join(directory.strip_prefix("/").unwrap());
    fs::create_dir_all(&below).unwrap();
    fs::rename(directory.join(".debug/shop.debug"), below.join("shop.debug")).unwrap();
    assert_told(&inlined(&bare, &program, &Roots::new([directory.join("root")])), "below a root");
    assert!(inlined(&bare, &program, &Roots::default()).is_empty(), "nothing knows a stripped program's names");
}

fn other_build(bed: &Bed) {
    let directory = bed.path("");
    let (program, bare) = stripped(&directory);
    built(&directory, "gcc", "other", C, &["-g", "-O1"]);
    run(&directory, "objcopy", &["--only-keep-debug", "other", "shop.debug"]);
    let address = instructions(&program, |name| name == "hidden")[0];
    let symbols = symbols(&bare, &Roots::default());
    assert!(symbols.frames(address).is_empty());
    let gap = symbols.gap().expect("a gap").to_owned();
    assert!(gap.starts_with("debug file: ") && gap.ends_with("shop.debug is of another build"), "{gap}");
}

fn build_id(bed: &Bed) {
    let directory = bed.path("");
    let (program, bare) = stripped(&directory);
    let notes = run(&directory, "readelf", &["-n", "shop"]);
    let id = notes.split("Build ID: ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a build id");
    let kept = directory.join("root/.build-id").join(&id[..2]);
    fs::create_dir_all(&kept).unwrap();
    fs::rename(directory.join("shop.debug"), kept.join(format!("{}.debug", &id[2..]))).unwrap();
    assert_told(&inlined(&bare, &program, &Roots::new([directory.join("root")])), "below a root");
}

/// From within the cage, which lets the examiner read below the roots.
fn reported(bed: &Bed) {
    const CRASH: &str = "static inline __attribute__((always_inline)) int take(volatile int *shelf) { return *shelf; }\n\
        __attribute__((noinline)) int open_shop(volatile int *shelf) { return take(shelf) + 1; }\n\
        int main(int argc, char **argv) { (void)argv; return open_shop(argc > 1 ? &argc : 0) + 2; }\n";
    let directory = bed.path("");
    built(&directory, "gcc", "shop", CRASH, &["-g", "-O1"]);
    let notes = run(&directory, "readelf", &["-n", "shop"]);
    let id = notes.split("Build ID: ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a build id");
    let kept = directory.join("root/.build-id").join(&id[..2]);
    fs::create_dir_all(&kept).unwrap();
    let file = kept.join(format!("{}.debug", &id[2..]));
    run(&directory, "objcopy", &["--only-keep-debug", "shop", text(&file)]);
    run(&directory, "objcopy", &["--strip-all", "shop", "bare"]);
    let root = directory.join("root");
    bed.run(&["--debug-dirs", text(&root)], [&directory.join("bare")]).end();
    let shown = bed.obit(["crashes", "show", "--json"]).end().stdout();
    let report: serde_json::Value = serde_json::from_str(&shown).expect("a report");
    let frames = &report["threads"][0]["stack"]["frames"];
    let told = |i: usize| (frames[i]["function"].as_str(), frames[i]["line"].as_u64(), frames[i]["in_app"].as_bool());
    assert_eq!(told(0), (Some("take"), Some(1), Some(true)), "{report}");
    assert_eq!(told(1), (Some("open_shop"), Some(2), Some(true)), "{report}");
    assert_eq!(told(2), (Some("main"), Some(3), Some(true)), "{report}");
    assert!(frames[0]["file"].as_str().is_some_and(|file| file.ends_with("/shop.c")));
}

fn mini(bed: &Bed) {
    let directory = bed.path("");
    let program = built(&directory, "gcc", "shop", C, &["-g", "-O2"]);
    run(&directory, "objcopy", &["--strip-debug", "shop", "table"]);
    run(&directory, "xz", &["--keep", "table"]);
    run(&directory, "objcopy", &["--strip-all", "--add-section", ".gnu_debugdata=table.xz", "shop", "bare"]);
    let found = inlined(&directory.join("bare"), &program, &Roots::default());
    assert_eq!(found, [("hidden".to_owned(), "??:?".to_owned())]);
}

fn split(bed: &Bed) {
    let directory = bed.path("");
    let program = built(&directory, "gcc", "shop", C, &["-g", "-O2"]);
    for version in ["-gdwarf-5", "-gdwarf-4"] {
        let flags = ["-g", version, "-O2", "-gsplit-dwarf"];
        let parted = built(&directory, "gcc", "parted", C, &flags);
        let unit = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        let unit = unit.into_iter().find(|path| path.extension().is_some_and(|end| end == "dwo")).expect("a unit");
        let told = |what: &str| {
            let found = inlined(&parted, &program, &Roots::default());
            let renamed = found.into_iter().map(|(name, place)| (name, place.replace("parted.c", "shop.c"))).collect();
            assert_told(&renamed, &format!("{version}, {what}"));
        };
        told("its unit");
        // The dwp of binutils knows no DWARF 5.
        if version == "-gdwarf-4" {
            run(&directory, "dwp", &["-e", "parted", "-o", "parted.dwp"]);
            fs::rename(&unit, directory.join("away")).unwrap();
            told("its package");
            fs::remove_file(directory.join("parted.dwp")).unwrap();
        } else {
            fs::remove_file(&unit).unwrap();
        }
        let found = inlined(&parted, &program, &Roots::default());
        assert_eq!(found.last().map(|call| &*call.0), Some("hidden"), "the symbol table still knows");
    }
}

fn shared(bed: &Bed) {
    let directory = bed.path("");
    let (program, bare) = stripped(&directory);
    fs::copy(&program, directory.join("twin")).unwrap();
    run(&directory, "dwz", &["-m", "common", "shop", "twin"]);
    run(&directory, "objcopy", &["--only-keep-debug", "shop", "shop.debug"]);
    run(&directory, "objcopy", &["--strip-all", "--remove-section=.gnu_debuglink", "bare"]);
    run(&directory, "objcopy", &["--add-gnu-debuglink=shop.debug", "bare"]);
    let like = built(&directory, "gcc", "shop", C, &["-g", "-O2"]);
    assert_told(&inlined(&bare, &like, &Roots::default()), "a debug file that dwz shared out");
    assert_told(&inlined(&directory.join("twin"), &like, &Roots::default()), "a program that dwz shared out");
}

/// Three units, each with a MiB of debug information that nobody asks for.
fn brief(bed: &Bed) {
    let directory = bed.path("");
    let much: String = (0..12_000).map(|n| format!("struct much_{n} {{ int a_{n}; char b_{n}; }};\n")).collect();
    fs::write(directory.join("much.h"), much).unwrap();
    let unit = |name: &str, source: &str| fs::write(directory.join(name), source).unwrap();
    unit("before.c", "#include \"much.h\"\nint before(int n) {\n    return n + 1;\n}\n");
    unit("shop.c", &format!("#include \"much.h\"\n{C}"));
    unit("behind.c", "#include \"much.h\"\nint behind(int n) {\n    return n + 2;\n}\n");
    let sources = ["before.c", "shop.c", "behind.c"];
    let flags = ["-g", "-O2", "-fno-eliminate-unused-debug-types", "-shared", "-fPIC", "-o"];
    let library = |directories: &str, version: &str, packing: &str| {
        let place = directory.join(directories);
        fs::create_dir_all(&place).unwrap();
        let library = place.join("libm.so.6");
        run(&directory, "gcc", &[&flags[..], &[text(&library), version, packing], &sources].concat());
        library
    };
    let packed = library("packed", "-gdwarf-5", "-gz=zlib");
    let all = instructions(&packed, |name| ["before", "hidden", "open_shop", "main", "behind"].contains(&name));
    // Each by itself, so that one does not help the other.
    let (whole, in_brief) = (symbols(&packed, &Roots::default()), symbols(&packed, &Roots::default()));
    let mut parted = 0;
    for address in &all {
        let (whole, brief) = (whole.frames(*address), in_brief.frames_in_brief(*address));
        let (first, last) = (whole.first().expect("known"), whole.last().expect("known"));
        let place = |frame: &Frame| (frame.file.clone(), frame.line, frame.column);
        assert_eq!(brief.len(), 1, "{address:#x}");
        assert_eq!(place(&brief[0]), place(first), "{address:#x}");
        assert_eq!((&brief[0].function, brief[0].in_app), (&last.function, last.in_app), "{address:#x}");
        parted += usize::from(whole.len() > 1);
    }
    assert!(parted > 10, "{parted}");
    // What is soon at hand, has no directories of its own, or is the program's, is told as ever.
    let others = [("soon", "-gdwarf-5", "-gz=none"), ("older", "-gdwarf-4", "-gz=zlib")];
    let mut others: Vec<PathBuf> = others.map(|(name, version, packing)| library(name, version, packing)).into();
    others.push(directory.join("libshop.so"));
    fs::copy(&packed, &others[2]).unwrap();
    for library in others {
        let symbols = symbols(&library, &Roots::default());
        let hidden = instructions(&library, |name| name == "hidden");
        let is_parted = |address: &u64| symbols.frames_in_brief(*address).len() > 1;
        assert!(hidden.iter().any(is_parted), "{}", library.display());
        for address in hidden {
            assert_eq!(symbols.frames_in_brief(address), symbols.frames(address), "{address:#x}");
        }
    }
}

/// Each copy is wrong in another way, and asked about every tenth instruction.
fn hostile(bed: &Bed) {
    const COPIES: u64 = 300;
    let directory = bed.path("");
    let mut addresses = Vec::new();
    for flags in [&["-g", "-O2"][..], &["-g", "-O2", "-gz"], &["-gdwarf-4", "-O2"]] {
        let program = built(&directory, "gcc", "shop", C, flags);
        addresses = instructions(&program, |_| true).into_iter().step_by(10).collect();
        damaged(&program, COPIES, &addresses);
    }
    run(&directory, "objcopy", &["--strip-debug", "shop", "table"]);
    run(&directory, "xz", &["--keep", "table"]);
    run(&directory, "objcopy", &["--strip-all", "--add-section", ".gnu_debugdata=table.xz", "shop", "bare"]);
    damaged(&directory.join("bare"), COPIES, &addresses);
}

fn damaged(program: &Path, copies: u64, addresses: &[u64]) {
    let whole = fs::read(program).unwrap();
    // Numerical Recipes' generator: the same copies each time.
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for copy in 0..copies {
        let mut bytes = whole.clone();
        match copy % 4 {
            0 => bytes.truncate(random(whole.len())),
            // The section headers lie at the end.
            1 => {
                for _ in 0..4 {
                    let at = whole.len() - 1 - random(2560);
                    bytes[at] = random(256) as u8;
                }
            }
            _ => {
                for _ in 0..=random(40) {
                    let at = random(whole.len());
                    bytes[at] ^= 1 << random(8);
                }
            }
        }
        let symbols = Symbols::of(bytes.leak(), Some(program), &Roots::default());
        for address in addresses {
            assert!(symbols.frames(*address).len() < 300);
        }
    }
}
