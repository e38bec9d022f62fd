//! Readable text of an HTML page, as Markdown.
//!
//! A page is read as a stream of tags, without a tree: memory and time follow its length whatever its nesting.

mod blocks;
mod writer;

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{StartTag, Token, Tokenizer};

use writer::Writer;

/// Text of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PageText {
    /// What its `<title>` says.
    pub(crate) title: String,
    /// The rest.
    pub(crate) text: String,
    /// Whether there was more than the limit.
    pub(crate) truncated: bool,
}

/// What of a page is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// What is in `<main>`.
    Main,
    /// All but what surrounds a page's matter: navigation, footers.
    Matter,
    /// All.
    All,
}

/// A page's main part shorter than this is not believed to be one.
const MAIN: usize = 200;

/// Elements that a reader does not see, or cannot read.
const UNSEEN: [&str; 17] = [
    "audio", "button", "canvas", "datalist", "dialog", "head", "iframe", "math", "noframes",
    "object", "script", "select", "style", "svg", "template", "textarea", "video",
];

/// Elements around a page's matter.
const AROUND: [&str; 4] = ["aside", "footer", "menu", "nav"];

/// Elements that have no content, so no end.
const VOID: [&str; 13] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track",
    "wbr",
];

/// The text of a page, at most `max_bytes` of it. `resolve` says where a link leads; links without an answer stay
/// plain text.
pub(crate) fn page_text(
    html: &str,
    max_bytes: usize,
    resolve: &dyn Fn(&str) -> Option<String>,
) -> PageText {
    let main = read(html, Scope::Main, max_bytes, resolve);
    if main.text.len() >= MAIN {
        return main;
    }
    let matter = read(html, Scope::Matter, max_bytes, resolve);
    match matter.text.is_empty() {
        true => read(html, Scope::All, max_bytes, resolve),
        false => matter,
    }
}

/// Content that is passed over: until the element of this name ends.
struct Skipped {
    name: String,
    depth: usize,
}

fn read(
    html: &str,
    scope: Scope,
    max_bytes: usize,
    resolve: &dyn Fn(&str) -> Option<String>,
) -> PageText {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut writer = Writer::new(resolve);
    let mut skipped: Option<Skipped> = None;
    let (mut main_depth, mut in_title, mut title) = (0_usize, false, String::new());
    let mut truncated = false;
    for token in Tokenizer::new_with_emitter(html, emitter) {
        let Ok(token) = token;
        if writer.len() > max_bytes {
            truncated = true;
            break;
        }
        match token {
            Token::StartTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                if name == "title" && title.is_empty() {
                    in_title = true;
                }
                // The end of a head may be left out.
                if name == "body" && skipped.as_ref().is_some_and(|s| s.name == "head") {
                    skipped = None;
                }
                if let Some(skipped) = &mut skipped {
                    skipped.depth += usize::from(skipped.name == name);
                    continue;
                }
                let void = VOID.contains(&name.as_str());
                if !void && passed_over(&name, &tag, scope) {
                    skipped = Some(Skipped { name, depth: 1 });
                    continue;
                }
                if name == "main" {
                    main_depth += 1;
                }
                if scope != Scope::Main || main_depth > 0 {
                    writer.start(&name, &tag);
                }
            }
            Token::EndTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name);
                if name == "title" {
                    in_title = false;
                }
                if let Some(passing) = &mut skipped {
                    if passing.name == name {
                        passing.depth -= 1;
                        if passing.depth == 0 {
                            skipped = None;
                        }
                    }
                    continue;
                }
                if scope != Scope::Main || main_depth > 0 {
                    writer.end(&name);
                }
                if name == "main" {
                    main_depth = main_depth.saturating_sub(1);
                }
            }
            Token::String(text) => {
                let text = String::from_utf8_lossy(&text);
                if in_title {
                    title.push_str(&text);
                } else if skipped.is_none() && (scope != Scope::Main || main_depth > 0) {
                    writer.text(&text);
                }
            }
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    let (text, cut) = writer.finish(max_bytes);
    let mut title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    title.truncate(title.floor_char_boundary(300));
    PageText {
        title,
        text,
        truncated: truncated || cut,
    }
}

