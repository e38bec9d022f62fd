//! Labels against labels.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::metric::count;

/// A pair of labels: the right one and the predicted one.
pub type Labels = (i64, i64);

fn not_empty(metric: &'static str, items: &[Labels]) -> Result<()> {
    if items.is_empty() {
        return Err(Error::metric(metric, "there are no items"));
    }
    Ok(())
}

/// The share of equal pairs.
///
/// # Errors
/// [`Error::Metric`] for no items.
pub fn accuracy(items: &[Labels]) -> Result<f64> {
    not_empty("accuracy", items)?;
    let right = items
        .iter()
        .filter(|(gold, predicted)| gold == predicted)
        .count();
    Ok(count(right) / count(items.len()))
}

/// Matthews' correlation coefficient over any number of classes (scikit-learn's `matthews_corrcoef`); 0 where a side
/// has a single class.
///
/// # Errors
/// [`Error::Metric`] for no items.
pub fn matthews_correlation(items: &[Labels]) -> Result<f64> {
    not_empty("mcc", items)?;
    let mut golds: BTreeMap<i64, f64> = BTreeMap::new();
    let mut predictions: BTreeMap<i64, f64> = BTreeMap::new();
    let mut right = 0.0;
    for &(gold, predicted) in items {
        *golds.entry(gold).or_default() += 1.0;
        *predictions.entry(predicted).or_default() += 1.0;
        if gold == predicted {
            right += 1.0;
        }
    }
    let n = count(items.len());
    let both = |class: &i64| golds[class] * predictions.get(class).copied().unwrap_or_default();
    let covariance = right * n - golds.keys().map(both).sum::<f64>();
    let spread = |counts: &BTreeMap<i64, f64>| n * n - counts.values().map(|c| c * c).sum::<f64>();
    let product = spread(&golds) * spread(&predictions);
    Ok(if product == 0.0 {
        0.0
    } else {
        covariance / product.sqrt()
    })
}

fn f1_of(items: &[Labels], class: i64) -> f64 {
    let (mut hits, mut errors) = (0.0, 0.0);
    for &(gold, predicted) in items {
        match (gold == class, predicted == class) {
            (true, true) => hits += 1.0,
            (true, false) | (false, true) => errors += 1.0,
            (false, false) => {}
        }
    }
    if hits == 0.0 {
        0.0
    } else {
        2.0 * hits / (2.0 * hits + errors)
    }
}

/// F1 of the class 1.
///
/// # Errors
/// [`Error::Metric`] for no items.
pub fn f1_binary(items: &[Labels]) -> Result<f64> {
    not_empty("f1", items)?;
    Ok(f1_of(items, 1))
}

/// The mean of F1 over the classes that occur on either side.
///
/// # Errors
/// [`Error::Metric`] for no items.
pub fn f1_macro(items: &[Labels]) -> Result<f64> {
    not_empty("f1_macro", items)?;
    let mut classes: Vec<i64> = items
        .iter()
        .flat_map(|&(gold, predicted)| [gold, predicted])
        .collect();
    classes.sort_unstable();
    classes.dedup();
    let sum: f64 = classes.iter().map(|&class| f1_of(items, class)).sum();
    Ok(sum / count(classes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_alone_has_no_correlation() {
        assert_eq!(matthews_correlation(&[(1, 1), (1, 1)]).unwrap(), 0.0);
        assert_eq!(matthews_correlation(&[(1, 1), (0, 0)]).unwrap(), 1.0);
        assert_eq!(matthews_correlation(&[(1, 0), (0, 1)]).unwrap(), -1.0);
        assert!(accuracy(&[]).is_err());
    }

    #[test]
    fn macro_f1_counts_classes_of_both_sides() {
        assert_eq!(f1_macro(&[(0, 0), (0, 2)]).unwrap(), (2.0 / 3.0) / 2.0);
        assert_eq!(f1_binary(&[(0, 0)]).unwrap(), 0.0);
    }
}
