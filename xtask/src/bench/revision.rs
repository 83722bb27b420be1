//! The program of another revision, built in a tree of its own under `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Result;
use crate::process::{build_recount, output};

/// Where other revisions are built; cargo's own directories have other names.
const DIRECTORY: &str = "target/against";

/// The program `recount` of a revision; built once, kept by commit.
pub fn build(revision: &str) -> Result<PathBuf> {
    let name = format!("{revision}^{{commit}}");
    let commit = git(&["rev-parse", "--verify", "--quiet", &name])?;
    let directory = Path::new(DIRECTORY);
    let kept = directory.join("programs").join(&commit);
    if kept.exists() {
        return Ok(std::path::absolute(kept)?);
    }
    // The same path for all, so that what they have in common is not built again.
    let tree = directory.join("tree");
    let place = tree.display().to_string();
    if tree.exists() {
        git(&["worktree", "remove", "--force", &place])?;
    }
    git(&["worktree", "add", "--quiet", "--detach", &place, &commit])?;
    let built = build_recount("release", &tree, Some(&directory.join("build")));
    git(&["worktree", "remove", "--force", &place])?;
    fs::create_dir_all(directory.join("programs"))?;
    fs::copy(built?, &kept)?;
    Ok(std::path::absolute(kept)?)
}

fn git(arguments: &[&str]) -> Result<String> {
    let said = output(Command::new("git").args(arguments))?;
    Ok(said.trim().to_owned())
}
