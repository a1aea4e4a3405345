//! The stacks of a dead process with names: what [`unwind`](super::unwind) found, by what [`symbols`](super::symbols) knows.
//!
//! Unwinding needs the memory of the process, naming does not, so that a process that is held still for it can go on dying after
//! the first.

#![forbid(unsafe_code)]

use super::images::{self, Files, LoadedImage, WithFiles};
use super::memory::Memory;
use super::own;
use super::snapshot::{SignalInfo, Snapshot};
use super::stack::{Frame, Image, Omitted, Stack, ThreadStack};
use super::symbols::elf::Elf;
use super::symbols::{Roots, Symbols};
use super::unwind::{self, Call, Unwound};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

/// A message of abort(3) or assert(3).
const MESSAGE_BYTES: usize = 4096;
/// gdb's words for it.
const SIGNAL_FRAME: &str = "<signal handler called>";
/// Frames with names of all threads together; inlined calls multiply them.
const FRAMES: usize = 100_000;

/// What was found in a dead process.
#[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Autopsy {
    /// What the thread that crashed was sent.
    pub signal: Option<SignalInfo>,
    /// Where it raised that itself, in a handler of the same signal: the fault that the handler was called for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<SignalInfo>,
    pub threads: Vec<ThreadStack>,
    /// Those that a frame is in, by address.
    pub images: Vec<Image>,
    /// What abort(3), assert(3) or the allocator said.
    pub abort_message: Option<String>,
    /// In base64, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minidump: Option<String>,
    /// `what: why`.
    pub gaps: Vec<String>,
}

/// All of it, where the memory stays at hand.
pub fn of(snapshot: &Snapshot, memory: &impl Memory, files: &Files, roots: &Roots) -> (Autopsy, Vec<LoadedImage>) {
    let (images, gaps) = images::loaded(snapshot, memory, files);
    let memory = &WithFiles { memory, mappings: &snapshot.mappings, images: &images };
    let unwound = unwind::all(snapshot, memory, &images);
    let abort_message = abort_message(&images, memory);
    let mut autopsy = Autopsy { signal: snapshot.signal, abort_message, ..name(unwound, &images, roots) };
    autopsy.gaps.splice(0..0, snapshot.gaps.iter().cloned().chain(gaps));
    (autopsy, images)
}

/// Names every call. `images` are those that the unwinding went by.
pub fn name(unwound: Vec<Unwound>, images: &[LoadedImage], roots: &Roots) -> Autopsy {
    let namer = Namer { images, roots, symbols: images.iter().map(|_| OnceCell::new()).collect() };
    let mut known: HashMap<u64, Vec<Frame>> = HashMap::new();
    let mut left = FRAMES;
    let fault = unwound.iter().find_map(|thread| thread.fault);
    // The one that crashed has its share of what there is, and nothing of it is left out.
    let mut places: Vec<usize> = (0..unwound.len()).collect();
    places.sort_by_key(|place| !unwound[*place].crashed);
    let mut named: Vec<(usize, ThreadStack)> =
        places.into_iter().map(|place| (place, namer.thread(&unwound[place], &mut known, &mut left))).collect();
    named.sort_by_key(|(place, _)| *place);
    let threads: Vec<ThreadStack> = named.into_iter().map(|(_, thread)| thread).collect();
    let frames = threads.iter().flat_map(|thread| &thread.stack.frames);
    let used: HashSet<u64> = frames.filter_map(|frame| frame.image_address).collect();
    let gaps = namer.symbols.iter().filter_map(|symbols| symbols.get()?.as_ref()?.gap()).map(str::to_owned).collect();
    Autopsy {
        images: images.iter().filter(|image| used.contains(&image.range.start)).map(told).collect(),
        gaps,
        threads,
        fault,
        ..Autopsy::default()
    }
}

/// An image as reports have it.
pub fn told(image: &LoadedImage) -> Image {
    Image {
        file: image.name.clone(),
        build_id: image.build_id.as_deref().map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()),
        address: image.range.start,
        size: image.range.end.saturating_sub(image.range.start),
    }
}

struct Namer<'a> {
    images: &'a [LoadedImage],
    roots: &'a Roots,
    symbols: Vec<OnceCell<Option<Symbols>>>,
}

