//! Whether one JSON Schema takes every value that another took, by the rules of Confluent's registry with its strict policy.
//!
//! What is compared is how the texts differ, not which values they take: an added property is incompatible when others were
//! allowed before, because a value may have had one of this name.

use std::cmp::Ordering::{self, Greater, Less};
use std::collections::HashSet;

use regex::RegexBuilder;

use super::number::{Divides, divides};
use super::{Array, Criterion, Id, JsonSchema, More, Node, Number, Object, Shape, Text};
use crate::compat::Kind;
use crate::compat::pairs::{Claim, Finding, Pair, compare};

/// What keeps `reader` from taking what `writer` took.
pub(in crate::compat) fn check(reader: &JsonSchema, writer: &JsonSchema) -> Vec<Finding> {
    let sides = Sides { new: reader, old: writer };
    let root = (reader.root, sides.old_id(writer.root));
    compare(sides.pair(root), "#/", |(new, old)| sides.claim(new, old))
}

/// Both schemas, with one row of numbers: those of the old schema come after those of the new one. `not` turns them around.
struct Sides<'a> {
    new: &'a JsonSchema,
    old: &'a JsonSchema,
}

impl<'a> Sides<'a> {
    fn old_id(&self, id: Id) -> Id {
        id + self.new.nodes.len()
    }

    /// The schema that a number belongs to, and what to add to its own numbers.
    fn side(&self, id: Id) -> (&'a JsonSchema, usize) {
        let first = self.new.nodes.len();
        if id < first { (self.new, 0) } else { (self.old, first) }
    }

