use recount_oracle::fuzz::image;
use std::collections::BTreeMap;
#[test]
fn survey_of_disagreements() {
    let dir = std::env::var("SPEC_DIR")
        .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus/image").to_owned());
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut n = 0;
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let bytes = std::fs::read(&path).unwrap();
        let base = bytes.len() / 512 * 512;
        for way in 0..8 {
            let mut b = bytes[..base].to_vec();
            let r = base % 512;
            let _ = r;
            b.resize(base + way, 0);
            n += 1;
            if let Err(broken) = image::judge(&b) {
                let key = format!("{broken}");
                let short: String = key.chars().take(110).collect();
                let short = short.replace(|c: char| c.is_ascii_digit(), "");
                kinds.entry(short).or_default().push(format!(
                    "{} way {way}: {key}",
                    path.file_name().unwrap().to_string_lossy()
                ));
            }
        }
    }
    let mut total = 0;
    let mut list: Vec<_> = kinds.into_iter().collect();
    list.sort_by_key(|(_, v)| std::cmp::Reverse(v.len()));
    for (k, v) in &list {
        total += v.len();
        println!(
            "{:5} {k}\n        e.g. {}",
            v.len(),
            v[0].chars().take(900).collect::<String>()
        );
    }
    println!("{n} runs, {total} disagreements");
}
