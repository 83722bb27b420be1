//! What a power cut may leave of what was written, at one point of a trace.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::case::damage::SparseBytes;
use crate::disk::{Event, SECTOR};

/// The key of the file's length among the sectors: no sector has this number.
const LENGTH: u64 = u64::MAX;

/// The bytes of a sector, or those of the file's length (big-endian).
type Content = Box<[u8]>;

/// What is durable, and what else each sector may turn out to be.
#[derive(Debug)]
pub(super) struct Volatile {
    /// Content by position. Its own length means nothing: what was written past the file's length
    /// becomes visible only with that length.
    durable: SparseBytes,
    length: u64,
    unsettled: BTreeMap<u64, Item>,
    /// Events applied so far.
    pub(super) events: usize,
    /// The last of them was a durable write, and it has become so.
    pub(super) ended: bool,
}

/// One thing that a power cut decides: the content of a sector, or the length.
#[derive(Debug)]
pub(super) struct Item {
    /// The byte at which the sector begins; `None` for the length.
    pub(super) offset: Option<u64>,
    /// All different, in the order of writing, each with the event (from 0) that it comes from; the
    /// first is what is durable.
    choices: Vec<(Content, Option<usize>)>,
    /// The choice that a program reads.
    pub(super) live: usize,
    /// A flush no longer settles it: one has failed since it was written, or its write failed.
    doubtful: bool,
}

impl Item {
    /// How many possibilities there are.
    pub(super) const fn choices(&self) -> usize {
        self.choices.len()
    }

    /// The choice that would be read if nothing after the event number `event` had happened.
    pub(super) fn as_of(&self, event: usize) -> usize {
        let earlier = |(_, from): &(Content, Option<usize>)| from.is_none_or(|from| from <= event);
        self.choices.iter().rposition(earlier).unwrap_or(0)
    }

    /// The events that it was written by.
    pub(super) fn events(&self) -> impl Iterator<Item = usize> + '_ {
        self.choices.iter().filter_map(|(_, event)| *event)
    }
}

impl Volatile {
    pub(super) fn new(before: SparseBytes) -> Self {
        Self {
            length: before.len(),
            durable: before,
            unsettled: BTreeMap::new(),
            events: 0,
            ended: false,
        }
    }

    /// Everything that a power cut now decides, in the order of the sectors, the length last.
    pub(super) fn items(&self) -> Vec<&Item> {
        let items = self.unsettled.values();
        items.filter(|item| item.choices() > 1).collect()
    }

    /// The bytes after a power cut that decided so: for each item the number of a choice.
    pub(super) fn state(&self, items: &[&Item], selection: &[usize]) -> SparseBytes {
        let mut bytes = self.durable.clone();
        let mut length = self.length;
        for (item, &choice) in items.iter().zip(selection) {
            if choice > 0 {
                let (content, _) = &item.choices[choice];
                match item.offset {
                    Some(offset) => bytes.put(offset, content),
                    None => length = number(content),
                }
            }
        }
        bytes.set_len(length);
        bytes
    }

    /// Whether anything is unsettled.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// Does what happens when an event begins: more becomes possible, or, at a flush, less.
    pub(super) fn begin(&mut self, event: &Event) {
        match event {
            Event::Write { offset, bytes, .. } => self.write(*offset, bytes, true),
            Event::WriteFailed { offset, bytes } => self.write(*offset, bytes, false),
            Event::Discard { offset, length } => self.discard(*offset, *length),
            Event::SetLen { length } => self.set_len(*length),
            Event::Flush => self.settle(),
            Event::FlushFailed => {
                let unsettled = self.unsettled.values_mut();
                unsettled.for_each(|item| item.doubtful = true);
            }
        }
        self.events += 1;
        self.ended = false;
    }