    /// A schema as it is written, a reference not followed.
    fn written(&self, id: Id) -> &'a Node {
        let (schema, offset) = self.side(id);
        &schema.nodes[id - offset]
    }

    /// Follows references, so that each pair has one number.
    fn followed(&self, id: Id) -> Id {
        let (schema, offset) = self.side(id);
        schema.node(id - offset).0 + offset
    }

    fn pair(&self, (new, old): Pair) -> Pair {
        (self.followed(new), self.followed(old))
    }

    fn at(&self, place: impl Into<String>, new: Id, old: Id) -> Claim {
        Claim::Pair(place.into(), self.pair((new, old)))
    }

    fn claim(&self, new: Id, old: Id) -> Claim {
        let (offsets, nodes) = ((self.side(new).1, self.side(old).1), (self.written(new), self.written(old)));
        let differs = || {
            Finding::new(
                Kind::TypeChanged,
                "",
                format!("it is {}, and it was {}", nodes.0.shape.name(), nodes.1.shape.name()),
            )
        };
        let each = |parts: &[Id], other: fn(Id, Id) -> Pair, offset: usize, fixed: Id| {
            let pairs = parts.iter().map(|part| other(part + offset, fixed));
            pairs.map(|pair| Claim::Pair(String::new(), self.pair(pair))).collect::<Vec<Claim>>()
        };
        let ways = match (&nodes.0.shape, &nodes.1.shape) {
            (Shape::Combined(..), Shape::Combined(..)) => Vec::new(),
            // One of several takes it, or the only one.
            (Shape::Combined(criterion, parts), _) if parts.len() == 1 || *criterion != Criterion::All => {
                each(parts, |part, old| (part, old), offsets.0, old)
            }
            // One of all that held before.
            (_, Shape::Combined(criterion, parts)) if parts.len() == 1 || *criterion == Criterion::All => {
                each(parts, |part, new| (new, part), offsets.1, new)
            }
            _ => Vec::new(),
        };
        let same = match (&nodes.0.shape, &nodes.1.shape) {
            (Shape::String(new), Shape::String(old)) => Claim::All(strings(new, old)),
            (Shape::Number(new), Shape::Number(old)) => Claim::All(numbers(new, old)),
            (Shape::Const(new), Shape::Const(old)) if new.sorted() == old.sorted() => Claim::truth(),
            (Shape::Const(_), Shape::Const(_)) => {
                fails(Kind::EnumChanged, "const", "the value is another one")
            }
            (Shape::Enum(new), Shape::Enum(old)) => enums(new, old),
            (Shape::Combined(now, parts), Shape::Combined(before, old_parts)) => {
                self.combined((*now, parts, offsets.0), (*before, old_parts, offsets.1))
            }
            (Shape::Not(new), Shape::Not(old)) => {
                let inner = self.at("not", old + offsets.1, new + offsets.0);
                let finding = Finding::new(Kind::NotExtended, "not", "what is excluded was taken before");
                Claim::As(Box::new(inner), finding)
            }
            (Shape::Object(new), Shape::Object(old)) => Objects { sides: self, new, old, offsets }.claim(),
            (Shape::Array(new), Shape::Array(old)) => Arrays { sides: self, new, old, offsets }.claim(),
            (Shape::Any, Shape::Any)
            | (Shape::True, Shape::True)
            | (Shape::Null, Shape::Null)
            | (Shape::Boolean, Shape::Boolean)
            | (Shape::Conditional, Shape::Conditional)
            // What is left of references that only refer to each other.
            | (Shape::Reference(_), Shape::Reference(_))
            | (Shape::Any | Shape::True, _)
            | (_, Shape::False) => Claim::truth(),
            _ if nodes.0.connect_bytes && nodes.1.connect_bytes => Claim::truth(),
            _ => Claim::Fails(differs()),
        };
        if ways.is_empty() {
            return same;
        }
        let finding = differs();
        Claim::Any(ways.into_iter().chain([same]).collect(), finding)
    }

    fn combined(&self, new: (Criterion, &[Id], usize), old: (Criterion, &[Id], usize)) -> Claim {
        let ((now, new_parts, new_offset), (before, old_parts, old_offset)) = (new, old);
        let (one_new, one_old) = (new_parts.len() == 1, old_parts.len() == 1);
        let extended = now == Criterion::Any
            || (one_old && one_new)
            || (one_old && now == Criterion::One)
            || (one_new && before == Criterion::All);
        if now != before && !extended {
            let detail = format!("it is {}, and it was {}", now.keyword(), before.keyword());
            return fails(Kind::CombinedTypeChanged, "", detail);
        }
        let (new_parts, old_parts) =
            (self.distinct(new_parts, new_offset), self.distinct(old_parts, old_offset));
        let mut claims = Vec::new();
        let (more, fewer) = (new_parts.len() > old_parts.len(), new_parts.len() < old_parts.len());
        if more && now == Criterion::All {
            claims.push(fails(Kind::ProductTypeExtended, now.keyword(), "there are more conditions"));
        }
        if fewer && before != Criterion::All {
            claims.push(fails(Kind::SumTypeNarrowed, before.keyword(), "there are fewer alternatives"));
        }
        let edges = old_parts.iter().enumerate().flat_map(|(left, old)| {
            new_parts.iter().enumerate().map(move |(right, new)| (left, right, self.pair((*new, *old))))
        });
        // More than the work of a check would only be thrown away.
        let edges = edges.take(crate::compat::pairs::CLAIMS_MAX + 1).collect();
        let otherwise = Finding::new(
            Kind::CombinedSubschemasChanged,
            before.keyword(),
            "not each part has a compatible one",
        );
        claims.push(Claim::Matching { left: old_parts.len(), right: new_parts.len(), edges, otherwise });
        Claim::All(claims)
    }

    fn distinct(&self, parts: &[Id], offset: usize) -> Vec<Id> {
        let mut seen = HashSet::new();
        let parts = parts.iter().map(|part| part + offset);
        parts
            .filter(|part| self.written(*part).text.is_empty() || seen.insert(&self.written(*part).text))
            .collect()
    }
}

fn fails(kind: Kind, place: impl Into<String>, detail: impl Into<String>) -> Claim {
    Claim::Fails(Finding::new(kind, place, detail))
}

/// A limit that was added, or that lets fewer values through. `Less` means that a smaller limit does.
fn limit<T: PartialOrd + std::fmt::Display>(
    claims: &mut Vec<Claim>,
    keyword: &str,
    (new, old): (Option<T>, Option<T>),
    stricter: Ordering,
    (added, changed): (Kind, Kind),
) {
    match (new, old) {
        (Some(new), None) => claims.push(fails(added, keyword, format!("{keyword} {new} was added"))),
        (Some(new), Some(old)) if new.partial_cmp(&old) == Some(stricter) => {
            claims.push(fails(changed, keyword, format!("{keyword} is {new}, and it was {old}")));
        }
        _ => {}
    }
}

