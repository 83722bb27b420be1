//! The files of a finding.

/// The image that the program got.
pub const IMAGE: &str = "image.qcow2";
/// What builds it.
pub const SCRIPT: &str = "make.sh";
/// Its clusters.
pub const BEFORE: &str = "before.txt";
/// Those of the image after the program.
pub const AFTER: &str = "after.txt";
/// What happened.
pub const README: &str = "README.md";
/// All of it for a browser.
pub const PAGE: &str = "index.html";

/// Those that the page leads to.
pub const ALL: [&str; 5] = [README, IMAGE, SCRIPT, BEFORE, AFTER];
