//! What several of these tests ask.

use recount_oracle::properties::Verdict;

/// It fails, and says this.
#[track_caller]
pub fn fails_with(verdict: Verdict, text: &str) {
    match verdict {
        Verdict::Fails(failure) => assert!(failure.message.contains(text), "{failure}"),
        other => panic!("{other:?}"),
    }
}
