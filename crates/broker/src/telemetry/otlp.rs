//! Reads the metrics of a push: OpenTelemetry's `MetricsData` in protobuf's wire format (opentelemetry-proto, metrics v1).
//!
//! ```text
//!  MetricsData ─▶ ResourceMetrics ─▶ resource's attributes
//!                               └─▶ ScopeMetrics ─▶ Metric ─▶ name, gauge | sum | histogram ─▶ data points
//! ```
//!
//! The bytes are a client's. Nothing is taken for more bytes than there are, and messages are nested as deep as the format says and
//! no deeper. What a point has beyond its value and labels is skipped, and so is what this file does not know.

/// One value of one metric.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) name: String,
    /// Ordered by key.
    pub(crate) labels: Labels,
    /// What the client says of itself, with the first point of a resource.
    pub(crate) resource: Labels,
    pub(crate) shape: Shape,
    /// Whether the value is what was added since the push before.
    pub(crate) is_delta: bool,
}

pub(crate) type Labels = Vec<(String, String)>;

/// A value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    Gauge(f64),
    Sum(f64),
    Histogram { count: u64, sum: f64 },
}

/// It is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The most labels of a point or a resource, and the most bytes of a name, a key and a value. A point that exceeds them is left out.
const LABELS_MAX: usize = 16;
const TEXT_BYTES_MAX: usize = 512;

/// AggregationTemporality of opentelemetry-proto.
const DELTA: u64 = 1;

/// The points of a payload, and how many were left out because their names are too long or too many.
pub(crate) fn read(payload: &[u8]) -> Result<(Vec<Point>, u64), Malformed> {
    let mut reading = Reading { points: Vec::new(), left_out: 0 };
    for (number, value) in Fields(payload).all() {
        if let (1, Field::Bytes(resource)) = (number, value?) {
            reading.resource_metrics(resource)?;
        }
    }
    Ok((reading.points, reading.left_out))
}

struct Reading {
    points: Vec<Point>,
    left_out: u64,
}

/// What the points of a metric share.
struct Metric<'a> {
    name: &'a str,
    kind: u64,
    is_delta: bool,
}

const GAUGE: u64 = 5;
const SUM: u64 = 7;
const HISTOGRAM: u64 = 9;

impl Reading {
    fn resource_metrics(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut resource = Labels::new();
        for (number, value) in Fields(bytes).all() {
            if let (1, Field::Bytes(value)) = (number, value?) {
                resource = labels(value, 1)?.unwrap_or_default();
            }
        }
        let first = self.points.len();
        for (number, value) in Fields(bytes).all() {
            let (2, Field::Bytes(scope)) = (number, value?) else { continue };
            for (number, value) in Fields(scope).all() {
                if let (2, Field::Bytes(metric)) = (number, value?) {
                    self.metric(metric)?;
                }
            }
        }
        if let Some(point) = self.points.get_mut(first) {
            point.resource = resource;
        }
        Ok(())
    }

    fn metric(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut name = "";
        let mut data = None;
        for (number, value) in Fields(bytes).all() {
            match (number, value?) {
                (1, Field::Bytes(text)) => name = std::str::from_utf8(text).map_err(|_| Malformed)?,
                // Of several forms of data the last one counts, as protobuf has it.
                (GAUGE | SUM | HISTOGRAM, Field::Bytes(of)) => data = Some((number, of)),
                _ => {}
            }
        }
        let Some((kind, data)) = data else { return Ok(()) };
        let mut is_delta = false;
        for (number, value) in Fields(data).all() {
            if let (2, Field::Number(temporality)) = (number, value?) {
                is_delta = kind != GAUGE && temporality == DELTA;
            }
        }
        for (number, value) in Fields(data).all() {
            if let (1, Field::Bytes(point)) = (number, value?) {
                self.point(&Metric { name, kind, is_delta }, point)?;
            }
        }
        Ok(())
    }

    fn point(&mut self, metric: &Metric<'_>, bytes: &[u8]) -> Result<(), Malformed> {
        let labels_in = if metric.kind == HISTOGRAM { 9 } else { 7 };
        let (mut number_value, mut count, mut sum) = (0.0, 0, 0.0);
        for (number, value) in Fields(bytes).all() {
            match (metric.kind, number, value?) {
                (HISTOGRAM, 4, Field::Fixed64(bits)) => count = bits,
                (HISTOGRAM, 5, Field::Fixed64(bits)) => sum = f64::from_bits(bits),
                (GAUGE | SUM, 4, Field::Fixed64(bits)) => number_value = f64::from_bits(bits),
                (GAUGE | SUM, 6, Field::Fixed64(bits)) => number_value = bits.cast_signed() as f64,
                _ => {}
            }
        }
        let Some(labels) = labels(bytes, labels_in)?.filter(|_| is_short(metric.name)) else {
            self.left_out += 1;
            return Ok(());
        };
        let shape = match metric.kind {
            GAUGE => Shape::Gauge(number_value),
            SUM => Shape::Sum(number_value),
            _ => Shape::Histogram { count, sum },
        };
        let (name, is_delta) = (metric.name.to_owned(), metric.is_delta);
        self.points.push(Point { name, labels, resource: Labels::new(), shape, is_delta });
        Ok(())
    }
}

fn is_short(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX
}

