//! Whether what a program's check says of an image is so: held against the audit, by its exit code and,
//! where it prints the JSON of qemu-img, by that.

use recount_oracle::audit::{self, Audit, Unreadable};
use recount_oracle::case::observed::Ended;
use recount_oracle::class::Class;
use recount_oracle::requirements::first_wrong;

use super::exhibit::Exhibit;
use super::question::Answer;
use super::subject::Repaired;

/// What is said of a check. One that says, with an exit code that is neither 0 nor 2 or 3, that it does
/// not look at an image with nothing wrong has declined it, where it may.
pub fn checks_rightly(exhibit: &Exhibit<'_>, checked: &Repaired, may_decline: bool) -> Answer {
    let said = &checked.said;
    let wrong = match (&exhibit.audit, said.ended) {
        _ if checked.image != exhibit.damaged => "the check changed the image".to_owned(),
        (_, Ended::Signal(_) | Ended::TimedOut) => "the check did not end by itself".to_owned(),
        (Err(Unreadable::TooMuchWork), _) => return Answer::NotApplicable,
        (Err(error), Ended::Code(0)) => {
            format!("the check finds nothing wrong with an image that cannot be opened: {error}")
        }
        (Err(_), _) => return Answer::Passed,
        (Ok(audit), Ended::Code(0)) if !audit.is_clean() => {
            format!("the check finds nothing wrong, but {}", first_wrong(audit))
        }
        (Ok(audit), Ended::Code(2 | 3)) if audit.is_clean() => {
            "the check says that an undamaged image is broken".to_owned()
        }
        (Ok(audit), Ended::Code(1 | 4..)) if audit.is_clean() && may_decline => {
            return Answer::Declined;
        }
        (Ok(audit), Ended::Code(code)) if audit.is_clean() && code != 0 => {
            "the check does not look at an undamaged image".to_owned()
        }
        (Ok(audit), _) => match wrong_figure(exhibit, audit, checked) {
            Some(wrong) => wrong,
            None => return Answer::Passed,
        },
    };
    Answer::Failed(format!("{wrong}\n    the program: {said}"))
}

/// A figure of the JSON, if it printed any, that is not what it should be. What damage is worth is
/// counted in many ways: where there is any, only whether corruptions are found is asked.
fn wrong_figure(exhibit: &Exhibit<'_>, audit: &Audit, checked: &Repaired) -> Option<String> {
    checked.said.counters.as_ref()?;
    let figures = audit::counters(audit);
    let expected = [
        ("corruptions", figures.corruptions),
        ("leaks", figures.leaks),
    ];
    let is_sound = exhibit.is(Class::Sound);
    expected.into_iter().find_map(|(name, expected)| {
        let counted = checked.said.counter(name);
        let agrees = match u64::try_from(counted) {
            Ok(counted) if is_sound => counted == expected,
            Ok(counted) => name == "leaks" || (counted > 0) == (expected > 0),
            Err(_) => false,
        };
        let wrong = || format!("the check counts {counted} {name}; there are {expected}");
        (!agrees).then(wrong)
    })
}
