//! Whose code a call is: the program's own, or that of a runtime, of a standard library, of a dependency. It is a first opinion,
//! by names and paths; Sentry's project settings have the last word.

#![forbid(unsafe_code)]

/// A Rust function by its demangled name and, if known, its source file.
pub fn rust(function: Option<&str>, file: Option<&str>) -> bool {
    const PLACES: [&str; 6] =
        ["/rustc/", "/.cargo/registry/", "/.cargo/git/", "/library/std/src/", "/sysdeps/", "csu/libc-start.c"];
    if let Some(file) = file {
        return !PLACES.iter().any(|place| file.contains(place)) && !file.starts_with("library/");
    }
    let function = function.unwrap_or_default();
    // `<shop::Shelf as core::ops::Drop>::drop` is the shop's, `<usize as core::slice::SliceIndex>::index` is nobody's.
    match function.strip_prefix('<').and_then(|inner| inner.split_once(" as ")) {
        Some((kind, of)) => is_own_path(kind) && kind.contains("::") || is_own_path(of),
        None => is_own_path(function),
    }
}

fn is_own_path(path: &str) -> bool {
    const CRATES: [&str; 7] = ["std::", "core::", "alloc::", "__rust", "rust_", "_start", "__libc_start"];
    if path == "<unknown>" {
        return false;
    }
    let path = path.trim_start_matches(['<', '&', '*', '[', '(']);
    let path = path.trim_start_matches("mut ").trim_start_matches("const ").trim_start_matches("dyn ");
    !CRATES.iter().any(|name| path.starts_with(name)) && !matches!(path, "main" | "")
}

/// A Go function by its package and source file.
pub fn go(package: &str, file: &str) -> bool {
    let first = package.split('/').next().unwrap_or_default();
    let dependency = ["/pkg/mod/", "/vendor/", "@v"].iter().any(|part| file.contains(part));
    package == "main" || !dependency && !GO_STANDARD.contains(&first)
}

/// `github.com/a/b.(*T).M` lives in `github.com/a/b`.
pub fn go_package(function: &str) -> &str {
    let path = function.rfind('/').map_or(0, |slash| slash + 1);
    function[path..].find('.').map_or("", |dot| &function[..path + dot])
}

/// First elements of the import paths of Go's standard library; what it vendors itself lies below `vendor`.
const GO_STANDARD: [&str; 50] = [
    "",
    "archive",
    "bufio",
    "builtin",
    "bytes",
    "cmp",
    "compress",
    "container",
    "context",
    "crypto",
    "database",
    "debug",
    "embed",
    "encoding",
    "errors",
    "expvar",
    "flag",
    "fmt",
    "go",
    "hash",
    "html",
    "image",
    "index",
    "internal",
    "io",
    "iter",
    "log",
    "maps",
    "math",
    "mime",
    "net",
    "os",
    "path",
    "plugin",
    "reflect",
    "regexp",
    "runtime",
    "slices",
    "sort",
    "strconv",
    "strings",
    "structs",
    "sync",
    "syscall",
    "testing",
    "text",
    "time",
    "unicode",
    "unique",
    "vendor",
];

/// A C or C++ function by its demangled name and, if known, its source file.
pub fn native(function: &str, file: Option<&str>) -> bool {
    const PLACES: [&str; 10] = [
        "/usr/include/",
        "/sysdeps/",
        "/csu/",
        "/nptl/",
        "/glibc-",
        "/musl-",
        "/include/c++/",
        "/libstdc++-v3/",
        "/libsanitizer/",
        "/compiler-rt/",
    ];
    const NAMES: [&str; 29] = [
        "_start",
        "__restore_rt",
        "abort",
        "raise",
        "gsignal",
        "kill",
        "tgkill",
        "exit",
        "_exit",
        "start_thread",
        "clone",
        "clone3",
        "malloc_printerr",
        "__stack_chk_fail",
        "__fortify_fail",
        "__chk_fail",
        "free",
        "malloc",
        "calloc",
        "realloc",
        "memcpy",
        "memmove",
        "memset",
        "strlen",
        "strcpy",
        "pthread_create",
        "pthread_kill",
        "pthread_join",
        "_init",
    ];
    const BEGINNINGS: [&str; 24] = [
        "std::",
        "__gnu_cxx::",
        "__cxxabiv1::",
        "__cxa_",
        "__gxx_",
        "operator new",
        "operator delete",
        "__libc_",
        "__GI_",
        "__assert_",
        "__pthread_",
        "__mem",
        "__str",
        "__clone",
        "_dl_",
        "_IO_",
        "_int_",
        "_Unwind_",
        "__interceptor_",
        "__asan",
        "__tsan",
        "__ubsan",
        "__lsan",
        "__sanitizer",
    ];
    let bare = function.split('.').next().unwrap_or_default();
    !NAMES.contains(&bare)
        && !BEGINNINGS.iter().any(|name| function.starts_with(name))
        && !file.is_some_and(|file| PLACES.iter().any(|place| file.contains(place)))
}

