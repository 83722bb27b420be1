//! Storing a finding: in the corpus, so that it is replayed by every test run from now on, and as a
//! case that a person can read.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use recount_oracle::case::text::{CaseFile, print};
use recount_oracle::fuzz::{Target, encoding};
use recount_subjects::Recount;

use crate::error::{At as _, Result};

/// How long the judging of one input may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A name from the content, the same every time.
pub fn name_of(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Why nothing is asked of an input.
pub fn why_refused(target: Target, input: &[u8]) -> String {
    let decoded = encoding::decode(target, input);
    decoded.map_or_else(
        |error| error.to_string(),
        |_| "nothing in it can be run".to_owned(),
    )
}

/// Stores the input in a file and prints how to see it again.
pub fn store(target: Target, artifact: &Path) -> Result<()> {
    let input = &std::fs::read(artifact).at(artifact.display())?;
    let name = format!("finding-{}", name_of(input));
    let seed = super::tools::seeds(target).join(&name);
    std::fs::write(&seed, input)?;
    println!("\nfinding: {}", message(target, input));
    println!(
        "replay:  cargo xtask fuzz {target} --replay {}",
        seed.display()
    );
    if let Ok(case) = encoding::decode(target, input) {
        let mut file = CaseFile::from(case);
        file.story = Some(format!("Found by the fuzz target {target}."));
        let path = PathBuf::from(format!("corpus/cases/fuzz-{target}-{name}.toml"));
        std::fs::write(&path, print(&file))?;
        println!("case:    {}", path.display());
    }
    Ok(())
}

/// The smallest input of each kind: those that break one promise are taken to have one cause. What
/// is seen only under libFuzzer's limits or by the sanitizer is a kind of its own, and so is a panic.
pub fn distinct(target: Target, artifacts: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut sized = Vec::new();
    for artifact in artifacts {
        let input = std::fs::read(&artifact)?;
        let message = message(target, &input);
        let kind = message.split(':').next().unwrap_or_default().to_owned();
        sized.push((kind, input.len(), artifact));
    }
    sized.sort();
    sized.dedup_by(|next, first| next.0 == first.0);
    Ok(sized.into_iter().map(|(_, _, artifact)| artifact).collect())
}

/// What is wrong with an input, for a person. It may be one whose repair does not end.
pub fn message(target: Target, input: &[u8]) -> String {
    let (sender, receiver) = mpsc::channel();
    let input = input.to_vec();
    std::thread::spawn(move || {
        // Nobody may be there to hear it any more.
        let _ = sender.send(target.judge(&Recount, &input));
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(Err(broken)) => broken.to_string(),
        Ok(Ok(_)) => "nothing without libFuzzer's limits and the sanitizer, or no more".to_owned(),
        Err(RecvTimeoutError::Disconnected) => "a panic".to_owned(),
        Err(RecvTimeoutError::Timeout) => {
            format!("does not end within {} s", PATIENCE.as_secs())
        }
    }
}
