//! Any bytes as a qcow2 file: check, repair, check again.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};
use recount_oracle::fuzz::{Target, Use, mutate, settings};
use recount_subjects::Recount;

fuzz_target!(init: settings::settle(Target::Image), |input: &[u8]| -> Corpus {
    match Target::Image.judge(&Recount, input) {
        Ok(Use::Judged) => Corpus::Keep,
        Ok(Use::Costly | Use::TooMuchWork | Use::Refused) => Corpus::Reject,
        Err(broken) => panic!("{broken}"),
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Every eighth time what libFuzzer itself would do, its dictionary included.
    if seed.is_multiple_of(8) {
        fuzzer_mutate(data, size, max_size)
    } else {
        mutate::mutate(&mut data[..max_size], size, seed)
    }
});
