//! `milena consume`: reads records and writes them to stdout.

mod group;
mod printing;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use group::Commit;
use jiff::Timestamp;
use milena::{Admin, Batch, Consumer, ConsumerBuilder, Isolation, OffsetAt, Position, Properties};

use crate::cluster::{Cluster, Connected};
use crate::commands::topics::{check_partitions, describe_topic};
use crate::escape::unescape;
use crate::exit::{Exit, Failure};
use crate::filter::Filter;
use crate::format::Format;
use crate::interrupt::{GRACE, Interrupt};
use crate::offsets::{Offsets, Point, parse_partitions, split_stop};
use crate::output::{Output, Reader};
use crate::progress::{Progress, TICK};
use crate::schemas::{self, Decoder, ReadOptions};
use crate::units::Count;
use crate::view::View;
use crate::{format, json, offsets};
use printing::Printing;

const EXAMPLES: &str = "\
Examples:
  milena consume orders -e                              all records, then stop
  milena consume orders -o end                          new records only
  milena consume orders -o -10 -c 10 -p 0               the last ten records of partition 0
  milena consume orders --from -1h --to now             the last hour
  milena consume orders -e --grep Praha --key 42        of the records with key 42 those with this text
  milena consume orders -f '%p:%o %T %k=%s\\n'           a format of your own
  milena consume orders -e --json | jq .value           JSON lines
  milena consume orders -e --json --registry http://127.0.0.1:8081     decoded by the schemas that records name
  milena consume orders -e --value-schema order.avsc    decoded by a schema in a file
  milena consume -g billing orders payments             as a member of a group, which remembers what was written";

/// Read records to stdout. Partitions are read in parallel: records keep their order within a partition only.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = [EXAMPLES, offsets::HELP, format::HELP, json::HELP, schemas::HELP].join("\n\n"),
    after_help = [EXAMPLES, "--help explains offsets, format strings and JSON lines."].join("\n\n")
)]
pub(crate) struct Args {
    /// The topic. With --group several, and ^PATTERN for all topics whose whole names match
    #[arg(required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,

    /// Read only these partitions, as in 0,2,5-7
    #[arg(short, long, value_name = "LIST")]
    pub(crate) partitions: Option<String>,

    /// Where to start: beginning (the default), end, N, -N (N before the end) or a time as -1h; see --help. `-o json` is --json
    #[arg(short, long, visible_alias = "from", allow_hyphen_values = true)]
    pub(crate) offset: Vec<String>,

    /// Where to stop, written as for --offset; the record at this offset is not read
    #[arg(short, long, value_name = "OFFSET", visible_alias = "to", allow_hyphen_values = true)]
    pub(crate) until: Option<String>,

    /// Stop where each partition ends now; the same as --until end
    #[arg(short = 'e', long, conflicts_with = "until")]
    pub(crate) exit_at_end: bool,

    /// Stop after N records
    #[arg(short, long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// Only records with a key or value that matches PATTERN, a regular expression; (?i) in front ignores case
    #[arg(long, value_name = "PATTERN", help_heading = "Filters")]
    pub(crate) grep: Option<String>,

    /// Only records with this key
    #[arg(long, value_name = "KEY", help_heading = "Filters")]
    pub(crate) key: Option<String>,

    /// Only records with this header, or with a header NAME of any value; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME[=VALUE]", help_heading = "Filters")]
    pub(crate) headers: Vec<String>,

    /// Whether to read records of transactions that are open or aborted: read_committed or read_uncommitted. Default:
    /// isolation.level, read_uncommitted
    #[arg(long, value_name = "LEVEL", value_parser = isolation, help_heading = "Filters")]
    pub(crate) isolation: Option<Isolation>,

    /// The format of a record, with %t %p %o %k %s %h %T and more; see --help
    #[arg(short, long)]
    pub(crate) format: Option<String>,

    /// Write JSON lines; produce --json reads them without loss
    #[arg(short = 'J', long, conflicts_with_all = ["format", "key_delimiter", "delimiter", "null", "null_is_null"])]
    pub(crate) json: bool,

    /// Write this after each value instead of a newline
    #[arg(short = 'D', long, value_name = "DELIMITER", default_value = "\\n", conflicts_with = "format")]
    pub(crate) delimiter: String,

    /// Write the key and this before each value
    #[arg(short = 'K', long, value_name = "DELIMITER", conflicts_with = "format")]
    pub(crate) key_delimiter: Option<String>,

    /// Write null keys, values and header values as MARKER. Default: nothing is written for them
    #[arg(long, value_name = "MARKER")]
    pub(crate) null: Option<String>,

    /// The same as --null NULL
    #[arg(short = 'Z', conflicts_with = "null")]
    pub(crate) null_is_null: bool,

