//! Dashboards as Grafana's JSON.

use serde_json::{Value, json};

use super::board::{Board, Look, Panel, Shown};

/// The version of Grafana's dashboard schema that is written: that of Grafana 11. Later ones read it.
const SCHEMA_VERSION: u32 = 39;
/// Grafana's grid.
const GRID_WIDTH: usize = 24;
const ROW_HEIGHT: usize = 1;
const NUMBER_HEIGHT: usize = 4;
const CHART_HEIGHT: usize = 8;

impl Board {
    /// The board as Grafana imports it: with a choice of the data source, the job and the instance on top.
    pub fn to_grafana(&self) -> Value {
        let mut panels = Vec::new();
        let (mut id, mut top) = (0, 0);
        let mut next_id = || {
            id += 1;
            id
        };
        for row in &self.rows {
            let at = json!({"x": 0, "y": top, "w": GRID_WIDTH, "h": ROW_HEIGHT});
            panels.push(json!({
                "id": next_id(), "type": "row", "title": row.title, "collapsed": false, "gridPos": at, "panels": [],
            }));
            top += ROW_HEIGHT;
            let width = GRID_WIDTH / row.panels.len().max(1);
            let height = row.panels.iter().map(height).max().unwrap_or_default();
            for (index, panel) in row.panels.iter().enumerate() {
                let at = json!({"x": index * width, "y": top, "w": width, "h": height});
                panels.push(panel.to_grafana(next_id(), &at));
            }
            top += height;
        }
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["kafka", "milena"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "templating": {"list": variables(self)},
            "annotations": {"list": []},
            "links": [],
            "panels": panels,
        })
    }

    /// The file that holds it.
    pub fn file_name(&self) -> String {
        format!("{}.json", self.uid)
    }
}

/// What is chosen on top of a board. The values are those of its first family.
fn variables(board: &Board) -> Value {
    let first = board.queries().next().map_or("up", |query| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names = query.expr.split(|c: char| !is_name(c));
        names.into_iter().find(|name| name.starts_with("milena_")).unwrap_or("up")
    });
    let of = |name: &str, label: &str, query: String| {
        json!({
            "name": name, "label": label, "type": "query", "hide": 0, "refresh": 2, "sort": 1, "includeAll": true,
            "multi": true, "allValue": ".*", "skipUrlSync": false, "datasource": source(),
            "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
            "query": {"query": query, "refId": name}, "definition": query, "options": [], "regex": "",
        })
    };
    json!([
        {
            "name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0,
            "refresh": 1, "includeAll": false, "multi": false, "skipUrlSync": false, "options": [], "regex": "",
            "current": {"selected": true, "text": "default", "value": "default"},
        },
        of("job", "Job", format!("label_values({first}, job)")),
        of("instance", "Instance", format!("label_values({first}{{job=~\"$job\"}}, instance)")),
    ])
}

fn source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn height(panel: &Panel) -> usize {
    if panel.look == Look::Number { NUMBER_HEIGHT } else { CHART_HEIGHT }
}

impl Panel {
    fn to_grafana(&self, id: u32, at: &Value) -> Value {
        let targets = self.queries.iter().zip('A'..).map(|(query, letter)| {
            json!({
                "refId": letter.to_string(), "datasource": source(), "expr": query.expr, "range": true,
                "legendFormat": if query.legend.is_empty() { "__auto" } else { &query.legend },
            })
        });
        let (kind, custom, options) = match self.look {
            Look::Number => (
                "stat",
                json!({}),
                json!({
                    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                    "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto",
                    "orientation": "auto", "wideLayout": true, "showPercentChange": false,
                    "percentChangeColorMode": "standard",
                }),
            ),
            Look::Lines | Look::Stacked => (
                "timeseries",
                json!({
                    "drawStyle": "line", "lineWidth": 1, "showPoints": "never", "spanNulls": true,
                    "fillOpacity": if self.look == Look::Stacked { 40 } else { 5 },
                    "stacking": {"group": "A", "mode": if self.look == Look::Stacked { "normal" } else { "none" }},
                }),
                json!({
                    "legend": {
                        "calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": true,
                    },
                    "tooltip": {"mode": "multi", "sort": "desc"},
                }),
            ),
        };
        json!({
            "id": id, "type": kind, "title": self.title, "description": self.help, "gridPos": at,
            "datasource": source(), "targets": targets.collect::<Vec<_>>(), "options": options,
            "fieldConfig": {
                "defaults": {"unit": self.unit.grafana(), "min": 0, "custom": custom, "mappings": []},
                "overrides": [],
            },
        })
    }
}

impl Shown {
    /// Grafana's name of the unit.
    fn grafana(self) -> &'static str {
        match self {
            Self::Count => "short",
            Self::PerSecond => "cps",
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "binBps",
            Self::Seconds => "s",
            Self::Share => "percentunit",
            Self::Factor => "none",
        }
    }
}
