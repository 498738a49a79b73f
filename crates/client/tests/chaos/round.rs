//! One round: a cluster, a client, writers and readers, and a storm, after which everything must be well.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Client, Position, Record};
use milena_broker::Broker;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::checker::{Logs, check_run, check_written};
use crate::extras::tend;
use crate::log::{delete_topic, grow_topic, read_log};
use crate::members::{Company, PLANNED};
use crate::network::{Connector, Gate, Network, lock};
use crate::plan::{Mode, Plan, ProducerPlan, Rng};
use crate::reader::Reader;
use crate::transactor::Transactors;
use crate::world::{Hung, Notes, Outcome, PATIENCE, World};
use crate::writer::{Ledger, Outlet, Writer, prove_alive};

const NODES: u16 = 3;
/// The largest record that brokers accept, without its overhead.
const BATCH_BYTES_MAX: usize = 1_000_000;

/// Runs the round of `plan`; failures are in `notes`.
pub(crate) async fn play(plan: Plan, notes: Arc<Notes>) {
    let mut rng = Rng::seeded(plan.seed);
    let builder =
        Broker::builder().nodes(NODES).default_replication(3).auto_create_topics(false).seed(plan.seed);
    // Writers give records times of years ago, and all of them have to be there when the round ends.
    let builder = builder.config("log.retention.ms", "-1");
    let builder = builder
        .group_session_timeout_min(plan.session_timeout)
        .group_consumer_session_timeout(plan.session_timeout)
        .group_consumer_heartbeat_interval(plan.session_timeout / 10)
        .transaction_version(plan.transactions.as_ref().map_or(2, |transactions| transactions.version));
    let cluster = builder.start().await.expect("a cluster starts");
    for (index, partitions) in plan.topics.iter().enumerate() {
        cluster.create_topic(&World::topic(index), *partitions).expect("a topic is created");
    }
    let ports = cluster.addresses().values().map(std::net::SocketAddr::port);
    let network = Network::new(ports, plan.rates, rng.fork(), Arc::clone(&notes));
    let world = World::new(plan, cluster, network, notes);
    // What hung was noted.
    let _: Result<(), Hung> = run(&world, rng).await;
}

