//! Runs one case again and tells the whole story: the image before, the plan, what was written in
//! which order, the image after, and what every property says.

mod picture;

use std::fmt::Write as _;

use crate::case::damage::SparseBytes;
use crate::case::{Case, Image, Schedule};
use crate::crash;
use crate::explore::{BYTES, draw, images};
use crate::properties::plan::{Brute, Planning};
use crate::properties::undo_restores::{self, Points};
use crate::properties::{Property, Verdict};
use crate::run::{self, Before, Bounds, Run, SceneError, ToyRepair};
use crate::subject::{Repair, Subject};
use crate::toy::Toy;

/// Most events of a run that are told one by one.
const EVENTS_MAX: usize = 200;

/// What happens in a case.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// The story, in lines.
    pub text: String,
    /// What each property says, in the order of the verdict table.
    pub verdicts: Vec<(Property, Verdict)>,
}

/// Has a program repair the image of a case again.
pub fn replay(subject: &dyn Subject, case: &Case) -> Result<Story, SceneError> {
    let (before, repair) = run::scene(subject, case)?;
    let mut story = Story::default();
    if let Some(toy) = Toy::from_case(case) {
        story.plan(subject, &toy, case)?;
    }
    let bounds = match case.image {
        Image::Model(_) => &BYTES,
        Image::Synthetic(_) | Image::Real(_) => &images::BOUNDS,
    };
    story.bytes(case, &before, &*repair, bounds);
    Ok(story)
}

impl Story {
    fn line(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{line}");
    }

    /// What a toy's plan shows.
    fn plan(&mut self, subject: &dyn Subject, toy: &Toy, case: &Case) -> Result<(), SceneError> {
        let ToyRepair { planned, .. } = ToyRepair::plan(subject, case)?;
        self.line(draw::LEGEND);
        self.line(format_args!("before  {}", draw::before(toy)));
        self.line(format_args!("after   {}", draw::after(toy, &planned)));
        if let Ok(layout) = &planned {
            self.line(format_args!(
                "plan    a reftable of {} clusters at cluster {} and {} refblocks, after {} tries",
                layout.reftable_clusters(),
                layout.reftable.start,
                layout.refblocks.len(),
                layout.tries
            ));
        }
        let brute = Brute::new(*toy);
        let run = Planning::new(case.algorithm, &planned, &brute);
        self.verdicts.extend(run.verdicts(|_| true));
        Ok(())
    }

    /// What the bytes show.
    fn bytes(&mut self, case: &Case, before: &Before, repair: &dyn Repair, bounds: &Bounds) {
        self.line("\nthe image before");
        self.text += &picture::of(&before.reading);
        let explored = run::explore_one(repair, before, bounds);
        self.run(before, &explored.quiet);
        if !explored.faults.is_empty() {
            self.line(format_args!(
                "\nfaults that break it: {:?}",
                explored.faults
            ));
        }
        self.add(explored.verdicts);
        self.schedule(case, before, repair, &explored.quiet);
        self.verdicts.sort_by_key(|(property, _)| *property);
        self.line("");
        for (property, verdict) in self.verdicts.clone() {
            let says = match verdict {
                Verdict::Holds => "holds".to_owned(),
                Verdict::NotApplicable => "says nothing of this case".to_owned(),
                Verdict::Fails(failure) => format!("FAILS: {failure}"),
            };
            self.line(format_args!("{property:28}{says}"));
        }
    }

    /// Verdicts beside those that there are.
    fn add(&mut self, verdicts: Vec<(Property, Verdict)>) {
        for (property, verdict) in verdicts {
            let mut known = self.verdicts.iter_mut();
            match known.find(|(known, _)| *known == property) {
                None => self.verdicts.push((property, verdict)),
                Some((_, known)) => *known = known.clone().and(|| verdict),
            }
        }
    }

    /// What was done, and what came of it.
    fn run(&mut self, before: &Before, run: &Run) {
        self.line("\nwrites and flushes, in order");
        for event in run.trace.events.iter().take(EVENTS_MAX) {
            self.line(format_args!("  {event}"));
        }
        if let Some(more) = run.trace.events.len().checked_sub(EVENTS_MAX + 1) {
            self.line(format_args!("  and {} more", more + 1));
        }
        match &run.outcome {
            Ok(_) => self.line("the repair ends well"),
            Err(stopped) => self.line(format_args!("it stops: {stopped}")),
        }
        self.after(before, &run.after);
    }

    fn after(&mut self, before: &Before, bytes: &SparseBytes) {
        self.line("\nthe image after");
        match before.kind.read(bytes) {
            Ok(reading) => self.text += &picture::of(&reading),
            Err(error) => self.line(format_args!("  {error}")),
        }
    }

    /// The run in which happens what the case says.
    fn schedule(&mut self, case: &Case, before: &Before, repair: &dyn Repair, quiet: &Run) {
        match &case.schedule {
            Schedule::Quiet => (),
            Schedule::Crash(crash) => {
                self.line(format_args!("\nafter a power cut: {crash:?}"));
                let undo = undo_restores::judge(before, quiet, repair, Points::At(*crash));
                self.add(vec![(Property::UndoRestores, undo)]);
                let left = crash::state(&before.bytes, &quiet.trace, *crash);
                self.after(before, &left);
                self.again(before, repair, quiet, left);
            }
            Schedule::Faults(faults) => {
                self.line(format_args!("\nwith failing operations: {faults:?}"));
                let run = run::run(repair, before, faults);
                self.run(before, &run);
                self.again(before, repair, quiet, run.after);
            }
        }
    }

    /// The repair of what is left then.
    fn again(&mut self, before: &Before, repair: &dyn Repair, quiet: &Run, left: SparseBytes) {
        match run::again(before, repair, quiet, left) {
            Ok(None) => (),
            Ok(Some(again)) => {
                self.line("\nthe next repair");
                self.run(&again.left, &again.run);
                self.add(again.verdicts);
            }
            Err(failure) => self.add(vec![(Property::CrashAtomic, Verdict::Fails(failure))]),
        }
    }
}
