//! Topics that are made during the storm, and deleted again. Nobody writes to them but what they begin with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;

use crate::checker::Logs;
use crate::log::{delete_topic, read_log, write};
use crate::network::lock;
use crate::plan::Rng;
use crate::world::{EXTRA, Outcome, World};

/// Those that were made.
#[derive(Default)]
pub(crate) struct Extras {
    logs: Mutex<Logs>,
    /// Those that were not deleted, and the number of partitions of each.
    there: Mutex<BTreeMap<usize, i32>>,
    /// Those whose deletion has begun.
    deleted: Mutex<BTreeSet<usize>>,
}

impl Extras {
    /// The logs of all of them.
    pub(crate) fn logs(&self) -> Logs {
        lock(&self.logs).clone()
    }

    /// The logs of those that are there.
    pub(crate) fn logs_there(&self) -> Logs {
        let there = lock(&self.there);
        let logs = lock(&self.logs);
        let logs = logs.iter().filter(|((topic, _), _)| there.contains_key(topic));
        logs.map(|(at, log)| (*at, log.clone())).collect()
    }

    /// Whether `text` names one of those that were deleted.
    pub(crate) fn names_deleted(&self, text: &str) -> bool {
        lock(&self.deleted).iter().any(|topic| text.contains(&World::topic(*topic)))
    }

    pub(crate) fn partitions_there(&self) -> Vec<(usize, i32)> {
        let there = lock(&self.there);
        there.iter().flat_map(|(topic, count)| (0..*count).map(|partition| (*topic, partition))).collect()
    }
}

/// Makes topics and deletes some of them, until the storm is over.
pub(crate) async fn tend(world: Arc<World>, mut rng: Rng) -> Outcome<()> {
    for index in 0..world.plan.extras {
        sleep(rng.moment(world.plan.storm / 2)).await;
        if world.is_over() {
            break;
        }
        let (topic, partitions) = (EXTRA + index, rng.between(1, 3) as i32);
        make(&world, topic, partitions, &mut rng).await?;
        if rng.percent(50) {
            sleep(rng.moment(world.plan.storm / 2)).await;
            lock(&world.extras.deleted).insert(topic);
            let delete = async {
                while let Err(error) = delete_topic(world.leader(topic, 0), &World::topic(topic)).await {
                    world.note(format_args!("topic {topic} is not deleted yet: {error}"));
                    sleep(Duration::from_millis(5)).await;
                }
            };
            world.within("a topic being deleted", delete).await?;
            world.note(format_args!("topic {topic} is deleted"));
            lock(&world.extras.there).remove(&topic);
        }
    }
    Ok(())
}

async fn make(world: &World, topic: usize, partitions: i32, rng: &mut Rng) -> Outcome<()> {
    let name = World::topic(topic);
    world.cluster.create_topic(&name, partitions).expect("a topic is made");
    world.note(format_args!("topic {topic} is made"));
    for partition in 0..partitions {
        let (batches, records) = (rng.between(0, 3), rng.between(1, 20));
        let fill = async {
            loop {
                // What was written although it failed is there twice.
                let written = write(world.leader(topic, partition), &name, partition, batches, records).await;
                let read = read_log(world.leader(topic, partition), &name, partition).await;
                match (written, read) {
                    (Ok(()), Ok(log)) => break log,
                    (Err(error), _) | (_, Err(error)) => {
                        world.note(format_args!("topic {topic} is not filled yet: {error}"));
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        };
        let log = world.within("a topic being filled", fill).await?;
        lock(&world.extras.logs).insert((topic, partition), log);
    }
    lock(&world.extras.there).insert(topic, partitions);
    Ok(())
}
