//! Standard errors.

use crate::error::{Error, Result};
use crate::metric::{count, mean};

/// Draws of lm-evaluation-harness's bootstrap.
pub const DRAWS: usize = 100_000;
/// Draws it takes for BLEU, chrF and TER.
pub const DRAWS_OF_CORPUS_METRICS: usize = 100;
/// Draws that share a generator; as many as upstream gives one seed.
const CHUNK: usize = 1000;

/// The standard deviation of a sample (n - 1 below).
///
/// # Errors
/// [`Error::Metric`] for fewer than two values.
pub fn sample_deviation(values: &[f64]) -> Result<f64> {
    if values.len() < 2 {
        return Err(Error::metric("stderr", "there are fewer than two values"));
    }
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Ok((squares / count(values.len() - 1)).sqrt())
}

/// The standard error of a mean: the sample's deviation by the root of n.
///
/// # Errors
/// [`Error::Metric`] for fewer than two values.
pub fn of_mean(values: &[f64]) -> Result<f64> {
    Ok(sample_deviation(values)? / count(values.len()).sqrt())
}

/// The bootstrap estimate for any statistic of `items` items: the sample deviation of its values over `draws` draws
/// with replacement. The statistic is given the indices of the drawn items.
///
/// The result depends on nothing but the arguments: draws are numbered, and each thousand has a generator of its own
/// whichever thread makes them. (Upstream draws with Python's generator; its last digits differ.)
///
/// # Errors
/// [`Error::Metric`] for fewer than two items or draws.
pub fn bootstrap(
    items: usize,
    draws: usize,
    statistic: impl Fn(&[usize]) -> f64 + Sync,
) -> Result<f64> {
    sample_deviation(&replicates(items, draws, statistic)?)
}

/// The statistic's values over the draws of a [`bootstrap`].
///
/// # Errors
/// [`Error::Metric`] for fewer than two items or draws.
pub fn replicates(
    items: usize,
    draws: usize,
    statistic: impl Fn(&[usize]) -> f64 + Sync,
) -> Result<Vec<f64>> {
    if items < 2 || draws < 2 {
        return Err(Error::metric(
            "stderr",
            "there are fewer than two items or draws",
        ));
    }
    let mut values = vec![0.0; draws];
    let chunks: Vec<(usize, &mut [f64])> = values.chunks_mut(CHUNK).enumerate().collect();
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(chunks.len());
    let mut shares: Vec<Vec<(usize, &mut [f64])>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, chunk) in chunks.into_iter().enumerate() {
        shares[index % threads].push(chunk);
    }
    std::thread::scope(|scope| {
        for share in shares {
            scope.spawn(|| {
                let mut indices = vec![0; items];
                for (seed, chunk) in share {
                    let mut generator = Generator::new(u64::try_from(seed).unwrap_or(u64::MAX));
                    for value in chunk {
                        indices.fill_with(|| generator.below(items));
                        *value = statistic(&indices);
                    }
                }
            });
        }
    });
    Ok(values)
}

/// The standard error of a mean of group members weighted by their sizes (lm-evaluation-harness's
/// `pooled_sample_stderr`). Each member is its standard error and its number of items.
///
/// # Errors
/// [`Error::Metric`] if no member has more than one item.
pub fn pooled(members: &[(f64, usize)]) -> Result<f64> {
    let items: usize = members.iter().map(|&(_, n)| n).sum();
    if items <= members.len() {
        return Err(Error::metric("stderr", "the members have too few items"));
    }
    let squares = members
        .iter()
        .map(|&(error, n)| (count(n) - 1.0) * error * error * count(n));
    let variance = squares.sum::<f64>() / count(items - members.len());
    Ok((variance / count(items)).sqrt())
}

/// The standard error of an unweighted mean of group members.
///
/// # Errors
/// [`Error::Metric`] for no members.
pub fn of_unweighted_mean(errors: &[f64]) -> Result<f64> {
    if errors.is_empty() {
        return Err(Error::metric("stderr", "there are no members"));
    }
    Ok(errors.iter().map(|error| error * error).sum::<f64>().sqrt() / count(errors.len()))
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
pub(crate) struct Generator(u64);

impl Generator {
    /// One stream per seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut generator = Self(seed ^ 0x5851_f42d_4c95_7f2d);
        generator.next();
        generator
    }

    /// 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An index below `n`; the bias of the multiplication is below n / 2^64.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let product = u128::from(self.next()) * u128::try_from(n).unwrap_or_default();
        usize::try_from(product >> 64).unwrap_or_default()
    }

    /// A number from the standard normal distribution (Box and Muller).
    #[cfg(feature = "langdetect")]
    pub(crate) fn normal(&mut self) -> f64 {
        // 53 bits, above 0 and at most 1.
        let mut uniform =
            || count(usize::try_from(self.next() >> 11).unwrap_or_default() + 1) / 2_f64.powi(53);
        let (a, b) = (uniform(), uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of(values: &[f64]) -> impl Fn(&[usize]) -> f64 + Sync {
        move |indices| indices.iter().map(|&i| values[i]).sum::<f64>() / count(indices.len())
    }

    #[test]
    fn bootstrap_of_a_mean_is_near_its_closed_form() {
        let values: Vec<f64> = (0..200_u32).map(|i| f64::from(i % 7)).collect();
        let (closed, drawn) = (of_mean(&values), bootstrap(200, 20_000, mean_of(&values)));
        let (closed, drawn) = (closed.unwrap(), drawn.unwrap());
        assert!((closed - drawn).abs() < 0.03 * closed, "{closed} {drawn}");
    }

    #[test]
    fn draws_are_the_same_every_time() {
        let values = [1.0, 2.0, 4.0];
        let first = replicates(3, 2500, mean_of(&values)).unwrap();
        assert_eq!(first, replicates(3, 2500, mean_of(&values)).unwrap());
        assert_ne!(first[..1000], first[1000..2000]);
    }

    #[test]
    fn too_little_to_tell() {
        assert!(of_mean(&[1.0]).is_err());
        assert!(bootstrap(1, 10, |_| 0.0).is_err());
        assert!(pooled(&[(0.1, 1)]).is_err());
        assert!(of_unweighted_mean(&[]).is_err());
    }

    #[test]
    fn equal_members_pool_to_the_unweighted_error() {
        let pooled = pooled(&[(0.1, 50), (0.3, 50)]).unwrap();
        let unweighted = of_unweighted_mean(&[0.1, 0.3]).unwrap();
        assert!((pooled - unweighted).abs() < 1e-12);
    }
}
