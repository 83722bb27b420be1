//! What a map says of each cluster of a damaged image is what the independent audit knows of its uses.

use std::collections::BTreeSet;
use std::convert::Infallible;

use recount::Map;
use recount::map::{Stretch, Use, Wrong};
use recount_oracle::audit::{Audit, LayerId, Referrer, audit};
use recount_oracle::case::Case;
use recount_oracle::case::build::build;
use recount_oracle::disk::SimulatedDisk;
use recount_proptests::judge::fails;
use recount_proptests::{Asked, check, damaged};
use recount_subjects::engine::Lent;

const REGRESSIONS: Option<&str> = Some("proptest-regressions/maps.txt");

/// What a use is shown as; where there are several, the last.
fn rank(referrer: &Referrer) -> u8 {
    match referrer {
        Referrer::Data { .. } => 0,
        Referrer::Compressed { .. } => 1,
        Referrer::BitmapDirectory | Referrer::BitmapTable { .. } | Referrer::BitmapData { .. } => 2,
        Referrer::LuksHeader => 3,
        Referrer::SnapshotTable => 4,
        Referrer::L2 { .. } => 5,
        Referrer::L1 { .. } => 6,
        Referrer::Refblock { .. } => 7,
        Referrer::Reftable => 8,
        Referrer::Header => 9,
    }
}

const SHOWN: [Use; 10] = [
    Use::Data,
    Use::Compressed,
    Use::Bitmap,
    Use::LuksHeader,
    Use::SnapshotTable,
    Use::L2Table,
    Use::L1Table,
    Use::Refblock,
    Use::Reftable,
    Use::Header,
];

/// Whether a cluster is used as two things, or twice by a layer that `counts`.
fn is_overlap(uses: &[&Referrer], counts: impl Fn(LayerId) -> bool) -> bool {
    // All that no two uses can share is one kind, and so are the refcount structures.
    let kind = |one: &&Referrer| match rank(one) {
        2..=4 | 9 => 2,
        7 | 8 => 7,
        rank => rank,
    };
    let kinds: BTreeSet<u8> = uses.iter().map(kind).collect();
    let is_alone = kinds.iter().any(|kind| matches!(kind, 2 | 7));
    let by_layer = uses.iter().filter_map(|one| match one {
        Referrer::Data { layer, .. } | Referrer::L2 { layer, .. } => Some(*layer),
        _ => None,
    });
    let mut layers = BTreeSet::new();
    let mut by_layer = by_layer.filter(|layer| counts(*layer));
    kinds.len() > 1 || is_alone && uses.len() > 1 || by_layer.any(|layer| !layers.insert(layer))
}

fn disagreement(audit: &Audit, cluster: u64, stretch: &Stretch) -> Option<String> {
    let uses: Vec<&Referrer> = audit.uses(cluster).collect();
    let on_disk = audit.disk.count(cluster);
    let holds = match uses.iter().map(|one| rank(one)).max() {
        Some(rank) => SHOWN[usize::from(rank)],
        None if on_disk.is_none_or(|count| count == 0) => Use::Free,
        None => Use::Leaked,
    };
    let (references, max) = (uses.len() as u64, audit.header.max_refcount());
    let wrong = match on_disk {
        None => Some(Wrong::Unreadable),
        Some(count) if count < references.min(max) || references > max => Some(Wrong::TooLow),
        Some(count) if count > references && references > 0 => Some(Wrong::TooHigh),
        Some(_) => None,
    };
    // Of two snapshots' tables that lead to one cluster nothing is known.
    let is_wrong_if = |is_overlap| {
        if is_overlap {
            Some(Wrong::Overlap)
        } else {
            wrong
        }
    };
    let least = is_wrong_if(is_overlap(&uses, |layer| layer == LayerId::Active));
    let most = is_wrong_if(is_overlap(&uses, |_| true));
    let agrees = stretch.holds == holds && (stretch.wrong == least || stretch.wrong == most);
    (!agrees).then(|| format!("cluster {cluster}: {stretch:?}, not {holds:?}, {most:?}: {uses:?}"))
}

#[test]
fn a_map_says_what_the_audit_knows() {
    check(
        "a_map_says_what_the_audit_knows",
        REGRESSIONS,
        600,
        damaged(),
        |case: &Case| {
            let built = build(case).expect("strategies give possible cases");
            let disk = SimulatedDisk::new(built.bytes.clone(), built.capacity);
            let (Ok(audit), Ok(map)) =
                (audit(&built.bytes), Map::take(&Lent::Shown(&disk), &mut ()))
            else {
                return Ok(Asked::Nothing);
            };
            // A check reads the header as a table there, and a map does not.
            if audit.header_is_table {
                return Ok(Asked::Nothing);
            }
            let (mut next, mut wrong) = (0, None);
            let Ok(()) = map.for_each(|stretch| {
                assert_eq!(stretch.run.first.0, next, "no gaps");
                next = stretch.run.end().0;
                let mut clusters = stretch.run.iter().take(10_000);
                wrong = wrong.take().or_else(|| {
                    clusters.find_map(|cluster| disagreement(&audit, cluster.0, &stretch))
                });
                Ok::<_, Infallible>(())
            });
            assert_eq!(next, map.clusters().0, "up to the end");
            wrong.map_or(Ok(Asked::Judged), |wrong| Err(fails(wrong)))
        },
    );
}
