//! The script that builds the image of a finding byte for byte, with nothing but a shell, `printf`,
//! `dd` and `truncate`; where qemu-img made the image, first as it did. What qemu-img writes depends on
//! its version: the script sees that by the checksum, and takes `printf` then.

use std::fmt::Write as _;

use recount_oracle::case::Image;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::real::{Kind, Recipe};

use super::checksum::{self, Sum};
use super::chunks::{self, Chunk, Piece};
use super::labels::Labels;
use crate::programs::recipe::{self, Call, Tool};
use crate::programs::shell_line;

/// A checksum of longer images takes the script too long.
const LONGEST: u64 = 256 << 20;
/// Bytes of one `printf`.
const LINE: usize = 32;
/// Where qemu-img makes more than so many bytes different each time, its commands are left out.
const MOST_BY_CHANCE: u64 = 4 << 10;

/// What every script begins with.
const HEAD: &str = r#"#!/bin/sh
# Builds image.qcow2 in this folder, or the file that is named: the same bytes each time.
set -eu
image=${1:-image.qcow2}

# put OFFSET: writes what it reads there.
put() {
    if [ $(($1 % 512)) -eq 0 ]; then
        dd of="$image" bs=512 seek=$(($1 / 512)) conv=notrunc 2>/dev/null
    else
        dd of="$image" bs=1 seek="$1" conv=notrunc 2>/dev/null
    fi
}

# repeat TIMES BYTES: these bytes so many times.
repeat() {
    many=$2 size=1 left=$1
    while [ $((size * 2)) -le "$1" ] && [ $size -lt 512 ]; do
        many=$many$many size=$((size * 2))
    done
    while [ $left -ge $size ]; do
        printf "$many"
        left=$((left - size))
    done
    while [ $left -gt 0 ]; do
        printf "$2"
        left=$((left - 1))
    done
}
"#;

/// What is known of how an image came about.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// What made it.
    pub image: &'a Image,
    /// The image before it was damaged.
    pub whole: &'a SparseBytes,
    /// The same, where qemu-img has made it once more: what differs it decides anew each time.
    pub again: Option<&'a SparseBytes>,
    /// The image.
    pub damaged: &'a SparseBytes,
}

/// The script.
pub fn of(origin: &Origin<'_>) -> String {
    let mut script = HEAD.to_owned();
    let labels = Labels::of(origin.whole);
    companions(&mut script, origin.image);
    let by_printf = function("by_printf", &build(origin.whole, &labels));
    script += "\n# The image before it was damaged, laid out byte by byte.\n";
    script += &by_printf;
    match by_qemu(origin, &labels) {
        Some((commands, sum)) => {
            script += "\n# The same, by the commands that made it first.\n";
            script += &function("by_qemu", &commands);
            let _ = write!(
                script,
                "\nif ! (by_qemu) >/dev/null 2>&1 || {}",
                differs(sum)
            );
            script += "; then\n    echo \"make.sh: there is no qemu-img here that lays the image out \
                       alike: it is built by printf\" >&2\n    by_printf\nfi\n";
        }
        None => script += "\nby_printf\n",
    }
    let changes = damage(origin, &labels);
    if !changes.is_empty() {
        script += "\n# What is wrong with the image.\n";
    }
    for (words, lines) in changes {
        let _ = write!(script, "# {words}\n{lines}");
    }
    script
}

/// Files that have to be beside the image.
fn companions(script: &mut String, image: &Image) {
    let mut lines = String::new();
    match image {
        Image::Real(recipe) if recipe.kind == Kind::DataFile => {
            let (file, size) = (recipe::DATA_FILE, recipe.virtual_size());
            let _ = writeln!(lines, "truncate -s {size} {file}");
        }
        Image::Real(recipe) => {
            for call in recipe::backing(recipe) {
                let command = command(&call);
                let _ = writeln!(
                    lines,
                    "{command} || echo \"make.sh: without its backing file\" >&2"
                );
            }
        }
        Image::Synthetic(synthetic) => {
            if let Some(name) = &synthetic.backing {
                let _ = writeln!(lines, "truncate -s 512 {}", shell_line([name.clone()]));
            }
        }
        Image::Model(_) => {}
    }
    if !lines.is_empty() {
        let _ = write!(script, "\n# What has to be beside the image.\n{lines}");
    }
}

/// A function of the shell. The name of a file in it is the script's.
fn function(name: &str, body: &str) -> String {
    let mut text = format!("{name}() {{\n");
    for line in body.lines() {
        let indent = if line.is_empty() { "" } else { "    " };
        let _ = writeln!(text, "{indent}{line}");
    }
    text + "}\n"
}

/// Lays an image out in an empty file.
fn build(image: &SparseBytes, labels: &Labels<'_>) -> String {
    let mut text = ": >\"$image\"\n".to_owned();
    let _ = writeln!(text, "truncate -s {} \"$image\"", image.len());
    for chunk in chunks::of(image, labels) {
        let _ = writeln!(text, "# {}", chunk.part.name);
        put(&mut text, &chunk);
    }
    text
}