impl Namer<'_> {
    fn thread(&self, thread: &Unwound, known: &mut HashMap<u64, Vec<Frame>>, left: &mut usize) -> ThreadStack {
        let mut frames = Vec::new();
        let mut omitted = None;
        for (i, call) in thread.calls.iter().enumerate() {
            if let Some((before, missing)) = thread.omitted
                && before == i
            {
                omitted = Some(Omitted { before: frames.len(), frames: missing });
            }
            if *left == 0 {
                omitted.get_or_insert(Omitted { before: frames.len(), frames: (thread.calls.len() - i) as u64 });
                break;
            }
            let named = known.entry(call.instruction()).or_insert_with(|| self.frames(*call, thread.crashed));
            *left = left.saturating_sub(named.len());
            let told = |frame: &Frame| Frame { address: Some(call.pc), trust: Some(call.trust), ..frame.clone() };
            frames.extend(named.iter().map(told));
        }
        disown_shim(&mut frames);
        let registers = thread.registers.all().map(|(name, value)| (name.to_owned(), value)).collect();
        ThreadStack {
            tid: thread.tid.unsigned_abs().into(),
            name: thread.name.clone(),
            state: None,
            crashed: thread.crashed,
            stack: Stack { frames, registers, omitted },
        }
    }

    /// Innermost first: functions that were inlined there stand before the one they are in.
    fn frames(&self, call: Call, is_crash: bool) -> Vec<Frame> {
        let Some(image) = images::at(self.images, call.instruction()) else { return vec![Frame::default()] };
        let address = image.svma(call.instruction());
        let frames = self.symbols(image).map(|symbols| match is_crash {
            true => symbols.frames(address),
            false => symbols.frames_in_brief(address),
        });
        let mut frames = frames.unwrap_or_default();
        if call.is_signal_frame {
            // Whatever it is called, and mostly it is not.
            frames = vec![Frame { function: Some(SIGNAL_FRAME.to_owned()), ..Frame::default() }];
        }
        if frames.is_empty() {
            let in_app = !own::is_system_library(&image.name) && image.path.is_some();
            frames.push(Frame { in_app, ..Frame::default() });
        }
        for frame in &mut frames {
            frame.package = Some(image.name.clone());
            frame.image_address = Some(image.range.start);
            frame.symbol_address = frame.symbol_address.map(|address| address.wrapping_add(image.bias));
        }
        frames
    }

    fn symbols(&self, image: &LoadedImage) -> Option<&Symbols> {
        let place = self.images.partition_point(|other| other.range.start < image.range.start);
        let of =
            || image.bytes.map(|bytes| Symbols::of(bytes, image.path.as_deref(), self.roots).loaded_at(image.bias));
        self.symbols.get(place)?.get_or_init(of).as_ref()
    }
}

/// The C `main` that rustc puts around Rust's is nobody's own, though it lies among what is.
fn disown_shim(frames: &mut [Frame]) {
    let is_start =
        |frame: &Frame| frame.function.as_deref().is_some_and(|name| name.starts_with("std::rt::lang_start"));
    let at = frames.windows(2).position(|pair| is_start(&pair[0]) && pair[1].function.as_deref() == Some("main"));
    if let Some(shim) = at.and_then(|at| frames.get_mut(at + 1)) {
        shim.in_app = false;
    }
}

/// What abort(3), assert(3) or the allocator said, which glibc keeps in memory (`__abort_msg`: its size, then the text), wherever
/// stderr went.
pub fn abort_message(images: &[LoadedImage], memory: &impl Memory) -> Option<String> {
    let has_it = |image: &&LoadedImage| {
        let file = image.name.rsplit('/').next().unwrap_or_default();
        image.is_program || file.starts_with("libc.so") || file.starts_with("libc-")
    };
    images.iter().filter(has_it).find_map(|image| {
        let variable = Elf::parse(image.bytes?)?.variable("__abort_msg")?.wrapping_add(image.bias);
        let message = memory.word(variable).filter(|address| *address != 0)?;
        let size = u32::from_le_bytes(memory.bytes(message)?);
        let bytes = memory.some(message.checked_add(4)?, (size as usize).min(MESSAGE_BYTES));
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = String::from_utf8_lossy(text).trim_end().to_owned();
        (!text.is_empty()).then_some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_around_rust_s_is_not_the_programs_own() {
        let own = |names: &[&str]| {
            let frame = |name: &&str| Frame { function: Some((*name).to_owned()), in_app: true, ..Frame::default() };
            let mut frames: Vec<Frame> = names.iter().map(frame).collect();
            disown_shim(&mut frames);
            frames.last().unwrap().in_app
        };
        assert!(!own(&["shop::main", "std::rt::lang_start_internal", "main"]));
        assert!(!own(&["shop::main", "std::rt::lang_start<()>", "main"]));
        assert!(own(&["take", "main"]));
        assert!(own(&["main"]));
    }
}
