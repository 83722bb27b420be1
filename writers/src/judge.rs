//! What an image must be at any time: the audit's findings by kind.

use recount_oracle::audit::{self, Audit, Mismatch, Referrer, Unreadable};
use recount_oracle::case::damage::SparseBytes;

use crate::model::{Model, Moment};
use crate::sectors::{self, Beside, View};

/// Incompatible feature bit 0: the refcounts may be wrong (specification, "Header").
const DIRTY: u64 = 1;

/// A kind of failure. Only the first kind that an image has is told: the later ones follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, strum::Display)]
#[strum(serialize_all = "kebab-case")]
pub enum Kind {
    /// An operation of the writer failed or panicked.
    OperationFails,
    /// An encrypted image was opened for writing whose key nobody has: what is written to it is not
    /// encrypted.
    OpensWithoutKey,
    /// The image cannot be read, or an entry of a table makes no sense.
    Unreadable,
    /// One cluster is used in two ways: by two entries of one layer, by entries of two layers for
    /// different guest clusters, or for data and a structure.
    AllocatedTwice,
    /// A cluster has fewer references counted than there are: it will be overwritten while in use.
    RefcountTooLow,
    /// An entry says that its cluster is used once, and it is used more often; after a close also the
    /// other way round (specification, "L1 table entry", bit 63).
    CopiedWrong,
    /// After a flush the guest reads something else than it has written; after a close it does not read
    /// what is in a raw external data file (specification, "Autoclear feature bits").
    ReadsWrong,
    /// After a power cut, or after the disk has failed, the guest reads something else than what it has
    /// flushed, where it has written nothing since.
    LostAfterFlush,
    /// After a power cut the guest reads neither what it has flushed nor what it has written since, but
    /// what was in a cluster before it was taken. Not a failure where
    /// [`Settings::stale_is_allowed`](crate::Settings::stale_is_allowed) says so.
    StaleAfterPowerCut,
    /// Clusters that nothing uses are counted after a close. A failure only where
    /// [`Settings::leaks_fail`](crate::Settings::leaks_fail) says so.
    LeaksAfterClose,
}

/// What is wrong, and how.
pub(crate) type Wrong = (Kind, String);

/// When an image is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The writer has flushed it, and has it open.
    Open,
    /// The writer has closed it.
    Closed,
    /// The writer has ended without having closed it, or could not close it as the disk failed.
    Ended,
    /// A power cut happened at this moment.
    PowerCut(Moment),
}

/// Judges an image: its audit and what the guest reads, if all is well.
pub(crate) fn image(
    bytes: &SparseBytes,
    beside: &Beside,
    model: &Model,
    when: When,
) -> Result<(Audit, View), Wrong> {
    let audit = audit::audit(bytes);
    let audit = audit.map_err(|why: Unreadable| (Kind::Unreadable, why.to_string()))?;
    if let Some(wrong) = structures(&audit, when) {
        return Err(wrong);
    }
    let view = sectors::read(bytes, &audit, beside).map_err(|why| (Kind::Unreadable, why))?;
    let (kind, moment) = match when {
        When::Open | When::Closed => (Kind::ReadsWrong, Moment::Flushed),
        When::Ended => (Kind::LostAfterFlush, Moment::Cut),
        When::PowerCut(moment) => (Kind::LostAfterFlush, moment),
    };
    if let Some(message) = model.wrong(&view, moment) {
        return Err((kind, message));
    }
    if moment == Moment::Cut
        && let Some(message) = model.stale(&view)
    {
        let kind = match when {
            When::Ended => Kind::ReadsWrong,
            _ => Kind::StaleAfterPowerCut,
        };
        return Err((kind, message));
    }
    if when == When::Closed
        && let Some(message) = sectors::differs(&audit, beside, &view)
    {
        return Err((Kind::ReadsWrong, message));
    }
    Ok((audit, view))
}

/// Clusters that are counted too high.
pub(crate) fn leaks(audit: &Audit) -> usize {
    let leaks = audit.mismatches.iter().filter(|wrong| wrong.is_leak());
    leaks.count()
}

