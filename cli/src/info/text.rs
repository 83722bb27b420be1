//! `recount info` for people, in narrow lines.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use indicatif::BinaryBytes;
use recount::step::of;
use recount::storage::shown;
use recount::{Offset, Report};

use super::parts::{Bitmap, OtherFile, Snapshot};
use super::{Part, Shown};

/// Columns of a line, where values allow.
const COLUMNS: usize = 60;
/// Columns of the labels.
const LABEL: usize = 18;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:LABEL$}{}", "image", shown(self.name))?;
        if let Some(broken) = &self.info.broken {
            field(f, "cannot be opened", &broken.to_string())?;
        }
        self.sizes(f)?;
        self.features(f)?;
        self.files(f)?;
        self.tables(f)?;
        part(f, "snapshots", &self.snapshots, snapshot)?;
        part(f, "bitmaps", &self.bitmaps, bitmap)?;
        writeln!(f)?;
        field(f, "file length", &size(self.file_length))?;
        match &self.check {
            Ok(report) => counters(f, report),
            Err(error) => field(f, "check", &format!("it did not complete: {error}")),
        }
    }
}

impl Shown<'_> {
    fn sizes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.info.image.header;
        let cluster_size = header.geometry.cluster_size();
        field(f, "format", &format!("qcow2, version {}", header.version))?;
        field(f, "virtual size", &size(header.size))?;
        field(f, "cluster size", &of(cluster_size, "byte"))?;
        field(f, "refcounts", &of(self.refcount_bits().into(), "bit"))?;
        field(f, "compression", self.compression())?;
        field(f, "encryption", self.encryption())
    }

    fn features(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut label = "features";
        for feature in &self.features {
            let name = feature.name.unwrap_or("unknown");
            let text = format!("{name} ({} bit {})", feature.kind, feature.bit);
            field(f, label, &text)?;
            label = "";
        }
        if self.features.is_empty() {
            field(f, label, "none")?;
        }
        Ok(())
    }

    fn files(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = self.backing_format.as_deref();
        other_file(f, "backing file", self.backing.as_ref(), format)?;
        other_file(f, "external data", self.data_file.as_ref(), None)
    }

    fn tables(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (header, extensions) = (&self.info.image.header, &self.info.image.extensions);
        let at = |offset: Offset, what: String| format!("at {offset}, {what}");
        let l1 = at(header.l1_table_offset, of(header.l1_size.into(), "entry"));
        field(f, "L1 table", &l1)?;
        let clusters = of(header.reftable_clusters.into(), "cluster");
        field(f, "refcount table", &at(header.reftable_offset, clusters))?;
        let snapshots = of(header.nb_snapshots.into(), "snapshot");
        let snapshots = at(header.snapshots_offset, snapshots);
        let is_there = header.nb_snapshots > 0;
        field(
            f,
            "snapshot table",
            if is_there { &snapshots } else { "none" },
        )?;
        let bitmaps = extensions.claimed_bitmaps.map(|bitmaps| {
            let what = of(bitmaps.count.into(), "bitmap");
            at(bitmaps.directory.offset, what)
        });
        field(f, "bitmap directory", bitmaps.as_deref().unwrap_or("none"))?;
        match extensions.luks {
            Some(luks) => field(f, "LUKS header", &at(luks.offset, of(luks.length, "byte"))),
            None => Ok(()),
        }
    }

    pub fn refcount_bits(&self) -> u32 {
        u64::BITS - self.info.image.geometry().max_refcount().leading_zeros()
    }

    pub fn compression(&self) -> &'static str {
        match self.info.image.header.compression_type {
            0 => "zlib",
            1 => "zstd",
            _ => "unknown",
        }
    }

    pub fn encryption(&self) -> &'static str {
        match self.info.image.header.crypt_method {
            0 => "none",
            1 => "AES",
            2 => "LUKS",
            _ => "unknown",
        }
    }
}

