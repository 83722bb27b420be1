//! Finding, installing and calling what fuzzing needs.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use recount_oracle::fuzz::Target;

use super::progress::Progress;
use super::rate::{EXECUTIONS, statistic};
use crate::error::{At as _, Result};
use crate::process::{check, have, output, succeeds};

/// Seconds for making a finding smaller.
const MINIMIZE: u32 = 30;

/// How a target is run.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Stretch {
    /// How long: 90s, 5m, 1h30m. By default until Ctrl-C, with --all a minute each.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub time: Option<Duration>,
    /// How many executions instead, from the committed corpus alone: with --seed, the same every time.
    #[arg(long, value_name = "N", conflicts_with_all = ["time", "rate", "jobs"])]
    pub runs: Option<u64>,
    /// Processes that share what they learn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "rate")]
    pub jobs: u32,
    /// Go on behind a finding until the time is up, and store the smallest of each kind.
    #[arg(long, requires = "time", conflicts_with = "rate")]
    pub go_on: bool,
    /// Only say what is found, and store none of it: the same executions find it again.
    #[arg(long, requires = "runs")]
    pub no_store: bool,
    /// Where libFuzzer's random numbers begin; a fresh one each time unless given.
    #[arg(long, conflicts_with = "rate")]
    pub seed: Option<u64>,
}

impl Stretch {
    /// Whether libFuzzer starts processes of its own, which may end by a finding each.
    const fn forks(&self) -> bool {
        self.jobs > 1 || self.go_on
    }

    /// Says so to libFuzzer.
    fn ask(&self, command: &mut Command) {
        if let Some(time) = self.time {
            command.arg(format!("-max_total_time={}", time.as_secs()));
        }
        if let Some(runs) = self.runs {
            // Which inputs take long is not the same every time.
            command.arg(format!("-runs={runs}"));
            command.arg("-entropic_scale_per_exec_time=0");
            // Its last status line may be far from where a finding ends it.
            command.arg("-print_final_stats=1");
        }
        if let Some(seed) = self.seed {
            // 32 bits, and 0 means a fresh one.
            command.arg(format!("-seed={}", seed % u64::from(u32::MAX) + 1));
        }
        if self.forks() {
            command.arg(format!("-fork={}", self.jobs));
        }
        if self.go_on {
            command.args(["-ignore_crashes=1", "-ignore_timeouts=1", "-ignore_ooms=1"]);
        }
    }
}

/// What came of a run.
pub struct Ran {
    pub artifacts: Vec<PathBuf>,
    /// What libFuzzer said last of its progress.
    pub progress: Progress,
}

/// cargo-fuzz and what it builds.
pub struct Fuzzer {
    host: String,
    /// The top of the tree whose targets are built and run.
    top: PathBuf,
    /// Where they are built.
    build: PathBuf,
}

impl Fuzzer {
    /// Looks for everything that is needed; installs cargo-fuzz where it is missing.
    pub fn ready() -> Result<Self> {
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
        if !succeeds(Command::new(&compiler).arg("--version")) {
            return Err(format!(
                "no C++ compiler ({compiler}): libFuzzer's runtime is written in C++. Install one, \
                 on Debian with: apt-get install g++"
            )
            .into());
        }
        have("fuzz")?;
        let version = output(Command::new("rustc").arg("-vV"))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.ok_or("rustc -vV names no host")?.to_owned();
        let build = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        Ok(Self {
            host,
            top: std::env::current_dir()?,
            build: std::path::absolute(build)?,
        })
    }

    pub fn build(&self, target: Target) -> Result<()> {
        let mut command = Command::new("cargo");
        command.args(["fuzz", "build"]);
        if let Some(theirs) = std::env::var_os("RUSTC_WRAPPER") {
            self.wrap(&mut command, theirs);
        }
        check(self.in_tree(command.arg(target.name())))
    }

    /// Has cargo start the compiler through fuzz/rustc, and that through the user's wrapper: set in the
    /// environment, this would take the place of the one that .cargo/config.toml names.
    fn wrap(&self, command: &mut Command, theirs: OsString) {
        let ours = self.top.join("fuzz/rustc");
        if Path::new(&theirs) != ours {
            command.env("RECOUNT_RUSTC_WRAPPER", theirs);
        }
        command.env("RUSTC_WRAPPER", ours);
    }

