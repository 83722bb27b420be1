//! A case during whose repair operations fail: fault-safe, then a second repair ends clean.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use recount_oracle::fuzz::{Target, Use, settings};
use recount_subjects::Recount;

fuzz_target!(init: settings::settle(Target::Fault), |input: &[u8]| -> Corpus {
    match Target::Fault.judge(&Recount, input) {
        Ok(Use::Judged) => Corpus::Keep,
        Ok(Use::Costly | Use::TooMuchWork | Use::Refused) => Corpus::Reject,
        Err(broken) => panic!("{broken}"),
    }
});
