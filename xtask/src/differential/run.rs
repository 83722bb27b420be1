//! What the command's options come down to: which programs, which cases, and the result.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::cases::CaseName;
use super::field::Field;
use super::session::{Cases, Session};
use super::subject::{Checker, Maker};
use super::{Args, findings, recorder};
use crate::error::Result;
use crate::process;
use crate::report::model::{Report, Run};

/// Where recorded cases lie, from the root of the repository.
pub const RECORDED: &str = "corpus/cases";
/// What installs qemu-img and qemu-io.
const INSTALL: &str = "apt-get install qemu-utils";
/// Percent.
const ALL: u32 = 100;

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.findings {
        let found = findings::write(Path::new(RECORDED), Path::new(findings::PAGE))?;
        println!("{found} findings in {}", findings::PAGE);
        return Ok(ExitCode::SUCCESS);
    }
    let theirs = find_qemu(args)?;
    let is_there = !theirs.is_empty();
    let field = Field::gather(args, theirs)?;
    let earlier = match &args.report {
        Some(folder) if args.resume => Some(Report::load(folder)?),
        Some(folder) => Report::prepare(folder, args.overwrite).map(|()| None)?,
        None => None,
    };
    let known = earlier.as_ref().and_then(|report| report.runs.first());
    let seed = args.only.map(|only| only.seed).or(args.seed);
    let seed = seed.or(known.map(|run| run.seed));
    let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
    // Images that a program repairs can be had without a qemu-img too.
    let synthetic = if !is_there && !field.commands.is_empty() {
        println!(
            "no qemu-img: only images that the harness lays out are made, and none is compared with it"
        );
        ALL
    } else {
        args.synthetic
    };
    let run = Run {
        seed,
        shard: (args.shard.number, args.shard.of),
        synthetic_share: synthetic,
        seconds: 0.0,
        done: Vec::new(),
    };
    let session = Session::new(args, field, maker(args), run, earlier)?;
    if let Some(only) = args.only.filter(|_| args.record) {
        return recorder::record_one(&session, Path::new(RECORDED), only);
    }
    if args.record {
        findings::record(&session, Path::new(RECORDED))?;
        return recorder::record(&session, Path::new(RECORDED), seed);
    }
    let cases = match (args.only, &args.case) {
        (Some(only), _) => {
            println!("{:#?}", only.case());
            Cases::Named(vec![CaseName::Random(only)])
        }
        (_, Some(path)) => Cases::Named(vec![CaseName::Recorded(path.clone())]),
        _ if !is_there && synthetic < ALL => recorded_cases()?,
        _ => Cases::Seed,
    };
    println!("{}", session.describe(&cases));
    session.run(&cases)
}

/// Every qemu-img; none where the one of the machine is missing and need not be there.
fn find_qemu(args: &Args) -> Result<Vec<Checker>> {
    let mut found = Vec::new();
    for path in &args.qemu_img {
        let named = path != Path::new("qemu-img");
        match Checker::find(path) {
            Ok(checker) if checker.is_qemu() => found.push(checker),
            Ok(_) => {
                let path = path.display();
                return Err(format!("{path} is no qemu-img: its --version does not say so").into());
            }
            Err(missing) if named || args.require_qemu || args.only.is_some() || args.record => {
                return Err(format!("{missing}\ninstall it with: {INSTALL}").into());
            }
            Err(missing) => eprintln!("{missing}\ninstall it with: {INSTALL}"),
        }
    }
    Ok(found)
}

fn recorded_cases() -> Result<Cases> {
    let folder = Path::new(RECORDED);
    let found = super::record::load_all(folder)?;
    if found.is_empty() {
        let folder = folder.display();
        let advice = "run this from the root of the repository";
        return Err(format!("no recorded cases in {folder}: {advice}").into());
    }
    let paths = found.into_iter().map(|(path, _)| path);
    Ok(Cases::Named(paths.map(CaseName::Recorded).collect()))
}

/// Images are made by the qemu-img and qemu-io of the machine, or else by those that are compared.
fn maker(args: &Args) -> Maker {
    let installed = Checker::find(Path::new("qemu-img")).is_ok();
    match args.qemu_img.first() {
        Some(other) if !installed => Maker::new(other.clone(), other.with_file_name("qemu-io")),
        _ => Maker::new(PathBuf::from("qemu-img"), PathBuf::from("qemu-io")),
    }
}

/// Builds recount as this program is built, and says where it is.
pub fn build_recount() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().and_then(Path::file_name);
    let profile = folder.map_or("release".into(), |folder| folder.to_string_lossy());
    let profile = if profile == "debug" { "dev" } else { &profile };
    process::build_recount(profile, Path::new("."), None)
}
