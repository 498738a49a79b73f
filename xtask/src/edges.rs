//! `cargo xtask edges`: the dependencies between Milena's crates are the drawn ones, and the crates that do no I/O cannot
//! reach a runtime or a socket through anything they depend on. The table below is the drawing of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Package, and the packages of ours it may depend on. Not drawn is not allowed.
const DRAWN: &[(&str, &[&str])] = &[
    ("milena-wire", &[]),
    ("milena-messages", &["milena-wire"]),
    ("milena-core", &["milena-messages", "milena-wire"]),
    ("milena", &["milena-core", "milena-messages", "milena-wire"]),
    // A test partner must not share the client's bugs.
    ("milena-broker", &["milena-messages", "milena-wire"]),
    ("milena-pipeline", &["milena"]),
    ("milena-registry", &["milena"]),
    ("milena-observe", &["milena"]),
    ("milena-otel", &["milena"]),
    ("milena-mirror", &["milena"]),
    (
        "milena-cli",
        &[
            "milena",
            "milena-broker",
            "milena-pipeline",
            "milena-registry",
            "milena-observe",
            "milena-mirror",
            // `milena tune` measures the batches and codecs that the client has.
            "milena-wire",
        ],
    ),
    ("milena-sim", &["milena", "milena-core", "milena-broker", "milena-messages", "milena-wire"]),
    // Must compile when generated code does not.
    ("xtask", &[]),
    (
        "milena-interop",
        &[
            "milena",
            "milena-broker",
            "milena-messages",
            "milena-observe",
            "milena-pipeline",
            "milena-registry",
            "milena-wire",
            "xtask",
        ],
    ),
];

/// Tests may use the embedded broker too, but for the crates it is made of.
const DRAWN_IN_TESTS: &[(&str, &[&str])] = &[
    ("milena", &["milena-broker"]),
    ("milena-pipeline", &["milena-broker"]),
    ("milena-registry", &["milena-broker"]),
    ("milena-observe", &["milena-broker"]),
    // A pipeline's trace goes from one end to the other.
    ("milena-otel", &["milena-broker", "milena-pipeline"]),
    ("milena-mirror", &["milena-broker"]),
];

/// Crates that do no I/O of their own, and what they must not reach, however indirectly.
const CLOSED: &[&str] = &["milena-wire", "milena-messages", "milena-core"];
const OUTSIDE: &[&str] = &["tokio", "mio", "socket2", "async-io", "smol", "getrandom", "rustls"];

/// Checks the workspace.
///
/// # Errors
/// An edge that is not drawn, by name.
pub fn run(mut args: lexopt::Parser) -> anyhow::Result<()> {
    if let Some(arg) = args.next()? {
        return Err(arg.unexpected().into());
    }
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--all-features"])
        .current_dir(crate::root())
        .output()
        .context("running cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let graph = Graph::read(&serde_json::from_slice(&output.stdout)?)?;
    let wrong = graph.wrong();
    ensure!(wrong.is_empty(), "dependencies that are not drawn:\n  {}", wrong.join("\n  "));
    println!("{} packages, all dependencies as drawn", graph.members.len());
    Ok(())
}

/// Who depends on whom, by names.
#[derive(Debug, Default)]
struct Graph {
    members: BTreeSet<String>,
    /// Edges of what runs.
    normal: BTreeMap<String, BTreeSet<String>>,
    /// Edges of build scripts.
    build: BTreeMap<String, BTreeSet<String>>,
    /// Edges of tests alone.
    dev: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read(metadata: &Value) -> anyhow::Result<Self> {
        let mut names = BTreeMap::new();
        for package in array(metadata, "packages")? {
            names.insert(text(package, "id")?, text(package, "name")?);
        }
        let name = |id: &str| names.get(id).copied().with_context(|| format!("no package has id {id}"));
        let mut graph = Self::default();
        for member in array(metadata, "workspace_members")? {
            graph.members.insert(name(member.as_str().unwrap_or_default())?.to_owned());
        }
        for node in array(&metadata["resolve"], "nodes")? {
            let from = name(text(node, "id")?)?;
            for dep in array(node, "deps")? {
                let to = name(text(dep, "pkg")?)?;
                for kind in array(dep, "dep_kinds")? {
                    let edges = match kind["kind"].as_str() {
                        Some("dev") => &mut graph.dev,
                        Some("build") => &mut graph.build,
                        _ => &mut graph.normal,
                    };
                    edges.entry(from.to_owned()).or_default().insert(to.to_owned());
                }
            }
        }
        Ok(graph)
    }

    /// Every edge that is not drawn, in words.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for member in &self.members {
            let Some(drawn) = row(DRAWN, member) else {
                wrong.push(format!("{member} itself is not drawn: give it a row in xtask/src/edges.rs"));
                continue;
            };
            let in_tests = row(DRAWN_IN_TESTS, member).unwrap_or_default();
            let ours = |edges: &BTreeMap<String, BTreeSet<String>>| -> Vec<String> {
                edges
                    .get(member)
                    .into_iter()
                    .flatten()
                    .filter(|to| self.members.contains(*to))
                    .cloned()
                    .collect()
            };
            for to in ours(&self.normal).into_iter().chain(ours(&self.build)) {
                if !drawn.contains(&to.as_str()) {
                    wrong.push(format!("{member} -> {to}"));
                }
            }
            for to in ours(&self.dev) {
                if !drawn.contains(&to.as_str()) && !in_tests.contains(&to.as_str()) {
                    wrong.push(format!("{member} -> {to} (in its tests)"));
                }
            }
        }
        for closed in CLOSED {
            for outside in OUTSIDE {
                if let Some(path) = self.path(closed, outside) {
                    wrong.push(format!("{} (does no I/O and must not reach it)", path.join(" -> ")));
                }
            }
        }
        wrong
    }

    /// A way from one package to another along the edges of what runs.
    fn path<'a>(&'a self, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
        let mut seen = BTreeSet::from([from]);
        let mut open = vec![vec![from]];
        while let Some(path) = open.pop() {
            let at = *path.last()?;
            if at == to {
                return Some(path);
            }
            for next in self.normal.get(at).into_iter().flatten() {
                if seen.insert(next) {
                    open.push(path.iter().copied().chain([next.as_str()]).collect());
                }
            }
        }
        None
    }
}

