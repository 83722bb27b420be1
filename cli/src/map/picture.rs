//! A map counted and brought into a number of cells, whatever the size of the image.

use std::convert::Infallible;

use recount::map::{Map, Use};
use recount::{Run, RunSet};

use super::mark::{Mark, Marks, USES};
use super::past_end::PastEnd;

/// What is drawn of one image.
pub struct Picture {
    pub map: Map,
    /// Clusters past the end of the file that something leads to.
    pub past_end: RunSet,
    /// Clusters of the file by what is shown of them. There are no more than a few dozens.
    counts: Vec<(Marks, u64)>,
}

/// Clusters side by side that make one cell each, from the first of the file on.
pub struct Grid {
    /// How many clusters a cell stands for.
    pub clusters: u64,
    /// One after the last cluster of the last cell.
    pub end: u64,
    pub cells: Vec<Cell>,
}

/// What is drawn in one place. One without marks lies past the end of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// All that its clusters have.
    pub marks: Marks,
    /// What most of them are used as that are not free.
    pub holds: Option<Mark>,
    /// In the last cell, the first cluster that lies too far past the end to be drawn in its place.
    pub far: Option<u64>,
}

impl Cell {
    /// What it is known by.
    pub fn worst(&self) -> Option<Mark> {
        self.marks.worst_problem().or(self.holds)
    }
}

impl Picture {
    pub fn new(map: Map, past_end: PastEnd<'_>) -> Self {
        let past_end = past_end.after(&map);
        let mut counts: Vec<(Marks, u64)> = Vec::new();
        each(&map, |marks, run| {
            let known = counts.iter_mut().find(|(known, _)| *known == marks);
            match known {
                Some((_, count)) => *count += run.count.0,
                None => counts.push((marks, run.count.0)),
            }
        });
        Self {
            map,
            past_end,
            counts,
        }
    }

    /// Bytes of a cluster.
    pub const fn cluster_size(&self) -> u64 {
        self.map.survey().image.geometry().cluster_size()
    }

    /// How many clusters a mark is shown of.
    pub fn count(&self, mark: Mark) -> u64 {
        if mark == Mark::PastEnd {
            return self.past_end.count().0;
        }
        let has = self.counts.iter();
        let has = has.filter(|(marks, _)| marks.has(mark));
        has.map(|(_, count)| count).sum()
    }

    /// How many clusters have something wrong with them, those past the end included.
    pub fn problems(&self) -> u64 {
        let is_problem = |(marks, _): &&(Marks, u64)| marks.iter().any(Mark::is_problem);
        let wrong = self.counts.iter().filter(is_problem);
        wrong.map(|(_, count)| count).sum::<u64>() + self.past_end.count().0
    }

    /// One after the last cluster that is drawn, and the first that lies too far past the end to be drawn
    /// in its place: an entry may lead anywhere, and the file would be a dot.
    fn extent(&self) -> (u64, Option<u64>) {
        let (file, runs) = (self.map.clusters().0, self.past_end.runs());
        let is_near = |run: &&Run| run.end().0 <= file.saturating_mul(2);
        let near = runs.iter().take_while(is_near).count();
        let end = near.checked_sub(1).map_or(file, |last| runs[last].end().0);
        let far = runs.get(near).map(|run| run.first.0);
        (end + u64::from(far.is_some()), far)
    }

    /// All clusters in cells, at most so many. What lies too far is shown at the last one.
    pub fn grid(&self, most: u64) -> Grid {
        let (end, far) = self.extent();
        let end = end.max(1);
        let clusters = end.div_ceil(most.max(1));
        let count = end.div_ceil(clusters);
        let mut marks = vec![Marks::default(); count as usize];
        let mut uses = vec![[0_u64; USES.len()]; count as usize];
        let mut add = |what: Marks, run: &Run| {
            let cell_of = |cluster: u64| (cluster / clusters).min(count - 1);
            let holds = USES.iter().position(|mark| what.has(*mark));
            for cell in cell_of(run.first.0)..=cell_of(run.end().0.saturating_sub(1)) {
                let (first, past) = (cell * clusters, (cell + 1) * clusters);
                let part = run.end().0.min(past).saturating_sub(run.first.0.max(first));
                marks[cell as usize].add(what);
                if let Some(holds) = holds {
                    uses[cell as usize][holds] += part;
                }
            }
        };
        each(&self.map, |what, run| add(what, &run));
        for run in self.past_end.runs() {
            add(Marks::PAST_END, run);
        }
        let cells = (1..).zip(marks.into_iter().zip(&uses));
        let cells = cells.map(|(number, (marks, uses))| Cell {
            marks,
            holds: most_common(uses),
            far: far.filter(|_| number == count),
        });
        Grid {
            clusters,
            end,
            cells: cells.collect(),
        }
    }
}

/// The use that most clusters have; free clusters are seen only where there is nothing else.
fn most_common(uses: &[u64; USES.len()]) -> Option<Mark> {
    let used = USES
        .into_iter()
        .zip(uses)
        .rev()
        .filter(|(_, count)| **count > 0);
    let most = used.max_by_key(|(mark, count)| (*mark != Mark::Use(Use::Free), **count));
    most.map(|(mark, _)| mark)
}

fn each(map: &Map, mut visit: impl FnMut(Marks, Run)) {
    let Ok(()) = map.for_each(|stretch| {
        visit(Marks::of(&stretch), stretch.run);
        Ok::<_, Infallible>(())
    });
}
