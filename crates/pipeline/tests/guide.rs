//! The Rust of docs/pipelines.md, run as it stands there.

#![allow(clippy::let_and_return, reason = "the guide names what it makes")]

use std::error::Error;
use std::time::Duration;

use milena::{Client, Record};
use milena_broker::{Broker, Cluster};
use milena_pipeline::alerts::{Alerts, Rule, Webhook};
use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::layers::{CircuitBreaker, Deduplicate, KeyOf, RateLimit, Timeout};
use milena_pipeline::prelude::*;
use milena_pipeline::{Class, Report, RetryTopics};
use tower::ServiceBuilder;

async fn charge(Key(customer): Key<String>, Value(amount): Value<String>) -> Result<(), Failure> {
    let amount: u32 = amount.parse().map_err(Failure::poison)?;
    println!("{customer} pays {amount}");
    Ok(())
}

type Done<T> = Result<T, Box<dyn Error>>;

async fn begin(bootstrap: &str, shutdown: impl Future<Output = ()>) -> Done<Report> {
    let client = Client::connect(bootstrap).await?;
    let report =
        Pipeline::new(client.consumer("billing").subscribe(["orders"])).run(charge, shutdown).await?;
    println!("{} records are finished", report.finished);
    Ok(report)
}

/// The example of README.md.
async fn readme(bootstrap: &str, shutdown: impl Future<Output = ()>) -> Done<Report> {
    let client = Client::connect(bootstrap).await?;
    let report = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
        .order(Order::Key)
        .concurrency(256)
        .retry(Retry::exponential(100.ms(), 10.s()).attempts(5))
        .dead_letters(DeadLetters::to("orders.dlq").create(true))
        .run(charge, shutdown) // an async function of a record's key, value or JSON; a future that ends the run
        .await?;
    Ok(report)
}

fn order(client: &Client) -> Pipeline {
    let pipeline = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
        .order(Order::Key) // the default
        .concurrency(256); // records in work at the same time; the default is 16
    pipeline
}

fn failing(client: &Client) -> Pipeline {
    let pipeline = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
        .time_limit(30.s()) // of one attempt; the default is none
        .retry(
            Retry::exponential(100.ms(), 10.s())
                .attempts(5)
                .budget(20) // at most 20 % of the traffic are retries
                .classify::<std::num::ParseIntError>(Class::Poison),
        )
        .retry_topics(RetryTopics::tiers([30.s(), 10.minutes()]).create(true))
        .dead_letters(DeadLetters::to("orders.dlq").create(true).handler("charge"));
    pipeline
}

fn ordered(client: &Client) -> Pipeline {
    let pipeline = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
        .retry_topics(RetryTopics::tiers([30.s(), 10.minutes()]).create(true).keep_order(true));
    pipeline
}

async fn told(pipeline: Pipeline, shutdown: impl Future<Output = ()>) -> Done<Report> {
    // One dead letter is no alert, so that no one is told.
    let alerts = Alerts::of("billing")
        .rule(Rule::dead_letter_rate(10)) // in a minute
        .rule(Rule::dead_letter_writes_fail())
        .rule(Rule::records_stall())
        .rule(Rule::oldest_dead_letter(2.days())) // in the topic: purge what is dealt with
        .to(Webhook::slack("https://hooks.slack.com/services/T000/B000/XXXX")?);
    let report = pipeline.alerts(alerts).run(charge, shutdown).await?;
    Ok(report)
}

async fn layered(client: &Client, shutdown: impl Future<Output = ()>) -> Done<Report> {
    let handler = ServiceBuilder::new()
        .layer(CircuitBreaker::new()) // takes no records while over half of them fail
        .layer(Deduplicate::by(KeyOf::header("event-id"))) // what was processed lately is done already
        .layer(RateLimit::per_second(500))
        .layer(Timeout::new(2.s()))
        .service(milena_pipeline::service(charge));
    let report =
        Pipeline::new(client.consumer("billing").subscribe(["orders"])).run(handler, shutdown).await?;
    Ok(report)
}

async fn as_parallel_consumer(client: &Client, shutdown: impl Future<Output = ()>) -> Done<Report> {
    let report = Pipeline::new(client.consumer("billing").subscribe(["orders"]).commit_interval(5.s()))
        .order(Order::Key)
        .concurrency(16)
        .retry(Retry::fixed(1.s()).without_limit())
        .drain(10.s())
        .run(charge, shutdown)
        .await?;
    Ok(report)
}

