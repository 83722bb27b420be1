//! What the guest must read: now, and after a power cut.

use recount_oracle::disk::SECTOR;
use smallvec::{SmallVec, smallvec};

use crate::sectors::{Content, View, ZEROS};

/// What a sector may read as: mostly one content.
type Allowed = SmallVec<[Content; 2]>;

/// The model of an image.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    active: Vec<Sector>,
    snapshots: Vec<Snapshot>,
}

#[derive(Clone, Debug)]
struct Sector {
    now: Allowed,
    /// After a power cut: what it was at the last flush, and everything since.
    cut: Allowed,
    /// Whether it was written or discarded since, also if with what it was already.
    is_touched: bool,
}

#[derive(Clone, Debug)]
struct Snapshot {
    name: String,
    sectors: Vec<Allowed>,
    /// Whether it was there at the last flush.
    flushed: bool,
    /// Whether it was deleted since.
    deleted: bool,
    /// Whether it failed to be taken or deleted, so that it may be there or not.
    maybe: bool,
}

/// When an image is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// After a power cut since the last flush, and before the next has returned.
    Cut,
    /// After a flush has returned, with or without a power cut.
    Flushed,
}

impl Model {
    /// The model of an image that reads so, and is durable.
    pub(crate) fn new(view: &View) -> Self {
        let sector = |&content: &Content| Sector {
            now: smallvec![content],
            cut: smallvec![content],
            is_touched: false,
        };
        let snapshot = |(name, read): &(String, Vec<Content>)| Snapshot {
            name: name.clone(),
            sectors: read.iter().map(|&content| smallvec![content]).collect(),
            flushed: true,
            deleted: false,
            maybe: false,
        };
        Self {
            active: view.active.iter().map(sector).collect(),
            snapshots: view.snapshots.iter().map(snapshot).collect(),
        }
    }

    /// The names of the snapshots that there are.
    pub(crate) fn snapshots(&self) -> impl Iterator<Item = &str> {
        let there = self.snapshots.iter().filter(|snapshot| !snapshot.deleted);
        there.map(|snapshot| snapshot.name.as_str())
    }

    /// Whether there is a snapshot of that name, or may be.
    pub(crate) fn has_snapshot(&self, name: &str) -> bool {
        self.snapshots().any(|snapshot| snapshot == name)
    }

    /// The sectors from this byte on have these contents, or may have them where the write has failed.
    pub(crate) fn write(
        &mut self,
        offset: u64,
        contents: impl Iterator<Item = Content>,
        is_done: bool,
    ) {
        let sectors = self.active.iter_mut().skip((offset / SECTOR) as usize);
        for (sector, content) in sectors.zip(contents) {
            if is_done {
                sector.now.clear();
            }
            add(&mut sector.now, content);
            add(&mut sector.cut, content);
            sector.is_touched = true;
        }
    }

    /// The sectors may read as zeros as well.
    pub(crate) fn discard(&mut self, offset: u64, length: u64) {
        let sectors = self.active.iter_mut().skip((offset / SECTOR) as usize);
        for sector in sectors.take((length / SECTOR) as usize) {
            add(&mut sector.now, *ZEROS);
            add(&mut sector.cut, *ZEROS);
            sector.is_touched = true;
        }
    }

    /// A snapshot is taken, or may be.
    pub(crate) fn snapshot(&mut self, name: &str, is_done: bool) {
        self.snapshots.push(Snapshot {
            name: name.to_owned(),
            sectors: self
                .active
                .iter()
                .map(|sector| sector.now.clone())
                .collect(),
            flushed: false,
            deleted: false,
            maybe: !is_done,
        });
    }

    /// A snapshot is deleted, or may be.
    pub(crate) fn delete_snapshot(&mut self, name: &str, is_done: bool) {
        let mut snapshots = self.snapshots.iter_mut();
        if let Some(snapshot) = snapshots.find(|snapshot| snapshot.name == name) {
            snapshot.deleted |= is_done;
            snapshot.maybe |= !is_done;
        }
    }

