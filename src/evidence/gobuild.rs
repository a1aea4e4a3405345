//! What Go's linker noted about a build: the toolchain, the main module, the revision it was built from. It survives `-s -w`.
//!
//! Of `.go.buildinfo`: from Go 1.18 two strings behind a header of 32 bytes, before that two pointers to strings
//! (debug/buildinfo of Go's library).

#![forbid(unsafe_code)]

use super::symbols::elf::Elf;

const MAGIC: &[u8; 14] = b"\xff Go buildinf:";
/// The header is aligned to its own half.
const ALIGN: usize = 16;
/// Where the header is looked for in a program without section headers: the linker puts it near the beginning of the data.
const SEARCH_BYTES: usize = 1 << 20;
/// The strings. A program with a thousand dependencies has 100 KiB.
const TEXT_BYTES: usize = 4 << 20;
/// One value of it in a report.
const VALUE_BYTES: usize = 256;
/// Build settings that are told; Go knows some twenty.
const SETTINGS: usize = 40;

/// The facts, each as Go writes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GoBuild {
    /// `go1.25.5`
    pub version: String,
    /// The package that was built.
    pub path: Option<String>,
    /// The main module, and its version unless it was built from a working copy.
    pub module: Option<String>,
    pub module_version: Option<String>,
    /// `CGO_ENABLED`, `GOARCH`, `vcs.time` … and flags of the compiler and the linker.
    pub settings: Vec<(String, String)>,
}

impl GoBuild {
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(found, _)| found == key).map(|(_, value)| &**value)
    }

    /// The commit.
    pub fn revision(&self) -> Option<&str> {
        self.setting("vcs.revision")
    }

    /// Whether the working copy had changes of its own.
    pub fn is_modified(&self) -> bool {
        self.setting("vcs.modified") == Some("true")
    }
}

/// `None` if Go did not link it.
pub fn read(elf: &[u8]) -> Option<GoBuild> {
    let elf = Elf::parse(elf)?;
    let (address, blob) = header(&elf)?;
    let flags = blob[15];
    let (version, module) = if flags & 2 != 0 {
        let (version, rest) = inline(blob.get(32..)?)?;
        (version, inline(rest).map(|(module, _)| module).unwrap_or_default())
    } else if flags & 1 == 0 && blob[14] == 8 {
        let [version, module] = elf.words::<2>(address.checked_add(16)?)?;
        (string(&elf, version)?, string(&elf, module).unwrap_or_default())
    } else {
        return None;
    };
    let mut build = GoBuild { version: printable(version)?, ..GoBuild::default() };
    build.take(unwrapped(module));
    Some(build)
}

