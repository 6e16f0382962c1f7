//! What needs no server, and what does: `./dev servers cargo test -p millstream-connect store::bucket`.
//!
//! Each test has a prefix of its own. What goes wrong on the way to the server, a proxy does: the server behind it is real.

use super::lock::{Held, take_beating};
use super::*;
use crate::s3::proxy::{Fault, Proxy};
use crate::s3::{LOCK_REQUEST_MAX, LOCK_TRIES_MAX, PATH_STYLE, SHOWN_MAX, parse, without};
use crate::store::tests::contract;
use crate::store::{OWNER, Owner};
use millstream_core::ErrorKind;
use std::io::Write;
use std::process::Command;

/// URL of a bucket on a server that speaks S3; where that is and the keys are in the environment as AWS_...
const SERVER: &str = "MILLSTREAM_TEST_S3";

/// `KEY:SECRET` of somebody who may only read there.
pub(crate) const READER: &str = "MILLSTREAM_TEST_S3_READER";

const SECRET: &str = "verySecretKey";

/// `None` where this run has none, which is said loudly, and is a failure in CI.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|v| !v.is_empty());
    if value.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is not set, and CI must not skip");
        // Past the test harness, which shows what a test prints only if it fails.
        let _ = writeln!(std::io::stderr(), "!! SKIPPED: {name} is not set; run ./dev servers cargo test ..");
    }
    value
}

/// A place of its own in the bucket of the server.
pub(crate) fn on_server(name: &str) -> Option<String> {
    Some(format!("{}/{name}-{}", variable(SERVER)?, put_name()))
}

fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn with(options: &[(&str, &str)]) -> BTreeMap<String, String> {
    options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn open(url: &str) -> Bucket {
    Bucket::open(url, &none()).unwrap()
}

/// The place through the proxy.
fn through(url: &str, proxy: &Proxy) -> Bucket {
    Bucket::open(url, &with(&[("s3.endpoint", &proxy.url())])).unwrap()
}

fn nowhere() -> BTreeMap<String, String> {
    with(&[
        ("s3.endpoint", "http://127.0.0.1:1"),
        ("s3.endpoint.region", "us-east-1"),
        ("s3.access-key", "someAccessKey"),
        ("s3.secret-key", SECRET),
        ("s3.path-style-access", "true"),
    ])
}

fn refused<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(e) => e,
    }
}

