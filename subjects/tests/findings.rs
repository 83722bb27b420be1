//! The folder of a finding: its script is run, and builds the image byte for byte; its texts need
//! nothing of ours. Images that the harness lays out are built with a shell alone; those of qemu-img
//! with and without it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use recount_needs::needs;
use recount_oracle::case::damage::{self, SparseBytes};
use recount_oracle::case::observed::Ended;
use recount_oracle::case::real::{Kind, Recipe, Step, random_recipe};
use recount_oracle::case::{Case, Image, build, generate, text};
use recount_subjects::findings::{self, Consequence, Finding, Origin};
use recount_subjects::programs::program::Allowance;
use recount_subjects::programs::{self, Maker, Repaired, disk, said};
use tempfile::TempDir;

/// Every file of a finding.
const FILES: [&str; 6] = [
    "README.md",
    "after.txt",
    "before.txt",
    "image.qcow2",
    "index.html",
    "make.sh",
];
/// What a script may call beside what is built into the shell.
const TOOLS: [&str; 4] = ["sh", "dd", "truncate", "cksum"];

/// An image with two snapshots and a bitmap, one refcount of it too low.
const SNAPSHOTS: &str = r#"
version = 1

[case.image.synthetic]
version = 3
cluster_bits = 9
guest = [
    { clusters = 40, content = "data" },
    { clusters = 3, content = { compressed = { incompressible = 100 } } },
]
snapshots = [{ count = 2, sharing = "nothing" }]
bitmaps = [{ granularity_bits = 9, clusters = 1, all_ones = 0 }]

[[case.damage]]

[case.damage.refcount]
among = "allocated"
cluster = 60
to = "zero"
"#;

/// The case of a text.
fn case(text: &str) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.toml");
    fs::write(&path, text).unwrap();
    text::read(&path).unwrap().case
}

/// The image of a case after its damage.
fn damaged(case: &Case, whole: &SparseBytes) -> SparseBytes {
    let mut damaged = whole.clone();
    for act in &case.damage {
        damage::apply(&mut damaged, act);
    }
    damaged
}

/// Writes the folder of a program that has left `after`.
fn written(report: &Path, origin: Origin<'_>, after: &SparseBytes) -> PathBuf {
    let repaired = Repaired {
        said: said(Ended::Code(0), "all good\n".to_owned()),
        image: after.clone(),
        trace: None,
        outcome: None,
        is_too_long: false,
    };
    let line = "mine=sh my-tool --repair {image}".parse().unwrap();
    let commands = programs::Command::gather(&[line], &[], Allowance::DEFAULT).unwrap();
    let finding = Finding {
        subject: "mine",
        property: "counts-every-cluster",
        case: "5:12",
        command: &commands[0],
        origin,
        story: "the refcount of cluster 9 is 0 after the repair; it should be 1: the reftable",
        repaired: &repaired,
        consequence: Some(&Consequence {
            loss: "guest cluster 3 of the active layer had data".to_owned(),
            command: "qemu-io IMAGE -c 'write 0 512'".to_owned(),
        }),
    };
    finding.write(report, "it").unwrap();
    report.join(findings::FOLDER).join("it")
}

/// Runs the script of a folder in another one, with no more programs than these there.
fn build_anew(folder: &Path, tools: Option<&Path>) -> (Output, SparseBytes) {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.arg(folder.join("make.sh"));
    command.current_dir(elsewhere.path());
    if let Some(tools) = tools {
        command.env("PATH", tools);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let image = disk::load(&elsewhere.path().join("image.qcow2"), u64::MAX).unwrap();
    (output, image)
}

/// A folder with the programs that every system has, and no other.
fn tools() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for tool in TOOLS {
        let from = ["/bin", "/usr/bin"].map(|place| Path::new(place).join(tool));
        let from = from.iter().find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(from, folder.path().join(tool)).unwrap();
    }
    folder
}

fn assert_same(folder: &Path, built: &SparseBytes, story: &str) {
    let kept = disk::load(&folder.join("image.qcow2"), u64::MAX).unwrap();
    assert!(*built == kept, "{story}: other bytes");
}

/// Builds the image of a case that the harness lays out.
fn assert_synthetic(case: &Case, story: &str) -> (TempDir, PathBuf) {
    let report = tempfile::tempdir().unwrap();
    let whole = build::image(&case.image).unwrap();
    let damaged = damaged(case, &whole);
    let origin = Origin {
        image: &case.image,
        whole: &whole,
        again: None,
        damaged: &damaged,
    };
    let folder = written(report.path(), origin, &damaged);
    let tools = tools();
    let (output, built) = build_anew(&folder, Some(tools.path()));
    assert_eq!(output.stderr, b"", "{story}: {output:?}");
    assert_same(&folder, &built, story);
    (report, folder)
}

#[test]
fn the_script_builds_an_image_with_snapshots_with_a_shell_alone() {
    let (_kept, folder) = assert_synthetic(&case(SNAPSHOTS), "snapshots");
    let script = fs::read_to_string(folder.join("make.sh")).unwrap();
    for named in [
        "# byte 20 of the header: cluster_bits",
        "# refcount table entry 0",
        "# L1 entry 0 of snapshot 1",
        "# snapshot table entry 1: offset of its L1 table",
        "# guest cluster 39 of the active layer",
        "L2 entries 0 to 42 of the active layer, in the table of L1 entry 0",
        "# What is wrong with the image.\n# refcount of cluster 60: 0x1 becomes 0x0\n",
    ] {
        assert!(script.contains(named), "{named}: {script}");
    }
}

