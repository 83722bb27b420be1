//! What a power cut may leave of a program's repair: it runs on top of qemu's own log of writes and
//! flushes, and its states are built by the code that builds those of the simulated disk. A qemu-img
//! writes the log itself; any other program works on a file of FUSE, which qemu-storage-daemon serves
//! and whose writes it logs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::observed::Ended;
use recount_oracle::disk::log;
use recount_oracle::properties::Verdict;
use recount_subjects::process::ends_within;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::exhibit::Exhibit;
use super::judge::Judged;
use super::subject::program::{self, Limits};
use super::subject::{Bench, Checker, Command};
use crate::error::{At as _, Result};
use crate::process::succeeds;

/// The image under the log.
const IMAGE: &str = "logged.qcow2";
/// The log.
const LOG: &str = "log";
/// Longer logs are not looked at, in bytes.
const LONGEST_LOG: u64 = 64 << 20;
/// The file of FUSE, before it is mounted on an empty one.
const MOUNTED: &str = "mounted.qcow2";
/// Where the daemon says its process ID.
const PROCESS: &str = "pid";
/// How long the daemon may take to end.
const GONE: Duration = Duration::from_secs(10);

/// What crash-atomic says of a qemu-img's repair; nothing where there is no log, as of an image that
/// it does not repair.
pub fn crash_atomic_of_qemu(
    qemu: &Checker,
    judged: &Judged,
    exhibit: &Exhibit<'_>,
) -> Result<Verdict> {
    if exhibit.bench.encrypted {
        return Ok(Verdict::NotApplicable);
    }
    let options = format!(
        "driver=qcow2,file.driver=blklogwrites,file.log-sector-size=512,\
         file.log-super-update-interval=1,file.file.driver=file,file.file.filename={IMAGE},\
         file.log.driver=file,file.log.filename={LOG}"
    );
    let arguments = ["check", "-q", "-rall", "--image-opts", &options];
    crash_states(judged, exhibit, |bench, limits| {
        Ok(program::run(qemu.path(), arguments, bench.directory, limits)?.ended)
    })
}

/// What it says of any other program's.
pub fn crash_atomic(command: &Command, judged: &Judged, exhibit: &Exhibit<'_>) -> Result<Verdict> {
    crash_states(judged, exhibit, |bench, limits| {
        let mounted = Mounted::serve(bench, limits)?;
        let own = command.limits(exhibit.length());
        let said = command.repair_at(&mounted.path, bench, &own)?;
        drop(mounted);
        Ok(said.map_or(Ended::TimedOut, |said| said.ended))
    })
}

/// Judges the states that power cuts leave of what `work` does to the image.
fn crash_states(
    judged: &Judged,
    exhibit: &Exhibit<'_>,
    work: impl FnOnce(Bench<'_>, &Limits) -> Result<Ended>,
) -> Result<Verdict> {
    let bench = exhibit.bench;
    bench.store(IMAGE, &exhibit.damaged)?;
    let log = bench.store(LOG, &SparseBytes::default())?;
    // Two files grow: the log with every write.
    let limits = Limits::for_image(exhibit.length() + LONGEST_LOG);
    let ended = work(bench, &limits)?;
    let bytes = fs::read(&log)?;
    if !matches!(ended, Ended::Code(_)) || bytes.len() as u64 > LONGEST_LOG {
        return Ok(Verdict::NotApplicable);
    }
    let Ok(trace) = log::read(&bytes) else {
        return Ok(Verdict::NotApplicable);
    };
    Ok(judged.crash_atomic(&trace, &bench.load(IMAGE, limits.file)?))
}

/// The image as a file of FUSE, until dropped.
struct Mounted {
    path: PathBuf,
    process: Pid,
}

impl Mounted {
    fn serve(bench: Bench<'_>, limits: &Limits) -> Result<Self> {
        bench.store(MOUNTED, &SparseBytes::default())?;
        let image = format!("driver=file,node-name=image,filename={IMAGE}");
        let file = format!("driver=file,node-name=log,filename={LOG}");
        let logged = "driver=blklogwrites,node-name=logged,file=image,log=log,\
                      log-sector-size=512,log-super-update-interval=1";
        let export = format!(
            "type=fuse,id=export,node-name=logged,mountpoint={MOUNTED},writable=on,growable=on"
        );
        let arguments = ["--daemonize", "--pidfile", PROCESS, "--blockdev", &image];
        let arguments = arguments.into_iter().chain(["--blockdev", &file]);
        let arguments = arguments.chain(["--blockdev", logged, "--export", &export]);
        let daemon = Path::new("qemu-storage-daemon");
        let output = program::run(daemon, arguments, bench.directory, limits)?;
        if output.ended != Ended::Code(0) {
            return Err(output.stderr.into());
        }
        let process = fs::read_to_string(bench.directory.join(PROCESS)).at(PROCESS)?;
        let process = process.trim().parse().ok().and_then(Pid::from_raw);
        Ok(Self {
            path: bench.directory.join(MOUNTED),
            process: process.ok_or("no process ID")?,
        })
    }
}

impl Drop for Mounted {
    /// Unmounts it, which the daemon does not; once that is gone everything is in the log.
    fn drop(&mut self) {
        if unmount(&self.path, UnmountFlags::DETACH).is_err() {
            // The way of everybody but root.
            let mut command = std::process::Command::new("fusermount3");
            succeeds(command.args(["-u", "-z"]).arg(&self.path));
        }
        let _ = kill_process(self.process, Signal::TERM);
        if matches!(ends_within(self.process, GONE), Ok(false)) {
            let _ = kill_process(self.process, Signal::KILL);
        }
    }
}

/// Why the writes of a program cannot be logged here, if they cannot.
pub fn cannot_log() -> Result<Option<String>> {
    let folder = tempfile::tempdir()?;
    let bench = Bench {
        directory: folder.path(),
        encrypted: false,
    };
    bench.store(IMAGE, &SparseBytes::zeros(512))?;
    bench.store(LOG, &SparseBytes::default())?;
    let served = Mounted::serve(bench, &Limits::for_image(LONGEST_LOG));
    Ok(served.err().map(|error| error.to_string()))
}
