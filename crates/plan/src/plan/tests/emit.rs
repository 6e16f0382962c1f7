//! EMIT: what the clause and the settings become, and what is refused.

use super::{check, node, plan, refused, try_plan};
use crate::parse::script;
use millstream_dataflow::graph::{NodeKind, Panes, Trigger, WindowPanes};

fn panes(sql: &str) -> WindowPanes {
    match &node(&plan(sql), "WindowPanes").kind {
        NodeKind::WindowPanes(panes) => panes.clone(),
        other => panic!("{other:?}"),
    }
}

fn select(clause: &str) -> String {
    format!(
        "SELECT auction, window_end, count(*) AS n FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR)) \
         GROUP BY auction, window_start, window_end {clause}"
    )
}

#[test]
fn a_clause_makes_panes_that_update_the_result() {
    check(
        &select("EMIT EARLY EVERY INTERVAL '10' SECOND ALLOWED LATENESS INTERVAL '1' MINUTE"),
        "
Sink(result)
└─ Calc(auction, window_end, count(*) AS n)
      │ changes +I -U +U -D
   └─ WindowPanes(TUMBLE 1 h, by auction: count(*); early every 10 s, late on change within 1 min, retracting)
         │ changes +I -U +U -D
      └─ hash(auction) ─ Calc(auction, ts)
         └─ Source(bid)
               reads auction, ts, $proctime
               watermark ts - 4000 ms",
    );
    check(
        &format!("INSERT INTO counts (auction, window_end, n) {}", select("EMIT EARLY EVERY 1000 ROWS DISCARDING")),
        "
Sink(counts)
└─ Calc(auction, count(*) AS n, window_end)
   └─ WindowPanes(TUMBLE 1 h, by auction: count(*); early every 1000 rows, discarding)
      └─ hash(auction) ─ Source(bid)
            reads auction, ts
            watermark ts - 4000 ms",
    );
}

#[test]
fn sessions_are_told_in_panes_too() {
    check(
        "SELECT bidder, window_end, count(*) AS n FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
         GROUP BY bidder, window_start, window_end EMIT ON CHANGE",
        "
Sink(result)
└─ Calc(bidder, window_end, count(*) AS n)
      │ changes +I -U +U -D
   └─ WindowPanes(SESSION gap 10 s, by bidder: count(*); early on change, retracting)
         │ changes +I -U +U -D
      └─ hash(bidder) ─ Source(bid)
            reads bidder, ts
            watermark ts - 4000 ms",
    );
}

#[test]
fn each_part_of_the_clause_says_one_thing() {
    let of = |clause: &str| {
        let p = panes(&select(clause));
        (p.early, p.late, p.windows.lateness, p.panes)
    };
    use Panes::{Accumulating, Discarding, Retracting};
    use Trigger::{Change, Every, Rows};
    assert_eq!(of("EMIT ON CHANGE"), (Some(Change), Change, 0, Retracting));
    assert_eq!(of("emit early on change accumulating"), (Some(Change), Change, 0, Accumulating));
    assert_eq!(of("EMIT EARLY EVERY 1 ROW, DISCARDING"), (Some(Rows(1)), Change, 0, Discarding));
    let late = "EMIT ALLOWED LATENESS INTERVAL '0.5' SECONDS LATE EVERY INTERVAL '2' MINUTES";
    assert_eq!(of(late), (None, Every(120_000), 500, Retracting));
    let all = "HAVING count(*) > 1 OR auction = 3 EMIT RETRACTING LATE EVERY 5 ROWS EARLY EVERY INTERVAL '1' DAY ALLOWED LATENESS INTERVAL '3' HOUR";
    assert_eq!(of(all), (Some(Every(86_400_000)), Rows(5), 10_800_000, Retracting));
}

