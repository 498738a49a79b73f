//! docs/metrics.md has the table of all families, as the registry has it. `UPDATE_METRICS=1 cargo test -p milena --test
//! metrics_doc` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use milena::metrics::{FAMILIES, Joined, Kind};

const BEGIN: &str = "<!-- families: begin -->\n";
const END: &str = "<!-- families: end -->\n";

fn table() -> String {
    let mut text = String::from("| family | kind | labels | what it says | Java |\n|---|---|---|---|---|\n");
    for family in FAMILIES {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let several = match (family.kind, family.joined) {
            (Kind::Gauge, Joined::Least) => " Of several the least.",
            (Kind::Gauge, Joined::Most) => " Of several the most.",
            _ => "",
        };
        let java = if family.java.is_empty() { "–" } else { family.java };
        let (name, kind, help) = (family.name, family.kind.name(), family.help);
        let _ = writeln!(text, "| `{name}` | {kind} | {} | {help}{several} | {java} |", labels.join(", "));
    }
    text
}

#[test]
fn the_table_in_the_docs_is_that_of_the_registry() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let text = std::fs::read_to_string(&path).expect("docs/metrics.md");
    let (before, rest) = text.split_once(BEGIN).expect("where the table begins");
    let (held, after) = rest.split_once(END).expect("where the table ends");
    if std::env::var_os("UPDATE_METRICS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).expect("written");
        return;
    }
    assert_eq!(held, table(), "docs/metrics.md is not as the registry is: UPDATE_METRICS=1 writes it anew");
}
