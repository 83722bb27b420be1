//! The page of a report in a real browser: wide and narrow, light and dark, it fits the window, its
//! colours follow the system, and every kind of cluster has a colour of its own.

mod browser;

use std::path::{Path, PathBuf};
use std::process::Command;

use recount_needs::needs;

/// Light and dark, as the browser's setting counts them.
const SCHEMES: [(&str, u32); 2] = [("light", 1), ("dark", 0)];

/// An image with something of every kind, whose refcounts are gone.
const CASE: &str = r#"
version = 1

[case.image.synthetic]
version = 3
cluster_bits = 9
guest = [
    { clusters = 40, content = "data" },
    { clusters = 3, content = { compressed = { incompressible = 100 } } },
]
snapshots = [{ count = 1, sharing = "nothing" }]
bitmaps = [{ granularity_bits = 9, clusters = 1, all_ones = 0 }]
free_tail = 30

[[case.damage]]

[case.damage.refblock]
refblock = 0
becomes = "zeroed"
"#;

/// Says what the browser has made of the page, where `--dump-dom` shows it.
const MEASURE: &str = r#"<script>
const color = (element, field) => getComputedStyle(element)[field];
const cells = [...document.querySelector(".legend").querySelectorAll(".c")];
document.title = "measured:" + JSON.stringify({
  overflows: document.documentElement.scrollWidth > window.innerWidth,
  width: window.innerWidth,
  ground: color(document.body, "backgroundColor"),
  text: color(document.body, "color"),
  colors: [...new Set(cells.map(cell => color(cell, "backgroundColor")))].length,
  cells: document.querySelectorAll(".cells .c").length,
  low: [...document.querySelectorAll(".cells .c")].filter(c => c.offsetHeight < 8).length,
}) + ":end";
</script>"#;

/// A report in which a program that does nothing has failed.
fn page(folder: &Path) -> PathBuf {
    let case = folder.join("case.toml");
    std::fs::write(&case, CASE).unwrap();
    let report = folder.join("report");
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["differential", "--subject", "idle=true {image}", "--case"])
        .arg(&case)
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    report.join("index.html")
}

#[needs(browser)]
#[test]
fn the_page_fits_wide_and_narrow_windows_light_and_dark() {
    let folder = tempfile::tempdir().unwrap();
    let page = page(folder.path());
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("repairs nothing"), "{html}");
    let copy = folder.path().join("measured.html");
    std::fs::write(&copy, html + MEASURE).unwrap();
    let mut grounds = Vec::new();
    for (name, scheme) in SCHEMES {
        for width in [1_400, 520] {
            let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
            let seen = browser::measured(&copy, width, &[scheme]);
            let story = format!("{name}, {width} wide: {seen}");
            assert_eq!(seen["overflows"], false, "{story}");
            assert!(seen["cells"].as_u64() > Some(40), "{story}");
            assert_eq!(seen["low"], 0, "{story}");
            assert!(seen["colors"].as_u64() >= Some(11), "{story}");
            assert_ne!(seen["ground"], seen["text"], "{story}");
            grounds.push(seen["ground"].clone());
        }
    }
    assert_eq!(grounds[0], grounds[1]);
    assert_ne!(grounds[0], grounds[2], "dark looks like light");
}