async fn as_spring(client: &Client, shutdown: impl Future<Output = ()>) -> Done<Report> {
    let report = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
        .retry(Retry::never())
        .retry_topics(RetryTopics::tiers([1.s(), 2.s()]).create(true))
        .dead_letters(DeadLetters::to("orders-dlt").create(true))
        .run(charge, shutdown)
        .await?;
    Ok(report)
}

/// A broker whose topic "orders" has these amounts.
async fn with_orders(amounts: &[&str]) -> Done<(Cluster, Client)> {
    let cluster = Broker::builder().group_initial_rebalance_delay(Duration::ZERO).start().await?;
    cluster.create_topic("orders", 1)?;
    let client = Client::connect(cluster.bootstrap()).await?;
    let producer = client.producer().build().await?;
    for amount in amounts {
        producer.send(Record::to("orders").key("42").value(*amount)).await?;
    }
    Ok((cluster, client))
}

/// Waits until the group has committed this offset.
async fn committed(client: &Client, offset: i64) {
    let partition = ("orders".to_owned(), 0);
    loop {
        for (_, offsets) in client.admin().list_group_offsets(["billing"]).await {
            if offsets.expect("is told").get(&partition).is_some_and(|at| at.offset >= offset) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_first_pipeline_of_the_guide_processes_records() -> Done<()> {
    let (cluster, client) = with_orders(&["5", "7"]).await?;
    let report = begin(cluster.bootstrap(), committed(&client, 2)).await?;
    assert_eq!(report.finished, 2);
    Ok(())
}

#[tokio::test]
async fn the_pipeline_of_the_readme_puts_poison_aside() -> Done<()> {
    let (cluster, client) = with_orders(&["5", "many", "7"]).await?;
    let report = readme(cluster.bootstrap(), committed(&client, 3)).await?;
    assert_eq!((report.finished, report.dead), (3, 1));
    Ok(())
}

#[tokio::test]
async fn its_settings_of_order_and_concurrency_work() -> Done<()> {
    let (_cluster, client) = with_orders(&["5", "7"]).await?;
    let report = order(&client).run(charge, committed(&client, 2)).await?;
    assert_eq!(report.finished, 2);
    Ok(())
}

#[tokio::test]
async fn its_settings_for_what_fails_put_poison_aside_and_watch_over_it() -> Done<()> {
    let (_cluster, client) = with_orders(&["5", "many", "7"]).await?;
    let report = told(failing(&client), committed(&client, 3)).await?;
    assert_eq!((report.finished, report.dead, report.moved), (3, 1, 0));
    Ok(())
}

#[tokio::test]
async fn its_retry_topics_that_keep_the_order_work() -> Done<()> {
    let (_cluster, client) = with_orders(&["5", "7"]).await?;
    assert_eq!(ordered(&client).run(charge, committed(&client, 2)).await?.finished, 2);
    Ok(())
}

#[tokio::test]
async fn its_layers_are_a_handler() -> Done<()> {
    let (_cluster, client) = with_orders(&["5", "7"]).await?;
    assert_eq!(layered(&client, committed(&client, 2)).await?.finished, 2);
    Ok(())
}

#[tokio::test]
async fn what_stands_for_parallel_consumer_works() -> Done<()> {
    let (_cluster, client) = with_orders(&["5", "7"]).await?;
    assert_eq!(as_parallel_consumer(&client, committed(&client, 2)).await?.finished, 2);
    Ok(())
}

#[tokio::test]
async fn what_stands_for_spring_works() -> Done<()> {
    let (_cluster, client) = with_orders(&["5", "many"]).await?;
    let report = as_spring(&client, committed(&client, 2)).await?;
    assert_eq!((report.finished, report.dead), (2, 1));
    Ok(())
}

/// Lines without what differs between a page and a file: indentation, empty lines, closing braces alone.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !matches!(*line, "" | "}")).collect()
}

#[test]
fn the_guide_shows_the_code_of_this_file() {
    let guide = include_str!("../../../docs/pipelines.md").replace("\"localhost:9092\"", "bootstrap");
    let here = lines(include_str!("guide.rs"));
    let blocks: Vec<&str> =
        guide.split("```rust\n").skip(1).map(|rest| rest.split("```").next().expect("one")).collect();
    assert_eq!(
        blocks.len(),
        8,
        "begin, order, what fails, keep_order, alerts, layers, Parallel Consumer, Spring"
    );
    // The function and its use stand apart here, and together there.
    for part in blocks.iter().flat_map(|block| block.split("\n\n")) {
        let part = lines(part);
        assert!(here.windows(part.len()).any(|window| window == part), "{part:#?}");
    }
}
