//! A case during whose repair the power fails: crash-atomic, then a second repair ends clean.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use recount_oracle::fuzz::{Target, Use, settings};
use recount_subjects::Recount;

fuzz_target!(init: settings::settle(Target::Crash), |input: &[u8]| -> Corpus {
    match Target::Crash.judge(&Recount, input) {
        Ok(Use::Judged) => Corpus::Keep,
        Ok(Use::Costly | Use::TooMuchWork | Use::Refused) => Corpus::Reject,
        Err(broken) => panic!("{broken}"),
    }
});
