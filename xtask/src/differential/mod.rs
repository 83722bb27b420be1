//! `cargo xtask differential`: makes images, damages them, lets every subject repair them, compares
//! what recount and each qemu-img say and do, check by check, and judges every subject's repair.

mod cases;
mod check;
mod comparison;
mod crash_log;
mod device;
mod differences;
mod examine;
mod exhibit;
mod field;
mod findings;
#[cfg(test)]
mod guest;
mod in_use;
mod judge;
mod observe;
mod record;
mod recorder;
mod run;
mod session;
mod shrink;
mod specified;
mod tally;

use std::path::PathBuf;
use std::time::Duration;

use crate::report::question;
use recount_subjects::programs as subject;
pub use run::run;

/// Options of `cargo xtask differential`.
#[derive(clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub struct Args {
    /// How many cases to run.
    #[arg(long, default_value_t = 400)]
    cases: u64,
    /// Where the random cases begin; a fresh one each time unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after this time: 90s, 5m, 1h30m.
    #[arg(long, value_parser = humantime::parse_duration, conflicts_with = "only")]
    time: Option<Duration>,
    /// How many cases to run at a time; by default, two for each processor.
    #[arg(long)]
    jobs: Option<usize>,
    /// A qemu-img to compare with; may be given several times.
    #[arg(long, value_name = "PATH", default_value = "qemu-img")]
    qemu_img: Vec<PathBuf>,
    /// Any program that repairs an image in place, to be judged like the others; may be given
    /// several times. Where {algorithm} stands too, it takes part once for each algorithm of recount:
    /// planned, first-fit, tail.
    #[arg(long = "subject", value_name = "NAME='COMMAND {image}'")]
    subjects: Vec<subject::CommandLine>,
    /// A program that checks an image and changes nothing: by its exit code, 0 for nothing wrong, and
    /// by the JSON of qemu-img where it prints that. With the name of a --subject it belongs to that
    /// one.
    #[arg(long = "subject-check", value_name = "NAME='COMMAND {image}'")]
    checks: Vec<subject::CommandLine>,
    /// Judge these programs and each qemu-img only, and leave recount's own repairs out.
    #[arg(long, conflicts_with_all = ["record", "findings", "recount"])]
    only_subject: bool,
    /// Give these programs a block device that cannot grow, too. As root.
    #[arg(long)]
    subject_device: bool,
    /// How long each of these programs may take over one image: 20, 20s, 1m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "20s")]
    subject_time: Duration,
    /// How much memory each of them may ask for, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    subject_memory: u64,
    /// How much longer each of them may make a file, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    subject_growth: u64,
    /// That one of these programs declines an image, that is fails and changes nothing, is a failure.
    #[arg(long, requires = "subjects")]
    must_repair: bool,
    /// The program `recount`, which has to do the same as the engine in process; built by cargo unless
    /// given.
    #[arg(long, value_name = "PATH")]
    recount: Option<PathBuf>,
    /// Percent of the images that are laid out by the harness itself, with any structure there can
    /// be; qemu-img makes the others.
    #[arg(long, value_name = "PERCENT", default_value_t = 25, value_parser = clap::value_parser!(u32).range(0..=100))]
    synthetic: u32,
    /// End at the first case that fails, and make it no smaller.
    #[arg(long)]
    fail_fast: bool,
    /// Run only this part of the cases: the parts have none in common, and leave none out.
    #[arg(
        long,
        value_name = "K/N",
        default_value = "1/1",
        conflicts_with = "only"
    )]
    shard: cases::Shard,
    /// Write report.json, junit.xml and index.html into this folder, smaller cases for what failed,
    /// and a folder for each kind of failure of a --subject, for whoever maintains that.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// With --report: the folder may have something in it.
    #[arg(long, requires = "report")]
    overwrite: bool,
    /// Go on with the run whose report is in the folder of --report: the same seed, and only the
    /// cases that are not done.
    #[arg(long, requires = "report", conflicts_with_all = ["seed", "only", "case"])]
    resume: bool,
    /// Fail when qemu-img is not installed, instead of comparing with recorded verdicts.
    #[arg(long)]
    require_qemu: bool,
    /// Run this one case, as printed for a mismatch.
    #[arg(long, value_name = "SEED:INDEX")]
    only: Option<cases::CaseId>,
    /// Run this recorded case against its recorded verdicts.
    #[arg(long, value_name = "FILE", conflicts_with = "only")]
    case: Option<PathBuf>,
    /// With --only or --case: leave the case's files in this folder. base.qcow2 is the image before it
    /// was damaged, damaged.qcow2 what every program gets, image.qcow2 what qemu-img leaves of it,
    /// subject.qcow2 what the program of --subject leaves, used.qcow2 the same once a guest has
    /// written to it, device a copy on storage that cannot grow, log the writes of a repair.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Write what qemu-img says into corpus/cases/ instead of comparing: its verdict on every case
    /// that is there, and such cases of the seed as show something new; with --only just that case.
    #[arg(long, conflicts_with_all = ["case", "time"])]
    record: bool,
    /// Write docs/qemu-findings.md from the cases of the corpus that tell of qemu-img.
    #[arg(long, conflicts_with_all = ["only", "case", "time", "record"])]
    findings: bool,
}
