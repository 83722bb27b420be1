//! What each planner places where, on images small enough to follow by hand.

use recount::rebuild::{self, Input, New};
use recount::{
    Algorithm, Cluster, ClusterCount, Geometry, Layout, PlanError, RefcountTable, Run, RunSet,
};

/// B = 4 refcounts of a refblock, E = 2 entries of a reftable cluster: one covers 8 clusters.
fn geometry() -> Geometry {
    Geometry::model(4, 5, 2, 1).expect("valid")
}

/// `#` is a referenced cluster, `o` one of the old structures, `.` a free one.
fn plan(algorithm: Algorithm, picture: &str, capacity: Option<u64>) -> Result<Layout, PlanError> {
    let mut references = RefcountTable::new(geometry());
    let mut reserved = RunSet::new();
    for (index, mark) in picture.bytes().enumerate() {
        let run = Run::single(Cluster(index as u64));
        match mark {
            b'#' => assert_eq!(references.add(run, 1), Ok(())),
            b'o' => reserved.insert(run),
            _ => assert_eq!(mark, b'.'),
        }
    }
    let input = Input {
        references: &references,
        reserved: &reserved,
        file: ClusterCount(picture.len() as u64),
        capacity: capacity.map(ClusterCount),
    };
    rebuild::plan(algorithm, &input)
}

/// The picture with `T` for the reftable, a digit for each refblock, `x` for what is abandoned.
fn draw(picture: &str, layout: &Layout) -> String {
    let length = picture.len().max(layout.end().0 as usize);
    let mut marks: Vec<u8> = picture
        .bytes()
        .chain(std::iter::repeat(b'.'))
        .take(length)
        .collect();
    for cluster in layout.abandoned.runs().iter().flat_map(Run::iter) {
        marks[cluster.0 as usize] = b'x';
    }
    for cluster in layout.reftable.iter() {
        marks[cluster.0 as usize] = b'T';
    }
    for (refblock, cluster) in &layout.refblocks {
        marks[cluster.0 as usize] = b'0' + refblock.0 as u8;
    }
    String::from_utf8(marks).expect("ASCII")
}

fn drawn(algorithm: Algorithm, picture: &str, capacity: Option<u64>) -> String {
    match plan(algorithm, picture, capacity) {
        Ok(layout) => draw(picture, &layout),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn planned_takes_the_lowest_free_clusters_and_leaves_the_old_structures_alone() {
    assert_eq!(drawn(Algorithm::Planned, "#oo.#...", None), "#ooT#01.");
    assert_eq!(drawn(Algorithm::Planned, "#.......", None), "#T0.....");
}

#[test]
fn planned_prefers_ranges_in_use_and_opens_an_unused_one_only_at_need() {
    assert_eq!(
        drawn(Algorithm::Planned, "#ooo....##.#", None),
        "#oooTT01##2#"
    );
    assert_eq!(
        drawn(Algorithm::Planned, "#ooo....####", None),
        "#oooTT01####23"
    );
    assert_eq!(drawn(Algorithm::Planned, "###.....", Some(8)), "###T01..");
}

#[test]
fn planned_grows_the_file_only_when_nothing_in_it_will_do() {
    assert_eq!(drawn(Algorithm::Planned, "####", None), "####T01");
    assert_eq!(drawn(Algorithm::Planned, "##..", None), "##T0");
}

#[test]
fn planned_says_what_is_missing_on_a_device_that_cannot_grow() {
    let error = plan(Algorithm::Planned, "##o.", Some(4)).expect_err("no room");
    let expected = PlanError::NoSpace {
        what: New::Structures(ClusterCount(2), ClusterCount(1)),
        free: ClusterCount(1),
        longest_run: ClusterCount(1),
        reserved: ClusterCount(1),
    };
    assert_eq!(error, expected);
}

#[test]
fn first_fit_puts_a_refblock_at_or_after_its_range_and_the_reftable_at_the_first_gap() {
    assert_eq!(drawn(Algorithm::FirstFit, "#...#...", None), "#0T.#1..");
    assert_eq!(drawn(Algorithm::FirstFit, "#...####", None), "#0TT####12");
}

#[test]
fn tail_puts_the_reftable_into_the_last_range_or_after_the_end() {
    assert_eq!(drawn(Algorithm::Tail, "#...#...", None), "#0..#1T.");
}

#[test]
fn first_fit_diverges_on_a_full_image_where_planned_ends() {
    let full = "#".repeat(32);
    assert!(matches!(
        plan(Algorithm::FirstFit, &full, None),
        Err(PlanError::Diverges { .. })
    ));
    assert!(matches!(
        plan(Algorithm::Tail, &full, None),
        Err(PlanError::Diverges { .. })
    ));
    let layout = plan(Algorithm::Planned, &full, None).expect("ends");
    assert_eq!(layout.reftable.count, ClusterCount(7));
}

#[test]
fn a_cluster_counted_after_the_end_of_the_file_is_not_taken() {
    let mut references = RefcountTable::new(geometry());
    references
        .add(Run::new(Cluster(0), ClusterCount(5)), 1)
        .expect("memory");
    let none = RunSet::new();
    let input = Input {
        references: &references,
        reserved: &none,
        file: ClusterCount(4),
        capacity: None,
    };
    for algorithm in [Algorithm::Planned, Algorithm::FirstFit, Algorithm::Tail] {
        let layout = rebuild::plan(algorithm, &input).expect("grows");
        let allocated = layout.allocated();
        assert_eq!(
            allocated.next_from(Cluster(0)),
            Some(Cluster(5)),
            "{algorithm:?}"
        );
    }
}