impl GoBuild {
    /// The text of runtime/debug's BuildInfo.
    fn take(&mut self, text: &[u8]) {
        for line in String::from_utf8_lossy(text).lines() {
            let mut fields = line.split('\t');
            match (fields.next(), fields.next()) {
                (Some("path"), Some(path)) => self.path = printable(path.as_bytes()),
                (Some("mod"), Some(module)) => {
                    self.module = printable(module.as_bytes());
                    let version = fields.next().filter(|version| *version != "(devel)");
                    self.module_version = version.and_then(|version| printable(version.as_bytes()));
                }
                (Some("build"), Some(setting)) if self.settings.len() < SETTINGS => {
                    let Some((key, value)) = setting.split_once('=') else { continue };
                    if let (Some(key), Some(value)) = (printable(unquoted(key)), printable(unquoted(value))) {
                        self.settings.push((key, value));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Address and bytes of the header, with all that follows it.
fn header<'d>(elf: &Elf<'d>) -> Option<(u64, &'d [u8])> {
    let is_header = |bytes: &[u8]| bytes.starts_with(MAGIC) && bytes.len() >= 32;
    if let Some(address) = elf.address_of(".go.buildinfo")
        && let Some(bytes) = elf.at(address).filter(|bytes| is_header(bytes))
    {
        return Some((address, bytes));
    }
    elf.writable().find_map(|(address, bytes)| {
        let searched = bytes.len().min(SEARCH_BYTES);
        let at = (0..searched).step_by(ALIGN).find(|at| is_header(&bytes[*at..]))?;
        Some((address.checked_add(at as u64)?, &bytes[at..]))
    })
}

/// A length as Go's encoding/binary writes it, and so many bytes; then what follows.
fn inline(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut len = 0usize;
    for (i, byte) in bytes.iter().enumerate().take(4) {
        len |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return bytes[i + 1..].split_at_checked(len).filter(|_| len <= TEXT_BYTES);
        }
    }
    None
}

/// Go's own string: a pointer and a length.
fn string<'d>(elf: &Elf<'d>, address: u64) -> Option<&'d [u8]> {
    let [start, len] = elf.words::<2>(address)?;
    elf.at(start)?.get(..usize::try_from(len).ok().filter(|len| *len <= TEXT_BYTES)?)
}

/// Without the 16 bytes on either side by which the text is found in memory.
fn unwrapped(text: &[u8]) -> &[u8] {
    let is_wrapped = text.len() >= 33 && text[text.len() - 17] == b'\n';
    if is_wrapped { &text[16..text.len() - 16] } else { &[] }
}

/// A key or value with odd characters is in quotes.
fn unquoted(text: &str) -> &[u8] {
    let inner = text.strip_prefix(['"', '`']).and_then(|text| text.strip_suffix(['"', '`']));
    inner.unwrap_or(text).as_bytes()
}

/// What can stand in a report: text without control characters, of bounded length.
pub(super) fn printable(text: &[u8]) -> Option<String> {
    let text: String = std::str::from_utf8(text).ok()?.chars().filter(|c| !c.is_control()).collect();
    let end = (0..=text.len().min(VALUE_BYTES)).rev().find(|end| text.is_char_boundary(*end))?;
    Some(text[..end].trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ELF file with one writable segment, linked at 0x1000.
    fn elf(data: &[u8]) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        elf.extend([0u64, 64, 0].iter().flat_map(|n| n.to_le_bytes()));
        elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
        elf.extend([1, 0, 0, 0, 6, 0, 0, 0]);
        let size = data.len() as u64;
        elf.extend([120u64, 0x1000, 0x1000, size, size, 0x1000].iter().flat_map(|n| n.to_le_bytes()));
        elf.extend(data);
        elf
    }

    fn wrapped(text: &str) -> Vec<u8> {
        [b"0123456789abcdef", text.as_bytes(), b"fedcba9876543210"].concat()
    }

    const TEXT: &str = "path\texample.com/shop/cmd\nmod\texample.com/shop\tv1.2.3\th1:x=\ndep\texample.com/dep\tv0.1.0\th1:y=\n\
        build\t-ldflags=\"-s -w\"\nbuild\tCGO_ENABLED=0\nbuild\tvcs.revision=0123abcd\nbuild\tvcs.modified=true\n";

    fn expected() -> GoBuild {
        let settings =
            [("-ldflags", "-s -w"), ("CGO_ENABLED", "0"), ("vcs.revision", "0123abcd"), ("vcs.modified", "true")];
        GoBuild {
            version: "go1.18.3".to_owned(),
            path: Some("example.com/shop/cmd".to_owned()),
            module: Some("example.com/shop".to_owned()),
            module_version: Some("v1.2.3".to_owned()),
            settings: settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    /// From Go 1.18.
    fn inline_blob(text: &str) -> Vec<u8> {
        let module = wrapped(text);
        let mut blob = [&MAGIC[..], &[8, 2], &[0; 16], &[8], b"go1.18.3"].concat();
        blob.extend([(module.len() & 0x7f) as u8 | 0x80, (module.len() >> 7) as u8]);
        blob.extend(module);
        blob
    }

    /// Before: two pointers to strings, which are a pointer and a length.
    fn pointer_blob(text: &str) -> Vec<u8> {
        let module = wrapped(text);
        let mut blob = [&MAGIC[..], &[8, 0]].concat();
        let words = [0x1020, 0x1030, 0x1040, 8, 0x1048, module.len() as u64];
        blob.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        blob.extend(b"go1.18.3");
        blob.extend(module);
        blob
    }

    #[test]
    fn both_layouts_tell_the_same() {
        assert_eq!(read(&elf(&inline_blob(TEXT))), Some(expected()));
        assert_eq!(read(&elf(&pointer_blob(TEXT))), Some(expected()));
        let behind_data = [vec![7; 48], inline_blob(TEXT)].concat();
        assert_eq!(read(&elf(&behind_data)), Some(expected()));
        assert_eq!((expected().revision(), expected().is_modified()), (Some("0123abcd"), true));
        assert_eq!(expected().setting("CGO_ENABLED"), Some("0"));
    }

    #[test]
    fn a_working_copy_has_no_version_and_other_programs_tell_nothing() {
        let build = read(&elf(&inline_blob("path\tshop\nmod\tshop\t(devel)\t\n"))).unwrap();
        assert_eq!((build.module.as_deref(), build.module_version), (Some("shop"), None));
        let unwrapped = [&MAGIC[..], &[8, 2], &[0; 16], &[8], b"go1.18.3", &[0]].concat();
        assert_eq!(read(&elf(&unwrapped)), Some(GoBuild { version: "go1.18.3".to_owned(), ..GoBuild::default() }));
        assert_eq!(read(&elf(b"nothing of Go's, but long enough to be")), None);
        assert_eq!(read(b"#!/bin/sh"), None);
        let hostile = inline_blob("path\t\x1b[31mred\nbuild\tvcs.revision=a\x07b\n");
        let build = read(&elf(&hostile)).unwrap();
        assert_eq!((build.path.as_deref(), build.revision()), (Some("[31mred"), Some("ab")));
    }

    /// Found by the fuzzer.
    #[test]
    fn a_segment_at_the_end_of_the_address_space_does_no_harm() {
        let mut bytes = elf(&pointer_blob(TEXT));
        bytes[80..88].copy_from_slice(&(u64::MAX - 8).to_le_bytes());
        assert_eq!(read(&bytes), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn wrong_bytes_and_cut_files_do_no_harm(
            pointers in any::<bool>(),
            cut in 0usize..600,
            wrong in proptest::collection::vec((0usize..600, any::<u8>()), 0..12),
        ) {
            let mut bytes = elf(&if pointers { pointer_blob(TEXT) } else { inline_blob(TEXT) });
            for (at, byte) in wrong {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            if let Some(build) = read(&bytes) {
                prop_assert!(build.version.len() <= VALUE_BYTES && build.settings.len() <= SETTINGS);
            }
        }
    }
}
