//! What an exporter costs: the time of scrapes, the processor time of looks, and memory for each partition of a group.
//!
//!     cargo run --release -p milena-observe --example exporter_cost -- [PARTITIONS [GROUPS [LOOKS]]]
//!
//! A broker in a process of its own has one topic with these partitions (5 000), and each group (1) has committed an offset of each
//! of them. The figures are of this process alone. Linux only, because processor time and memory come from /proc.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use milena::Client;
use milena_broker::Broker;
use milena_observe::exporter::{Exporter, Plan};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The processor time of a look is spread over this one.
const INTERVAL: Duration = Duration::from_secs(10);

/// Headers of scrapes.
const TEXT: &str = "Accept: text/plain\r\n";
const OPENMETRICS: &str = "Accept: application/openmetrics-text\r\n";
const PACKED: &str = "Accept: application/openmetrics-text\r\nAccept-Encoding: gzip\r\n";

/// Ends when this is dropped.
struct Cluster(Child);

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: i32| args.get(index).map_or(Ok(default), |text| text.parse());
    if args.first().is_some_and(|arg| arg == "broker") {
        let cluster = Broker::builder().start().await?;
        cluster.create_topic("orders", number(1, 0)?)?;
        println!("{}", cluster.bootstrap());
        return std::future::pending().await;
    }
    let (partitions, groups, looks) = (number(0, 5000)?, number(1, 1)?, number(2, 20)?);

    let mut broker = Command::new(std::env::current_exe()?);
    broker.args(["broker", &partitions.to_string()]).stdout(Stdio::piped());
    let mut broker = Cluster(broker.spawn()?);
    let mut bootstrap = String::new();
    BufReader::new(broker.0.stdout.take().ok_or("no stdout")?).read_line(&mut bootstrap)?;
    let client = Client::connect(bootstrap.trim()).await?;
    for group in 0..groups {
        let offsets = (0..partitions).map(|partition| (("orders", partition), 0));
        client.admin().alter_group_offsets(&format!("group-{group}"), offsets).await?;
    }

    let exporter = Exporter::new(client, Plan { interval: INTERVAL, ..Plan::default() });
    let before = memory()?;
    for _ in 0..looks {
        exporter.look().await?;
    }
    let pairs = f64::from(partitions) * f64::from(groups);
    println!("{partitions} partitions, {groups} groups, {looks} looks");
    println!("memory for each partition of a group: {:.0} bytes", (memory()? - before) / pairs);
    let server = milena_observe::serve("127.0.0.1:0", exporter.clone()).await?;
    for (name, headers) in [("text", TEXT), ("OpenMetrics", OPENMETRICS), ("OpenMetrics in gzip", PACKED)] {
        let (first, bytes) = scrape(server.address(), headers).await?;
        let mut kept = Vec::new();
        for _ in 0..20 {
            kept.push(scrape(server.address(), headers).await?.0);
        }
        kept.sort();
        println!("{name}: first scrape {first:.1?}, then {:.1?} to {:.1?}, {bytes} bytes", kept[0], kept[19]);
    }
    println!("memory with these texts: {:.0} bytes each", (memory()? - before) / pairs);
    // All three are written at each look, which is more than one Prometheus asks for.
    let began = processor_time()?;
    let mut slowest = Duration::ZERO;
    for _ in 0..looks {
        let began = Instant::now();
        exporter.look().await?;
        slowest = slowest.max(began.elapsed());
        scrape(server.address(), PACKED).await?;
    }
    let each = (processor_time()? - began) / f64::from(looks);
    let share = each / INTERVAL.as_secs_f64() * 100.0;
    println!("a look and a scrape: {:.1} ms of processor time, {share:.2} % of a core each 10 s", each * 1e3);
    println!("the slowest look: {slowest:.1?}");
    Ok(())
}

/// The time from connecting to the last byte, and the size of the answer.
async fn scrape(address: SocketAddr, headers: &'static str) -> Result<(Duration, usize)> {
    let scraped = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: a\r\n{headers}\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>((began.elapsed(), answer.len()))
    });
    Ok(scraped.await??)
}

/// Seconds.
fn processor_time() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = text.rsplit_once(')').ok_or("no name")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    // A tick is a hundredth of a second on every Linux of today.
    Ok(ticks.sum::<std::result::Result<f64, _>>()? / 100.0)
}

/// Resident bytes.
fn memory() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}
