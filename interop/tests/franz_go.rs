//! franz-go's own tests, which the module that Go downloads contains, run against the embedded broker.

use std::process::Command;
use std::time::Duration;

use milena_interop::embedded::Embedded;
use milena_interop::partner::Partner;
use xtask::kafka::process;

/// The tests that are not run: share groups are not there, and the embedded broker has no internal topic
/// `__consumer_offsets`, for which the tests of regular expressions look.
const SKIPPED: &str = "^(TestShareGroup.*|TestConsumeRegex|Test848RegexBrokerResolves)$";

/// A chain of three groups reads and writes this many records in each of its steps; franz-go's default is 500 000.
const RECORDS: &str = "10000";

/// Runs franz-go's tests and returns what they printed, one line per test.
fn run(bootstrap: &str, environment: &[(&str, &str)], tests: &[&str]) -> String {
    let mut go = Command::new("go");
    go.current_dir(xtask::root().join("interop/go"));
    go.args(["test", "-count=1", "-v", "-timeout=400s", "github.com/twmb/franz-go/pkg/kgo"]).args(tests);
    go.env("KGO_SEEDS", bootstrap).env("KGO_TEST_RECORDS", RECORDS).env("KGO_LOG_LEVEL", "none");
    go.envs(environment.iter().copied());
    let output = process::run(go, None, Duration::from_secs(500)).unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let failures: Vec<&str> =
        out.lines().filter(|line| line.contains("--- FAIL") || line.contains("sendErr")).collect();
    assert!(output.status.success(), "{}: {failures:#?}\n{out}{err}", output.status);
    out.into_owned()
}

/// The tests of members that join and leave while they read and write, which check that no record is read twice, that none
/// is missing, and that each partition's records come in order.
fn assert_groups_ran(said: &str) {
    let tests = [
        "range",
        "cooperative-sticky",
        "cooperative-sticky/static",
        "range/848",
        "sticky/848",
        "sticky/848/static",
    ];
    for test in tests {
        assert!(
            said.contains(&format!("--- PASS: TestGroupETL/{test} ")),
            "no TestGroupETL/{test} in {said}"
        );
    }
}

#[test]
fn the_embedded_broker_passes_franz_go_s_own_tests() {
    if !Partner::FranzGo.is_here() {
        return;
    }
    let broker = Embedded::start(3);
    let said = run(broker.bootstrap(), &[], &["-skip", SKIPPED]);
    assert_groups_ran(&said);
    for test in ["TestGroupSimple/classic", "TestGroupSimple/848", "TestTxnEtl"] {
        assert!(said.contains(&format!("--- PASS: {test} ")), "no {test} in {said}");
    }
}

/// Each of the test's connections ends after half a second to one and a half.
#[test]
fn the_embedded_broker_passes_franz_go_s_group_tests_while_connections_end() {
    if !Partner::FranzGo.is_here() {
        return;
    }
    let broker = Embedded::start(3);
    let said = run(broker.bootstrap(), &[("KGO_TEST_CHAOS", "1")], &["-run", "^TestGroupETL$"]);
    assert_groups_ran(&said);
}
