//! Tables in Markdown, aligned so that they can be read on a terminal too.

use std::fmt::Write as _;

/// A table; the first column is text, the others are numbers.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row below the others. What it lacks stays empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The whole table.
    pub fn print(&self) -> String {
        let columns = self.rows[0].len();
        let cell = |row: &'_ [String], column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, &width) in widths.iter().enumerate() {
                let text = cell(row, column);
                let _ = if column < 2 {
                    write!(out, "| {text:<width$} ")
                } else {
                    write!(out, "| {text:>width$} ")
                };
            }
            out.push_str("|\n");
            if number == 0 {
                for (column, &width) in widths.iter().enumerate() {
                    let _ = write!(out, "|{}{}", "-".repeat(width + 1), if column < 2 { "-" } else { ":" });
                }
                out.push_str("|\n");
            }
        }
        out
    }
}

/// `1,234,567`
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share as a percentage; what is not nothing is not shown as nothing.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0".to_owned(),
        percent if percent < 0.01 => "< 0.01 %".to_owned(),
        percent if percent < 1.0 => format!("{percent:.2} %"),
        percent => format!("{percent:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_missing_cells_are_empty() {
        let mut table = Table::new(&["what", "of", "n"]);
        table.row(["Вече".to_owned(), "a".to_owned(), "1,000".to_owned()]);
        table.row(["b".to_owned()]);
        let expected =
            "| what | of |     n |\n|------|----|------:|\n| Вече | a  | 1,000 |\n| b    |    |       |\n";
        assert_eq!(table.print(), expected);
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0.4, 999.0, 1_000.0, 1_234_567.8].map(grouped), ["0", "999", "1,000", "1,234,568"]);
        assert_eq!([0.0, 0.000_01, 0.001, 0.5].map(percent), ["0", "< 0.01 %", "0.10 %", "50.0 %"]);
    }
}