#[test]
fn flinks_settings_say_the_same_and_the_clause_has_the_last_word() {
    let set = |keys: &[(&str, &str)]| -> String {
        keys.iter().map(|(k, v)| format!("SET 'table.exec.emit.{k}' = '{v}'; ")).collect()
    };
    let early = set(&[("early-fire.enabled", "true"), ("early-fire.delay", "5 s")]);
    let p = panes(&(early.clone() + &select("")));
    assert_eq!((p.early, p.windows.lateness, p.panes), (Some(Trigger::Every(5000)), 0, Panes::Retracting));
    let late = set(&[("late-fire.enabled", "true"), ("late-fire.delay", "0 ms"), ("allow-lateness", "1 min")]);
    let p = panes(&(late.clone() + &select("")));
    assert_eq!((p.early, p.late, p.windows.lateness), (None, Trigger::Change, 60_000));
    let p = panes(&(early.clone() + &late + &select("EMIT EARLY EVERY 3 ROWS ACCUMULATING")));
    assert_eq!((p.early, p.windows.lateness, p.panes), (Some(Trigger::Rows(3)), 60_000, Panes::Accumulating));
    // As in Flink, late panes without a lateness last as long as state does.
    let state = "SET 'table.exec.state.ttl' = '2 h'; ";
    let p = panes(&(set(&[("late-fire.enabled", "true"), ("late-fire.delay", "1 s")]) + state + &select("")));
    assert_eq!((p.late, p.windows.lateness), (Trigger::Every(1000), 7_200_000));
    // Switched off, they say nothing; and neither they nor the clause do in batch mode.
    plan(&(set(&[("early-fire.enabled", "false"), ("early-fire.delay", "5 s")]) + &select("")));
    let batch = plan(&("SET 'execution.runtime-mode' = 'batch'; ".to_string() + &early + &select("EMIT ON CHANGE")));
    assert!(batch.dataflow.nodes.is_empty());
    assert!(!batch.statements[0].logical.display_indent().to_string().contains("mit"));
}

#[test]
fn without_either_nothing_is_other_than_before() {
    let planned = plan(&select(""));
    assert!(planned.dataflow.nodes.iter().all(|n| !n.label.contains("Panes")));
    assert!(planned.dataflow.nodes.iter().all(|n| !n.schema.fields().iter().any(|f| f.name() == "$proctime")));
}

#[test]
fn what_stands_on_panes_goes_by_what_they_are() {
    // A result that is updated is a table: grouped by its window once more it is no window.
    let of_updates = "SELECT window_end, max(n) AS most FROM (SELECT auction, window_start, window_end, count(*) AS n FROM \
                      TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY auction, window_start, window_end \
                      EMIT ON CHANGE) GROUP BY window_start, window_end";
    check(
        of_updates,
        "
Sink(result)
└─ Calc(window_end, max(count(*)) AS most)
      │ changes +I -U +U -D
   └─ GroupAggregate(by window_start, window_end: max(count(*)))
         │ changes +I -U +U -D
      └─ hash(window_start, window_end) ─ Calc(window_start, window_end, count(*) AS n)
            │ changes +I -U +U -D
         └─ WindowPanes(TUMBLE 1 h, by auction: count(*); early on change, retracting)
               │ changes +I -U +U -D
            └─ hash(auction) ─ Source(bid)
                  reads auction, ts
                  watermark ts - 4000 ms",
    );
    // Panes that only add rows keep their time.
    let planned = plan(&of_updates.replace("ON CHANGE", "ON CHANGE DISCARDING"));
    node(&planned, "WindowAggregate(its window");
    // In a view, and with a filter on what is told and on whole windows.
    let view = format!("CREATE VIEW v AS {}; SELECT * FROM v WHERE n > 5 AND auction = 7", select("EMIT ON CHANGE"));
    let planned = plan(&view);
    assert!(node(&planned, "Calc(auction, ts WHERE auction = 7").label.contains("WHERE"));
    assert!(node(&planned, "Calc(auction, window_end, count(*) AS n WHERE count(*) > 5").label.contains("WHERE"));
}

