//! The one module that renders tables for people, page by page, so that a long list needs no more memory than a page.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Table, Width};

/// What an empty cell shows, so that columns can be told apart.
const EMPTY: &str = "-";
/// Spaces between two columns.
const GAP: u16 = 2;

/// How wide lines may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lines {
    /// As long as their cells: for files, pipes and `grep`.
    Unbounded,
    /// So many columns of a terminal; longer cells go on in the next line.
    Bounded(u16),
}

impl Lines {
    /// What fits standard output: its width if it is a terminal.
    #[must_use]
    pub fn of_stdout() -> Self {
        if !io::stdout().is_terminal() {
            return Self::Unbounded;
        }
        console::Term::stdout().size_checked().map_or(Self::Unbounded, |(_, columns)| Self::Bounded(columns))
    }
}

/// Writes rows as a table. The header stands above the first page only; columns keep the width they had on earlier
/// pages, and grow where a later page needs more.
pub struct PagedTable<W: Write> {
    out: W,
    lines: Lines,
    header: Vec<&'static str>,
    widths: Vec<u16>,
    pages: usize,
}

impl<W: Write> PagedTable<W> {
    /// A table with these headings; nothing is written before the first page.
    pub fn new(out: W, lines: Lines, header: Vec<&'static str>) -> Self {
        let widths = vec![0; header.len()];
        Self { out, lines, header, widths, pages: 0 }
    }

    /// Writes the rows of one page. A page without rows writes nothing.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn page(&mut self, rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(NOTHING);
        match self.lines {
            Lines::Unbounded => table.set_content_arrangement(ContentArrangement::Disabled),
            Lines::Bounded(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(1)),
        };
        if self.pages == 0 {
            table.set_header(self.header.iter().map(|h| h.to_uppercase()));
        }
        for row in rows {
            table.add_row(row.iter().map(|text| Cell::new(shown(text))));
        }
        if table.is_empty() {
            return Ok(());
        }
        self.keep_widths(&mut table);
        self.pages += 1;
        writeln!(self.out, "{}", table.trim_fmt())
    }

    /// Hands everything to `out`.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn keep_widths(&mut self, table: &mut Table) {
        let last = self.widths.len() - 1;
        for (known, now) in self.widths.iter_mut().zip(table.column_max_content_widths()) {
            *known = (*known).max(now);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            let padding = if index == last { 0 } else { GAP };
            column.set_padding((0, padding));
            if self.lines == Lines::Unbounded {
                let width = self.widths[index] + padding;
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
            }
        }
    }
}

/// Text as a terminal may be given it: what comes from the cluster must not move the cursor.
fn shown(text: &str) -> String {
    if text.is_empty() {
        return EMPTY.to_owned();
    }
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(lines: Lines, pages: &[&[&[&str]]]) -> String {
        let mut out = Vec::new();
        let mut table = PagedTable::new(&mut out, lines, vec!["Device Name", "Status"]);
        for page in pages {
            table.page(page.iter().map(|row| row.iter().map(|c| (*c).to_owned()).collect())).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_stand_below_each_other_across_pages_and_the_header_stands_once() {
        let pages: &[&[&[&str]]] = &[&[&["SEP001122AABBCC", "a b"]], &[&["SEP1", ""], &["SEP2", "x"]]];
        let expected = "DEVICE NAME      STATUS\nSEP001122AABBCC  a b\nSEP1             -\nSEP2             x\n";
        assert_eq!(rendered(Lines::Unbounded, pages), expected);
    }

    #[test]
    fn a_terminal_s_width_is_kept() {
        let text = rendered(Lines::Bounded(24), &[&[&["SEP001122AABBCC", "Install/Upgrade pending"]]]);
        assert!(text.lines().all(|line| line.chars().count() <= 24), "{text}");
        assert!(text.lines().count() > 2, "{text}");
    }

    #[test]
    fn no_rows_make_no_table() {
        assert_eq!(rendered(Lines::Unbounded, &[&[], &[]]), "");
    }

    #[test]
    fn what_would_move_the_cursor_is_replaced() {
        assert!(!rendered(Lines::Unbounded, &[&[&["\u{1b}[2J", "a\nb"]]]).contains('\u{1b}'));
    }
}
