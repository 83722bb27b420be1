//! Devices that cannot grow: for qemu-img the same bytes as a file of fixed size, for recount storage
//! of fixed size in memory and, as root, a loop device. Who repairs what there is room for?

mod block;

use recount_oracle::audit;
use recount_oracle::case::Algorithm;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Said;
use recount_oracle::class::Class;
use recount_oracle::judge::expect;
use recount_oracle::properties::Verdict;
use recount_oracle::requirements::has_wrong_refcounts;

use super::exhibit::Exhibit;
use super::question::Question;
use super::specified::as_specified;
use super::subject::program::{self, Limits};
use super::subject::{Bench, Checker, Command, Engine, Repair, said};
use crate::error::Result;
use block::LoopDevice;

/// The bytes of the device.
const DEVICE: &str = "device";
const NO_DEVICE: &str =
    "no loop device can be had: run it as root, with losetup, or without --subject-device";
/// Clusters of the device after the end of the image.
const SPARE: [u64; 4] = [0, 1, 2, 8];
/// On devices of more clusters no structures are placed naively.
const MOST_CLUSTERS: u64 = 1 << 11;

/// A damaged image on a device that is full at its end.
pub struct Device<'a> {
    bench: Bench<'a>,
    bytes: SparseBytes,
    clusters: u64,
    /// Whether there is room for new structures.
    has_room: bool,
    /// Whether it is to be a loop device too, where one can be had.
    is_block: bool,
}

impl<'a> Device<'a> {
    /// The device of the case at this place of a run; `None` where nothing has to be built anew, or
    /// there is too much to search.
    pub fn of(exhibit: &Exhibit<'a>, index: u64) -> Option<Self> {
        let audit = exhibit.audit.as_ref().ok()?;
        let size = audit.header.cluster_size();
        let turn = index / super::examine::EVERY;
        let spare = SPARE[(turn % SPARE.len() as u64) as usize];
        let clusters = exhibit.length().div_ceil(size) + spare;
        if !audit.qemu.rebuild_needed || clusters > MOST_CLUSTERS {
            return None;
        }
        let mut bytes = exhibit.damaged.clone();
        bytes.set_len(clusters * size);
        // What led past the end of the file may lead into the device. Of a damaged image more may be
        // kept than others have to keep.
        let exhibit = Exhibit::new(exhibit.bench, bytes);
        let ask = Engine::by(Algorithm::Planned).ask(Repair::All, Some(exhibit.length()));
        let repaired = expect(&exhibit.damaged, &ask, None);
        Some(Self {
            has_room: exhibit.is(Class::Sound) && matches!(repaired, Ok(Ok(_))),
            bench: exhibit.bench,
            bytes: exhibit.damaged,
            clusters,
            // Every second round.
            is_block: turn / SPARE.len() as u64 % 2 == 1,
        })
    }

    /// Whether recount repairs it, and as specified.
    pub fn by_engine(&self, engine: Engine) -> Result<[(Question, Verdict); 2]> {
        let capacity = Some(SparseBytes::len(&self.bytes));
        let repaired = engine.on(&self.bytes, capacity, Repair::All);
        let mut fits = self.fits(&repaired.said, &repaired.image);
        if self.is_block {
            let path = self.bench.store(DEVICE, &self.bytes)?;
            if let Some(device) = LoopDevice::attach(&path) {
                let said = engine.on_block_device(device.path());
                drop(device);
                let after = self.load()?;
                fits = fits.and(|| self.fits(&said, &after));
            }
        }
        let ask = engine.ask(Repair::All, capacity);
        let specified = as_specified(&self.bytes, &ask, &repaired);
        Ok([
            (Question::FitsWhenPossible, fits),
            (Question::AsSpecified, specified),
        ])
    }

    /// Whether a qemu-img does.
    pub fn by_qemu(&self, qemu: &Checker) -> Result<Verdict> {
        self.bench.store(DEVICE, &self.bytes)?;
        let size = SparseBytes::len(&self.bytes);
        // Of a raw image whose size is given QEMU writes nothing behind it.
        let options = format!(
            "driver=qcow2,file.driver=raw,file.size={size},file.file.driver=file,\
             file.file.filename={DEVICE}"
        );
        let arguments = ["check", "-rall", "--image-opts", &options];
        let limits = Limits::for_image(size);
        let output = program::run(qemu.path(), arguments, self.bench.directory, &limits)?;
        Ok(self.fits(&said(output.ended, output.stderr), &self.load()?))
    }

    /// Whether a command does, on a loop device.
    pub fn by_command(&self, command: &Command) -> Result<Verdict> {
        let path = self.bench.store(DEVICE, &self.bytes)?;
        let device = LoopDevice::attach(&path).ok_or(NO_DEVICE)?;
        let limits = command.limits(SparseBytes::len(&self.bytes));
        let said = command.repair_at(device.path(), self.bench, &limits)?;
        drop(device);
        let Some(said) = said else {
            return Ok(Verdict::NotApplicable);
        };
        Ok(self.fits(&said, &self.load()?))
    }

    fn load(&self) -> Result<SparseBytes> {
        self.bench.load(DEVICE, u64::MAX)
    }

    /// Whether it is repaired where there is room; where there is none nobody could.
    fn fits(&self, said: &Said, after: &SparseBytes) -> Verdict {
        let repaired = audit::audit(after).is_ok_and(|audit| !has_wrong_refcounts(&audit));
        match self.has_room {
            _ if repaired => Verdict::Holds,
            true => Verdict::fails(format!(
                "a device of {} clusters: not repaired, though there is room\n    {said}",
                self.clusters
            )),
            false => Verdict::NotApplicable,
        }
    }
}
