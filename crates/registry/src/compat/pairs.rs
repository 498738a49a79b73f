//! The comparison that the checks of all formats share: pairs of types, and what has to be true of each.
//!
//! Schemas may be recursive, and unions of recursive types reach one pair on very many ways. So a pair is not compared by
//! walking into it. A format says what has to be true of a pair in terms of other pairs, each pair once; then pairs that
//! cannot be compatible are struck out until no more follow. What is left is compatible, cycles included. Nothing recurses
//! from pair to pair, and the work is bounded.
//!
//! ```text
//! root pair ─▶ Claim about pairs ─▶ their claims ─▶ …     every reachable pair, once
//! pairs whose claim is false ─▶ the claims that they made false ─▶ …     until nothing changes
//! ```

use std::collections::{HashMap, HashSet, VecDeque};

use super::Kind;

/// Parts of claims that one check may make. The largest schemas that people write take some ten thousand.
pub(super) const CLAIMS_MAX: usize = 400_000;

/// Parts of claims that one check may look at again, because a pair in them was struck out.
const LOOKS_MAX: usize = 20_000_000;

/// Findings of one check. More do not help a reader.
pub(super) const FINDINGS_MAX: usize = 100;

/// One thing that makes two schemas incompatible.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    /// Where it is. A claim has it relative to its pair, and a result from the root.
    pub(super) path: String,
    pub(super) detail: String,
}

impl Finding {
    pub(super) fn new(kind: Kind, path: impl Into<String>, detail: impl Into<String>) -> Finding {
        Finding { kind, path: path.into(), detail: detail.into() }
    }
}

/// Two types: the one that reads and the one that wrote, in a format's own numbers.
pub(super) type Pair = (usize, usize);

/// What has to be true for a pair to be compatible.
#[derive(Debug)]
pub(super) enum Claim {
    /// It is not.
    Fails(Finding),
    /// The pair at this place has to be compatible.
    Pair(String, Pair),
    /// All of it. Nothing is always true.
    All(Vec<Claim>),
    /// Something of it. The finding is for the case that nothing is true.
    Any(Vec<Claim>, Finding),
    /// The inner claim. The finding is for the case that it is false, in place of the inner ones.
    As(Box<Claim>, Finding),
    /// As many pairs of `left` with `right` as the smaller one has, no one twice; `edges` are the pairs that count.
    Matching { left: usize, right: usize, edges: Vec<(usize, usize, Pair)>, otherwise: Finding },
}

impl Claim {
    pub(super) fn truth() -> Claim {
        Claim::All(Vec::new())
    }

    fn size(&self) -> usize {
        match self {
            Claim::Fails(_) | Claim::Pair(..) => 1,
            Claim::All(claims) | Claim::Any(claims, _) => 1 + claims.iter().map(Claim::size).sum::<usize>(),
            Claim::As(claim, _) => 1 + claim.size(),
            Claim::Matching { edges, .. } => 1 + edges.len(),
        }
    }

    fn pairs(&self, into: &mut Vec<Pair>) {
        match self {
            Claim::Fails(_) => {}
            Claim::Pair(_, pair) => into.push(*pair),
            Claim::All(claims) | Claim::Any(claims, _) => claims.iter().for_each(|claim| claim.pairs(into)),
            Claim::As(claim, _) => claim.pairs(into),
            Claim::Matching { edges, .. } => into.extend(edges.iter().map(|(_, _, pair)| *pair)),
        }
    }

    fn holds(&self, struck: &dyn Fn(&Pair) -> bool) -> bool {
        match self {
            Claim::Fails(_) => false,
            Claim::Pair(_, pair) => !struck(pair),
            Claim::All(claims) => claims.iter().all(|claim| claim.holds(struck)),
            Claim::Any(claims, _) => claims.iter().any(|claim| claim.holds(struck)),
            Claim::As(claim, _) => claim.holds(struck),
            Claim::Matching { left, right, edges, .. } => {
                let edges = edges.iter().filter(|(_, _, pair)| !struck(pair)).map(|(a, b, _)| (*a, *b));
                matching(*left, *right, edges) >= *left.min(right)
            }
        }
    }