#[test]
fn emit_stays_a_name() {
    for sql in [
        "SELECT price AS emit FROM bid",
        "SELECT price emit FROM bid",
        "SELECT emit FROM (SELECT price AS emit FROM bid) emit",
        "SELECT emit, count(*) AS n FROM (SELECT price AS emit FROM bid) GROUP BY emit HAVING emit > 3 AND emit < 9",
        "SELECT b.price FROM auction a JOIN (SELECT price, auction AS change FROM bid) b ON b.change = a.id",
        "SELECT emit.price FROM auction a JOIN bid emit ON emit.auction = a.id",
    ] {
        try_plan(sql).unwrap_or_else(|e| panic!("{sql}\n{e}"));
    }
}

#[test]
fn what_cannot_be_told_is_refused() {
    let wrong = |clause: &str, what: &str, help: &str| {
        let sql = select(clause);
        match try_plan(&sql) {
            Ok(_) => panic!("planned: {sql}"),
            Err(e) => assert_eq!((e.what(), e.help().unwrap_or("")), (what, help), "{sql}"),
        }
    };
    let every = |of: &str| format!("write {of} EVERY INTERVAL '10' SECOND, {of} EVERY 1000 ROWS or {of} ON CHANGE");
    wrong("EMIT", "EMIT says nothing", "write for example EMIT EARLY EVERY INTERVAL '10' SECOND");
    wrong("EMIT ERLY ON CHANGE", "EMIT has no word ERLY here", "did you mean EARLY?");
    wrong("EMIT EARLY EVRY 3 ROWS", "EMIT has no word EVRY here", "did you mean EVERY?");
    wrong("EMIT ON CHANGE RETRACTNG", "EMIT has no word RETRACTNG here", "did you mean RETRACTING?");
    wrong("EMIT ON CHANGES", "expected CHANGE, found CHANGES", "write EMIT ON CHANGE");
    wrong("EMIT EARLY", "EARLY does not say when", &every("EARLY"));
    wrong("EMIT LATE ORDER BY n", "LATE does not say when", &every("LATE"));
    wrong("EMIT EARLY EVERY 0 ROWS", "EVERY 0 ROWS is not possible", "give a whole number from 1");
    wrong("EMIT EARLY EVERY 5 SECOND", "EVERY 5 of what?", "write EVERY 5 ROWS");
    wrong("EMIT EARLY EVERY -5 ROWS", "EVERY takes no negative length or number", &every("EARLY"));
    let form = "write EARLY EVERY INTERVAL '10' SECOND";
    let negative = "EVERY takes no negative length, and this is '-10' SECOND";
    wrong("EMIT EARLY EVERY INTERVAL '-10' SECOND", negative, form);
    wrong("EMIT EARLY EVERY INTERVAL -'10' SECOND", "EVERY takes no negative length", form);
    wrong(
        "EMIT EARLY EVERY INTERVAL '0' SECOND",
        "EVERY takes an interval of at least a millisecond",
        "write EARLY ON CHANGE to tell each change",
    );
    let units = "units are DAY, HOUR, MINUTE, SECOND and MILLISECOND";
    wrong("EMIT EARLY EVERY INTERVAL '1' FORTNIGHT", "an INTERVAL has no unit FORTNIGHT", units);
    wrong("EMIT EARLY EVERY INTERVAL '1' MONTH", "a MONTH has no fixed length", "give it in DAY or a smaller unit");
    let whole = "INTERVAL '0.0001' SECOND is no length in whole milliseconds";
    wrong("EMIT EARLY EVERY INTERVAL '0.0001' SECOND", whole, form);
    let lateness = "write ALLOWED LATENESS INTERVAL '10' SECOND";
    let negative = "ALLOWED LATENESS takes no negative length, and this is '-1' MINUTE";
    wrong("EMIT ALLOWED LATENESS INTERVAL '-1' MINUTE", negative, lateness);
    wrong("EMIT ALLOWED LATENESS 5", "expected INTERVAL, found 5", lateness);
    wrong("EMIT EARLY ON CHANGE EARLY ON CHANGE", "EMIT says EARLY twice", "say it once");
    wrong(
        "EMIT ON CHANGE DISCARDING ACCUMULATING",
        "EMIT says twice what a pane tells",
        "say RETRACTING, ACCUMULATING or DISCARDING, and one of them",
    );
    wrong(
        "EMIT EVERY INTERVAL '10' SECOND",
        "EMIT EVERY does not say of which panes",
        "write EARLY EVERY .., before a window closes, or LATE EVERY .., for late rows",
    );
    wrong(
        "EMIT ON CHANGE EMIT ON CHANGE",
        "EMIT has no word EMIT here",
        "it goes on with EARLY, LATE, ON, ALLOWED, RETRACTING, ACCUMULATING, DISCARDING",
    );
    wrong("EMIT ON CHANGE HAVING count(*) > 1", "HAVING stands behind EMIT", "write GROUP BY .. HAVING .. EMIT ..");
    wrong(
        "LIMIT 5 EMIT ON CHANGE",
        "EMIT stands behind ORDER BY or LIMIT",
        "write it right behind GROUP BY and HAVING",
    );
    wrong(
        "EMIT DISCARDING",
        "EMIT says what a pane tells, and not when there is one",
        "add EARLY EVERY .., EARLY ON CHANGE or ALLOWED LATENESS ..",
    );
    wrong(
        "EMIT EARLY ON CHANGE LATE ON CHANGE",
        "late panes need an allowed lateness, and it is 0: a closed window takes no rows",
        "add ALLOWED LATENESS INTERVAL '1' MINUTE to EMIT, or SET 'table.exec.emit.allow-lateness' = '1 min'",
    );
}

