//! Any bytes give an audit or a refusal, without a panic and in bounded time: random bytes, random
//! bytes behind a header that says what it must, mutated images, and tables that ask for far more
//! than there is in the file.

mod common;

use std::time::Duration;

use common::from_seed;
use nix::time::ClockId;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use recount_oracle::audit::{Unreadable, audit, counters};
use recount_oracle::case::Image;
use recount_oracle::case::build;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::case::model::Model;
use recount_oracle::case::synthetic::Synthetic;
use recount_oracle::toy::structure;

/// Far more than any single audit here should take, far less than following everything would.
const LONGEST: Duration = Duration::from_secs(20);

/// Time that this thread had a processor: other work on the machine does not count.
fn processor_time() -> Duration {
    let time = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    time.expect("a clock of each thread").into()
}

fn random(rng: &mut ChaCha8Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// A header of 512-byte clusters whose tables are in the file, with pointers from `rng`.
fn header(bytes: &mut [u8], rng: &mut ChaCha8Rng) {
    let clusters = bytes.len() as u64 / 512;
    let mut put = |at: usize, raw: &[u8]| bytes[at..at + raw.len()].copy_from_slice(raw);
    let mut pick = || (rng.random_range(1..clusters) * 512).to_be_bytes();
    put(0, b"QFI\xfb\0\0\0\x03");
    put(8, &[0; 16]);
    put(23, &[9]);
    put(24, &0x8000_u64.to_be_bytes());
    put(32, &[0; 4]);
    put(36, &8_u32.to_be_bytes());
    put(40, &pick());
    put(48, &pick());
    put(56, &2_u32.to_be_bytes());
    put(60, &3_u32.to_be_bytes());
    put(64, &pick());
    put(72, &[0; 24]);
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(104, &[0; 16]);
}

#[test]
fn random_bytes_are_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for length in 0..2000 {
        let bytes = random(&mut rng, length);
        assert!(matches!(audit(&bytes), Err(Unreadable::NotOpened { .. })));
    }
}

#[test]
fn random_bytes_behind_a_header_give_an_audit() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for _ in 0..500 {
        let length = 512 * rng.random_range(2..200);
        let mut bytes = random(&mut rng, length);
        header(&mut bytes, &mut rng);
        let audit = audit(&bytes).unwrap();
        assert!(!audit.is_clean(), "{:?}", counters(&audit));
    }
}

#[test]
fn mutated_images_give_an_audit_or_a_refusal() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut audited = 0;
    for seed in 0..300 {
        let image = Image::Synthetic(from_seed::<Synthetic>(seed));
        let whole = build::image(&image).unwrap();
        let pages: Vec<u64> = whole.pages().map(|(at, _)| at).collect();
        for _ in 0..10 {
            let mut bytes = whole.clone();
            for _ in 0..rng.random_range(1..6) {
                let page = pages[rng.random_range(0..pages.len())];
                let at = page + rng.random_range(0..4096_u64 / 8) * 8;
                let value = match rng.random_range(0..4) {
                    0 => rng.next_u64(),
                    1 => u64::MAX,
                    2 => 1 << rng.random_range(0..64),
                    _ => rng.next_u64() & 0xffff_ffff,
                };
                bytes.write_at(at, &value.to_be_bytes()).unwrap();
            }
            match audit(&bytes) {
                Ok(audit) => audited += usize::from(counters(&audit).exit_code() >= 0),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
    assert!(
        audited > 1000,
        "only {audited} mutated images could be opened"
    );
}

/// 65,536 snapshots with the same L1 table, which leads to the same L2 table over and over.
#[test]
fn tables_shared_without_end_are_given_up() {
    let mut bytes = SparseBytes::default();
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut head = vec![0; 8 * 512];
    header(&mut head, &mut rng);
    bytes.write_at(0, &head).unwrap();
    let l1 = 0x10_0000_u64;
    let (l2, data, snapshots) = (0x1000_u64, 0x1200_u64, 0x20_0000_u64);
    bytes.write_at(60, &65_536_u32.to_be_bytes()).unwrap();
    bytes.write_at(64, &snapshots.to_be_bytes()).unwrap();
    bytes.write_at(40, &l1.to_be_bytes()).unwrap();
    for entry in 0..64 {
        bytes.write_at(l2 + entry * 8, &data.to_be_bytes()).unwrap();
    }
    for entry in 0..1024 {
        bytes.write_at(l1 + entry * 8, &l2.to_be_bytes()).unwrap();
    }
    for snapshot in 0..65_536 {
        let mut entry = [0; 56];
        entry[..8].copy_from_slice(&l1.to_be_bytes());
        entry[8..12].copy_from_slice(&1024_u32.to_be_bytes());
        entry[36..40].copy_from_slice(&16_u32.to_be_bytes());
        bytes.write_at(snapshots + snapshot * 56, &entry).unwrap();
    }
    let start = processor_time();
    assert!(matches!(audit(&bytes), Err(Unreadable::TooMuchWork)));
    let took = processor_time().saturating_sub(start);
    assert!(took < LONGEST, "{took:?}");
}

/// The largest reftable and L1 table, 8 EiB of file, all of it holes.
#[test]
fn the_largest_tables_of_a_hole_cost_no_memory() {
    let mut bytes = SparseBytes::default();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut head = vec![0; 8 * 512];
    header(&mut head, &mut rng);
    bytes.write_at(0, &head).unwrap();
    bytes.write_at(36, &(4_u32 << 20).to_be_bytes()).unwrap();
    bytes.write_at(56, &(16_u32 << 10).to_be_bytes()).unwrap();
    bytes.set_len(i64::MAX as u64);
    let start = processor_time();
    let audit = audit(&bytes).unwrap();
    let took = processor_time().saturating_sub(start);
    assert!(took < LONGEST, "{took:?}");
    // The L1 table's 65,536 clusters, the reftable's 16,384, and each other one at most once.
    assert!(audit.references.len() <= 65_536 + 16_384 + 2);
    assert!(!audit.is_clean());
}

#[test]
fn any_bytes_have_some_toy_structure() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for refcount_order in 0..=6 {
        let model = Model {
            refblock_bits: 3,
            reftable_entry_bits: 2,
            refcount_order,
            references: Vec::new(),
            old: Vec::new(),
        };
        for length in [0, 11, 12, 63, 640, 1000] {
            let bytes = random(&mut rng, length);
            let found = structure(&bytes, &model).unwrap();
            assert!(found.refblocks.len() <= length / 8);
            assert!(found.own_clusters(&model).len() <= (1 << 14) + length);
        }
    }
}