    /// What is false in a claim that does not hold: findings, and pairs that were struck out.
    fn explain<'a>(&'a self, struck: &dyn Fn(&Pair) -> bool, into: &mut Vec<Because<'a>>) {
        match self {
            _ if self.holds(struck) => {}
            Claim::Fails(finding) | Claim::Any(_, finding) | Claim::As(_, finding) => {
                into.push(Because::Finding(finding));
            }
            Claim::Matching { otherwise, .. } => into.push(Because::Finding(otherwise)),
            Claim::Pair(place, pair) => into.push(Because::Pair(place, *pair)),
            Claim::All(claims) => claims.iter().for_each(|claim| claim.explain(struck, into)),
        }
    }
}

enum Because<'a> {
    Finding(&'a Finding),
    Pair(&'a str, Pair),
}

/// Compares a pair of roots. `claim` says what has to be true of a pair; `prefix` begins all paths.
pub(super) fn compare(root: Pair, prefix: &str, mut claim: impl FnMut(Pair) -> Claim) -> Vec<Finding> {
    let mut places: HashMap<Pair, usize> = HashMap::from([(root, 0)]);
    let mut pairs = vec![root];
    let mut claims: Vec<Claim> = Vec::new();
    // For each pair, the claims that it is in.
    let mut within: Vec<Vec<usize>> = vec![Vec::new()];
    let (mut size, mut inner) = (0, Vec::new());
    while claims.len() < pairs.len() {
        let place = claims.len();
        let found = claim(pairs[place]);
        size += found.size();
        if size > CLAIMS_MAX {
            return vec![too_complex()];
        }
        inner.clear();
        found.pairs(&mut inner);
        for pair in &inner {
            let known = *places.entry(*pair).or_insert_with(|| {
                pairs.push(*pair);
                within.push(Vec::new());
                pairs.len() - 1
            });
            if within[known].last() != Some(&place) {
                within[known].push(place);
            }
        }
        claims.push(found);
    }
    let Some(struck) = strike_out(&claims, &within, &places) else { return vec![too_complex()] };
    explain(&claims, &struck, &places, prefix)
}

/// Which pairs are incompatible, or `None` when telling it takes too long.
fn strike_out(claims: &[Claim], within: &[Vec<usize>], places: &HashMap<Pair, usize>) -> Option<Vec<bool>> {
    let mut struck = vec![false; claims.len()];
    let mut waiting: VecDeque<usize> = (0..claims.len()).rev().collect();
    let mut queued = vec![true; claims.len()];
    let mut looks = 0;
    while let Some(place) = waiting.pop_front() {
        queued[place] = false;
        if struck[place] {
            continue;
        }
        looks += claims[place].size();
        if looks > LOOKS_MAX {
            return None;
        }
        let out = |pair: &Pair| places.get(pair).is_some_and(|place| struck[*place]);
        if !claims[place].holds(&out) {
            struck[place] = true;
            for outer in &within[place] {
                if !queued[*outer] && !struck[*outer] {
                    queued[*outer] = true;
                    waiting.push_back(*outer);
                }
            }
        }
    }
    Some(struck)
}

fn explain(claims: &[Claim], struck: &[bool], places: &HashMap<Pair, usize>, prefix: &str) -> Vec<Finding> {
    let out = |pair: &Pair| places.get(pair).is_some_and(|place| struck[*place]);
    let mut findings: Vec<Finding> = Vec::new();
    if !struck[0] {
        return findings;
    }
    // The way to each pair: the step before and the place. Paths are put together for findings only.
    let mut steps: Vec<(usize, usize, &str)> = vec![(0, 0, "")];
    let mut seen = HashSet::from([0]);
    let mut because = Vec::new();
    let mut next = 0;
    while next < steps.len() {
        because.clear();
        claims[steps[next].0].explain(&out, &mut because);
        for because in because.drain(..) {
            match because {
                Because::Finding(finding) => {
                    let mut path = path(&steps, next, prefix);
                    join(&mut path, &finding.path);
                    findings.push(Finding { kind: finding.kind, path, detail: finding.detail.clone() });
                    if findings.len() >= FINDINGS_MAX {
                        return findings;
                    }
                }
                Because::Pair(place, pair) => {
                    let inner = places.get(&pair).copied().unwrap_or_default();
                    if seen.insert(inner) {
                        steps.push((inner, next, place));
                    }
                }
            }
        }
        next += 1;
    }
    findings
}

fn path(steps: &[(usize, usize, &str)], mut step: usize, prefix: &str) -> String {
    let mut places = Vec::new();
    while step > 0 {
        places.push(steps[step].2);
        step = steps[step].1;
    }
    let mut path = prefix.to_owned();
    for place in places.into_iter().rev() {
        join(&mut path, place);
        if path.len() > PATH_BYTES_MAX {
            path.truncate(path.floor_char_boundary(PATH_BYTES_MAX));
            path.push('…');
            break;
        }
    }
    path
}

/// Bytes of a path in a finding, before it is cut.
const PATH_BYTES_MAX: usize = 4096;

fn join(path: &mut String, place: &str) {
    if place.is_empty() {
        return;
    }
    if !path.ends_with('/') {
        path.push('/');
    }
    path.push_str(place);
}

fn too_complex() -> Finding {
    Finding::new(
        Kind::TooComplex,
        "/",
        "the schemas are so large or so entangled that comparing them takes too long",
    )
}

/// The size of a largest matching, by augmenting paths.
fn matching(left: usize, right: usize, edges: impl Iterator<Item = (usize, usize)>) -> usize {
    let mut neighbours = vec![Vec::new(); left];
    for (a, b) in edges {
        neighbours[a].push(b);
    }
    let mut partner: Vec<Option<usize>> = vec![None; right];
    let mut size = 0;
    for start in 0..left {
        // A breadth-first search for a free partner; `from` is the way back.
        let mut from: Vec<Option<usize>> = vec![None; right];
        let mut waiting = VecDeque::from([start]);
        let mut free = None;
        'search: while let Some(a) = waiting.pop_front() {
            for b in &neighbours[a] {
                if from[*b].is_some() {
                    continue;
                }
                from[*b] = Some(a);
                match partner[*b] {
                    None => {
                        free = Some(*b);
                        break 'search;
                    }
                    Some(next) => waiting.push_back(next),
                }
            }
        }
        let Some(mut b) = free else { continue };
        size += 1;
        while let Some(a) = from[b] {
            partner[b] = Some(a);
            // The partner that `a` had before becomes free, unless this is where the search started.
            let Some(before) = (0..right).find(|other| *other != b && partner[*other] == Some(a)) else {
                break;
            };
            b = before;
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchings_are_largest() {
        for (left, right, edges, expect) in [
            (0, 0, vec![], 0),
            (2, 2, vec![(0, 0), (1, 0)], 1),
            (2, 2, vec![(0, 0), (0, 1), (1, 0)], 2),
            (3, 3, vec![(0, 0), (0, 1), (1, 0), (1, 2), (2, 0)], 3),
            (4, 3, vec![(0, 0), (1, 0), (2, 1), (3, 1)], 2),
            (4, 4, vec![(0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 0)], 4),
        ] {
            assert_eq!(matching(left, right, edges.iter().copied()), expect, "{edges:?}");
        }
    }

    #[test]
    fn a_cycle_is_compatible_unless_something_in_it_is_not() {
        let fails = || Claim::Fails(Finding::new(Kind::TypeMismatch, "type", "no"));
        let ring = |broken: bool| {
            move |(a, _): Pair| match a {
                0 => Claim::Pair("one".to_owned(), (1, 1)),
                1 => Claim::All(vec![
                    Claim::Pair("two".to_owned(), (2, 2)),
                    Claim::Pair("zero".to_owned(), (0, 0)),
                ]),
                _ if broken => fails(),
                _ => Claim::Pair("zero".to_owned(), (0, 0)),
            }
        };
        assert_eq!(compare((0, 0), "", ring(false)), []);
        let found = compare((0, 0), "#", ring(true));
        assert_eq!(found, [Finding::new(Kind::TypeMismatch, "#/one/two/type", "no")]);
    }
}
