//! Tables for people: columns as wide as their widest cell. It does not know what is in them.

/// Rows of cells under a heading.
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, which has a cell for each column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.into());
    }

    /// The heading and the rows, each on a line after `indent` spaces. Nothing if there are no rows.
    pub(crate) fn text(&self, indent: usize) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let width = |index: usize| {
            let cells = self.rows.iter().map(|row| row[index].chars().count());
            cells.chain([self.columns[index].0.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = " ".repeat(indent);
            for ((cell, width), (_, align)) in cells.zip(&widths).zip(&self.columns) {
                line += &match align {
                    Align::Left => format!("{cell:<width$}  "),
                    Align::Right => format!("{cell:>width$}  "),
                };
            }
            line.truncate(line.trim_end().len());
            line + "\n"
        };
        let mut text = line(&mut self.columns.iter().map(|(name, _)| *name));
        for row in &self.rows {
            text += &line(&mut row.iter().map(String::as_str));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right), ("note", Align::Left)]);
        assert_eq!(table.text(2), "");
        table.row(["é".into(), "100".into(), String::new()]);
        table.row(["longest".into(), "7".into(), "x".into()]);
        let expect = "  name       n  note\n  é        100\n  longest    7  x\n";
        assert_eq!(table.text(2), expect);
    }
}
