//! The guest's data is what qemu reads: each cluster of real images against `qemu-img convert`,
//! where qemu is installed, and a hand-made image everywhere.

use std::path::{Path, PathBuf};

use recount_needs::needs;
use recount_oracle::case::observed::Ended;
use recount_oracle::case::real::{Kind, Step};

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::guest::{Content, GuestData};

use super::cases::CaseId;
use super::subject::Maker;
use super::subject::program::{self, Limits};

/// An image of 512-byte clusters: header, L1 table, L2 table, data, data.
fn image(l2: &[u64]) -> SparseBytes {
    let mut image = SparseBytes::zeros(5 * 512);
    let fields = [
        (0, 0x5146_49fb_u32),
        (4, 3),
        (20, 9),
        (36, 1),
        (96, 4),
        (100, 104),
    ];
    for (at, field) in fields {
        image.write_at(at, &field.to_be_bytes()).unwrap();
    }
    let entries = l2.iter().zip((2 * 512_u64..).step_by(8));
    let pointers = [(24, 8 * 512), (40, 512), (512, 2 * 512)];
    let entries = entries.map(|(entry, at)| (at, *entry));
    for (at, field) in pointers.into_iter().chain(entries) {
        image.write_at(at, &field.to_be_bytes()).unwrap();
    }
    image.write_at(3 * 512, &[0x33; 512]).unwrap();
    image.write_at(4 * 512, &[0x44; 512]).unwrap();
    image
}

#[test]
fn each_kind_of_entry_reads_as_specified() {
    // Data, nothing, zeros, unaligned is impossible here, past the end, the L2 table itself.
    let data = GuestData::read(&image(&[3 * 512, 0, 1, 7 * 512, 2 * 512]));
    let stored = Content::stored(&[0x33; 512]);
    let expected = [Some(stored), None, Some(Content::Zeros), None, None];
    let read: Vec<_> = (0..5).map(|cluster| data.active(cluster)).collect();
    assert_eq!(read, expected);
}

#[test]
fn a_changed_a_moved_and_a_missing_cluster_are_told_apart() {
    let before = GuestData::read(&image(&[3 * 512, 4 * 512]));
    let moved = image(&[4 * 512, 4 * 512]);
    let loss = before.first_loss(&GuestData::read(&moved)).unwrap();
    assert!(
        loss.starts_with("guest cluster 0 of the active layer"),
        "{loss}"
    );
    let missing = GuestData::read(&image(&[3 * 512, 0]));
    let loss = before.first_loss(&missing).unwrap();
    assert!(loss.starts_with("guest cluster 1 of"), "{loss}");
    assert!(
        missing.first_loss(&before).is_none(),
        "more than before is no loss"
    );
}

/// The bytes of a layer, as qemu reads them.
fn convert(folder: &Path, layer: Option<&str>) -> Vec<u8> {
    let mut arguments = vec!["convert", "-Oraw", "base.qcow2", "raw"];
    arguments.extend(layer.into_iter().flat_map(|name| ["-l", name]));
    let limits = Limits::for_image(0);
    let said = program::run(Path::new("qemu-img"), arguments, folder, &limits).unwrap();
    assert_eq!(said.ended, Ended::Code(0), "{}", said.stderr);
    std::fs::read(folder.join("raw")).unwrap()
}

#[needs(qemu)]
#[test]
fn stored_clusters_and_zeros_are_those_that_qemu_reads() {
    let folder = tempfile::tempdir().unwrap();
    let maker = Maker::new(PathBuf::from("qemu-img"), PathBuf::from("qemu-io"));
    let id = |group: u64| CaseId {
        seed: 3,
        index: 8 * group,
        synthetic: false,
    };
    let plain = (0..).map(|group| id(group).recipe());
    let mut recipes = plain.filter(|recipe| {
        let small = recipe.virtual_size() <= 16 << 20;
        // Compressed clusters and parts of clusters are compared as stored, which is not as read.
        let mut steps = recipe.steps.iter();
        let compressed = steps.any(|step| matches!(step, Step::Compressed { .. }));
        small && recipe.kind == Kind::Plain && !recipe.extended_l2 && !compressed
    });
    let mut compared = 0;
    for recipe in recipes.by_ref().take(12) {
        let image = maker.make(&recipe, folder.path()).unwrap();
        let raw = convert(folder.path(), None);
        let data = GuestData::read(&image);
        let size = 1 << recipe.cluster_bits;
        for (number, cluster) in raw.chunks(size).enumerate() {
            let mut whole = cluster.to_vec();
            whole.resize(size, 0);
            let zeros = whole.iter().all(|&byte| byte == 0);
            match data.active(number as u64) {
                Some(stored @ Content::Stored(_)) => assert_eq!(stored, Content::stored(&whole)),
                Some(Content::Zeros) | None => assert!(zeros, "cluster {number} of {recipe:?}"),
                other @ Some(Content::External(_)) => {
                    panic!("cluster {number} of {recipe:?} is {other:?}")
                }
            }
            compared += usize::from(!zeros);
        }
    }
    assert!(compared > 20, "only {compared} clusters with data");
}
