//! What came of a subject, in one sentence.

/// How a subject did by one property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The property.
    pub property: &'a str,
    /// Images of which it does not hold.
    pub failed: u64,
    /// Images of which it says anything.
    pub said: u64,
    /// Images that the subject declined.
    pub declined: u64,
}

/// What a failure means to whoever has such an image, the worst first, and of which images.
const MEANS: [(&str, &str, &str); 12] = [
    ("healthy-stays-healthy", "breaks", "with nothing wrong"),
    ("keeps-guest-data", "loses guest data of", ""),
    ("no-overlap", "puts tables over what is in use in", ""),
    (
        "leaves-data-alone",
        "changes what it has to leave alone in",
        "",
    ),
    (
        "keeps-what-it-cannot-follow",
        "gives up what damage hides in",
        "",
    ),
    ("good-in-use", "leaves to break under the next writer", ""),
    ("counts-every-cluster", "leaves wrong refcounts in", ""),
    ("keeps-header-settings", "changes settings of", ""),
    ("ends", "does not end by itself with", ""),
    ("repairs", "does not repair", "that can be repaired"),
    ("checks-rightly", "says what is not so of", "that it checks"),
    ("others-agree", "leaves what others find broken in", ""),
];
/// The properties that every image is asked for that a subject may decline: of a repair, of a check.
const DECLINED: [&str; 2] = ["repairs", "checks-rightly"];
/// Those that every image is asked for that was not declined.
const JUDGED: [&str; 2] = ["ends", "checks-rightly"];
/// So many properties are told.
const TOLD: usize = 3;

/// What came of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Whether it was judged and failed nowhere.
    pub good: bool,
    /// In words.
    pub text: String,
}

/// The sentence.
pub fn sentence(subject: &str, asked: &[Asked<'_>]) -> Sentence {
    let said = |good, text| Sentence { good, text };
    let of = |properties: [&str; 2], count: fn(&Asked<'_>) -> u64| {
        let asked = asked.iter();
        let asked = asked.filter(|one| properties.contains(&one.property));
        asked.map(count).max().unwrap_or(0)
    };
    let declined = of(DECLINED, |one| one.declined);
    let judged = of(JUDGED, |one| one.said);
    let also = match declined {
        0 => String::new(),
        some => format!("; it declined {}", images(some)),
    };
    let failed = asked.iter().filter(|one| one.failed > 0).count();
    if judged == 0 {
        let declined = if declined == 0 {
            "was asked nothing"
        } else {
            "declined every image"
        };
        return said(
            false,
            format!("{subject} {declined}: nothing of it was judged."),
        );
    }
    if failed == 0 {
        return said(
            true,
            format!("{subject} did nothing wrong with {}{also}.", images(judged)),
        );
    }
    let mut told = Vec::new();
    for (property, does, which) in MEANS {
        let it = asked
            .iter()
            .find(|one| one.property == property && one.failed > 0);
        told.extend(it.map(|one| {
            let text = format!("{does} {} of {} {which}", one.failed, images(one.said));
            text.trim_end().to_owned()
        }));
    }
    told.truncate(TOLD);
    let more = if told.is_empty() { "" } else { " more" };
    match failed - told.len() {
        0 => {}
        1 => told.push(format!("fails in one{more} way")),
        ways => told.push(format!("fails in {ways}{more} ways")),
    }
    let last = told.pop().unwrap_or_default();
    let list = match told.len() {
        0 => last,
        _ => format!("{} and {last}", told.join(", ")),
    };
    said(
        false,
        format!("{subject} is not safe to use: it {list}{also}."),
    )
}

fn images(count: u64) -> String {
    match count {
        1 => "1 image".to_owned(),
        _ => format!("{count} images"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn asked(property: &str, failed: u64, said: u64, declined: u64) -> Asked<'_> {
        Asked {
            property,
            failed,
            said,
            declined,
        }
    }

    #[test]
    fn the_worst_comes_first() {
        let all = [
            asked("counts-every-cluster", 5, 40, 0),
            asked("healthy-stays-healthy", 3, 8, 0),
            asked("repairs", 2, 38, 4),
            asked("ends", 0, 48, 0),
        ];
        assert_eq!(
            sentence("mine", &all).text,
            "mine is not safe to use: it breaks 3 of 8 images with nothing wrong, leaves wrong \
             refcounts in 5 of 40 images and does not repair 2 of 38 images that can be repaired; it \
             declined 4 images."
        );
    }

    #[test]
    fn one_that_fails_nowhere_and_one_that_declines_all_are_told_apart() {
        let good = [asked("repairs", 0, 0, 0), asked("ends", 0, 1, 0)];
        let checks = [asked("checks-rightly", 7, 12, 1)];
        assert_eq!(
            sentence("d", &checks).text,
            "d is not safe to use: it says what is not so of 7 of 12 images that it checks; it declined \
             1 image."
        );
        let nothing = [asked("repairs", 0, 0, 3)];
        assert_eq!(
            sentence("a", &good).text,
            "a did nothing wrong with 1 image."
        );
        assert!(sentence("a", &good).good && !sentence("b", &nothing).good);
        let declined = "b declined every image: nothing of it was judged.";
        assert_eq!(sentence("b", &nothing).text, declined);
    }

    #[test]
    fn what_has_no_words_of_its_own_is_counted() {
        let all = ["crash-atomic", "no-leaks", "ends"].map(|name| asked(name, 1, 9, 0));
        let said = sentence("c", &all).text;
        assert_eq!(
            said,
            "c is not safe to use: it does not end by itself with 1 of 9 images and fails in 2 more ways."
        );
    }
}
