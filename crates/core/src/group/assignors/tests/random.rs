//! Rules that hold for random groups over many generations: members come, go, subscribe other topics, come back with
//! claims of an old generation, and topics grow.

use super::super::{CooperativeSticky, RebalanceProtocol, Sticky};
use super::*;
use crate::Rng;
use crate::group::assignors::leader;

const SEEDS: u64 = 400;

/// What the rules need: by partition, who has it.
#[derive(Debug, Clone)]
struct Owners {
    /// Topic, partition and member, sorted.
    owned: Vec<(Str, i32, usize)>,
    loads: Vec<usize>,
}

impl Owners {
    fn of(assignments: &[Assignment]) -> Self {
        let mut owned = Vec::new();
        for (at, assignment) in assignments.iter().enumerate() {
            for entry in &assignment.partitions {
                owned.extend(entry.partitions.iter().map(|index| (entry.topic.clone(), *index, at)));
            }
        }
        owned.sort();
        Self { owned, loads: assignments.iter().map(Assignment::count).collect() }
    }

    fn owner(&self, topic: &Str, partition: i32) -> Option<usize> {
        let found = self.owned.binary_search_by(|(t, p, _)| (t, *p).cmp(&(topic, partition)));
        found.ok().map(|at| self.owned[at].2)
    }
}

struct World {
    rng: Rng,
    topics: Vec<(String, usize)>,
    members: Vec<Member>,
    generation: i32,
    uniform: bool,
    racks: bool,
    joined: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let topics = (0..1 + rng.below(6)).map(|at| (format!("t{at}"), rng.below(9) as usize)).collect();
        let (uniform, racks) = (rng.below(2) == 0, rng.below(3) == 0);
        let mut world = Self { rng, topics, members: Vec::new(), generation: 0, uniform, racks, joined: 0 };
        for _ in 0..=world.rng.below(8) {
            world.join();
        }
        world
    }

    fn view(&self) -> ClusterView {
        let topics: Vec<_> = self.topics.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        if self.racks { cluster(&topics, 2, &racks(4)) } else { plain(&topics) }
    }

    fn subscription(&mut self) -> Vec<Str> {
        // One topic of the list does not exist.
        let names =
            self.topics.iter().map(|(name, _)| Str::from(name.as_str())).chain([Str::from("missing")]);
        let (uniform, rng) = (self.uniform, &mut self.rng);
        names.filter(|_| uniform || rng.below(2) == 0).collect()
    }

    fn join(&mut self) {
        self.joined += 1;
        let topics = self.subscription();
        let mut joined = member(&format!("m{}-{}", self.rng.below(100), self.joined), "");
        joined.subscription.topics = topics;
        if self.racks && self.rng.below(4) > 0 {
            joined.subscription.rack = Some(RACKS[self.rng.below(5) as usize].into());
        }
        self.members.push(joined);
    }

    fn change(&mut self) {
        match self.rng.below(6) {
            0 | 1 => self.join(),
            2 if self.members.len() > 1 => {
                let at = self.rng.below(self.members.len() as u32) as usize;
                self.members.remove(at);
            }
            3 => {
                let at = self.rng.below(self.topics.len() as u32) as usize;
                self.topics[at].1 += self.rng.below(3) as usize;
            }
            4 if !self.uniform => {
                let at = self.rng.below(self.members.len() as u32) as usize;
                self.members[at].subscription.topics = self.subscription();
            }
            _ => {
                // A member missed generations, and claims what it had before, or what another member has.
                let at = self.rng.below(self.members.len() as u32) as usize;
                let from = self.rng.below(self.members.len() as u32) as usize;
                let partitions = self.members[from].subscription.owned.clone();
                let generation = self.generation - self.rng.below(3) as i32;
                self.members[at].hold(Held { partitions, generation });
            }
        }
    }

    /// Every member takes its assignment.
    fn settle(&mut self, assignments: &[Assignment]) {
        self.generation += 1;
        for (member, assignment) in self.members.iter_mut().zip(assignments) {
            member.hold(Held { partitions: assignment.partitions.clone(), generation: self.generation });
        }
    }

    /// The member that claims a partition in the highest generation, if no other member does, and it wants the topic.
    fn home(&self, topic: &Str, partition: i32) -> Option<usize> {
        let claims = |member: &&Member| {
            member
                .subscription
                .owned
                .iter()
                .any(|entry| entry.topic == *topic && entry.partitions.contains(&partition))
        };
        let generation = |member: &Member| member.subscription.generation.unwrap_or(-1);
        let best = self.members.iter().filter(claims).map(generation).max()?;
        let claimants = self.members.iter().enumerate();
        let mut claimants = claimants.filter(|(_, member)| claims(member) && generation(member) == best);
        let (at, member) = claimants.next()?;
        (claimants.next().is_none() && member.subscription.topics.contains(topic)).then_some(at)
    }

    fn existing(&self, member: &Member) -> Vec<(Str, usize)> {
        let topics = member.subscription.topics.iter();
        topics
            .filter_map(|name| {
                Some((name.clone(), self.topics.iter().find(|(other, _)| other.as_str() == name.as_str())?.1))
            })
            .collect()
    }

    /// Every partition that is subscribed has one member, and no move would improve the balance.
    fn check_balance(&self, owners: &Owners) {
        for (at, member) in self.members.iter().enumerate() {
            for (topic, count) in self.existing(member) {
                for partition in 0..count as i32 {
                    let owner = owners.owner(&topic, partition).expect("a subscribed partition has a member");
                    assert!(
                        owners.loads[owner] <= owners.loads[at] + 1,
                        "{topic}-{partition} should move from {owner} to {at}: {owners:?}"
                    );
                }
            }
        }
    }

    /// How many partitions have no replica in the rack of their member.
    fn far(&self, assignments: &[Assignment]) -> usize {
        let view = self.view();
        let far_of = |member: &Member, assignment: &Assignment| {
            let Some(rack) = &member.subscription.rack else { return 0 };
            let is_far = |topic: &Str, index: i32| {
                !view.topic(topic).unwrap().partitions[index as usize].racks.contains(rack)
            };
            let count = |entry: &TopicPartitions| {
                entry.partitions.iter().filter(|index| is_far(&entry.topic, **index)).count()
            };
            assignment.partitions.iter().map(count).sum::<usize>()
        };
        self.members.iter().zip(assignments).map(|(member, assignment)| far_of(member, assignment)).sum()
    }

    /// If nothing changes, nothing moves, unless more partitions get into the racks of their members.
    fn check_at_rest(&mut self, mut assignments: Vec<Assignment>) {
        loop {
            let again = assigned(&Sticky, self, RebalanceProtocol::Eager);
            if again == assignments {
                return;
            }
            assert!(self.far(&again) < self.far(&assignments), "{again:?} instead of {assignments:?}");
            self.settle(&again);
            assignments = again;
        }
    }

    /// No partition moved that could have stayed.
    fn check_stickiness(&self, owners: &Owners) {
        let mut kept = 0;
        let mut held = vec![0; self.members.len()];
        for (topic, partition, owner) in &owners.owned {
            let Some(home) = self.home(topic, *partition) else { continue };
            held[home] += 1;
            kept += usize::from(home == *owner);
            assert!(
                home == *owner || owners.loads[*owner] <= owners.loads[home],
                "{topic}-{partition} moved from {home} to {owner}: {owners:?}"
            );
        }
        let mut away: Vec<(usize, usize)> = owners
            .owned
            .iter()
            .filter_map(|(topic, partition, owner)| Some((self.home(topic, *partition)?, *owner)))
            .filter(|(home, owner)| home != owner)
            .collect();
        away.sort_unstable();
        let swapped = away.iter().find(|(home, owner)| away.binary_search(&(*owner, *home)).is_ok());
        assert_eq!(swapped, None, "two members have each other's partitions: {owners:?}");
        if self.uniform {
            let (least, extra) = (owners.owned.len() / held.len(), owners.owned.len() % held.len());
            let above = held.iter().filter(|held| **held > least).count();
            let most = held.iter().map(|held| *held.min(&least)).sum::<usize>() + above.min(extra);
            assert_eq!(kept, most, "as many partitions stay as can: {owners:?}");
        }
    }
}

