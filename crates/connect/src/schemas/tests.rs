//! What is made of a registry's answers, among them those that a real one gives seldom: the server here plays an answer for each
//! request and knows nothing of schemas. What a real registry does is tested with one (`tests/kafka/schemas.rs`).

use super::*;
use millstream_core::ErrorKind;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

/// A request as it came: its first line, its login, its body.
#[derive(Debug, PartialEq)]
struct Request {
    line: String,
    login: Option<String>,
    body: String,
}

/// Plays these answers, and tells what was asked.
fn server(answers: Vec<(u16, &'static str)>) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for (status, answer) in answers {
            let (stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream);
            let (mut line, mut login, mut length) = (String::new(), None, 0);
            reader.read_line(&mut line).expect("a request");
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).expect("a header");
                let Some((name, value)) = header.trim().split_once(": ") else { break };
                match name.to_ascii_lowercase().as_str() {
                    "authorization" => login = Some(value.to_owned()),
                    "content-length" => length = value.parse().expect("a number"),
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
            let mut stream = reader.into_inner();
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(answer.as_bytes())).expect("answered");
            let line = line.trim().to_owned();
            let _ = tell.send(Request { line, login, body: String::from_utf8(body).expect("text") });
        }
    });
    (url, told)
}

fn options(url: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let more = more.iter().map(|(k, v)| (format!("value.avro-confluent.{k}"), v.to_string()));
    [("value.avro-confluent.url".to_owned(), url.to_owned())].into_iter().chain(more).collect()
}

fn registry(url: &str, more: &[(&str, &str)]) -> Registry {
    let options = options(url, more);
    let settings =
        Settings::of(&options, "value.avro-confluent.", Some("orders-value".into()), true).expect("valid options");
    let retry = RetryPolicy { first: Duration::from_millis(1), most: Duration::from_millis(1), tries_max: 3 };
    Registry { settings, kind: "AVRO", retry, known: Mutex::default() }
}

const INT: &str = r#"{"schema": "\"int\""}"#;

#[test]
fn a_schema_is_asked_for_once_and_again_where_the_server_was_in_trouble() {
    let (url, told) = server(vec![(503, "busy"), (429, ""), (200, INT)]);
    let registry = registry(&url, &[("basic-auth.user-info", "ann:secret")]);
    for _ in 0..3 {
        assert_eq!(registry.schema(17).expect("an answer"), Ok(Registered::alone("\"int\"")));
    }
    let requests: Vec<Request> = told.iter().collect();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests.iter().all(|r| r.line == "GET /schemas/ids/17 HTTP/1.1"));
    assert!(requests.iter().all(|r| r.login.as_deref() == Some("Basic YW5uOnNlY3JldA==")), "{requests:?}");
}

#[test]
fn what_makes_a_record_bad_is_no_error() {
    let why = |status, answer: &'static str| {
        let (url, _told) = server(vec![(status, answer)]);
        let why = registry(&url, &[]).schema(9).expect("an answer").expect_err("no schema");
        why.replace(&url, "URL")
    };
    assert_eq!(
        why(404, r#"{"error_code": 40403, "message": "Schema 9 not found"}"#),
        "the record was written with schema 9, which the registry at URL does not have: Schema 9 not found"
    );
    assert!(
        why(200, r#"{"schemaType": "PROTOBUF", "schema": "syntax"}"#).contains("schema 9 of the registry is PROTOBUF")
    );
    assert!(
        why(200, r#"{"schema": "\"int\"", "references": [{"name": "a"}]}"#).contains("has a reference without a name")
    );
}

#[test]
fn a_registry_that_cannot_be_asked_is_an_error_that_names_it_and_no_secret() {
    // Nobody listens there: the port was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let gone = registry(&format!("http://ann:hidden@{free}"), &[]).schema(1).expect_err("nobody answers");
    assert_eq!(gone.kind(), ErrorKind::Io);
    let shown = format!("{gone} {:?}", gone.help());
    assert!(shown.contains(&format!("http://{free} was to give schema 1")) && shown.contains("in 3 tries"), "{shown}");
    assert!(shown.contains("value.avro-confluent.url") && !shown.contains("hidden"), "{shown}");

    let error = |status, answer: &'static str, more: &[(&str, &str)]| {
        let (url, _told) = server(vec![(status, answer)]);
        let error = registry(&url, more).schema(1).expect_err("no schema");
        (error.kind(), format!("{error} {:?}", error.help()))
    };
    let (kind, shown) = error(401, "Unauthorized", &[]);
    assert!(kind == ErrorKind::Usage && shown.contains("wants a login, and none was given"), "{shown}");
    let (_, shown) = error(403, "token of hidden", &[("bearer-auth.token", "hidden")]);
    assert!(shown.contains("does not take the login") && !shown.contains("hidden"), "{shown}");
    let (_, shown) = error(418, "I am hidden", &[("basic-auth.user-info", "ann:hidden")]);
    assert!(shown.contains("status 418: I am ***"), "{shown}");
    let (_, shown) = error(200, "<html>welcome</html>", &[]);
    assert!(shown.contains("<html>welcome"), "{shown}");
}

#[test]
fn several_addresses_are_tried_in_turn() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let (url, _told) = server(vec![(200, INT)]);
    let registry = registry(&format!("http://{free}, {url}/"), &[]);
    assert_eq!(registry.schema(1).expect("an answer"), Ok(Registered::alone("\"int\"")));
}