    /// Read as a member of GROUP, from its committed offsets on. Where it has none, -o says where to start, as beginning
    /// (the default), end or -1h. Ctrl-C commits and leaves the group
    #[arg(short, long, value_name = "GROUP", conflicts_with_all = ["partitions", "until", "exit_at_end"], help_heading = "Group")]
    pub(crate) group: Option<String>,

    /// When offsets are committed. No offset is committed before its record was written to stdout
    #[arg(long, value_name = "WHEN", default_value = "auto", requires = "group", help_heading = "Group")]
    pub(crate) commit: Commit,

    /// The name of a static member, which keeps its partitions while it restarts
    #[arg(long, value_name = "ID", requires = "group", help_heading = "Group")]
    pub(crate) group_instance_id: Option<String>,

    #[command(flatten)]
    pub(crate) schemas: ReadOptions,

    #[command(flatten)]
    pub(crate) cluster: Cluster,
}

fn isolation(text: &str) -> Result<Isolation, String> {
    match text {
        "read_committed" => Ok(Isolation::ReadCommitted),
        "read_uncommitted" => Ok(Isolation::ReadUncommitted),
        _ => Err("write read_committed or read_uncommitted".into()),
    }
}

/// The parsed arguments: what to write, where to start and where to stop.
struct Plan {
    form: Form,
    filter: Filter,
    partitions: Option<Vec<i32>>,
    start: Offsets,
    stop: Option<Offsets>,
    count_max: u64,
}

enum Form {
    Text(Format),
    JsonLines,
}

/// Other commands, and other programs, have `-o json` for what is `--json` here. No offset is called so.
const JSON: &str = "json";

impl Args {
    /// The topic to read without a group: there is one.
    fn topic(&self) -> &str {
        self.topics.first().map_or("", String::as_str)
    }

    fn is_json(&self) -> bool {
        self.json || self.offset.iter().any(|text| text == JSON)
    }

    /// What `-o` says of offsets.
    fn offsets(&self) -> impl Iterator<Item = &String> {
        self.offset.iter().filter(|text| *text != JSON)
    }

    fn plan(&self) -> Result<Plan, String> {
        let now = Timestamp::now();
        let null = match (&self.null, self.null_is_null) {
            (Some(marker), _) => unescape(marker)?,
            (None, true) => b"NULL".to_vec(),
            (None, false) => Vec::new(),
        };
        let form = match &self.format {
            Some(_) if self.is_json() => return Err("-o json and --format each set what is written".into()),
            _ if self.is_json() => Form::JsonLines,
            Some(format) => Form::Text(Format::parse(format, null)?),
            None => {
                let key_delimiter = self.key_delimiter.as_deref().map(unescape).transpose()?;
                Form::Text(Format::delimited(key_delimiter, unescape(&self.delimiter)?, null))
            }
        };
        if self.group.is_some() {
            group::reset(self)?;
        } else if let [_, second, ..] = &self.topics[..] {
            return Err(format!("{second:?} is a second topic: several are read with --group"));
        }
        let (start, kcats_stop) = split_stop(self.offsets())?;
        if kcats_stop.is_some() && (self.until.is_some() || self.exit_at_end) {
            return Err("-o e@TIME, --until and -e each set where to stop: use one of them".into());
        }
        let stop = match (self.until.as_ref().or(kcats_stop.as_ref()), self.exit_at_end) {
            (Some(until), _) => Some(Offsets::parse(until, Point::End, now)?),
            (None, true) => Some(Offsets::everywhere(Point::End)),
            (None, false) => None,
        };
        if stop.as_ref().is_some_and(|stop| stop.is_after(now)) {
            return Err("--until cannot be in the future: it is for records that exist already".into());
        }
        Ok(Plan {
            form,
            filter: Filter::new(self.grep.as_deref(), self.key.as_deref(), &self.headers)?,
            partitions: self.partitions.as_deref().map(parse_partitions).transpose()?,
            start: match start {
                Some(start) => Offsets::parse(&start, Point::Beginning, now)?,
                None => Offsets::everywhere(Point::Beginning),
            },
            stop,
            count_max: self.count.unwrap_or(u64::MAX),
        })
    }
}

/// Runs the command.
pub(crate) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let plan = args.plan().map_err(Failure::usage)?;
    let resolved = args.cluster.resolve(Properties::new())?;
    let mut decoder = args.schemas.decoder(&resolved, args.is_json())?;
    let ended = match &args.group {
        Some(group) => group::consume(args, &plan, group, decoder.as_mut(), interrupt).await,
        None => alone(args, &plan, decoder.as_mut(), interrupt).await,
    };
    decoder.iter().for_each(Decoder::tell);
    ended
}

