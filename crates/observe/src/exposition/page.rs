//! What a scrape gets while it is written: families in the order of their names, whatever order their series come in.
//!
//! Who has tens of thousands of series writes them here at once, and not into a [`Snapshot`](milena::metrics::Snapshot) first: its maps and
//! shared label values took ten times as long as the text.

use milena::metrics::{Family, Snapshot, Value};

use super::{Format, protobuf, text};

pub(crate) struct Page {
    format: Format,
    parts: Vec<Part>,
}

/// One family with what was written of it.
struct Part {
    family: &'static Family,
    series: Vec<u8>,
}

impl Page {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, parts: Vec::new() }
    }

    /// Adds all families of a snapshot, also those without series.
    pub(crate) fn snapshot(&mut self, snapshot: &Snapshot) {
        for family in snapshot.families() {
            let of = family.family();
            self.part(of);
            for sample in family.samples() {
                self.write(of, sample.labels, sample.value);
            }
        }
    }

    /// Adds a counter, in the unit of its family. Each series comes once.
    pub(crate) fn counter(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        self.write(family, labels, &Value::Counter(value));
    }

    /// Adds a gauge, in the unit of its family. Each series comes once.
    pub(crate) fn gauge(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        self.write(family, labels, &Value::Gauge(value));
    }

    fn write<L: AsRef<str>>(&mut self, family: &'static Family, labels: &[L], value: &Value) {
        let format = self.format;
        let series = &mut self.part(family).series;
        match format {
            Format::Prometheus | Format::OpenMetrics => text::series(series, family, labels, value),
            Format::Protobuf => protobuf::series(series, family, labels, value),
        }
    }

    fn part(&mut self, family: &'static Family) -> &mut Part {
        // There are few families, and the address is the quickest to compare. A constant may have several, so names count, too.
        let is_it = |part: &Part| std::ptr::eq(part.family, family);
        let found = self.parts.iter().position(is_it);
        let found = found.or_else(|| self.parts.iter().position(|part| part.family.name == family.name));
        let index = found.unwrap_or(self.parts.len());
        if index == self.parts.len() {
            self.parts.push(Part { family, series: Vec::new() });
        }
        &mut self.parts[index]
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.parts.sort_by_key(|part| part.family.name);
        let mut all = Vec::with_capacity(self.parts.iter().map(|part| part.series.len() + 256).sum());
        for Part { family, series } in self.parts {
            match self.format {
                Format::Prometheus | Format::OpenMetrics => {
                    text::head(&mut all, family, self.format);
                    all.extend_from_slice(&series);
                }
                Format::Protobuf => protobuf::family(&mut all, family, &series),
            }
        }
        if self.format == Format::OpenMetrics {
            all.extend_from_slice(b"# EOF\n");
        }
        all
    }
}
