//! The specification by itself, on images made by hand: what is lowered, built anew, kept, refused;
//! and that what it expects of a repair is final, over the whole corpus of images.

use recount_oracle::audit::{Bytes, audit, counters};
use recount_oracle::case::Algorithm;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::judge::expect;
use recount_oracle::properties::judge_all;
use recount_oracle::properties::reading::Kind;
use recount_oracle::properties::undo_restores::Points;
use recount_oracle::run::{Before, run};
use recount_oracle::spec::{Damage, Refused, Repaired};
use recount_oracle::subject::{Ask, Options};
use recount_subjects::ImageRepair;

const CLUSTER: u64 = 512;
const ENTRIES: u64 = CLUSTER / 8;
const ASK: Ask = Ask {
    options: Options {
        algorithm: Algorithm::Planned,
        only_leaks: false,
        reuse_old: false,
        release_unreachable: false,
    },
    capacity: None,
};

/// 512-byte clusters: header 0, reftable 1, refblock 2, L1 table 3, L2 tables 4 and 5, 64 clusters
/// of data each from 6 on.
struct Image {
    bytes: SparseBytes,
}

impl Image {
    fn whole() -> Self {
        let mut image = Self {
            bytes: SparseBytes::default(),
        };
        let clusters = 6 + 2 * ENTRIES;
        image.bytes.set_len(clusters * CLUSTER);
        image.put(0, b"QFI\xfb\0\0\0\x03");
        image.put(20, &9_u32.to_be_bytes());
        image.put(24, &(2 * ENTRIES * CLUSTER).to_be_bytes());
        image.put(36, &2_u32.to_be_bytes());
        image.put(40, &(3 * CLUSTER).to_be_bytes());
        image.put(48, &CLUSTER.to_be_bytes());
        image.put(56, &1_u32.to_be_bytes());
        image.put(96, &4_u32.to_be_bytes());
        image.put(100, &104_u32.to_be_bytes());
        image.put(CLUSTER, &(2 * CLUSTER).to_be_bytes());
        for cluster in 0..clusters {
            image.count(cluster, 1);
        }
        for table in 0..2 {
            image.entry(3 * CLUSTER + 8 * table, 4 + table);
            for entry in 0..ENTRIES {
                let at = (4 + table) * CLUSTER + 8 * entry;
                image.entry(at, 6 + table * ENTRIES + entry);
            }
        }
        image
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes.write_at(offset, bytes).expect("memory");
    }

    /// An entry with COPIED that leads to a cluster.
    fn entry(&mut self, at: u64, cluster: u64) {
        self.put(at, &((1 << 63) | (cluster * CLUSTER)).to_be_bytes());
    }

    fn count(&mut self, cluster: u64, refcount: u16) {
        self.put(2 * CLUSTER + 2 * cluster, &refcount.to_be_bytes());
    }

    fn repaired(&self, ask: &Ask) -> Repaired {
        let expected = expect(&self.bytes, ask, None).expect("little work");
        *expected.expect("a repair")
    }

    /// The clusters that change.
    fn changed(&self, repaired: &Repaired) -> Vec<u64> {
        let bytes = |image: &SparseBytes, cluster| image.bytes(cluster * CLUSTER, CLUSTER as usize);
        let clusters = 0..repaired.after.len() / CLUSTER;
        let differs =
            |&cluster: &u64| bytes(&self.bytes, cluster) != bytes(&repaired.after, cluster);
        clusters.filter(differs).collect()
    }

    fn is_repaired_so_by_the_engine(&self) {
        let before = Before::new(self.bytes.clone(), None, Kind::Image).expect("an image");
        let repair = ImageRepair::by(Algorithm::Planned);
        let verdicts = judge_all(
            &before,
            &run(&repair, &before, &[]),
            &repair,
            Points::Spread(1),
        );
        let failed = verdicts.iter().find(|(_, verdict)| verdict.is_failure());
        assert!(failed.is_none(), "{failed:?}");
    }

    fn refused(&self, ask: &Ask) -> Option<Refused> {
        let expected = expect(&self.bytes, ask, None).expect("little work");
        expected.err()
    }
}

fn is_clean(bytes: &dyn Bytes) -> bool {
    counters(&audit(bytes).expect("an image")).exit_code() == 0
}

#[test]
fn nothing_is_expected_of_a_whole_image() {
    let image = Image::whole();
    let repaired = image.repaired(&ASK);
    assert!(!repaired.writes && repaired.damage.is_empty());
    assert!(is_clean(&image.bytes));
}

#[test]
fn a_leak_is_lowered_in_place_and_a_count_of_zero_builds_anew() {
    let mut image = Image::whole();
    image.count(20, 3);
    let repaired = image.repaired(&ASK);
    assert!(!repaired.rebuilt && image.changed(&repaired) == [2]);
    assert!(is_clean(&repaired.after));
    image.count(20, 0);
    let repaired = image.repaired(&ASK);
    assert!(repaired.rebuilt);
    assert!(is_clean(&repaired.after));
    let mut leaks = ASK;
    leaks.options.only_leaks = true;
    assert_eq!(image.refused(&leaks), Some(Refused::NeedsRebuild));
}

#[test]
fn what_a_zeroed_l1_table_led_to_is_kept_until_it_is_given_up() {
    let mut image = Image::whole();
    image.put(3 * CLUSTER, &[0; 16]);
    let repaired = image.repaired(&ASK);
    assert!(!repaired.writes);
    assert_eq!(repaired.kept.len() as u64, 2 + 2 * ENTRIES);
    let mut ask = ASK;
    ask.options.release_unreachable = true;
    let repaired = image.repaired(&ask);
    assert!(repaired.kept.is_empty() && is_clean(&repaired.after));
}

