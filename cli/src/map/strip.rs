//! The map as lines of characters, with a legend.

use std::fmt::Write as _;

use console::{Color, Style};
use indicatif::BinaryBytes;
use recount::step::of;

use super::mark::{Mark, PROBLEMS, USES};
use super::picture::Picture;

/// Lines of a strip, at most.
const LINES: u64 = 8;

/// How a strip is drawn.
pub struct Strip {
    pub width: u16,
    pub is_coloured: bool,
}

impl Strip {
    /// The lines of one map, behind its title.
    pub fn draw(&self, title: &str, picture: &Picture) -> String {
        let size = picture.cluster_size();
        // As wide as the largest offset may be.
        let last = picture
            .map
            .clusters()
            .0
            .saturating_mul(2)
            .saturating_mul(size);
        let label = format!("{last:#x}").len();
        let columns = u64::from(self.width)
            .saturating_sub(label as u64 + 1)
            .max(1);
        let grid = picture.grid(columns * LINES);
        let clusters = of(picture.map.clusters().0, "cluster");
        let each = match grid.clusters {
            1 => String::new(),
            many => format!(", {many} a character"),
        };
        let mut text = format!("{title}: {clusters} of {size} bytes{each}\n\n");
        let lines = grid.cells.chunks(columns as usize);
        for (number, line) in (0..).zip(lines) {
            let offset = (number * columns * grid.clusters).saturating_mul(size);
            let _ = write!(text, "{:>label$} ", format!("{offset:#x}"));
            for alike in line.chunk_by(|one, next| one.worst() == next.worst()) {
                text += &self.characters(alike[0].worst(), alike.len());
            }
            text = text.trim_end().to_owned() + "\n";
        }
        text
    }

    /// What is seen in these maps, and how many clusters of each have it.
    pub fn legend(&self, pictures: &[&Picture]) -> String {
        let mut text = "\n".to_owned();
        if pictures.len() > 1 {
            let _ = writeln!(text, "{:24}{:>24}{:>24}", "", "now", "after a repair");
        }
        for (heading, marks) in [("", &USES[..]), ("Wrong:", &PROBLEMS)] {
            let is_seen = |mark: &&Mark| pictures.iter().any(|one| one.count(**mark) > 0);
            let seen: Vec<Mark> = marks.iter().filter(is_seen).copied().collect();
            if !seen.is_empty() && !heading.is_empty() {
                let _ = writeln!(text, "{heading}");
            }
            for mark in seen {
                let letter = self.characters(Some(mark), 1);
                let _ = write!(text, "  {letter} {:<20}", mark.name());
                for picture in pictures {
                    let count = picture.count(mark);
                    let bytes = count.saturating_mul(picture.cluster_size());
                    let bytes = BinaryBytes(bytes).to_string();
                    let _ = write!(text, "{count:>12} {bytes:>11}");
                }
                text.push('\n');
            }
        }
        text
    }

    /// So many characters of one kind.
    fn characters(&self, mark: Option<Mark>, count: usize) -> String {
        let text = mark.map_or(' ', Mark::letter).to_string().repeat(count);
        if !self.is_coloured {
            return text;
        }
        let style = Style::new().force_styling(true);
        let style = match mark.and_then(Mark::background) {
            None => style.dim(),
            Some(Color::Red) => style.bg(Color::Red).fg(Color::White).bold(),
            Some(color) => style.bg(color).fg(Color::Black),
        };
        style.apply_to(text).to_string()
    }
}
