//! Exceptions, threads and images as Sentry wants them: frames oldest first, one crashed thread whose stack is with its
//! exception, and an image for each file that a frame is in.

#![forbid(unsafe_code)]

use super::envelope::Size;
use super::event::{LONG_BYTES, cut};
use crate::case::Reason;
use crate::evidence::stack::{Exception, Frame, Image, Mechanism, Stack, ThreadStack};
use crate::report::Report;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Of a name; Relay cuts there.
const NAME_BYTES: usize = 512;
/// Of one stack; Relay takes the middle out of a longer one.
const FRAMES: usize = 250;
/// Of a thread that did not crash: an event has 1 MiB for all of them.
const OTHER_FRAMES: usize = 50;

/// `exception.values`, the one that ended the process last, and alone if it has to be small.
pub fn exceptions(report: &Report, size: Size) -> Vec<Value> {
    if report.exceptions.is_empty() {
        let value = format!("{}: {}", report.component, report.summary);
        let crashed = report.threads.iter().find(|thread| thread.crashed);
        let lone = Exception {
            kind: report.kind.clone(),
            value,
            stack: crashed.map(|thread| thread.stack.clone()),
            thread: crashed.map(|thread| thread.tid),
            mechanism: Mechanism::default(),
        };
        return vec![exception(report, &lone, 0, size)];
    }
    let first = if size == Size::Trimmed { report.exceptions.len() - 1 } else { 0 };
    let all = report.exceptions.iter().enumerate().skip(first);
    all.map(|(place, one)| exception(report, one, place, size)).collect()
}

fn exception(report: &Report, one: &Exception, place: usize, size: Size) -> Value {
    let is_last = place + 1 >= report.exceptions.len();
    let crashed = report.threads.iter().find(|thread| thread.crashed).filter(|_| is_last);
    let stack = one.stack.as_ref().or(crashed.map(|thread| &thread.stack)).filter(|stack| !stack.frames.is_empty());
    let mut mechanism = mechanism(&one.mechanism);
    let last = report.exceptions.len().saturating_sub(1);
    if last > 0 && size != Size::Trimmed {
        // Numbered from the end, where Sentry has its root.
        mechanism["exception_id"] = (last - place).into();
        if let Some(parent) = one.mechanism.parent.and_then(|parent| last.checked_sub(parent)) {
            mechanism["parent_id"] = parent.into();
        }
    }
    if is_last {
        if let (Some(name), Some(number)) = (&report.exit.signal, report.exit.signal_number) {
            if one.mechanism.kind.is_empty() {
                mechanism["type"] = "signalhandler".into();
            }
            mechanism["meta"] = json!({"signal": {"number": number, "name": name}});
        }
        // Then the title is the function, and the signal's name does not count for the group.
        let named = |frame: &Frame| frame.in_app && frame.function.is_some();
        if mechanism["type"] == "signalhandler" && stack.is_some_and(|stack| stack.frames.iter().any(named)) {
            mechanism["synthetic"] = true.into();
        }
    }
    let mut value =
        json!({"type": cut(&one.kind, NAME_BYTES), "value": cut(&one.value, LONG_BYTES), "mechanism": mechanism});
    if let Some(stack) = stack {
        value["stacktrace"] = stacktrace(stack, if size == Size::Trimmed { OTHER_FRAMES } else { FRAMES });
    }
    if let Some(tid) = one.thread.or(crashed.map(|thread| thread.tid)) {
        value["thread_id"] = tid.into();
    }
    value
}

fn mechanism(mechanism: &Mechanism) -> Value {
    let kind = if mechanism.kind.is_empty() { "obit.exit" } else { &mechanism.kind };
    let mut value = json!({"type": kind, "handled": false});
    if let Some(source) = &mechanism.source {
        value["source"] = cut(source, NAME_BYTES).into();
    }
    if mechanism.is_group {
        value["is_exception_group"] = true.into();
    }
    value
}

/// `threads.values`; the stack of the crashed one is with its exception.
pub fn threads(report: &Report) -> Vec<Value> {
    let has_stack = |tid| report.exceptions.iter().any(|one| one.thread == Some(tid) && one.stack.is_some());
    let all = report.threads.iter();
    all.map(|thread: &ThreadStack| {
        let mut value = json!({
            "id": thread.tid, "crashed": thread.crashed && report.reason != Reason::StopTimeout, "current": thread.crashed,
        });
        if let Some(name) = &thread.name {
            value["name"] = cut(name, NAME_BYTES).into();
        }
        if let Some(state) = &thread.state {
            value["state"] = cut(state, NAME_BYTES).into();
        }
        if i64::try_from(thread.tid).ok() == report.process.pid.map(i64::from) {
            value["main"] = true.into();
        }
        if !thread.crashed && !thread.stack.frames.is_empty() && !has_stack(thread.tid) {
            value["stacktrace"] = stacktrace(&thread.stack, OTHER_FRAMES);
        }
        value
    })
    .collect()
}