fn other_file(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    file: Option<&OtherFile>,
    format: Option<&str>,
) -> fmt::Result {
    let Some(file) = file else { return Ok(()) };
    writeln!(f, "{label:LABEL$}{}", shown(&file.name))?;
    if let Some(format) = format {
        field(f, "", &format!("format {format}"))?;
    }
    match &file.problem {
        // A path stays in one piece.
        Some(problem) => writeln!(f, "{:LABEL$}{problem}", ""),
        None => Ok(()),
    }
}

/// A list with its heading; nothing where there is none of it and none is missing.
fn part<T>(
    f: &mut fmt::Formatter<'_>,
    heading: &str,
    part: &Part<T>,
    one: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    if part.list.is_empty() && part.problem.is_none() {
        return Ok(());
    }
    writeln!(f, "\n{heading}")?;
    part.list.iter().try_for_each(|item| one(f, item))?;
    match &part.problem {
        Some(problem) => wrapped(f, "  ", 2, problem),
        None => Ok(()),
    }
}

fn snapshot(f: &mut fmt::Formatter<'_>, snapshot: &Snapshot) -> fmt::Result {
    let Snapshot { id, name, .. } = snapshot;
    writeln!(f, "  {id} \"{name}\"")?;
    writeln!(f, "    made {}", date(snapshot.date))?;
    if let Some(bytes) = snapshot.disk_size {
        writeln!(f, "    disk {}", size(bytes))?;
    }
    writeln!(f, "    VM state {}", size(snapshot.vm_state_size))?;
    let (l1_table, entries) = (snapshot.l1_table, of(snapshot.l1_entries.into(), "entry"));
    writeln!(f, "    L1 table at {l1_table}, {entries}")
}

fn bitmap(f: &mut fmt::Formatter<'_>, bitmap: &Bitmap) -> fmt::Result {
    writeln!(f, "  \"{}\"", bitmap.name)?;
    let enabled = if bitmap.enabled {
        "enabled"
    } else {
        "disabled"
    };
    let in_use = if bitmap.in_use { ", in use" } else { "" };
    writeln!(
        f,
        "    granularity {}, {enabled}{in_use}",
        size(bitmap.granularity)
    )
}

fn counters(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let found = [
        (
            report.check_errors,
            "cluster",
            " whose refcount cannot be read",
        ),
        (report.corruptions, "error", ""),
        (report.leaks, "leaked cluster", ""),
    ];
    let found = found.iter().filter(|(count, ..)| *count > 0);
    let found: Vec<String> = found
        .map(|(count, noun, which)| format!("{}{which}", of(*count, noun)))
        .collect();
    let found = found.join(", ");
    field(
        f,
        "check",
        if found.is_empty() {
            "no errors"
        } else {
            &found
        },
    )?;
    let (allocated, total) = (report.allocated_clusters, report.total_clusters);
    let (fragmented, compressed) = (report.fragmented_clusters, report.compressed_clusters);
    let clusters = format!(
        "{allocated} of {total} allocated, {fragmented} fragmented, {compressed} compressed"
    );
    field(f, "clusters", &clusters)?;
    field(f, "image end offset", &report.image_end_offset.to_string())
}

/// A label and a value.
fn field(f: &mut fmt::Formatter<'_>, label: &str, value: &str) -> fmt::Result {
    wrapped(f, &format!("{label:LABEL$}"), LABEL, value)
}

/// Words in lines that are as long as they may be, all but the first indented.
fn wrapped(f: &mut fmt::Formatter<'_>, start: &str, indent: usize, text: &str) -> fmt::Result {
    let mut line = start.to_owned();
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            writeln!(f, "{line}")?;
            (line, is_empty) = (" ".repeat(indent), true);
        }
        line += if is_empty { "" } else { " " };
        line += word;
        is_empty = false;
    }
    writeln!(f, "{line}")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => of(bytes, "byte"),
        _ => format!("{bytes} bytes ({})", BinaryBytes(bytes)),
    }
}

/// In UTC.
pub fn date(seconds: u32) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds.into());
    humantime::format_rfc3339_seconds(time).to_string()
}