fn passed_over(name: &str, tag: &StartTag<()>, scope: Scope) -> bool {
    if UNSEEN.contains(&name) {
        return true;
    }
    if matches!(name, "html" | "body" | "main") {
        return false;
    }
    if scope != Scope::All && AROUND.contains(&name) {
        return true;
    }
    let value = |name: &str| attribute(tag, name);
    let style = value("style").unwrap_or_default();
    let style: String = style.chars().filter(|c| !c.is_whitespace()).collect();
    value("hidden").is_some()
        || value("aria-hidden").is_some_and(|hidden| hidden == "true")
        || style.to_lowercase().contains("display:none")
}

/// The value of an attribute.
fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    let value = tag.attributes.get(name.as_bytes())?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(html: &str, want: &str) {
        let resolve = |to: &str| crate_resolve(to);
        assert_eq!(page_text(html, 10_000, &resolve).text, want, "{html}");
    }

    fn crate_resolve(to: &str) -> Option<String> {
        match to.starts_with("http") {
            true => Some(to.to_owned()),
            false => to
                .strip_prefix('/')
                .map(|to| format!("http://a.example/{to}")),
        }
    }

    #[test]
    fn a_page_becomes_markdown() {
        check(
            "<h1>One</h1><p>Two\n  three<br>four<h2>Five",
            "# One\n\nTwo three\nfour\n\n## Five",
        );
        check("a &amp; b &lt;c&gt; &#25968;&hellip;", "a & b <c> 数…");
        check(
            "<ul><li>a<li>b<ol><li>c</li><li>d</ol></ul><p>e",
            "- a\n- b\n  1. c\n  2. d\n\ne",
        );
        check(
            "see <a href='/x?y=1'>this <b>page</b></a> and <a href='#z'>that</a><a href='/w'> </a>.",
            "see [this page](http://a.example/x?y=1) and that .",
        );
        check(
            "<pre>  a\n   b</pre>c <code>d e</code>",
            "```\n  a\n   b\n```\n\nc `d e`",
        );
        check(
            "<table><tr><th>a<th>b<tr><td>1<td><p>2</p><p>3</p></table>",
            "| a | b |\n| --- | --- |\n| 1 | 2 3 |",
        );
        check("<blockquote>a<p>b</blockquote>c", "> a\n>\n> b\n\nc");
        check(
            "<img src='/p.png' alt='a cat'> x",
            "![a cat](http://a.example/p.png) x",
        );
        check("<dl><dt>a<dd>b</dl>", "a\n: b");
        check("a<hr>b", "a\n\n---\n\nb");
    }

    #[test]
    fn what_nobody_sees_is_left_out() {
        check(
            "<head><title>t</title><style>p{}</style><body><nav>menu</nav><script>if (a<b) {}</script>\
             <p>text<p hidden>no</p><div style='display: none'>no</div><footer>foot</footer>",
            "text",
        );
        check("<nav>only a menu</nav>", "only a menu");
        let long = "word ".repeat(60);
        check(
            &format!("<p>before<main><p>{long}</main><p>after"),
            long.trim(),
        );
        check("<div hidden><div>a</div>b</div>c", "c");
    }

    #[test]
    fn titles_and_limits() {
        let page = page_text("<title> A &amp;\n B </title><p>数学数学", 7, &|_| None);
        assert_eq!(page.title, "A & B");
        assert_eq!((page.text.as_str(), page.truncated), ("数学", true));
    }

    #[test]
    fn soup_and_depth_are_no_problem() {
        check(
            "</p></ul></table></pre><p>a</b></i></blockquote>b",
            "a\n\nb",
        );
        check("<td>a<td>b", "a b");
        for tag in [
            "div",
            "ul",
            "li",
            "table",
            "blockquote",
            "a href=/x",
            "b",
            "pre",
        ] {
            let html = format!("{}x", format!("<{tag}>").repeat(20_000));
            let page = page_text(&html, 10_000, &crate_resolve);
            assert!(page.text.len() < 20_000, "{tag}: {}", page.text.len());
        }
    }
}