/// A shared library of the system, or one of the C runtime's wherever it lies.
pub fn is_system_library(path: &str) -> bool {
    const DIRECTORIES: [&str; 5] = ["/lib/", "/lib64/", "/lib32/", "/usr/lib/", "/usr/lib64/"];
    const LIBRARIES: [&str; 13] = [
        "libc.so",
        "libc-2.",
        "libc.musl-",
        "ld-linux",
        "ld-musl-",
        "libpthread",
        "libm.so",
        "libdl.so",
        "libgcc_s.so",
        "libstdc++.so",
        "libasan.so",
        "libtsan.so",
        "linux-vdso",
    ];
    let name = path.rsplit('/').next().unwrap_or_default();
    name.contains(".so") && DIRECTORIES.iter().any(|directory| path.starts_with(directory))
        || LIBRARIES.iter().any(|library| name.starts_with(library))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_and_libraries_are_not_the_programs_own() {
        type Table<'a> = &'a [(&'a str, Option<&'a str>, bool)];
        let rust_table: Table = &[
            ("app::main", None, true),
            ("app::main", Some("/srv/app/src/main.rs"), true),
            ("std::panicking::begin_panic", None, false),
            ("core::option::Option<T>::unwrap", Some("/rustc/59807616e1fa/library/core/src/option.rs"), false),
            ("core::option::unwrap_failed", Some("library/core/src/option.rs"), false),
            ("alloc::vec::Vec<T>::push", None, false),
            ("<alloc::vec::Vec<app::T> as core::ops::Drop>::drop", None, false),
            ("<app::Shelf as core::ops::Drop>::drop", None, true),
            ("<usize as core::slice::SliceIndex<[T]>>::index", None, false),
            ("rust_begin_unwind", None, false),
            ("__rustc::rust_begin_unwind", None, false),
            ("__rust_start_panic", None, false),
            ("<unknown>", None, false),
            ("__libc_start_main", None, false),
            ("serde_json::from_str", Some("/home/me/.cargo/registry/src/index/serde_json-1.0/src/de.rs"), false),
        ];
        for (function, file, own) in rust_table {
            assert_eq!(rust(Some(function), *file), *own, "{function} {file:?}");
        }
        let native_table: Table = &[
            ("main", None, true),
            ("app::Cart::add(int)", Some("/srv/app/cart.cc"), true),
            ("abort", None, false),
            ("raise", None, false),
            ("__assert_fail", None, false),
            ("__libc_start_main", None, false),
            ("__libc_start_call_main", Some("./csu/../sysdeps/nptl/libc_start_call_main.h"), false),
            ("__pthread_kill_implementation", Some("/build/glibc-2.36/nptl/pthread_kill.c"), false),
            ("std::vector<app::Item>::push_back(app::Item const&)", None, false),
            ("std::terminate()", None, false),
            ("__gnu_cxx::__verbose_terminate_handler()", None, false),
            ("operator new(unsigned long)", None, false),
            ("find_if", Some("/usr/include/c++/12/bits/stl_algo.h"), false),
            ("atoi", Some("/usr/include/stdlib.h"), false),
            ("_start", None, false),
            ("free", None, false),
            ("free_list", None, true),
            ("start_thread", None, false),
            ("raise_error", None, true),
            ("serve.cold", None, true),
            ("abort.cold", None, false),
        ];
        for (function, file, own) in native_table {
            assert_eq!(native(function, *file), *own, "{function} {file:?}");
        }
        let go_table = [
            ("main", "/srv/shop/main.go", true),
            ("github.com/shop/cart", "/srv/shop/cart/cart.go", true),
            ("shop/cart", "/srv/shop/cart/cart.go", true),
            ("github.com/gin-gonic/gin", "/home/me/go/pkg/mod/github.com/gin-gonic/gin@v1.9.1/gin.go", false),
            ("github.com/shop/dep", "/srv/shop/vendor/github.com/shop/dep/dep.go", false),
            ("runtime", "/usr/local/go/src/runtime/panic.go", false),
            ("net/http", "/usr/local/go/src/net/http/server.go", false),
            ("internal/poll", "/usr/local/go/src/internal/poll/fd.go", false),
            ("vendor/golang.org/x/net/http/httpguts", "vendor/golang.org/x/net/http/httpguts/guts.go", false),
            ("", "", false),
        ];
        for (package, file, own) in go_table {
            assert_eq!(go(package, file), own, "{package}");
        }
        let libraries = [
            ("/lib/x86_64-linux-gnu/libc.so.6", true),
            ("/usr/lib/x86_64-linux-gnu/libssl.so.3", true),
            ("/usr/lib/jvm/java-17/lib/server/libjvm.so", true),
            ("/nix/store/abc-glibc-2.38/lib/ld-linux-x86-64.so.2", true),
            ("/lib/ld-musl-x86_64.so.1", true),
            ("/srv/app/libcart.so", false),
            ("/usr/lib/app/server", false),
            ("/usr/local/lib/libcart.so.1", false),
            ("", false),
        ];
        for (path, system) in libraries {
            assert_eq!(is_system_library(path), system, "{path}");
        }
    }
}
