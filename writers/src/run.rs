//! One image after the other, from opening to closing.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use recount_oracle::audit;
use recount_oracle::case::build;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::synthetic::{Content, Run as Clusters, Sharing, Snapshots, Synthetic};
use recount_oracle::case::{Image, Impossible};
use recount_oracle::crash::{self, Limits};
use recount_oracle::disk::{SECTOR, Trace};

use crate::disk::end;
use crate::judge::{self, Kind, When, Wrong};
use crate::model::{Model, Moment};
use crate::operation::{Operation, bytes};
use crate::report::{Failure, Report};
use crate::sectors::{content, read};
use crate::settings::Settings;
use crate::{Done, Guest, SharedDisk, Writer};

/// Clusters of the guest's disk, for small clusters and for large ones.
const SMALL: u64 = 150;
const LARGE: u64 = 14;
/// Stretches of guest clusters of one kind that an image has from the start.
const RUNS: u32 = 3;

/// Has a writer work on random images, and judges it after each flush and close.
pub fn check_writer(writer: &dyn Writer, settings: &Settings) -> Report {
    let mut report = Report::new(writer.name());
    for number in 0..settings.runs {
        let seed = settings.seed << 32 | u64::from(number);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let start = image(settings, &mut rng).map_err(|why| why.to_string());
        let start = start.and_then(|(image, cluster)| Ok((model(&image)?, image, cluster)));
        let (model, image, cluster) = match start {
            Ok(start) => start,
            Err(why) => {
                report.refuse(&why);
                continue;
            }
        };
        let run = Run {
            writer,
            settings,
            model,
            disk: SharedDisk::new(image),
            cluster,
            guest: None,
            done: Vec::new(),
            judged: None,
            report: &mut report,
        };
        run.run(number, rng);
    }
    report
}

/// A random image with some data and perhaps a snapshot, and the size of its clusters in bytes.
fn image(settings: &Settings, rng: &mut ChaCha8Rng) -> Result<(SparseBytes, u64), Impossible> {
    let cluster_bits = among(&settings.cluster_bits, rng).unwrap_or(16);
    let refcount_order = among(&settings.refcount_orders, rng).unwrap_or(4);
    let of_cluster = (1 << cluster_bits) / SECTOR;
    let slack = if cluster_bits < 12 { SMALL } else { LARGE } * of_cluster;
    let contents = [Content::Data, Content::Preallocated, Content::Zero];
    let clusters = |_| Clusters {
        skip: rng.random_range(0..4),
        clusters: rng.random_range(1..5),
        content: among(&contents, rng).unwrap_or(Content::Data),
    };
    let guest = (0..RUNS).map(clusters).collect();
    // One bit counts no cluster that is shared.
    let sharing = match refcount_order {
        0 => &[Sharing::Nothing][..],
        _ => &[Sharing::Tables, Sharing::Data, Sharing::Nothing],
    };
    let count = u32::from(settings.with_snapshot && rng.random());
    let sharing = among(sharing, rng).unwrap_or(Sharing::Nothing);
    let image = Synthetic {
        cluster_bits,
        refcount_order,
        guest,
        snapshots: vec![Snapshots { count, sharing }],
        // The disk need not end with a cluster.
        slack_sectors: slack + rng.random_range(0..of_cluster),
        ..Synthetic::default()
    };
    let bytes = build::image(&Image::Synthetic(image))?;
    Ok((bytes, 1 << cluster_bits))
}

/// One of these; `None` where there are none.
fn among<T: Copy>(values: &[T], rng: &mut ChaCha8Rng) -> Option<T> {
    let drawn = rng.random_range(0..values.len().max(1));
    values.get(drawn).copied()
}

fn model(image: &SparseBytes) -> Result<Model, String> {
    let audit = audit::audit(image).map_err(|why| why.to_string())?;
    Ok(Model::new(&read(image, &audit)?))
}

/// One image.
struct Run<'a> {
    writer: &'a dyn Writer,
    settings: &'a Settings,
    disk: SharedDisk,
    model: Model,
    /// Bytes of a cluster.
    cluster: u64,
    guest: Option<Box<dyn Guest + 'a>>,
    /// Operations that were begun.
    done: Vec<Operation>,
    /// The bytes of a state that was judged to be wrong.
    judged: Option<SparseBytes>,
    report: &'a mut Report,
}

