//! How the cost grows: with the clusters that are in use, and not with the device.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;

use indicatif::ProgressBar;

use super::measure::{Subject, Task, Used};
use super::report::{mebibytes, seconds};
use crate::error::Result;
use crate::process::output;

/// Clusters of 64 KiB, as qemu-img makes them unless told otherwise.
const CLUSTER: u64 = 64 << 10;
/// Sizes that are measured, in clusters.
const SIZES: [u32; 5] = [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];
/// What is in use of the device, in bytes.
const IN_USE: u64 = 1 << 30;
/// The device, in bytes: a sparse file that ext4, whose files end at 16 TiB, lets grow. A rebuild writes
/// behind its end, since without refcounts no cluster inside is known to be free.
const DEVICE: u64 = 15 << 40;

/// What was measured.
pub struct Growth {
    /// A check, by clusters in use.
    sizes: Vec<(u32, Used)>,
    /// Check and rebuild of the image in a file of its own size, and on the device.
    sparse: [(Task, Used, Used); 2],
}

/// Measures recount alone.
pub fn measure(
    directory: &Path,
    qemu_img: &Path,
    recount: &Subject,
    runs: usize,
    bar: &ProgressBar,
) -> Result<Growth> {
    let mut sizes = Vec::new();
    for clusters in SIZES {
        bar.println(format!("making an image of {clusters} clusters"));
        let image = make(directory, qemu_img, u64::from(clusters) * CLUSTER)?;
        sizes.push((clusters, medians(recount, Task::Check, &image, runs)?));
        std::fs::remove_file(&image)?;
    }
    let image = make(directory, qemu_img, IN_USE)?;
    let both = || -> Result<[Used; 2]> {
        let check = medians(recount, Task::Check, &image, runs)?;
        Ok([check, medians(recount, Task::Rebuild, &image, runs)?])
    };
    let [check, rebuild] = both()?;
    let file = OpenOptions::new().write(true).open(&image)?;
    file.set_len(DEVICE)?;
    let [large_check, large_rebuild] = both()?;
    std::fs::remove_file(&image)?;
    Ok(Growth {
        sizes,
        sparse: [
            (Task::Check, check, large_check),
            (Task::Rebuild, rebuild, large_rebuild),
        ],
    })
}

fn make(directory: &Path, qemu_img: &Path, bytes: u64) -> Result<PathBuf> {
    let path = directory.join("growth.qcow2");
    let options = "create -q -f qcow2 -o preallocation=metadata";
    let mut create = Command::new(qemu_img);
    create
        .args(options.split(' '))
        .arg(&path)
        .arg(bytes.to_string());
    output(&mut create)?;
    Ok(path)
}

fn medians(recount: &Subject, task: Task, image: &Path, runs: usize) -> Result<Used> {
    recount.run(task, image)?;
    let used: Result<Vec<Used>> = (0..runs).map(|_| recount.run(task, image)).collect();
    Ok(Used::median(&used?))
}

impl Growth {
    /// Markdown: two tables.
    pub fn tables(&self) -> String {
        let mut text = "\
| clusters in use | check | processor time | for each cluster | memory |
| --: | --: | --: | --: | --: |
"
        .to_owned();
        for (clusters, used) in &self.sizes {
            let _ = writeln!(
                text,
                "| {clusters} | {} | {} | {:.1} ns | {} |",
                seconds(used.seconds),
                seconds(used.processor),
                used.processor / f64::from(*clusters) * 1e9,
                mebibytes(used.memory),
            );
        }
        if let Some((clusters, used)) = self.sizes.last() {
            let _ = writeln!(
                text,
                "| {}0 (ten times the line above) | {} | {} | | {} |",
                clusters,
                seconds(used.seconds * 10.0),
                seconds(used.processor * 10.0),
                mebibytes(used.memory * 10),
            );
        }
        text.push_str(
            "\n| 1 GiB in use | in a file of 1 GiB | on a device of 15 TiB | memory | |\n\
             | --- | --: | --: | --: | --: |\n",
        );
        for (task, small, large) in &self.sparse {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                task.name(),
                seconds(small.seconds),
                seconds(large.seconds),
                mebibytes(small.memory),
                mebibytes(large.memory),
            );
        }
        text
    }
}
