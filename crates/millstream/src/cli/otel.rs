//! Checkpoints and starts of jobs as OpenTelemetry traces: OTLP over HTTP, in JSON, to a collector of one's own.
//!
//! ```text
//!  checkpoint (one trace each)  ├─ align ─┤                 from its beginning until every task has lined up and handed over
//!                                  ├─ write ─┤              from the first that has until all of it is written
//!                                            ├─ manifest ─┤
//!                                                         ├─ commit ─┤
//!  job start                    from the statement's turn until its tasks run; which run of the job it is
//! ```
//!
//! A thread sends; nobody waits for it. What it cannot send is tried again a few times, then told once and left out: traces are
//! for looking at, and nothing depends on them. The collector stands on this machine or in this network: there is no TLS here.

use super::log::{Event, Level};
use millstream::{CheckpointTrace, Error, Result};
use millstream_core::RetryPolicy;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Requests that wait to be sent. What comes beyond that is left out.
const WAITING_MAX: usize = 64;
/// For a connection, and for each part of an answer.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: RetryPolicy =
    RetryPolicy { first: Duration::from_millis(200), most: Duration::from_secs(2), tries_max: 3 };
/// Where OTLP over HTTP is spoken, and what is asked of it.
const PORT: u16 = 4318;
const PATH: &str = "/v1/traces";
/// `SPAN_KIND_INTERNAL`, and how a span ended.
const INTERNAL: u8 = 1;
const STATUS_OK: u8 = 1;
const STATUS_ERROR: u8 = 2;

/// Sends traces until it is dropped; then what waits is still sent.
pub struct Tracer {
    /// `None` only while it is dropped.
    send: Option<SyncSender<Value>>,
    thread: Option<JoinHandle<()>>,
}

impl Tracer {
    /// To the collector at `http://HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// It is no such URL.
    pub fn start(url: &str) -> Result<Tracer> {
        let wrong = || {
            // It may hold a login.
            let shown = url.rsplit_once('@').map_or(url, |(_, host)| host);
            Error::usage(format!("--otel cannot be '{shown}'"))
                .remedy("give the collector's URL without a login, such as http://localhost:4318; for TLS let one on this machine pass it on")
        };
        let rest = url.strip_prefix("http://").filter(|r| !r.contains('@')).ok_or_else(wrong)?;
        let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path.trim_end_matches('/')));
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:{PORT}") };
        if host.is_empty() {
            return Err(wrong());
        }
        let path = if path.is_empty() { PATH.to_owned() } else { format!("/{path}{PATH}") };
        let (send, waiting) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("millstream-otel".to_owned());
        let thread = thread.spawn(move || run(&waiting, &address, &path));
        let thread = thread.map_err(|e| Error::io(format!("cannot start a thread for traces: {e}")))?;
        Ok(Tracer { send: Some(send), thread: Some(thread) })
    }

    pub fn checkpoint(&self, job: &str, generation: u64, trace: &CheckpointTrace) {
        let CheckpointTrace { epoch, began, first_saved, last_saved, written, manifest, ended, given_up } = trace;
        let id = id(&format!("{job}/{generation}/checkpoint/{epoch}"));
        let mut whole = span(&id, "checkpoint", None, (*began, *ended));
        whole["attributes"] = json!([text("job", job), number("epoch", *epoch), number("generation", generation)]);
        whole["status"] = match given_up {
            None => json!({ "code": STATUS_OK }),
            Some(why) => json!({ "code": STATUS_ERROR, "message": why }),
        };
        let steps = [
            ("align", began, last_saved),
            ("write", first_saved, written),
            ("manifest", written, manifest),
            ("commit", manifest, ended),
        ];
        // What came after the step at which it was given up has not been.
        let reached = if given_up.is_some() { 2 } else { steps.len() };
        let mut spans = vec![whole];
        spans.extend(
            steps[..reached].iter().map(|(name, from, to)| span(&id, name, Some("checkpoint"), (**from, **to))),
        );
        self.put(spans);
    }

    pub fn start_of(&self, job: &str, generation: u64, from: i64, to: i64) {
        let id = id(&format!("{job}/{generation}/start/{from}"));
        let mut whole = span(&id, "job start", None, (from, to));
        let restart = json!({ "key": "restart", "value": { "boolValue": generation > 1 } });
        whole["attributes"] = json!([text("job", job), number("generation", generation), restart]);
        self.put(vec![whole]);
    }

    fn put(&self, spans: Vec<Value>) {
        let resource = json!([text("service.name", "millstream"), text("service.version", env!("CARGO_PKG_VERSION"))]);
        let request = json!({ "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{ "scope": { "name": "millstream" }, "spans": spans }],
        }]});
        // Full: the collector is away, which has been or will be told.
        let _ = self.send.as_ref().map(|send| send.try_send(request));
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        drop(self.send.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sixteen bytes that no other trace has.
fn id(name: &str) -> String {
    let half = |salt: &str| xxhash_rust::xxh3::xxh3_64(format!("{salt}{name}").as_bytes());
    format!("{:016x}{:016x}", half("a"), half("b"))
}

fn span(trace: &str, name: &str, parent: Option<&str>, (from, to): (i64, i64)) -> Value {
    let span_id = |name: &str| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(format!("{trace}{name}").as_bytes()));
    let nanos = |millis: i64| (i128::from(millis) * 1_000_000).to_string();
    json!({
        "traceId": trace,
        "spanId": span_id(name),
        "parentSpanId": parent.map(span_id).unwrap_or_default(),
        "name": name,
        "kind": INTERNAL,
        "startTimeUnixNano": nanos(from),
        "endTimeUnixNano": nanos(to.max(from)),
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// 64-bit numbers are text in protobuf's JSON.
fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn run(waiting: &Receiver<Value>, address: &str, path: &str) {
    let mut told = false;
    // Once it has been given up, each request has one try: at the end nobody is to wait for a minute.
    while let Ok(request) = waiting.recv() {
        let mut tries = RetryPolicy { tries_max: if told { 1 } else { RETRY.tries_max }, ..RETRY }.tries(address);
        while let Err(why) = post(address, path, &request.to_string()) {
            match tries.after_failure() {
                Some(pause) => std::thread::sleep(pause),
                None if std::mem::replace(&mut told, true) => break,
                None => {
                    let what = format!("traces cannot be sent to {address}: {why}");
                    let remedy = "see that the collector takes OTLP over HTTP there; the job goes on without";
                    let text = format!("warning: {what}\n  help: {remedy}");
                    Event::new(Level::Warn, what).with("remedy", remedy).say(&text);
                    break;
                }
            }
        }
    }
}

fn post(address: &str, path: &str, body: &str) -> std::io::Result<()> {
    let other = |what: String| std::io::Error::other(what);
    let to = address.to_socket_addrs()?.next().ok_or_else(|| other("the host has no address".to_owned()))?;
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )?;
    // The status is in the first bytes, and says all.
    let (mut answer, mut filled) = ([0; 512], 0);
    while filled < answer.len() && !answer[..filled].contains(&b'\n') {
        match stream.read(&mut answer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    let line = String::from_utf8_lossy(&answer[..filled]);
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        Some(status) => Err(other(format!("it answers {status}"))),
        None => Err(other("it does not answer in HTTP".to_owned())),
    }
}
