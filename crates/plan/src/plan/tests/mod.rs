//! Each construct of the language with the graph that it becomes (`graphs`), each refusal with its words (`refusals`), and
//! here what the text of a graph does not show.

mod broadcast;
mod brought;
mod dialect;
mod emit;
mod graphs;
mod lookup;
mod multi;
mod pruned;
mod refusals;
mod temporal;
mod updating;

use super::*;
use crate::catalog::Catalog;
use crate::explain;
use crate::parse::script;
use crate::statement::StatementKind;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_core::table::{Brings, TableUse, Takes};
use millstream_core::{Connectors, ErrorKind, PartitionReader, Sink, SinkContext, Source, TimeDomain};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{
    Changes, Exchange, Join, JoinKind, JoinScope, Node, NodeKind, TemporalJoin, Window, WindowAggregate, WindowPanes,
};

/// Every table is fine; there is nothing to open.
struct Anything;

impl Connectors for Anything {
    fn validate(&self, _: &TableSpec, _: TableUse) -> Result<()> {
        Ok(())
    }

    fn metadata(&self, _: &TableSpec) -> Result<Vec<Field>> {
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        Ok(vec![Field::new("timestamp", time, true), Field::new("file.path", DataType::Utf8, false)])
    }

    fn finds_fields_by_name(&self, table: &TableSpec) -> bool {
        matches!(table.connector(), "nexmark" | "by-name")
    }

    fn takes(&self, table: &TableSpec) -> Takes {
        match (table.connector(), table.primary_key.is_empty()) {
            ("result", _) => Takes::All,
            ("changes", _) => Takes::Retractions,
            (_, true) => Takes::Inserts,
            (_, false) => Takes::Upserts,
        }
    }

    fn brings(&self, table: &TableSpec) -> Brings {
        match table.connector() {
            "changes" => Brings::All,
            "upserts" => Brings::Upserts,
            _ => Brings::Inserts,
        }
    }

    fn asked_by_key(&self, table: &TableSpec) -> bool {
        table.connector() == "asked"
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        Ok(Box::new(Unread { schema: table.schema.clone(), ends: table.connector() == "ends" }))
    }

    fn open_sink(&self, _: &TableSpec, _: &SinkContext) -> Result<Box<dyn Sink>> {
        Err(Error::internal("nothing to open"))
    }
}

/// Nobody reads it.
struct Unread {
    schema: SchemaRef,
    ends: bool,
}

impl Source for Unread {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        self.ends
    }

    fn partitions(&mut self, _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        Err(Error::internal("nothing to read"))
    }
}

const TABLES: &str = "
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, qty INT, ts TIMESTAMP(3), tags ARRAY<STRING>,
  items ARRAY<ROW<sku STRING, n INT>>, info ROW<city STRING, zip INT>, fee AS price * 2, at AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE plain (k STRING, v DOUBLE, ts TIMESTAMP(3)) WITH ('connector' = 'x');
CREATE TABLE ltz (k STRING, v INT, ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'x');
CREATE TABLE big (auction BIGINT, n BIGINT) WITH ('connector' = 'x');
CREATE TABLE small (a TINYINT, b INT NOT NULL) WITH ('connector' = 'x');
CREATE TABLE auction (id BIGINT, seller BIGINT, reserve BIGINT, category INT, ts TIMESTAMP(3), expires TIMESTAMP(3), at AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE person (id BIGINT, name STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'x');
CREATE TABLE upserts (auction BIGINT, n BIGINT, PRIMARY KEY (auction) NOT ENFORCED) WITH ('connector' = 'x');
CREATE TABLE counts (auction BIGINT, n BIGINT, window_end TIMESTAMP(3)) WITH ('connector' = 'x');
";

fn try_plan(sql: &str) -> Result<Planned> {
    let mut catalog = Catalog::default();
    for s in script(TABLES, "tables.sql")? {
        catalog.apply(&s, "tables.sql")?;
    }
    let mut planned = None;
    for s in script(sql, "q.sql")? {
        let job = match &s.kind {
            StatementKind::Insert(i) => Job::Inserts(std::slice::from_ref(i)),
            StatementKind::StatementSet(all) => Job::Inserts(all),
            StatementKind::Query(query) => Job::Query { query, span: s.span },
            _ => {
                catalog.apply(&s, "q.sql")?;
                continue;
            }
        };
        planned = Some(plan_job(&catalog, job, "q.sql", &Anything, 0)?);
    }
    planned.ok_or_else(|| Error::usage("no query"))
}

fn plan(sql: &str) -> Planned {
    try_plan(sql).unwrap_or_else(|e| panic!("{sql}\n{e}"))
}

#[track_caller]
fn check(sql: &str, expected: &str) {
    let planned = plan(sql);
    well_formed(&planned.dataflow);
    let got = explain::text(&planned.dataflow);
    let trim = |s: &str| s.trim_matches('\n').lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert!(trim(&got) == trim(expected), "\n--- {sql}\n{got}");
}

#[track_caller]
fn refused(sql: &str, expected: &str) {
    match try_plan(sql) {
        Ok(p) => panic!("planned: {sql}\n{}", explain::text(&p.dataflow)),
        Err(e) => assert!(e.to_string() == expected.trim_matches('\n'), "\n--- {sql}\n{e}"),
    }
}

fn node<'d>(planned: &'d Planned, kind: &str) -> &'d Node {
    let found = planned.dataflow.nodes.iter().find(|n| n.label.starts_with(kind));
    found.unwrap_or_else(|| panic!("no {kind} in\n{}", explain::text(&planned.dataflow)))
}