fn row(table: &[(&str, &'static [&'static str])], name: &str) -> Option<&'static [&'static str]> {
    table.iter().find(|(package, _)| *package == name).map(|(_, to)| *to)
}

fn array<'a>(value: &'a Value, field: &str) -> anyhow::Result<&'a Vec<Value>> {
    value[field].as_array().with_context(|| format!("cargo metadata has no array {field}"))
}

fn text<'a>(value: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    let Some(text) = value[field].as_str() else { bail!("cargo metadata has no text {field}") };
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a>b` is an edge of what runs, `a~b` one of tests.
    fn wrong(edges: &[&str]) -> Vec<String> {
        let mut graph = Graph::default();
        for edge in edges {
            let dev = edge.contains('~');
            let (from, to) = edge.split_once(['>', '~']).unwrap();
            for name in [from, to] {
                if name.starts_with("milena") || name == "xtask" {
                    graph.members.insert(name.into());
                }
            }
            let edges = if dev { &mut graph.dev } else { &mut graph.normal };
            edges.entry(from.into()).or_default().insert(to.into());
        }
        graph.wrong()
    }

    #[test]
    fn drawn_edges_pass() {
        let none: Vec<String> = Vec::new();
        assert_eq!(
            wrong(&["milena>milena-core", "milena-core>milena-messages", "milena-messages>milena-wire"]),
            none
        );
        assert_eq!(wrong(&["milena-broker>milena-wire", "milena~milena-broker", "milena>tokio"]), none);
        assert_eq!(wrong(&["milena-core~tokio", "milena-wire>bytes"]), none);
        assert_eq!(wrong(&["milena-sim>milena", "milena-sim>milena-broker", "milena-sim>milena-core"]), none);
    }

    #[test]
    fn an_edge_that_is_not_drawn_is_named() {
        assert_eq!(wrong(&["milena-broker>milena-core"]), ["milena-broker -> milena-core"]);
        assert_eq!(wrong(&["milena-broker~milena"]), ["milena-broker -> milena (in its tests)"]);
        assert_eq!(wrong(&["milena>milena-broker"]), ["milena -> milena-broker"]);
        assert_eq!(wrong(&["milena~milena-sim"]), ["milena -> milena-sim (in its tests)"]);
        assert_eq!(wrong(&["milena-cli>milena-core"]), ["milena-cli -> milena-core"]);
        assert_eq!(wrong(&["milena-wire>milena-messages"]), ["milena-wire -> milena-messages"]);
        assert!(wrong(&["milena-util>milena-wire"])[0].contains("milena-util itself is not drawn"));
    }

    #[test]
    fn a_runtime_behind_another_crate_is_found() {
        let found = wrong(&["milena-core>helper", "helper>mio", "milena>tokio"]);
        assert_eq!(found, ["milena-core -> helper -> mio (does no I/O and must not reach it)"]);
    }
}
