//! What a power cut may leave of a qemu-img's repair: it runs on top of qemu's own log of writes and
//! flushes, and its states are built by the code that builds those of the simulated disk.

use std::fs;

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Ended;
use recount_oracle::disk::{Trace, log};
use recount_oracle::properties::Verdict;

use super::exhibit::Exhibit;
use super::judge::Judged;
use super::subject::Checker;
use super::subject::program::{self, Limits};
use crate::error::Result;

/// The image under the log.
const IMAGE: &str = "logged.qcow2";
/// The log.
const LOG: &str = "log";
/// Longer logs are not looked at, in bytes.
const LONGEST_LOG: u64 = 64 << 20;

/// What crash-atomic says of a qemu-img's repair; nothing where there is no log, as of an image that
/// it does not repair.
pub fn crash_atomic(qemu: &Checker, judged: &Judged, exhibit: &Exhibit<'_>) -> Result<Verdict> {
    let logged = logged(qemu, exhibit)?;
    Ok(logged.map_or(Verdict::NotApplicable, |(trace, after)| {
        judged.crash_atomic(&trace, &after)
    }))
}

/// What `-r all` does, in order, and the image that it leaves.
fn logged(qemu: &Checker, exhibit: &Exhibit<'_>) -> Result<Option<(Trace, SparseBytes)>> {
    let bench = exhibit.bench;
    if bench.encrypted {
        return Ok(None);
    }
    bench.store(IMAGE, &exhibit.damaged)?;
    let log = bench.store(LOG, &SparseBytes::default())?;
    let options = format!(
        "driver=qcow2,file.driver=blklogwrites,file.log-sector-size=512,\
         file.log-super-update-interval=1,file.file.driver=file,file.file.filename={IMAGE},\
         file.log.driver=file,file.log.filename={LOG}"
    );
    let arguments = ["check", "-q", "-rall", "--image-opts", &options];
    // Two files grow: the log with every write.
    let limits = Limits::for_image(exhibit.length() + LONGEST_LOG);
    let output = program::run(qemu.path(), arguments, bench.directory, &limits)?;
    let bytes = fs::read(&log)?;
    if !matches!(output.ended, Ended::Code(_)) || bytes.len() as u64 > LONGEST_LOG {
        return Ok(None);
    }
    let Ok(trace) = log::read(&bytes) else {
        return Ok(None);
    };
    Ok(Some((trace, bench.load(IMAGE, limits.file)?)))
}
