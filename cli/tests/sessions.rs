//! The sessions that the documents show give what they show: every block marked `console`, in order, in
//! one folder for each document, by the shell. (trycmd runs no shell, and puts exit codes into documents.)

use std::env;
use std::path::Path;
use std::process::Command;

use recount_needs::needs;

/// What a shell prints for the commands of the blocks in a document, as these are written.
fn session(document: &str, folder: &Path) -> Vec<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_recount")).parent();
    let programs = env::var_os("PATH").unwrap_or_default();
    let programs = program
        .map(Path::to_owned)
        .into_iter()
        .chain(env::split_paths(&programs));
    let programs = env::join_paths(programs).expect("paths");
    let mut lines = Vec::new();
    for command in blocks(document).filter_map(|line| line.strip_prefix("$ ")) {
        lines.push(format!("$ {command}"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec 2>&1; {command}"));
        let output = shell.current_dir(folder).env("PATH", &programs).output();
        let output = output.expect("a shell").stdout;
        let output = String::from_utf8(output).expect("text");
        lines.extend(output.lines().map(str::to_owned));
    }
    lines
}

/// The lines of all blocks.
fn blocks(document: &str) -> impl Iterator<Item = &str> {
    let mut is_shown = false;
    document
        .lines()
        .filter(move |line| match line.strip_prefix("```") {
            Some(language) => {
                is_shown = language == "console";
                false
            }
            None => is_shown,
        })
}

#[needs(qemu)]
#[test]
fn documents_show_what_the_programs_say() {
    for (name, document) in [
        ("README.md", include_str!("../../README.md")),
        ("docs/repairing.md", include_str!("../../docs/repairing.md")),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let shown: Vec<&str> = blocks(document).collect();
        assert!(shown.len() > 10, "{name} has sessions");
        let said = session(document, folder.path());
        assert_eq!(shown, said, "{name}; it should be:\n{}", said.join("\n"));
    }
}