fn stacktrace(stack: &Stack, limit: usize) -> Value {
    let mut frames: Vec<Value> = stack.frames.iter().take(limit).map(frame).collect();
    let left_out = stack.frames.len().saturating_sub(limit);
    match stack.omitted {
        Some(omitted) if omitted.before <= frames.len() => frames.insert(omitted.before, hole(omitted.frames)),
        _ if left_out > 0 => frames.push(hole(left_out as u64)),
        _ => {}
    }
    frames.reverse();
    let mut value = json!({"frames": frames});
    if stack.frames.iter().any(|frame| frame.address.is_some()) {
        // All but the innermost are return addresses.
        value["instruction_addr_adjustment"] = "all_but_first".into();
    }
    if !stack.registers.is_empty() {
        let registers = stack.registers.iter().map(|(name, value)| (name.clone(), Value::from(hex(*value))));
        value["registers"] = Value::Object(registers.collect());
    }
    value
}

/// A frame that stands for those which were left out.
fn hole(frames: u64) -> Value {
    let many = if frames == 0 { "frames".to_owned() } else { format!("{frames} frames") };
    json!({"function": format!("[{many} left out]"), "in_app": false})
}

fn frame(frame: &Frame) -> Value {
    let mut value = json!({"in_app": frame.in_app});
    let mut text = |key: &str, text: Option<&str>| {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            value[key] = cut(text, NAME_BYTES).into();
        }
    };
    text("function", frame.function.as_deref());
    text("symbol", frame.symbol.as_deref());
    text("module", frame.module.as_deref());
    text("package", frame.package.as_deref());
    text("abs_path", frame.file.as_deref());
    text("filename", frame.file.as_deref().map(short));
    let numbers = [("lineno", frame.line), ("colno", frame.column)];
    for (key, number) in numbers {
        if let Some(number) = number {
            value[key] = number.into();
        }
    }
    let addresses = [
        ("instruction_addr", frame.address),
        ("symbol_addr", frame.symbol_address),
        ("image_addr", frame.image_address),
    ];
    for (key, address) in addresses {
        if let Some(address) = address {
            value[key] = hex(address).into();
        }
    }
    if let Some(trust) = frame.trust {
        value["trust"] = json!(trust);
    }
    value
}

/// An absolute path without its directories: they differ from one build machine to the next.
fn short(path: &str) -> &str {
    if path.starts_with('/') { path.rsplit('/').next().unwrap_or(path) } else { path }
}

fn hex(number: u64) -> String {
    format!("{number:#x}")
}

/// `debug_meta.images`: the program, and what a frame is in. Without a build id Sentry knows no image.
pub fn images(report: &Report) -> Vec<Value> {
    let stacks = report.exceptions.iter().filter_map(|one| one.stack.as_ref());
    let stacks = stacks.chain(report.threads.iter().map(|thread| &thread.stack));
    let touched: BTreeSet<u64> =
        stacks.flat_map(|stack| &stack.frames).filter_map(|frame| frame.image_address).collect();
    let is_wanted =
        |image: &&Image| touched.contains(&image.address) || report.process.exe.as_deref() == Some(&*image.file);
    let images = report.images.iter().filter(is_wanted);
    images.filter_map(|image| self::image(image, &report.host.arch)).collect()
}

fn image(image: &Image, arch: &str) -> Option<Value> {
    let code_id = image.build_id.as_deref()?;
    let arch = if arch == "aarch64" { "arm64" } else { arch };
    Some(json!({
        "type": "elf",
        "code_file": image.file,
        "code_id": code_id,
        "debug_id": image.debug_id()?,
        "image_addr": hex(image.address),
        "image_size": image.size,
        "arch": arch,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_of_a_stack_is_a_frame_where_it_was() {
        let named = |name: &str| Frame { function: Some(name.to_owned()), ..Frame::default() };
        let functions = |stack: &Stack, limit| {
            let stack = stacktrace(stack, limit);
            let frames = stack["frames"].as_array().unwrap().iter();
            frames.map(|frame| frame["function"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let mut stack = Stack { frames: ["c", "b", "a"].map(named).into(), ..Stack::default() };
        assert_eq!(functions(&stack, 9), ["a", "b", "c"]);
        assert_eq!(functions(&stack, 2), ["[1 frames left out]", "b", "c"]);
        stack.omitted = Some(crate::evidence::stack::Omitted { before: 1, frames: 70 });
        assert_eq!(functions(&stack, 9), ["a", "b", "[70 frames left out]", "c"]);
    }
}
