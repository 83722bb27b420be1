//! Generated cases survive becoming text; what is not a case is refused with its place. A file that
//! cannot be read is named.

mod common;

use std::path::Path;

use common::from_seed;
use recount_oracle::case::impossible::Impossible;
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
    let more_than_room = EXAMPLE.replace("striped = { step = 2 }", "listed = [1, 2, 3, 4, 5]");
    assert!(matches!(
        read(&more_than_room).unwrap_err(),
        TextError::Impossible {
            file,
            why: Impossible::NoRoom {
                wanted: 1,
                placed: 6
            },
        } if file == "some.toml"
    ));
    let newer = EXAMPLE
        .replace("version = 3", "version = 2")
        .replace("\"data\"", "\"zero\"");
    let what = "a zero cluster";
    assert!(matches!(
        read(&newer).unwrap_err(),
        TextError::Impossible { why: Impossible::NeedsVersion3 { what: found }, .. } if found == what
    ));
    let wide = EXAMPLE.replace("cluster_bits = 9", "cluster_bits = 22");
    assert!(matches!(
        read(&wide).unwrap_err(),
        TextError::Impossible {
            why: Impossible::OutOfRange {
                field: "cluster_bits",
                value: 22,
                least: 9,
                most: 21
            },
            ..
        }
    ));
}

#[test]
fn impossible_toys_are_refused() {
    let toy = |references: &str, old: &str| {
        let head = "version = 1\n[case.image.model]\nrefblock_bits = 2\nreftable_entry_bits = 1\n";
        let text = format!("{head}refcount_order = 1\nreferences = {references}\nold = {old}\n");
        match read(&text) {
            Err(TextError::Impossible { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(toy("[0, 1]", "[]"), Impossible::NoHeader);
    let (cluster, references, max) = (1, 4, 3);
    let many = Impossible::TooManyReferences {
        cluster,
        references,
        max,
    };
    assert_eq!(toy("[1, 4]", "[]"), many);
    let old = |cluster, why| Impossible::OldStructure { cluster, why };
    assert_eq!(toy("[1, 1]", "[1]"), old(1, "is referenced as well"));
    assert_eq!(
        toy("[1, 0]", "[2]"),
        old(2, "lies past the end of the image")
    );
    assert_eq!(toy("[1, 0]", "[1, 1]"), old(1, "is named twice"));
    // Three refblocks need two reftable clusters, which 2 and 4 are not in a row.
    let apart = toy("[1, 0, 0, 0, 0, 0]", "[2, 4, 1, 3, 5]");
    assert_eq!(
        apart,
        old(4, "is part of the reftable, which is not in a row")
    );
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