fn says(e: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = format!("{e}\n{}", e.help().unwrap_or(""));
    assert_eq!(e.kind(), kind, "{text}");
    assert!(e.help().is_some(), "no remedy: {text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
    for secret in [std::env::var("AWS_SECRET_ACCESS_KEY").unwrap_or_default(), SECRET.to_owned()] {
        assert!(secret.is_empty() || !text.contains(&secret), "a secret is shown");
    }
}

#[test]
fn a_url_names_a_bucket_and_a_prefix_and_nothing_else() {
    assert_eq!(parse("s3://b").unwrap(), ("b".to_owned(), String::new()));
    assert_eq!(parse("s3://b/").unwrap(), ("b".to_owned(), String::new()));
    assert_eq!(parse("s3://b/jobs/one/").unwrap(), ("b".to_owned(), "jobs/one".to_owned()));
    for bad in [
        "s3://",
        "s3:///x",
        "s3://key:verySecretKey@b/x",
        "s3://b/x?secret=verySecretKey",
        "s3://b/a//b",
        "s3://b/../c",
        "s3://b/.hidden",
        "s3://b c/x",
    ] {
        says(&refused(parse(bad)), ErrorKind::Usage, &["s3://bucket/prefix"]);
    }
}

#[test]
fn options_are_checked_before_anything_is_asked() {
    let wrong = |name: &str, value: &str| {
        let mut options = nowhere();
        options.insert(name.to_owned(), value.to_owned());
        refused(Bucket::open("s3://b/x", &options))
    };
    says(&wrong("s3.acces-key", "x"), ErrorKind::Usage, &["'s3.acces-key'", "s3.access-key"]);
    says(&wrong(PATH_STYLE, "maybe"), ErrorKind::Usage, &["maybe"]);
    says(&wrong("s3.endpoint", "http://me:verySecretKey@host"), ErrorKind::Usage, &["keys do not belong there"]);
    says(&wrong("s3.endpoint", "localhost:9000"), ErrorKind::Usage, &["localhost:9000", "http://"]);
}

#[test]
fn a_server_that_is_not_there_is_named_and_secrets_are_not() {
    // Nobody listens there: the errors are those of real requests.
    let mut store = Bucket::open("s3://b/x", &nowhere()).unwrap();
    assert_eq!(store.name(), "s3://b/x");
    let inner = Arc::get_mut(&mut store.inner).expect("nobody else has it");
    // The patient client would take a quarter of a minute for each.
    inner.client = inner.lock_client.clone();
    let start = Instant::now();
    for e in [refused(store.lock("test")), refused(store.get("x")), refused(store.put("x", b"", Put::Create))] {
        says(&e, ErrorKind::Io, &["s3://b/x", "127.0.0.1:1", "refused", "AWS_ENDPOINT_URL"]);
        assert!(!e.to_string().contains("someAccessKey"), "{e}");
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert_eq!(without(&["abc".to_owned()], "key abc, again abc"), "key ***, again ***");
}

#[test]
fn of_an_error_of_s3_the_code_and_the_message_are_shown_and_not_the_request() {
    let xml = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>No match.</Message>\
               <CanonicalRequest>x-amz-security-token:verySecretKey</CanonicalRequest></Error>";
    let e = object_store::Error::Generic { store: "S3", source: format!("403 Forbidden: {xml}").into() };
    assert_eq!(said(&e), ("SignatureDoesNotMatch".to_owned(), "SignatureDoesNotMatch: No match.".to_owned()));
    let e = object_store::Error::Generic { store: "S3", source: "é".repeat(1_000).into() };
    assert!(said(&e).1.len() <= SHOWN_MAX, "an answer that is no error of S3 is cut");
}

#[test]
fn a_bucket_keeps_the_contract() {
    let Some(url) = on_server("contract") else { return };
    let store = open(&url);
    contract(&store);
    // A neighbour whose name begins alike is none of ours.
    open(&format!("{url}-beside")).put("x", b"", Put::Create).unwrap();
    assert!(store.list("").unwrap().iter().all(|s| s.path != "x"));
}

#[test]
fn a_listing_of_several_pages_is_whole() {
    let Some(url) = on_server("pages") else { return };
    let store = open(&url);
    // S3 lists a thousand at a time.
    std::thread::scope(|scope| {
        for part in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..260 {
                    store.put(&format!("data/{part}-{n:03}"), b"", Put::Replace).unwrap();
                }
            });
        }
    });
    let paths: Vec<String> = store.list("data/").unwrap().into_iter().map(|s| s.path).collect();
    let expected: Vec<String> = (0..4).flat_map(|p| (0..260).map(move |n| format!("data/{p}-{n:03}"))).collect();
    assert_eq!(paths, expected);
}

#[test]
fn it_may_be_called_from_within_an_executor() {
    let Some(url) = on_server("nested") else { return };
    let outer = tokio::runtime::Builder::new_current_thread().build().unwrap();
    outer.block_on(async {
        let store = open(&url);
        store.put("x", b"one", Put::Create).unwrap();
        assert_eq!(store.get("x").unwrap().as_deref(), Some(b"one".as_slice()));
    });
}

#[test]
fn a_create_whose_answer_was_lost_is_known_to_be_ours() {
    let Some(url) = on_server("lost") else { return };
    let proxy = Proxy::start();
    let store = through(&url, &proxy);
    proxy.next("PUT", Fault::LoseAnswer);
    assert_eq!(store.put("x", b"one", Put::Create).unwrap(), Stored::Yes);
    assert_eq!(proxy.seen("PUT"), 2, "it was repeated");
    // The same bytes of somebody else are not ours.
    assert_eq!(store.put("x", b"one", Put::Create).unwrap(), Stored::Exists);
    // Nor are they where our answer is lost and the name was taken before.
    proxy.next("PUT", Fault::LoseAnswer);
    assert_eq!(store.put("x", b"one", Put::Create).unwrap(), Stored::Exists);
    // Taken by the server, which then says that it is overloaded: the client repeats it by itself.
    proxy.next("PUT", Fault::LoseAnswerTo503);
    assert_eq!(store.put("y", b"two", Put::Create).unwrap(), Stored::Yes);
    assert_eq!(open(&url).get("y").unwrap().as_deref(), Some(b"two".as_slice()));
}