/// Reads without a group.
async fn alone(
    args: &Args,
    plan: &Plan,
    decoder: Option<&mut Decoder>,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let mut output = Output::new();
    let ended = interrupt.or(consume(args, plan, decoder, &mut output)).await;
    // Write the records that were read, however the command ended, unless the pipe's reader does not read.
    if ended.as_ref().is_err_and(|failure| failure.exit() == Exit::Interrupted) {
        tokio::select! {
            flushed = output.flush() => drop(flushed?),
            () = tokio::time::sleep(GRACE) => {}
            () = interrupt.asked_again() => {}
        }
    } else {
        let (Reader::Listening | Reader::Gone) = interrupt.or(output.flush()).await?;
    }
    ended
}

async fn consume(
    args: &Args,
    plan: &Plan,
    decoder: Option<&mut Decoder>,
    output: &mut Output,
) -> Result<(), Failure> {
    let cluster = args.cluster.connect().await?;
    let topic = args.topic();
    let spans = Spans::look_up(&cluster, args, plan).await?;
    let printing = Printing { output, form: &plan.form, filter: &plan.filter, decoder, left: plan.count_max };
    let mut reading = Reading { printing, spans };
    if reading.is_over() {
        return Ok(());
    }
    let mut builder = cluster.client.consumer_direct();
    builder = args.isolation.into_iter().fold(builder, ConsumerBuilder::isolation);
    for (partition, span) in &reading.spans.unfinished {
        builder = builder.assign([(topic, *partition)], Position::Offset(span.start));
    }
    let mut consumer = builder.build().await?;
    // Records on the same terminal would overwrite a progress line.
    let progress = Progress::counting(!io::stdout().is_terminal());
    let mut tick = tokio::time::interval(TICK);
    let mut arrived_at = Instant::now();
    loop {
        let batch = tokio::select! {
            batch = consumer.next() => batch?,
            _ = tick.tick() => {
                let count = plan.count_max - reading.printing.left;
                progress.show(count, format!("{} records", Count(count)));
                reading.pass(topic, &consumer);
                if reading.is_over() {
                    return Ok(());
                }
                if arrived_at.elapsed() >= cluster.timeout {
                    reading.check_stall(cluster.timeout)?;
                    if args.cluster.timeout_asked().is_some() {
                        check_answers(&cluster).await?;
                    }
                    arrived_at = Instant::now();
                }
                continue;
            }
        };
        let Some(batch) = batch else { return Ok(()) };
        arrived_at = Instant::now();
        if reading.take(&batch, &consumer).await? == Reader::Gone || reading.is_over() {
            return Ok(());
        }
        // Take all batches that are ready before writing: few records are written at once, many in large writes.
        drop(batch);
        while let Some(batch) = consumer.try_next()? {
            if reading.take(&batch, &consumer).await? == Reader::Gone || reading.is_over() {
                return Ok(());
            }
        }
        if reading.printing.output.flush().await? == Reader::Gone {
            return Ok(());
        }
    }
}

/// Nothing came for a while: there may be no new records, or the cluster may be gone. Asks it, to find out.
async fn check_answers(cluster: &Connected) -> Result<(), Failure> {
    let asked = cluster.admin().describe_cluster().await;
    asked
        .map(drop)
        .map_err(|error| Failure::from(error).at(&format!("nothing came for {:?}", cluster.timeout)))
}

/// The part of a partition that is to be read.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: i64,
    /// The first offset that is not read, if there is an end.
    stop: Option<i64>,
}

/// The parts that are not read yet, by partition.
struct Spans {
    unfinished: BTreeMap<i32, Span>,
}

impl Spans {
    async fn look_up(cluster: &Connected, args: &Args, plan: &Plan) -> Result<Self, Failure> {
        let topic = describe_topic(cluster, args.topic()).await?;
        let all = || topic.partitions.iter().map(|p| p.index).collect();
        let wanted: Vec<i32> = plan.partitions.clone().unwrap_or_else(all);
        let named = plan.start.partitions().chain(plan.stop.iter().flat_map(Offsets::partitions));
        check_partitions(&topic, wanted.iter().copied().chain(named))?;
        let lookup = Lookup::new(cluster, args, &wanted).await?;
        let starts = lookup.resolve(&plan.start).await?;
        let stops = match &plan.stop {
            Some(stop) => Some(lookup.resolve(stop).await?),
            None => None,
        };
        let span = |partition: i32| {
            let stop = stops.as_ref().and_then(|stops| stops.get(&partition).copied());
            (partition, Span { start: starts[&partition], stop })
        };
        let is_worth_reading = |span: &Span| span.stop.is_none_or(|stop| span.start < stop);
        let unfinished = wanted.into_iter().map(span).filter(|(_, span)| is_worth_reading(span)).collect();
        Ok(Self { unfinished })
    }
}

