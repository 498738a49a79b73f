//! Medians and spreads, and how a figure is written. Pure.

/// What several rounds gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure {
    /// The middle one, or the mean of the two in the middle.
    pub(super) median: f64,
    /// The least.
    pub(super) min: f64,
    /// The greatest.
    pub(super) max: f64,
}

impl Figure {
    /// None of nothing.
    #[must_use]
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }

    /// How far the rounds lie apart, as a share of the median.
    #[must_use]
    pub(super) fn spread(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.max - self.min) / self.median }
    }
}

/// `value` with three digits, and k or M for thousands and millions.
#[must_use]
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e4 => format!("{:.0} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        size if size >= 0.001 => format!("{value:.3}"),
        _ => format!("{value:.0e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let figure = |values: &[f64]| Figure::of(values.to_vec());
        assert_eq!(figure(&[]), None);
        assert_eq!(figure(&[3.0, 1.0, 2.0]), Some(Figure { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(figure(&[4.0, 1.0]), Some(Figure { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(figure(&[4.0, 3.0, 5.0]).map(|figure| figure.spread()), Some(0.5));
    }

    #[test]
    fn numbers_have_three_digits() {
        let told = [0.0, 0.0021, 0.5, 1.256, 20.04, 374.2, 55_400.0, 3_165_000.0].map(number);
        assert_eq!(told, ["0", "0.002", "0.500", "1.26", "20.0", "374", "55 k", "3.17 M"]);
    }
}
