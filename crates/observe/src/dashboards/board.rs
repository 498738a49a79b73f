//! What is on a dashboard, whatever shows it.

/// A dashboard.
#[derive(Debug, Clone)]
pub struct Board {
    /// Its name in addresses and file names, such as `milena-producer`.
    pub uid: &'static str,
    /// What stands above it.
    pub title: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

/// Panels under one heading.
#[derive(Debug, Clone)]
pub struct Row {
    /// The heading: the question that the panels answer.
    pub title: &'static str,
    /// From left to right.
    pub panels: Vec<Panel>,
}

/// One chart.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What stands above it.
    pub title: &'static str,
    /// How to read it.
    pub help: &'static str,
    /// How its values are drawn.
    pub look: Look,
    /// What its values are in.
    pub unit: Shown,
    /// What it asks Prometheus.
    pub queries: Vec<Query>,
}

/// How values are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Lines over time.
    Lines,
    /// Areas on top of each other over time, for parts of a whole.
    Stacked,
    /// The newest value as a number.
    Number,
}

/// What values are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A number of things.
    Count,
    /// Things a second.
    PerSecond,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Seconds.
    Seconds,
    /// A share of 1, shown in per cent.
    Share,
    /// A factor.
    Factor,
}

/// An expression and what its lines are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// PromQL.
    pub expr: String,
    /// The name of each line; `{{label}}` stands for the value of a label.
    pub legend: String,
}

impl Panel {
    /// Lines over time of one expression.
    pub fn lines(title: &'static str, unit: Shown, expr: String, legend: &str) -> Self {
        Self::new(title, Look::Lines, unit, vec![Query::new(expr, legend)])
    }

    /// Areas on top of each other.
    pub fn stacked(title: &'static str, unit: Shown, expr: String, legend: &str) -> Self {
        Self::new(title, Look::Stacked, unit, vec![Query::new(expr, legend)])
    }

    /// The newest value.
    pub fn number(title: &'static str, unit: Shown, expr: String) -> Self {
        Self::new(title, Look::Number, unit, vec![Query::new(expr, "")])
    }

    fn new(title: &'static str, look: Look, unit: Shown, queries: Vec<Query>) -> Self {
        Self { title, help: "", look, unit, queries }
    }

    /// The same panel with how to read it.
    pub fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// The same panel with one more expression.
    pub fn and(mut self, expr: String, legend: &str) -> Self {
        self.queries.push(Query::new(expr, legend));
        self
    }
}

impl Query {
    fn new(expr: String, legend: &str) -> Self {
        Self { expr, legend: legend.to_owned() }
    }
}

impl Board {
    /// All expressions on it.
    pub fn queries(&self) -> impl Iterator<Item = &Query> {
        self.rows.iter().flat_map(|row| &row.panels).flat_map(|panel| &panel.queries)
    }
}