    /// All is durable, and reads so: what was open till now is decided.
    pub(crate) fn flush(&mut self, view: &View) {
        for (sector, read) in self.active.iter_mut().zip(&view.active) {
            sector.now = smallvec![*read];
            sector.cut.clone_from(&sector.now);
            sector.is_touched = false;
        }
        self.snapshots.retain(|snapshot| {
            let mut read = view.snapshots.iter();
            read.any(|(name, _)| *name == snapshot.name)
        });
        for snapshot in &mut self.snapshots {
            (snapshot.flushed, snapshot.deleted, snapshot.maybe) = (true, false, false);
            if let Some((_, read)) = view.snapshots.iter().find(|read| read.0 == snapshot.name) {
                snapshot.sectors = read.iter().map(|read| smallvec![*read]).collect();
            }
        }
    }

    /// Which sector of the active layer that was written since the last flush reads as something else
    /// than what it was or became, in words.
    pub(crate) fn stale(&self, view: &View) -> Option<String> {
        self.wrong_sector(view, Moment::Cut, |sector| sector.is_touched)
    }

    /// What reads otherwise than it must, in words. Of a power cut before the end of a flush that is
    /// only what was not written since the one before.
    pub(crate) fn wrong(&self, view: &View, moment: Moment) -> Option<String> {
        if view.active.len() != self.active.len() {
            let (sectors, now) = (self.active.len(), view.active.len());
            return Some(format!("the disk had {sectors} sectors and has {now} now"));
        }
        let certain = |sector: &Sector| moment == Moment::Flushed || !sector.is_touched;
        if let Some(wrong) = self.wrong_sector(view, moment, certain) {
            return Some(wrong);
        }
        // What is being taken or deleted may be there or not.
        let certain = |snapshot: &&Snapshot| {
            let is_decided = !snapshot.deleted && !snapshot.maybe;
            is_decided && (snapshot.flushed || moment == Moment::Flushed)
        };
        let mut certain = self.snapshots.iter().filter(certain);
        certain
            .find_map(|snapshot| snapshot.wrong(view))
            .or_else(|| {
                let read = view.snapshots.iter().map(|(name, _)| name);
                let mut extra = read.filter(|name| !self.snapshots().any(|known| known == *name));
                let extra = extra.next().filter(|_| moment == Moment::Flushed)?;
                Some(format!(
                    "there is a snapshot \"{extra}\", which was deleted or never taken"
                ))
            })
    }

    fn wrong_sector(
        &self,
        view: &View,
        moment: Moment,
        asked: impl Fn(&Sector) -> bool,
    ) -> Option<String> {
        let mut pairs = self.active.iter().zip(&view.active);
        let at = pairs
            .position(|(sector, read)| asked(sector) && !sector.allowed(moment).contains(read))?;
        let how = self.active[at].explain(view.active[at], moment);
        let at = at as u64 * SECTOR;
        Some(format!("guest offset {at:#x} of the active layer {how}"))
    }
}

impl Sector {
    const fn allowed(&self, moment: Moment) -> &Allowed {
        match moment {
            Moment::Cut => &self.cut,
            Moment::Flushed => &self.now,
        }
    }

    fn explain(&self, read: Content, moment: Moment) -> String {
        let read = if read == *ZEROS {
            "zeros"
        } else {
            "other data"
        };
        let must = match moment {
            Moment::Cut if self.is_touched => {
                "neither as it was flushed nor as it was written since"
            }
            Moment::Cut => "not as it was flushed",
            Moment::Flushed => "not as it was written and flushed",
        };
        format!("reads as {read}, {must}")
    }
}

impl Snapshot {
    fn wrong(&self, view: &View) -> Option<String> {
        let name = &self.name;
        let Some((_, read)) = view.snapshots.iter().find(|(name, _)| *name == self.name) else {
            return Some(format!("there is no snapshot \"{name}\""));
        };
        let mut pairs = self.sectors.iter().zip(read);
        let at = pairs.position(|(allowed, read)| !allowed.contains(read))? as u64 * SECTOR;
        Some(format!(
            "guest offset {at:#x} of snapshot \"{name}\" reads otherwise than when it was taken"
        ))
    }
}

fn add(allowed: &mut Allowed, content: Content) {
    if !allowed.contains(&content) {
        allowed.push(content);
    }
}
