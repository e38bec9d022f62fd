//! Markdown from tags and texts, in the order of a page.

use html5gum::StartTag;

use super::attribute;
use super::blocks::{Gap, block_gap, is_block};

/// Most levels of lists and quotations that are shown.
const LEVELS: usize = 6;

/// A list that is open: the number of the next item, or bullets.
type List = Option<u32>;

#[derive(Default)]
struct Table {
    rows: usize,
    cells: usize,
    in_cell: bool,
}

struct Link {
    /// Where its text begins.
    at: usize,
    /// Whether no text came yet.
    fresh: bool,
    /// Where it leads.
    to: Option<String>,
}

pub(super) struct Writer<'a> {
    out: String,
    gap: Gap,
    /// Signs that come before the next text, such as those of a heading or an item.
    mark: String,
    lists: Vec<List>,
    /// Lists and quotations deeper than what is shown.
    hidden_lists: usize,
    quotes: usize,
    /// How many there were at the last text.
    quotes_before: usize,
    tables: Vec<Table>,
    hidden_tables: usize,
    link: Option<Link>,
    pre: usize,
    code: bool,
    resolve: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(resolve: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            out: String::new(),
            gap: Gap::None,
            mark: String::new(),
            lists: Vec::new(),
            hidden_lists: 0,
            quotes: 0,
            quotes_before: 0,
            tables: Vec::new(),
            hidden_tables: 0,
            link: None,
            pre: 0,
            code: false,
            resolve,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// The text, and whether the limit cut it.
    pub(super) fn finish(mut self, max_bytes: usize) -> (String, bool) {
        self.close_link();
        self.close_code();
        if self.pre > 0 {
            self.pre = 1;
            self.end("pre");
        }
        self.end_row();
        let cut = self.out.len() > max_bytes;
        self.out.truncate(self.out.floor_char_boundary(max_bytes));
        (self.out.trim_end().to_owned(), cut)
    }

    pub(super) fn start(&mut self, name: &str, tag: &StartTag<()>) {
        match name {
            "br" => self.want(Gap::Line),
            "hr" => {
                self.want(Gap::Paragraph);
                self.put("---");
                self.want(Gap::Paragraph);
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.want(Gap::Paragraph);
                let level = name[1..].parse().unwrap_or(1);
                self.mark = format!("{} ", "#".repeat(level));
            }
            "ul" | "ol" => {
                self.want(if self.lists.is_empty() {
                    Gap::Paragraph
                } else {
                    Gap::Line
                });
                match self.lists.len() < LEVELS {
                    true => {
                        let first = attribute(tag, "start").and_then(|start| start.parse().ok());
                        self.lists.push((name == "ol").then(|| first.unwrap_or(1)));
                    }
                    false => self.hidden_lists += 1,
                }
            }
            "li" => {
                self.want(Gap::Line);
                let depth = self.lists.len().saturating_sub(1);
                let sign = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number = number.saturating_add(1);
                        format!("{}.", number.saturating_sub(1))
                    }
                    _ => "-".to_owned(),
                };
                self.mark = format!("{}{sign} ", "  ".repeat(depth));
            }
            "dd" => {
                self.want(Gap::Line);
                self.mark = ": ".to_owned();
            }
            "blockquote" => {
                self.want(Gap::Paragraph);
                self.quotes += 1;
            }
            "pre" => {
                self.pre += 1;
                if self.pre == 1 && !self.in_cell() {
                    self.want(Gap::Paragraph);
                    self.put("```\n");
                }
            }
            "code" if self.pre == 0 && !self.code => {
                self.code = true;
                self.put("`");
            }
            "a" => {
                self.close_link();
                let to = attribute(tag, "href").filter(|to| !to.starts_with('#'));
                self.link = Some(Link {
                    at: self.out.len(),
                    fresh: true,
                    to: to.and_then(|to| (self.resolve)(&to)),
                });
            }
            "img" => {
                let alt = attribute(tag, "alt").unwrap_or_default();
                let source = attribute(tag, "src").filter(|source| !source.starts_with("data:"));
                if let Some(source) = source.and_then(|source| (self.resolve)(&source))
                    && !alt.trim().is_empty()
                {
                    let alt = alt.split_whitespace().collect::<Vec<_>>().join(" ");
                    self.put(&format!("![{alt}]({source})"));
                }
            }
            "table" => {
                self.want(Gap::Paragraph);
                match self.tables.len() < LEVELS {
                    true => self.tables.push(Table::default()),
                    false => self.hidden_tables += 1,
                }
            }
            "tr" => self.end_row(),
            "td" | "th" => self.cell(),
            _ if is_block(name) => self.want(Gap::Line.max(block_gap(name))),
            _ => {}
        }
    }

    pub(super) fn end(&mut self, name: &str) {
        match name {
            "ul" | "ol" => {
                match self.hidden_lists {
                    0 => {
                        self.lists.pop();
                    }
                    _ => self.hidden_lists -= 1,
                }
                self.want(if self.lists.is_empty() {
                    Gap::Paragraph
                } else {
                    Gap::Line
                });
                self.mark.clear();
            }
            "blockquote" => {
                self.want(Gap::Paragraph);
                self.quotes = self.quotes.saturating_sub(1);
            }
            "pre" if self.pre > 0 => {
                self.pre -= 1;
                if self.pre == 0 && !self.in_cell() {
                    if !self.out.ends_with('\n') {
                        self.out.push('\n');
                    }
                    self.out.push_str("```");
                    self.want(Gap::Paragraph);
                }
            }
            "code" => self.close_code(),
            "a" => self.close_link(),
            "td" | "th" => self.want(Gap::Space),
            "tr" => self.end_row(),
            "table" => {
                self.end_row();
                match self.hidden_tables {
                    0 => {
                        self.tables.pop();
                    }
                    _ => self.hidden_tables -= 1,
                }
                self.want(Gap::Paragraph);
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.mark.clear();
                self.want(Gap::Paragraph);
            }
            _ if is_block(name) => self.want(Gap::Line.max(block_gap(name))),
            _ => {}
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        if self.pre > 0 && !self.in_cell() {
            if !text.is_empty() {
                self.flush();
                let text = match self.out.ends_with("```\n") {
                    true => text.strip_prefix('\n').unwrap_or(text),
                    false => text,
                };
                self.out.push_str(&text.replace('\r', ""));
            }
            return;
        }
        if text.starts_with(|c: char| c.is_ascii_whitespace()) {
            self.want(Gap::Space);
        }
        let mut words = text.split_ascii_whitespace().peekable();
        while let Some(word) = words.next() {
            self.put(word);
            if words.peek().is_some() {
                self.want(Gap::Space);
            }
        }
        if text.ends_with(|c: char| c.is_ascii_whitespace()) {
            self.want(Gap::Space);
        }
    }

    fn in_cell(&self) -> bool {
        self.tables.len() == 1 && self.tables[0].in_cell
    }

    /// Asks for a gap before the next text. Within a cell of a table there are only spaces.
    fn want(&mut self, gap: Gap) {
        let gap = match self.in_cell() {
            true => gap.min(Gap::Space),
            false => gap,
        };
        self.gap = self.gap.max(gap);
    }

    fn put(&mut self, text: &str) {
        self.flush();
        self.out.push_str(text);
    }

    /// Writes what is due before a text.
    fn flush(&mut self) {
        let quote = "> ".repeat(self.quotes.min(LEVELS));
        let gap = std::mem::take(&mut self.gap);
        let begins = self.out.is_empty();
        match gap {
            _ if begins => {}
            Gap::None => {}
            Gap::Space => {
                let opened = self.code && self.out.ends_with('`');
                if !opened && !self.out.ends_with([' ', '\n']) {
                    self.out.push(' ');
                }
            }
            Gap::Line => self.out.push('\n'),
            Gap::Paragraph => {
                let both = self.quotes.min(self.quotes_before).min(LEVELS);
                self.out.push('\n');
                self.out.push_str("> ".repeat(both).trim_end());
                self.out.push('\n');
            }
        }
        if begins || gap >= Gap::Line {
            self.out.push_str(&quote);
        }
        if !self.mark.is_empty() {
            let mark = std::mem::take(&mut self.mark);
            self.out.push_str(&mark);
        }
        self.quotes_before = self.quotes;
        // A link's text begins behind the gap.
        if let Some(link) = self.link.as_mut().filter(|link| link.fresh) {
            link.fresh = false;
            link.at = self.out.len();
        }
    }

    fn close_code(&mut self) {
        if std::mem::take(&mut self.code) {
            self.out.push('`');
        }
    }

    fn close_link(&mut self) {
        let Some(Link {
            at,
            fresh: false,
            to: Some(to),
        }) = self.link.take()
        else {
            return;
        };
        // Of a link over several lines the first one leads there.
        let line = self.out[at..].lines().next().unwrap_or_default();
        let end = at + line.trim_end().len();
        if end > at {
            self.out.insert_str(end, &format!("]({to})"));
            self.out.insert(at, '[');
        }
    }

    /// Begins a cell.
    fn cell(&mut self) {
        self.close_link();
        let nested = self.tables.len() != 1;
        let Some(table) = self.tables.last_mut() else {
            return self.want(Gap::Space);
        };
        if nested {
            return self.want(Gap::Space);
        }
        if !table.in_cell {
            let first = table.rows == 0;
            table.in_cell = true;
            table.cells = 1;
            self.gap = self.gap.max(if first { Gap::Paragraph } else { Gap::Line });
            self.flush();
            self.out.push('|');
        } else {
            table.cells += 1;
            self.gap = Gap::None;
            self.out.push_str(" |");
        }
        self.gap = Gap::Space;
    }

    /// Ends a row, if there is one.
    fn end_row(&mut self) {
        self.close_link();
        if self.tables.len() != 1 {
            return self.want(Gap::Line);
        }
        let Some(table) = self.tables.last_mut().filter(|table| table.in_cell) else {
            return;
        };
        table.in_cell = false;
        table.rows += 1;
        let (first, cells) = (table.rows == 1, table.cells);
        self.out.push_str(" |");
        if first {
            self.out.push('\n');
            self.out.push_str(&"> ".repeat(self.quotes.min(LEVELS)));
            self.out.push('|');
            self.out.push_str(&" --- |".repeat(cells));
        }
        self.gap = Gap::Line;
    }
}