/// Looks up the offsets of points in partitions.
struct Lookup<'a> {
    admin: Admin,
    topic: &'a str,
    /// The beginning and end of each partition.
    bounds: BTreeMap<i32, (i64, i64)>,
}

impl<'a> Lookup<'a> {
    async fn new(cluster: &Connected, args: &'a Args, partitions: &[i32]) -> Result<Self, Failure> {
        // A partition ends where the consumer's isolation lets it end.
        let admin = args.isolation.into_iter().fold(cluster.admin(), Admin::isolation);
        let mut lookup = Self { admin, topic: args.topic(), bounds: BTreeMap::new() };
        let beginnings = lookup.ask(partitions, OffsetAt::Earliest).await?;
        let ends = lookup.ask(partitions, OffsetAt::Latest).await?;
        let bounds = partitions.iter().map(|p| (*p, (beginnings[p].unwrap_or(0), ends[p].unwrap_or(0))));
        lookup.bounds = bounds.collect();
        Ok(lookup)
    }

    async fn ask(&self, partitions: &[i32], at: OffsetAt) -> Result<BTreeMap<i32, Option<i64>>, Failure> {
        let found = self.admin.list_offsets(partitions.iter().map(|p| (self.topic, *p)), at).await?;
        found.into_iter().map(|((_, partition), offset)| Ok((partition, offset?))).collect()
    }

    /// The offset of each partition's point. There is one request per time, for all partitions that have it.
    async fn resolve(&self, points: &Offsets) -> Result<BTreeMap<i32, i64>, Failure> {
        let mut by_time: BTreeMap<i64, Vec<i32>> = BTreeMap::new();
        for partition in self.bounds.keys() {
            if let Point::Time(ms) = points.of(*partition) {
                by_time.entry(ms).or_default().push(*partition);
            }
        }
        let mut at_time = BTreeMap::new();
        for (ms, partitions) in by_time {
            at_time.extend(self.ask(&partitions, OffsetAt::TimestampMs(ms)).await?);
        }
        let resolve = |(partition, (beginning, end)): (&i32, &(i64, i64))| {
            let at_time = at_time.get(partition).copied().flatten();
            let resolved = points.of(*partition).resolve(*beginning, *end, at_time);
            resolved.map(|offset| (*partition, offset)).map_err(|offset| {
                let message =
                    format!("offset {offset} is not in partition {partition} of topic {:?}", self.topic);
                Failure::not_found(message).hint(format!(
                    "The partition has offsets {beginning} to {end}; choose partitions with -p."
                ))
            })
        };
        self.bounds.iter().map(resolve).collect()
    }
}

/// Reads each partition up to the offset at which to stop.
struct Reading<'a> {
    printing: Printing<'a>,
    spans: Spans,
}

impl Reading<'_> {
    fn is_over(&self) -> bool {
        self.printing.left == 0 || self.spans.unfinished.is_empty()
    }

    /// Appends those records of the batch that are to be written.
    async fn take(&mut self, batch: &Batch, consumer: &Consumer) -> Result<Reader, Failure> {
        let Some(Span { stop, .. }) = self.spans.unfinished.get(&batch.partition()).copied() else {
            return Ok(Reader::Listening);
        };
        self.printing.append(batch, stop).await?;
        if stop.is_some_and(|stop| batch.next_offset() >= stop) {
            self.spans.unfinished.remove(&batch.partition());
            consumer.unassign([(batch.topic(), batch.partition())])?;
        }
        self.printing.output.flush_when_full().await
    }

    /// Nothing came for `time`. That is normal while waiting for new records, and a failure if every record to read exists.
    fn check_stall(&self, time: Duration) -> Result<(), Failure> {
        if self.spans.unfinished.values().any(|span| span.stop.is_none()) {
            return Ok(());
        }
        let partitions: Vec<String> = self.spans.unfinished.keys().map(ToString::to_string).collect();
        let message = format!("nothing came for {time:?}, although there is more to read");
        Err(Failure::new(Exit::Unreachable, message)
            .hint(format!("Not read to the end: partitions {}.", partitions.join(", "))))
    }

    /// Finishes partitions whose last offsets have no records, such as transaction markers.
    fn pass(&mut self, topic: &str, consumer: &Consumer) {
        self.spans.unfinished.retain(|partition, span| {
            let position = consumer.position(topic, *partition);
            position.is_none() || span.stop.is_none_or(|stop| position < Some(stop))
        });
    }
}

impl Form {
    fn wants_headers(&self) -> bool {
        match self {
            Self::Text(format) => format.wants_headers(),
            Self::JsonLines => true,
        }
    }

    fn write(&self, record: &View<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Text(format) => format.write(record, out),
            Self::JsonLines => json::write_line(record, out),
        }
    }
}