/// The attributes in the fields of this number, ordered by key; `None` if there are too many or they are too long.
fn labels(bytes: &[u8], attributes: u64) -> Result<Option<Labels>, Malformed> {
    let mut labels = Labels::new();
    for (number, value) in Fields(bytes).all() {
        let Field::Bytes(attribute) = value? else { continue };
        if number != attributes {
            continue;
        }
        let (mut key, mut text) = ("", None);
        for (number, value) in Fields(attribute).all() {
            match (number, value?) {
                (1, Field::Bytes(name)) => key = std::str::from_utf8(name).map_err(|_| Malformed)?,
                (2, Field::Bytes(value)) => text = any_value(value)?,
                _ => {}
            }
        }
        let Some(text) = text else { continue };
        if labels.len() == LABELS_MAX || !is_short(key) || !is_short(&text) {
            return Ok(None);
        }
        labels.push((key.to_owned(), text));
    }
    labels.sort();
    Ok(Some(labels))
}

/// An `AnyValue` as text; `None` for lists, maps and bytes.
fn any_value(bytes: &[u8]) -> Result<Option<String>, Malformed> {
    let mut text = None;
    for (number, value) in Fields(bytes).all() {
        text = match (number, value?) {
            (1, Field::Bytes(value)) => Some(std::str::from_utf8(value).map_err(|_| Malformed)?.to_owned()),
            (2, Field::Number(value)) => Some((value != 0).to_string()),
            (3, Field::Number(value)) => Some(value.cast_signed().to_string()),
            (4, Field::Fixed64(bits)) => Some(f64::from_bits(bits).to_string()),
            _ => text,
        };
    }
    Ok(text)
}

/// A message's bytes.
struct Fields<'a>(&'a [u8]);

/// A field's value. Those of 32 bits are in no message that is read here.
enum Field<'a> {
    Number(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Fields<'a> {
    /// The fields with their numbers, until the end or the first that is malformed.
    fn all(mut self) -> impl Iterator<Item = (u64, Result<Field<'a>, Malformed>)> {
        std::iter::from_fn(move || {
            if self.0.is_empty() {
                return None;
            }
            let read = self.next_field();
            if read.is_err() {
                self.0 = &[];
            }
            Some(read.map_or((0, Err(Malformed)), |(number, field)| (number, Ok(field))))
        })
    }

    fn next_field(&mut self) -> Result<(u64, Field<'a>), Malformed> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(*self.take(8)?.first_chunk().ok_or(Malformed)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Field::Other
            }
            // Groups were given up before this format was made.
            _ => return Err(Malformed),
        };
        Ok((tag >> 3, field))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes. All lengths here have one byte.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        assert!(number < 16 && bytes.len() < 128);
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn fixed(number: u8, bits: u64) -> Vec<u8> {
        [&[number << 3 | 1][..], &bits.to_le_bytes()].concat()
    }

    fn attribute(key: &str, value: &str) -> Vec<u8> {
        [field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat()
    }

    /// A sum whose temporality stands after its point, as protobuf allows.
    fn payload() -> Vec<u8> {
        let point = [fixed(3, 7), fixed(4, 2.5_f64.to_bits()), field(7, &attribute("b", "2"))].concat();
        let point = [point, field(7, &attribute("a", "1"))].concat();
        let sum = [field(1, &point), vec![2 << 3, 1], vec![3 << 3, 1]].concat();
        let metric = [field(7, &sum), field(1, b"m")].concat();
        let resource = field(1, &attribute("group_id", "g"));
        let metrics = [field(2, &field(2, &metric)), field(1, &resource)].concat();
        field(1, &metrics)
    }

    #[test]
    fn a_point_has_its_name_labels_resource_and_temporality_in_any_order_of_fields() {
        let own = |labels: &[(&str, &str)]| -> Labels {
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let expected = Point {
            name: "m".to_owned(),
            labels: own(&[("a", "1"), ("b", "2")]),
            resource: own(&[("group_id", "g")]),
            shape: Shape::Sum(2.5),
            is_delta: true,
        };
        assert_eq!(read(&payload()), Ok((vec![expected], 0)));
        assert_eq!(read(&[]), Ok((Vec::new(), 0)));
    }

    #[test]
    fn bytes_that_are_cut_or_changed_never_panic_and_a_cut_is_noticed() {
        let whole = payload();
        for end in 1..whole.len() {
            assert_eq!(read(&whole[..end]), Err(Malformed), "cut at {end}");
        }
        for index in 0..whole.len() {
            for value in 0..=255 {
                let mut changed = whole.clone();
                changed[index] = value;
                let _ = read(&changed);
            }
        }
    }

    #[test]
    fn names_that_are_too_long_are_left_out_and_counted() {
        let mut long = vec![1 << 3 | 2, 0x80, 0x08];
        long.extend([b'x'; 1024]);
        let gauge = field(5, &field(1, &fixed(6, 3)));
        let metric = |name: Vec<u8>| -> Vec<u8> {
            let metric = [name, gauge.clone()].concat();
            let length = metric.len();
            let varint = [(length & 0x7f) as u8 | 0x80, (length >> 7) as u8];
            [&[2 << 3 | 2][..], &varint, &metric].concat()
        };
        let scope = [metric(long), metric(field(1, b"short"))].concat();
        let wrap = |bytes: &[u8], number: u8| {
            let varint = [(bytes.len() & 0x7f) as u8 | 0x80, (bytes.len() >> 7) as u8];
            [&[number << 3 | 2][..], &varint, bytes].concat()
        };
        let (points, left_out) = read(&wrap(&wrap(&scope, 2), 1)).expect("well-formed");
        assert_eq!((points.len(), points[0].shape, left_out), (1, Shape::Gauge(3.0), 1));
    }
}