async fn run(world: &Arc<World>, mut rng: Rng) -> Outcome<()> {
    let plan = &world.plan;
    let connect = async {
        loop {
            let builder = Client::builder().bootstrap(world.cluster.bootstrap()).seed(plan.seed);
            let builder = builder.connector(Connector(Arc::clone(&world.network)));
            match builder.settings(|settings| plan.apply(settings)).connect().await {
                Ok(client) => return client,
                // On a slow machine the first exchange may outlast a short timeout.
                Err(error) => world.note(format_args!("no connection yet: {error}")),
            }
        }
    };
    let client = world.within("connecting", connect).await?;

    let mut outlets = Vec::new();
    for (index, plan) in plan.producers.iter().enumerate() {
        let build = client.producer().settings(|settings| plan.apply(settings)).build();
        let producer = world.within("a producer being built", build).await?.expect("the settings are right");
        outlets.push(Outlet::new(index, plan.clone(), producer));
    }
    let users: Vec<Arc<Outlet>> = outlets
        .iter()
        .flat_map(|outlet| std::iter::repeat_n(outlet, outlet.plan.writers))
        .map(Arc::clone)
        .collect();
    // One more for each producer, to show that it is alive, and one for a last record.
    let ledgers: Arc<Vec<Ledger>> =
        Arc::new((0..users.len() + outlets.len() + 1).map(|_| Ledger::default()).collect());

    let mut readers = Vec::new();
    for (index, plan) in plan.readers.iter().enumerate() {
        readers.push(Reader::start(world, &client, index, plan, rng.fork()).await?);
    }
    let transactors = match &plan.transactions {
        Some(plan) => Some(Transactors::start(world, plan).await?),
        None => None,
    };
    if plan.mode != Mode::Calm {
        world.network.begin_storm();
        if rng.percent(40) {
            lead_all(world, rng.between(1, NODES as usize) as i32);
        }
    }
    let mut writing = JoinSet::new();
    for (index, outlet) in users.iter().enumerate() {
        let (world, outlet, ledgers) = (Arc::clone(world), Arc::clone(outlet), Arc::clone(&ledgers));
        writing.spawn(Writer { world, outlet, index, ledgers, rng: rng.fork() }.run());
    }
    let mut reading = JoinSet::new();
    for mut reader in readers {
        reading.spawn(async move { (reader.storm().await, reader) });
    }
    let companies: Vec<_> = plan.groups.iter().map(|group| Company::new(world, group)).collect();
    let mut transacting = JoinSet::new();
    if let Some(transactors) = &transactors {
        transacting.spawn(Arc::clone(transactors).play(rng.fork()));
    }
    let mut belonging = JoinSet::new();
    for company in &companies {
        belonging.spawn(Arc::clone(company).storm(rng.fork()));
    }
    belonging.spawn(tend(Arc::clone(world), rng.fork()));
    let strangers = tokio::spawn(strange(Arc::clone(world), client.clone(), outlets[0].clone(), rng.fork()));

    sabotage(world, rng.fork()).await?;
    heal(world).await?;
    world.note("the storm is over");
    let mut readers = Vec::new();
    while let Some(ended) = world.within("the writers", writing.join_next()).await? {
        ended.map_err(|error| world.violate(format_args!("a writer failed: {error}"))).unwrap_or(Ok(()))?;
    }
    while let Some(ended) = world.within("the readers", reading.join_next()).await? {
        match ended {
            Ok((ended, reader)) => ended.map(|()| readers.push(reader))?,
            Err(error) => world.violate(format_args!("a reader failed: {error}")),
        }
    }
    while let Some(ended) = world.within("the members", belonging.join_next()).await? {
        ended.map_err(|error| world.violate(format_args!("the group failed: {error}"))).unwrap_or(Ok(()))?;
    }
    while let Some(ended) = world.within("the transactions", transacting.join_next()).await? {
        ended
            .map_err(|error| world.violate(format_args!("transactions failed: {error}")))
            .unwrap_or(Ok(()))?;
    }
    world.within("the calls that name missing topics", strangers).await?.unwrap_or(Ok(()))?;

    for (index, outlet) in outlets.iter().enumerate() {
        prove_alive(world, outlet, users.len() + index, &ledgers, &world.all_partitions(), 0).await?;
    }
    for outlet in &outlets {
        outlet.flush(world, &ledgers, None, false).await?;
        outlet.flush(world, &ledgers, None, true).await?;
        outlet.check_closed(world).await?;
    }
    let logs = read_logs(world).await?;
    for reader in &mut readers {
        reader.drain(&logs).await?;
    }
    let mut all_logs = logs.clone();
    all_logs.extend(world.extras.logs_there());
    for company in &companies {
        Arc::clone(company).drain(&all_logs, rng.fork()).await?;
    }
    read_to_end(world, &client, &logs).await?;
    let runs: Vec<_> = readers.into_iter().flat_map(Reader::into_runs).collect();
    let last = ProducerPlan::patient();
    check_returned(world, &client, &last, &ledgers).await?;
    let members: usize = plan.groups.iter().map(|group| group.members).sum();
    let transactional = plan.transactions.as_ref().map_or(0, |of| 2 * of.producers + 2 * of.loops);
    // Those of members that were killed may not have ended when the next ones begin.
    let bound = 2 * (1 + plan.producers.len() + 3 * plan.readers.len() + 8 * (members + transactional));
    if world.network.open_max() > bound {
        world.violate(format_args!(
            "{} connections to one node, at most {bound} expected",
            world.network.open_max()
        ));
    }
    let records: usize = ledgers.iter().map(|ledger| lock(ledger).len()).sum();
    world.note(format_args!("{records} records; requests: {:?}", world.network.requests()));

    let plans = users.iter().chain(&outlets).map(|outlet| outlet.plan.clone());
    let plans: Vec<_> = plans.chain([last]).collect();
    drop((client, users, outlets));
    // Bytes that were written before a connection ended may arrive later.
    let ended = world.until("connections to end with their client", || world.network.relays() == 0).await;
    ended.inspect_err(|_| world.note(world.network.left()))?;
    let seen = world.until("brokers to see that", || world.cluster.stats().connections == 0).await;
    seen.inspect_err(|_| {
        let count = world.cluster.stats().connections;
        world.note(format_args!("{count} of these: {:?}", world.network.unanswered()));
    })?;
    let logs = read_logs(world).await?;
    check_written(world, &logs, &ledgers, &plans);
    runs.iter().for_each(|run| check_run(world, &logs, &lock(run)));
    let mut all_logs = logs;
    all_logs.extend(world.extras.logs());
    companies.iter().for_each(|company| company.check(&all_logs));
    if let Some(transactors) = transactors {
        transactors.check().await?;
    }
    Ok(())
}

