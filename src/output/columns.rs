//! Rows with a heading: aligned for people, with tabs for programs.

use std::fmt::Write as _;

/// How a column stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of as many cells as there are headings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Columns<const N: usize> {
    headings: [(&'static str, Side); N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Columns<N> {
    /// No rows yet.
    pub(crate) const fn new(headings: [(&'static str, Side); N]) -> Self {
        Self { headings, rows: Vec::new() }
    }

    /// Whether there is no row.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// One row more, a cell for each heading.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Each column as wide as its widest cell, two spaces between, nothing at the ends of lines.
    pub(crate) fn aligned(&self) -> String {
        let width = |column: usize, heading: &str| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(heading.chars().count())
        };
        let widths: Vec<usize> =
            self.headings.iter().enumerate().map(|(column, (heading, _))| width(column, heading)).collect();
        let headings: Vec<&str> = self.headings.iter().map(|(heading, _)| *heading).collect();
        let mut text = String::new();
        let rows = self.rows.iter().map(|row| row.iter().map(String::as_str).collect());
        for row in std::iter::once(headings).chain(rows) {
            let mut line = String::new();
            for ((cell, width), (_, side)) in row.iter().zip(&widths).zip(&self.headings) {
                // Infallible for a String.
                let _ = match side {
                    Side::Left => write!(line, "{cell:<width$}  "),
                    Side::Right => write!(line, "{cell:>width$}  "),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// A heading and rows, a tab between two cells; a tab within a cell becomes a space.
    pub(crate) fn with_tabs(&self) -> String {
        let headings = self.headings.iter().map(|(heading, _)| heading.replace(' ', "_")).collect();
        let rows =
            self.rows.iter().map(|row| row.iter().map(|cell| cell.replace(['\t', '\n'], " ")).collect());
        std::iter::once(headings).chain(rows).map(|row: Vec<String>| row.join("\t") + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Columns<3> {
        let mut columns =
            Columns::new([("worker", Side::Left), ("slots", Side::Right), ("state", Side::Left)]);
        columns.row(["hill-3".to_owned(), "16".to_owned(), "at\twork".to_owned()]);
        columns.row(["a-longer-name".to_owned(), "1000000".to_owned(), String::new()]);
        columns
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(
            sample().aligned(),
            "worker           slots  state\nhill-3              16  at\twork\na-longer-name  1000000\n"
        );
    }

    #[test]
    fn a_program_gets_one_tab_between_two_cells() {
        assert_eq!(
            sample().with_tabs(),
            "worker\tslots\tstate\nhill-3\t16\tat work\na-longer-name\t1000000\t\n"
        );
    }
}
