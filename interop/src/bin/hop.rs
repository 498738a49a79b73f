//! A member of one step of a chain, until its standard input ends: `src/hop.rs` of the library says what it does. It consumes,
//! adds a mark to each value and produces, exactly once. At random times a batch fails: then the loop ends with that error, and a
//! new one begins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use milena::{Client, Error, Isolation, Protocol, Record, Transaction};
use milena_interop::member::told;
use milena_interop::random::Random;
use tokio::time::sleep;

/// Why a loop ended.
enum Stop {
    /// The batch was chosen to fail.
    Chosen,
    Client(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&std::env::args().skip(1).collect::<Vec<_>>()))
}

async fn run(args: &[String]) -> anyhow::Result<()> {
    let [bootstrap, group, input, output, protocol, mark, session, heartbeat, limit, number, lasting, seed] =
        args
    else {
        bail!("twelve arguments are needed");
    };
    let millis = |text: &String| anyhow::Ok(Duration::from_millis(text.parse()?));
    let (session, heartbeat, limit) = (millis(session)?, millis(heartbeat)?, millis(limit)?);
    let (lasting, mut random) = (millis(lasting)?, Random::new(seed.parse()?));
    let (output, mark): (Arc<str>, Arc<str>) = (output.as_str().into(), mark.as_str().into());
    let told = told();
    let client = Client::connect(bootstrap).await?;
    let id = format!("{group}-{number}");
    loop {
        let consumer = client.consumer(group.as_str()).subscribe([input]).manual_commits();
        let consumer = consumer.isolation(Isolation::ReadCommitted);
        let consumer = match protocol.as_str() {
            "consumer" => consumer.protocol(Protocol::Consumer),
            _ => {
                let consumer = consumer.protocol(Protocol::Classic);
                consumer.session_timeout(session).heartbeat_interval(heartbeat)
            }
        };
        let consumer = consumer.build().await?;
        let handle = consumer.handle();
        let producer = match client.transactional(id.as_str()).transaction_timeout(limit).build().await {
            Ok(producer) => producer,
            // While brokers are killed its coordinator may be away for long.
            Err(error) if !error.is_fatal() => {
                eprintln!("error: {error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let fails_at = Instant::now() + lasting.mul_f64(random.below(2000) as f64 / 1000.0);
        let (output, mark) = (&output, &mark);
        let work = milena::exactly_once(consumer, producer).run(move |transaction, batch| {
            let fails = Instant::now() >= fails_at;
            let (output, mark) = (Arc::clone(output), Arc::clone(mark));
            Box::pin(async move {
                copy(transaction, batch, &output, &mark).await?;
                if fails { Err(Stop::Chosen) } else { Ok(()) }
            })
        });
        let mut work = std::pin::pin!(work);
        let ended = tokio::select! {
            ended = &mut work => ended,
            () = told.notified() => tokio::join!(handle.close(), work).1,
        };
        match ended {
            Ok(()) => return Ok(()),
            Err(Stop::Chosen) => eprintln!("chosen"),
            Err(Stop::Client(error)) => {
                eprintln!("error: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn copy(
    transaction: &Transaction<'_>,
    batch: &milena::Batch,
    output: &str,
    mark: &str,
) -> Result<(), Error> {
    for record in batch {
        let value = [record.value().unwrap_or_default(), mark.as_bytes()].concat();
        transaction.post(Record::to(output).partition(batch.partition()).value(&value)).await?;
    }
    Ok(())
}