/// The commands of the recipe, and the checksum of what comes of them: `None` where there are none, or
/// their result differs too much from time to time.
fn by_qemu(origin: &Origin<'_>, labels: &Labels<'_>) -> Option<(String, Sum)> {
    let Image::Real(recipe) = origin.image else {
        return None;
    };
    let (whole, again) = (origin.whole, origin.again?);
    // The keys of an encrypted one are new each time.
    if recipe.kind == Kind::Luks || whole.len() > LONGEST || whole.len() != again.len() {
        return None;
    }
    let by_chance = chunks::changed(again, whole, labels);
    let bytes: u64 = by_chance.iter().map(Chunk::length).sum();
    if bytes > MOST_BY_CHANCE {
        return None;
    }
    let mut text = commands(recipe);
    if !by_chance.is_empty() {
        text += "# What differs from time to time, such as the dates of snapshots.\n";
    }
    for chunk in &by_chance {
        let _ = writeln!(text, "# {}", chunk.part.name);
        put(&mut text, chunk);
    }
    Some((text, checksum::of(whole)))
}

fn commands(recipe: &Recipe) -> String {
    let mut text = command(&recipe::create(recipe, PLACE)) + "\n";
    for call in recipe::steps(recipe, PLACE) {
        // qemu refuses what makes no sense, and a writer that kills itself has failed.
        let _ = writeln!(text, "{} || :", command(&call));
    }
    text
}

/// Stands for the image in the arguments of a call.
const PLACE: &str = "IMAGE";

/// A call as the shell takes it.
fn command(call: &Call) -> String {
    let program = match call.tool {
        Tool::Img => "qemu-img",
        Tool::Io => "qemu-io",
    };
    let words = call.arguments.iter().map(|word| match &**word {
        PLACE => "\"$image\"".to_owned(),
        _ => shell_line([word.clone()]),
    });
    let words = std::iter::once(program.to_owned()).chain(words);
    words.collect::<Vec<_>>().join(" ")
}

/// What the shell asks to see another image.
fn differs(sum: Sum) -> String {
    let Sum { crc, length } = sum;
    format!("[ \"$(cksum <\"$image\")\" != \"{crc} {length}\" ]")
}

/// What turns the whole image into the damaged one: each change in words, and the lines that make it.
fn damage(origin: &Origin<'_>, labels: &Labels<'_>) -> Vec<(String, String)> {
    let (whole, damaged) = (origin.whole, origin.damaged);
    let mut changes = Vec::new();
    if whole.len() != damaged.len() {
        let (was, is) = (whole.len(), damaged.len());
        let words = format!("the file ends after {is} bytes, not {was}");
        changes.push((words, format!("truncate -s {is} \"$image\"\n")));
    }
    for chunk in chunks::changed(whole, damaged, labels) {
        let mut words = chunk.part.name.to_string();
        let (at, bytes) = (chunk.start, chunk.length());
        if bytes <= 8 {
            let fields = [whole, damaged].map(|image| image.number(at, bytes as usize));
            let _ = write!(words, ": {:#x} becomes {:#x}", fields[0], fields[1]);
        } else if chunk.pieces.iter().all(Piece::is_zeros) {
            let _ = write!(words, ": {bytes} bytes become zeros");
        }
        let mut lines = String::new();
        put(&mut lines, &chunk);
        changes.push((words, lines));
    }
    changes
}

/// What was changed to damage the image, in words.
pub fn changes(origin: &Origin<'_>) -> Vec<String> {
    let changes = damage(origin, &Labels::of(origin.whole));
    changes.into_iter().map(|(words, _)| words).collect()
}

/// Writes the bytes of a chunk.
fn put(text: &mut String, chunk: &Chunk) {
    let mut lines = Vec::new();
    for piece in &chunk.pieces {
        match piece {
            Piece::Plain(bytes) => {
                let plain = bytes.chunks(LINE);
                lines.extend(plain.map(|bytes| format!("printf '{}'", escaped(bytes))));
            }
            Piece::Repeated { times, bytes } => {
                lines.push(format!("repeat {times} '{}'", escaped(bytes)));
            }
        }
    }
    let at = chunk.start;
    if let [line] = &lines[..] {
        let _ = writeln!(text, "{line} | put {at}");
        return;
    }
    let _ = writeln!(text, "{{\n    {}\n}} | put {at}", lines.join("\n    "));
}

/// Bytes as `printf` takes them: words as they are, everything else in octal.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|one, next| one.is_ascii_alphabetic() == next.is_ascii_alphabetic()) {
        if run[0].is_ascii_alphabetic() && run.len() >= 3 {
            text += &String::from_utf8_lossy(run);
        } else {
            text.extend(run.iter().map(|byte| format!("\\{byte:03o}")));
        }
    }
    text
}
