//! What may happen between a client and a server, on the way to the real one.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Copy)]
pub enum Fault {
    /// None: for this request all goes well.
    Pass,
    /// The request arrives, its answer does not.
    LoseAnswer,
    /// The request arrives, and the answer says that the server is overloaded.
    LoseAnswerTo503,
    /// The request does not arrive; this is the answer.
    Answer(&'static str, &'static str),
    /// The request does not arrive, and nobody answers.
    Silence,
    /// The connection is reset in the middle of the answer's body.
    CutBody,
    /// All goes well, slowly.
    Slow(Duration),
}

#[derive(Default)]
struct State {
    faults: HashMap<String, Vec<Fault>>,
    /// For requests whose first line has a text in it.
    aimed: Vec<(String, String, Fault)>,
    seen: HashMap<String, usize>,
    /// Bytes of the answers to requests with a method.
    answered: HashMap<String, usize>,
    /// The ranges that were asked for.
    ranges: Vec<String>,
    /// Connections that nobody answers, kept open.
    silent: Vec<TcpStream>,
}

pub struct Proxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// In front of the server at AWS_ENDPOINT_URL, which has to be one without TLS.
    pub fn start() -> Proxy {
        let server = std::env::var("AWS_ENDPOINT_URL").expect("the server of the tests has an address");
        let server = server.strip_prefix("http://").expect("a server without TLS").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        // Lives as long as the test's process; each request has a connection of its own.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, server) = (shared.clone(), server.clone());
                std::thread::spawn(move || drop(serve(client, &server, &state)));
            }
        });
        Proxy { port, state }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The next request with this method that has no fault yet gets this one.
    pub fn next(&self, method: &str, fault: Fault) {
        self.state.lock().unwrap().faults.entry(method.to_owned()).or_default().push(fault);
    }

    /// The next request with this method, and this text in its first line, gets this one.
    pub fn next_at(&self, method: &str, part: &str, fault: Fault) {
        self.state.lock().unwrap().aimed.push((method.to_owned(), part.to_owned(), fault));
    }

    /// Bytes of the answers to requests with this method so far.
    pub fn answered(&self, method: &str) -> usize {
        self.state.lock().unwrap().answered.get(method).copied().unwrap_or(0)
    }

    /// The ranges that have been asked for, as their headers have them.
    pub fn ranges(&self) -> Vec<String> {
        self.state.lock().unwrap().ranges.clone()
    }

    /// Requests with this method so far.
    pub fn seen(&self, method: &str) -> usize {
        self.state.lock().unwrap().seen.get(method).copied().unwrap_or(0)
    }
}

fn serve(mut client: TcpStream, server: &str, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().expect("a length is a number");
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let method = head[0].split(' ').next().unwrap_or_default().to_owned();
    let fault = {
        let mut state = state.lock().unwrap();
        *state.seen.entry(method.clone()).or_default() += 1;
        let range = head.iter().filter_map(|line| line.split_once(':'));
        let range = range.filter(|(name, _)| name.eq_ignore_ascii_case("range")).map(|(_, of)| of.trim().to_owned());
        let range: Vec<String> = range.collect();
        state.ranges.extend(range);
        let aimed = state.aimed.iter().position(|(of, part, _)| *of == method && head[0].contains(part.as_str()));
        let fault = match aimed {
            Some(at) => Some(state.aimed.remove(at).2),
            None => {
                let faults = state.faults.entry(method.clone()).or_default();
                (!faults.is_empty()).then(|| faults.remove(0))
            }
        };
        if let Some(Fault::Silence) = fault {
            state.silent.push(client.try_clone()?);
            return Ok(());
        }
        fault
    };
    if let Some(Fault::Answer(status, body)) = fault {
        return answer(&mut client, status, body);
    }
    if let Some(Fault::Slow(pause)) = fault {
        std::thread::sleep(pause);
    }
    let mut to = TcpStream::connect(server)?;
    for line in &head {
        if !line.to_ascii_lowercase().starts_with("connection:") {
            to.write_all(line.as_bytes())?;
        }
    }
    to.write_all(b"connection: close\r\n\r\n")?;
    to.write_all(&body)?;
    let mut answered = Vec::new();
    to.read_to_end(&mut answered)?;
    *state.lock().unwrap().answered.entry(method).or_default() += answered.len();
    match fault {
        Some(Fault::LoseAnswer) => client.shutdown(Shutdown::Both),
        Some(Fault::LoseAnswerTo503) => answer(&mut client, "503 Slow Down", ""),
        Some(Fault::CutBody) => {
            let head = answered.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
            client.write_all(&answered[..head + (answered.len() - head) / 2])?;
            client.shutdown(Shutdown::Both)
        }
        _ => {
            client.write_all(&answered)?;
            client.shutdown(Shutdown::Both)
        }
    }
}

fn answer(client: &mut TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(client, "HTTP/1.1 {status}\r\netag: \"1\"\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")?;
    client.shutdown(Shutdown::Both)
}
