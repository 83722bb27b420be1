//! The map for programs. It is written run by run: there may be millions.

use std::io::{self, Write};

use recount::map::{Stretch, Use, Wrong};
use serde_json::json;

use super::mark::{Mark, PROBLEMS, USES};
use super::picture::Picture;

/// Writes an object with the map of an image under `now`, and under `after` what a repair makes of it:
/// null where none is asked for, or none would be made.
pub fn write(
    out: &mut impl Write,
    filename: &str,
    now: &Picture,
    after: Option<&Picture>,
) -> io::Result<()> {
    writeln!(out, "{{")?;
    writeln!(out, "    \"version\": 1,")?;
    writeln!(out, "    \"filename\": {},", json!(filename))?;
    writeln!(out, "    \"format\": \"qcow2\",")?;
    write!(out, "    \"now\": ")?;
    one(out, now)?;
    write!(out, ",\n    \"after\": ")?;
    match after {
        Some(after) => one(out, after)?,
        None => write!(out, "null")?,
    }
    writeln!(out, "\n}}")
}

fn one(out: &mut impl Write, picture: &Picture) -> io::Result<()> {
    let counts = |marks: &[Mark]| {
        let counts = marks.iter().map(|mark| (name(*mark), picture.count(*mark)));
        let seen = counts.filter(|(_, count)| *count > 0);
        let fields: Vec<_> = seen
            .map(|(name, count)| format!("\"{name}\": {count}"))
            .collect();
        format!("{{{}}}", fields.join(", "))
    };
    writeln!(out, "{{")?;
    writeln!(out, "        \"cluster-size\": {},", picture.cluster_size())?;
    writeln!(out, "        \"clusters\": {},", picture.map.clusters().0)?;
    writeln!(out, "        \"uses\": {},", counts(&USES))?;
    writeln!(out, "        \"wrong\": {},", counts(&PROBLEMS))?;
    write!(out, "        \"runs\": [")?;
    let mut separator = "";
    let mut run = |first: u64, count: u64, holds: &str, wrong: Option<Wrong>| {
        write!(out, "{separator}\n            ")?;
        write!(
            out,
            "{{\"first\": {first}, \"count\": {count}, \"use\": \"{holds}\""
        )?;
        if let Some(wrong) = wrong {
            write!(out, ", \"wrong\": \"{}\"", <&str>::from(wrong))?;
        }
        write!(out, "}}")?;
        separator = ",";
        Ok::<_, io::Error>(())
    };
    picture.map.for_each(
        |Stretch {
             run: clusters,
             holds,
             wrong,
         }| { run(clusters.first.0, clusters.count.0, holds.into(), wrong) },
    )?;
    for clusters in picture.past_end.runs() {
        run(
            clusters.first.0,
            clusters.count.0,
            name(Mark::PastEnd),
            None,
        )?;
    }
    write!(out, "\n        ]\n    }}")
}

/// The word for programs.
fn name(mark: Mark) -> &'static str {
    match mark {
        Mark::Use(holds) => holds.into(),
        Mark::Leaked => Use::Leaked.into(),
        Mark::PastEnd => "past-end",
        Mark::Wrong(wrong) => wrong.into(),
    }
}
