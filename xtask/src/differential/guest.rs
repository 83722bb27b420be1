//! The guest's data is what qemu reads: each cluster of real images against `qemu-img convert`.

use std::path::{Path, PathBuf};

use recount_needs::needs;
use recount_oracle::case::observed::Ended;
use recount_oracle::case::real::{Kind, Step};

use recount_oracle::guest::{Content, GuestData};

use super::cases::CaseId;
use super::subject::Maker;
use super::subject::program::{self, Limits};

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
