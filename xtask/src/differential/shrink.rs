//! Makes a case that failed smaller, as long as it fails in the same way, and keeps the smallest.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use recount_oracle::case::damage::bytes::PAGE;
use recount_oracle::case::real::{self, Preallocation, Recipe, Step};
use recount_oracle::case::synthetic::{Allocation, Structures, Synthetic};
use recount_oracle::case::text::{CaseFile, Verdict};
use recount_oracle::case::{Case, Image};
use recount_subjects::packed;

use super::examine::{Depth, Findings};
use super::record;
use super::session::{Seen, Session};
use super::tally::Failed;
use crate::error::Result;

/// How long one failure is made smaller.
const TIME: Duration = Duration::from_secs(20);
/// What `qemu-img create` takes unless asked.
const CLUSTER_BITS: u32 = 16;
/// Bytes on disk of an image that goes into an attachment.
const MAIL: usize = 64 << 10;
/// Packed images up to this many bytes are kept beside their cases.
const LARGEST_IMAGE: usize = 1 << 20;

/// Makes one failure smaller.
pub struct Shrinker<'a> {
    pub session: &'a Session<'a>,
    pub failed: &'a Failed,
    /// What has to be looked at to see it.
    pub depth: Depth,
}

impl Shrinker<'_> {
    /// Saves the smallest case that fails as this one does; it, how it looks, and the file, or `None`
    /// where the failure did not show again.
    pub fn save(
        &self,
        name: &str,
        case: &Case,
        folder: &Path,
    ) -> Result<Option<(Case, Seen, String)>> {
        let begin = Instant::now();
        let Failed {
            subject, question, ..
        } = self.failed;
        let field = self.session.field.without_others(subject, *question);
        // One that cannot be made does not fail in the same way.
        let fails = |case: &Case| {
            let again = self.session.look_again(&field, case, self.depth);
            again.is_ok_and(|seen| seen.findings.failure(subject, *question).is_some())
        };
        if !fails(case) {
            return Ok(None);
        }
        let mut smallest = case.clone();
        while let Some(next) = smaller(&smallest)
            .into_iter()
            .take_while(|_| begin.elapsed() < TIME)
            .find(|next| next.validate().is_ok() && fails(next))
        {
            smallest = next;
        }
        let look = |case: &Case| {
            let field = &self.session.field;
            self.session.look_again(field, case, self.depth)
        };
        let mut seen = look(&smallest)?;
        let usual = with_usual_clusters(&smallest);
        if usual.validate().is_ok() && fails(&usual) {
            let looks = look(&usual)?;
            if looks.damaged.pages().count() * PAGE <= MAIL {
                (smallest, seen) = (usual, looks);
            }
        }
        let mut file = CaseFile::from(smallest.clone());
        file.story = Some(format!("Case {name}, made smaller: {subject}, {question}."));
        file.verdicts = verdicts(&seen.findings);
        let tag = as_file(&format!("{name}-{subject}-{question}"));
        let path = folder.join(format!("found-{tag}.toml"));
        let packed = packed::pack(&seen.damaged)?;
        let kept = (packed.len() <= LARGEST_IMAGE).then_some(&packed[..]);
        record::store(&path, &file, kept)?;
        Ok(Some((smallest, seen, path.display().to_string())))
    }
}

/// A name that a file can have.
pub fn as_file(name: &str) -> String {
    let fits = |one: char| one.is_ascii_alphanumeric();
    name.replace(|one| !fits(one), "-")
}

/// What every subject made of it.
fn verdicts(findings: &Findings) -> BTreeMap<String, Verdict> {
    let names = findings.repairs.iter().map(|(name, _)| name.clone());
    let mut verdicts: BTreeMap<_, _> = names.map(|name| (name, Verdict::default())).collect();
    for finding in findings
        .all
        .iter()
        .filter(|one| !one.question.is_comparison())
    {
        let word = finding.failure().unwrap_or("holds").to_owned();
        let verdict = verdicts.entry(finding.subject.clone()).or_default();
        verdict
            .properties
            .insert(finding.question.to_string(), word);
    }
    verdicts
}

