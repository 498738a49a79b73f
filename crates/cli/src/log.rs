//! What the client and the broker have to say while a command runs: warnings, on stderr, each one a line.
//!
//! `MILENA_LOG` asks for more or less: `off`, `info`, `debug`, or by part, `milena=warn,milena_broker=debug`.

use std::env::VarError;
use std::fmt;
use std::io::{self, IsTerminal as _};

use anstyle::{AnsiColor, Style};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, layer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use crate::exit::Failure;

const VARIABLE: &str = "MILENA_LOG";

/// Begins to listen, for the rest of the process.
pub(crate) fn listen() -> Result<(), Failure> {
    let wanted = match std::env::var(VARIABLE) {
        Ok(wanted) => wanted,
        Err(VarError::NotPresent) => String::new(),
        Err(VarError::NotUnicode(wanted)) => return Err(no_filter(&wanted.to_string_lossy())),
    };
    let wanted = filter(&wanted)?;
    let lines = layer()
        .log_internal_errors(false)
        .event_format(Line)
        .with_writer(|| anstream::AutoStream::auto(io::stderr()));
    let subscriber = tracing_subscriber::registry().with(lines).with(wanted);
    // It is there already only if this was called before.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// What is to be told: `warn` unless `wanted` says something else. A word alone is a level here, and none that is
/// misspelt is taken for the name of a part.
fn filter(wanted: &str) -> Result<Targets, Failure> {
    let directives = wanted.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let is_level = |directive: &str| directive.contains('=') || directive.parse::<LevelFilter>().is_ok();
    if !directives.clone().all(is_level) {
        return Err(no_filter(wanted));
    }
    let directives = directives.collect::<Vec<_>>().join(",");
    let directives = if directives.is_empty() { "warn" } else { &directives };
    directives.parse().map_err(|_| no_filter(wanted))
}

fn no_filter(wanted: &str) -> Failure {
    Failure::usage(format!("{VARIABLE}={wanted:?} is no log filter"))
        .hint("It is off, error, warn, info, debug or trace, or one for each part: milena=info,milena_broker=debug.")
}

/// An event as the commands speak: `warning: what happened`.
struct Line;

impl<S, F> FormatEvent<S, F> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, F>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if io::stderr().is_terminal() {
            // There may be a progress line, which is drawn anew.
            writer.write_str("\r\x1b[K")?;
        }
        let (word, color) = match *event.metadata().level() {
            Level::ERROR => ("error", AnsiColor::Red),
            Level::WARN => ("warning", AnsiColor::Yellow),
            Level::INFO => ("info", AnsiColor::Green),
            Level::DEBUG => ("debug", AnsiColor::Blue),
            Level::TRACE => ("trace", AnsiColor::Magenta),
        };
        let style: Style = color.on_default().bold();
        write!(writer, "{style}{word}:{style:#} ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_and_parts() {
        for text in
            ["", "off", "warn", "DEBUG", " info ", "milena=debug", "warn,milena_broker=trace", "milena=off,"]
        {
            assert!(filter(text).is_ok(), "{text:?}");
        }
        for text in ["nonsense", "verbose", "warn,nonsense", "milena=loud", "milena=debug=3", "waring"] {
            assert!(filter(text).is_err(), "{text:?}");
        }
    }
}