impl Run<'_> {
    fn run(mut self, number: u32, mut rng: ChaCha8Rng) {
        let lived = catch_unwind(AssertUnwindSafe(|| self.live(&mut rng)));
        let lived = lived.unwrap_or_else(|panic| {
            let message = format!("it panics: {}", said(&*panic));
            Err((Kind::OperationFails, message))
        });
        let failure = lived.err().map(|(kind, message)| Failure {
            kind,
            message,
            run: number,
            operations: std::mem::take(&mut self.done),
            image: self.judged.take().unwrap_or_else(|| self.disk.bytes()),
        });
        // A guest that failed may panic once more when it is dropped.
        let guest = self.guest.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(guest)));
        self.report.end(failure);
    }

    fn live(&mut self, rng: &mut ChaCha8Rng) -> Result<(), Wrong> {
        let writer = self.writer;
        self.guest = Some(writer.open(self.disk.clone()).map_err(fails("open"))?);
        for number in 1..=self.settings.operations {
            let snapshots: Vec<&str> = self.model.snapshots().collect();
            let (mix, size) = (&self.settings.mix, self.model.size());
            let next = Operation::draw(rng, mix, number, self.cluster, size, &snapshots);
            self.done.push(next.clone());
            self.perform(&next)?;
        }
        self.done.push(Operation::Reopen);
        self.close()
    }

    fn perform(&mut self, operation: &Operation) -> Result<(), Wrong> {
        let Some(guest) = &mut self.guest else {
            return Err((Kind::OperationFails, "the image is not open".to_owned()));
        };
        let done = match operation {
            Operation::Write {
                offset,
                length,
                seed,
            } => {
                let bytes = bytes(*seed, *length);
                let contents = bytes.chunks(SECTOR as usize).map(content);
                self.model.write(*offset, contents);
                guest.write(*offset, &bytes).map(|()| Done::Done)
            }
            Operation::Discard { offset, length } => {
                let done = guest.discard(*offset, *length);
                if done == Ok(Done::Done) {
                    self.model.discard(*offset, *length);
                }
                done
            }
            Operation::Snapshot { name } => {
                let done = guest.snapshot(name);
                if done == Ok(Done::Done) {
                    self.model.snapshot(name);
                }
                done
            }
            Operation::DeleteSnapshot { name } => {
                let done = guest.delete_snapshot(name);
                if done == Ok(Done::Done) {
                    self.model.delete_snapshot(name);
                }
                done
            }
            Operation::Flush => {
                guest.flush().map_err(fails(operation))?;
                return self.judge(When::Open);
            }
            Operation::Reopen => {
                self.close()?;
                let opened = self.writer.open(self.disk.clone());
                self.guest = Some(opened.map_err(fails("open"))?);
                Ok(Done::Done)
            }
        };
        let done = done.map_err(fails(operation))?;
        self.report.count(operation, done);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Wrong> {
        let closed = self.guest.take().map_or(Ok(()), Guest::close);
        closed.map_err(fails("close"))?;
        self.judge(When::Closed)
    }

    /// Judges the image after a flush or close, and what a power cut may have left meanwhile.
    fn judge(&mut self, when: When) -> Result<(), Wrong> {
        // What the image is now names the cause better than what a power cut makes of it.
        let bytes = self.disk.bytes();
        let seen = judge::image(&bytes, &self.model, when);
        let (audit, view) = seen.inspect_err(|_| self.judged = Some(bytes))?;
        if let Some(limits) = self.settings.power_cuts {
            let (durable, trace) = self.disk.since_flush();
            self.cut(&durable, &trace, &limits)?;
        }
        let leaks = judge::leaks(&audit);
        if when == When::Closed && leaks > 0 {
            self.report.leak(leaks);
            if self.settings.leaks_fail {
                let message = format!("{leaks} clusters are counted and not used");
                return Err((Kind::LeaksAfterClose, message));
            }
        }
        self.model.flush(&view);
        self.disk.settle();
        Ok(())
    }

    fn cut(&mut self, durable: &SparseBytes, trace: &Trace, limits: &Limits) -> Result<(), Wrong> {
        let (model, stale) = (&self.model, self.settings.stale_is_allowed);
        let look = |bytes: &SparseBytes, moment| judge::image(bytes, model, When::PowerCut(moment));
        let (states, wrong) = crash::each(durable, trace, limits, |state| {
            // What comes after the last flush of the disk may happen when the writer's has returned.
            let is_over = state.after == trace.events.len();
            let moment = if is_over {
                Moment::Flushed
            } else {
                Moment::Cut
            };
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
            let (kind, message) = look(&bytes, Moment::Flushed).err()?;
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
