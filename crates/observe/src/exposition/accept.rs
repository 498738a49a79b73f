//! Reads the header `Accept`.

use super::Format;

/// More parts are not looked at.
const PARTS_MAX: usize = 32;

pub(super) fn accepted(accept: &str) -> Format {
    let mut best = (0.0, Format::Prometheus);
    for part in accept.split(',').take(PARTS_MAX) {
        let mut words = part.split(';').map(str::trim);
        let kind = words.next().unwrap_or_default();
        let (mut quality, mut version, mut proto, mut encoding) = (1.0_f64, None, None, None);
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name.trim() {
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim()),
                "proto" => proto = Some(value.trim()),
                "encoding" => encoding = Some(value.trim()),
                _ => {}
            }
        }
        let format = match (kind, version) {
            ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => Format::OpenMetrics,
            ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Format::Prometheus,
            ("application/vnd.google.protobuf", _)
                if proto == Some("io.prometheus.client.MetricFamily") && encoding == Some("delimited") =>
            {
                Format::Protobuf
            }
            _ => continue,
        };
        // Of two that are as good the later one of `Format` says more.
        if quality > best.0 || (quality == best.0 && quality > 0.0 && format > best.1) {
            best = (quality, format);
        }
    }
    best.1
}
