//! Draws bars as SVG. Pure.

use std::fmt::Write as _;

use super::drivers::FLOOR;
use super::figures::{Figure, number};
use super::summary::{Measure, Summary};

/// One measure of several scenarios, with a panel for each scenario.
pub(super) struct Plot {
    /// The file's name, without its ending.
    pub(super) name: &'static str,
    /// What the bars show, and whether more or less is better.
    pub(super) title: &'static str,
    measure: Measure,
    /// A scenario is drawn if its name begins with one of these, and if it is one of the main scenarios.
    modes: &'static [&'static str],
}

/// The plots of a report. README.md shows the first.
pub(super) const PLOTS: [Plot; 5] = [
    Plot {
        name: "summary",
        title: "Apache Kafka 4.4, lines of JSON of 1 KiB, lz4: records per second (more is better)",
        measure: Measure::RecordsPerSecond,
        modes: &["produce-kafka-1K-lz4", "consume-kafka-1K-lz4"],
    },
    Plot {
        name: "throughput",
        title: "Records per second (more is better)",
        measure: Measure::RecordsPerSecond,
        modes: &["produce", "consume"],
    },
    Plot {
        name: "cpu",
        title: "CPU nanoseconds per record, user and system (less is better)",
        measure: Measure::CpuNsPerRecord,
        modes: &["produce", "consume"],
    },
    Plot {
        name: "rss",
        title: "Peak resident memory, MB (less is better)",
        measure: Measure::RssMb,
        modes: &["produce", "consume"],
    },
    Plot {
        name: "latency",
        title: "Latency at the 99th percentile, microseconds (less is better)",
        measure: Measure::LatencyP99Us,
        modes: &["send", "pace", "latency"],
    },
];

const WIDTH: usize = 1000;
const PANEL_WIDTH: usize = WIDTH / 2;
const BAR_HEIGHT: usize = 16;
const NAME_WIDTH: usize = 130;
const VALUE_WIDTH: usize = 70;
const TITLE_HEIGHT: usize = 40;
const PANEL_TITLE_HEIGHT: usize = 26;

/// A scenario's bars.
struct Panel<'a> {
    title: &'a str,
    bars: Vec<(&'a str, Figure)>,
}

impl Plot {
    /// Draws the plot, or returns `None` if none of its scenarios was measured. Throughput, CPU and memory are drawn for the
    /// main scenarios only; the tables have all.
    pub(super) fn draw(&self, summaries: &[Summary]) -> Option<String> {
        let panels: Vec<Panel<'_>> = summaries.iter().filter_map(|summary| self.panel(summary)).collect();
        if panels.is_empty() {
            return None;
        }
        let (mut body, mut top) = (String::new(), TITLE_HEIGHT);
        for row in panels.chunks(2) {
            for (column, panel) in row.iter().enumerate() {
                panel.draw(&mut body, column * PANEL_WIDTH, top);
            }
            top += row.iter().map(Panel::height).max().unwrap_or(0);
        }
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" viewBox=\"0 0 {WIDTH} {top}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{top}\" fill=\"#fff\"/>\n"
        );
        let _ = writeln!(text, "<text x=\"12\" y=\"24\" font-size=\"16\">{}</text>", escape(self.title));
        Some(text + &body + "</svg>\n")
    }

    fn panel<'a>(&self, summary: &'a Summary) -> Option<Panel<'a>> {
        let name = &summary.scenario.name;
        let mode = self.modes.iter().find(|mode| name.starts_with(**mode))?;
        let is_timed = matches!(*mode, "send" | "pace" | "latency");
        if !is_timed && !is_main(name) {
            return None;
        }
        let bars = summary.rows.iter().filter_map(|row| Some((row.client, row.figure(self.measure)?)));
        let mut bars: Vec<_> = bars.collect();
        bars.sort_by(|one, other| one.1.median.total_cmp(&other.1.median));
        if self.measure == Measure::RecordsPerSecond {
            bars.reverse();
        }
        (!bars.is_empty()).then_some(Panel { title: name, bars })
    }
}

/// Whether it is one of the main scenarios: 100 B and 1 KiB with and without lz4, on the sink and on one broker of Kafka.
fn is_main(name: &str) -> bool {
    let cells = ["100B-none", "100B-lz4", "1K-none", "1K-lz4"];
    let mut parts = name.splitn(3, '-');
    let (_, broker, cell) = (parts.next(), parts.next(), parts.next());
    matches!(broker, Some("sink" | "kafka")) && cell.is_some_and(|cell| cells.contains(&cell))
}

impl Panel<'_> {
    fn height(&self) -> usize {
        PANEL_TITLE_HEIGHT + self.bars.len() * BAR_HEIGHT + 14
    }

    fn draw(&self, body: &mut String, left: usize, top: usize) {
        let longest = self.bars.iter().map(|(_, figure)| figure.max).fold(f64::MIN_POSITIVE, f64::max);
        let room = (PANEL_WIDTH - NAME_WIDTH - VALUE_WIDTH - 12) as f64;
        let length = |value: f64| value / longest * room;
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" font-size=\"12\" font-weight=\"bold\">{}</text>",
            left + 12,
            top + 16,
            escape(self.title)
        );
        let x = left + NAME_WIDTH;
        for (index, (client, figure)) in self.bars.iter().enumerate() {
            let y = top + PANEL_TITLE_HEIGHT + index * BAR_HEIGHT;
            let middle = y + BAR_HEIGHT / 2;
            let _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{x}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>",
                x - 6,
                middle + 4,
                escape(client),
                y + 2,
                length(figure.median),
                BAR_HEIGHT - 4,
                colour(client),
            );
            let (from, to) = (x as f64 + length(figure.min), x as f64 + length(figure.max));
            let _ = writeln!(
                body,
                "<line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#222\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{}</text>",
                to + 6.0,
                middle + 4,
                number(figure.median),
            );
        }
    }
}

fn colour(client: &str) -> &'static str {
    match client {
        "milena" => "#c2410c",
        FLOOR => "#d4d4d4",
        _ => "#7c93ad",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::summary::tests::summary;
    use super::*;

    #[test]
    fn a_plot_has_a_bar_for_everyone_in_the_main_cells() {
        let clients = [("milena", 2e6, 150.0), ("floor", 9e6, 20.0), ("franz-go", 1e6, 374.0)];
        let summaries =
            [summary("produce-sink-100B-none", &clients), summary("produce-sink-10B-none", &clients)];
        let drawn = PLOTS[2].draw(&summaries).unwrap();
        assert_eq!(drawn.matches("<rect").count(), 1 + 3);
        assert!(drawn.contains(">374</text>"));
        assert!(!drawn.contains("10B"));
        // The least CPU comes first.
        assert!(drawn.find(">floor<").unwrap() < drawn.find(">milena<").unwrap());
        assert_eq!(PLOTS[0].draw(&summaries), None);
        assert_eq!(PLOTS[4].draw(&summaries), None);
    }
}
