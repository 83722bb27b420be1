//! What a power cut may leave: shown on traces of a few writes, where every state can be written
//! down. The content of a sector is one letter.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use recount_oracle::case::Crash;
use recount_oracle::case::damage::SparseBytes;
use recount_oracle::crash::{self, Limits};
use recount_oracle::disk::{self, Event, Trace};

const SECTOR: usize = disk::SECTOR as usize;

/// A disk with these letters on it.
fn letters(letters: &str) -> SparseBytes {
    let mut bytes = SparseBytes::default();
    for letter in letters.bytes() {
        let end = bytes.len();
        bytes.write_at(end, &[letter; SECTOR]).expect("memory");
    }
    bytes
}

fn write(sector: usize, letters: &str) -> Event {
    Event::Write {
        offset: (sector * SECTOR) as u64,
        bytes: letters.bytes().flat_map(|byte| [byte; SECTOR]).collect(),
        durable: false,
    }
}

fn failed(event: Event) -> Event {
    match event {
        Event::Write { offset, bytes, .. } => Event::WriteFailed { offset, bytes },
        other => other,
    }
}

fn durable(event: Event) -> Event {
    match event {
        Event::Write { offset, bytes, .. } => Event::Write {
            offset,
            bytes,
            durable: true,
        },
        other => other,
    }
}

/// A letter for each sector; zeros are dots.
fn spell(bytes: &SparseBytes) -> String {
    let length = bytes.len() as usize;
    let letter = |sector: &[u8]| {
        assert!(
            sector.iter().all(|byte| *byte == sector[0]),
            "a torn sector"
        );
        if sector[0] == 0 {
            '.'
        } else {
            sector[0].into()
        }
    };
    let bytes = bytes.bytes(0, length);
    bytes.chunks(SECTOR).map(letter).collect()
}

