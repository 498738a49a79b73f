//! Writes the log events of the client and the broker to stderr, one per line: warnings, unless `MILENA_LOG` says otherwise.
//!
//! `MILENA_LOG` is a level (`off`, `info`, `debug`), or a level for each part: `milena=warn,milena_broker=debug`.

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

/// Writes events to stderr from now until the process ends: those of `default` unless the user wants others.
pub(crate) fn listen(default: &str) -> Result<(), Failure> {
    let wanted = match std::env::var(VARIABLE) {
        Ok(wanted) => wanted,
        Err(VarError::NotPresent) => String::new(),
        Err(VarError::NotUnicode(wanted)) => return Err(no_filter(&wanted.to_string_lossy())),
    };
    let wanted = filter(if wanted.is_empty() { default } else { &wanted })?;
    let lines = layer()
        .log_internal_errors(false)
        .event_format(Line)
        .with_writer(|| anstream::AutoStream::auto(io::stderr()));
    let subscriber = tracing_subscriber::registry().with(lines).with(wanted);
    // This fails only if it was called before.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Parses the filter; the default is `warn`. A word without `=` must be a level: `Targets` would take a misspelt level for
/// the name of a part.
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
    Failure::usage(format!("{VARIABLE}={wanted:?} is not a log filter"))
        .hint("Write off, error, warn, info, debug or trace, or a level for each part: milena=info,milena_broker=debug.")
}

/// Formats an event like the commands' own messages: `warning: MESSAGE`.
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
            // Clear the progress line, if there is one; it is drawn again.
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
