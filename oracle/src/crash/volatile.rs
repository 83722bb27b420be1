//! What a power cut may leave of what was written, at one point of a trace.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::case::damage::SparseBytes;
use crate::disk::Event;

/// The key of the file's length among the sectors: no sector has this number.
const LENGTH: u64 = u64::MAX;

/// What is durable, and what else each sector may turn out to be.
#[derive(Debug)]
pub(super) struct Volatile {
    sector: u64,
    /// Content by position. Its own length means nothing: what was written past the file's length
    /// becomes visible only with that length.
    durable: SparseBytes,
    length: u64,
    unsettled: BTreeMap<u64, Unsettled>,
    /// Events applied so far.
    events: usize,
    /// The last of them was a durable write, and it has become so.
    ended: bool,
}

/// A sector, or the length, that may be one of several.
#[derive(Debug)]
struct Unsettled {
    /// What it may be besides what is durable, in the order of writing.
    versions: Vec<Version>,
    /// What a program reads: a position in `versions`; `None` while it is what is durable.
    live: Option<usize>,
    /// A flush no longer settles it: one has failed since it was written, or its write failed.
    doubtful: bool,
}

#[derive(Debug)]
struct Version {
    content: Content,
    /// Which event it comes from, from 0.
    event: usize,
}

/// What a sector holds, or how long the file is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Sector(Box<[u8]>),
    Length(u64),
}

/// One thing that a power cut decides: the content of a sector, or the length.
pub(super) struct Item<'a> {
    key: u64,
    /// All different; the first is what is durable.
    choices: Vec<(Content, Option<usize>)>,
    /// The choice that a program reads.
    pub(super) live: usize,
    volatile: &'a Volatile,
}

