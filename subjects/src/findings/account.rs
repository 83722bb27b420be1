//! What a finding is, told to whoever maintains the program: what was run, what happened, what the
//! specification has about it, how to see it.

use std::fmt::Write as _;

use recount_oracle::case::Image;
use recount_oracle::case::observed::Ended;
use recount_oracle::case::real::Kind;

use super::clusters::{Table, plain};
use super::script;
use super::specification;
use super::{Consequence, Finding, files};
use crate::programs::image_arguments;

/// Lines of a program's output that are kept.
const LINES: usize = 40;
/// Where the specification is to be read.
const SPECIFICATION: &str = "https://www.qemu.org/docs/master/interop/qcow2.html";
/// Begins, in a story, what the program said.
const SAID: &str = "\n    the program: ";
/// Begins, in a story, what comes of it.
const CONSEQUENCE: &str = "once qemu-io has written to the image: ";

/// A part of the text. In sentences and lists, what is between backticks is code.
pub enum Block {
    /// The title of all of it.
    Title(String),
    /// That of a part.
    Heading(&'static str),
    /// A sentence or more.
    Text(String),
    /// What is typed, or was printed.
    Code(String),
    /// One thing each.
    List(Vec<String>),
    /// Where something is to be read.
    Link(&'static str, &'static str),
    /// What someone else says.
    Quote(&'static str),
}

/// The whole account; `tables` are the image before and after.
pub fn of(finding: &Finding<'_>, tables: [&Result<Table, String>; 2]) -> Vec<Block> {
    let mut blocks = vec![Block::Title(format!(
        "`{}` {}",
        finding.subject,
        headline(finding, tables)
    ))];
    what_was_run(&mut blocks, finding, tables[0]);
    what_happened(&mut blocks, finding, tables);
    what_is_asked(&mut blocks, finding);
    how_to_see_it(&mut blocks, finding);
    let (property, case) = (finding.property, finding.case);
    blocks.push(Block::Text(format!(
        "In the report that this folder belongs to, the failure is called `{property}`, of case \
         `{case}`."
    )));
    blocks
}

/// What the program does, in a few words.
fn headline(finding: &Finding<'_>, [before, after]: [&Result<Table, String>; 2]) -> &'static str {
    match finding.property {
        "ends" if finding.story.starts_with("runaway") => "makes a file without end",
        "ends" if finding.story.starts_with("crash") => "crashes",
        "ends" => "does not come to an end by itself",
        _ if before.is_ok() && after.is_err() => "leaves an image that cannot be opened any more",
        "healthy-stays-healthy" => "breaks an image that has nothing wrong",
        "keeps-guest-data" => "changes what the guest reads",
        "no-overlap" => "writes new tables over what is in use",
        "leaves-data-alone" => "changes bytes that a repair has to leave as they are",
        "good-in-use" => "leaves an image that breaks when a guest writes to it",
        "counts-every-cluster" => "says that it has repaired an image, and leaves wrong refcounts",
        "keeps-header-settings" => {
            "changes settings of the header that a repair has nothing to do with"
        }
        "keeps-what-it-cannot-follow" => "releases or overwrites what damage may hide",
        "checks-rightly" => "says what is not so of an image that it checks",
        "repairs" if finding.story.contains("failed then") => "changes an image and fails then",
        "repairs" => "does not repair refcounts that can be set right",
        _ => "does not repair an image as it should",
    }
}

fn what_was_run(blocks: &mut Vec<Block>, finding: &Finding<'_>, before: &Result<Table, String>) {
    blocks.push(Block::Heading("What was run"));
    blocks.push(Block::Code(finding.command.line(files::IMAGE)));
    let mut text = format!("`{}` is a qcow2 image", files::IMAGE);
    if let Ok(table) = before {
        let _ = write!(text, " of {}", table.about);
    }
    let changes = script::changes(&finding.origin);
    let wrong = before.as_ref().is_ok_and(Table::is_wrong);
    let kind = match (wrong, changes.is_empty()) {
        (false, true) if before.is_ok() => ". Nothing is wrong with it.",
        (_, true) => ".",
        _ => ". It was made with nothing wrong; then this was changed:",
    };
    text += kind;
    blocks.push(Block::Text(text));
    if !changes.is_empty() {
        blocks.push(Block::List(shortened(changes)));
    }
}

/// Not more lines than a reader looks at.
fn shortened(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > LINES {
        let more = lines.len() - LINES;
        lines.truncate(LINES);
        lines.push(format!("… and {more} more"));
    }
    lines
}

fn what_happened(
    blocks: &mut Vec<Block>,
    finding: &Finding<'_>,
    [before, after]: [&Result<Table, String>; 2],
) {
    blocks.push(Block::Heading("What happened"));
    let said = &finding.repaired.said;
    let ended = match said.ended {
        Ended::Code(code) => format!("It ended with exit code {code}"),
        Ended::Signal(signal) => format!("It was killed by signal {signal}"),
        Ended::TimedOut => "It had not ended when its time was up, and was ended".to_owned(),
    };
    let (story, _) = finding
        .story
        .split_once(SAID)
        .unwrap_or((finding.story, ""));
    let story = plain(story.lines().next().unwrap_or_default());
    blocks.push(Block::Text(format!("{ended}. What is wrong: {story}.")));
    let in_story = finding.story.split_once(CONSEQUENCE).map(|(_, loss)| loss);
    let known = finding.consequence.map(|known| &*known.loss);
    if let Some(loss) = in_story.or(known) {
        let loss = plain(loss.lines().next().unwrap_or_default());
        blocks.push(Block::Text(format!(
            "What comes of it: once qemu-io has written to other places of the image, {loss}."
        )));
    }
    blocks.push(Block::List(vec![
        state("Before", before),
        state("After", after),
    ]));
    if said.stderr.trim().is_empty() {
        blocks.push(Block::Text("It printed nothing.".to_owned()));
    } else {
        blocks.push(Block::Text("It printed:".to_owned()));
        let lines = said.stderr.lines().map(str::to_owned).collect();
        blocks.push(Block::Code(shortened(lines).join("\n")));
    }
}

/// How an image is, in a sentence.
fn state(when: &str, table: &Result<Table, String>) -> String {
    let table = match table {
        Ok(table) => table,
        Err(why) => return format!("{when}: {why}."),
    };
    let mut text = match table.wrong_counts {
        0 => format!("{when}: every refcount is right"),
        1 => format!("{when}: the refcount of one cluster is wrong"),
        some => format!("{when}: the refcounts of {some} clusters are wrong"),
    };
    match &table.wrong[..] {
        [] => {}
        [one] => {
            let _ = write!(text, "; {one}");
        }
        [one, more @ ..] => {
            let _ = write!(text, "; {one}, and {} more", more.len());
        }
    }
    text + "."
}

fn what_is_asked(blocks: &mut Vec<Block>, finding: &Finding<'_>) {
    blocks.push(Block::Heading("What the specification of qcow2 asks for"));
    let sections = specification::about(finding.property, finding.story, &finding.repaired.image);
    if sections.is_empty() {
        blocks.push(Block::Text(
            "It has no word on how a program ends. What is left behind by one that had to be ended has \
             to be a qcow2 image all the same."
                .to_owned(),
        ));
    }
    for section in sections {
        blocks.push(Block::Text(format!("Section \"{}\":", section.name)));
        blocks.push(Block::Quote(section.says));
    }
    let place = "It is docs/interop/qcow2 in the sources of QEMU, and on the web:";
    blocks.push(Block::Link(place, SPECIFICATION));
}

fn how_to_see_it(blocks: &mut Vec<Block>, finding: &Finding<'_>) {
    blocks.push(Block::Heading("How to see it"));
    let encrypted = match finding.origin.image {
        Image::Real(recipe) => recipe.kind == Kind::Luks,
        Image::Synthetic(image) => image.luks,
        Image::Model(_) => false,
    };
    let arguments = if encrypted {
        image_arguments(files::IMAGE, true).join(" ")
    } else {
        files::IMAGE.to_owned()
    };
    let check = format!("qemu-img check {arguments}");
    let program = finding.command.line(files::IMAGE);
    let mut lines = vec![
        format!("sh {}", files::SCRIPT),
        check.clone(),
        program,
        check,
    ];
    let mut list = about_files();
    if let Some(known) = finding.consequence {
        lines.push(known.command.replace(Consequence::PLACE, files::IMAGE));
        let about = "The last command is a guest that writes: see above what else it changes.";
        list.insert(0, about.to_owned());
    }
    blocks.push(Block::Code(lines.join("\n")));
    blocks.push(Block::List(list));
}

/// What the files beside the account are.
fn about_files() -> Vec<String> {
    vec![
        format!(
            "`{}` is the image, and `{}` builds it anew, byte for byte, with `printf` and `dd`, or with \
             qemu-img where that made it.",
            files::IMAGE,
            files::SCRIPT
        ),
        format!(
            "`{}` and `{}` say of each cluster, before and after, what refers to it, what its refcount \
             is, and whether that is right.",
            files::BEFORE,
            files::AFTER
        ),
    ]
}

/// The account as Markdown.
pub fn markdown(blocks: &[Block]) -> String {
    let parts = blocks.iter().map(|block| match block {
        Block::Title(title) => format!("# {title}\n"),
        Block::Heading(title) => format!("## {title}\n"),
        Block::Text(text) => format!("{text}\n"),
        Block::Code(text) => lines(text, "    "),
        Block::List(list) => list
            .iter()
            .fold(String::new(), |text, one| text + "- " + one + "\n"),
        Block::Link(text, place) => format!("{text} <{place}>\n"),
        Block::Quote(text) => lines(text, "> "),
    });
    parts.collect::<Vec<_>>().join("\n")
}

fn lines(text: &str, before: &str) -> String {
    let lines = text.lines();
    lines.fold(String::new(), |all, line| all + before + line + "\n")
}
