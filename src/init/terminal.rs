//! The terminal: the child gets the foreground if we had it, and we get it back.
//!
//! | our place | what is done |
//! |---|---|
//! | no terminal | nothing |
//! | background of a job-control shell | nothing is taken; a child that reads is stopped, and we with it; put in front we hand on |
//! | foreground of a job-control shell | the child's group gets the foreground; when it is stopped we stop too, so that the shell sees it; on SIGCONT both go on |
//! | session leader, or PID 1 with `-t` | the child's group gets the foreground; nobody could continue us, so a stop from the keyboard is undone, as the kernel does for orphaned groups |

#![forbid(unsafe_code)]

use crate::sys::process;
use crate::sys::signal::Signal;
use crate::sys::tty::Terminal;

/// Our side of the controlling terminal.
#[derive(Debug)]
pub struct Foreground {
    terminal: Terminal,
    own_group: i32,
    child_group: Option<i32>,
}

impl Foreground {
    /// The terminal, if we have one.
    pub fn ours() -> Option<Foreground> {
        let terminal = Terminal::find()?;
        Some(Foreground { terminal, own_group: process::own_group(), child_group: None })
    }

    pub fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    /// The terminal to hand over: ours to give while we are in its foreground.
    pub fn to_give(&self) -> Option<&Terminal> {
        self.terminal.foreground().is_ok_and(|front| front == self.own_group).then_some(&self.terminal)
    }

    /// The child has a group of its own: it gets what we have. The child does the same, whoever comes first.
    pub fn hand_over(&mut self, child_group: i32) {
        self.child_group = Some(child_group);
        self.hand_over_again();
    }

    /// Whether the child's group has the foreground now.
    pub fn is_childs(&self) -> bool {
        self.child_group.is_some_and(|group| self.terminal.foreground().is_ok_and(|fg| fg == group))
    }

    /// After a continuation: if the shell put us into the foreground, the child goes there.
    pub fn hand_over_again(&self) {
        if let (Some(group), Some(terminal)) = (self.child_group, self.to_give()) {
            let _ = terminal.give_to(group);
        }
    }

    /// At the end: what the child had is ours again.
    pub fn take_back(&self) {
        if self.is_childs() {
            let _ = self.terminal.give_to(self.own_group);
        }
    }
}

/// What follows when job control stopped the child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// Stop ourselves: a shell waits for that, and will continue us.
    StopToo,
    /// Let the child go on: nobody could continue it from the keyboard.
    Undo,
    /// Somebody wanted it so.
    Leave,
}

/// Decides; `continuable`: a job-control shell in our session watches over us.
pub fn on_child_stopped(by: Option<Signal>, has_terminal: bool, continuable: bool) -> Follow {
    match by {
        Some(Signal::TSTP | Signal::TTIN | Signal::TTOU | Signal::STOP) if has_terminal && continuable => {
            Follow::StopToo
        }
        Some(Signal::TSTP) if has_terminal => Follow::Undo,
        _ => Follow::Leave,
    }
}

/// Whether somebody in our session but in another group is our parent: our group is not orphaned, a stop makes sense.
pub fn continuable() -> bool {
    process::own_pid() != 1
        && !process::is_session_leader()
        && process::parent_group_in_our_session().is_some_and(|group| group != process::own_group())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_followed_where_somebody_can_undo_it() {
        let table = [
            (Signal::TSTP, true, true, Follow::StopToo),
            (Signal::STOP, true, true, Follow::StopToo),
            (Signal::TSTP, true, false, Follow::Undo),
            (Signal::STOP, true, false, Follow::Leave),
            (Signal::TTIN, true, false, Follow::Leave),
            (Signal::TSTP, false, true, Follow::Leave),
        ];
        for (by, has_terminal, continuable, expected) in table {
            assert_eq!(on_child_stopped(Some(by), has_terminal, continuable), expected, "{by}");
        }
    }
}