#[test]
fn a_conflict_of_a_put_and_a_removal_is_tried_again() {
    let Some(url) = on_server("conflict") else { return };
    let proxy = Proxy::start();
    let store = through(&url, &proxy);
    let conflict = "<Error><Code>ConditionalRequestConflict</Code><Message>Again.</Message></Error>";
    proxy.next("PUT", Fault::Answer("409 Conflict", conflict));
    assert_eq!(store.put("x", b"one", Put::Create).unwrap(), Stored::Yes);
    assert_eq!(open(&url).get("x").unwrap().as_deref(), Some(b"one".as_slice()));
}

#[test]
fn a_server_that_is_overloaded_is_asked_again() {
    let Some(url) = on_server("busy") else { return };
    let proxy = Proxy::start();
    let store = through(&url, &proxy);
    let slow_down = Fault::Answer("503 Slow Down", "<Error><Code>SlowDown</Code><Message>Slow.</Message></Error>");
    for method in ["PUT", "GET", "GET", "POST"] {
        proxy.next(method, slow_down);
        proxy.next(method, slow_down);
    }
    assert_eq!(store.put("x", b"one", Put::Replace).unwrap(), Stored::Yes);
    assert_eq!(store.get("x").unwrap().as_deref(), Some(b"one".as_slice()));
    assert_eq!(store.list("").unwrap().len(), 1);
    store.delete("x").unwrap();
    assert_eq!(open(&url).get("x").unwrap(), None);
    // Without an end, the lock says so after its few tries.
    (0..LOCK_TRIES_MAX).for_each(|_| proxy.next("PUT", slow_down));
    says(&refused(store.lock("test")), ErrorKind::Io, &["SlowDown", "overloaded"]);
}

#[test]
fn a_server_that_does_not_answer_ends_in_an_error() {
    let Some(url) = on_server("silent") else { return };
    let proxy = Proxy::start();
    let store = through(&url, &proxy);
    (0..10).for_each(|_| proxy.next("PUT", Fault::Silence));
    let start = Instant::now();
    says(&refused(store.lock("test")), ErrorKind::Io, &["cannot write", &proxy.url()]);
    assert!(start.elapsed() < LOCK_REQUEST_MAX * 3, "{:?}", start.elapsed());
}

#[test]
fn a_server_that_ignores_conditions_is_refused() {
    let Some(url) = on_server("plain") else { return };
    let proxy = Proxy::start();
    proxy.next("PUT", Fault::Pass);
    // The name is taken, and the server says that all went well.
    proxy.next("PUT", Fault::Answer("200 OK", ""));
    says(&refused(through(&url, &proxy).lock("test")), ErrorKind::Usage, &["If-None-Match", "conditional writes"]);
    assert!(open(&url).lock("test").is_ok(), "nothing stays behind");
}

#[test]
fn what_s3_refuses_is_said_with_its_remedy() {
    let Some(url) = on_server("refused") else { return };
    let missing = open("s3://there-is-no-such-bucket/x");
    for e in [
        refused(missing.get("x")),
        refused(missing.list("")),
        refused(missing.put("x", b"", Put::Create)),
        refused(missing.delete("x")),
        refused(missing.lock("test")),
    ] {
        says(&e, ErrorKind::Usage, &["there is no bucket `there-is-no-such-bucket`", "make the bucket first"]);
    }
    let keys = |key: &str, secret: &str| {
        Bucket::open(&url, &with(&[("s3.access-key", key), ("s3.secret-key", secret)])).unwrap()
    };
    let key = std::env::var("AWS_ACCESS_KEY_ID").unwrap();
    says(&refused(keys(&key, SECRET).lock("test")), ErrorKind::Io, &["SignatureDoesNotMatch", "secret key"]);
    says(&refused(keys("AKIDNOBODY", SECRET).list("")), ErrorKind::Io, &["InvalidAccessKeyId", "access key"]);
    let Some(reader) = variable(READER) else { return };
    let (key, secret) = reader.split_once(':').unwrap();
    let e = refused(keys(key, secret).lock("test"));
    says(&e, ErrorKind::Io, &["AccessDenied", "s3:PutObject"]);
    assert!(!e.to_string().contains(secret), "{e}");
}