/// Troubles, one after the other or at once, until the storm is over.
async fn sabotage(world: &Arc<World>, mut rng: Rng) -> Outcome<()> {
    let until = tokio::time::Instant::now() + world.plan.storm;
    let ports: BTreeMap<i32, u16> =
        world.cluster.addresses().iter().map(|(node, address)| (*node, address.port())).collect();
    // Nodes whose trouble passes, and when.
    let mut troubled: BTreeMap<i32, (tokio::time::Instant, bool)> = BTreeMap::new();
    while tokio::time::Instant::now() < until {
        sleep(Duration::from_millis(rng.between(1, 25) as u64)).await;
        let now = tokio::time::Instant::now();
        let over: Vec<i32> =
            troubled.iter().filter(|(_, (until, _))| *until < now).map(|(node, _)| *node).collect();
        for node in over {
            if let Some((_, is_down)) = troubled.remove(&node) {
                relieve(world, node, ports[&node], is_down).await?;
            }
        }
        if world.plan.mode == Mode::Calm {
            continue;
        }
        let node = troubled_node(world, &mut rng);
        let (until, port) = (now + rng.moment(Duration::from_millis(300)), ports[&node]);
        match rng.below(100) {
            0..30 => move_leaders(world, &mut rng),
            30..35 => lead_all(world, node),
            35..45 => world.network.cut_all(port),
            45..60 if !troubled.contains_key(&node) => {
                let gate = rng.pick(&[Gate::Refusing, Gate::Silent, Gate::Stalled]);
                world.note(format_args!("node {node} is {gate:?}"));
                world.network.set_gate(port, gate);
                troubled.insert(node, (until, false));
            }
            60..68 if troubled.is_empty() => {
                world.note(format_args!("node {node} stops"));
                world.network.set_gate(port, Gate::Down);
                let stopped = world.within("a node being stopped", world.cluster.stop_node(node)).await?;
                stopped.expect("a node stops");
                troubled.insert(node, (until, true));
            }
            68..72 if !world.is_fleeting() => grow(world, &mut rng).await,
            72..80 if world.is_fleeting() => recreate(world, &mut rng).await,
            _ => {}
        }
    }
    for (node, (_, is_down)) in troubled {
        relieve(world, node, ports[&node], is_down).await?;
    }
    Ok(())
}

/// A node that is to have trouble: any, or one that coordinates a group.
fn troubled_node(world: &World, rng: &mut Rng) -> i32 {
    let groups = &world.plan.groups;
    let group = groups.get(rng.below(groups.len())).filter(|_| rng.percent(40));
    let coordinator = group.and_then(|group| world.cluster.coordinator(&group.name));
    coordinator.unwrap_or(rng.between(1, NODES as usize) as i32)
}

/// Ends a node's trouble.
async fn relieve(world: &World, node: i32, port: u16, is_down: bool) -> Outcome<()> {
    if !is_down {
        world.note(format_args!("node {node} is well again"));
        world.network.reopen(port);
        return Ok(());
    }
    // Somebody else may have its port for a moment.
    let start = async {
        while let Err(error) = world.cluster.start_node(node).await {
            world.note(format_args!("node {node} does not start: {error}"));
            sleep(Duration::from_millis(5)).await;
        }
    };
    world.within("a node being started", start).await?;
    world.note(format_args!("node {node} starts"));
    world.network.set_gate(port, Gate::Open);
    Ok(())
}