#[test]
fn a_reftable_that_a_disturbed_repair_left_is_a_leak_unless_its_refblock_says_otherwise() {
    // The second L2 table and its data leak, and hold a new reftable and its refblock.
    let mut image = Image::whole();
    image.put(3 * CLUSTER + 8, &[0; 8]);
    image.put(5 * CLUSTER, &[0; CLUSTER as usize]);
    let (reftable, refblock) = (80, 81);
    image.put(reftable * CLUSTER, &(refblock * CLUSTER).to_be_bytes());
    let in_use = [0, 3, 4, reftable, refblock].into_iter();
    for cluster in in_use.chain(6..6 + ENTRIES) {
        image.put(refblock * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
    }
    image.is_repaired_so_by_the_engine();
    let repaired = image.repaired(&ASK);
    assert!(repaired.damage.is_empty() && repaired.kept.is_empty());
    assert!(is_clean(&repaired.after));
    for (cluster, refcount) in [(6, 0_u16), (7, 2), (90, 2), (reftable, 0), (refblock, 0)] {
        let mut image = Image {
            bytes: image.bytes.clone(),
        };
        let at = refblock * CLUSTER + 2 * cluster;
        image.put(at, &refcount.to_be_bytes());
        image.is_repaired_so_by_the_engine();
        let repaired = image.repaired(&ASK);
        assert_eq!(
            repaired.damage,
            [Damage::At("lost table", reftable)],
            "{cluster}"
        );
        assert_eq!(repaired.kept.len() as u64, 1 + ENTRIES, "{cluster}");
    }
}

#[test]
fn an_emptied_l2_table_and_two_entries_to_one_cluster_keep_what_leaked() {
    let mut emptied = Image::whole();
    emptied.put(4 * CLUSTER, &[0; CLUSTER as usize]);
    assert_eq!(emptied.repaired(&ASK).kept.len() as u64, ENTRIES);
    let mut doubled = Image::whole();
    doubled.entry(4 * CLUSTER, 7);
    let repaired = doubled.repaired(&ASK);
    assert_eq!(repaired.kept.keys().collect::<Vec<_>>(), [&6]);
    assert_eq!(repaired.counts.get(&7), Some(&2));
}

#[test]
fn a_file_does_not_grow_over_what_is_missing_of_it() {
    let mut image = Image::whole();
    // Without the last eight clusters, and without refcounts, so that there must be new structures.
    let clusters = 6 + 2 * ENTRIES;
    image.bytes.set_len((clusters - 8) * CLUSTER);
    image.put(CLUSTER, &[0; 8]);
    assert_eq!(image.refused(&ASK), Some(Refused::GrowthWouldHide));
    // As long as the entries say, it can be repaired, and the missing part reads as zeros.
    image.bytes.set_len(clusters * CLUSTER);
    let repaired = image.repaired(&ASK);
    assert!(is_clean(&repaired.after));
}

#[test]
fn where_nothing_tells_what_is_free_damage_keeps_all_clusters() {
    let mut image = Image::whole();
    let end = image.bytes.len() / CLUSTER;
    // Without refcounts; the first cluster of data is referred to no more, by a flipped bit.
    image.put(CLUSTER, &[0; 8]);
    image.entry(4 * CLUSTER, end);
    assert_eq!(image.refused(&ASK), Some(Refused::GrowthWouldHide));
    let mut release = ASK;
    release.options.release_unreachable = true;
    let layout = image.repaired(&release).counts;
    assert_eq!(layout.get(&6), Some(&1), "the cluster is taken");
    // Farther away the entry leaves room after the end of the file.
    image.entry(4 * CLUSTER, end + 8);
    let repaired = image.repaired(&ASK);
    assert_eq!(repaired.counts.get(&6), None);
    assert!(repaired.after.len() > image.bytes.len());
    // What lies behind all that is in use a disturbed repair may have appended.
    image.bytes.set_len((end + 4) * CLUSTER);
    image.entry(4 * CLUSTER, end + 4);
    let repaired = image.repaired(&ASK);
    assert_eq!(repaired.counts.get(&6), None);
    assert_eq!(repaired.counts.get(&end), Some(&1));
    assert_eq!(repaired.after.len(), image.bytes.len());
}

#[test]
fn unknown_autoclear_bits_are_cleared_only_where_something_is_written() {
    let mut image = Image::whole();
    image.put(88, &0x8000_u64.to_be_bytes());
    assert!(!image.repaired(&ASK).writes);
    image.count(20, 3);
    let repaired = image.repaired(&ASK);
    assert_eq!(repaired.after.bytes(88, 8), [0; 8]);
}

#[test]
fn what_is_expected_of_the_images_of_the_corpus_is_final() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/image");
    let (mut judged, mut changed) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        let mut image = Image {
            bytes: SparseBytes::default(),
        };
        image.put(0, &bytes);
        let Ok(Ok(repaired)) = expect(&image.bytes, &ASK, None) else {
            continue;
        };
        judged += 1;
        changed += u64::from(repaired.writes);
        match expect(&repaired.after, &ASK, None) {
            Ok(Ok(again)) => {
                assert!(!again.writes, "more to repair");
                assert_eq!(again.kept, repaired.kept);
                assert_eq!(again.damage.is_empty(), repaired.damage.is_empty());
            }
            other => panic!("after the repair: {other:?}"),
        }
    }
    assert!(
        judged > 40 && changed > 20,
        "{judged} judged, {changed} changed"
    );
}
