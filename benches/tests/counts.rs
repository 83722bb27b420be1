//! What checks and repairs cost, in numbers that no machine's speed changes, is what
//! benches/counts.toml says.

use recount_benches::{Kind, Task, counts};

#[test]
fn reads_writes_flushes_tries_and_memory_are_as_the_file_says() {
    let changes = counts::changes(&counts::kept().unwrap(), &counts::all().unwrap());
    assert!(
        changes.is_empty(),
        "if this is meant, `cargo xtask bench --counts` writes the file anew:\n{}",
        changes.join("\n")
    );
}

#[test]
fn a_rebuild_writes_each_refblock_once() {
    for kind in Kind::ALL {
        let counts = counts::of(kind, Task::Rebuild).unwrap();
        assert_eq!(counts.planner_tries, 1, "{}", kind.name());
        // The refblocks, the reftable that leads to them, and the header's pointer to it.
        assert_eq!(
            (counts.flushes, counts.writes >= 3),
            (3, true),
            "{counts:?}"
        );
    }
}

#[test]
fn a_number_that_changes_is_named() {
    let before = counts::kept().unwrap();
    let mut after = before.clone();
    after.get_mut("large/rebuild").unwrap().writes += 1;
    let changes = counts::changes(&before, &after);
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(
        changes[0].starts_with("large/rebuild: writes "),
        "{changes:?}"
    );
}
