//! The report of a run, as text or JSON.

use std::fmt;

use serde::Serialize;

use super::events::AlertSeen;
use super::places::Found;
use crate::units::Count;

/// What came of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) drill: Option<String>,
    pub(super) cluster: String,
    pub(super) topic: String,
    pub(super) order: String,
    pub(super) concurrency: usize,
    pub(super) fault_percent: f64,
    pub(super) seconds: f64,
    #[serde(flatten)]
    pub(super) found: Found,
    /// Records of the flights and the retry topics that the group has not committed.
    pub(super) waiting: u64,
    pub(super) failed_attempts: u64,
    /// Attempts after the first.
    pub(super) retries: u64,
    /// Records that were written to a retry topic, once per tier.
    pub(super) moved: u64,
    /// Records that took long, once per attempt.
    pub(super) stalls: usize,
    /// Letters that the redrive has replayed.
    pub(super) replayed: u64,
    pub(super) alerts: Vec<AlertSeen>,
    pub(super) interrupted: bool,
    pub(super) checks: Vec<Check>,
    /// Whether all checks are good.
    pub(super) verified: bool,
}

/// Something that has to be so.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) what: String,
    pub(super) ok: bool,
}

impl Check {
    pub(super) fn new(what: impl Into<String>, ok: bool) -> Self {
        Self { what: what.into(), ok }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { records, processed, dead, letters, again, .. } = self.found;
        writeln!(f, "flights      {} in {:.1} s", Count(records), self.seconds)?;
        write!(f, "processed    {}", Count(processed))?;
        match again {
            0 => writeln!(f)?,
            again => writeln!(f, ", {} of them again after the crash", Count(again))?,
        }
        write!(f, "dead         {}", Count(dead))?;
        match letters {
            0 => writeln!(f)?,
            letters => {
                writeln!(f, ", of {} dead letters; {} were replayed", Count(letters), Count(self.replayed))?;
            }
        }
        writeln!(
            f,
            "attempts     {} failed, {} were made again; {} went to a retry topic",
            Count(self.failed_attempts),
            Count(self.retries),
            Count(self.moved)
        )?;
        for AlertSeen { name, opened, resolved, .. } in &self.alerts {
            match resolved {
                Some(resolved) => writeln!(f, "alert        {name}, from {opened:.1} s to {resolved:.1} s")?,
                None => writeln!(f, "alert        {name}, from {opened:.1} s on")?,
            }
        }
        if self.waiting > 0 {
            writeln!(f, "waiting      {} that were not processed yet", Count(self.waiting))?;
        }
        for Check { what, ok } in &self.checks {
            writeln!(f, "{}  {what}", if *ok { "ok         " } else { "NOT TRUE   " })?;
        }
        let Found { nowhere, twice, foreign, examples, .. } = &self.found;
        if nowhere + twice + foreign > 0 && !self.verified {
            let [nowhere, twice, foreign] = [*nowhere, *twice, *foreign].map(Count);
            writeln!(f, "  nowhere {nowhere}, twice {twice}, of others {foreign}; for example {examples:?}")?;
        }
        write!(f, "{}", if self.verified { "verified" } else { "NOT VERIFIED" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            drill: None,
            cluster: "embedded, 3 nodes at 127.0.0.1:9092".into(),
            topic: "milena-demo-1.flights".into(),
            order: "key".into(),
            concurrency: 64,
            fault_percent: 5.0,
            seconds: 12.34,
            found: Found { records: 5000, processed: 4975, dead: 25, letters: 125, ..Found::default() },
            waiting: 0,
            failed_attempts: 500,
            retries: 400,
            moved: 100,
            stalls: 1,
            replayed: 100,
            alerts: vec![AlertSeen {
                name: "DeadLetterRatio".into(),
                summary: "2 % of the records".into(),
                opened: 0.6,
                resolved: Some(9.25),
            }],
            interrupted: false,
            checks: vec![Check::new("every record has ended in exactly one place", true)],
            verified: true,
        }
    }

    #[test]
    fn a_good_run_reads_well() {
        let expect = "\
flights      5 000 in 12.3 s
processed    4 975
dead         25, of 125 dead letters; 100 were replayed
attempts     500 failed, 400 were made again; 100 went to a retry topic
alert        DeadLetterRatio, from 0.6 s to 9.2 s
ok           every record has ended in exactly one place
verified";
        assert_eq!(report().to_string(), expect);
    }

    #[test]
    fn a_bad_run_names_what_is_wrong() {
        let found = Found { nowhere: 2, examples: vec![7, 9], ..report().found };
        let checks = vec![Check::new("every record has ended in exactly one place", false)];
        let text = Report { found, checks, verified: false, ..report() }.to_string();
        let end = "\
NOT TRUE     every record has ended in exactly one place
  nowhere 2, twice 0, of others 0; for example [7, 9]
NOT VERIFIED";
        assert!(text.ends_with(end), "{text}");
    }
}