fn move_leaders(world: &World, rng: &mut Rng) {
    let all = world.all_partitions();
    let count = rng.pick(&[1, 1, 3, all.len()]).min(all.len());
    for _ in 0..count {
        let (topic, partition) = all[rng.below(all.len())];
        // The leader itself may begin a new epoch, as after an election without a change.
        let same = world.cluster.leader(&World::topic(topic), partition).filter(|_| rng.percent(40));
        let node = same.unwrap_or(rng.between(1, NODES as usize) as i32);
        // A node that is down takes nothing over.
        let _ = world.cluster.move_leader(&World::topic(topic), partition, node);
    }
    world.note(format_args!("{count} leaders move"));
}

/// One node does all the work.
fn lead_all(world: &World, node: i32) {
    for (topic, partition) in world.all_partitions() {
        let _ = world.cluster.move_leader(&World::topic(topic), partition, node);
    }
    world.note(format_args!("node {node} leads everything"));
}

async fn grow(world: &World, rng: &mut Rng) {
    let topic = rng.below(world.topic_count());
    let count = world.partitions(topic) + 1;
    if count <= 10 && grow_topic(world.leader(topic, 0), &World::topic(topic), count).await.is_ok() {
        world.note(format_args!("topic {topic} has {count} partitions"));
        world.set_partitions(topic, count);
    }
}

async fn recreate(world: &World, rng: &mut Rng) {
    let topic = rng.below(world.topic_count());
    let name = World::topic(topic);
    if delete_topic(world.leader(topic, 0), &name).await.is_err() {
        return;
    }
    world.note(format_args!("topic {topic} is deleted"));
    sleep(rng.moment(Duration::from_millis(60))).await;
    world.cluster.create_topic(&name, world.partitions(topic)).expect("a topic is created again");
    world.begin_incarnation(topic);
    world.note(format_args!("topic {topic} is made again"));
}

/// Ends all troubles.
async fn heal(world: &World) -> Outcome<()> {
    world.network.end_storm();
    world.end();
    let leads = |(topic, partition)| world.cluster.leader(&World::topic(topic), partition).is_some();
    for at in world.all_partitions() {
        world.until("a leader", || leads(at)).await?;
    }
    // Some of them may be deleted meanwhile.
    world.until("leaders", || world.extras.partitions_there().into_iter().all(leads)).await?;
    Ok(())
}

/// Makes calls with a topic that does not exist, which fail or are dropped. They must not affect other calls.
async fn strange(world: Arc<World>, client: Client, outlet: Arc<Outlet>, mut rng: Rng) -> Outcome<()> {
    while !world.is_over() {
        sleep(rng.moment(Duration::from_millis(100))).await;
        let limit = rng.moment(Duration::from_millis(50));
        let call = tokio::time::timeout(limit, outlet.producer.enqueue(Record::to("missing").value("lost")));
        if let Ok(Ok(_)) = world.within("a record for a missing topic", call).await? {
            world.violate("a record for a topic that does not exist was taken");
        }
        let build = client.consumer_direct().assign([("missing", 0)], Position::Earliest).build();
        let _ = world.within("a consumer of a missing topic", tokio::time::timeout(limit, build)).await?;
    }
    Ok(())
}

async fn read_logs(world: &World) -> Outcome<Logs> {
    let mut logs = Logs::new();
    for (topic, partition) in world.all_partitions() {
        let name = World::topic(topic);
        let read = read_log(world.leader(topic, partition), &name, partition);
        let log: io::Result<_> = world.within("a log being read", read).await?;
        match log {
            Ok(log) => drop(logs.insert((topic, partition), log)),
            Err(error) => {
                world.violate(format_args!("partition {partition} of topic {topic} cannot be read: {error}"));
            }
        }
    }
    Ok(logs)
}

