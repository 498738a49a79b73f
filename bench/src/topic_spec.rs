//! The description of a topic, for the sink and for other brokers.

use std::str::FromStr;

/// `NAME:PARTITIONS[:RECORDS[:NODES]]`. The records are in the partitions that the first NODES nodes lead. Of `n` nodes, node
/// `p mod n` leads partition `p`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicSpec {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) records: u64,
    nodes: i32,
}

impl TopicSpec {
    /// The records of each partition, on `nodes` nodes.
    pub(crate) fn spread(&self, nodes: i32) -> Vec<u64> {
        let is_busy = |partition: &i32| partition % nodes < self.nodes;
        let busy = (0..self.partitions).filter(is_busy).count() as u64;
        let mut rank = 0;
        let mut share = |partition| {
            if !is_busy(&partition) {
                return 0;
            }
            rank += 1;
            self.records / busy + u64::from(rank <= self.records % busy)
        };
        (0..self.partitions).map(&mut share).collect()
    }
}

impl FromStr for TopicSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = text.split(':');
        let name = fields.next().filter(|name| !name.is_empty()).ok_or("a topic has a name")?.to_owned();
        let mut number = |what: &str, default: u64| match fields.next() {
            None => Ok(default),
            Some(field) => field.parse::<u64>().map_err(|error| format!("{what} {field:?}: {error}")),
        };
        let (partitions, records, nodes) =
            (number("partitions", 1)?, number("records", 0)?, number("nodes", i32::MAX as u64)?);
        if !(1..=100_000).contains(&partitions) || nodes == 0 {
            return Err(format!("{text:?} has no place for its records"));
        }
        Ok(Self { name, partitions: partitions as i32, records, nodes: nodes.min(i32::MAX as u64) as i32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_spread_over_the_first_nodes() {
        let spread = |spec: &str, nodes| spec.parse::<TopicSpec>().expect("a topic").spread(nodes);
        assert_eq!(spread("t:6:101:2", 3), [26, 25, 0, 25, 25, 0]);
        assert_eq!(spread("t:6:101", 3), [17, 17, 17, 17, 17, 16]);
        assert_eq!(spread("t", 1), [0]);
        for bad in ["", ":3", "t:x", "t:0", "t:1:1:0"] {
            assert!(bad.parse::<TopicSpec>().is_err(), "{bad:?}");
        }
    }
}
