//! `FOR SYSTEM_TIME AS OF` a processing time: what is looked up, by what, and what is refused.

use super::*;
use millstream_dataflow::graph::LookupJoin;

/// `rates` is read whole, `people` is asked by key.
const TABLES: &str = "
CREATE TABLE rates (k BIGINT, rate DOUBLE, active BOOLEAN, twice AS rate * 2, ts TIMESTAMP(3), at AS PROCTIME()) WITH ('connector' = 'x');
CREATE TABLE people (id BIGINT, name STRING, mail STRING, small INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'asked');
";

fn with(sql: &str) -> String {
    format!("{TABLES}{sql}")
}

fn lookup(planned: &Planned) -> &LookupJoin {
    match &node(planned, "LookupJoin").kind {
        NodeKind::LookupJoin(j) => j,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn looks_up(sql: &str, label: &str, columns: &str) {
    let planned = plan(&with(sql));
    well_formed(&planned.dataflow);
    let text = explain::text(&planned.dataflow);
    let wanted = [format!("LookupJoin({label})"), format!("looks up {columns}\n")];
    wanted.iter().for_each(|w| assert!(text.contains(w), "`{w}` is not in\n{text}"));
    assert!(!text.contains("Source(rates)"), "{text}");
    let place = text.lines().position(|l| l.contains("LookupJoin")).expect("it is there");
    assert!(text.lines().skip(place).any(|l| l.contains("Source(bid)")), "{text}");
    assert!(!text.contains("$order"), "{text}");
}

#[test]
fn a_table_is_looked_up_by_the_processing_time_of_the_left() {
    looks_up(
        "SELECT b.auction, r.twice FROM bid AS b JOIN rates FOR SYSTEM_TIME AS OF b.at AS r ON b.auction = r.k",
        "inner rates on auction = k",
        "k, rate",
    );
    // A key that is computed; conditions on both sides, and on the table alone.
    let planned = plan(&with(
        "SELECT b.auction, r.rate FROM (SELECT *, PROCTIME() AS p FROM bid) AS b LEFT JOIN rates FOR SYSTEM_TIME AS OF b.p AS r \
         ON MOD(b.auction, 100) = r.k AND r.active = TRUE AND b.price > r.rate WHERE b.qty > 3",
    ));
    well_formed(&planned.dataflow);
    let join = lookup(&planned);
    assert!(join.outer && join.keys.len() == 1 && join.residual.is_some());
    assert_eq!(join.stored_keys(), [Some(0)]);
    let text = explain::text(&planned.dataflow);
    assert!(text.contains("looks up k, rate, active\n") && text.contains("$proctime"), "{text}");
}

/// Rows come out as they came in: windows over their time go on behind a look-up.
#[test]
fn the_left_keeps_its_time_and_the_table_has_none() {
    let query = "SELECT r.rate, count(*) FROM TUMBLE(DATA => TABLE v, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE) AS r \
                 GROUP BY r.rate, window_start, window_end";
    let view = "CREATE VIEW v AS SELECT b.ts, r.rate FROM bid AS b JOIN rates FOR SYSTEM_TIME AS OF b.at AS r ON b.auction = r.k;";
    let planned = plan(&with(&format!("{view}{query}")));
    let window = node(&planned, "WindowAggregate");
    assert_eq!(window.changes, Changes::Insert);
    assert_eq!(planned.dataflow.nodes.iter().filter(|n| matches!(n.kind, NodeKind::Source(_))).count(), 1);
    let view = "CREATE VIEW v AS SELECT r.ts, r.rate FROM bid AS b JOIN rates FOR SYSTEM_TIME AS OF b.at AS r ON b.auction = r.k;";
    let e = try_plan(&with(&format!("{view}{query}"))).expect_err("no time attribute").to_string();
    assert!(e.contains("time attribute"), "{e}");
}

#[test]
fn what_lies_between_the_table_and_the_join_is_done_to_its_rows() {
    let planned = plan(&with(
        "CREATE VIEW good AS SELECT k + 1 AS next, rate AS r FROM rates WHERE active; \
         SELECT g.r FROM bid AS b JOIN good FOR SYSTEM_TIME AS OF b.at AS g ON b.auction = g.next",
    ));
    let join = lookup(&planned);
    assert_eq!(join.stored_keys(), [None]);
    assert!(join.steps.iter().any(|s| s.filter.is_some()));
    assert!(!join.table.options.contains_key("millstream.bad-rows"));
}

/// A server is asked by the columns that it has; what is computed of them is a condition.
#[test]
fn a_server_is_asked_by_its_own_columns() {
    let planned = plan(&with(
        "SELECT p.mail FROM bid AS b JOIN people FOR SYSTEM_TIME AS OF b.at AS p ON b.auction = p.id AND b.channel = UPPER(p.name)",
    ));
    let join = lookup(&planned);
    assert_eq!(join.stored_keys().len(), 1);
    let key = join.stored_keys()[0].expect("stored");
    let projection = join.table.projection.clone().expect("not every column");
    assert_eq!(join.table.schema.field(projection[key]).name(), "id");
    assert!(join.residual.is_some());
    // Its primary key: each row finds one at most, so the key of the left is one of the result.
    let sql = "SELECT p.mail FROM bid AS b JOIN people FOR SYSTEM_TIME AS OF b.at AS p ON b.auction = p.small + 1";
    refused(
        &with(sql),
        "
FOR SYSTEM_TIME AS OF a processing time: ON compares no column of `people` with the left side
  at q.sql:4:34
  help: `people` is looked up by key: write ON left.key = people.key, and further conditions with AND",
    );
}

#[test]
fn a_table_may_be_read_and_looked_up_in_one_job() {
    let planned = plan(&with(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO big SELECT k, k FROM rates; \
         INSERT INTO big SELECT b.auction, r.k FROM bid AS b JOIN rates FOR SYSTEM_TIME AS OF b.at AS r ON b.auction = r.k; END",
    ));
    assert_eq!(planned.dataflow.nodes.iter().filter(|n| n.label == "Source(rates)").count(), 1);
    assert_eq!(lookup(&planned).keys.len(), 1);
    well_formed(&planned.dataflow);
}

/// In batch mode a table that can be read is joined plainly, and the others are asked.
#[test]
fn in_batch_mode_a_look_up_is_a_plain_join() {
    let batch = "SET 'execution.runtime-mode' = 'batch';";
    let sql = "SELECT b.auction, r.rate FROM (SELECT *, PROCTIME() AS p FROM bid) AS b LEFT JOIN rates FOR SYSTEM_TIME AS OF b.p AS r \
               ON b.auction = r.k AND r.active";
    let planned = plan(&with(&format!("{batch}{sql}")));
    assert!(planned.dataflow.nodes.is_empty() && !planned.ordered);
    let text = planned.statements[0].logical.display_indent().to_string();
    assert!(text.contains("Left Join") && !text.contains("as_of") && !text.contains("Versions"), "{text}");
    assert!(!text.contains("proctime"), "{text}");
    assert_eq!(planned.scans.keys().collect::<Vec<_>>(), ["bid", "rates"]);
    let sql = "SELECT p.mail FROM bid AS b JOIN people FOR SYSTEM_TIME AS OF b.at AS p ON b.auction = p.id";
    let planned = plan(&with(&format!("{batch}{sql}")));
    assert!(planned.ordered && lookup(&planned).keys.len() == 1);
}

#[test]
fn what_cannot_be_looked_up_says_so() {
    refused(
        &with("SELECT b.auction FROM bid b JOIN rates FOR SYSTEM_TIME AS OF b.at AS r ON b.price > r.rate"),
        "
FOR SYSTEM_TIME AS OF a processing time: ON compares no column of `rates` with the left side
  at q.sql:4:34
  help: `rates` is looked up by key: write ON left.key = rates.key, and further conditions with AND",
    );
    refused(
        &with("SELECT b.auction FROM bid b JOIN rates FOR SYSTEM_TIME AS OF b.at AS r ON r.k = 5"),
        "
FOR SYSTEM_TIME AS OF a processing time: ON compares no column of `rates` with the left side
  at q.sql:4:34
  help: `rates` is looked up by key: write ON left.key = rates.key, and further conditions with AND",
    );
    for join in ["RIGHT", "FULL"] {
        refused(
            &with(&format!(
                "SELECT b.auction FROM bid b {join} JOIN rates FOR SYSTEM_TIME AS OF b.at AS r ON b.auction = r.k"
            )),
            &format!(
                "
FOR SYSTEM_TIME AS OF joins the versions to rows of the left
  at q.sql:4:{}
  help: write JOIN or LEFT JOIN, with the versioned table on the right",
                35 + join.len()
            ),
        );
    }
    refused(
        &with(
            "CREATE VIEW totals AS SELECT k, sum(rate) AS total FROM rates GROUP BY k; \
             SELECT b.auction FROM bid b JOIN totals FOR SYSTEM_TIME AS OF b.at AS r ON b.auction = r.k",
        ),
        "
FOR SYSTEM_TIME AS OF a processing time looks a table up, and this is a view that computes
  at q.sql:4:108
  help: name the table, or a view that picks columns and rows of one; or use FOR SYSTEM_TIME AS OF an event time",
    );
    refused(
        &with("SELECT b.auction, r.at FROM bid b JOIN rates FOR SYSTEM_TIME AS OF b.at AS r ON b.auction = r.k"),
        "
FOR SYSTEM_TIME AS OF a processing time: `rates` is looked up, and its rows have no processing time
  at q.sql:4:40
  help: leave the column with PROCTIME() of that table out of the query",
    );
    let e = try_plan(&with(
        "SELECT b.auction FROM (SELECT auction, PROCTIME() AS p FROM (SELECT auction, count(*) AS n FROM bid GROUP BY auction)) b \
         JOIN rates FOR SYSTEM_TIME AS OF b.p AS r ON b.auction = r.k",
    ));
    assert!(e.is_err());
    let e = try_plan(&with(
        "SELECT b.auction FROM (SELECT auction, max(at) AS p FROM bid GROUP BY auction) b JOIN rates FOR SYSTEM_TIME AS OF b.p AS r \
         ON b.auction = r.k",
    ));
    assert!(e.expect_err("no time attribute").to_string().contains("FOR SYSTEM_TIME AS OF"));
}