fn states_within(before: &str, events: &[Event], limits: &Limits) -> (u64, BTreeSet<String>) {
    let before = letters(before);
    let events = events.to_vec();
    let trace = Trace { events };
    let mut states = BTreeSet::new();
    let (count, found) = crash::each(&before, &trace, limits, |state| {
        states.insert(spell(state.bytes));
        if let Some(crash) = state.crash() {
            let named = spell(&crash::state(&before, &trace, crash));
            assert_eq!(named, spell(state.bytes), "{state} is {crash:?}");
        }
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(found, None);
    (count, states)
}

fn states(before: &str, events: &[Event]) -> Vec<String> {
    let (_, states) = states_within(before, events, &Limits::default());
    states.into_iter().collect()
}

#[test]
fn any_subset_of_what_was_not_flushed_is_lost() {
    let events = [write(0, "X"), write(2, "Z")];
    assert_eq!(
        states("abc", &events),
        ["Xbc", "XbZ", "abZ", "abc"].sorted()
    );
}

#[test]
fn a_write_of_several_sectors_is_torn_anywhere() {
    assert_eq!(
        states("abc", &[write(1, "YZ")]),
        ["aYZ", "aYc", "abZ", "abc"]
    );
}

#[test]
fn a_flush_makes_what_was_written_before_it_durable() {
    let events = [write(0, "X"), Event::Flush, write(1, "Y"), Event::Flush];
    assert_eq!(states("ab", &events), ["XY", "Xb", "ab"]);
}

#[test]
fn a_sector_written_twice_comes_back_with_either_content() {
    let events = [write(0, "X"), write(0, "Y")];
    assert_eq!(states("ab", &events), ["Xb", "Yb", "ab"]);
}

#[test]
fn a_durable_write_overtakes_what_was_written_before_it() {
    let events = [write(0, "X"), durable(write(1, "Y"))];
    assert_eq!(states("ab", &events), ["XY", "Xb", "aY", "ab"]);
    let events = [durable(write(1, "Y")), write(0, "X")];
    assert_eq!(states("ab", &events), ["XY", "aY", "ab"]);
}

#[test]
fn after_a_failed_flush_only_writing_again_helps() {
    let lost = [
        write(0, "X"),
        Event::FlushFailed,
        Event::Flush,
        write(1, "Y"),
    ];
    assert_eq!(states("ab", &lost), ["XY", "Xb", "aY", "ab"]);
    let again = [
        write(0, "X"),
        Event::FlushFailed,
        write(0, "X"),
        Event::Flush,
    ];
    let more = again.into_iter().chain([write(1, "Y")]).collect::<Vec<_>>();
    assert_eq!(states("ab", &more), ["XY", "Xb", "ab"]);
}

#[test]
fn a_failed_write_may_reach_the_disk_even_after_a_flush() {
    let events = [failed(write(0, "X")), Event::Flush, write(1, "Y")];
    assert_eq!(states("ab", &events), ["XY", "Xb", "aY", "ab"]);
}

#[test]
fn a_lost_length_hides_what_was_written_past_it_and_a_kept_one_shows_zeros() {
    assert_eq!(states("a", &[write(1, "Y")]), ["a", "a.", "aY"]);
    let set_len = Event::SetLen { length: 1024 };
    assert_eq!(states("a", std::slice::from_ref(&set_len)), ["a", "a."]);
    assert_eq!(
        states("a", &[set_len, Event::Flush, write(1, "Y")]),
        ["a", "a.", "aY"]
    );
}

#[test]
fn what_was_cut_off_is_zeros_when_the_file_grows_again() {
    let (short, long) = (
        Event::SetLen { length: 512 },
        Event::SetLen { length: 1024 },
    );
    let events = [short, Event::Flush, long, Event::Flush];
    assert_eq!(states("ab", &events), ["a", "a.", "ab"]);
}

#[test]
fn a_discard_may_happen_or_not_whatever_is_flushed() {
    let discard = Event::Discard {
        offset: 0,
        length: 512,
    };
    assert_eq!(
        states("ab", &[discard, Event::Flush, write(1, "Y")]),
        [".Y", ".b", "aY", "ab"]
    );
}

#[test]
fn states_that_do_not_differ_are_visited_once() {
    let events = [
        write(0, "a"),
        write(1, "X"),
        write(1, "X"),
        Event::Flush,
        Event::Flush,
    ];
    let (count, states) = states_within("ab", &events, &Limits::default());
    assert_eq!((count, states.len()), (2, 2));
}

#[test]
fn where_there_are_too_many_states_the_telling_ones_are_visited() {
    let before = "a".repeat(40);
    let limits = Limits {
        exhaustive_bits: 4,
        samples: 50,
        seed: 7,
    };
    let events = [write(0, &"X".repeat(20)), write(20, &"Y".repeat(20))];
    let (count, states) = states_within(&before, &events, &limits);
    assert_eq!(count, states.len() as u64);
    let whole = format!("{}{}", "X".repeat(20), "Y".repeat(20));
    let mut telling = vec![before.clone(), whole.clone()];
    telling.push(format!("{}{}", "X".repeat(20), "a".repeat(20)));
    telling.push(format!("{}{}", "X".repeat(10), "a".repeat(30)));
    telling.push(format!(
        "{}{}{}",
        "X".repeat(20),
        "Y".repeat(10),
        "a".repeat(10)
    ));
    for sector in 0..40 {
        let mut one_lost = whole.clone();
        one_lost.replace_range(sector..=sector, "a");
        let mut one_kept = before.clone();
        one_kept.replace_range(sector..=sector, &whole[sector..=sector]);
        telling.extend([one_lost, one_kept]);
    }
    for state in telling {
        assert!(states.contains(&state), "{state}");
    }
    assert!(states.len() > 120, "and random ones: {}", states.len());
}

#[test]
fn a_case_names_a_point_modulo_the_length_of_the_trace() {
    let before = letters("ab");
    let events = vec![write(0, "X"), write(1, "Y")];
    let trace = Trace { events };
    let state = |after, kept| spell(&crash::state(&before, &trace, Crash { after, kept }));
    assert_eq!(state(0, u64::MAX), "ab");
    assert_eq!(state(1, u64::MAX), "Xb");
    assert_eq!(state(2, u64::MAX), "XY");
    assert_eq!(state(3, u64::MAX), "ab");
    assert_eq!(state(2, 0), "ab");
}

/// Sorting, so that expected states can be written in the order of their story.
trait Sorted {
    fn sorted(self) -> Self;
}

impl<const N: usize> Sorted for [&str; N] {
    fn sorted(mut self) -> Self {
        self.sort_unstable();
        self
    }
}
