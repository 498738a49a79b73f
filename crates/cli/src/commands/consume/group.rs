//! `milena consume --group`: reads as a member of a group. What is committed has been written before.
//!
//! ```text
//!  next ─▶ appended to the output, batch held ─▶ flush ─▶ held batches are done ─▶ committed
//! ```

use std::io::{self, IsTerminal as _};
use std::time::Instant;

use jiff::Timestamp;
use milena::{Batch, Consumer, GroupConsumerBuilder, Reset};

use super::printing::Printing;
use super::{Args, Plan, check_answers};
use crate::cluster::Connected;
use crate::commands::topics::describe_topic;
use crate::exit::Failure;
use crate::interrupt::{GRACE, Interrupt};
use crate::offsets::{Offsets, Point};
use crate::output::{Output, Reader, tell};
use crate::progress::{Progress, TICK};
use crate::schemas::Decoder;
use crate::units::Count;

/// When offsets are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Commit {
    /// In the background, what has been written
    Auto,
    /// After each write to stdout, before more is read
    Flushed,
    /// Never
    None,
}

struct Reading<'a> {
    printing: Printing<'a>,
    /// Batches whose records may not be written yet, each with the offset of the first record that was not looked at.
    held: Vec<(Batch, Option<i64>)>,
    commit: Commit,
}

pub(super) async fn consume(
    args: &Args,
    plan: &Plan,
    group: &str,
    decoder: Option<&mut Decoder>,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let joining = async {
        let cluster = args.cluster.connect().await?;
        let consumer = join(args, &cluster, group).await?;
        Ok::<_, Failure>((cluster, consumer))
    };
    let (cluster, mut consumer) = interrupt.or(joining).await?;
    let mut output = Output::new();
    let printing = Printing {
        output: &mut output,
        form: &plan.form,
        filter: &plan.filter,
        decoder,
        left: plan.count_max,
    };
    let mut reading = Reading { printing, held: Vec::new(), commit: args.commit };
    let ended = interrupt.or(reading.run(args, plan, &cluster, &mut consumer)).await;
    // However it ended, what was read is written and committed, unless the pipe's reader does not read.
    let written = tokio::select! {
        written = reading.flush(&consumer) => written.map(drop),
        () = tokio::time::sleep(GRACE) => Ok(()),
        () = interrupt.asked_again() => Ok(()),
    };
    // What was not written is read again by whoever gets the partition. The group waits for batches in our hands.
    reading.held.clear();
    let closed = tokio::select! {
        closed = consumer.close() => closed.map_err(Failure::from),
        () = interrupt.asked_again() => Ok(()),
    };
    match ended {
        Ok(()) => written.and(closed),
        Err(failure) => {
            for error in [written.err(), closed.err()].into_iter().flatten() {
                tell(error);
            }
            Err(failure)
        }
    }
}

async fn join(args: &Args, cluster: &Connected, group: &str) -> Result<Consumer, Failure> {
    let mut builder = cluster.client.consumer(group);
    for topic in &args.topics {
        // As in librdkafka: no topic's name begins like this.
        if topic.starts_with('^') {
            builder = builder.subscribe_pattern(topic);
            continue;
        }
        // A member waits for a topic that does not exist. Here it is more likely misspelt.
        describe_topic(cluster, topic).await?;
        builder = builder.subscribe([topic]);
    }
    builder = args.isolation.into_iter().fold(builder, GroupConsumerBuilder::isolation);
    builder = args.group_instance_id.iter().fold(builder, |builder, id| builder.instance_id(id.as_str()));
    builder = reset(args).map_err(Failure::usage)?.into_iter().fold(builder, GroupConsumerBuilder::reset);
    if args.commit != Commit::Auto {
        builder = builder.manual_commits();
    }
    Ok(builder.build().await?)
}

/// Where partitions are read from of which the group has no committed offset, if --offset says it.
pub(super) fn reset(args: &Args) -> Result<Option<Reset>, String> {
    let mut offsets = args.offsets();
    let Some(text) = offsets.next() else { return Ok(None) };
    if offsets.next().is_some() {
        return Err("-o can be given once with -g".into());
    }
    let now = Timestamp::now();
    match Offsets::parse(text, Point::Beginning, now)?.everywhere_alike() {
        Some(Point::Beginning) => Ok(Some(Reset::Earliest)),
        Some(Point::End) => Ok(Some(Reset::Latest)),
        Some(Point::Time(ms)) => {
            let ago = now.as_millisecond().saturating_sub(ms);
            let ago = u64::try_from(ago).map_err(|_| format!("{text:?} is in the future"))?;
            Ok(Some(Reset::ByDuration(std::time::Duration::from_millis(ago))))
        }
        _ => Err(format!(
            "with -g, -o {text} can only be beginning, end or a time: the group's committed offsets come first; change them with \
             `milena groups offsets reset`"
        )),
    }
}

impl Reading<'_> {
    async fn run(
        &mut self,
        args: &Args,
        plan: &Plan,
        cluster: &Connected,
        consumer: &mut Consumer,
    ) -> Result<(), Failure> {
        // Records on the same terminal would overwrite a progress line.
        let progress = Progress::counting(!io::stdout().is_terminal());
        let mut tick = tokio::time::interval(TICK);
        let mut arrived_at = Instant::now();
        while self.printing.left > 0 {
            let batch = tokio::select! {
                batch = consumer.next() => batch?,
                _ = tick.tick() => {
                    let count = plan.count_max - self.printing.left;
                    progress.show(count, format!("{} records", Count(count)));
                    if args.cluster.timeout_asked().is_some() && arrived_at.elapsed() >= cluster.timeout {
                        check_answers(cluster).await?;
                        arrived_at = Instant::now();
                    }
                    continue;
                }
            };
            let Some(batch) = batch else { return Ok(()) };
            arrived_at = Instant::now();
            self.take(batch).await?;
            // Take all batches that are ready before writing: few records are written at once, many in large writes.
            while self.printing.left > 0 && !self.printing.output.is_full() {
                let Some(batch) = consumer.try_next()? else { break };
                self.take(batch).await?;
            }
            if self.flush(consumer).await? == Reader::Gone {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn take(&mut self, batch: Batch) -> Result<(), Failure> {
        let left_at = self.printing.append(&batch, None).await?;
        self.held.push((batch, left_at));
        Ok(())
    }

    /// Writes what was taken. Only then it is done.
    async fn flush(&mut self, consumer: &Consumer) -> Result<Reader, Failure> {
        if self.printing.output.flush().await? == Reader::Gone {
            self.held.clear();
            return Ok(Reader::Gone);
        }
        let is_empty = self.held.is_empty();
        for (batch, left_at) in self.held.drain(..) {
            match left_at {
                None => consumer.done(&batch),
                Some(left_at) => {
                    let last =
                        batch.try_iter().map_while(Result::ok).take_while(|r| r.offset() < left_at).last();
                    last.iter().for_each(|record| consumer.done_up_to(record));
                }
            }
        }
        if self.commit == Commit::Flushed && !is_empty {
            // After a rebalance the partitions may be another member's, who reads these records again.
            if let Err(error) = consumer.commit().await {
                if error.is_fatal() {
                    return Err(error.into());
                }
                tell(Failure::from(error));
            }
        }
        Ok(Reader::Listening)
    }
}
