//! Programs that ship with Milena, run as a reader would run them.

use std::process::Command;
use std::time::Duration;

use milena_interop::embedded::Embedded;
use milena_interop::raw::Raw;
use milena_interop::real;
use xtask::kafka::process;

/// Runs `cargo run --quiet` with `args` and returns what the program printed.
fn cargo_run(args: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(xtask::root()).args(["run", "--quiet"]).args(args);
    let output = process::run(cargo, None, Duration::from_secs(600)).unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

#[test]
fn the_examples_run_as_they_stand() {
    let broker = Embedded::start(1);
    let bootstrap = broker.bootstrap();
    Raw::connect(bootstrap).unwrap().create_topic("orders", 3).unwrap();

    let produced = cargo_run(&["-p", "milena", "--example", "produce", "--", bootstrap, "orders"]);
    assert_eq!(produced.lines().filter(|line| line.contains("offset Some(")).count(), 10, "{produced}");

    let consumed = cargo_run(&["-p", "milena", "--example", "consume", "--", bootstrap, "orders"]);
    assert_eq!(consumed.lines().count(), 10, "{consumed}");
    for id in 0..10 {
        assert!(consumed.contains(&format!("Some(\"{id}\") = Some(\"order {id}\")")), "{id}: {consumed}");
    }
}

/// The demo verifies itself and fails otherwise; here its report must say how much it verified.
fn demo(bootstrap: &[&str]) {
    let mut args = vec!["-p", "milena-cli", "--", "demo", "--records", "20000", "--json"];
    args.extend(bootstrap);
    let report = cargo_run(&args);
    for field in ["\"acknowledged_count\":20000", "\"delivered_count\":20000", "\"verified\":true"] {
        assert!(report.replace(' ', "").contains(field), "no {field} in {report}");
    }
}

#[test]
fn the_demo_passes_on_the_embedded_cluster() {
    demo(&[]);
}

#[test]
fn the_demo_passes_on_real_kafka() {
    let Some(kafka) = real::kafka() else { return };
    demo(&["--bootstrap", &kafka.bootstrap()]);
}

#[test]
fn the_demo_passes_on_three_brokers_of_real_kafka() {
    let Some(kafka) = real::three() else { return };
    demo(&["--bootstrap", &kafka.bootstrap()]);
}

#[test]
fn the_demo_passes_on_kafka_3_9() {
    let Some(kafka) = real::old() else { return };
    demo(&["--bootstrap", &kafka.bootstrap()]);
}
