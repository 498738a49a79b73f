//! A progress line on a terminal.
//!
//! It is drawn on stderr, so that stdout has data only. It is hidden if stderr is not a terminal, or if stdout is a
//! terminal that shows records.

use std::borrow::Cow;
use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress line, which may be hidden.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Progress towards a known total.
    pub(crate) fn of(total: u64) -> Self {
        Self::new(
            ProgressBar::with_draw_target(Some(total), target(true)),
            "{bar:20} {percent:>3}%  {wide_msg}",
        )
    }

    /// A running count, when `wanted`.
    pub(crate) fn counting(wanted: bool) -> Self {
        Self::new(ProgressBar::with_draw_target(None, target(wanted)), "{spinner} {elapsed}  {wide_msg}")
    }

    fn new(bar: ProgressBar, template: &str) -> Self {
        // The templates above are constants that parse; the default style is for a mistake in one.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸ "));
        Self { bar }
    }

    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    pub(crate) fn show(&self, position: u64, message: impl Into<Cow<'static, str>>) {
        // Each call draws, unless the line was drawn a moment ago.
        self.bar.set_message(message);
        self.bar.set_position(position);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// How often the line is updated.
pub(crate) const TICK: Duration = Duration::from_millis(100);

fn target(wanted: bool) -> ProgressDrawTarget {
    if wanted && stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}