#[test]
fn a_lock_is_refused_while_its_owner_lives_and_taken_over_after() {
    let Some(url) = on_server("lock") else { return };
    let (one, two) = (open(&url), open(&url));
    let lock = one.lock("millstream run clicks.sql").unwrap();
    let pid = format!("process {}", std::process::id());
    says(&refused(two.lock("another")), ErrorKind::Usage, &["in use by", "millstream run clicks.sql", &pid]);
    assert_eq!(one.list("").unwrap(), [], "the lock is no object");
    drop(lock);
    drop(two.lock("another").unwrap());

    // An owner that died without giving it back: a process of this machine that has ended.
    let mut ended = Command::new("true").spawn().unwrap();
    let pid = ended.id();
    ended.wait().unwrap();
    let dead = Held { owner: Owner { pid, ..Owner::this_process("crashed") }, beat: 7, taken_by: "x".to_owned() };
    let at = Path::parse(one.inner.key(OWNER)).unwrap();
    let leave = |held: &Held| {
        one.inner.put(&one.inner.client, &at, &held.to_json(), PutMode::Overwrite, &put_name()).unwrap();
    };
    leave(&dead);
    drop(two.lock("another").unwrap());

    // One of another machine may be alive.
    let owner = Owner { host: "elsewhere".to_owned(), ..dead.owner };
    leave(&Held { owner, ..dead });
    says(&refused(two.lock("another")), ErrorKind::Usage, &["elsewhere", "in a minute"]);
}

#[test]
fn a_lock_whose_answer_was_lost_is_taken_and_beats_on() {
    let Some(url) = on_server("beat") else { return };
    let proxy = Proxy::start();
    let store = through(&url, &proxy);
    proxy.next("PUT", Fault::LoseAnswer);
    let lock = take_beating(&store.inner, "one", Duration::from_millis(100)).unwrap();
    let at = Path::parse(store.inner.key(OWNER)).unwrap();
    let other = open(&url);
    let beat = || {
        let (s3, at) = (other.inner.client.s3.clone(), at.clone());
        let bytes = other.inner.thread.wait(async move { s3.get(&at).await?.bytes().await }).unwrap();
        serde_json::from_slice::<Held>(&bytes).unwrap().beat
    };
    let further = |than: u64| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while beat() <= than {
            assert!(Instant::now() < deadline, "it does not beat past {than}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    further(1);
    // A beat whose answer is lost is no reason to think that somebody else has the lock.
    proxy.next("PUT", Fault::LoseAnswer);
    further(beat() + 3);
    says(&refused(other.lock("two")), ErrorKind::Usage, &["in use by", "one"]);
    drop(lock);
    assert!(other.inner.look(&other.inner.client, &at).unwrap().is_none(), "it is given back");

    // Replaced by somebody who took it for dead: the first one neither writes nor removes it any more.
    let lock = take_beating(&store.inner, "one", Duration::from_millis(100)).unwrap();
    let stolen = Held { owner: Owner::this_process("thief"), beat: 0, taken_by: "thief".to_owned() };
    other.inner.put(&other.inner.client, &at, &stolen.to_json(), PutMode::Overwrite, "thief").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    drop(lock);
    says(&refused(store.lock("three")), ErrorKind::Usage, &["in use by", "thief"]);
}

#[test]
fn a_dead_owner_that_beats_after_all_is_not_replaced() {
    let Some(url) = on_server("aba") else { return };
    let store = open(&url);
    let at = Path::parse(store.inner.key(OWNER)).unwrap();
    let held = |beat| Held { owner: Owner::this_process("one"), beat, taken_by: "one".to_owned() }.to_json();
    let put = |bytes: &[u8], mode: PutMode| store.inner.put(&store.inner.client, &at, bytes, mode, "one");
    let seen = put(&held(1), PutMode::Create).unwrap();
    put(&held(2), PutMode::Update(seen.clone())).unwrap();
    // Who saw the first beat and waited may not replace the second.
    let mode = PutMode::Update(seen);
    assert!(store.inner.put_if(&store.inner.client, &at, b"{}", &mode, "two").unwrap().is_none());
}
