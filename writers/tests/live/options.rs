//! The image as an option of qemu-io: the format, a node that only hands on, a `blkdebug` for each fault,
//! and a log of what comes through.

use recount_oracle::case::{Fault, FaultKind, Operation, Times};

/// The states of a `blkdebug` count from here.
const FIRST_STATE: u32 = 1;
/// Linux's numbers of errors.
const EIO: u32 = 5;
const ENOSPC: u32 = 28;

/// The option for an image in this file, of which these operations fail, with a log in another file.
pub fn of(faults: &[Fault], image: &str, log: &str) -> String {
    // A node tells the one below it of every flush; qcow2 itself tells it only of the guest's.
    let mut options = vec!["driver=qcow2,discard=unmap,file.driver=raw".to_owned()];
    let mut node = "file.file".to_owned();
    for fault in faults {
        if let Some(rules) = rules(&node, fault) {
            options.extend(rules);
            node += ".image";
        }
    }
    options.push(format!("{node}.driver=blklogwrites"));
    options.push(format!("{node}.log-sector-size=512"));
    options.push(format!("{node}.log-super-update-interval=1"));
    for (child, name) in [("log", log), ("file", image)] {
        let file = format!("{node}.{child}");
        options.push(format!("{file}.driver=file,{file}.filename={name}"));
        // The log has every flush; the machine's own disk need not wait for them.
        options.push(format!("{file}.cache.no-flush=on"));
    }
    options.join(",")
}

/// A `blkdebug` in which one fault happens. Every write that comes to it, or every flush, takes it to its
/// next state, and in one of them it fails. No event of it is a change of length.
fn rules(node: &str, fault: &Fault) -> Option<Vec<String>> {
    let (event, kind) = match fault.operation {
        Operation::Write => ("pwritev", "write"),
        Operation::Flush => ("flush_to_disk", "flush"),
        Operation::Read | Operation::SetLen => return None,
    };
    // A part of a write is never done: it fails before that.
    let errno = match fault.error {
        FaultKind::NoSpace => ENOSPC,
        FaultKind::Io | FaultKind::Short => EIO,
    };
    let first = FIRST_STATE + fault.nth;
    let (last, once) = match fault.times {
        Times::Once => (first, "on"),
        Times::Twice => (first + 1, "on"),
        Times::Forever => (first, "off"),
    };
    let mut rules = vec![format!("{node}.driver=blkdebug")];
    for (number, state) in (FIRST_STATE..last).enumerate() {
        let (rule, next) = (format!("{node}.set-state.{number}"), state + 1);
        let states = format!("{rule}.state={state},{rule}.new_state={next}");
        rules.push(format!("{rule}.event={event},{states}"));
    }
    for (number, state) in (first..=last).enumerate() {
        let rule = format!("{node}.inject-error.{number}");
        let when = format!("{rule}.event={event},{rule}.state={state},{rule}.once={once}");
        rules.push(format!("{when},{rule}.iotype={kind},{rule}.errno={errno}"));
    }
    Some(rules)
}
