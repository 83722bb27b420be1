//! Whether a repair did what the specification says must come of it.

use std::collections::BTreeSet;

use crate::audit::{Audit, Unreadable, audit, audit_beside_the_header};
use crate::case::Algorithm;
use crate::case::damage::SparseBytes;
use crate::case::damage::bytes::PAGE;
use crate::spec::{self, Expected, Layout, Refused, Repaired};
use crate::subject::{Ask, Outcome};

/// What has to come of a repair of these bytes. `after` is what came of it, where it ended well: the
/// places of new structures are read there for the algorithms of QEMU.
pub fn expect(
    image: &SparseBytes,
    ask: &Ask,
    after: Option<&SparseBytes>,
) -> Result<Expected, Unreadable> {
    match audit_beside_the_header(image) {
        Ok(own) => expect_of(&own, image, ask, after),
        Err(Unreadable::NotOpened { .. }) => Ok(Err(Refused::NotOpened)),
        Err(error) => Err(error),
    }
}

/// As [`expect`], of an image that has been audited as a repair sees it.
pub fn expect_of(
    own: &Audit,
    image: &SparseBytes,
    ask: &Ask,
    after: Option<&SparseBytes>,
) -> Result<Expected, Unreadable> {
    let after = after.filter(|_| ask.options.algorithm != Algorithm::Planned);
    let found = after.map(|after| audit(after)).transpose()?;
    spec::expect(own, image, ask, found.as_ref().and_then(layout))
}

/// Where the refcount structures of an image are; `None` where a part of them lies past its end: what
/// was not written, as a header's damaged size says, is no layout.
fn layout(found: &Audit) -> Option<Layout> {
    let (header, size) = (&found.header, found.header.cluster_size());
    let end = found.length.div_ceil(size);
    let first = header.reftable_offset / size;
    let refblocks = found.disk.refblocks();
    let refblocks = refblocks.map(|(range, at)| (range, at / size));
    let layout = Layout {
        reftable: first..first.saturating_add(header.reftable_clusters),
        refblocks: refblocks.collect(),
        snapshots: end.min(header.snapshots_offset / size),
    };
    let inside = layout.clusters(0).all(|cluster| cluster < end);
    inside.then_some(layout)
}

/// What the specification has of a repair that did not break it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specified {
    /// A repair: the image is the one that has to come of it.
    Repaired,
    /// A refusal: nothing was written, for the reason that it gives.
    Refused,
    /// Nothing, and nothing was asked: the image goes past the budget of its audit.
    TooMuchWork,
}

/// The image is what the specification says, byte for byte, or nothing was written and for the
/// reason that it gives.
pub fn as_specified(
    ask: &Ask,
    before: &SparseBytes,
    after: &SparseBytes,
    outcome: &Outcome,
    has_written: bool,
) -> Result<Specified, String> {
    let left = outcome.is_ok().then_some(after);
    let expected = match expect(before, ask, left) {
        Err(Unreadable::TooMuchWork) if audit(before).is_err() => {
            return Ok(Specified::TooMuchWork);
        }
        expected => expected.map_err(|error| format!("what is left cannot be judged: {error}"))?,
    };
    against(ask, &expected, before, after, outcome, has_written)?;
    Ok(match outcome {
        Ok(_) => Specified::Repaired,
        Err(_) => Specified::Refused,
    })
}

/// The same where what has to come of it is known.
pub fn against(
    ask: &Ask,
    expected: &Expected,
    before: &SparseBytes,
    after: &SparseBytes,
    outcome: &Outcome,
    has_written: bool,
) -> Result<(), String> {
    match (outcome, expected) {
        (Ok(_), Ok(repaired)) => {
            let wrote = if has_written { "something" } else { "nothing" };
            let wrote = (has_written != repaired.writes).then(|| format!("it wrote {wrote}"));
            let wrong = difference(repaired, before, after).or(wrote);
            wrong.map_or(Ok(()), |wrong| {
                Err(format!("{wrong}; it should {}", described(expected)))
            })
        }
        (Ok(_), Err(_)) => Err(format!("repaired, it should {}", described(expected))),
        (Err(_), _) if has_written => Err("something was written before it failed".to_owned()),
        (Err(stopped), Err(refused)) if stopped.reason == Some(*refused) => Ok(()),
        // QEMU's algorithms place structures as they do; whether that fits is theirs to say.
        (Err(stopped), _)
            if stopped.by_placement && ask.options.algorithm != Algorithm::Planned =>
        {
            Ok(())
        }
        (Err(stopped), _) => {
            let (reason, should) = (stopped.reason, described(expected));
            let reason = reason.map_or("another reason".to_owned(), |reason| reason.to_string());
            Err(format!("refused as {reason}; it should {should}"))
        }
    }
}

/// The first difference between what had to come of a repair and what did. What is in free clusters
/// is no matter.
fn difference(repaired: &Repaired, before: &SparseBytes, after: &SparseBytes) -> Option<String> {
    let cluster_bits = before.number(20, 4);
    let (expected, found) = (repaired.after.len(), after.len());
    if expected != found {
        return Some(format!(
            "the file has {found} bytes after the repair; it should have {expected}"
        ));
    }
    let pages = repaired.after.pages().chain(after.pages());
    let pages: BTreeSet<u64> = pages.map(|(page, _)| page).collect();
    let pages = pages.into_iter().map(|page| {
        let [expected, found] = [&repaired.after, after].map(|bytes| bytes.bytes(page, PAGE));
        (page, expected, found)
    });
    let differ = pages.filter(|(_, expected, found)| expected != found);
    let mut bytes =
        differ.flat_map(|(at, expected, found)| (at..).zip(expected.into_iter().zip(found)));
    let (offset, (expected, found)) = bytes.find(|&(offset, (expected, found))| {
        expected != found && !repaired.free.contains(&(offset >> cluster_bits))
    })?;
    Some(format!(
        "byte {offset:#x}, in cluster {}, is {found:#04x} after the repair; it should be \
         {expected:#04x} and was {:#04x}",
        offset >> cluster_bits,
        before.bytes(offset, 1)[0]
    ))
}

/// What a repair should do, in a few words.
fn described(expected: &Expected) -> String {
    let repaired = match expected {
        Ok(repaired) => repaired,
        Err(refused) => return format!("be refused, as {refused}"),
    };
    let wrote = if repaired.writes {
        "write"
    } else {
        "write nothing"
    };
    let place = if repaired.rebuilt { "anew" } else { "in place" };
    let damage = repaired.damage.first().map(ToString::to_string);
    let (kept, damage) = (repaired.kept.len(), damage.unwrap_or("none".to_owned()));
    format!("{wrote}, structures {place}, {kept} refcounts kept, damage: {damage}")
}
