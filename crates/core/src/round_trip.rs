//! How much of the time until an answer is the network's.

use std::time::Duration;

use crate::Instant;

/// The floor of one connection's round trips: the shortest time from the end of a request to the first byte of its answer. A
/// broker answers some requests at once, so this is the network's share of every answer, and the rest is the broker's.
///
/// It is the shortest of the last one or two minutes, so that it follows when the way to the broker changes.
#[derive(Debug, Clone)]
pub struct RoundTrip {
    /// The shortest one since `since`.
    shortest: Option<Duration>,
    /// The shortest one of the window before.
    before: Option<Duration>,
    since: Instant,
}

const WINDOW: Duration = Duration::from_secs(60);

impl RoundTrip {
    /// Of a connection that is made now.
    pub fn new(now: Instant) -> Self {
        Self { shortest: None, before: None, since: now }
    }

    /// An answer came `took` after its request. Answers with the shortest time of late.
    pub fn note(&mut self, took: Duration, now: Instant) -> Duration {
        if now - self.since >= WINDOW {
            // What is older than two windows says nothing any more.
            let is_recent = now - self.since < WINDOW * 2;
            self.before = self.shortest.take().filter(|_| is_recent);
            self.since = now;
        }
        let shortest = self.shortest.map_or(took, |shortest| shortest.min(took));
        self.shortest = Some(shortest);
        self.before.map_or(shortest, |before| before.min(shortest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_floor_is_the_shortest_of_the_last_minute_or_two() {
        let at = |seconds| Instant::ORIGIN + Duration::from_secs(seconds);
        let mut trip = RoundTrip::new(at(0));
        let noted = [
            (0, 5, 5),
            (1, 2, 2),
            (30, 500, 2),
            // The minute before still counts.
            (70, 9, 2),
            // The way has become longer.
            (140, 8, 8),
            (150, 9, 8),
            // Nothing for a long time.
            (900, 20, 20),
        ];
        for (second, took, floor) in noted {
            assert_eq!(trip.note(ms(took), at(second)), ms(floor), "at {second} s");
        }
    }
}
