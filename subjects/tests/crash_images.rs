//! Whole images, repaired from end to end on disks that fail and lose power: what the engine
//! promises holds, and what it would do wrong is seen.

mod common;

use std::ops::ControlFlow;
use std::process::Command;

use recount_needs::needs;
use recount_oracle::case::damage::{Damage, PointerDamage, SnapshotDamage, SparseBytes};
use recount_oracle::case::generate;
use recount_oracle::case::synthetic::{Content, Run, Sharing, Snapshots, Structures, Synthetic};
use recount_oracle::case::{Algorithm, Case, Image, Pick, Schedule, StorageLimit};
use recount_oracle::crash::{self, Limits};
use recount_oracle::disk::{Disk, log};
use recount_oracle::properties::{Property, Verdict, crash_atomic, judge, reading};
use recount_oracle::run::{Before, Bounds, Explored, explore_one, run};
use recount_oracle::subject::{Outcome, Repair, Stopped, Undo, Write};
use recount_subjects::{ImageRepair, Recount};

use common::fails_with;

/// Little enough that some dozens of images take seconds.
const BOUNDS: Bounds = Bounds {
    crashes: Limits {
        exhaustive_bits: 5,
        samples: 8,
        seed: 1,
    },
    faults_of_a_kind: 4,
    pairs: 4,
};
/// References and refcounts of an image that is looked at here; an audit takes time for each.
const COUNTS_MAX: usize = 3000;
/// Seeds that are looked at.
const SEEDS: u64 = 80;

fn damaged(structures: Structures, damage: Vec<Damage>) -> Case {
    let content = Content::Data;
    let image = Synthetic {
        cluster_bits: 9,
        structures,
        guest: vec![Run {
            skip: 0,
            clusters: 80,
            content,
        }],
        snapshots: vec![Snapshots {
            count: 1,
            sharing: Sharing::Tables,
        }],
        free_tail: 12,
        ..Synthetic::default()
    };
    Case {
        image: Image::Synthetic(image),
        damage,
        storage: StorageLimit::Growing,
        algorithm: Algorithm::Planned,
        schedule: Schedule::Quiet,
    }
}

/// An L1 entry that leads far past the end of the file.
fn dangling() -> Case {
    let damage = Damage::L1Entry {
        table: Pick(0),
        entry: Pick(0),
        becomes: PointerDamage::PastEnd { clusters: 1000 },
    };
    damaged(Structures::default(), vec![damage])
}

fn explored(case: &Case) -> Explored {
    let (before, repair) = ImageRepair::new(case).expect("an image");
    explore_one(&repair, &before, &BOUNDS)
}

#[test]
fn planned_repairs_images_whatever_fails_and_whenever_the_power_goes() {
    let (mut images, mut rebuilt, mut states) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut case = generate(seed);
        case.algorithm = Algorithm::Planned;
        let Ok((before, repair)) = ImageRepair::new(&case) else {
            continue;
        };
        if before.reading.references.len() + before.reading.counts().len() > COUNTS_MAX {
            continue;
        }
        let explored = explore_one(&repair, &before, &BOUNDS);
        for (property, verdict) in &explored.verdicts {
            assert!(
                !verdict.is_failure(),
                "seed {seed}: {property}: {verdict:?}"
            );
        }
        images += 1;
        states += explored.states;
        rebuilt += u64::from(explored.verdict(Property::NoOverlap) == Verdict::Holds);
    }
    assert!(
        images > 60 && rebuilt > 20 && states > 3000,
        "{images} {rebuilt} {states}"
    );
}

#[test]
fn all_properties_hold_where_structures_are_absent() {
    let explored = explored(&damaged(Structures::Absent, Vec::new()));
    for (property, verdict) in &explored.verdicts {
        let of_damage = [Property::KeepsWhatItCannotFollow, Property::EvidenceStays];
        let expected = if of_damage.contains(property) {
            Verdict::NotApplicable
        } else {
            Verdict::Holds
        };
        assert_eq!(*verdict, expected, "{property}");
    }
}