#[test]
fn the_script_builds_a_healthy_image() {
    let mut healthy = case(SNAPSHOTS);
    healthy.damage.clear();
    let (_kept, folder) = assert_synthetic(&healthy, "healthy");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(readme.contains("Nothing is wrong with it"), "{readme}");
    let script = fs::read_to_string(folder.join("make.sh")).unwrap();
    assert!(!script.contains("# What is wrong"), "{script}");
}

#[test]
fn the_scripts_of_random_images_build_them() {
    let mut built = 0;
    let cases = (0..400).map(|seed| (seed, generate(seed)));
    for (seed, case) in cases {
        let Image::Synthetic(image) = &case.image else {
            continue;
        };
        // Key material is long, and random.
        if image.luks || image.cluster_bits > 16 {
            continue;
        }
        assert_synthetic(&case, &format!("seed {seed}"));
        built += 1;
        if built == 24 {
            return;
        }
    }
    panic!("only {built} images");
}

#[test]
fn the_folder_reads_without_anything_of_ours() {
    let (_kept, folder) = assert_synthetic(&case(SNAPSHOTS), "snapshots");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().collect();
    files.sort_by_key(|file| file.as_ref().unwrap().file_name());
    let names = files.iter().map(|file| file.as_ref().unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), FILES);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    for name in [
        "README.md",
        "index.html",
        "make.sh",
        "before.txt",
        "after.txt",
    ] {
        let text = read(name);
        for ours in ["recount", "cargo", "xtask", "refblock", "reftable"] {
            assert!(!text.contains(ours), "{name} names {ours}: {text}");
        }
    }
    let readme = read("README.md");
    for said in [
        "    sh my-tool --repair image.qcow2",
        "exit code 0",
        "Section \"Host cluster management\"",
        "Section \"Snapshots\"",
        "guest cluster 3 of the active layer had data",
        "    sh make.sh\n    qemu-img check image.qcow2\n    sh my-tool --repair image.qcow2",
        "    qemu-io image.qcow2 -c 'write 0 512'",
        "    all good",
    ] {
        assert!(readme.contains(said), "{said}: {readme}");
    }
    let before = read("before.txt");
    let wrong = before.lines().find(|line| line.starts_with("60 "));
    assert!(
        wrong.is_some_and(|line| line.contains("counts as free")),
        "{before}"
    );
    let page = read("index.html");
    assert!(page.contains("<tr class=\"bad\"><td>60</td>"), "{page}");
}

#[test]
fn an_image_that_cannot_be_opened_afterwards_is_said_to_be_so() {
    let case = case(SNAPSHOTS);
    let whole = build::image(&case.image).unwrap();
    let mut after = whole.clone();
    after.put(4, &[9]);
    let report = tempfile::tempdir().unwrap();
    let origin = Origin {
        image: &case.image,
        whole: &whole,
        again: None,
        damaged: &whole,
    };
    let folder = written(report.path(), origin, &after);
    let text = fs::read_to_string(folder.join("after.txt")).unwrap();
    assert!(
        text.contains("the image cannot be opened: version is 0x9000003"),
        "{text}"
    );
}

/// A recipe with everything that qemu-img dates or numbers by itself.
fn with_snapshots() -> Recipe {
    let write = |cluster, pattern| Step::Write {
        cluster,
        skip: 0,
        sectors: 15,
        pattern,
    };
    Recipe {
        cluster_bits: 16,
        refcount_order: 4,
        virtual_clusters: 16,
        steps: vec![
            write(0, 85),
            Step::Snapshot(1),
            write(1, 170),
            Step::Snapshot(2),
            Step::Bitmap(1),
            Step::Kill,
        ],
        ..Recipe::default()
    }
}

#[needs(qemu)]
#[test]
fn the_script_repeats_what_qemu_did_and_builds_the_same_without_it() {
    let maker = Maker::new("qemu-img".into(), "qemu-io".into());
    let random = (0..).map(|seed| random_recipe(&mut ChaCha8Rng::seed_from_u64(seed)).settled());
    let random = random.filter(|recipe| {
        let small = recipe.virtual_size() <= 4 << 20 && recipe.cluster_bits <= 16;
        small && recipe.kind != Kind::Luks && !recipe.zstd
    });
    let mut by_commands = 0;
    for recipe in std::iter::once(with_snapshots()).chain(random.take(8)) {
        let story = format!("{recipe:?}");
        let is_dated = recipe == with_snapshots();
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let whole = maker.make(&recipe, first.path()).unwrap();
        let again = maker.make(&recipe, second.path()).unwrap();
        let mut damaged = whole.clone();
        damaged.put(3, &[0]);
        let report = tempfile::tempdir().unwrap();
        let origin = Origin {
            image: &Image::Real(recipe),
            whole: &whole,
            again: Some(&again),
            damaged: &damaged,
        };
        let folder = written(report.path(), origin, &damaged);
        if is_dated {
            let script = fs::read_to_string(folder.join("make.sh")).unwrap();
            let commands = script.split("by_qemu() {").nth(1).unwrap();
            assert!(commands.contains("snapshot -c s2"), "{script}");
            assert!(
                commands.contains("snapshot table entry 1: date"),
                "{script}"
            );
            assert!(commands.contains("sigraise 9"), "{script}");
        }
        let (output, built) = build_anew(&folder, None);
        assert_same(&folder, &built, &story);
        by_commands += usize::from(output.stderr.is_empty());
        let tools = tools();
        let (_, built) = build_anew(&folder, Some(tools.path()));
        assert_same(&folder, &built, &story);
    }
    assert!(by_commands >= 6, "{by_commands} images by the commands");
}
