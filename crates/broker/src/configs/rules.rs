//! The configs of a topic that this broker acts on, in the form in which it acts on them.

use super::Overrides;
use super::topic::definition;
use crate::check::Rules;
use crate::log::{Compaction, Retention, Roll};

/// The configs of a topic that this broker acts on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TopicRules {
    /// `max.message.bytes`, unit bytes.
    pub(crate) batch_bytes_max: usize,
    /// `max.decompressed.message.bytes`, of one record in a compressed batch.
    pub(crate) record_bytes_max: usize,
    /// `segment.bytes`.
    pub(crate) segment_bytes: u64,
    /// `segment.ms`.
    pub(crate) segment_ms: i64,
    /// `message.timestamp.type=LogAppendTime`.
    pub(crate) stamps_append_time: bool,
    /// `message.timestamp.before.max.ms`.
    pub(crate) timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub(crate) timestamp_after_max_ms: i64,
    /// `cleanup.policy` contains `delete`.
    pub(crate) is_trimmed: bool,
    /// `cleanup.policy` contains `compact`.
    pub(crate) is_compacted: bool,
    /// `retention.ms`.
    pub(crate) retention_ms: Option<i64>,
    /// `retention.bytes`.
    pub(crate) retention_bytes: Option<u64>,
    /// `min.cleanable.dirty.ratio`.
    pub(crate) dirty_ratio_min: f64,
    /// `min.compaction.lag.ms`.
    pub(crate) compaction_lag_min_ms: i64,
    /// `max.compaction.lag.ms`.
    pub(crate) compaction_lag_max_ms: i64,
    /// `delete.retention.ms`.
    pub(crate) tombstone_ms: i64,
    /// `min.insync.replicas`.
    pub(crate) insync_min: usize,
}

impl TopicRules {
    /// The rules of a topic that sets `overrides`, and has the broker's `defaults` for what it does not set.
    pub(crate) fn new(overrides: &Overrides, defaults: &Overrides) -> Self {
        let text = |name: &str| {
            let value = overrides.get(name).or_else(|| defaults.get(name)).map(String::as_str);
            value.unwrap_or_else(|| definition(name).map_or("", |definition| definition.default)).trim()
        };
        // Values are checked before they are stored, so that these conversions do not fail.
        let number = |name: &str| text(name).parse::<i64>().unwrap_or_default();
        let size = |name: &str| number(name).max(0) as usize;
        let has_policy =
            |wanted: &str| text("cleanup.policy").split(',').any(|policy| policy.trim() == wanted);
        Self {
            batch_bytes_max: size("max.message.bytes"),
            record_bytes_max: size("max.decompressed.message.bytes"),
            segment_bytes: number("segment.bytes").max(1) as u64,
            segment_ms: number("segment.ms"),
            stamps_append_time: text("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            is_trimmed: has_policy("delete"),
            is_compacted: has_policy("compact"),
            retention_ms: Some(number("retention.ms")).filter(|&ms| ms >= 0),
            retention_bytes: u64::try_from(number("retention.bytes")).ok(),
            dirty_ratio_min: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            compaction_lag_min_ms: number("min.compaction.lag.ms"),
            compaction_lag_max_ms: number("max.compaction.lag.ms"),
            tombstone_ms: number("delete.retention.ms"),
            insync_min: size("min.insync.replicas").max(1),
        }
    }

    /// When a new segment begins.
    pub(crate) fn roll(&self) -> Roll {
        // A record can be compacted only when its segment is not the last one any more.
        let is_hurried = self.is_compacted && self.compaction_lag_max_ms > 0;
        let lag_max_ms = if is_hurried { self.compaction_lag_max_ms } else { i64::MAX };
        Roll { bytes_max: self.segment_bytes, span_max_ms: self.segment_ms.min(lag_max_ms) }
    }

    /// When a log is compacted; `None` if it is not.
    pub(crate) fn compaction(&self) -> Option<Compaction> {
        let compaction = Compaction {
            dirty_ratio_min: self.dirty_ratio_min,
            lag_min_ms: self.compaction_lag_min_ms,
            lag_max_ms: self.compaction_lag_max_ms,
            tombstone_ms: self.tombstone_ms,
            segment_bytes: self.segment_bytes,
        };
        self.is_compacted.then_some(compaction)
    }

    /// How much of a log is kept; `None` if that has no limit.
    pub(crate) fn retention(&self) -> Option<Retention> {
        let retention = Retention { age_max_ms: self.retention_ms, bytes_max: self.retention_bytes };
        self.is_trimmed.then_some(retention)
    }

    /// The rules for batches that arrive at `now_ms`.
    pub(crate) fn of_batches(&self, now_ms: i64) -> Rules {
        Rules {
            batch_bytes_max: self.batch_bytes_max,
            record_bytes_max: self.record_bytes_max,
            segment_bytes: self.segment_bytes,
            now_ms,
            timestamp_before_max_ms: self.timestamp_before_max_ms,
            timestamp_after_max_ms: self.timestamp_after_max_ms,
            stamps_append_time: self.stamps_append_time,
            is_compacted: self.is_compacted,
        }
    }
}