fn strings(new: &Text, old: &Text) -> Vec<Claim> {
    let mut claims = Vec::new();
    limit(
        &mut claims,
        "maxLength",
        (new.max, old.max),
        Less,
        (Kind::MaxLengthAdded, Kind::MaxLengthDecreased),
    );
    limit(
        &mut claims,
        "minLength",
        (new.min, old.min),
        Greater,
        (Kind::MinLengthAdded, Kind::MinLengthIncreased),
    );
    match (&new.pattern, &old.pattern) {
        (Some(_), None) => claims.push(fails(Kind::PatternAdded, "pattern", "a pattern was added")),
        (Some(new), Some(old)) if new != old => {
            claims.push(fails(Kind::PatternChanged, "pattern", "the pattern is another one"));
        }
        _ => {}
    }
    claims
}

fn numbers(new: &Number, old: &Number) -> Vec<Claim> {
    let mut claims = Vec::new();
    limit(&mut claims, "maximum", (new.max, old.max), Less, (Kind::MaximumAdded, Kind::MaximumDecreased));
    limit(&mut claims, "minimum", (new.min, old.min), Greater, (Kind::MinimumAdded, Kind::MinimumIncreased));
    let kinds = (Kind::ExclusiveMaximumAdded, Kind::ExclusiveMaximumDecreased);
    limit(&mut claims, "exclusiveMaximum", (new.below, old.below), Less, kinds);
    let kinds = (Kind::ExclusiveMinimumAdded, Kind::ExclusiveMinimumIncreased);
    limit(&mut claims, "exclusiveMinimum", (new.above, old.above), Greater, kinds);
    let multiple = match (&old.multiple_of, &new.multiple_of) {
        (None, Some(_)) => Some((Kind::MultipleOfAdded, "multipleOf was added")),
        (Some(old), Some(new)) => match divides(old, new) {
            Divides::Second => Some((Kind::MultipleOfExpanded, "fewer numbers are multiples")),
            Divides::Neither => Some((Kind::MultipleOfChanged, "other numbers are multiples")),
            Divides::Equal | Divides::First => None,
        },
        _ => None,
    };
    claims.extend(multiple.map(|(kind, detail)| fails(kind, "multipleOf", detail)));
    if new.integer && !old.integer {
        claims.push(fails(Kind::TypeNarrowed, "", "it is integer, and it was number"));
    }
    claims
}

fn enums(new: &[super::Value], old: &[super::Value]) -> Claim {
    let text = |values: &[super::Value]| -> HashSet<String> {
        let text = |value: &super::Value| {
            let mut out = String::new();
            value.sorted().write(&mut out);
            out
        };
        values.iter().map(text).collect()
    };
    let (new, old) = (text(new), text(old));
    if old.is_subset(&new) {
        return Claim::truth();
    }
    if new.is_subset(&old) {
        return fails(Kind::EnumNarrowed, "enum", "there are fewer values");
    }
    fails(Kind::EnumChanged, "enum", "there are other values")
}

/// What a schema takes beyond what it names.
enum Model {
    Open,
    Closed,
    Partial(Id),
}

/// Schemas that may be added or removed where others are allowed.
fn beyond(additional: More, unevaluated: Option<Id>, offset: usize, sides: &Sides<'_>) -> Model {
    match (additional, unevaluated) {
        (More::Schema(id), _) => Model::Partial(id + offset),
        (More::Closed, _) => Model::Closed,
        (More::Open, None) => Model::Open,
        (More::Open, Some(id)) => match &sides.written(id + offset).shape {
            shape if shape.is_any() => Model::Open,
            Shape::False => Model::Closed,
            _ => Model::Partial(id + offset),
        },
    }
}

/// `additionalProperties` and `additionalItems`.
fn additional(
    sides: &Sides<'_>,
    place: &str,
    (new, new_offset): (More, usize),
    (old, old_offset): (More, usize),
    (removed, narrowed): (Kind, Kind),
) -> Option<Claim> {
    match (new, old) {
        (More::Closed, More::Open | More::Schema(_)) => {
            Some(fails(removed, place, "others are not allowed any more"))
        }
        (More::Schema(_), More::Open) => Some(fails(narrowed, place, "others were allowed without a schema")),
        (More::Schema(new), More::Schema(old)) => Some(sides.at(place, new + new_offset, old + old_offset)),
        _ => None,
    }
}

