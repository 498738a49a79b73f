//! What the client and the broker have to say while a command runs: warnings, on stderr, each one a line.
//!
//! `MILENA_LOG` asks for more or less: `off`, `info`, `debug`, or by part, `milena=warn,milena_broker=debug`.

use std::fmt;
use std::io::{self, IsTerminal as _};

use anstyle::{AnsiColor, Style};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, layer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use crate::exit::Failure;

const VARIABLE: &str = "MILENA_LOG";

/// Begins to listen, for the rest of the process.
pub(crate) fn listen() -> Result<(), Failure> {
    let wanted = std::env::var(VARIABLE).unwrap_or_else(|_| "warn".to_owned());
    let wanted: Targets = wanted
        .parse()
        .map_err(|error| Failure::usage(format!("{VARIABLE}={wanted:?} is no log filter: {error}")))?;
    let lines = layer().event_format(Line).with_writer(|| anstream::AutoStream::auto(io::stderr()));
    let subscriber = tracing_subscriber::registry().with(lines).with(wanted);
    // It is there already only if this was called before.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
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