fn aggregate(planned: &Planned) -> &WindowAggregate {
    match &node(planned, "WindowAggregate").kind {
        NodeKind::WindowAggregate(w) => w,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_window_names_its_columns_by_index() {
    let planned = plan(
        "SELECT bidder, sum(price) FILTER (WHERE qty > 1), window_start FROM SESSION(TABLE bid PARTITION BY bidder,
         DESCRIPTOR(ts), INTERVAL '10' SECOND) GROUP BY bidder, window_start, window_end",
    );
    let n = node(&planned, "WindowAggregate");
    let input = &planned.dataflow.nodes[n.inputs[0].node].schema;
    let w = aggregate(&planned);
    let names = |at: &[usize]| at.iter().map(|i| input.field(*i).name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&w.keys), ["bidder"]);
    assert_eq!(w.window, Window::Session { gap: 10_000, partition: w.keys.clone() });
    assert_eq!(names(&[w.time.column]), ["ts"]);
    assert_eq!((w.time.domain, w.time.zone.clone()), (TimeDomain::Event, None));
    assert_eq!(names(&w.calls[0].args), ["price"]);
    assert_eq!(w.calls[0].filter.map(|f| input.field(f).data_type().clone()), Some(DataType::Boolean));
    let out: Vec<&str> = n.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(out[..4], ["bidder", "window_start", "window_end", "window_time"]);
}

#[test]
fn windows_over_a_local_time_follow_the_sessions_zone() {
    let sql =
        "SELECT count(*) FROM TUMBLE(TABLE ltz, DESCRIPTOR(ts), INTERVAL '1' DAY) GROUP BY window_start, window_end";
    assert_eq!(aggregate(&plan(sql)).time.zone, None);
    let shanghai = plan(&format!("SET 'table.local-time-zone' = 'Asia/Shanghai'; {sql}"));
    assert_eq!(aggregate(&shanghai).time.zone.as_deref(), Some("Asia/Shanghai"));
    let time = node(&shanghai, "WindowAggregate").schema.field_with_name("window_time").map(|f| f.data_type().clone());
    assert_eq!(time.ok(), Some(DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))));
}

