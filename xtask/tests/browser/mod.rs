//! Pages in a real browser.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Names under which distributions install it.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// What a script of the page measures in a window of this width: the JSON between `measured:` and
/// `:end`.
pub fn measured(page: &Path, width: u32, options: &[String]) -> Value {
    let runs = |name: &&&str| Command::new(name).arg("--version").output().is_ok();
    let browser = BROWSERS.iter().find(runs).expect("a browser");
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={width},900"))
        .args(options)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    let begin = dom
        .find("measured:")
        .unwrap_or_else(|| panic!("{output:?}"));
    let rest = &dom[begin + "measured:".len()..];
    let json = &rest[..rest.find(":end").unwrap()];
    serde_json::from_str(json).unwrap()
}