fn structures(audit: &Audit, when: When) -> Option<Wrong> {
    let tell = |kind, message: Option<String>| message.map(|message| (kind, message));
    // Lazy refcounts are right again only after a close.
    let counted = when == When::Closed || audit.header.incompatible & DIRTY == 0;
    // A snapshot that counts too little has its clusters taken by others later on.
    let shared = |wrong: &Mismatch| {
        audit.references_to(wrong.cluster) > 1 && conflict(audit, wrong.cluster).is_none()
    };
    tell(
        Kind::RefcountTooLow,
        too_low(audit, shared).filter(|_| counted),
    )
    .or_else(|| tell(Kind::AllocatedTwice, allocated_twice(audit)))
    .or_else(|| {
        let low = too_low(audit, |_| true);
        tell(Kind::RefcountTooLow, low.filter(|_| counted))
    })
    .or_else(|| {
        tell(
            Kind::Unreadable,
            audit.corruptions.first().map(ToString::to_string),
        )
    })
    .or_else(|| tell(Kind::CopiedWrong, copied(audit, when)))
}

fn allocated_twice(audit: &Audit) -> Option<String> {
    let mut clusters = audit.references.keys();
    clusters.find_map(|&cluster| {
        let (first, other) = conflict(audit, cluster)?;
        let (first, other) = (place(audit, first), place(audit, other));
        Some(format!(
            "cluster {cluster} is used by {first} and by {other}"
        ))
    })
}

/// Two references to a cluster that cannot both be to it.
fn conflict(audit: &Audit, cluster: u64) -> Option<(&Referrer, &Referrer)> {
    let (first, rest) = audit.references.get(&cluster)?.split_first()?;
    let other = rest.iter().find(|other| !may_share(first, other))?;
    Some((first, other))
}

/// Whether two references can be to one cluster: a snapshot shares a cluster with another layer at
/// the same place of both, and compressed data may lie side by side.
fn may_share(first: &Referrer, other: &Referrer) -> bool {
    let of = |referrer: &Referrer| match *referrer {
        Referrer::L2 { l1_index, .. } => Some((l1_index, None)),
        Referrer::Data {
            l1_index, l2_index, ..
        } => Some((l1_index, Some(l2_index))),
        _ => None,
    };
    let compressed = |referrer| matches!(referrer, &Referrer::Compressed { .. });
    let same_place = of(first).is_some() && of(first) == of(other);
    same_place && first.layer() != other.layer() || compressed(first) && compressed(other)
}

fn too_low(audit: &Audit, which: impl Fn(&Mismatch) -> bool) -> Option<String> {
    let mut wrong = audit.mismatches.iter().filter(|wrong| !wrong.is_leak());
    wrong.find(|wrong| which(wrong)).map(|wrong| {
        let by = audit.uses(wrong.cluster).map(|by| place(audit, by));
        let by: Vec<String> = by.collect();
        let (cluster, by) = (wrong.cluster, by.join(" and by "));
        format!(
            "cluster {cluster} has refcount {} and is used by {by}",
            wrong.on_disk
        )
    })
}

fn copied(audit: &Audit, when: When) -> Option<String> {
    let mut bits = audit.copied_bits.iter();
    let shared = bits.find(|bit| bit.copied && audit.references_to(bit.cluster) > 1);
    let shared = shared.map(|bit| {
        let (by, cluster) = (place(audit, &bit.referrer), bit.cluster);
        let uses = audit.references_to(cluster);
        format!("{by} says that cluster {cluster} is used once; it is used {uses} times")
    });
    let inexact = audit.qemu.copied.first().filter(|_| when == When::Closed);
    shared.or_else(|| inexact.map(ToString::to_string))
}

/// A reference in words, with the guest offset that it is for.
fn place(audit: &Audit, referrer: &Referrer) -> String {
    let header = &audit.header;
    let (l1_index, l2_index) = match *referrer {
        Referrer::L2 { l1_index, .. } => (l1_index, 0),
        Referrer::Data {
            l1_index, l2_index, ..
        }
        | Referrer::Compressed {
            l1_index, l2_index, ..
        } => (l1_index, l2_index),
        _ => return referrer.to_string(),
    };
    let cluster = l1_index.saturating_mul(header.l2_entries()) + l2_index;
    let offset = cluster.saturating_mul(header.cluster_size());
    format!("{referrer} (guest offset {offset:#x})")
}
