//! How a fuzz target runs unless it is told otherwise. libFuzzer reads no file of options, so a
//! target that was started without these starts itself again with them; whatever starts it, plain
//! `cargo fuzz run` included, then runs it with the same ones.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
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

/// Becomes the same program with the settings, unless it has them.
pub fn settle(target: Target) {
    if env::var_os(SETTLED).is_some() {
        return;
    }
    let given: Vec<OsString> = env::args_os().skip(1).collect();
    let sanitizer = env::var("ASAN_OPTIONS").unwrap_or_default();
    let again = |program| {
        Command::new(program)
            .args(settings(target, &given))
            .args(&given)
            .env("ASAN_OPTIONS", format!("{SANITIZER}:{sanitizer}"))
            .env(SETTLED, "1")
            .exec()
    };
    let error = env::current_exe().map_or_else(|error| error, again);
    eprintln!("the fuzz target cannot start itself again with its settings: {error}");
    std::process::exit(1);
}

/// What goes before the arguments that are given, which win. libFuzzer writes what it learns into the
/// first folder: where that would be the committed corpus, one that git ignores goes before it.
fn settings(target: Target, given: &[OsString]) -> Vec<OsString> {
    let mut settings = OPTIONS.map(OsString::from).to_vec();
    let dictionary = format!("{TOP}/fuzz/{target}.dict");
    if fs::exists(&dictionary).unwrap_or(false) {
        settings.push(format!("-dict={dictionary}").into());
    }
    let is_option = |argument: &&OsString| argument.as_encoded_bytes().starts_with(b"-");
    let input = given.iter().find(|argument| !is_option(argument));
    let input = input.and_then(|input| fs::canonicalize(input).ok());
    if input.is_some() && input == fs::canonicalize(format!("{TOP}/corpus/{target}")).ok() {
        let learned = format!("{TOP}/target/fuzz/{target}");
        // Where it cannot be made, libFuzzer says so.
        let _ = fs::create_dir_all(&learned);
        settings.push(learned.into());
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What there is beside the options for all targets, with the top of the tree cut off.
    fn beside_options(target: Target, given: &[&str]) -> Vec<String> {
        let given: Vec<OsString> = given.iter().map(Into::into).collect();
        let all = settings(target, &given);
        let (options, rest) = all.split_at(OPTIONS.len());
        assert_eq!(options, OPTIONS);
        let text = rest
            .iter()
            .map(|argument| argument.to_str().expect("UTF-8"));
        text.map(|text| text.replace(TOP, ".")).collect()
    }

    #[test]
    fn what_is_learned_from_the_committed_seeds_goes_elsewhere() {
        let seeds = format!("{TOP}/fuzz/corpus/rebuild/");
        let learned = beside_options(Target::Rebuild, &["-runs=1", &seeds]);
        assert_eq!(learned, ["./target/fuzz/rebuild"]);
        let file = format!("{TOP}/Cargo.toml");
        for others in [&["/no/such/folder"], &[file.as_str()], &["-runs=1"]] {
            assert_eq!(beside_options(Target::Crash, others), [""; 0]);
        }
    }

    #[test]
    fn a_dictionary_is_used() {
        let dictionary = beside_options(Target::Image, &[]);
        assert_eq!(dictionary, ["-dict=./fuzz/image.dict"]);
    }
}
