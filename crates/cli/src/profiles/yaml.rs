//! The part of YAML that configuration files have: maps, lists and scalars. Anchors are refused, so that a small file cannot
//! stand for a large one, and depth and number of nodes are limited.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// A node.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Yaml {
    Scalar(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

const DEPTH_MAX: usize = 32;
const NODES_MAX: usize = 20_000;

/// A list or a map that is not at its end.
enum Open {
    List(Vec<Yaml>),
    /// The key whose value comes next, if it was there.
    Map(Vec<(String, Yaml)>, Option<String>),
}

/// Reads the first document. Errors name the line and have no value.
pub(super) fn parse(text: &str) -> Result<Yaml, String> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut nodes = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) =
            event.map_err(|error| format!("line {}: {}", error.marker().line(), error.info()))?;
        let line = span.start.line();
        let done = match event {
            Event::Alias(_) => return Err(format!("line {line}: aliases are not supported")),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                None
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None));
                None
            }
            Event::Scalar(text, style, ..) => Some(scalar(&text, style)),
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Some(Yaml::List(list)),
                Some(Open::Map(map, _)) => Some(Yaml::Map(map)),
                None => None,
            },
            Event::DocumentEnd | Event::StreamEnd => return Err("it is empty".into()),
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => None,
        };
        nodes += 1;
        if open.len() > DEPTH_MAX || nodes > NODES_MAX {
            return Err(format!(
                "line {line}: it has more than {NODES_MAX} values, or more than {DEPTH_MAX} levels"
            ));
        }
        let Some(done) = done else { continue };
        match open.last_mut() {
            None => return Ok(done),
            Some(Open::List(list)) => list.push(done),
            Some(Open::Map(map, key)) => match (key.take(), done) {
                (Some(key), value) => map.push((key, value)),
                (None, Yaml::Scalar(name)) => *key = Some(name),
                (None, _) => return Err(format!("line {line}: a key is not a text")),
            },
        }
    }
    Err("it is empty".into())
}

/// A scalar as a text. What means no value is empty.
fn scalar(text: &str, style: ScalarStyle) -> Yaml {
    let is_none = style == ScalarStyle::Plain && matches!(text, "~" | "null" | "Null" | "NULL");
    Yaml::Scalar(if is_none { String::new() } else { text.to_owned() })
}

impl Yaml {
    /// The value of a key, if this is a map that has it; of the last one if it is there twice.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().rfind(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The keys and values, if this is a map.
    pub(super) fn entries(&self) -> &[(String, Self)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The nodes, if this is a list.
    pub(super) fn nodes(&self) -> &[Self] {
        match self {
            Self::List(nodes) => nodes,
            _ => &[],
        }
    }

    /// The text of a key, if it has one that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Self::Scalar(text)) => Some(text.as_str()).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// Whether the value of a key is true.
    pub(super) fn is_true(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// The texts of a list, joined by commas.
    pub(super) fn joined(&self, key: &str) -> Option<String> {
        let nodes = self.get(key)?.nodes();
        let text = |node: &Self| match node {
            Self::Scalar(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        let texts: Vec<_> = nodes.iter().filter_map(text).collect();
        (!texts.is_empty()).then(|| texts.join(","))
    }
}
