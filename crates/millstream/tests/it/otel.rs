//! Traces of checkpoints and starts, as a collector gets them: with `--features otel`.

use crate::cli::{millstream, told};
use crate::state::World;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

const WINDOWS: &str = "INSERT INTO out SELECT window_start, name, SUM(n) AS total, COUNT(*) AS kinds \
                       FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                       GROUP BY window_start, window_end, name";

/// A collector: its address, and the spans that have come. Each first request is refused once.
fn collector() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let spans = Arc::new(Mutex::new(Vec::new()));
    let kept = spans.clone();
    std::thread::spawn(move || {
        let mut refused = false;
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (mut request, mut block) = (Vec::new(), [0; 4096]);
            let body = loop {
                let read = stream.read(&mut block).expect("a request");
                request.extend_from_slice(&block[..read]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).expect("a length");
                if body.len() >= length.parse().expect("a number") {
                    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
                    assert!(head.contains("\r\nContent-Type: application/json"), "{head}");
                    break body.to_owned();
                }
            };
            let refuse = !std::mem::replace(&mut refused, true);
            let status = if refuse { "503 Service Unavailable" } else { "200 OK" };
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}").expect("it listens");
            if !refuse {
                let request: Value = serde_json::from_str(&body).expect("JSON");
                let resource = &request["resourceSpans"][0];
                assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "millstream");
                let new = resource["scopeSpans"][0]["spans"].as_array().expect("spans").clone();
                kept.lock().expect("nobody panics with it").extend(new);
            }
        }
    });
    (address, spans)
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().unwrap_or_else(|| panic!("{span}"));
    &all.iter().find(|a| a["key"] == key).unwrap_or_else(|| panic!("no {key}: {span}"))["value"]
}

#[test]
fn a_collector_gets_every_checkpoint_with_its_steps_and_every_start() {
    let world = World::new();
    let script = world.0.write("clicks.sql", &world.script(WINDOWS));
    let state = world.place("state");
    let (address, spans) = collector();
    let url = format!("http://{address}");
    let args = ["run", &script, "--state", &state, "--available-now", "--progress", "none", "--otel", &url];
    for _ in 0..2 {
        let (code, _, err) = told(&millstream(&args));
        assert_eq!((code, err.contains("warning")), (0, false), "{err}");
    }
    let spans = std::mem::take(&mut *spans.lock().expect("nobody panics with it"));
    let named = |name: &str| spans.iter().filter(|s| s["name"] == name).collect::<Vec<_>>();
    let starts = named("job start");
    let restarts: Vec<&Value> = starts.iter().map(|s| &attribute(s, "restart")["boolValue"]).collect();
    assert_eq!(restarts, [&Value::Bool(false), &Value::Bool(true)]);
    let checkpoints = named("checkpoint");
    assert!(checkpoints.len() >= 2, "{spans:?}");
    let nanos = |span: &Value, key: &str| span[key].as_str().and_then(|n| n.parse::<u64>().ok()).expect("nanoseconds");
    for checkpoint in checkpoints {
        assert_eq!(
            (checkpoint["traceId"].as_str().map(str::len), &checkpoint["status"]["code"]),
            (Some(32), &1.into())
        );
        assert_eq!(attribute(checkpoint, "job")["stringValue"], "clicks");
        assert!(attribute(checkpoint, "epoch")["intValue"].as_str().is_some_and(|n| n.parse::<u64>().is_ok()));
        let mine = |s: &&Value| s["traceId"] == checkpoint["traceId"] && s["parentSpanId"] == checkpoint["spanId"];
        let steps: Vec<&Value> = spans.iter().filter(mine).collect();
        let names: Vec<&str> = steps.iter().filter_map(|s| s["name"].as_str()).collect();
        assert_eq!(names, ["align", "write", "manifest", "commit"]);
        for step in steps {
            let (from, to) = (nanos(step, "startTimeUnixNano"), nanos(step, "endTimeUnixNano"));
            assert!(from <= to && from >= nanos(checkpoint, "startTimeUnixNano"), "{step}");
            assert!(to <= nanos(checkpoint, "endTimeUnixNano"), "{step} of {checkpoint}");
        }
    }
}

#[test]
fn a_collector_that_is_away_is_told_once_and_nobody_waits_for_it() {
    let world = World::new();
    let script = world.0.write("clicks.sql", &world.script(WINDOWS));
    let state = world.place("state");
    let away = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").to_string();
    let url = format!("http://{away}");
    let (code, _, err) = told(&millstream(&["run", &script, "--state", &state, "--progress", "none", "--otel", &url]));
    assert_eq!((code, err.matches("warning: traces cannot be sent").count()), (0, 1), "{err}");
    assert_eq!(world.out().len(), 5, "the rows are there");
    for wrong in ["https://collector:4318", "collector", "http://ann:hunter2@collector"] {
        let (code, _, err) = told(&millstream(&["run", "-e", "SELECT 1", "--otel", wrong]));
        assert!(code == 2 && err.contains("--otel cannot be"), "{code} {err}");
    }
}
