//! Where objects and trailers begin, found in the bytes of a file.

/// A place where something begins.
pub(super) enum Mark {
    /// Behind `trailer`.
    Trailer(usize),
    /// Behind `n g obj`.
    Object { number: u32, behind: usize },
}

/// The next beginning of an object or a trailer.
pub(super) fn next_mark(bytes: &[u8], from: usize) -> Option<Mark> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..)?;
        // Both words have an `o` or `t` to look for; `b` of `obj` and `trailer` is rarer.
        let next = rest.iter().position(|byte| matches!(byte, b'o' | b't'))?;
        let here = at + next;
        at = here + 1;
        if bytes[here..].starts_with(b"trailer") {
            return Some(Mark::Trailer(here + 7));
        }
        if bytes[here..].starts_with(b"obj")
            && let Some(number) = number_before(bytes, here)
        {
            return Some(Mark::Object {
                number,
                behind: here + 3,
            });
        }
    }
}

/// The number of an object, read backwards from its `obj`.
fn number_before(bytes: &[u8], at: usize) -> Option<u32> {
    let mut at = at;
    let mut back = |wanted: fn(u8) -> bool| {
        let end = at;
        while at > 0 && end - at < 20 && wanted(bytes[at - 1]) {
            at -= 1;
        }
        (at, end)
    };
    let is_space = |byte: u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0 | 12);
    let is_digit = |byte: u8| byte.is_ascii_digit();
    back(is_space);
    let (start, end) = back(is_digit);
    if start == end {
        return None;
    }
    let (start, end) = back(is_space);
    if start == end {
        return None;
    }
    let (start, end) = back(is_digit);
    std::str::from_utf8(&bytes[start..end]).ok()?.parse().ok()
}

/// Where a part begins.
pub(super) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    let first = *part.first()?;
    let mut at = 0;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == first)?;
        if bytes[at..].starts_with(part) {
            return Some(at);
        }
        at += 1;
    }
}
