//! Draws what is seen, and what keys change of it.

use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span as Words};
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::rows::{GroupRow, HotRow, Sight, TopicRow};
use crate::units::Span;

/// What of it is on the screen.
#[derive(Debug, Default)]
pub(super) struct View {
    tab: Tab,
    sort: Sort,
    /// Rows that were scrolled over.
    top: usize,
    /// Why the last look failed.
    pub(super) trouble: Option<String>,
    /// Rows that fit.
    height: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Tab {
    #[default]
    Groups,
    Topics,
    Hot,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sort {
    #[default]
    Lag,
    Rate,
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    GoOn,
    End,
}

const TABS: [(Tab, &str); 3] =
    [(Tab::Groups, "1 groups"), (Tab::Topics, "2 topics"), (Tab::Hot, "3 hot partitions")];

impl View {
    pub(super) fn key(&mut self, key: KeyEvent) -> Answer {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Answer::End,
            // The terminal is raw: Ctrl-C is a key, and no signal.
            KeyCode::Char('c') if is_control => return Answer::End,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(TABS.len() - 1),
            KeyCode::Char('1') => self.show(Tab::Groups),
            KeyCode::Char('2') => self.show(Tab::Topics),
            KeyCode::Char('3') => self.show(Tab::Hot),
            KeyCode::Char('l') => self.sort = Sort::Lag,
            KeyCode::Char('r') => self.sort = Sort::Rate,
            KeyCode::Char('n') => self.sort = Sort::Name,
            KeyCode::Down | KeyCode::Char('j') => self.top += 1,
            KeyCode::Up | KeyCode::Char('k') => self.top = self.top.saturating_sub(1),
            KeyCode::PageDown => self.top += self.height,
            KeyCode::PageUp => self.top = self.top.saturating_sub(self.height),
            KeyCode::Home => self.top = 0,
            _ => {}
        }
        Answer::GoOn
    }

    fn turn(&mut self, by: usize) {
        let at = TABS.iter().position(|(tab, _)| *tab == self.tab).unwrap_or(0);
        self.show(TABS[(at + by) % TABS.len()].0);
    }

    fn show(&mut self, tab: Tab) {
        (self.tab, self.top) = (tab, 0);
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, sight: &Sight, view: &mut View) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    let lag: u64 = sight.groups.iter().map(|row| row.lag).sum();
    let summary = format!(
        "{} brokers, {} topics, {} partitions, {} groups, lag {lag}",
        sight.brokers,
        sight.topics.len(),
        sight.partitions,
        sight.groups.len()
    );
    let tabs = TABS.iter().flat_map(|(tab, name)| {
        let style =
            if *tab == view.tab { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        [Words::styled(format!(" {name} "), style), Words::raw(" ")]
    });
    frame.render_widget(Paragraph::new(vec![Line::raw(summary), Line::from_iter(tabs)]), head);
    view.height = usize::from(body.height.saturating_sub(1));
    // A wide terminal has room for more columns.
    let is_wide = frame.area().width >= 120;
    let (columns, rows) = match view.tab {
        Tab::Groups => groups(&sight.groups, view.sort, is_wide),
        Tab::Topics => topics(&sight.topics, view.sort),
        Tab::Hot => hot(&sight.hot, view.sort),
    };
    view.top = view.top.min(rows.len().saturating_sub(view.height.max(1)));
    let widths = columns.iter().map(|(_, width)| *width);
    let heading = Row::new(columns.iter().map(|(name, _)| Cell::from(*name)));
    let heading = heading.style(Style::new().add_modifier(Modifier::BOLD));
    let rows = rows.into_iter().skip(view.top).take(view.height);
    frame.render_widget(Table::new(rows, widths).header(heading), body);
    let foot_line = match &view.trouble {
        Some(trouble) => Line::styled(trouble.clone(), Style::new().fg(Color::Red)),
        None => Line::raw("Tab view  l r n sort by lag, rate, name  arrows scroll  q end"),
    };
    frame.render_widget(Paragraph::new(foot_line), foot);
}

type Columns = Vec<(&'static str, Constraint)>;

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.0}"))
}

fn time(seconds: Option<f64>) -> String {
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.map_or_else(|| "-".into(), |time| Span(time).to_string())
}

fn groups(rows: &[GroupRow], sort: Sort, is_wide: bool) -> (Columns, Vec<Row<'static>>) {
    let mut rows: Vec<_> = rows.iter().collect();
    let rate = |row: &GroupRow| row.consumed_per_second.unwrap_or(0.0);
    match sort {
        Sort::Lag => rows.sort_by_key(|row| std::cmp::Reverse(row.lag)),
        Sort::Rate => rows.sort_by(|one, other| rate(other).total_cmp(&rate(one))),
        Sort::Name => rows.sort_by(|one, other| one.group.cmp(&other.group)),
    }
    let length = Constraint::Length;
    let mut columns = vec![
        ("group", Constraint::Min(16)),
        ("status", length(8)),
        ("lag", length(12)),
        ("behind", length(10)),
    ];
    columns.extend([("read/s", length(9)), ("written/s", length(9))]);
    if is_wide {
        columns.extend([
            ("caught up in", length(14)),
            ("members", length(8)),
            ("partitions", length(10)),
            ("state", length(20)),
        ]);
    }
    let row = |row: &&GroupRow| {
        let style = match row.status {
            "OK" => Style::new(),
            "WARN" => Style::new().fg(Color::Yellow),
            _ => Style::new().fg(Color::Red),
        };
        let mut cells =
            vec![row.group.clone(), row.status.to_owned(), row.lag.to_string(), time(row.lag_seconds)];
        cells.extend([number(row.consumed_per_second), number(row.produced_per_second)]);
        if is_wide {
            cells.extend([
                time(row.catch_up_seconds),
                row.members.to_string(),
                row.partitions.to_string(),
                row.state.clone(),
            ]);
        }
        Row::new(cells).style(style)
    };
    (columns, rows.iter().map(row).collect())
}

fn topics(rows: &[TopicRow], sort: Sort) -> (Columns, Vec<Row<'static>>) {
    let mut rows: Vec<_> = rows.iter().collect();
    let rate = |row: &TopicRow| row.written_per_second.unwrap_or(0.0);
    match sort {
        Sort::Name => rows.sort_by(|one, other| one.topic.cmp(&other.topic)),
        Sort::Lag | Sort::Rate => rows.sort_by(|one, other| rate(other).total_cmp(&rate(one))),
    }
    let length = Constraint::Length;
    let columns = vec![
        ("topic", Constraint::Min(16)),
        ("partitions", length(10)),
        ("records", length(14)),
        ("written/s", length(10)),
        ("not in sync", length(11)),
        ("no leader", length(9)),
    ];
    let row = |row: &&TopicRow| {
        let is_bad = row.under_replicated + row.without_leader > 0;
        let style = if is_bad { Style::new().fg(Color::Red) } else { Style::new() };
        let cells = [
            row.topic.clone(),
            row.partitions.to_string(),
            row.records.to_string(),
            number(row.written_per_second),
            row.under_replicated.to_string(),
            row.without_leader.to_string(),
        ];
        Row::new(cells).style(style)
    };
    (columns, rows.iter().map(row).collect())
}

fn hot(rows: &[HotRow], sort: Sort) -> (Columns, Vec<Row<'static>>) {
    let mut rows: Vec<_> = rows.iter().collect();
    match sort {
        Sort::Lag => rows.sort_by_key(|row| std::cmp::Reverse(row.lag)),
        Sort::Rate => rows.sort_by(|one, other| other.of_written.total_cmp(&one.of_written)),
        Sort::Name => {
            rows.sort_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
        }
    }
    let length = Constraint::Length;
    let columns = vec![
        ("partition", Constraint::Min(16)),
        ("group", Constraint::Min(12)),
        ("lag", length(12)),
        ("of lag", length(8)),
        ("of written", length(10)),
    ];
    let percent = |part: f64| format!("{:.0} %", part * 100.0);
    let row = |row: &&HotRow| {
        Row::new([
            format!("{}:{}", row.topic, row.partition),
            row.group.clone(),
            row.lag.to_string(),
            percent(row.of_lag),
            percent(row.of_written),
        ])
    };
    (columns, rows.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn sight() -> Sight {
        let group = |name: &str, lag, rate| GroupRow {
            group: name.into(),
            state: "Stable".into(),
            status: if lag > 1000 { "ERR" } else { "OK" },
            members: 2,
            partitions: 4,
            lag,
            lag_seconds: Some(90.0),
            consumed_per_second: Some(rate),
            produced_per_second: Some(5.0),
            catch_up_seconds: None,
        };
        let topic = |name: &str, rate| TopicRow {
            topic: name.into(),
            partitions: 4,
            records: 1_000_000,
            written_per_second: Some(rate),
            under_replicated: 1,
            without_leader: 0,
        };
        let hot = HotRow {
            group: "a".into(),
            topic: "orders".into(),
            partition: 3,
            lag: 9,
            of_lag: 0.9,
            of_written: 0.8,
        };
        Sight {
            brokers: 3,
            partitions: 8,
            groups: vec![group("alpha", 5, 10.0), group("beta", 5000, 1.0)],
            topics: vec![topic("orders", 7.0), topic("payments", 70.0)],
            hot: vec![hot],
        }
    }

    fn shown(view: &mut View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, &sight(), view)).expect("is drawn");
        let text = terminal.backend().to_string();
        text.lines().map(|line| line.trim_matches('"').trim_end().to_owned()).collect()
    }

