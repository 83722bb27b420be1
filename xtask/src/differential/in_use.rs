//! Use after repair: the repaired image is opened for writing by qemu-io and by the crate imago, new
//! clusters are written through its new refcounts, and it still has to be clean, with old and new
//! data. Where the refcounts are wrong, what such writing destroys is told.

use std::mem::discriminant;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use imago::file::File as ImagoFile;
use imago::qcow2::Qcow2;
use imago::{FormatAccess, FormatDriverBuilder as _, PermissiveImplicitOpenGate};
use recount_oracle::audit::{self, Audit, LayerId, Referrer};
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Ended;
use recount_oracle::guest::{Content, GuestData};
use recount_oracle::properties::Verdict;
use recount_subjects::findings::Consequence;

use super::observe::{STOPPED_BY_OVERLAP, is_beyond};
use super::subject::program::{self, Limits, Output};
use super::subject::{Bench, shell_line};
use crate::error::Result;

/// The image that is written to.
const FILE: &str = "used.qcow2";
/// What is written.
const PATTERN: u8 = 0xa7;
/// No free cluster of an image that the harness makes is farther away, in bytes.
const FARTHEST: u64 = 1 << 42;
/// How many clusters are written.
const CLUSTERS: usize = 3;

/// Writes to a repaired image in both ways.
pub fn use_it(bench: Bench<'_>, qemu_io: &Path, image: &SparseBytes) -> Result<Verdict> {
    let Some(used) = Used::of(bench, image) else {
        return Ok(Verdict::NotApplicable);
    };
    let by_qemu = used.by_qemu_io(qemu_io)?;
    // Where qemu finds an image unfit for writing, or is not installed, imago is not asked.
    if by_qemu == Verdict::NotApplicable {
        return Ok(by_qemu);
    }
    let by_imago = used.by_imago()?;
    Ok(by_qemu.and(|| by_imago))
}

/// What a guest that writes to an image with wrong refcounts does to what it does not write to;
/// `None` where nothing shows, or without qemu-io.
pub fn consequence(
    bench: Bench<'_>,
    qemu_io: &Path,
    image: &SparseBytes,
) -> Result<Option<Consequence>> {
    let Ok(audit) = audit::audit(image) else {
        return Ok(None);
    };
    if bench.encrypted || audit.header.external_data() {
        return Ok(None);
    }
    let active = audit.layers.first().into_iter();
    let mapped = active.flat_map(|layer| layer.map.keys().copied());
    let places: Vec<u64> = mapped.take(CLUSTERS).chain(free(&audit)).collect();
    let used = Used {
        bench,
        image,
        before: GuestData::of(image, &audit).without(&places),
        cluster_size: audit.header.cluster_size(),
        places,
    };
    if used.write_by_qemu_io(qemu_io)?.is_none() {
        return Ok(None);
    }
    let after = GuestData::read(&bench.load(FILE, u64::MAX)?);
    let loss = used.before.first_loss(&after);
    Ok(loss.map(|loss| {
        let writes = used.arguments(Consequence::PLACE, &["write"]);
        let command = format!("qemu-io {}", shell_line(writes));
        Consequence { loss, command }
    }))
}

/// A few guest clusters of the active layer without a cluster of the file.
fn free(audit: &Audit) -> impl Iterator<Item = u64> {
    let whole = 0..audit.header.virtual_size / audit.header.cluster_size();
    let active = audit.layers.first();
    let is_mapped =
        move |cluster: &u64| active.is_some_and(|layer| layer.map.contains_key(cluster));
    whole
        .filter(move |cluster| !is_mapped(cluster))
        .take(CLUSTERS)
}

/// An image, and where to write.
struct Used<'a> {
    bench: Bench<'a>,
    image: &'a SparseBytes,
    before: GuestData,
    /// Guest clusters of the active layer.
    places: Vec<u64>,
    cluster_size: u64,
}

impl<'a> Used<'a> {
    /// Of one with nothing wrong.
    fn of(bench: Bench<'a>, image: &'a SparseBytes) -> Option<Self> {
        let audit = audit::audit(image).ok()?;
        let header = &audit.header;
        // A cluster that is data and a table as well changes under any writer; and of two entries
        // of the active layer that share one, the other's COPIED bit is wrong once one is written.
        let mixed = audit.references.values().any(|by| {
            let mut kinds = by.iter().map(discriminant);
            let first = kinds.next();
            let active = by.iter().filter(|by| match by {
                Referrer::Data { layer, .. } | Referrer::L2 { layer, .. } => {
                    *layer == LayerId::Active
                }
                _ => false,
            });
            kinds.any(|kind| Some(kind) != first) || active.count() > 1
        });
        if bench.encrypted || header.external_data() || !audit.is_clean() || mixed {
            return None;
        }
        let before = GuestData::of(image, &audit);
        let cluster_size = header.cluster_size();
        let places: Vec<u64> = free(&audit).collect();
        (!places.is_empty()).then_some(Self {
            bench,
            image,
            before,
            places,
            cluster_size,
        })
    }