impl Item<'_> {
    /// How many possibilities there are: two or more.
    pub(super) const fn choices(&self) -> usize {
        self.choices.len()
    }

    /// The byte at which the sector begins; `None` for the length.
    pub(super) const fn offset(&self) -> Option<u64> {
        if self.key == LENGTH {
            return None;
        }
        Some(self.key * self.volatile.sector)
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
    pub(super) fn new(before: SparseBytes, sector: u64) -> Self {
        Self {
            sector,
            length: before.len(),
            durable: before,
            unsettled: BTreeMap::new(),
            events: 0,
            ended: false,
        }
    }

    /// Events applied so far.
    pub(super) const fn events(&self) -> usize {
        self.events
    }

    /// Everything that a power cut now decides, in the order of the sectors, the length last.
    pub(super) fn items(&self) -> Vec<Item<'_>> {
        self.unsettled
            .iter()
            .map(|(&key, unsettled)| self.item(key, unsettled))
            .filter(|item| item.choices() > 1)
            .collect()
    }

    fn item(&self, key: u64, unsettled: &Unsettled) -> Item<'_> {
        let mut choices = vec![(self.durable_content(key), None)];
        let mut live = 0;
        for (index, version) in unsettled.versions.iter().enumerate() {
            let same = |(content, _): &(Content, _)| *content == version.content;
            let choice = choices.iter().position(same).unwrap_or_else(|| {
                choices.push((version.content.clone(), Some(version.event)));
                choices.len() - 1
            });
            if unsettled.live == Some(index) {
                live = choice;
            }
        }
        Item {
            key,
            choices,
            live,
            volatile: self,
        }
    }

    /// The bytes after a power cut that decided so: for each item the number of a choice.
    pub(super) fn state(&self, items: &[Item<'_>], selection: &[usize]) -> SparseBytes {
        let mut bytes = self.durable.clone();
        let mut length = self.length;
        for (item, &choice) in items.iter().zip(selection) {
            if choice > 0 {
                match &item.choices[choice].0 {
                    Content::Sector(content) => put(&mut bytes, item.key * self.sector, content),
                    Content::Length(kept) => length = *kept,
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

    /// Whether the last event was a durable write, and it has become so.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
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
                for unsettled in self.unsettled.values_mut() {
                    unsettled.doubtful = true;
                }
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
            let sector = at / self.sector;
            let start = sector * self.sector;
            let stop = end.min(start + self.sector);
            let mut content = self.live_sector(sector);
            let source = &bytes[(at - offset) as usize..(stop - offset) as usize];
            content[(at - start) as usize..(stop - start) as usize].copy_from_slice(source);
            self.add(sector, Content::Sector(content), succeeded);
            at = stop;
        }
        if end > self.live_length() && !bytes.is_empty() {
            self.add(LENGTH, Content::Length(end), succeeded);
        }
    }

    fn discard(&mut self, offset: u64, length: u64) {
        let end = offset.saturating_add(length).min(self.live_length());
        for sector in self.sectors_within(offset.div_ceil(self.sector)..end / self.sector) {
            self.zero(sector, 0);
            // A discard may never happen: no flush settles it.
            if let Some(unsettled) = self.unsettled.get_mut(&sector) {
                unsettled.doubtful = true;
            }
        }
    }

    fn set_len(&mut self, length: u64) {
        let old = self.live_length();
        if length < old {
            // What is cut off reads as zeros should the file grow again.
            let cut_short = (length % self.sector) as usize;
            self.zero(length / self.sector, cut_short);
            for sector in self.sectors_within(length / self.sector + 1..old.div_ceil(self.sector)) {
                self.zero(sector, 0);
            }
        }
        if length != old {
            self.add(LENGTH, Content::Length(length), true);
        }
    }

    /// The sectors of a stretch that may hold anything but zeros: a hole is passed over.
    fn sectors_within(&self, stretch: Range<u64>) -> BTreeSet<u64> {
        let pages = self.durable.pages();
        let pages = pages.flat_map(|(start, page)| {
            let stop = start + page.len() as u64;
            let first = (start / self.sector).max(stretch.start);
            first..stop.div_ceil(self.sector).min(stretch.end)
        });
        let unsettled = self
            .unsettled
            .range(stretch.start..stretch.end.max(stretch.start));
        pages.chain(unsettled.map(|(&sector, _)| sector)).collect()
    }

    /// Fills a sector with zeros from its byte `from` on.
    fn zero(&mut self, sector: u64, from: usize) {
        let mut content = self.live_sector(sector);
        if content[from..].iter().any(|&byte| byte != 0) {
            content[from..].fill(0);
            self.add(sector, Content::Sector(content), true);
        }
    }

    fn add(&mut self, key: u64, content: Content, succeeded: bool) {
        let event = self.events;
        let unsettled = self.unsettled.entry(key).or_insert(Unsettled {
            versions: Vec::new(),
            live: None,
            doubtful: false,
        });
        if succeeded {
            unsettled.live = Some(unsettled.versions.len());
        }
        unsettled.doubtful = !succeeded;
        unsettled.versions.push(Version { content, event });
    }

    /// Makes durable what programs read, except what is doubtful.
    fn settle(&mut self) {
        let (doubtful, settled) = std::mem::take(&mut self.unsettled)
            .into_iter()
            .partition(|(_, unsettled)| unsettled.doubtful);
        self.unsettled = doubtful;
        let settled: BTreeMap<u64, Unsettled> = settled;
        for (key, unsettled) in settled {
            self.make_durable(key, unsettled);
        }
    }

    /// Makes a write durable that did not wait for a flush, and the length with it.
    fn settle_write(&mut self, offset: u64, length: u64) {
        let first = offset / self.sector;
        let end = (offset + length).div_ceil(self.sector);
        for key in (first..end).chain([LENGTH]) {
            if let Some(unsettled) = self.unsettled.remove(&key) {
                self.make_durable(key, unsettled);
            }
        }
    }

    fn make_durable(&mut self, key: u64, mut unsettled: Unsettled) {
        if let Some(live) = unsettled.live {
            match unsettled.versions.swap_remove(live).content {
                Content::Sector(content) => put(&mut self.durable, key * self.sector, &content),
                Content::Length(length) => self.length = length,
            }
        }
    }

    fn durable_content(&self, key: u64) -> Content {
        if key == LENGTH {
            return Content::Length(self.length);
        }
        let bytes = self.durable.bytes(key * self.sector, self.sector as usize);
        Content::Sector(bytes.into_boxed_slice())
    }

    fn live_content(&self, key: u64) -> Content {
        let version = self
            .unsettled
            .get(&key)
            .and_then(|unsettled| unsettled.versions.get(unsettled.live?));
        version.map_or_else(
            || self.durable_content(key),
            |version| version.content.clone(),
        )
    }

    fn live_sector(&self, sector: u64) -> Box<[u8]> {
        match self.live_content(sector) {
            Content::Sector(bytes) => bytes,
            Content::Length(_) => unreachable!("no sector has the key of the length"),
        }
    }

    fn live_length(&self) -> u64 {
        match self.live_content(LENGTH) {
            Content::Length(length) => length,
            Content::Sector(_) => unreachable!("the length's key is no sector's"),
        }
    }
}

/// Writes to memory, where the only failure is a position past 2^64, and no sector is there.
fn put(bytes: &mut SparseBytes, offset: u64, content: &[u8]) {
    bytes
        .write_at(offset, content)
        .expect("an addressable sector");
}
