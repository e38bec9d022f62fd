//! Rotary position embedding (arXiv 2104.09864) of one head.

/// Rotates one head in place, pairs taken from its two halves as Hugging Face's code does:
/// `x[i], x[i + d/2] = x[i] cos - x[i + d/2] sin, x[i + d/2] cos + x[i] sin`.
///
/// # Shapes
/// - x: `(head_dim)`
/// - cos, sin: `(head_dim / 2)`
///
/// Where the lengths disagree, the pairs that all three have are rotated.
pub fn rope(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = x.split_at_mut(x.len() / 2);
    for (((a, b), &cos), &sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotates_pairs_of_the_two_halves() {
        let mut x = [1.0, 0.0, 3.0, 0.0, 2.0, 4.0];
        rope(&mut x, &[0.0, 1.0, 0.6], &[1.0, 0.0, 0.8]);
        assert_eq!(
            x,
            [
                0.0,
                0.0,
                3.0 * 0.6 - 4.0 * 0.8,
                1.0,
                2.0,
                4.0 * 0.6 + 3.0 * 0.8
            ]
        );
    }

    #[test]
    fn keeps_the_length_of_each_pair() {
        let x: Vec<f32> = (0..64).map(|i| (i as f32 * 0.37).sin()).collect();
        let angles: Vec<f32> = (0..32).map(|i| i as f32 * 0.11).collect();
        let (cos, sin): (Vec<_>, Vec<_>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let mut y = x.clone();
        rope(&mut y, &cos, &sin);
        for i in 0..32 {
            assert!((x[i].hypot(x[i + 32]) - y[i].hypot(y[i + 32])).abs() < 1e-6);
        }
    }
}
