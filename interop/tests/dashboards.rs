//! Grafana's own library reads the dashboards: no field is missing, unknown or of another type.

use std::fs;
use std::process::Command;

use milena_interop::partner::are_here;

use crate::programs::{milena, succeed};

#[test]
fn grafana_reads_the_dashboards() {
    if !are_here(&["go"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let told = milena(&["dashboards", directory.path().to_str().unwrap()]);
    let boards: Vec<&str> = told.lines().filter(|path| path.ends_with(".json")).collect();
    assert!(boards.len() >= 4, "{told}");
    let grafana = |paths: &[&str]| {
        let mut go = Command::new("go");
        go.current_dir(xtask::root().join("interop/go")).args(["run", "./grafana"]).args(paths);
        succeed(go)
    };
    grafana(&boards);
    // It finds what is wrong.
    let wrong = directory.path().join("wrong.json");
    let text = fs::read_to_string(boards[0]).unwrap().replacen("\"gridPos\"", "\"gridPlace\"", 1);
    fs::write(&wrong, text).unwrap();
    let refused = std::panic::catch_unwind(|| grafana(&[wrong.to_str().unwrap()]));
    assert!(refused.is_err());
}