#[test]
fn the_places_of_qemus_algorithms_come_into_use_as_safely_as_our_own() {
    for algorithm in [Algorithm::FirstFit, Algorithm::Tail] {
        let mut case = damaged(Structures::Absent, Vec::new());
        case.algorithm = algorithm;
        let explored = explored(&case);
        for property in [
            Property::CrashAtomic,
            Property::FaultSafe,
            Property::CleanAfterwards,
            Property::LeavesDataAlone,
        ] {
            assert_eq!(explored.verdict(property), Verdict::Holds, "{property}");
        }
    }
}

#[test]
fn the_old_snapshot_table_is_whole_until_the_header_leads_to_the_new_one() {
    // Too little extra data: the table is written anew. More snapshots than there are, beyond the
    // table's cluster: it is shortened.
    let damage = [SnapshotDamage::ExtraData(0), SnapshotDamage::Count(20)];
    let mut looked_at = 0;
    for algorithm in [Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail] {
        for becomes in damage {
            let snapshot = Pick(0);
            let damage = vec![Damage::Snapshot { snapshot, becomes }];
            let mut case = damaged(Structures::Absent, damage);
            case.algorithm = algorithm;
            let (before, mut repair) = ImageRepair::new(&case).expect("an image");
            repair.options.release_unreachable = true;
            let quiet = run(&repair, &before, &[]);
            // Number and offset in the header, and as many entries as the number says.
            let table = |bytes: &SparseBytes| {
                let header = bytes.bytes(60, 12);
                let clusters = if header[3] == 20 { 2 } else { 1 };
                let offset = u64::from_be_bytes(bytes.bytes(64, 8).try_into().expect("8 bytes"));
                (header, bytes.bytes(offset, clusters * 512))
            };
            let (old, new) = (table(&before.bytes), table(&quiet.after));
            assert_ne!(old.0, new.0, "{algorithm:?} {becomes:?}");
            let crashes = &BOUNDS.crashes;
            let (states, torn) = crash::each(&before.bytes, &quiet.trace, crashes, |state| {
                if [&old, &new].contains(&&table(state.bytes)) {
                    return ControlFlow::Continue(());
                }
                ControlFlow::Break(state.to_string())
            });
            assert_eq!(torn, None, "{algorithm:?} {becomes:?}");
            looked_at += states;
        }
    }
    assert!(looked_at > 40, "{looked_at}");
}

#[test]
fn what_is_kept_while_an_entry_leads_nowhere_is_lost_when_it_is_released() {
    let case = dangling();
    let kept = explored(&case);
    assert_eq!(
        kept.verdict(Property::KeepsWhatItCannotFollow),
        Verdict::Holds
    );
    assert_eq!(kept.verdict(Property::Idempotent), Verdict::Holds);
    let (before, mut repair) = ImageRepair::new(&case).expect("an image");
    repair.options.release_unreachable = true;
    let released = explore_one(&repair, &before, &BOUNDS);
    for property in [Property::KeepsWhatItCannotFollow, Property::EvidenceStays] {
        assert_eq!(released.verdict(property), Verdict::NotApplicable);
    }
    for property in [Property::AsSpecified, Property::NoLeaks] {
        assert_eq!(released.verdict(property), Verdict::Holds);
    }
    // Whoever releases without being asked to is seen.
    let run = run(&Unasked(repair), &before, &[]);
    let verdict = judge(Property::KeepsWhatItCannotFollow, &before, &run);
    fails_with(verdict, "although the image is damaged");
}

/// Releases what cannot be reached without saying that it was asked to.
struct Unasked(ImageRepair);

impl Repair for Unasked {
    fn undo(&self) -> Option<&dyn Undo> {
        Some(&Recount)
    }

    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        self.0.repair(disk)
    }
}

/// Repairs well, and then writes some bytes somewhere.
struct AndThen(ImageRepair, u64, Vec<u8>);

impl Repair for AndThen {
    fn repair(&self, disk: &mut dyn Disk) -> Outcome {
        let done = self.0.repair(disk)?;
        disk.write_at(self.1, &self.2)
            .map_err(|error| Stopped::unknown(&error))?;
        Ok(done)
    }

    fn planned(&self, disk: &dyn Disk) -> Option<Result<Vec<Write>, String>> {
        self.0.planned(disk)
    }

    fn undo(&self) -> Option<&dyn Undo> {
        self.0.undo()
    }
}

