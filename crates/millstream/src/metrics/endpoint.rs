//! Where the board can be read over HTTP: `GET /metrics`, `/health` and `/ready`, and nothing else.
//!
//! One thread serves all who ask. It holds no more than [`CONNECTIONS_MAX`] connections, each for [`REQUEST_MAX`] at the
//! longest and with a request of at most [`REQUEST_BYTES_MAX`]; whoever comes beyond that waits in the system's queue. A
//! connection serves one request. So somebody who is slow, or means ill, costs the job nothing but this.
//!
//! There is no TLS and no login here: listen where only those who may read it come to.

use super::Board;
use millstream_core::{Error, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 16;

/// From a connection's beginning to the last byte of the answer.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// A request's line and headers.
const REQUEST_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;

/// The wait before a new connection is asked for again, where the system has no more handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN_TYPE: &str = "text/plain; charset=utf-8";

/// Serves a board until it is dropped.
pub struct Endpoint {
    address: SocketAddr,
    /// `None` only while it is dropped: that ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Listens at `HOST:PORT`; `:PORT` is every address of this machine, port 0 one that is free.
    ///
    /// # Errors
    /// The address is none, or cannot be had.
    pub fn open(address: &str, board: Arc<Board>) -> Result<Endpoint> {
        let wanted = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
        let cannot = |what: &str, e: std::io::Error| {
            Error::io(format!("cannot {what} {address} for metrics: {e}"))
                .remedy("choose another address, such as --metrics 127.0.0.1:9090, or port 0 for one that is free")
        };
        let listener = std::net::TcpListener::bind(&wanted).map_err(|e| cannot("listen at", e))?;
        let bound = listener.set_nonblocking(true).and_then(|()| listener.local_addr());
        let bound = bound.map_err(|e| cannot("listen at", e))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|e| cannot("serve", e))?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                // Registered with this thread's reactor; that fails only where there is none.
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, board) => {}
                    // Sent or dropped: either way nobody wants it any more.
                    _ = stopped => {}
                }
            });
            // Whoever is still being served is cut off.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("millstream-metrics".to_owned()).spawn(serve);
        let thread = thread.map_err(|e| cannot("start a thread to serve", e))?;
        Ok(Endpoint { address: bound, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked, and has said so; the job goes on without it.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, board: Arc<Board>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let board = board.clone();
                tokio::spawn(async move {
                    // Too slow, or gone: it has had its time.
                    let _ = timeout(REQUEST_MAX, serve(stream, &board)).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(mut stream: TcpStream, board: &Board) -> std::io::Result<()> {
    let (mut request, mut filled) = (vec![0; REQUEST_BYTES_MAX], 0);
    let answer = loop {
        let read = stream.read(&mut request[filled..]).await?;
        filled += read;
        match answer(&request[..filled], board) {
            Some(answer) => break answer,
            None if filled == request.len() => {
                break Answer::plain("431 Request Header Fields Too Large", "too large\n");
            }
            // Gone in the middle of it.
            None if read == 0 => return Ok(()),
            None => {}
        }
    };
    stream.write_all(answer.to_text().as_bytes()).await?;
    stream.shutdown().await
}

struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
    /// The headers alone, as for `HEAD`.
    bare: bool,
}

impl Answer {
    fn plain(status: &'static str, body: &str) -> Answer {
        Answer { status, kind: PLAIN_TYPE, body: body.to_owned(), bare: false }
    }

    fn to_text(&self) -> String {
        let Answer { status, kind, body, bare } = self;
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let length = body.len();
        let shown = if *bare { "" } else { body.as_str() };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n{shown}"
        )
    }
}

/// The answer to a request; `None`: there is more of it to come.
fn answer(request: &[u8], board: &Board) -> Option<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(request) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Some(Answer::plain("400 Bad Request", "not a request of HTTP/1\n")),
    }
    let bare = match parsed.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Some(Answer::plain("405 Method Not Allowed", "there is only something to read here\n")),
    };
    let path = parsed.path.unwrap_or_default();
    let told = |yes: bool, good: &str, bad: &str| match yes {
        true => Answer::plain("200 OK", good),
        false => Answer::plain("503 Service Unavailable", bad),
    };
    let answer = match path.split_once('?').map_or(path, |(path, _)| path) {
        "/metrics" => Answer { status: "200 OK", kind: METRICS_TYPE, body: board.text(), bare },
        "/health" => told(board.lives(), "alive\n", "the job has failed\n"),
        "/ready" => told(board.is_ready(), "ready\n", "no job takes in rows\n"),
        _ => Answer::plain("404 Not Found", "there are /metrics, /health and /ready\n"),
    };
    Some(Answer { bare, ..answer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::time::Instant;

    fn asked(address: SocketAddr, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).expect("somebody listens");
        stream.write_all(request.as_bytes()).expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    }

    #[test]
    fn what_is_asked_for_is_answered_and_anything_else_refused() {
        let board = Arc::new(Board::default());
        let endpoint = Endpoint::open("127.0.0.1:0", board.clone()).expect("there is a free port");
        let get = |path: &str| asked(endpoint.address(), &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let status = |path: &str| get(path).split(' ').nth(1).map(str::to_owned).expect("a status");
        assert_eq!(
            ["/metrics", "/health", "/ready", "/", "/metrics/"].map(status),
            ["200", "200", "503", "404", "404"]
        );
        board.runs("job", Arc::new(millstream_runtime::Metrics::default()));
        assert_eq!(["/health?x=1", "/ready"].map(status), ["200", "200"]);
        assert!(get("/metrics").contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        board.stops();
        assert_eq!(["/health", "/ready"].map(status), ["200", "503"]);
        board.has_ended();
        assert_eq!(["/health", "/ready"].map(status), ["200", "503"], "another may follow");
        board.has_failed();
        assert_eq!(["/health", "/ready", "/metrics"].map(status), ["503", "503", "200"]);
        let head = asked(endpoint.address(), "HEAD /metrics HTTP/1.0\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let post = asked(endpoint.address(), "POST /metrics HTTP/1.1\r\n\r\n");
        assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("Allow: GET, HEAD\r\n"), "{post}");
        assert!(asked(endpoint.address(), "hello\r\n\r\n").starts_with("HTTP/1.1 400 "));
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(REQUEST_BYTES_MAX));
        assert!(asked(endpoint.address(), &long[..REQUEST_BYTES_MAX]).starts_with("HTTP/1.1 431 "));
    }

    #[test]
    fn those_who_say_nothing_hold_up_nobody_for_long() {
        let endpoint = Endpoint::open("127.0.0.1:0", Arc::new(Board::default())).expect("there is a free port");
        // Twice as many as there is room for, all of them in the middle of a request.
        let slow: Vec<_> = (0..2 * CONNECTIONS_MAX)
            .map(|_| {
                let mut stream = std::net::TcpStream::connect(endpoint.address()).expect("in the queue at least");
                stream.write_all(b"GET /met").expect("sent");
                stream
            })
            .collect();
        let began = Instant::now();
        let answer = asked(endpoint.address(), "GET /health HTTP/1.1\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(began.elapsed() < 4 * REQUEST_MAX, "{:?}", began.elapsed());
        drop(slow);
        let began = Instant::now();
        drop(endpoint);
        assert!(began.elapsed() < REQUEST_MAX, "it ends at once");
    }

    #[test]
    fn an_address_that_cannot_be_had_is_told_with_a_remedy() {
        let first = Endpoint::open("127.0.0.1:0", Arc::new(Board::default())).expect("there is a free port");
        for address in [first.address().to_string(), "no such host:1".to_owned(), "9090".to_owned()] {
            let e = Endpoint::open(&address, Arc::new(Board::default())).err().expect("refused");
            assert!(e.what().contains(&address) && e.help().is_some(), "{e}");
        }
    }
}
