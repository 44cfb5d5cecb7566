//! Tables for terminals: columns as wide as their widest cell, two spaces apart, numbers to the right.

use std::fmt;

/// Rows under a heading.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(heading: &[&str]) -> Table {
        Table { rows: vec![heading.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row; an empty cell shows a dash.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| plain(&cell)).into());
    }
}

/// What may be shown: no control characters, which a terminal would act on.
pub(crate) fn plain(text: &str) -> String {
    let shown: String = text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    if shown.is_empty() { "-".into() } else { shown }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<usize> = (0..columns)
            .map(|column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or_default())
            .collect();
        let is_number = |cell: &String| cell == "-" || cell.bytes().all(|byte| byte.is_ascii_digit());
        let right: Vec<bool> = (0..columns)
            .map(|column| {
                let mut below = cells(column).skip(1).peekable();
                below.peek().is_some() && below.all(is_number) && cells(column).skip(1).any(|cell| cell != "-")
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
                let padded = if *right { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
                line.push_str(&padded);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&["POOL", "FREE", "GATEWAY"]);
        table.row(["a-long-name".into(), "7".into(), String::new()]);
        table.row(["b\u{1b}[2J".into(), "18446744073709551616".into(), "10.6.0.1".into()]);
        let expected = [
            "POOL                         FREE  GATEWAY\n",
            "a-long-name                     7  -\n",
            "b\u{fffd}[2J        18446744073709551616  10.6.0.1\n",
        ];
        assert_eq!(table.to_string(), expected.concat());
    }
}
