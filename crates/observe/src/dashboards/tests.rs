use std::collections::BTreeSet;

use milena::metrics::FAMILIES;
use serde_json::Value;

use super::*;

#[test]
fn every_family_of_the_client_is_on_a_board() {
    let boards = boards();
    let shown: Vec<&str> = boards.iter().flat_map(Board::queries).map(|query| query.expr.as_str()).collect();
    for family in FAMILIES {
        assert!(shown.iter().any(|expr| expr.contains(family.name)), "nothing shows {}", family.name);
    }
}

#[test]
fn panels_have_their_own_numbers_and_places() {
    for board in boards() {
        let json = board.to_grafana();
        let panels = json["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels.len());
        let mut taken = BTreeSet::new();
        for panel in panels {
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{panel}");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "two panels are at {x}, {y} of {}", board.uid);
                }
            }
        }
    }
}

#[test]
fn the_choices_on_top_of_a_board_are_those_of_its_series() {
    let json = boards()[1].to_grafana();
    let queries: Vec<_> =
        json["templating"]["list"].as_array().unwrap().iter().map(|of| &of["query"]).collect();
    assert_eq!(queries[0], "prometheus");
    assert_eq!(queries[1]["query"], "label_values(milena_producer_records_total, job)");
    assert_eq!(
        queries[2]["query"],
        Value::from(r#"label_values(milena_producer_records_total{job=~"$job"}, instance)"#)
    );
}

#[test]
fn every_rule_has_a_part_of_the_manual() {
    let manual = include_str!("../../../../docs/alerts.md");
    let parts: BTreeSet<&str> = manual.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let rules: BTreeSet<&str> = rules().iter().map(|rule| rule.alert).collect();
    assert_eq!(rules.difference(&parts).collect::<Vec<_>>(), [&""; 0]);
}
