//! Loop devices, which only root attaches.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A file behind a loop device, detached when dropped.
pub struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// `None` where none can be had: without root, losetup or a free device.
    pub fn attach(file: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let output = losetup(&["--find".as_ref(), "--show".as_ref(), file])?;
        let path = String::from_utf8(output.stdout).ok()?.trim().into();
        Some(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if losetup(&["--detach".as_ref(), &self.path]).is_none() {
            eprintln!("{} cannot be detached", self.path.display());
        }
    }
}

fn losetup(arguments: &[&Path]) -> Option<Output> {
    let output = Command::new("losetup")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output.status.success().then_some(output)
}