#[test]
fn a_clause_without_windows_is_refused_at_its_place() {
    refused(
        "SELECT auction, count(*) FROM bid\nGROUP BY auction EMIT ON CHANGE",
        "
EMIT tells when windows are told, and this aggregate has no windows: it is told with each change
  at q.sql:2:18
  help: take EMIT out, or group by window_start and window_end of TABLE(TUMBLE(..))",
    );
    refused(
        "SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR)) EMIT EARLY ON CHANGE",
        "
EMIT stands in a query without GROUP BY, which has no windows to tell of
  at q.sql:1:75
  help: write it behind GROUP BY window_start, window_end, ..",
    );
    refused(
        "SELECT auction, count(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(at), INTERVAL '1' HOUR)) \
         GROUP BY auction, window_start, window_end EMIT LATE ON CHANGE",
        "
EMIT speaks of late rows, and windows by processing time have none
  at q.sql:1:134
  help: leave out LATE and ALLOWED LATENESS, or give the table a WATERMARK and window by that time",
    );
    refused(
        &format!("INSERT INTO counts (auction, window_end, n) {}", select("EMIT ON CHANGE")),
        "
EMIT updates what it has told (RETRACTING), and `counts` ('x') can only add rows
  at tables.sql:13:1
  help: add DISCARDING or ACCUMULATING to EMIT, so that each pane is a new row, or write to a table with a PRIMARY KEY that \
         takes updates ('jdbc', 'delta')",
    );
    refused(
        &format!("SET 'table.exec.emit.early-fire.enabled' = 'true'; {}", select("")),
        "
'table.exec.emit.early-fire.enabled' is set, and 'table.exec.emit.early-fire.delay' is not
  at q.sql:1:52
  help: SET 'table.exec.emit.early-fire.delay' = '10 s'; '0 ms' tells each change",
    );
}

#[test]
fn the_clause_is_read_to_its_end_wherever_it_stands() {
    for sql in [
        select("EMIT ON CHANGE;"),
        format!("SELECT * FROM ({}) WHERE n > 1", select("EMIT ON CHANGE")),
        format!("{} UNION ALL {}", select("EMIT ON CHANGE DISCARDING"), select("EMIT EARLY EVERY 3 ROWS DISCARDING")),
        format!("{} ORDER BY n LIMIT 3", select("HAVING count(*) > 1 EMIT /* soon */ ON CHANGE -- told\n")),
        format!("WITH w AS ({}) SELECT * FROM w", select("EMIT ON CHANGE")),
    ] {
        script(&sql, "q.sql").unwrap_or_else(|e| panic!("{sql}\n{e}"));
        assert!(
            try_plan(&sql).is_ok_and(|p| p.dataflow.nodes.iter().any(|n| n.label.starts_with("WindowPanes"))),
            "{sql}"
        );
    }
}