    /// Does what happens when an event has ended: a write that did not wait for a flush is durable.
    pub(super) fn end(&mut self, event: &Event) {
        if let Event::Write {
            offset,
            bytes,
            durable: true,
        } = event
        {
            self.settle_write(*offset, bytes.len() as u64);
            self.ended = true;
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8], succeeded: bool) {
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            let sector = at / SECTOR;
            let start = sector * SECTOR;
            let stop = end.min(start + SECTOR);
            let mut content = self.live(sector);
            let source = &bytes[(at - offset) as usize..(stop - offset) as usize];
            content[(at - start) as usize..(stop - start) as usize].copy_from_slice(source);
            self.add(sector, content, succeeded);
            at = stop;
        }
        if end > self.live_length() && !bytes.is_empty() {
            self.add_length(end, succeeded);
        }
    }

    fn discard(&mut self, offset: u64, length: u64) {
        let end = offset.saturating_add(length).min(self.live_length());
        for sector in self.sectors_within(offset.div_ceil(SECTOR)..end / SECTOR) {
            self.zero(sector, 0);
            // A discard may never happen: no flush settles it.
            if let Some(item) = self.unsettled.get_mut(&sector) {
                item.doubtful = true;
            }
        }
    }

    fn set_len(&mut self, length: u64) {
        let old = self.live_length();
        if length < old {
            // What is cut off reads as zeros should the file grow again.
            let cut_short = (length % SECTOR) as usize;
            self.zero(length / SECTOR, cut_short);
            for sector in self.sectors_within(length / SECTOR + 1..old.div_ceil(SECTOR)) {
                self.zero(sector, 0);
            }
        }
        if length != old {
            self.add_length(length, true);
        }
    }

    /// The sectors of a stretch that may hold anything but zeros: a hole is passed over.
    fn sectors_within(&self, stretch: Range<u64>) -> BTreeSet<u64> {
        let pages = self.durable.pages().flat_map(|(start, page)| {
            let stop = (start + page.len() as u64).div_ceil(SECTOR);
            (start / SECTOR).max(stretch.start)..stop.min(stretch.end)
        });
        let unsettled = self.unsettled.keys().copied();
        let unsettled = unsettled.filter(|sector| stretch.contains(sector));
        pages.chain(unsettled).collect()
    }

    /// Fills a sector with zeros from its byte `from` on.
    fn zero(&mut self, sector: u64, from: usize) {
        let mut content = self.live(sector);
        if content[from..].iter().any(|&byte| byte != 0) {
            content[from..].fill(0);
            self.add(sector, content, true);
        }
    }

    fn add(&mut self, key: u64, content: Content, succeeded: bool) {
        if !self.unsettled.contains_key(&key) {
            let item = Item {
                offset: (key != LENGTH).then(|| key * SECTOR),
                choices: vec![(self.durable(key), None)],
                live: 0,
                doubtful: false,
            };
            self.unsettled.insert(key, item);
        }
        let item = self.unsettled.get_mut(&key).expect("inserted above");
        let mut known = item.choices.iter();
        let choice = known.position(|(known, _)| *known == content);
        let choice = choice.unwrap_or_else(|| {
            item.choices.push((content, Some(self.events)));
            item.choices.len() - 1
        });
        if succeeded {
            item.live = choice;
        }
        item.doubtful = !succeeded;
    }

    fn add_length(&mut self, length: u64, succeeded: bool) {
        self.add(LENGTH, length.to_be_bytes().into(), succeeded);
    }

    /// Makes durable what programs read, except what is doubtful.
    fn settle(&mut self) {
        let all = std::mem::take(&mut self.unsettled).into_iter();
        let (doubtful, settled): (BTreeMap<_, _>, _) = all.partition(|(_, item)| item.doubtful);
        self.unsettled = doubtful;
        for item in settled.into_values() {
            self.make_durable(item);
        }
    }

    /// Makes a write durable that did not wait for a flush, and the length with it.
    fn settle_write(&mut self, offset: u64, length: u64) {
        let end = (offset + length).div_ceil(SECTOR);
        for key in (offset / SECTOR..end).chain([LENGTH]) {
            if let Some(item) = self.unsettled.remove(&key) {
                self.make_durable(item);
            }
        }
    }

    fn make_durable(&mut self, mut item: Item) {
        let (content, _) = item.choices.swap_remove(item.live);
        match item.offset {
            Some(offset) => self.durable.put(offset, &content),
            None => self.length = number(&content),
        }
    }

    fn durable(&self, key: u64) -> Content {
        match key {
            LENGTH => self.length.to_be_bytes().into(),
            sector => {
                let size = SECTOR as usize;
                self.durable.bytes(sector * SECTOR, size).into()
            }
        }
    }

    /// What programs read.
    fn live(&self, key: u64) -> Content {
        match self.unsettled.get(&key) {
            Some(item) => item.choices[item.live].0.clone(),
            None => self.durable(key),
        }
    }

    fn live_length(&self) -> u64 {
        number(&self.live(LENGTH))
    }
}

fn number(length: &[u8]) -> u64 {
    let bytes = length.try_into();
    u64::from_be_bytes(bytes.expect("a length has eight bytes"))
}
