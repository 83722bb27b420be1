//! One image after the other, from opening to closing.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::crash::{self, Limits};
use recount_oracle::disk::{SECTOR, Trace};

use crate::disk::end;
use crate::judge::{self, Kind, When, Wrong};
use crate::model::{Model, Moment};
use crate::operation::{Operation, bytes, parse};
use crate::report::{Failure, Report};
use crate::sectors::{Beside, content};
use crate::settings::Settings;
use crate::shrink::shrink;
use crate::start::{Start, numbers, start};
use crate::{Done, Guest, SharedDisk, Writer};

/// Has a writer work on random images, and judges it after each flush and close. The soonest failure of
/// each kind is told with fewer operations, where these lead to one of that kind as well.
pub fn check_writer(writer: &dyn Writer, settings: &Settings) -> Report {
    let mut report = Report::new(writer.name());
    for number in 0..settings.runs {
        let mut rng = numbers(settings, number);
        match start(settings, number, &mut rng) {
            Err(why) => report.refuse(&why),
            Ok(start) => {
                let run = Run::new(writer, settings, &start, &mut report);
                let size = start.bytes_of_disk();
                let failure = run.run(number, |done, model| {
                    let next = u32::try_from(done.len()).unwrap_or(u32::MAX) + 1;
                    let snapshots: Vec<&str> = model.snapshots().collect();
                    let (mix, cluster) = (&settings.mix, 1 << start.cluster_bits);
                    (next <= settings.operations)
                        .then(|| Operation::draw(&mut rng, mix, next, cluster, size, &snapshots))
                });
                report.end(failure);
            }
        }
    }
    report.shorten(|failure| {
        shrink(failure, settings.tries, |number, operations| {
            repeat(writer, settings, number, operations, &mut Report::new(""))
        })
    });
    report
}

/// Does these operations once more, in the words of a [`Report`], on the image that the run of this
/// number begins with; why not, where the words are no operations or there is no such image.
pub fn replay(
    writer: &dyn Writer,
    settings: &Settings,
    run: u32,
    operations: &str,
) -> Result<Report, String> {
    let operations = parse(operations)?;
    start(settings, run, &mut numbers(settings, run))?;
    let mut report = Report::new(writer.name());
    let failure = repeat(writer, settings, run, &operations, &mut report);
    report.end(failure);
    Ok(report)
}

fn repeat(
    writer: &dyn Writer,
    settings: &Settings,
    number: u32,
    operations: &[Operation],
    report: &mut Report,
) -> Option<Failure> {
    let start = start(settings, number, &mut numbers(settings, number)).ok()?;
    let run = Run::new(writer, settings, &start, report);
    run.run(number, |done, _| operations.get(done.len()).cloned())
}

/// One image.
struct Run<'a> {
    writer: &'a dyn Writer,
    settings: &'a Settings,
    start: &'a Start,
    disk: SharedDisk,
    beside: Beside,
    model: Model,
    guest: Option<Box<dyn Guest + 'a>>,
    /// Operations that were begun.
    done: Vec<Operation>,
    /// Whether the disk has ever failed: what leaked then is not the writer's fault.
    has_failed: bool,
    /// How many failures of the disk are reported, of those since it was new or mended.
    reported: u32,
    /// The bytes of a state that was judged to be wrong.
    judged: Option<SparseBytes>,
    report: &'a mut Report,
}

impl<'a> Run<'a> {
    fn new(
        writer: &'a dyn Writer,
        settings: &'a Settings,
        start: &'a Start,
        report: &'a mut Report,
    ) -> Self {
        Self {
            writer,
            settings,
            start,
            disk: start.disk(),
            beside: start.read_with(),
            model: Model::new(&start.view),
            guest: None,
            done: Vec::new(),
            has_failed: false,
            reported: 0,
            judged: None,
            report,
        }
    }

