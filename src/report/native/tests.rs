//! What an autopsy makes of a report, with and without words of the program's.

use super::*;
use crate::case::{Case, Id, Reason, Run, Subject, Zombie};
use crate::death::Death;
use crate::evidence::snapshot::SignalInfo;
use crate::evidence::stack::{Frame, Stack, ThreadStack};
use crate::report::build;
use crate::sys::signal::Signal;

fn report(signal: Signal) -> Report {
    let run = Run {
        id: Id([1; 16]),
        component: "app".to_owned(),
        argv: vec!["app".into()],
        exe: None,
        cwd: None,
        started_unix_ms: 0,
        release: None,
        environment: None,
    };
    let case = Case {
        event_id: Id([2; 16]),
        reason: Reason::Signal,
        at_unix_ms: 1,
        run,
        subject: Subject::Main,
        pid: Some(7),
        told_code: None,
        death: Some(Death::Killed { signal, core: false }),
        uptime_ms: None,
        spawn_error: None,
        usage: None,
        zombie: Zombie::default(),
        oom_before: None,
        oom_after: None,
        stop: None,
        last_directory: None,
        stderr_tail: None,
        gaps: Vec::new(),
    };
    build::build(&case, build::Learnt::default(), &[], &mut Scrubber::new([]))
}

fn autopsy(abort_message: Option<&str>) -> Autopsy {
    let frame = |function: &str, in_app| Frame { function: Some(function.to_owned()), in_app, ..Frame::default() };
    let stack =
        Stack { frames: vec![frame("raise", false), frame("sell", true), frame("main", true)], ..Stack::default() };
    let thread = |tid, crashed| ThreadStack { tid, crashed, stack: stack.clone(), ..ThreadStack::default() };
    let signal = SignalInfo { number: 11, code: 1, fault_address: Some(16), sender_pid: None, sender_uid: None };
    Autopsy {
        signal: Some(signal),
        threads: vec![thread(6, false), thread(7, true)],
        abort_message: abort_message.map(str::to_owned),
        ..Autopsy::default()
    }
}

#[test]
fn where_the_program_said_nothing_the_signal_is_the_exception() {
    let mut told = report(Signal::SEGV);
    put(&mut told, autopsy(None), &mut Scrubber::new([]));
    let exception = told.exceptions.last().unwrap();
    assert_eq!((exception.kind.as_str(), exception.value.as_str()), ("SIGSEGV", "SEGV_MAPERR at 0x10"));
    assert_eq!((exception.thread, exception.mechanism.kind.as_str()), (Some(7), "signalhandler"));
    assert!(told.threads[0].crashed && told.process.threads_at_death == Some(2));
    assert!(told.fingerprint.ends_with(&["sell".to_owned(), "main".to_owned()]), "{:?}", told.fingerprint);
}

#[test]
fn a_signal_that_the_program_sent_to_itself_has_no_pid_in_its_title() {
    let mut told = report(Signal::ABRT);
    let sent = SignalInfo { number: 6, code: -6, fault_address: None, sender_pid: Some(7), sender_uid: Some(0) };
    put(&mut told, Autopsy { signal: Some(sent), ..autopsy(None) }, &mut Scrubber::new([]));
    assert_eq!(told.exceptions.last().unwrap().value, "raised by the program itself");
}

#[test]
fn a_fault_whose_handler_raised_it_again_is_told_and_not_the_raising() {
    let mut told = report(Signal::SEGV);
    let fault = autopsy(None).signal;
    let sent = SignalInfo { number: 11, code: -6, fault_address: None, sender_pid: Some(7), sender_uid: Some(0) };
    put(&mut told, Autopsy { signal: Some(sent), fault, ..autopsy(None) }, &mut Scrubber::new([]));
    let value = &told.exceptions.last().unwrap().value;
    assert_eq!(value, "SEGV_MAPERR at 0x10, raised again by the program's own handler");
}

#[test]
fn what_abort_said_is_its_value_and_its_secrets_are_masked() {
    let mut told = report(Signal::ABRT);
    put(&mut told, autopsy(Some("app: sell: Assertion `password=hunter2' failed.")), &mut Scrubber::new([]));
    let value = &told.exceptions.last().unwrap().value;
    assert!(value.contains("Assertion") && !value.contains("hunter2"), "{value}");
}

#[test]
fn an_exception_that_was_printed_stays_and_gets_the_stack() {
    let mut told = report(Signal::ABRT);
    told.exceptions.push(Exception { kind: "std::runtime_error".to_owned(), ..Exception::default() });
    put(&mut told, autopsy(Some("terminate")), &mut Scrubber::new([]));
    assert_eq!(told.exceptions.len(), 1);
    assert_eq!((told.exceptions[0].kind.as_str(), told.exceptions[0].thread), ("std::runtime_error", Some(7)));
    assert!(told.fingerprint.ends_with(&["sell".to_owned(), "main".to_owned()]), "{:?}", told.fingerprint);
}
