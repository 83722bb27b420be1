//! What the guest reads, of an image made by hand.

use recount_oracle::case::damage::SparseBytes;
use recount_oracle::guest::{Content, GuestData};

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
