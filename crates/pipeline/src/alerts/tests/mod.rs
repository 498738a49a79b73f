//! Rules on times that tests choose, and deliveries to receivers of theirs.

mod delivering;
mod receivers;
mod ruling;

use std::time::UNIX_EPOCH;

use super::*;
use crate::Span as _;

/// 2026-11-29T08:15:30.250Z.
fn epoch() -> SystemTime {
    UNIX_EPOCH + 1795940130250.ms()
}

/// An alert that opened at [`epoch`], of which nothing must be taken for markup.
fn alert() -> Alert {
    Alert {
        name: "DeadLetterRate".into(),
        pipeline: "billing & \"co\"".into(),
        severity: Severity::Warning,
        summary: "12 records <went> to the dead letters\n within a minute; the limit is 10".into(),
        value: 12.0,
        limit: 10.5,
        starts_at: epoch(),
        seen_at: epoch() + 5.s(),
        ends_at: None,
    }
}

fn resolved() -> Alert {
    Alert { ends_at: Some(epoch() + 90.s()), value: 0.0, ..alert() }
}
