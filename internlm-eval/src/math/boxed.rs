//! The boxed answer of a solution in LaTeX.

/// From the last `\boxed` (without one, the last `\fbox`) to the brace that closes it.
pub fn last_boxed(text: &str) -> Option<&str> {
    let start = text.rfind("\\boxed").or_else(|| text.rfind("\\fbox"))?;
    let boxed = &text[start..];
    Some(&boxed[..=closing_brace(boxed)?])
}

/// Where the brace lies that closes the first one. One that closes nothing counts below zero.
pub(super) fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 0_i64;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// What `\boxed{..}` holds; none for another text.
pub fn unwrapped(boxed: &str) -> Option<&str> {
    boxed.strip_prefix("\\boxed{")?.strip_suffix('}')
}

/// What the last `\boxed{..}` of a text holds (`extract_boxed_answer`).
pub fn answer(text: &str) -> Option<String> {
    Some(unwrapped(last_boxed(text)?)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_matched() {
        assert_eq!(
            answer(r"\boxed{1} \boxed{\frac{1}{2}} }").as_deref(),
            Some(r"\frac{1}{2}")
        );
        assert_eq!(answer(r"\boxed 5"), None);
        assert_eq!(answer(r"\boxed{5"), None);
        assert_eq!(last_boxed(r"\boxed }{{5}"), Some(r"\boxed }{{5}"));
        assert_eq!(last_boxed(r"\fbox{5}"), Some(r"\fbox{5}"));
        assert_eq!(answer(r"\fbox{5}"), None);
    }
}