    /// Writes to each place, and reads that; `None` without qemu-io.
    fn write_by_qemu_io(&self, qemu_io: &Path) -> Result<Option<Output>> {
        self.bench.store(FILE, self.image)?;
        let arguments = self.arguments(FILE, &["write", "read"]);
        // The first free cluster may be far away.
        let limits = Limits::for_image(FARTHEST);
        // It is not installed, where it cannot run.
        Ok(program::run(qemu_io, arguments, self.bench.directory, &limits).ok())
    }

    /// What qemu-io is called with to do this to each place.
    fn arguments(&self, file: &str, all: &[&str]) -> Vec<String> {
        let mut arguments = vec!["-fqcow2".to_owned(), file.to_owned()];
        for how in all {
            for place in &self.places {
                let (at, size) = (place * self.cluster_size, self.cluster_size);
                let command = format!("{how} -q -P {PATTERN} {at} {size}");
                arguments.extend(["-c".to_owned(), command]);
            }
        }
        arguments
    }

    fn by_qemu_io(&self, qemu_io: &Path) -> Result<Verdict> {
        let Some(said) = self.write_by_qemu_io(qemu_io)? else {
            return Ok(Verdict::NotApplicable);
        };
        // A table that leads past the end of the file is met by new clusters.
        if said.stderr.contains(STOPPED_BY_OVERLAP) || is_beyond(&said.stderr) {
            return Ok(Verdict::NotApplicable);
        }
        let wrong = said.ended != Ended::Code(0) || said.stdout.contains("verification failed");
        if wrong {
            return Ok(Verdict::fails(format!(
                "qemu-io cannot write to the repaired image: {} {}{}",
                said.ended, said.stdout, said.stderr
            )));
        }
        self.still_good("qemu-io")
    }

    fn by_imago(&self) -> Result<Verdict> {
        let path = self.bench.store(FILE, self.image)?;
        let write = || {
            let opened = Qcow2::<ImagoFile>::builder_path(&path)
                .write(true)
                .open(PermissiveImplicitOpenGate::default());
            // It does not know every feature of the format.
            let Ok(opened) = opened else {
                return Ok(false);
            };
            let access = FormatAccess::new(opened);
            let bytes = self.cluster();
            for place in &self.places {
                access.write(&bytes[..], place * self.cluster_size)?;
            }
            access.flush()?;
            std::io::Result::Ok(true)
        };
        match catch_unwind(AssertUnwindSafe(write)) {
            Ok(Ok(true)) => self.still_good("imago"),
            Ok(Ok(false)) => Ok(Verdict::NotApplicable),
            Ok(Err(error)) => Ok(Verdict::fails(format!(
                "imago cannot write to the repaired image: {error}"
            ))),
            Err(_) => Ok(Verdict::fails("imago panics on the repaired image")),
        }
    }

    /// What is written to each place.
    fn cluster(&self) -> Vec<u8> {
        vec![PATTERN; self.cluster_size as usize]
    }

    /// Whether the file has nothing wrong, the old data and the new.
    fn still_good(&self, by: &str) -> Result<Verdict> {
        let image = self.bench.load(FILE, u64::MAX)?;
        let Ok(audit) = audit::audit(&image) else {
            return Ok(Verdict::fails(format!("after {by} it cannot be read")));
        };
        // A writer need not write zeros between the end of the file and a new cluster.
        let counters = audit::counters(&audit);
        if counters.corruptions > 0 || counters.check_errors > 0 {
            let wrong = audit.corruptions.iter().chain(&audit.qemu.copied);
            let low = audit.mismatches.iter().map(|wrong| {
                let (cluster, refcount) = (wrong.cluster, wrong.on_disk);
                format!("cluster {cluster} has refcount {refcount}")
            });
            let first = wrong.map(ToString::to_string).chain(low).next();
            return Ok(Verdict::fails(format!(
                "after {by} has written {} clusters: {} corruptions and {} errors, {}",
                self.places.len(),
                counters.corruptions,
                counters.check_errors,
                first.unwrap_or_default()
            )));
        }
        let after = GuestData::of(&image, &audit);
        if let Some(loss) = self.before.first_loss(&after) {
            return Ok(Verdict::fails(format!("after {by}, {loss}")));
        }
        let expected = Some(Content::stored(&self.cluster()));
        let missing = self
            .places
            .iter()
            .find(|place| after.active(**place) != expected);
        Ok(match missing {
            None => Verdict::Holds,
            Some(place) => Verdict::fails(format!(
                "what {by} wrote to guest cluster {place} is not there"
            )),
        })
    }
}
