//! How receivers want alerts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Alert;

/// An alert that is not seen any more ends this long after it was last told: the process that would have resolved it is gone.
/// Prometheus gives Alertmanager four times its resend delay of a minute.
#[cfg(feature = "webhook")]
const LIFETIME: Duration = Duration::from_secs(4 * 60);

/// An object with these fields in this order. Values are JSON.
fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", text(name))).collect();
    format!("{{{}}}", fields.join(","))
}

/// A text as JSON.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A time as JSON.
fn time(at: SystemTime) -> String {
    text(&rfc3339(at))
}

/// The body that is ours, and that commands get.
pub(super) fn plain(alert: &Alert) -> String {
    object(&[
        ("status", text(alert.status())),
        ("key", text(&alert.key())),
        ("name", text(&alert.name)),
        ("pipeline", text(&alert.pipeline)),
        ("severity", text(alert.severity.as_str())),
        ("summary", text(&alert.summary)),
        ("value", alert.value.to_string()),
        ("limit", alert.limit.to_string()),
        ("starts_at", time(alert.starts_at)),
        ("ends_at", alert.ends_at.map_or_else(|| "null".into(), time)),
    ])
}

/// A message for Slack's incoming webhooks, and for chats that take the same.
#[cfg(feature = "webhook")]
pub(super) fn slack(alert: &Alert) -> String {
    // Slack's own markup is made of these.
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let Alert { name, pipeline, severity, summary, .. } = alert;
    let (name, pipeline, summary) = (escaped(name), escaped(pipeline), escaped(summary));
    let message = if alert.is_resolved() {
        format!(":white_check_mark: *{name}* of {pipeline} is resolved. It was: {summary}")
    } else {
        format!(":rotating_light: *{name}* ({}) of {pipeline}: {summary}", severity.as_str())
    };
    object(&[("text", text(&message))])
}

/// The body of Alertmanager's `POST /api/v2/alerts`. Alertmanager takes alerts with the same labels as one.
#[cfg(feature = "webhook")]
pub(super) fn alertmanager(alert: &Alert) -> String {
    let labels = object(&[
        ("alertname", text(&alert.name)),
        ("pipeline", text(&alert.pipeline)),
        ("severity", text(alert.severity.as_str())),
    ]);
    let annotations = object(&[("summary", text(&alert.summary))]);
    let ends_at =
        alert.ends_at.unwrap_or_else(|| alert.seen_at.checked_add(LIFETIME).unwrap_or(alert.seen_at));
    let alert = object(&[
        ("labels", labels),
        ("annotations", annotations),
        ("startsAt", time(alert.starts_at)),
        ("endsAt", time(ends_at)),
    ]);
    format!("[{alert}]")
}

/// `2026-11-29T08:15:30.250Z`. A time before 1970 is that of 1970.
pub(super) fn rfc3339(at: SystemTime) -> String {
    let since: Duration = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second, ms) = (second / 3600, second / 60 % 60, second % 60, since.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Howard Hinnant's `civil_from_days`, for days since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March here.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}
