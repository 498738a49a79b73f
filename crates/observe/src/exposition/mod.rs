//! Metrics as text: Prometheus 0.0.4 and OpenMetrics 1.0.
//!
//! ```
//! use milena::metrics::{Family, Registry};
//! use milena_observe::exposition::Format;
//!
//! static SALES: Family = Family::counter("shop_sales_total", "Sales.").labelled(&["city"], 0);
//! let registry = Registry::new();
//! registry.counter(&SALES, &["Kiel"]).add(2);
//! assert_eq!(
//!     Format::OpenMetrics.text(&registry.snapshot()),
//!     "# TYPE shop_sales counter\n# HELP shop_sales Sales.\nshop_sales_total{city=\"Kiel\"} 2\n# EOF\n"
//! );
//! ```

mod accept;
#[cfg(test)]
mod tests;
mod text;

use milena::metrics::Snapshot;

/// How metrics are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 2] = [Self::Prometheus, Self::OpenMetrics];

    /// The best one of those that an HTTP client accepts; [`Prometheus`](Self::Prometheus) if it does not say, or accepts none.
    ///
    /// ```
    /// use milena_observe::exposition::Format;
    ///
    /// let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    /// assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
    /// assert_eq!(Format::accepted("text/html, */*"), Format::Prometheus);
    /// ```
    pub fn accepted(accept: &str) -> Self {
        accept::accepted(accept)
    }

    /// The `Content-Type` of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// A snapshot in this format. Families without series have their type and help only. Histograms have classic buckets, whose
    /// bounds follow from the unit.
    pub fn text(self, snapshot: &Snapshot) -> String {
        text::write(snapshot, self)
    }
}
