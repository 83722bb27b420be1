//! How a fuzz target runs unless it is told otherwise. libFuzzer reads no file of options, so a
//! target that was started without these starts itself again with them; whatever starts it, plain
//! `cargo fuzz run` included, then runs it with the same ones.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::Target;

/// Says to a target that it has its settings.
const SETTLED: &str = "RECOUNT_FUZZ_SETTLED";
/// The top of the tree that a target was built in.
const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What the address sanitizer spends most of its time on and that safe code has little use for: where
/// each allocation was made, stack frames that live on, and freed memory that is kept. The largest
/// allocation stands in for libFuzzer's own limit, which comes with its search for leaks.
const SANITIZER: &str = "malloc_context_size=0:detect_stack_use_after_return=0:quarantine_size_mb=0\
                         :thread_local_quarantine_size_kb=0:max_allocation_size_mb=2048";
/// libFuzzer's options.
const OPTIONS: [&str; 5] = [
    // An input that takes longer, in seconds, counts as one that does not end.
    "-timeout=10",
    // Inputs are small; looking for smaller ones takes a quarter of the time.
    "-reduce_inputs=0",
    // What takes long is not chosen as often: two to three times as many inputs are tried.
    "-entropic_scale_per_exec_time=1",
    // Names of functions that are new take a process each to find out.
    "-print_funcs=0",
    // Counting allocations takes a tenth; that memory stays flat is measured as a whole.
    "-detect_leaks=0",
];

/// Starts the process again with the settings, unless it has them. It does not come back from that.
pub fn settle(target: Target) {
    if env::var_os(SETTLED).is_none() {
        let error = again(target);
        eprintln!("the fuzz target cannot start itself again with its settings: {error}");
        std::process::exit(1);
    }
}

/// Becomes the same program with the settings; why not, where it does not.
fn again(target: Target) -> io::Error {
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let given: Vec<OsString> = env::args_os().skip(1).collect();
    let sanitizer = env::var("ASAN_OPTIONS").unwrap_or_default();
    Command::new(program)
        .args(arguments(target, &given, Path::new(TOP)))
        .env("ASAN_OPTIONS", format!("{SANITIZER}:{sanitizer}"))
        .env(SETTLED, "1")
        .exec()
}

/// The settings, then what was given, which wins. libFuzzer writes what it learns into the first
/// folder: where that would be the committed corpus, one that git ignores goes before it.
fn arguments(target: Target, given: &[OsString], top: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = OPTIONS.iter().map(OsString::from).collect();
    let dictionary = top.join(format!("fuzz/{target}.dict"));
    if dictionary.exists() {
        arguments.push(option("-dict=", &dictionary));
    }
    let is_option = |argument: &OsString| argument.as_encoded_bytes().starts_with(b"-");
    let first = given.iter().position(|argument| !is_option(argument));
    let (options, inputs) = given.split_at(first.unwrap_or(given.len()));
    arguments.extend_from_slice(options);
    let seeds = fs::canonicalize(top.join(format!("corpus/{target}"))).ok();
    let reads_seeds = inputs
        .first()
        .is_some_and(|first| fs::canonicalize(first).ok() == seeds);
    if seeds.is_some() && reads_seeds {
        let learned = top.join(format!("target/fuzz/{target}"));
        // Where it cannot be made, libFuzzer says so.
        let _ = fs::create_dir_all(&learned);
        arguments.push(learned.into());
    }
    arguments.extend_from_slice(inputs);
    arguments
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(AsRef::<OsStr>::as_ref(value));
    option
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments behind the settings, with the top of the tree cut off.
    fn behind_settings(target: Target, given: &[&str]) -> Vec<String> {
        let given: Vec<OsString> = given.iter().map(Into::into).collect();
        let all = arguments(target, &given, Path::new(TOP));
        let known = all.iter().take(OPTIONS.len());
        assert!(known.eq(OPTIONS.iter().copied()));
        let rest = all.iter().skip(OPTIONS.len());
        let text = rest.map(|argument| argument.to_str().expect("UTF-8").replace(TOP, "."));
        text.collect()
    }

    #[test]
    fn what_is_learned_from_the_committed_seeds_goes_elsewhere() {
        let seeds = format!("{TOP}/fuzz/corpus/rebuild/");
        assert_eq!(
            behind_settings(Target::Rebuild, &["-runs=1", &seeds]),
            ["-runs=1", "./target/fuzz/rebuild", "./fuzz/corpus/rebuild/"]
        );
    }

    #[test]
    fn folders_and_files_of_others_are_left_as_they_are() {
        let file = format!("{TOP}/Cargo.toml");
        for given in ["/no/such/folder", &file] {
            let expected = given.replace(TOP, ".");
            assert_eq!(behind_settings(Target::Crash, &[given]), [expected]);
        }
        assert_eq!(behind_settings(Target::Crash, &["-runs=1"]), ["-runs=1"]);
    }

    #[test]
    fn a_dictionary_is_used_and_another_one_wins() {
        assert_eq!(
            behind_settings(Target::Image, &["-dict=mine"]),
            ["-dict=./fuzz/image.dict", "-dict=mine"]
        );
    }
}
