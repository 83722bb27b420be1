//! `cargo xtask replay`: runs again whatever any part of the harness printed, and tells the whole
//! story.

use std::process::ExitCode;

use clap::Parser;
use recount_oracle::case::Case;
use recount_oracle::case::text;
use recount_oracle::explore::images::{self, Named};
use recount_oracle::replay;
use recount_oracle::toy::Word;
use recount_subjects::Recount;

use crate::error::Result;

/// Options of `cargo xtask replay`.
#[derive(clap::Args)]
pub struct Args {
    /// A toy (toy:first-fit:b4e2w16:#..#:grows), an image of `cargo xtask
    /// model` (image:planned:plain:dirty:grows), a case of `cargo xtask
    /// differential` (7:12), or a case file.
    case: String,
}

/// Tells the story of a case. Exit code 1 when a property fails.
pub fn run(args: &Args) -> Result<ExitCode> {
    if is_differential(&args.case) {
        let words = ["xtask", "differential", "--only", &args.case];
        return crate::Cli::parse_from(words).command.run();
    }
    let story = replay::replay(&Recount, &case(&args.case)?)?;
    print!("{}", story.text);
    let fails = story
        .verdicts
        .iter()
        .any(|(_, verdict)| verdict.is_failure());
    Ok(ExitCode::from(u8::from(fails)))
}

/// Two numbers: the seed and the index of a random case of real images.
fn is_differential(word: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().is_ok();
    word.split_once(':')
        .is_some_and(|(seed, index)| number(seed) && number(index.trim_start_matches('s')))
}

fn case(word: &str) -> Result<Case> {
    if word.starts_with(Word::PREFIX) {
        return Ok(word.parse::<Word>()?.to_case());
    }
    if word.starts_with(Named::PREFIX) {
        let mut all = images::all(&crate::model::ALGORITHMS).into_iter();
        let found = all.find(|image| image.name == word);
        return Ok(found
            .ok_or_else(|| format!("there is no image `{word}`"))?
            .case);
    }
    Ok(text::read(word.as_ref())?.case)
}