/// Cases with a little less, the largest steps first.
fn smaller(case: &Case) -> Vec<Case> {
    let fewer = |index| changed(case, |case: &mut Case| remove(&mut case.damage, index));
    let mut all: Vec<Case> = (0..case.damage.len()).map(fewer).collect();
    let images: Vec<Image> = match &case.image {
        Image::Real(recipe) => {
            let simpler = simpler_recipes(recipe).into_iter();
            simpler.map(Image::Real).collect()
        }
        Image::Synthetic(image) => {
            let simpler = simpler_synthetics(image).into_iter();
            simpler.map(Image::Synthetic).collect()
        }
        Image::Model(_) => Vec::new(),
    };
    let with = |image| changed(case, |case| case.image = image);
    all.extend(images.into_iter().map(with));
    all
}

/// The same in clusters of the size that `qemu-img create` takes unless asked.
fn with_usual_clusters(case: &Case) -> Case {
    changed(case, |case| match &mut case.image {
        Image::Real(recipe) => {
            recipe.cluster_bits = CLUSTER_BITS;
            *recipe = recipe.settled();
        }
        Image::Synthetic(image) => image.cluster_bits = CLUSTER_BITS,
        Image::Model(_) => {}
    })
}

/// A copy with a change.
fn changed<T: Clone>(whole: &T, change: impl FnOnce(&mut T)) -> T {
    let mut copy = whole.clone();
    change(&mut copy);
    copy
}

fn remove<T>(list: &mut Vec<T>, index: usize) {
    list.remove(index);
}

fn simpler_recipes(recipe: &Recipe) -> Vec<Recipe> {
    let mut all = Vec::new();
    let half = recipe.steps.len() / 2;
    if half > 0 {
        all.push(changed(recipe, |recipe| recipe.steps.truncate(half)));
        all.push(changed(recipe, |recipe| drop(recipe.steps.drain(..half))));
    }
    for index in 0..recipe.steps.len() {
        all.push(changed(recipe, |recipe| remove(&mut recipe.steps, index)));
    }
    for (index, step) in recipe.steps.iter().enumerate() {
        let mut less = *step;
        if let Step::Write { sectors, .. } = &mut less {
            *sectors /= 2;
            all.push(changed(recipe, |recipe| recipe.steps[index] = less));
        }
    }
    all.retain(|simpler| simpler != recipe);
    let plain: [fn(&mut Recipe); 6] = [
        |recipe| recipe.kind = real::Kind::Plain,
        |recipe| recipe.preallocation = Preallocation::Off,
        |recipe| recipe.lazy_refcounts = false,
        |recipe| recipe.extended_l2 = false,
        |recipe| recipe.short_by = 0,
        |recipe| recipe.virtual_clusters = recipe.virtual_clusters / 2 + 1,
    ];
    let simpler = plain
        .into_iter()
        .map(|change| changed(recipe, change).settled());
    all.extend(simpler.filter(|simpler| simpler != recipe));
    all
}

fn simpler_synthetics(image: &Synthetic) -> Vec<Synthetic> {
    let plain: [fn(&mut Synthetic); 11] = [
        |image| image.snapshots.clear(),
        |image| image.bitmaps.clear(),
        |image| image.unknown_extensions.clear(),
        |image| image.luks = false,
        |image| image.backing = None,
        |image| image.feature_names = false,
        |image| image.slack_sectors = 0,
        |image| image.free_tail = 0,
        |image| image.allocation = Allocation::Dense,
        |image| image.structures = Structures::default(),
        |image| image.cluster_bits = image.cluster_bits.max(10) - 1,
    ];
    let mut all: Vec<Synthetic> = plain
        .into_iter()
        .map(|change| changed(image, change))
        .collect();
    for index in 0..image.guest.len() {
        all.push(changed(image, |image| remove(&mut image.guest, index)));
        all.push(changed(image, |image| {
            let run = &mut image.guest[index];
            (run.clusters, run.skip) = (run.clusters.div_ceil(2), run.skip / 2);
        }));
    }
    for index in 0..image.snapshots.len() {
        all.push(changed(image, |image| {
            let count = &mut image.snapshots[index].count;
            *count = count.div_ceil(2);
        }));
    }
    all.retain(|simpler| simpler != image);
    all
}

#[cfg(test)]
mod tests {
    use recount_oracle::case::generate;

    use super::*;

    #[test]
    fn shrinking_ends() {
        for seed in 0..40 {
            let mut case = generate(seed);
            let mut steps = 0;
            // The last candidate each time: the smallest of the steps.
            while let Some(next) = smaller(&case)
                .into_iter()
                .rfind(|next| next.validate().is_ok())
            {
                assert_ne!(next, case);
                case = next;
                steps += 1;
                assert!(steps < 1_000, "seed {seed} does not end");
            }
        }
    }
}