    fn in_tree<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .current_dir(&self.top)
            .env("CARGO_TARGET_DIR", &self.build)
    }

    /// The built target, on its way to be run. Its settings it knows itself.
    pub fn command(&self, target: Target) -> Command {
        let release = self.build.join(&self.host).join("release");
        let mut command = Command::new(release.join(target.name()));
        self.in_tree(&mut command);
        command
    }

    /// Runs a built target as asked. What it learns goes to target/fuzz, or nowhere where a number of
    /// executions was asked for; the committed corpus is only read.
    pub fn run(&self, target: Target, stretch: &Stretch) -> Result<Ran> {
        let artifacts = PathBuf::from(format!("fuzz/artifacts/{target}/"));
        std::fs::create_dir_all(&artifacts)?;
        let before = files(&artifacts)?;
        let mut command = self.command(target);
        command.arg(format!("-artifact_prefix={}", artifacts.display()));
        stretch.ask(&mut command);
        let scratch = tempfile::tempdir()?;
        if stretch.runs.is_some() {
            let list = scratch.path().join("seeds");
            let names = files(&seeds(target))?.into_iter();
            let names: Vec<_> = names.map(|file| file.display().to_string()).collect();
            std::fs::write(&list, names.join(","))?;
            let learned = scratch.path().join("learned");
            std::fs::create_dir(&learned)?;
            // In that order: a folder has them in any order.
            command
                .arg(format!("-seed_inputs=@{}", list.display()))
                .arg(learned);
        } else {
            command.arg(learned(target)?).arg(seeds(target));
        }
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let mut progress = Progress::default();
        for line in BufReader::new(child.stderr.take().ok_or("no output")?).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            let read = Progress::read(&line, stretch.forks());
            progress = read.unwrap_or(progress);
            let executions = statistic(&line, EXECUTIONS).filter(|_| !stretch.forks());
            progress.executions = executions.unwrap_or(progress.executions);
        }
        let status = child.wait()?;
        let mut artifacts = files(&artifacts)?;
        artifacts.retain(|file| !before.contains(file));
        if artifacts.is_empty() && !status.success() {
            return Err(format!("{target} failed").into());
        }
        Ok(Ran {
            artifacts,
            progress,
        })
    }

    /// The smallest input with the same end that is found in half a minute.
    pub fn minimize(&self, target: Target, artifact: PathBuf) -> Result<PathBuf> {
        let smaller = artifact.with_extension("smaller");
        let mut command = self.command(target);
        command
            .arg("-minimize_crash=1")
            .arg(format!("-max_total_time={MINIMIZE}"))
            .arg(format!("-exact_artifact_path={}", smaller.display()))
            .arg(&artifact)
            .stderr(Stdio::null());
        // It ends with an error when it can do no more.
        let _ = command.status()?;
        Ok(if smaller.exists() { smaller } else { artifact })
    }
}

/// The committed inputs of a target.
pub fn seeds(target: Target) -> PathBuf {
    PathBuf::from(format!("corpus/{target}"))
}

/// The folder of inputs found on this machine.
pub fn learned(target: Target) -> Result<PathBuf> {
    let folder = PathBuf::from(format!("target/fuzz/{target}"));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The files of a folder, sorted.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).at(folder.display())?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut files = paths.collect::<Result<Vec<_>, _>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapper_of_the_user_starts_the_compiler_behind_ours() {
        let fuzzer = Fuzzer {
            host: String::new(),
            top: Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
            build: PathBuf::new(),
        };
        let wrapper = fuzzer.top.join("fuzz/rustc");
        let told = |flags: &[&str]| {
            let mut command = Command::new(&wrapper);
            fuzzer.wrap(&mut command, "echo".into());
            output(command.arg("rustc").args(flags)).unwrap()
        };
        assert_eq!(told(&["--test", "a b"]), "rustc --test a b\n");
        // What `cargo fuzz` asks for is changed before it comes to the wrapper.
        let flags = ["-Cpasses=sancov-module", "--crate-name", "other"];
        assert_eq!(told(&flags), "rustc --crate-name other\n");
    }
}
