//! Finding programs and waiting for them.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::error::Result;

/// Waits for a child with a process group of its own, and ends what is left of the group; `None` when
/// the time was up.
pub fn wait(child: &mut Child, time: Duration) -> Result<Option<ExitStatus>> {
    let pid = Pid::from_child(child);
    let in_time = ends_within(pid, time);
    // Until it is waited for, the number of its group is nobody else's.
    let _ = kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    Ok(in_time?.then_some(status))
}

/// Waits for a process, though it may be another one's child; whether it ended in time.
pub fn ends_within(pid: Pid, limit: Duration) -> Result<bool> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left)?;
        let mut waiting = [PollFd::new(&pidfd, PollFlags::IN)];
        match poll(&mut waiting, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The file that a shell in the folder `directory` would run.
pub fn which(program: &Path, directory: &Path) -> Result<PathBuf> {
    let runs = |path: &Path| rustix::fs::access(path, Access::EXEC_OK).is_ok() && path.is_file();
    let missing = || format!("cannot run {}: there is no such program", program.display());
    if program.components().count() > 1 {
        let path = directory.join(program);
        return Ok(path
            .canonicalize()
            .ok()
            .filter(|path| runs(path))
            .ok_or_else(missing)?);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // A program may look at the name that it was called by.
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    Ok(places.find(|path| runs(path)).ok_or_else(missing)?)
}
