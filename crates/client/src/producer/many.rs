//! Many records in one call.

use std::fmt;
use std::sync::Arc;

use super::delivery::BatchState;
use super::{Delivery, Producer, Receipt};
use crate::{Error, ErrorKind, Record};

/// Some records of [`Producer::send_all`] were not written. Its text names them by their place among the records of the call,
/// counted from 0.
#[derive(Debug, Clone)]
pub struct NotAllWritten {
    results: Vec<Result<Receipt, Error>>,
}

/// How many records a text names.
const NAMED_MAX: usize = 10;

impl NotAllWritten {
    /// The records that were not written: the place of each among those of the call, and why.
    pub fn failed(&self) -> impl Iterator<Item = (usize, &Error)> {
        let results = self.results.iter().enumerate();
        results.filter_map(|(place, result)| Some((place, result.as_ref().err()?)))
    }

    /// What became of each record, in the order of the call.
    pub fn results(&self) -> &[Result<Receipt, Error>] {
        &self.results
    }

    /// Whether any of the records that failed may have been written nevertheless.
    pub fn maybe_written(&self) -> bool {
        self.failed().any(|(_, error)| error.maybe_written())
    }
}

impl fmt::Display for NotAllWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, all) = (self.failed().count(), self.results.len());
        write!(f, "{failed} of {all} records were not written (")?;
        for (at, (place, _)) in self.failed().take(NAMED_MAX).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{place}")?;
        }
        let more = if failed > NAMED_MAX { ", …" } else { "" };
        write!(f, "{more})")?;
        match self.failed().next() {
            Some((place, error)) => write!(f, "; record {place}: {error}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NotAllWritten {}

/// Records of one call that follow each other in one batch.
struct Run {
    batch: Arc<BatchState>,
    /// The index of the first one in the batch.
    first: u32,
    timestamps: Vec<i64>,
}

impl Producer {
    /// Writes many records, and waits until each is written or given up. They go into batches as fast as there is room; the
    /// records of one partition are written in their order.
    ///
    /// # Errors
    /// When any of them was not written, one error names them all: see [`NotAllWritten`]. What fails for one record, such as
    /// its size, does not keep those after it from being written.
    ///
    /// # Cancel safety
    /// If the future is dropped, the records that are in a batch already are sent nevertheless.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let producer = client.producer().build().await?;
    /// use milena::Record;
    ///
    /// let lines = ["created", "paid", "shipped"];
    /// let receipts = producer.send_all(lines.map(|line| Record::to("orders").key("42").value(line))).await?;
    /// assert_eq!(receipts.len(), 3);
    ///
    /// let misspelt = [Record::to("orders").value("created"), Record::to("ordesr").value("paid")];
    /// let error = producer.send_all(misspelt).await.unwrap_err();
    /// assert_eq!(error.failed().map(|(place, _)| place).collect::<Vec<_>>(), [1]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_all<'a>(
        &self,
        records: impl IntoIterator<Item = Record<'a>>,
    ) -> Result<Vec<Receipt>, NotAllWritten> {
        let mut taken: Vec<Result<Run, Error>> = Vec::new();
        let mut full = None;
        for record in records {
            // There was no room in time for an earlier record. If each record waited that long, the call would not end.
            let delivery = match &full {
                Some(error) => Err(Error::clone(error)),
                None => self.enqueue(record).await,
            };
            let delivery = match delivery {
                Ok(delivery) => delivery,
                Err(error) => {
                    full = full.or_else(|| (error.kind() == ErrorKind::Full).then(|| error.clone()));
                    taken.push(Err(error));
                    continue;
                }
            };
            let (batch, index, timestamp_ms) = delivery.into_parts();
            match taken.last_mut() {
                Some(Ok(run))
                    if Arc::ptr_eq(&run.batch, &batch)
                        && run.first + run.timestamps.len() as u32 == index =>
                {
                    run.timestamps.push(timestamp_ms);
                }
                _ => taken.push(Ok(Run { batch, first: index, timestamps: vec![timestamp_ms] })),
            }
        }
        let mut results = Vec::with_capacity(taken.len());
        for run in taken {
            match run {
                Ok(Run { batch, first, timestamps }) => {
                    for (index, timestamp_ms) in (first..).zip(timestamps) {
                        // Only the first of a batch, or of a piece of one, waits.
                        results.push(Delivery::new(Arc::clone(&batch), index, timestamp_ms).await);
                    }
                }
                Err(error) => results.push(Err(error)),
            }
        }
        match results.iter().all(Result::is_ok) {
            true => Ok(results.into_iter().flatten().collect()),
            false => Err(NotAllWritten { results }),
        }
    }
}
