//! Generated cases survive becoming text; what is not a case is refused with its place. A file that
//! cannot be read is named.

mod common;

use std::path::Path;

use common::from_seed;
use recount_oracle::case::synthetic::{Allocation, Content, Structures};
use recount_oracle::case::text::{self, CaseFile, TextError, Verdict, parse, print};
use recount_oracle::case::{Algorithm, Case, Image};

const SEEDS: u64 = 3000;

const EXAMPLE: &str = r#"
version = 1
story = "No free run is long enough for the reftable."

[case]
algorithm = "first-fit"

[case.image.synthetic]
version = 3
cluster_bits = 9
structures = "absent"
allocation = { striped = { step = 2 } }
guest = [{ clusters = 20, content = "data" }]

[verdicts."qemu-img 10.0.2"]
exit = 0
counters = { leaks = 3 }
"#;

fn read(text: &str) -> Result<CaseFile, TextError> {
    parse(Path::new("some.toml"), text)
}

fn refusal(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn generated_cases_are_possible_and_survive_text() {
    for seed in 0..SEEDS {
        let case: Case = from_seed(seed);
        assert_eq!(case.validate(), Ok(()), "{seed}: {case:?}");
        let text = print(&case.clone().into());
        let again = read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(again.case, case, "{text}");
        assert_eq!(print(&again), text);
    }
}

#[test]
fn a_file_written_by_hand_says_what_it_looks_like() {
    let file = read(EXAMPLE).unwrap();
    let Image::Synthetic(image) = &file.case.image else {
        panic!("not a synthetic image: {file:?}");
    };
    assert_eq!(file.case.algorithm, Algorithm::FirstFit);
    assert_eq!(image.structures, Structures::Absent);
    assert_eq!(image.allocation, Allocation::Striped { step: 2 });
    assert_eq!(image.guest[0].content, Content::Data);
    assert_eq!(image.refcount_order, 4, "16 bits unless said otherwise");
    let verdict = &file.verdicts["qemu-img 10.0.2"];
    assert_eq!((verdict.exit, verdict.counters["leaks"]), (Some(0), 3));
}

#[test]
fn story_and_verdicts_survive_text() {
    let mut file = CaseFile::from(from_seed::<Case>(1));
    file.story = Some("Two lines,\none \"quoted\".\n".to_owned());
    let verdict = Verdict {
        exit: Some(2),
        timed_out: Some(false),
        repaired_clean: Some(true),
        counters: [("corruptions".to_owned(), 7)].into(),
        properties: [("no-leaks".to_owned(), "cluster 3 is counted 1".to_owned())].into(),
        observed: None,
        note: Some("slow".to_owned()),
    };
    file.verdicts.insert("planned".to_owned(), verdict);
    assert_eq!(read(&print(&file)).unwrap(), file);
}

#[test]
fn what_does_not_parse_is_named_by_file_line_and_expectation() {
    let unknown = EXAMPLE.replace("first-fit", "worst-fit");
    assert_eq!(
        refusal(&unknown),
        "some.toml:6:13: unknown variant `worst-fit`, expected one of `planned`, `first-fit`, \
         `tail`"
    );
    assert_eq!(
        refusal(&EXAMPLE.replace("cluster_bits = 9", "cluster_bits = \"nine\"")),
        "some.toml:10:16: invalid type: string \"nine\", expected u32"
    );
    assert_eq!(
        refusal(&EXAMPLE.replace("version = 1", "version = 7")),
        "some.toml:2:1: expected `version = 1`, found version 7"
    );
    let misspelt = refusal(&EXAMPLE.replace("allocation", "alocation"));
    assert!(
        misspelt.starts_with("some.toml:12:1: unknown field `alocation`"),
        "{misspelt}"
    );
    let broken = refusal(&EXAMPLE.replace("[case]", "[case"));
    assert!(broken.starts_with("some.toml:5:6: "), "{broken}");
}

#[test]
fn an_impossible_case_is_refused_and_not_changed() {
    let start = "some.toml: this case is impossible: ";
    let more_than_room = EXAMPLE.replace("striped = { step = 2 }", "listed = [1, 2, 3, 4, 5]");
    assert_eq!(
        refusal(&more_than_room),
        format!(
            "{start}the allocation has no 1 free clusters in a row left after 6 that are in use: \
             name more clusters or fewer references"
        )
    );
    let newer = EXAMPLE
        .replace("version = 3", "version = 2")
        .replace("\"data\"", "\"zero\"");
    assert_eq!(
        refusal(&newer),
        format!("{start}a zero cluster needs version 3 of the format; this image has version 2")
    );
    let wide = EXAMPLE.replace("cluster_bits = 9", "cluster_bits = 22");
    assert_eq!(
        refusal(&wide),
        format!("{start}cluster_bits is 22; it must be 9 to 21")
    );
}

#[test]
fn impossible_toys_are_refused() {
    let refuses = |references: &str, old: &str, why: &str| {
        let head = "version = 1\n[case.image.model]\nrefblock_bits = 2\nreftable_entry_bits = 1\n";
        let text = format!("{head}refcount_order = 1\nreferences = {references}\nold = {old}\n");
        let start = "some.toml: this case is impossible: ";
        assert_eq!(refusal(&text), format!("{start}{why}"));
    };
    let header = "cluster 0 holds the header; it must have at least one reference";
    refuses("[0, 1]", "[]", header);
    let many = "cluster 1 has 4 references; a refcount here counts to 3";
    refuses("[1, 4]", "[]", many);
    let old = "old structure cluster";
    refuses("[1, 1]", "[1]", &format!("{old} 1 is referenced as well"));
    let outside = "2 lies past the end of the image";
    refuses("[1, 0]", "[2]", &format!("{old} {outside}"));
    refuses("[1, 0]", "[1, 1]", &format!("{old} 1 is named twice"));
    // Three refblocks need two reftable clusters, which 2 and 4 are not in a row.
    let apart = format!("{old} 4 is part of the reftable, which is not in a row");
    refuses("[1, 0, 0, 0, 0, 0]", "[2, 4, 1, 3, 5]", &apart);
}

#[test]
fn a_file_is_read_like_its_text_and_named_where_there_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("case.toml");
    let missing = text::read(&path).unwrap_err();
    assert!(
        missing.to_string().starts_with(path.to_str().unwrap()),
        "{missing}"
    );
    std::fs::write(&path, EXAMPLE).unwrap();
    assert_eq!(text::read(&path).unwrap(), read(EXAMPLE).unwrap());
}