#[test]
fn lateness_idleness_and_the_clock_come_from_the_settings() {
    let planned = plan(
        "SET 'table.exec.emit.allow-lateness' = '5 s'; SET 'table.exec.source.idle-timeout' = '3 s';
         SELECT count(*) FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' DAY) GROUP BY window_start, window_end",
    );
    assert_eq!(aggregate(&planned).lateness, 5000);
    match &node(&planned, "Source").kind {
        NodeKind::Source(s) => {
            assert_eq!(s.idle_timeout, Some(3000));
            assert_eq!(s.watermark.as_ref().and_then(|w| w.delay), Some(4000));
            assert!(!s.null_time_set_aside);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bad_rows_are_set_aside_where_there_is_a_table_for_them() {
    let planned = plan(
        "SET 'millstream.bad-rows.table' = 'bad'; CREATE TABLE bad (raw STRING) WITH ('connector' = 'x');
         SELECT auction FROM bid",
    );
    match &node(&planned, "Source").kind {
        NodeKind::Source(s) => {
            assert_eq!(s.table.option("millstream.bad-rows"), Some("set-aside"));
            assert!(s.null_time_set_aside);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn ids_stay_when_other_statements_change() {
    let hourly = "INSERT INTO counts SELECT auction, count(*), window_end FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' \
                  HOUR) GROUP BY auction, window_start, window_end;";
    let alone = plan(&format!("EXECUTE STATEMENT SET BEGIN {hourly} END"));
    let beside = plan(&format!(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO big SELECT bidder, price FROM bid WHERE qty > 3; {hourly} END"
    ));
    let id = |p: &Planned| node(p, "WindowAggregate").id.clone();
    // The other statement reads more columns, so a Calc stands between source and aggregate: its id is part of it.
    assert_eq!(id(&alone).split('-').next(), id(&beside).split('-').next());
    assert_eq!(node(&alone, "Source").id, node(&beside, "Source").id);
    let mut ids: Vec<&str> = beside.dataflow.nodes.iter().map(|n| n.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), beside.dataflow.nodes.len());
}

#[test]
fn every_input_comes_before_its_reader() {
    let planned = plan(
        "EXECUTE STATEMENT SET BEGIN
         INSERT INTO big SELECT auction, price FROM bid; INSERT INTO big SELECT bidder, price FROM bid; END",
    );
    for (i, n) in planned.dataflow.nodes.iter().enumerate() {
        assert!(n.inputs.iter().all(|input| input.node < i), "{} reads what comes later", n.id);
    }
}

#[test]
fn a_batch_job_has_plans_and_no_graph() {
    let planned = plan(
        "SET 'execution.runtime-mode' = 'batch';
         SELECT DISTINCT a.auction FROM bid a JOIN bid b ON a.bidder = b.auction ORDER BY a.auction LIMIT 3",
    );
    assert!(planned.dataflow.nodes.is_empty());
    assert_eq!(planned.statements.len(), 1);
    let scan = &planned.scans["bid"];
    let read: Vec<&str> = scan.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(read, ["auction", "bidder", "ts"]);
}

#[test]
fn a_select_prints_under_the_names_of_the_query() {
    let planned = plan(
        "SELECT auction AS a, count(*), max(price) AS m FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' DAY)
      GROUP BY auction, window_start, window_end",
    );
    let sink = &planned.statements[0].sink;
    let names: Vec<&str> = sink.schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!((sink.connector(), names), ("result", vec!["a", "count(*)", "m"]));
}

#[test]
fn a_metadata_column_has_the_connectors_type() {
    let wrong =
        "CREATE TABLE e (t BIGINT, file INT METADATA FROM 'file.path') WITH ('connector' = 'x'); SELECT * FROM e";
    refused(
        wrong,
        "metadata `file.path` is STRING, column `file` declares INT\n  at q.sql:1:1\n  help: declare it STRING",
    );
    let unknown =
        "CREATE TABLE e (t BIGINT, file STRING METADATA FROM 'file.pat') WITH ('connector' = 'x'); SELECT * FROM e";
    refused(unknown, "metadata column `file.pat` is unknown\n  at q.sql:1:1\n  help: did you mean `file.path`?");
}

#[test]
fn integers_stay_as_wide_as_they_are() {
    let planned = plan("SELECT qty + 1 AS a, price + 1 AS b, qty * 2.5 AS c FROM bid");
    let types: Vec<String> =
        planned.statements[0].sink.schema.fields().iter().map(|f| types::sql_name(f.data_type())).collect();
    assert_eq!(types[..2], ["INT", "BIGINT"]);
    assert!(types[2].starts_with("DECIMAL"), "{types:?}");
}

/// Queries with a word left out or doubled are planned or refused; nothing panics, and what is planned is well formed.
#[test]
fn damaged_queries_are_refused_without_panic() {
    let queries = [
        "SELECT auction , count ( * ) , sum ( price * 2 ) FILTER ( WHERE qty > 1 ) FROM TABLE ( HOP ( TABLE bid , \
         DESCRIPTOR ( ts ) , INTERVAL '2' SECOND , INTERVAL '10' SECOND ) ) GROUP BY auction , window_start , window_end \
         HAVING count ( * ) > 2",
        "SELECT bidder , window_start , LISTAGG ( channel , '|' ) FROM SESSION ( TABLE bid PARTITION BY bidder , \
         DESCRIPTOR ( ts ) , INTERVAL '10' SECOND ) GROUP BY bidder , window_start , window_end",
        "SELECT auction , SUM ( price ) OVER ( PARTITION BY auction ORDER BY ts RANGE BETWEEN INTERVAL '30' MINUTE \
         PRECEDING AND CURRENT ROW ) AS s , LAG ( price , 1 ) OVER ( PARTITION BY bidder ORDER BY ts ) FROM bid",
        "WITH a AS ( SELECT auction , ts FROM bid UNION ALL SELECT bidder , ts FROM bid ) SELECT window_end , count ( \
         DISTINCT auction ) FROM TUMBLE ( TABLE a , DESCRIPTOR ( ts ) , INTERVAL '1' DAY ) GROUP BY window_start , \
         window_end , GROUPING SETS ( ( auction ) , ( ) )",
        "INSERT INTO big ( auction , n ) SELECT i . n , qty + 1 FROM bid AS b CROSS JOIN UNNEST ( b . items ) AS i ( s , n ) \
         WHERE i . s LIKE 'a%' LIMIT 3",
    ];
    for query in queries {
        let words: Vec<&str> = query.split_whitespace().collect();
        for i in 0..words.len() {
            let without = [&words[..i], &words[i + 1..]].concat().join(" ");
            let doubled = [&words[..=i], &words[i..]].concat().join(" ");
            for sql in [without, doubled] {
                match try_plan(&sql) {
                    Ok(planned) => well_formed(&planned.dataflow),
                    Err(e) => assert!(e.kind() != ErrorKind::Internal, "{sql}\n{e}"),
                }
            }
        }
    }
}

/// Their bounds are local times: judged by the watermark as it stands, windows of a zone behind UTC would have closed before
/// their rows come.
#[test]
fn windows_over_local_windows_follow_the_sessions_zone_too() {
    let sql = "SET 'table.local-time-zone' = 'America/New_York'; SELECT max(n) FROM (SELECT k, count(*) AS n, window_start, \
               window_end FROM TUMBLE(TABLE ltz, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY k, window_start, window_end) \
               GROUP BY window_start, window_end";
    let planned = plan(sql);
    let zones = planned.dataflow.nodes.iter().filter_map(|n| match &n.kind {
        NodeKind::WindowAggregate(w) => Some(w.time.zone.as_deref()),
        _ => None,
    });
    assert_eq!(zones.collect::<Vec<_>>(), [Some("America/New_York"); 2]);
}

#[test]
fn a_graph_for_mermaid() {
    let planned = plan("SELECT auction FROM bid LIMIT 3");
    assert_eq!(
        explain::mermaid(&planned.dataflow),
        "flowchart LR\n  n0[(\"Source(bid)\")]\n  n1[\"Calc(auction)\"]\n  n2[\"Limit(3)\"]\n  n3[(\"Sink(result)\")]\n  \
         n0 --> n1\n  n1 -->|\"single\"| n2\n  n2 --> n3\n"
    );
}

/// What the runtime and the operators rely on.
fn well_formed(dataflow: &Dataflow) {
    let types = |s: &Schema| s.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    let made = |exprs: &[Expr], input: &SchemaRef| {
        let none = RecordBatch::new_empty(input.clone());
        let value = |e: &Expr| e.evaluate(&none).map(|a| a.data_type().clone()).unwrap_or_else(|e| panic!("{e}"));
        exprs.iter().map(value).collect::<Vec<_>>()
    };
    for (i, n) in dataflow.nodes.iter().enumerate() {
        for input in &n.inputs {
            assert!(input.node < i, "{} reads what comes later", n.id);
            if let Exchange::Hash(keys) = &input.exchange {
                assert!(keys.iter().all(|k| *k < dataflow.nodes[input.node].schema.fields().len()), "{}", n.label);
            }
        }
        let input = n.inputs.first().map(|i| dataflow.nodes[i.node].schema.clone());
        let input = input.unwrap_or_else(|| Arc::new(Schema::empty()));
        let time =
            |column: usize| matches!(input.field(column).data_type(), DataType::Timestamp(TimeUnit::Millisecond, _));
        match &n.kind {
            NodeKind::Calc(c) => {
                let test = c.filter.iter().cloned().collect::<Vec<_>>();
                assert!(made(&test, &input).iter().all(|t| *t == DataType::Boolean), "{}", n.label);
                assert_eq!(made(c.columns.as_deref().unwrap_or_default(), &input), types(&n.schema), "{}", n.label);
            }
            NodeKind::Expand(e) => {
                e.rows.iter().for_each(|row| assert_eq!(made(row, &input), types(&n.schema), "{}", n.label));
            }
            NodeKind::Unnest(u) => {
                made(std::slice::from_ref(&u.array), &input);
                assert_eq!(types(&n.schema)[..input.fields().len()], types(&input));
            }
            NodeKind::Values(rows) => assert_eq!(rows.schema(), n.schema),
            NodeKind::Union => {
                n.inputs.iter().for_each(|i| assert_eq!(types(&dataflow.nodes[i.node].schema), types(&n.schema)));
            }
            NodeKind::WindowRows(w) => {
                assert!(time(w.time.column), "{}", n.label);
                assert_eq!(n.schema.fields().len(), input.fields().len() + 3);
            }
            NodeKind::WindowAggregate(w) | NodeKind::WindowPanes(WindowPanes { windows: w, .. }) => {
                assert!(time(w.time.column), "{}", n.label);
                assert_eq!(n.schema.fields().len(), w.keys.len() + 3 + w.calls.len());
                for (k, f) in w.keys.iter().zip(n.schema.fields()) {
                    assert_eq!(input.field(*k).data_type(), f.data_type());
                }
                for c in &w.calls {
                    assert!(c.args.iter().all(|a| *a < input.fields().len()), "{}", n.label);
                    assert!(c.filter.is_none_or(|f| *input.field(f).data_type() == DataType::Boolean), "{}", n.label);
                }
            }
            NodeKind::Over(o) => {
                assert!(time(o.time), "{}", n.label);
                assert_eq!(n.schema.fields().len(), input.fields().len() + o.calls.len());
            }
            NodeKind::GroupAggregate(g) => {
                assert_eq!(n.schema.fields().len(), g.keys.len() + g.calls.len());
                g.keys.iter().zip(n.schema.fields()).for_each(|(k, f)| assert_eq!(input.field(*k), f.as_ref()));
                assert!(g.ttl.iter().all(|t| t.times.iter().all(|c| time(*c))), "{}", n.label);
                let brings = dataflow.nodes[n.inputs[0].node].changes;
                assert_eq!(g.retracts, brings == Changes::Retract, "{}", n.label);
            }
            NodeKind::Join(Join { keys, residual, .. })
            | NodeKind::TemporalJoin(TemporalJoin { keys, residual, .. }) => {
                let right = dataflow.nodes[n.inputs[1].node].schema.clone();
                for (l, r) in keys {
                    assert_eq!(input.field(*l).data_type(), right.field(*r).data_type(), "{}", n.label);
                }
                let both: Vec<_> = input.fields().iter().chain(right.fields()).cloned().collect();
                let both = Arc::new(Schema::new(both));
                let test = residual.iter().cloned().collect::<Vec<_>>();
                assert!(made(&test, &both).iter().all(|t| *t == DataType::Boolean), "{}", n.label);
                let kind = if let NodeKind::Join(j) = &n.kind { j.kind } else { JoinKind::Inner };
                let mut wanted = match kind {
                    JoinKind::Semi | JoinKind::Anti | JoinKind::Mark => types(&input),
                    _ => types(&both),
                };
                if kind == JoinKind::Mark {
                    wanted.push(DataType::Boolean);
                }
                assert_eq!(types(&n.schema), wanted, "{}", n.label);
                if let NodeKind::Join(Join { scope: JoinScope::Interval { times, .. }, .. }) = &n.kind {
                    let types = [input.field(times[0]), right.field(times[1])].map(Field::data_type);
                    assert!(types.iter().all(|t| matches!(t, DataType::Timestamp(TimeUnit::Millisecond, _))));
                }
            }
            NodeKind::MultiJoin(j) => {
                let schema = |input: usize| dataflow.nodes[n.inputs[input].node].schema.clone();
                for (at, keys) in j.keys.iter().enumerate() {
                    let pairs = keys.iter().zip(&j.keys[0]);
                    pairs.for_each(|(k, f)| {
                        assert_eq!(schema(at).field(*k).data_type(), schema(0).field(*f).data_type())
                    });
                    assert_eq!(n.inputs[at].exchange, Exchange::Hash(keys.clone()), "{}", n.label);
                }
                let wanted: Vec<_> = j.columns.iter().map(|(i, c)| schema(*i).field(*c).data_type().clone()).collect();
                assert_eq!(types(&n.schema), wanted, "{}", n.label);
            }
            NodeKind::LookupJoin(j) => {
                for (l, r) in &j.keys {
                    assert_eq!(input.field(*l).data_type(), j.looked_up.field(*r).data_type(), "{}", n.label);
                }
                let both: Vec<_> = input.fields().iter().chain(j.looked_up.fields()).cloned().collect();
                let both = Arc::new(Schema::new(both));
                let test = j.residual.iter().cloned().collect::<Vec<_>>();
                assert!(made(&test, &both).iter().all(|t| *t == DataType::Boolean), "{}", n.label);
                assert_eq!(types(&n.schema), types(&both), "{}", n.label);
            }
            NodeKind::TopN(t) => {
                assert_eq!(n.schema.fields().len(), input.fields().len() + usize::from(t.rank.is_some()));
                let columns = t.partition.iter().copied().chain(t.sort.iter().map(|s| s.column)).chain(t.order);
                columns.for_each(|c| assert!(c < input.fields().len()));
            }
            NodeKind::Deduplicate(d) => {
                assert_eq!(n.schema, input);
                assert!(time(d.time) && d.keys.iter().all(|k| *k < input.fields().len()));
            }
            NodeKind::Limit(_) | NodeKind::UpsertMaterialize { .. } => assert_eq!(n.schema, input),
            NodeKind::Normalize { keys, .. } => {
                assert_eq!(types(&n.schema), types(&input));
                keys.iter().for_each(|k| assert!(!input.field(*k).is_nullable()));
            }
            NodeKind::Sink(s) => {
                assert_eq!(types(&s.table.schema), types(&n.schema));
                let names = |s: &Schema| s.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
                assert_eq!(names(&s.table.schema), names(&n.schema));
            }
            NodeKind::Source(s) => {
                let mut raw: Vec<Field> = s.table.schema.fields().iter().map(|f| f.as_ref().clone()).collect();
                if s.brings == Changes::Upsert {
                    // Of a row that is gone, its key alone is known.
                    let key = |f: &Field| s.table.primary_key.contains(f.name());
                    raw = raw
                        .into_iter()
                        .map(|f| {
                            let null = f.is_nullable() || !key(&f);
                            f.with_nullable(null)
                        })
                        .collect();
                }
                if let Some(p) = &s.table.projection {
                    raw = p.iter().map(|i| raw[*i].clone()).collect();
                }
                raw.extend(s.table.metadata.iter().map(|(_, f)| f.clone()));
                if s.processing_time {
                    raw.push(Field::new(
                        "$proctime",
                        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
                        false,
                    ));
                }
                let raw = Arc::new(Schema::new(raw));
                let completed = match s.row_watermarks {
                    false => n.schema.clone(),
                    true => {
                        let (last, others) = n.schema.fields().split_last().expect("it has `$watermark`");
                        let time = s.watermark.as_ref().map(|w| n.schema.field(w.column).data_type());
                        assert_eq!((last.name().as_str(), Some(last.data_type())), ("$watermark", time));
                        assert!(last.is_nullable());
                        Arc::new(Schema::new(others.to_vec()))
                    }
                };
                match &s.computed {
                    Some(exprs) => assert_eq!(made(exprs, &raw), types(&completed), "{}", n.label),
                    None => assert_eq!(raw, completed),
                }
                if let Some(w) = &s.watermark {
                    let mark = made(std::slice::from_ref(&w.expression), &n.schema);
                    assert!(matches!(mark[0], DataType::Timestamp(TimeUnit::Millisecond, _)), "{mark:?}");
                }
            }
        }
    }
}