#[test]
fn a_schema_is_registered_under_its_subject() {
    let (url, told) = server(vec![(200, r#"{"id": 258}"#)]);
    assert_eq!(registry(&url, &[("subject", "a/b c")]).register("\"int\"").expect("registered"), 258);
    let request = told.recv().expect("asked");
    assert_eq!(request.line, "POST /subjects/a%2Fb%20c/versions HTTP/1.1");
    assert_eq!(request.body, r#"{"schema":"\"int\""}"#);
    // Only looked up.
    let (url, told) = server(vec![(200, r#"{"subject": "orders-value", "id": 3, "version": 1, "schema": "\"int\""}"#)]);
    let looked_up = registry(&url, &[("properties.auto.register.schemas", "false")]);
    assert_eq!(looked_up.register("\"int\"").expect("there"), 3);
    assert_eq!(told.recv().expect("asked").line, "POST /subjects/orders-value HTTP/1.1");
}

#[test]
fn a_registration_that_is_refused_says_why_and_what_to_do() {
    let refused = |status, answer: &'static str, more: &[(&str, &str)]| {
        let (url, _told) = server(vec![(status, answer)]);
        let error = registry(&url, more).register("\"int\"").expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Usage);
        format!("{error} {:?}", error.help())
    };
    let shown =
        refused(409, r#"{"error_code": 409, "message": "READER_FIELD_MISSING_DEFAULT_VALUE at\n/fields/1"}"#, &[]);
    assert!(
        shown.contains("subject 'orders-value'") && shown.contains("READER_FIELD_MISSING_DEFAULT_VALUE at /fields/1"),
        "{shown}"
    );
    let shown = refused(
        404,
        r#"{"error_code": 40403, "message": "Schema not found"}"#,
        &[("properties.auto.register.schemas", "false")],
    );
    assert!(shown.contains("does not have the table's schema"), "{shown}");
    let shown = refused(422, r#"{"error_code": 42201, "message": "Invalid"}"#, &[]);
    assert!(shown.contains("takes the table's schema for none: Invalid"), "{shown}");
}

#[test]
fn options_say_what_is_wrong_with_them_before_anything_is_asked() {
    let wrong = |url: &str, more: &[(&str, &str)]| {
        let error = Settings::of(&options(url, more), "value.avro-confluent.", None, true).expect_err("refused");
        format!("{error} {:?}", error.help())
    };
    assert!(wrong("", &[]).contains("needs the option 'value.avro-confluent.url'"));
    let shown = wrong("ftp://ann:hidden@host", &[]);
    assert!(shown.contains("names no address of HTTP") && !shown.contains("hidden"), "{shown}");
    assert!(wrong("http://", &[]).contains("names no host"));
    assert!(wrong(",", &[]).contains("names no registry"));
    let shown = wrong("http://a", &[("basic-auth.user-info", "hidden")]);
    assert!(shown.contains("is no login") && !shown.contains("hidden"), "{shown}");
    assert!(wrong("http://a", &[("basic-auth.credentials-source", "SASL_INHERIT")]).contains("use 'USER_INFO'"));
    assert!(wrong("http://a", &[("basic-auth.user-info", "a:b"), ("bearer-auth.token", "c")]).contains("both set"));
    let shown = wrong("http://a", &[("bearer-auth.token", "${MILLSTREAM_NO_SUCH_VARIABLE}")]);
    assert!(shown.contains("MILLSTREAM_NO_SUCH_VARIABLE, which is not set"), "{shown}");
    let settings =
        Settings::of(&options("https://u:p@a:8081/x/", &[]), "value.avro-confluent.", None, true).expect("valid");
    assert_eq!(settings.shown(), "https://a:8081/x");
    assert_eq!(format!("{:?}", settings.login), "Basic(***, ***)");
}

#[test]
fn what_is_kept_is_bounded() {
    let answers = (0..SCHEMAS_MAX + 2).map(|_| (200, INT)).collect();
    let (url, _told) = server(answers);
    let registry = registry(&url, &[]);
    for id in 0..SCHEMAS_MAX as u32 + 1 {
        registry.schema(id).expect("an answer").expect("a schema");
    }
    assert_eq!(registry.known.lock().expect("whole").schemas.len(), 1);
}

#[test]
fn what_a_schema_refers_to_is_asked_for_with_it_each_once() {
    let (url, told) = server(vec![
        (
            200,
            r#"{"schema": "A", "references": [{"name": "b", "subject": "of/b", "version": 2}, {"name": "c", "subject": "c", "version": 1}]}"#,
        ),
        (
            200,
            r#"{"schema": "B", "subject": "of/b", "version": 2, "references": [{"name": "c", "subject": "c", "version": 1}]}"#,
        ),
        (200, r#"{"schema": "C", "subject": "c", "version": 1}"#),
    ]);
    let schema = registry(&url, &[]).schema(5).expect("an answer").expect("a schema");
    // Each behind what it needs.
    assert_eq!(schema.references, [("c".to_owned(), "C".to_owned()), ("b".to_owned(), "B".to_owned())]);
    assert_eq!(schema.text, "A");
    let lines: Vec<String> = told.iter().map(|r| r.line).collect();
    assert_eq!(
        lines,
        [
            "GET /schemas/ids/5 HTTP/1.1",
            "GET /subjects/of%2Fb/versions/2 HTTP/1.1",
            "GET /subjects/c/versions/1 HTTP/1.1"
        ]
    );
    let ring = r#"{"schema": "A", "references": [{"name": "a", "subject": "a", "version": 1}]}"#;
    let (url, _told) = server(vec![(200, ring); REFERENCES_DEPTH_MAX + 2]);
    let why = registry(&url, &[]).schema(5).expect("an answer").expect_err("no end");
    assert!(why.contains("schema 5 of the registry refers to more than"), "{why}");
    let (url, _told) = server(vec![(200, ring), (404, r#"{"message": "gone"}"#)]);
    let why = registry(&url, &[]).schema(5).expect("an answer").expect_err("not there");
    assert!(why.contains("refers to version 1 of the subject 'a', which is not there: gone"), "{why}");
}

#[test]
fn a_schema_of_another_kind_is_registered_and_asked_for_as_such() {
    let (url, told) =
        server(vec![(200, r#"{"id": 3}"#), (200, r#"{"schemaType": "PROTOBUF", "schema": "syntax"}"#), (200, INT)]);
    let registry = Registry { kind: "PROTOBUF", ..registry(&url, &[]) };
    assert_eq!(registry.register("syntax = \"proto3\";").expect("registered"), 3);
    assert_eq!(told.recv().expect("asked").body, r#"{"schema":"syntax = \"proto3\";","schemaType":"PROTOBUF"}"#);
    assert_eq!(registry.schema(1).expect("an answer"), Ok(Registered::alone("syntax")));
    let why = registry.schema(2).expect("an answer").expect_err("of Avro");
    assert_eq!(why, "schema 2 of the registry is AVRO, and the table's format reads PROTOBUF");
}

/// A server of TLS that is openssl's own; `None` where that is not installed, which is a failure in CI.
struct TlsServer {
    child: std::process::Child,
    dir: tempfile::TempDir,
    url: String,
}

impl TlsServer {
    fn start() -> Option<TlsServer> {
        let dir = tempfile::TempDir::new().expect("a folder");
        let openssl = |arguments: &[&str]| {
            let mut command = std::process::Command::new("openssl");
            command.args(arguments).current_dir(dir.path()).stdin(std::process::Stdio::null());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            command
        };
        let make = |arguments: &str| openssl(&arguments.split(' ').collect::<Vec<_>>()).status();
        if make("version").is_err() {
            assert!(std::env::var_os("CI").is_none(), "openssl is not installed, and CI must not skip");
            let _ = writeln!(std::io::stderr(), "!! SKIPPED: openssl is not installed");
            return None;
        }
        std::fs::write(dir.path().join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1").expect("written");
        std::fs::create_dir_all(dir.path().join("schemas/ids")).expect("made");
        std::fs::write(dir.path().join("schemas/ids/1"), format!("HTTP/1.0 200 OK\r\n\r\n{INT}")).expect("written");
        for line in [
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca",
            "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -set_serial 2 -days 2 -out server.pem -extfile names",
            "req -newkey rsa:2048 -nodes -keyout client.key -out client.csr -subj /CN=client",
            "x509 -req -in client.csr -CA ca.pem -CAkey ca.key -set_serial 3 -days 2 -out client.pem -extfile names",
        ] {
            assert!(make(line).expect("openssl runs").success(), "openssl {line}");
        }
        let read = |name: &str| std::fs::read(dir.path().join(name)).expect("made");
        std::fs::write(dir.path().join("own.pem"), [read("client.pem"), read("client.key")].concat()).expect("written");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        // -HTTP gives the file that a path names; -Verify wants a certificate of whoever asks.
        let line = format!(
            "s_server -accept {port} -cert server.pem -key server.key -HTTP -Verify 1 -CAfile ca.pem -verify_return_error -quiet"
        );
        let child = openssl(&line.split(' ').collect::<Vec<_>>()).spawn().expect("started");
        let server = TlsServer { child, url: format!("https://localhost:{port}"), dir };
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_registry_over_tls_is_believed_by_its_certificate_and_believes_ours() {
    let Some(server) = TlsServer::start() else { return };
    let (trusted, own) = (server.path("ca.pem"), server.path("own.pem"));
    let both = [("ssl.truststore.location", trusted.as_str()), ("ssl.keystore.location", own.as_str())];
    assert_eq!(registry(&server.url, &both).schema(1).expect("an answer"), Ok(Registered::alone("\"int\"")));
    // Whom nothing is known of is not believed; and it lets nobody in who does not say who they are.
    let error = registry(&server.url, &both[1..]).schema(1).expect_err("not believed").to_string();
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    let error = registry(&server.url, &both[..1]).schema(1).expect_err("not let in").to_string();
    assert!(error.contains("could not be asked in 3 tries"), "{error}");
}

#[test]
fn certificates_that_cannot_be_used_are_said_by_their_option_and_nothing_of_them_is_shown() {
    let dir = tempfile::TempDir::new().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let wrong = |url: &str, key: &str, value: &str, secrets: bool| {
        let error = Settings::of(&options(url, &[(key, value)]), "value.avro-confluent.", None, secrets);
        error.map(drop).map_err(|e| format!("{e} {:?}", e.help()))
    };
    let store = file("store.jks", "\u{fe}hidden");
    let shown = wrong("https://a", "ssl.truststore.location", &store, true).expect_err("a store of Java");
    assert!(
        shown.contains("'value.avro-confluent.ssl.truststore.location'") && shown.contains("is no file of PEM"),
        "{shown}"
    );
    assert!(!shown.contains("hidden"), "{shown}");
    // Checked without its files, it may be in order.
    assert_eq!(wrong("https://a", "ssl.truststore.location", &store, false), Ok(()));
    assert!(
        wrong("https://a", "ssl.truststore.location", "/no/such", true).expect_err("none").contains("is not there")
    );
    let lone = file("lone.pem", "-----BEGIN CERTIFICATE-----\nhidden\n-----END CERTIFICATE-----\n");
    let shown = wrong("https://a", "ssl.keystore.location", &lone, true).expect_err("no key");
    assert!(shown.contains("there is no private key in") && !shown.contains("hidden"), "{shown}");
    let shown = wrong("http://a", "ssl.keystore.location", &lone, true).expect_err("not over TLS");
    assert!(shown.contains("no address of the registry begins with https://"), "{shown}");
    let shown = wrong("https://a", "ssl.keystore.password", "hidden", true).expect_err("of Java");
    assert!(shown.contains("is for a store of Java") && !shown.contains("hidden"), "{shown}");
    let key = file("own.pem", "-----BEGIN CERTIFICATE-----\nhidden\n-----BEGIN PRIVATE KEY-----\nhidden\n");
    let settings =
        Settings::of(&options("https://a", &[("ssl.keystore.location", &key)]), "value.avro-confluent.", None, true);
    assert!(!format!("{:?}", settings.expect("not looked into")).contains("hidden"));
}