fn for_each_seed(check: impl Fn(u64)) {
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(seed)));
        if let Err(panic) = outcome {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn assigned(assignor: &dyn Assignor, world: &World, protocol: RebalanceProtocol) -> Vec<Assignment> {
    let view = world.view();
    let assignments = assignor.assign(&view, &world.members).unwrap();
    leader::check(&world.members, &assignments, protocol, &view).unwrap();
    assignments
}

#[test]
fn sticky_is_balanced_and_moves_nothing_needlessly() {
    for_each_seed(|seed| {
        let mut world = World::new(seed);
        for _ in 0..12 {
            let assignments = assigned(&Sticky, &world, RebalanceProtocol::Eager);
            let owners = Owners::of(&assignments);
            world.check_balance(&owners);
            if !world.racks {
                world.check_stickiness(&owners);
            }
            world.settle(&assignments);
            world.check_at_rest(assignments);
            world.change();
        }
    });
}

#[test]
fn cooperative_sticky_gets_to_the_balance_in_few_generations() {
    for_each_seed(|seed| {
        let mut world = World::new(seed);
        for _ in 0..12 {
            let mut generations = 0;
            loop {
                let assignments = assigned(&CooperativeSticky, &world, RebalanceProtocol::Cooperative);
                let gives_up = world.members.iter().zip(&assignments).any(|(member, assignment)| {
                    let owned = member.subscription.owned.iter();
                    owned
                        .flat_map(|entry| entry.partitions.iter().map(move |index| (&entry.topic, index)))
                        .any(|(topic, index)| {
                            let kept = |entry: &TopicPartitions| {
                                entry.topic == *topic && entry.partitions.contains(index)
                            };
                            !assignment.partitions.iter().any(kept)
                        })
                });
                world.settle(&assignments);
                generations += 1;
                assert!(generations <= 4, "members give partitions up again and again");
                // A member that gives a partition up joins again.
                if !gives_up {
                    world.check_balance(&Owners::of(&assignments));
                    break;
                }
            }
            world.change();
        }
    });
}

#[test]
fn range_and_round_robin_assign_everything() {
    for_each_seed(|seed| {
        let mut world = World::new(seed);
        for _ in 0..6 {
            let everyone: [&dyn Assignor; 2] = [&super::super::Range, &super::super::RoundRobin];
            for assignor in everyone {
                let owners = Owners::of(&assigned(assignor, &world, RebalanceProtocol::Eager));
                for member in &world.members {
                    for (topic, count) in world.existing(member) {
                        assert!((0..count as i32).all(|partition| owners.owner(&topic, partition).is_some()));
                    }
                }
            }
            world.change();
        }
    });
}
