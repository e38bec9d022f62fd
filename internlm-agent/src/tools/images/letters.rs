//! Letters of three by five dots: enough for the label of a box, without a font.

/// Dots of a letter: five rows from above, three bits each, the left one first.
const LETTERS: [(char, [u8; 5]); 47] = [
    ('0', [7, 5, 5, 5, 7]),
    ('1', [2, 6, 2, 2, 7]),
    ('2', [7, 1, 7, 4, 7]),
    ('3', [7, 1, 3, 1, 7]),
    ('4', [5, 5, 7, 1, 1]),
    ('5', [7, 4, 7, 1, 7]),
    ('6', [7, 4, 7, 5, 7]),
    ('7', [7, 1, 1, 2, 2]),
    ('8', [7, 5, 7, 5, 7]),
    ('9', [7, 5, 7, 1, 7]),
    ('A', [2, 5, 7, 5, 5]),
    ('B', [6, 5, 6, 5, 6]),
    ('C', [3, 4, 4, 4, 3]),
    ('D', [6, 5, 5, 5, 6]),
    ('E', [7, 4, 6, 4, 7]),
    ('F', [7, 4, 6, 4, 4]),
    ('G', [3, 4, 5, 5, 3]),
    ('H', [5, 5, 7, 5, 5]),
    ('I', [7, 2, 2, 2, 7]),
    ('J', [1, 1, 1, 5, 2]),
    ('K', [5, 5, 6, 5, 5]),
    ('L', [4, 4, 4, 4, 7]),
    ('M', [5, 7, 7, 5, 5]),
    ('N', [6, 5, 5, 5, 5]),
    ('O', [2, 5, 5, 5, 2]),
    ('P', [6, 5, 6, 4, 4]),
    ('Q', [2, 5, 5, 6, 3]),
    ('R', [6, 5, 6, 5, 5]),
    ('S', [3, 4, 2, 1, 6]),
    ('T', [7, 2, 2, 2, 2]),
    ('U', [5, 5, 5, 5, 7]),
    ('V', [5, 5, 5, 5, 2]),
    ('W', [5, 5, 7, 7, 5]),
    ('X', [5, 5, 2, 5, 5]),
    ('Y', [5, 5, 2, 2, 2]),
    ('Z', [7, 1, 2, 4, 7]),
    (' ', [0, 0, 0, 0, 0]),
    ('.', [0, 0, 0, 0, 2]),
    (',', [0, 0, 0, 2, 4]),
    (':', [0, 2, 0, 2, 0]),
    ('-', [0, 0, 7, 0, 0]),
    ('_', [0, 0, 0, 0, 7]),
    ('%', [5, 1, 2, 4, 5]),
    ('/', [1, 1, 2, 4, 4]),
    ('(', [1, 2, 2, 2, 1]),
    (')', [4, 2, 2, 2, 4]),
    ('#', [5, 7, 5, 7, 5]),
];

/// What stands for a letter that is not there: a frame.
const OTHER: [u8; 5] = [7, 5, 5, 5, 7];

/// Dots from a letter to the next.
const STEP: i64 = 4;

/// The width and height of a text in pixels, when a dot has `scale` a side.
pub(super) fn size(text: &str, scale: i64) -> (i64, i64) {
    let letters = i64::try_from(text.chars().count()).unwrap_or(0);
    ((letters * STEP - 1).max(0) * scale, 5 * scale)
}

/// Calls for the upper left corner of each dot of a text.
pub(super) fn draw(text: &str, x: i64, y: i64, scale: i64, dot: &mut dyn FnMut(i64, i64)) {
    let mut left = x;
    for letter in text.chars() {
        let letter = letter.to_ascii_uppercase();
        let found = LETTERS.iter().find(|(known, _)| *known == letter);
        let rows = found.map_or(OTHER, |(_, rows)| *rows);
        let mut top = y;
        for row in rows {
            for column in 0..3 {
                if row & (4 >> column) != 0 {
                    dot(left + column * scale, top);
                }
            }
            top += scale;
        }
        left += STEP * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_differ_but_for_the_zero_and_the_frame() {
        for (at, (letter, rows)) in LETTERS.iter().enumerate() {
            let same = LETTERS[..at].iter().find(|(_, other)| other == rows);
            assert_eq!(same, None, "{letter}");
        }
        let mut dots = Vec::new();
        draw("L", 10, 20, 2, &mut |x, y| dots.push((x, y)));
        assert_eq!(
            dots,
            [
                (10, 20),
                (10, 22),
                (10, 24),
                (10, 26),
                (10, 28),
                (12, 28),
                (14, 28)
            ]
        );
        assert_eq!(size("AB", 2), (14, 10));
        assert_eq!(size("", 2), (0, 10));
    }
}