/// `unevaluatedProperties` and `unevaluatedItems`.
fn unevaluated(
    sides: &Sides<'_>,
    place: &str,
    new: Option<Id>,
    old: Option<Id>,
    (removed, narrowed): (Kind, Kind),
) -> Option<Claim> {
    let shape = |id: Id| &sides.written(id).shape;
    let removed = || Some(fails(removed, place, "others are not allowed any more"));
    let narrowed = || Some(fails(narrowed, place, "others were allowed without a schema"));
    match (new, old) {
        (None, _) => None,
        (Some(new), None) if matches!(shape(new), Shape::False) => removed(),
        (Some(_), None) => narrowed(),
        (Some(new), Some(old)) => match (shape(new), shape(old)) {
            (Shape::False, Shape::False) => None,
            (_, Shape::False) => None,
            (Shape::False, _) => removed(),
            (new, old) if old.is_any() && !new.is_any() => narrowed(),
            (new, _) if new.is_any() => None,
            _ => Some(sides.at(place, new, old)),
        },
    }
}

struct Objects<'a> {
    sides: &'a Sides<'a>,
    new: &'a Object,
    old: &'a Object,
    offsets: (usize, usize),
}

impl Objects<'_> {
    fn claim(&self) -> Claim {
        let mut claims = Vec::new();
        self.properties(&mut claims);
        self.dependencies(&mut claims);
        let (new, old) = (self.new, self.old);
        let kinds = (Kind::AdditionalPropertiesRemoved, Kind::AdditionalPropertiesNarrowed);
        let sides = ((new.additional, self.offsets.0), (old.additional, self.offsets.1));
        claims.extend(additional(self.sides, "additionalProperties", sides.0, sides.1, kinds));
        let kinds = (Kind::UnevaluatedPropertiesRemoved, Kind::UnevaluatedPropertiesNarrowed);
        let ids =
            (new.unevaluated.map(|id| id + self.offsets.0), old.unevaluated.map(|id| id + self.offsets.1));
        claims.extend(unevaluated(self.sides, "unevaluatedProperties", ids.0, ids.1, kinds));
        let kinds = (Kind::MaxPropertiesAdded, Kind::MaxPropertiesDecreased);
        limit(&mut claims, "maxProperties", (new.max, old.max), Less, kinds);
        let kinds = (Kind::MinPropertiesAdded, Kind::MinPropertiesIncreased);
        limit(&mut claims, "minProperties", (new.min, old.min), Greater, kinds);
        Claim::All(claims)
    }

    fn properties(&self, claims: &mut Vec<Claim>) {
        let find = |object: &Object| -> std::collections::HashMap<String, Id> {
            object.properties.iter().cloned().collect()
        };
        let (new, old) = (find(self.new), find(self.old));
        let required = |object: &'_ Object| -> HashSet<String> { object.required.iter().cloned().collect() };
        let (new_required, old_required) = (required(self.new), required(self.old));
        let missing =
            new.len().abs_diff(old.len()) + new.keys().filter(|name| !old.contains_key(*name)).count() * 2;
        if missing.saturating_mul(self.new.patterns.len().max(self.old.patterns.len())) > MATCHES_MAX {
            let detail = format!("more than {MATCHES_MAX} patterns would be matched with properties");
            claims.push(fails(Kind::TooComplex, "patternProperties", detail));
            return;
        }
        for (name, id) in &self.old.properties {
            let place = format!("properties/{name}");
            let was = id + self.offsets.1;
            match new.get(name).map(|id| id + self.offsets.0) {
                Some(is) => {
                    if new_required.contains(name)
                        && !old_required.contains(name)
                        && !self.sides.written(is).default
                    {
                        let detail = format!("the property '{name}' is required, and it was not");
                        claims.push(fails(Kind::RequiredAttributeAdded, format!("required/{name}"), detail));
                    }
                    claims.push(self.sides.at(place, is, was));
                }
                None => match self.model(self.new, self.offsets.0, name) {
                    Model::Open => {}
                    Model::Partial(is) => {
                        let detail = format!(
                            "the property '{name}' was removed, and what is left for others does not take it"
                        );
                        let finding = Finding::new(Kind::RemovedPropertyNotCovered, place, detail);
                        claims.push(Claim::As(Box::new(self.sides.at("", is, was)), finding));
                    }
                    Model::Closed if matches!(self.sides.written(was).shape, Shape::False) => {}
                    Model::Closed => {
                        let detail = format!("the property '{name}' was removed, and others are not allowed");
                        claims.push(fails(Kind::PropertyRemovedFromClosed, place, detail));
                    }
                },
            }
        }
        for (name, id) in self.new.properties.iter().filter(|(name, _)| !old.contains_key(name)) {
            let place = format!("properties/{name}");
            let is = id + self.offsets.0;
            let (needed, default) = (new_required.contains(name), self.sides.written(is).default);
            match self.model(self.old, self.offsets.1, name) {
                Model::Open if self.sides.written(is).shape.is_any() => {}
                Model::Open => {
                    let (kind, word) = match (needed, default) {
                        (true, true) => (Kind::RequiredPropertyWithDefaultAddedToOpen, "required"),
                        (true, false) => (Kind::RequiredPropertyAddedToOpen, "required"),
                        (false, _) => (Kind::OptionalPropertyAddedToOpen, "optional"),
                    };
                    let detail = format!(
                        "the {word} property '{name}' was added, and any value was allowed for it before"
                    );
                    claims.push(fails(kind, place, detail));
                    continue;
                }
                Model::Partial(was) => {
                    let detail = format!(
                        "the property '{name}' was added, and does not take what was allowed for it before"
                    );
                    let finding = Finding::new(Kind::AddedPropertyNotCovered, place.clone(), detail);
                    claims.push(Claim::As(Box::new(self.sides.at("", is, was)), finding));
                    self.needed(needed && !default, name, place, claims);
                }
                Model::Closed => self.needed(needed && !default, name, place, claims),
            }
        }
    }

    fn needed(&self, needed: bool, name: &str, place: String, claims: &mut Vec<Claim>) {
        if needed {
            let detail = format!("the required property '{name}' was added without a default");
            claims.push(fails(Kind::RequiredPropertyAddedToUnopen, place, detail));
        }
    }

    /// What an object takes under a name that is none of its properties.
    fn model(&self, object: &Object, offset: usize, name: &str) -> Model {
        for (pattern, id) in &object.patterns {
            // Patterns that our engine does not know, such as those that look ahead, match nothing.
            let regex = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
            if regex.is_ok_and(|regex| regex.is_match(name)) {
                return Model::Partial(id + offset);
            }
        }
        match beyond(object.additional, object.unevaluated, offset, self.sides) {
            // Names that match a pattern are not open.
            Model::Open if !object.patterns.is_empty() => Model::Closed,
            model => model,
        }
    }

    fn dependencies(&self, claims: &mut Vec<Claim>) {
        for (name, list) in &self.new.needs {
            let place = format!("dependencies/{name}");
            let new: HashSet<&String> = list.iter().collect();
            let Some((_, old)) = self.old.needs.iter().find(|(known, _)| known == name) else {
                claims.push(fails(
                    Kind::DependencyArrayAdded,
                    place,
                    format!("'{name}' needs other properties"),
                ));
                continue;
            };
            let old: HashSet<&String> = old.iter().collect();
            if new.is_subset(&old) {
                continue;
            }
            let kind = if old.is_subset(&new) {
                Kind::DependencyArrayExtended
            } else {
                Kind::DependencyArrayChanged
            };
            claims.push(fails(kind, place, format!("'{name}' needs more properties")));
        }
        for (name, new) in &self.new.dependent {
            let place = format!("dependencies/{name}");
            match self.old.dependent.iter().find(|(known, _)| known == name) {
                Some((_, old)) => {
                    claims.push(self.sides.at(place, new + self.offsets.0, old + self.offsets.1));
                }
                None => {
                    claims.push(fails(
                        Kind::DependencySchemaAdded,
                        place,
                        format!("'{name}' needs a schema"),
                    ));
                }
            }
        }
    }
}

