//! A toy, planned and written by each algorithm; every property has its say.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use recount_oracle::fuzz::{Target, Use, settings};
use recount_subjects::Recount;

fuzz_target!(init: settings::settle(Target::Rebuild), |input: &[u8]| -> Corpus {
    match Target::Rebuild.judge(&Recount, input) {
        Ok(Use::Judged) => Corpus::Keep,
        Ok(Use::Costly | Use::TooMuchWork | Use::Refused) => Corpus::Reject,
        Err(broken) => panic!("{broken}"),
    }
});