    fn press(view: &mut View, code: KeyCode) -> Answer {
        view.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn groups_are_shown_by_lag_in_narrow_and_in_wide_terminals() {
        let narrow = shown(&mut View::default(), 80, 10);
        assert_eq!(narrow[0], "3 brokers, 2 topics, 8 partitions, 2 groups, lag 5005");
        assert!(narrow[2].starts_with("group") && narrow[2].ends_with("written/s"), "{narrow:#?}");
        assert!(narrow[3].starts_with("beta") && narrow[4].starts_with("alpha"), "{narrow:#?}");
        assert!(narrow[3].contains("ERR") && narrow[3].contains("5000"), "{narrow:#?}");
        let wide = shown(&mut View::default(), 200, 10);
        assert!(wide[2].ends_with("state") && wide[3].ends_with("Stable"), "{wide:#?}");
    }

    #[test]
    fn keys_change_the_view_the_order_and_the_place() {
        let mut view = View::default();
        press(&mut view, KeyCode::Char('r'));
        assert!(shown(&mut view, 80, 10)[3].starts_with("alpha"));
        press(&mut view, KeyCode::Down);
        assert!(shown(&mut view, 80, 5)[3].starts_with("beta"), "scrolled by one");
        assert!(shown(&mut view, 80, 10)[3].starts_with("alpha"), "there is room for all again");
        press(&mut view, KeyCode::Tab);
        assert!(shown(&mut view, 80, 10)[3].starts_with("payments"));
        press(&mut view, KeyCode::Char('n'));
        assert!(shown(&mut view, 80, 10)[3].starts_with("orders"));
        press(&mut view, KeyCode::Char('3'));
        assert!(shown(&mut view, 80, 10)[3].starts_with("orders:3"));
        press(&mut view, KeyCode::BackTab);
        press(&mut view, KeyCode::Left);
        view.trouble = Some("no broker answers".into());
        assert_eq!(shown(&mut view, 80, 10)[9], "no broker answers");
        for tiny in [(1, 1), (10, 2), (20, 3)] {
            shown(&mut view, tiny.0, tiny.1);
        }
        assert_eq!(press(&mut view, KeyCode::Char('x')), Answer::GoOn);
        assert_eq!(press(&mut view, KeyCode::Char('q')), Answer::End);
        assert_eq!(view.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Answer::End);
    }
}