/// Checks that reading a topic to its end returns all its records, and ends.
async fn read_to_end(world: &World, client: &Client, logs: &Logs) -> Outcome<()> {
    for topic in 0..world.topic_count() {
        let read = async || {
            let builder = client.consumer_direct().topic(World::topic(topic)).from(Position::Earliest);
            let mut consumer = builder.until_end().build().await?;
            let mut ends = BTreeMap::new();
            while let Some(batch) = consumer.next().await? {
                ends.insert((topic, batch.partition()), batch.next_offset());
            }
            Ok(ends)
        };
        let read = async {
            loop {
                match read().await {
                    // On a slow machine a look-up may outlast a short timeout.
                    Err::<_, milena::Error>(error) if error.is_retriable() => {
                        world.note(format_args!("topic {topic} was not read to its end yet: {error}"));
                    }
                    read => return read,
                }
            }
        };
        let read = world.within(format!("topic {topic} being read to its end"), read).await?;
        let own = logs.iter().filter(|((of, _), log)| *of == topic && !log.is_empty());
        let expected: BTreeMap<_, _> = own.map(|(at, log)| (*at, log.len() as i64)).collect();
        match read {
            // Records may have arrived since then, from a connection that was lost.
            Ok(ends) if expected.iter().all(|(at, end)| ends.get(at) >= Some(end)) => {}
            Ok(ends) => world.violate(format_args!("topic {topic} ended at {ends:?}, not {expected:?}")),
            Err(error) => {
                world.violate(format_args!("reading to the end failed: {error}"));
            }
        }
    }
    Ok(())
}

/// Checks that all buffers and all reserved memory came back.
async fn check_returned(
    world: &World,
    client: &Client,
    plan: &ProducerPlan,
    ledgers: &[Ledger],
) -> Outcome<()> {
    let bytes_out = || client.pool_stats().bytes_out + client.decompressed_pool_stats().bytes_out;
    let is_back = || bytes_out() == 0;
    world.until("buffers to come back", is_back).await.inspect_err(|_| {
        world.violate(format_args!("{} bytes of buffers never came back", bytes_out()));
    })?;
    let half = world.plan.memory_bytes_max / 2;
    if half < BATCH_BYTES_MAX {
        // A record as large as all memory for producing is taken when nothing else is.
        let build = client.producer().settings(|settings| plan.apply(settings)).build();
        let producer = world.within("a producer being built", build).await?.expect("the settings are right");
        let outlet = Outlet::new(usize::MAX, plan.clone(), producer);
        prove_alive(world, &outlet, ledgers.len() - 1, ledgers, &[(0, 0)], half).await?;
        outlet.flush(world, ledgers, None, true).await?;
    }
    Ok(())
}

/// Nothing may hang. A task that stops the round's own clock is noticed from outside.
pub(crate) const ROUND_PATIENCE: Duration = PATIENCE.saturating_mul(4);

/// A round that went wrong.
pub(crate) struct Failed {
    /// All that is known of it.
    pub(crate) report: String,
    /// What was wrong, shortly.
    pub(crate) wrong: Vec<String>,
}

/// Runs a seed's round on threads of its own.
pub(crate) fn play_on_threads(plan: Plan, panics: &Panics) -> Result<(), Failed> {
    let notes = Notes::new();
    let (done, ended) = std::sync::mpsc::channel();
    let name = format!("chaos-{}", plan.seed);
    let headline = plan.to_string();
    let body = {
        let (notes, name) = (Arc::clone(&notes), name.clone());
        move || {
            let mut builder = match plan.threads {
                1 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            let runtime = builder.worker_threads(plan.threads).thread_name(name).enable_all().build();
            let runtime = runtime.expect("a runtime starts");
            runtime.block_on(play(plan, notes));
            runtime.shutdown_timeout(PATIENCE);
            let _ = done.send(());
        }
    };
    std::thread::Builder::new().name(name.clone()).spawn(body).expect("a thread starts");
    if ended.recv_timeout(ROUND_PATIENCE).is_err() {
        notes.violate("the round did not end");
    }
    for panic in panics.of(&name) {
        notes.violate(panic);
    }
    let wrong = notes.wrong();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failed { report: format!("{headline}{}", notes.report()), wrong })
}

/// Panics of all threads, by name.
#[derive(Default)]
pub(crate) struct Panics(Mutex<Vec<(String, String)>>);

impl Panics {
    /// Notes every panic from now on, and shows it as before.
    pub(crate) fn watch() -> Arc<Self> {
        let panics = Arc::new(Self::default());
        let (noting, show) = (Arc::clone(&panics), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            if panic.to_string().contains(PLANNED) {
                return;
            }
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            lock(&noting.0).push((thread, panic.to_string()));
            show(panic);
        }));
        panics
    }

    fn of(&self, thread: &str) -> Vec<String> {
        lock(&self.0).iter().filter(|(name, _)| name == thread).map(|(_, panic)| panic.clone()).collect()
    }
}