    /// Does what comes next by what was done, until there is no more; how it failed.
    fn run(
        mut self,
        number: u32,
        next: impl FnMut(&[Operation], &Model) -> Option<Operation>,
    ) -> Option<Failure> {
        let lived = catch_unwind(AssertUnwindSafe(|| self.live(next)));
        let lived = lived.unwrap_or_else(|panic| {
            let message = format!("it panics: {}", said(&*panic));
            Err((Kind::OperationFails, message))
        });
        let failure = lived.err().map(|(kind, message)| Failure {
            kind,
            message,
            run: number,
            operations: std::mem::take(&mut self.done),
            start: self.start.clone(),
            image: self.judged.take().unwrap_or_else(|| self.disk.bytes()),
        });
        // A guest that failed may panic once more when it is dropped.
        let guest = self.guest.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(guest)));
        failure
    }

    fn live(
        &mut self,
        mut next: impl FnMut(&[Operation], &Model) -> Option<Operation>,
    ) -> Result<(), Wrong> {
        match self.writer.open(self.disk.clone()) {
            Ok(_) if self.start.is_locked() => {
                let message = "an image is opened that is encrypted, and nobody has its key";
                return Err((Kind::OpensWithoutKey, message.to_owned()));
            }
            Ok(guest) => self.guest = Some(guest),
            Err(why) => return self.decline(&why),
        }
        while let Some(next) = next(&self.done, &self.model) {
            self.done.push(next.clone());
            self.perform(&next)?;
        }
        self.done.push(Operation::Reopen);
        self.close()
    }

    /// An image may be declined that is not the plainest, and left as it was.
    fn decline(&mut self, why: &str) -> Result<(), Wrong> {
        if self.start.features.is_empty() {
            return Err(fails("open")(why.to_owned()));
        }
        if self.disk.bytes() != self.start.bytes {
            let message = format!("the image is changed, and not opened: {why}");
            return Err((Kind::OperationFails, message));
        }
        self.report.decline(why, &self.start.features);
        Ok(())
    }

    fn perform(&mut self, operation: &Operation) -> Result<(), Wrong> {
        let Some(guest) = &mut self.guest else {
            return Err((Kind::OperationFails, "the image is not open".to_owned()));
        };
        match operation {
            Operation::Flush => match guest.flush() {
                Ok(()) => self.judge(When::Open),
                Err(why) => self.allow_after_failure(operation, why),
            },
            Operation::Reopen => {
                self.close()?;
                self.open()
            }
            Operation::Kill => {
                self.guest = None;
                self.judge(When::Ended)?;
                self.open()
            }
            Operation::Fail(fault) => {
                self.disk.fail(*fault);
                self.report.disk_is_to_fail();
                Ok(())
            }
            // Where operations were left out, the one that took it may be among them.
            Operation::DeleteSnapshot { name } if !self.model.has_snapshot(name) => Ok(()),
            _ => match change(&mut **guest, &mut self.model, operation) {
                Ok(done) => {
                    self.report.count(operation, done);
                    Ok(())
                }
                Err(why) => self.allow_after_failure(operation, why),
            },
        }
    }

    fn open(&mut self) -> Result<(), Wrong> {
        let opened = self.writer.open(self.disk.clone());
        self.guest = Some(opened.map_err(fails("open"))?);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Wrong> {
        let closed = self.guest.take().map_or(Ok(()), Guest::close);
        match closed {
            Ok(()) => self.judge(When::Closed),
            Err(why) => {
                self.allow_after_failure("close", why)?;
                self.judge(When::Ended)
            }
        }
    }

    /// An operation may fail once the disk has, and not before.
    fn allow_after_failure(&mut self, operation: impl ToString, why: String) -> Result<(), Wrong> {
        if self.disk.failed() == 0 {
            return Err(fails(operation)(why));
        }
        self.report.operation_failed();
        Ok(())
    }

    /// Judges the image after a flush or close, and what a power cut may have left meanwhile.
    fn judge(&mut self, when: When) -> Result<(), Wrong> {
        let failures = self.disk.failed();
        self.report.disk_failures(failures - self.reported);
        self.reported = failures;
        self.has_failed |= failures > 0 || when == When::Ended;
        // After an error nobody need have given back every cluster, or have set every bit 63.
        let asked = match when {
            When::Closed if self.has_failed => When::Open,
            when => when,
        };
        // What the image is now names the cause better than what a power cut makes of it.
        let bytes = self.disk.bytes();
        self.beside.data_file = self.disk.data_file().map(|file| file.bytes());
        let seen = judge::image(&bytes, &self.beside, &self.model, asked);
        let (audit, view) = seen.inspect_err(|_| self.judged = Some(bytes))?;
        if let Some(limits) = self.settings.power_cuts {
            let (durable, trace) = self.disk.since_flush();
            let last = match when {
                When::Ended => Moment::Cut,
                _ => Moment::Flushed,
            };
            self.cut(&durable, &trace, &limits, last)?;
        }
        let leaks = judge::leaks(&audit);
        if asked == When::Closed && leaks > 0 {
            self.report.leak(leaks);
            if self.settings.leaks_fail {
                let message = format!("{leaks} clusters are counted and not used");
                return Err((Kind::LeaksAfterClose, message));
            }
        }
        self.model.flush(&view);
        if when == When::Ended || when == When::Closed && failures > 0 {
            self.disk.mend();
            self.reported = 0;
        } else {
            self.disk.settle();
        }
        Ok(())
    }

    /// Looks at power cuts; `last` is the moment of one after everything.
    fn cut(
        &mut self,
        durable: &SparseBytes,
        trace: &Trace,
        limits: &Limits,
        last: Moment,
    ) -> Result<(), Wrong> {
        let (model, stale) = (&self.model, self.settings.stale_is_allowed);
        let look = |bytes: &SparseBytes, moment| {
            judge::image(bytes, &self.beside, model, When::PowerCut(moment))
        };
        let (states, wrong) = crash::each(durable, trace, limits, |state| {
            // What comes after the last flush of the disk may happen when the writer's has returned.
            let is_over = state.after == trace.events.len();
            let moment = if is_over { last } else { Moment::Cut };
            match look(state.bytes, moment) {
                Ok(_) => ControlFlow::Continue(()),
                Err((Kind::StaleAfterPowerCut, _)) if stale => ControlFlow::Continue(()),
                Err((kind, message)) => {
                    ControlFlow::Break((kind, format!("{message}, {state}"), state.bytes.clone()))
                }
            }
        });
        self.report.states(states);
        let wrong = wrong.or_else(|| {
            let bytes = crash::state(durable, trace, end(trace, 0));
            let (kind, message) = look(&bytes, last).err()?;
            let when =
                "after a power cut right after the flush, when nothing else reached the disk";
            Some((kind, format!("{message}, {when}"), bytes))
        });
        let Some((kind, message, bytes)) = wrong else {
            return Ok(());
        };
        self.judged = Some(bytes);
        Err((kind, message))
    }
}

