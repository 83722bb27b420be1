//! Tables for a terminal: as many columns side by side as a narrow one has room for, the others below.

/// Characters of a line.
const WIDTH: usize = 60;
/// Between columns.
const GAP: usize = 2;

/// A column: its name, and a cell for each row that it has something to say in.
pub type Column = (String, Vec<Option<String>>);

/// The lines of a table; rows in which no column beside says anything are left out.
pub fn lines(title: &str, rows: &[String], mut columns: &[Column]) -> Vec<String> {
    let names = rows.iter().map(String::len).chain([title.len()]).max();
    let names = names.unwrap_or(0);
    let mut lines = Vec::new();
    while !columns.is_empty() {
        let widths = columns.iter().map(width);
        let ends = widths.scan(names, |end, width| {
            *end += width;
            Some(*end)
        });
        let fitting = ends.take_while(|end| *end <= WIDTH).count().max(1);
        let (beside, below) = columns.split_at(fitting);
        let line = |name: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells = cells.zip(beside.iter().map(width));
            cells.fold(format!("{name:names$}"), |line, (cell, width)| {
                format!("{line}{cell:>width$}")
            })
        };
        lines.push(line(title, &mut beside.iter().map(|(name, _)| &**name)));
        for (row, name) in rows.iter().enumerate() {
            let cells = || beside.iter().map(|(_, cells)| cells[row].as_deref());
            if cells().any(|cell| cell.is_some()) {
                lines.push(line(name, &mut cells().map(|cell| cell.unwrap_or("-"))));
            }
        }
        columns = below;
        lines.extend((!below.is_empty()).then(String::new));
    }
    lines
}

fn width((name, cells): &Column) -> usize {
    let cells = cells.iter().flatten().map(|cell| cell.chars().count());
    GAP + cells.chain([name.chars().count()]).max().unwrap_or(0)
}

/// A number to two digits, or whole where it has more: 0.37, 4.2, 42, 1234.
pub fn two_digits(number: f64) -> String {
    match number {
        ..0.995 => format!("{number:.2}"),
        ..9.95 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_do_not_fit_go_below_and_empty_rows_are_left_out() {
        let cell = |text: &str| Some(text.to_owned());
        let rows = ["a row", "another"].map(str::to_owned);
        let columns = [
            ("x".repeat(20), vec![cell("1 of 2"), None]),
            ("y".repeat(20), vec![cell("3"), None]),
            ("z".repeat(20), vec![None, cell("4")]),
        ];
        let lines = lines("failed of asked", &rows, &columns);
        let second = lines[1].split_whitespace().collect::<Vec<_>>();
        assert_eq!(second, ["a", "row", "1", "of", "2", "3"]);
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{lines:#?}");
        assert!(lines[4].starts_with("another ") && lines[4].ends_with(" 4"));
    }

    #[test]
    fn a_rate_has_two_digits() {
        let shown = [0.374, 4.24, 9.96, 42.4, 1234.0].map(two_digits);
        assert_eq!(shown, ["0.37", "4.2", "10", "42", "1234"]);
    }
}