/// Properties times patterns of two objects that are matched. Each match compiles the pattern.
const MATCHES_MAX: usize = 2_000;

/// Memory that a compiled pattern may have.
const PATTERN_BYTES_MAX: usize = 1 << 18;

struct Arrays<'a> {
    sides: &'a Sides<'a>,
    new: &'a Array,
    old: &'a Array,
    offsets: (usize, usize),
}

impl Arrays<'_> {
    fn claim(&self) -> Claim {
        let (new, old, mut claims) = (self.new, self.old, Vec::new());
        match (new.all, old.all) {
            (Some(new), Some(old)) => {
                claims.push(self.sides.at("items", new + self.offsets.0, old + self.offsets.1));
            }
            (Some(_), None) => {
                claims.push(fails(Kind::SchemaAdded, "items", "items have a schema, and they had none"));
            }
            (None, _) => {}
        }
        self.items(&mut claims);
        let kinds = (Kind::AdditionalItemsRemoved, Kind::AdditionalItemsNarrowed);
        let sides = ((new.additional, self.offsets.0), (old.additional, self.offsets.1));
        claims.extend(additional(self.sides, "additionalItems", sides.0, sides.1, kinds));
        let kinds = (Kind::UnevaluatedItemsRemoved, Kind::UnevaluatedItemsNarrowed);
        let ids =
            (new.unevaluated.map(|id| id + self.offsets.0), old.unevaluated.map(|id| id + self.offsets.1));
        claims.extend(unevaluated(self.sides, "unevaluatedItems", ids.0, ids.1, kinds));
        limit(
            &mut claims,
            "maxItems",
            (new.max, old.max),
            Less,
            (Kind::MaxItemsAdded, Kind::MaxItemsDecreased),
        );
        limit(
            &mut claims,
            "minItems",
            (new.min, old.min),
            Greater,
            (Kind::MinItemsAdded, Kind::MinItemsIncreased),
        );
        if new.unique && !old.unique {
            claims.push(fails(Kind::UniqueItemsAdded, "uniqueItems", "items have to be different"));
        }
        let kinds = (Kind::MaxContainsAdded, Kind::MaxContainsDecreased);
        limit(&mut claims, "maxContains", (new.max_contains, old.max_contains), Less, kinds);
        let kinds = (Kind::MinContainsAdded, Kind::MinContainsIncreased);
        limit(&mut claims, "minContains", (new.min_contains, old.min_contains), Greater, kinds);
        Claim::All(claims)
    }

    fn items(&self, claims: &mut Vec<Claim>) {
        let both = self.new.items.len().min(self.old.items.len());
        let new: Vec<Id> = self.new.items.iter().map(|id| id + self.offsets.0).collect();
        let old: Vec<Id> = self.old.items.iter().map(|id| id + self.offsets.1).collect();
        for index in 0..both {
            claims.push(self.sides.at(format!("items/{index}"), new[index], old[index]));
        }
        for (index, was) in old.iter().enumerate().skip(both) {
            let place = format!("items/{index}");
            match beyond(self.new.additional, self.new.unevaluated, self.offsets.0, self.sides) {
                Model::Open => {}
                Model::Partial(is) => {
                    let finding = Finding::new(
                        Kind::RemovedItemNotCovered,
                        place,
                        "what is left for others does not take it",
                    );
                    claims.push(Claim::As(Box::new(self.sides.at("", is, *was)), finding));
                }
                Model::Closed if matches!(self.sides.written(*was).shape, Shape::False) => {}
                Model::Closed => {
                    claims.push(fails(
                        Kind::ItemRemovedFromClosed,
                        place,
                        "it was removed, and others are not allowed",
                    ));
                }
            }
        }
        for (index, is) in new.iter().enumerate().skip(both) {
            let place = format!("items/{index}");
            match beyond(self.old.additional, self.old.unevaluated, self.offsets.1, self.sides) {
                Model::Open if self.sides.written(*is).shape.is_any() => {}
                Model::Open => {
                    claims.push(fails(
                        Kind::ItemAddedToOpen,
                        place,
                        "it was added, and any value was allowed before",
                    ));
                }
                Model::Partial(was) => {
                    let finding = Finding::new(
                        Kind::AddedItemNotCovered,
                        place,
                        "it does not take what was allowed before",
                    );
                    claims.push(Claim::As(Box::new(self.sides.at("", *is, was)), finding));
                }
                Model::Closed => {}
            }
        }
    }
}