fn and_then(offset: u64, bytes: &[u8]) -> Explored {
    let case = damaged(Structures::Absent, Vec::new());
    let (before, repair) = ImageRepair::new(&case).expect("an image");
    explore_one(&AndThen(repair, offset, bytes.to_vec()), &before, &BOUNDS)
}

#[test]
fn damage_done_by_a_repair_is_named_with_the_cluster_and_who_refers_to_it() {
    let case = damaged(Structures::Absent, Vec::new());
    let (before, _) = ImageRepair::new(&case).expect("an image");
    let audit = before.reading.audit().expect("an image");
    let active = &audit.layers[0];
    let data = active.map.values().find_map(|mapping| match mapping {
        recount_oracle::audit::Mapping::Data { offset } => Some(*offset),
        _ => None,
    });
    let data = data.expect("the guest has data");
    let cluster = data / 512;
    let explored = and_then(data + 3, b"?");
    let verdict = explored.verdict(Property::LeavesDataAlone);
    fails_with(verdict, &format!("byte 3 of cluster {cluster} changed"));
    assert!(explored.verdict(Property::CrashAtomic).is_failure());
    // What is not planned is not in the undo file.
    let verdict = explored.verdict(Property::UndoRestores);
    fails_with(verdict, "writes are planned");
    // Nor may an entry come to say that a table which a snapshot shares has one reference.
    let explored = and_then(active.l1_offset, &[0x80]);
    let verdict = explored.verdict(Property::CrashAtomic);
    fails_with(verdict, "changed from 0x00 to 0x80");
    // Bit 63 of an L1 entry may be set right; its offset may not change.
    let explored = and_then(active.l1_offset + 6, &[0xff]);
    let verdict = explored.verdict(Property::LeavesDataAlone);
    fails_with(verdict, "the L1 table of the active layer");
    // Of the header's other fields none may change.
    let explored = and_then(24, &[1]);
    fails_with(
        explored.verdict(Property::KeepsHeaderSettings),
        "byte 24 of the header, the size of the virtual disk, changed",
    );
    assert!(explored.verdict(Property::Idempotent).is_failure() || explored.quiet.outcome.is_ok());
}

/// Repairs an image file with qemu-img, which logs what it does.
fn qemu_img_trace(bytes: &[u8]) -> (Vec<u8>, recount_oracle::disk::Trace) {
    let folder = tempfile::tempdir().expect("a folder");
    let (image, log) = (folder.path().join("i.qcow2"), folder.path().join("log"));
    std::fs::write(&image, bytes).expect("written");
    std::fs::write(&log, []).expect("written");
    let options = format!(
        "driver=qcow2,file.driver=blklogwrites,file.log-sector-size=512,\
         file.log-super-update-interval=1,file.file.driver=file,file.file.filename={},\
         file.log.driver=file,file.log.filename={}",
        image.display(),
        log.display()
    );
    let mut check = Command::new("qemu-img");
    let output = check
        .args(["check", "-r", "all", "--image-opts", &options])
        .output();
    assert!(output.expect("it runs").status.success());
    let trace = log::read(&std::fs::read(&log).expect("a log")).expect("a log of writes");
    (std::fs::read(&image).expect("an image"), trace)
}

fn sparse(bytes: &[u8]) -> SparseBytes {
    let mut sparse = SparseBytes::default();
    sparse.write_at(0, bytes).expect("memory");
    sparse
}

#[needs(qemu)]
#[test]
fn a_power_cut_while_qemu_img_repairs_may_leave_the_header_leading_to_nothing() {
    let case = damaged(Structures::Absent, Vec::new());
    let (before, _) = ImageRepair::new(&case).expect("an image");
    let length = before.bytes.len() as usize;
    let bytes = before.bytes.bytes(0, length);
    let (after, trace) = qemu_img_trace(&bytes);
    let before = Before::new(sparse(&bytes), None, reading::Kind::Image).expect("an image");
    let whole = before.kind.read(&after).expect("an image");
    let (_, verdict) = crash_atomic::judge(&before, &trace, Some(&whole), &BOUNDS.crashes);
    fails_with(verdict, "the header leads to a reftable of");
}
