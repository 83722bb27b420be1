#![allow(missing_docs)]
use recount_oracle::audit::audit;
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let b = &bytes[..bytes.len() / 512 * 512];
    let a = audit(&b).unwrap();
    println!(
        "{:#?}\nblocked {:?}\nsnapshots {:?}\npast_end {:?}\nempty {:?}\ncorruptions {:?}\ncopied {}\nmismatches {:?} rebuild {}\nrefs {:?}\ndisk entries {:?}",
        a.header,
        a.blocked,
        a.snapshots,
        a.past_end,
        a.empty,
        a.corruptions.iter().take(12).collect::<Vec<_>>(),
        a.copied.len(),
        a.mismatches.iter().take(20).collect::<Vec<_>>(),
        a.rebuild_needed,
        a.references
            .iter()
            .map(|(c, r)| (c, r.len(), r[0]))
            .collect::<Vec<_>>(),
        a.disk.entries
    );
}
