//! Metrics as Prometheus reads them: its text format 0.0.4, OpenMetrics 1.0, and its protobuf format with native histograms.
//!
//! ```
//! use milena::metrics::{Family, Registry};
//! use milena_observe::exposition::Format;
//!
//! static SALES: Family = Family::counter("shop_sales_total", "Sales.").labelled(&["city"], 0);
//! let registry = Registry::new();
//! registry.counter(&SALES, &["Kiel"]).add(2);
//! assert_eq!(
//!     String::from_utf8(Format::OpenMetrics.write(&registry.snapshot()))?,
//!     "# TYPE shop_sales counter\n# HELP shop_sales Sales.\nshop_sales_total{city=\"Kiel\"} 2\n# EOF\n"
//! );
//! # Ok::<_, std::string::FromUtf8Error>(())
//! ```

mod accept;
mod encoding;
pub(crate) mod page;
mod protobuf;
#[cfg(test)]
mod tests;
mod text;

use milena::metrics::Snapshot;

pub use self::encoding::Encoding;

/// How metrics are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' protobuf format, each family after its length. It is the only one with native histograms, and Prometheus asks for it
    /// with `--enable-feature=native-histograms` (from 3.8 on `scrape_native_histograms`).
    Protobuf,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Prometheus, Self::OpenMetrics, Self::Protobuf];

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
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// A snapshot in this format. In text families without series have their type and help only, and in protobuf they are left out.
    /// Histograms have classic buckets, whose bounds follow from the unit, and in protobuf native ones, too.
    pub fn write(self, snapshot: &Snapshot) -> Vec<u8> {
        let mut page = page::Page::new(self);
        page.snapshot(snapshot);
        page.finish()
    }
}
