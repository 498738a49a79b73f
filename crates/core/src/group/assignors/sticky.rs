//! `sticky`: as balanced as possible, and each partition stays where it was if balance allows it. Members say in their user
//! data what they had, because under the eager protocol they have given it up when they join.
//!
//! This file also has what both sticky assignors share: the claims of members to partitions, and the choice between the
//! two algorithms (`fill.rs` when all members subscribe the same topics, else `balance.rs`).

use bytes::Bytes;
use milena_wire::{DecodeError, Reader, Str, Writer};

use super::layout::{Layout, Racks, by_id};
use super::subscription::{ELEMENTS_MAX, grouped};
use super::{Assignment, Assignor, ClusterView, Held, Member, TopicPartitions, balance, fill};
use crate::Failure;

/// Java's `StickyAssignor` (KIP-54): balanced, with as few moves as possible. Eager only.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sticky;

impl Assignor for Sticky {
    fn name(&self) -> &str {
        "sticky"
    }

    /// The partitions and generation of the last assignment, as version 1 of Java's schema.
    fn user_data(&self, _topics: &[Str], held: Option<&Held>) -> Option<Bytes> {
        encode_user_data(held?)
    }

    fn assign(&self, cluster: &ClusterView, members: &[Member]) -> Result<Vec<Assignment>, Failure> {
        let layout = Layout::new(cluster, members, by_id);
        let claims = Claims::new(&layout, |member| {
            let (partitions, generation) =
                member.subscription.user_data.as_ref().map(decode_user_data).unwrap_or_default();
            // Without a generation, a claim is older than any claim with one.
            (partitions.into(), generation.unwrap_or(-1))
        });
        Ok(layout.assignments(assign(&layout, &claims)))
    }
}

/// Who had which partition, by slot.
#[derive(Debug)]
pub(super) struct Claims {
    /// The member that claims the partition in the highest generation.
    holder: Vec<Option<u32>>,
    /// Whether another member claims it in the same generation, so that none can be believed.
    contested: Vec<bool>,
    /// The member that had it before others did: the one that claims it in the highest of the generations that are over.
    former: Vec<Option<u32>>,
}

impl Claims {
    /// The claims of all members. `of` says what a member has, and in which generation it got it.
    pub(super) fn new<'a>(
        layout: &Layout<'a>,
        of: impl Fn(&'a Member) -> (std::borrow::Cow<'a, [TopicPartitions]>, i32),
    ) -> Self {
        let claims: Vec<_> = (0..layout.member_count() as u32).map(|rank| of(layout.member(rank))).collect();
        let newest = claims.iter().map(|(_, generation)| *generation).max().unwrap_or(-1);
        let count = layout.slot_count();
        let mut best: Vec<Option<(i32, u32)>> = vec![None; count];
        let mut contested = vec![false; count];
        let mut former: Vec<Option<(i32, u32)>> = vec![None; count];
        for (rank, (partitions, generation)) in claims.iter().enumerate() {
            let claim = (*generation, rank as u32);
            layout.each_slot(partitions, |slot| {
                let slot = slot as usize;
                match best[slot] {
                    Some((other, _)) if other > claim.0 => {}
                    Some((other, rank)) if other == claim.0 => contested[slot] |= rank != claim.1,
                    _ => {
                        best[slot] = Some(claim);
                        contested[slot] = false;
                    }
                }
                if claim.0 < newest && former[slot].is_none_or(|(other, _)| other < claim.0) {
                    former[slot] = Some(claim);
                }
            });
        }
        let ranks =
            |claims: Vec<Option<(i32, u32)>>| claims.into_iter().map(|claim| Some(claim?.1)).collect();
        Self { holder: ranks(best), contested, former: ranks(former) }
    }

    /// The member that may keep the partition.
    pub(super) fn holder(&self, slot: u32) -> Option<u32> {
        self.holder[slot as usize].filter(|_| !self.contested[slot as usize])
    }

    /// The member that had the partition in an earlier generation.
    pub(super) fn former(&self, slot: u32) -> Option<u32> {
        self.former[slot as usize]
    }

    /// Whether another member must give the partition up before `rank` may read it.
    pub(super) fn is_held_by_another(&self, slot: u32, rank: u32) -> bool {
        self.contested[slot as usize] || self.holder[slot as usize].is_some_and(|holder| holder != rank)
    }
}

/// What happens to a partition without a replica in the rack of the member that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Far {
    /// It is assigned anew.
    Moves,
    /// It stays where it is as far as balance allows.
    Stays,
}

/// The slots of each member, by rank.
pub(super) fn assign(layout: &Layout<'_>, claims: &Claims) -> Vec<Vec<u32>> {
    let everyone = 0..layout.member_count() as u32;
    let racks = Racks::new(layout).filter(|racks| racks.matter(everyone, 0..layout.slot_count() as u32));
    let solve = if layout.is_uniform() { fill::assign } else { balance::assign };
    let moved = solve(layout, claims, racks.as_ref(), Far::Moves);
    let Some(racks) = racks else { return moved };
    let is_far = |slot: u32| claims.holder(slot).is_some_and(|holder| !racks.matches(holder, slot));
    if !(0..layout.slot_count() as u32).any(is_far) {
        return moved;
    }
    // Not in Java: partitions move for their racks only if fewer are far from their members for it. Otherwise those that fit
    // nowhere would move at every rebalance.
    let stayed = solve(layout, claims, Some(&racks), Far::Stays);
    let far = |slots: &[Vec<u32>]| -> usize {
        let by_rank = (0..).zip(slots);
        by_rank.map(|(rank, slots)| slots.iter().filter(|slot| !racks.matches(rank, **slot)).count()).sum()
    };
    if far(&moved) < far(&stayed) { moved } else { stayed }
}

/// None if it cannot be written: then the member joins without a claim, which costs moves and nothing else.
fn encode_user_data(held: &Held) -> Option<Bytes> {
    let mut writer = Writer::new();
    writer
        .array_of(&grouped(&held.partitions), "previous_assignment", |w, entry, field| {
            w.string(&entry.topic, field)?;
            w.array_of(&entry.partitions, field, |w, partition, _| {
                w.i32(*partition);
                Ok(())
            })
        })
        .ok()?;
    writer.i32(held.generation);
    Some(Bytes::from(writer.finish().to_vec()))
}

/// The partitions and the generation in a member's user data. Version 0 has no generation. User data that cannot be read
/// claims nothing, as in Java.
fn decode_user_data(bytes: &Bytes) -> (Vec<TopicPartitions>, Option<i32>) {
    let mut reader = Reader::new(bytes);
    reader.set_elements_max(ELEMENTS_MAX);
    let Ok(partitions) = read_partitions(&mut reader) else { return Default::default() };
    (partitions, reader.i32("generation").ok())
}

fn read_partitions(reader: &mut Reader<'_>) -> Result<Vec<TopicPartitions>, DecodeError> {
    reader.array_of("previous_assignment", 6, |r, field| {
        Ok(TopicPartitions { topic: r.string(field)?, partitions: r.array_of(field, 4, Reader::i32)? })
    })
}
