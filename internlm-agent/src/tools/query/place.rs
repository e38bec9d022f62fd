//! Places in JSON: pointers, and the paths that people write.

/// A step to a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A member of an object by its name, or an element of an array by its number.
    Part(String),
    /// Every one.
    Every,
}

impl Step {
    pub(super) fn is(&self, name: &str) -> bool {
        match self {
            Self::Part(part) => part == name,
            Self::Every => true,
        }
    }
}

/// Most steps.
const MAX_STEPS: usize = 64;

/// A place as a JSON Pointer (`/a/0/b`, with `*` for every part), or as a path (`$.a[0].b`, `a[*].b`).
pub(super) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let text = text.trim();
    let steps = match text {
        "" | "$" | "/" => Vec::new(),
        _ => match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(unescaped).collect(),
            None => path(text.strip_prefix('$').unwrap_or(text))?,
        },
    };
    match steps.len() > MAX_STEPS {
        true => Err(format!("it has more than {MAX_STEPS} steps")),
        false => Ok(steps),
    }
}

/// The place again, as a pointer.
pub(super) fn pointer(steps: &[Step]) -> String {
    let steps = steps.iter().map(|step| match step {
        Step::Part(part) => format!("/{}", part.replace('~', "~0").replace('/', "~1")),
        Step::Every => "/*".to_owned(),
    });
    steps.collect()
}

/// A step of a pointer (RFC 6901).
fn unescaped(part: &str) -> Step {
    match part {
        "*" => Step::Every,
        part => Step::Part(part.replace("~1", "/").replace("~0", "~")),
    }
}

fn path(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let Some((index, after)) = inner.split_once(']') else {
                return Err("a `[` is not closed".to_owned());
            };
            steps.push(match index.trim() {
                "*" => Step::Every,
                index => Step::Part(index.trim_matches(['"', '\'']).to_owned()),
            });
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('.').unwrap_or(rest);
        let end = name.find(['.', '[']).unwrap_or(name.len());
        steps.push(match &name[..end] {
            "" => return Err("a name is missing behind a `.`".to_owned()),
            "*" => Step::Every,
            name => Step::Part(name.to_owned()),
        });
        rest = &name[end..];
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_in_two_ways() {
        for (text, want) in [
            ("", ""),
            ("$", ""),
            ("/", ""),
            ("/a/0/b", "/a/0/b"),
            ("$.a[0].b", "/a/0/b"),
            ("a[0].b", "/a/0/b"),
            ("a[*].b", "/a/*/b"),
            ("$['a/b'][\"c\"]", "/a~1b/c"),
            ("/a~1b/~0/*", "/a~1b/~0/*"),
            (".数.*", "/数/*"),
        ] {
            assert_eq!(pointer(&parse(text).unwrap()), want, "{text}");
        }
        for text in ["a[0", "a..b", "a.", &"/a".repeat(65)] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
