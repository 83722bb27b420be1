//! One repair of one image, however it ends: well, with an error, in a panic, or not at all.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use super::{Judge, Make};
use crate::disk::{Disk, Trace};
use crate::properties::Verdict;
use crate::requirements::{Ended, Requirement, Requirements};
use crate::run::{Run, run};
use crate::subject::{Options, Outcome, Repair, Stopped, Undo};

/// How long all runs of the repair of one image may take.
const TIME: Duration = Duration::from_secs(30);

/// What came of a repair.
pub(super) struct Tried {
    pub run: Run,
    pub ended: Ended,
    pub verdicts: Vec<(Requirement, Verdict)>,
    /// Whether it is still running.
    pub endless: bool,
}

/// Repairs an image in a thread of its own, as nothing else can leave a repair that does not end.
pub(super) fn attempt(make: Make, image: &Arc<Requirements>, judge: Judge) -> Tried {
    let (sender, receiver) = mpsc::channel();
    let theirs = Arc::clone(image);
    let worker = thread::spawn(move || {
        let _ = sender.send(in_thread(make, &theirs, judge));
    });
    match receiver.recv_timeout(TIME) {
        Ok(tried) => tried,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let message = format!("it does not end within {} seconds", TIME.as_secs());
            broke(image, Ended::Broke(message))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => match worker.join() {
            // The judge panicked, not what it judges.
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("what has not panicked has sent something"),
        },
    }
}

/// Of a repair that nothing is known of.
fn broke(image: &Requirements, ended: Ended) -> Tried {
    let bytes = image.before().bytes.clone();
    let outcome = Err(Stopped::unknown("it did not end"));
    let run = Run::observed(Trace::default(), outcome, bytes);
    Tried {
        verdicts: image.verdicts(&run, &ended),
        run,
        ended,
        endless: true,
    }
}

fn in_thread(make: Make, image: &Requirements, judge: Judge) -> Tried {
    let guarded = Guarded {
        repair: make(),
        panicked: Mutex::default(),
    };
    let run = run(&guarded, image.before(), &[]);
    let ended = match (guarded.panic(), &run.outcome) {
        (Some(how), _) => how,
        (None, Ok(_)) => Ended::Well,
        (None, Err(_)) => Ended::Failed,
    };
    let mut verdicts = judge(&guarded, image, &run, &ended);
    // Also where an operation failed.
    if let (Some(Ended::Broke(how)), false) = (guarded.panic(), matches!(ended, Ended::Broke(_))) {
        verdicts.push((Requirement::Ends, Verdict::fails(how)));
    }
    Tried {
        run,
        ended,
        verdicts,
        endless: false,
    }
}

/// A repair whose panics are errors, and remembered.
struct Guarded {
    repair: Box<dyn Repair>,
    panicked: Mutex<Option<String>>,
}

impl Guarded {
    fn panic(&self) -> Option<Ended> {
        let panicked = self.panicked.lock().unwrap_or_else(PoisonError::into_inner);
        panicked.clone().map(Ended::Broke)
    }
}

impl Repair for Guarded {
    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        let repaired = catch_unwind(AssertUnwindSafe(|| self.repair.repair(disk)));
        repaired.unwrap_or_else(|panic| {
            let message = format!("it panics: {}", said(&*panic));
            let mut panicked = self.panicked.lock().unwrap_or_else(PoisonError::into_inner);
            *panicked = Some(message.clone());
            Err(Stopped::unknown(&message))
        })
    }

    fn options(&self) -> Options {
        self.repair.options()
    }

    fn undo(&self) -> Option<&dyn Undo> {
        self.repair.undo()
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("something that is no text")
}
