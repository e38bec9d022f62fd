//! Tables of text whose columns stand under each other, wide characters included.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) columns: Vec<(String, Align)>,
    /// A row, or a line between rows.
    pub(super) rows: Vec<Option<Vec<String>>>,
}

/// The least columns that a narrow table leaves a text.
const NARROWEST: usize = 8;

impl Table {
    pub(super) fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns.iter();
        Self {
            columns: columns.map(|&(name, align)| (plain(name), align)).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, row: Vec<String>) {
        self.rows
            .push(Some(row.iter().map(|cell| plain(cell)).collect()));
    }

    pub(super) fn rule(&mut self) {
        self.rows.push(None);
    }

    /// With two blanks between columns; texts are shortened with `…` where the table would be wider than `width`,
    /// the widest first, numbers never.
    pub(super) fn text(&self, width: usize) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| name.width()).collect();
        for row in self.rows.iter().flatten() {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(cell.width());
            }
        }
        let between = 2 * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + between > width {
            let left = |place: &usize| self.columns[*place].1 == Align::Left;
            let widest = (0..widths.len())
                .filter(left)
                .max_by_key(|&place| widths[place]);
            match widest {
                Some(place) if widths[place] > NARROWEST => widths[place] -= 1,
                _ => break,
            }
        }
        let line = |cells: &mut dyn Iterator<Item = (&str, usize, Align)>| {
            let cells: Vec<String> = cells
                .map(|(cell, width, align)| pad(cell, width, align))
                .collect();
            format!("{}\n", cells.join("  ").trim_end())
        };
        let rule = format!("{}\n", "─".repeat(widths.iter().sum::<usize>() + between));
        let heads = self.columns.iter().zip(&widths);
        let mut text =
            line(&mut heads.map(|((name, align), &width)| (name.as_str(), width, *align)));
        text.push_str(&rule);
        for row in &self.rows {
            match row {
                None => text.push_str(&rule),
                Some(row) => {
                    let cells = row.iter().zip(&self.columns).zip(&widths);
                    let cells =
                        cells.map(|((cell, (_, align)), &width)| (cell.as_str(), width, *align));
                    text.push_str(&line(&mut cells.into_iter()));
                }
            }
        }
        text
    }
}

/// Names come from files and servers: they must not move a terminal's cursor.
fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

fn pad(text: &str, width: usize, align: Align) -> String {
    let text = shorten(text, width);
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    match align {
        Align::Left => text + &blanks,
        Align::Right => blanks + &text,
    }
}

fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or_default();
        if used > width {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&[("dataset", Align::Left), ("value", Align::Right)]);
        table.push(vec!["cmmlu-农学".into(), "0.5".into()]);
        table.push(vec!["x".into(), "10.25".into()]);
        table
    }

    #[test]
    fn wide_characters_count_as_two() {
        let text = table().text(80);
        let widths: Vec<usize> = text.lines().map(UnicodeWidthStr::width).collect();
        assert_eq!(widths, [17, 17, 17, 17]);
        assert!(text.contains("cmmlu-农学    0.5\n"), "{text}");
    }

    #[test]
    fn texts_are_shortened_and_numbers_are_not() {
        let text = table().text(15);
        assert!(text.contains("cmmlu-…"), "{text}");
        assert!(text.contains("10.25"));
        assert_eq!(shorten("农学农学", 4), "农…");
        assert_eq!(shorten("ab", 2), "ab");
    }

    #[test]
    fn a_name_does_not_reach_the_terminal_as_an_order() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a [2Jb ");
    }
}
