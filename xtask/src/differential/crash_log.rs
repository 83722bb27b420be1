//! What a power cut may leave of a qemu-img's repair: it runs on top of qemu's own log of writes and
//! flushes, and its states are built by the code that builds those of the simulated disk.

use std::fs::{self, File};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Ended;
use recount_oracle::disk::{Trace, log};
use recount_oracle::properties::Verdict;

use super::disk;
use super::standing::{Judged, Quality, Standing};
use super::subject::program;
use super::subject::{Bench, CaseError, Checker};

/// The image under the log.
const IMAGE: &str = "logged.qcow2";
/// The log.
const LOG: &str = "log";
/// Longer logs are not looked at, in bytes.
const LONGEST_LOG: u64 = 64 << 20;
/// What crash-atomic says of a qemu-img's repair; nothing where there is no log, as in an image
/// that it does not repair.
pub fn crash_atomic(
    qemu: &Checker,
    bench: Bench<'_>,
    judged: &Judged<'_>,
    damaged: &SparseBytes,
) -> Result<Standing, CaseError> {
    let mut standing = Standing::new();
    if let Some((trace, after)) = logged(qemu, bench, damaged)? {
        let verdict = judged.crash_atomic(&trace, &after);
        if verdict != Verdict::NotApplicable {
            standing.push((Quality::CrashAtomic, verdict));
        }
    }
    Ok(standing)
}

/// What `-r all` does, in order, and the image that it leaves.
fn logged(
    qemu: &Checker,
    bench: Bench<'_>,
    damaged: &SparseBytes,
) -> Result<Option<(Trace, SparseBytes)>, CaseError> {
    if bench.encrypted {
        return Ok(None);
    }
    let failed = |source| bench.failed(source);
    let (image, log) = (bench.directory.join(IMAGE), bench.directory.join(LOG));
    disk::store(&image, damaged).map_err(failed)?;
    File::create(&log).map_err(failed)?;
    let options = format!(
        "driver=qcow2,file.driver=blklogwrites,file.log-sector-size=512,\
         file.log-super-update-interval=1,file.file.driver=file,file.file.filename={IMAGE},\
         file.log.driver=file,file.log.filename={LOG}"
    );
    let arguments = ["check", "-q", "-rall", "--image-opts", &options];
    // Two files grow: the log with every write.
    let length = damaged.len() + LONGEST_LOG;
    let limits = program::Limits::for_image(length);
    let output = program::run(qemu.path(), arguments, bench.directory, &limits)?;
    let long = fs::metadata(&log).map_err(failed)?.len();
    if !matches!(output.ended, Ended::Code(_)) || long > LONGEST_LOG {
        return Ok(None);
    }
    let Ok(trace) = log::read(&fs::read(&log).map_err(failed)?) else {
        return Ok(None);
    };
    let after = disk::load(&image, limits.file).map_err(failed)?;
    Ok(Some((trace, after)))
}
