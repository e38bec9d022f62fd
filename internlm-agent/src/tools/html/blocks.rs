//! Which elements begin lines and paragraphs.

/// What separates the next text from what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    #[default]
    None,
    Space,
    Line,
    Paragraph,
}

/// Whether an element begins a line.
pub(super) fn is_block(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "caption"
            | "center"
            | "dd"
            | "details"
            | "div"
            | "dl"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "form"
            | "header"
            | "li"
            | "main"
            | "menu"
            | "nav"
            | "footer"
            | "aside"
            | "p"
            | "section"
            | "summary"
    )
}

/// What separates it from what is around it.
pub(super) fn block_gap(name: &str) -> Gap {
    match name {
        "p" | "article" | "section" | "dl" | "figure" | "main" => Gap::Paragraph,
        _ => Gap::Line,
    }
}