/// Has a guest do what changes the image, and the model know of it: as done, or as what may have
/// happened where it fails.
fn change(guest: &mut dyn Guest, model: &mut Model, operation: &Operation) -> Result<Done, String> {
    match operation {
        Operation::Write {
            offset,
            length,
            seed,
        } => {
            let bytes = bytes(*seed, *length);
            let done = guest.write(*offset, &bytes);
            let contents = bytes.chunks(SECTOR as usize).map(content);
            model.write(*offset, contents, done.is_ok());
            done.map(|()| Done::Done)
        }
        Operation::Discard { offset, length } => {
            let done = guest.discard(*offset, *length);
            if done != Ok(Done::Unsupported) {
                model.discard(*offset, *length);
            }
            done
        }
        Operation::Snapshot { name } => {
            let done = guest.snapshot(name);
            if done != Ok(Done::Unsupported) {
                model.snapshot(name, done.is_ok());
            }
            done
        }
        Operation::DeleteSnapshot { name } => {
            let done = guest.delete_snapshot(name);
            if done != Ok(Done::Unsupported) {
                model.delete_snapshot(name, done.is_ok());
            }
            done
        }
        Operation::Flush | Operation::Reopen | Operation::Kill | Operation::Fail(_) => {
            Ok(Done::Unsupported)
        }
    }
}

/// An error of an operation.
fn fails(operation: impl ToString) -> impl Fn(String) -> Wrong {
    move |why| {
        let operation = operation.to_string();
        (Kind::OperationFails, format!("{operation} fails: {why}"))
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("something that is no text")
}
