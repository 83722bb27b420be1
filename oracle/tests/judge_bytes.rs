//! The plain call that judges a repair by the bytes before and after, and by how it ended.

use std::path::Path;

use recount_oracle::case::{build, text};
use recount_oracle::requirements::{NotJudged, Requirement, judge_bytes};

const IMAGE: &str = r#"
version = 1

[case.image.synthetic]
version = 3
cluster_bits = 9
guest = [{ clusters = 4, content = "data" }]
"#;
const DAMAGE: &str = r#"
[[case.damage]]
refblock = { refblock = 0, becomes = "ones" }
"#;

/// The bytes of a case.
fn image(case: &str) -> Vec<u8> {
    let case = text::parse(Path::new("case.toml"), case)
        .expect("a case")
        .case;
    let image = build::build(&case).expect("an image").bytes;
    let length = recount_oracle::case::damage::SparseBytes::len(&image);
    image.bytes(0, usize::try_from(length).expect("a small image"))
}

/// The names of what does not hold.
fn failed(before: &[u8], after: &[u8], exit: i32) -> Vec<String> {
    let verdicts = judge_bytes(before, after, exit).expect("an image");
    let failed = verdicts.iter().filter(|(_, verdict)| verdict.is_failure());
    failed
        .map(|(requirement, _)| requirement.to_string())
        .collect()
}

#[test]
fn a_repair_is_judged_by_its_bytes_and_its_exit_code() {
    let (whole, damaged) = (image(IMAGE), image(&[IMAGE, DAMAGE].concat()));
    assert_eq!(failed(&damaged, &whole, 0), [""; 0]);
    assert_eq!(failed(&whole, &whole, 0), [""; 0]);
    assert_eq!(failed(&damaged, &damaged, 0), ["repairs"]);
    // It broke what was whole.
    let broken = failed(&whole, &damaged, 0);
    assert!(
        broken.contains(&Requirement::HealthyStaysHealthy.to_string()),
        "{broken:?}"
    );
    // To decline is no failure, to fail after a write is one.
    assert_eq!(judge_bytes(&damaged, &damaged, 1), Ok(Vec::new()));
    let mut longer = damaged.clone();
    longer.push(0);
    assert!(failed(&damaged, &longer, 1).contains(&"repairs".to_owned()));
    assert_eq!(judge_bytes(b"no image", b"no image", 0), Err(NotJudged));
}
