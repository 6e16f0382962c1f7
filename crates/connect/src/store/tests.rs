//! What every store promises, and what a folder adds.

use super::*;
use millstream_core::{ErrorKind, Put, Stored};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The promises of [`Store`], for any store that is empty at first.
pub(super) fn contract(store: &dyn Store) {
    let paths = |prefix: &str| store.list(prefix).unwrap().into_iter().map(|s| s.path).collect::<Vec<_>>();
    assert_eq!(paths(""), [""; 0]);
    assert_eq!(store.get("manifests/000000000001.json").unwrap(), None);
    store.delete("manifests/000000000001.json").unwrap();

    assert_eq!(store.put("manifests/000000000001.json", b"one", Put::Create).unwrap(), Stored::Yes);
    assert_eq!(store.put("manifests/000000000001.json", b"two", Put::Create).unwrap(), Stored::Exists);
    assert_eq!(store.get("manifests/000000000001.json").unwrap().as_deref(), Some(b"one".as_slice()));
    assert_eq!(store.put("manifests/000000000001.json", b"three", Put::Replace).unwrap(), Stored::Yes);
    assert_eq!(store.get("manifests/000000000001.json").unwrap().as_deref(), Some(b"three".as_slice()));

    for path in ["data/2-a", "data/10-a", "data/2-b/deep", "top", "data-not"] {
        assert_eq!(store.put(path, path.as_bytes(), Put::Replace).unwrap(), Stored::Yes);
    }
    // `-` sorts before `/`: by whole paths, not folder by folder.
    let all = ["data-not", "data/10-a", "data/2-a", "data/2-b/deep", "manifests/000000000001.json", "top"];
    assert_eq!(paths(""), all);
    assert_eq!(paths("data/"), all[1..4]);
    assert_eq!(paths("data/2"), all[2..4]);
    assert_eq!(paths("data/2-b/"), all[3..4]);
    assert_eq!(paths("nothing/"), [""; 0]);
    let stats = store.list("data/10").unwrap();
    assert_eq!(stats[0].bytes, 9);
    let age = now() - stats[0].modified;
    assert!(age.abs() < 120_000, "modified {age} ms ago");

    let large: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    store.put("data/large", &large, Put::Create).unwrap();
    assert_eq!(store.get("data/large").unwrap().unwrap(), large);
    store.put("data/empty", b"", Put::Create).unwrap();
    assert_eq!(store.get("data/empty").unwrap().unwrap(), b"");

    store.delete("data/large").unwrap();
    store.delete("data/large").unwrap();
    assert_eq!(store.get("data/large").unwrap(), None);
    assert_eq!(store.put("data/large", b"again", Put::Create).unwrap(), Stored::Yes);

    for bad in ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", ".tmp/x", "a/.hidden", "a\\b"] {
        assert!(store.put(bad, b"", Put::Replace).is_err(), "{bad}");
        assert!(store.get(bad).is_err(), "{bad}");
        assert!(store.delete(bad).is_err(), "{bad}");
    }
    of_many_creates_one_wins(store);
}

fn of_many_creates_one_wins(store: &dyn Store) {
    const WRITERS: usize = 8;
    for round in 0..5 {
        let path = format!("race/{round}");
        let won = AtomicUsize::new(usize::MAX);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (path, won) = (&path, &won);
                scope.spawn(move || {
                    let bytes = vec![b'0' + writer as u8; 10_000];
                    if store.put(path, &bytes, Put::Create).unwrap() == Stored::Yes {
                        assert_eq!(won.swap(writer, Ordering::SeqCst), usize::MAX, "two have won");
                    }
                });
            }
        });
        let winner = won.into_inner();
        assert!(winner < WRITERS, "nobody has won");
        assert_eq!(store.get(&path).unwrap().unwrap(), vec![b'0' + winner as u8; 10_000]);
    }
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => names.extend(files_below(&path)),
            false => names.push(path.display().to_string()),
        }
    }
    names
}

#[test]
fn a_folder_keeps_the_contract_and_leaves_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("jobs/one");
    contract(&Folder::open(&root).unwrap());
    let store = Folder::open(&root).unwrap();
    assert_eq!(store.list("").unwrap().len(), files_below(&root).len(), "only objects are left");
    assert_eq!(store.name(), root.display().to_string());
}

#[test]
fn readers_see_whole_objects_while_they_are_replaced() {
    let place = tempfile::tempdir().unwrap();
    let store = Folder::open(place.path()).unwrap();
    let whole = |n: u8| vec![n; 200_000];
    store.put("x", &whole(0), Put::Replace).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..40 {
                store.put("x", &whole(n), Put::Replace).unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        while !done.load(Ordering::SeqCst) {
            let bytes = store.get("x").unwrap().expect("it is always there");
            assert_eq!(bytes, whole(bytes[0]), "torn");
            assert_eq!(store.list("").unwrap().len(), 1);
        }
    });
}

#[test]
fn a_torn_write_is_no_object_and_is_swept_away_once_it_is_old() {
    let place = tempfile::tempdir().unwrap();
    let store = Folder::open(place.path()).unwrap();
    store.put("whole", b"whole", Put::Create).unwrap();
    let torn = |name: &str| place.path().join(".tmp").join(name);
    for name in ["99-0", "99-1"] {
        std::fs::write(torn(name), b"tor").unwrap();
    }
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(7_200);
    std::fs::File::options().write(true).open(torn("99-0")).unwrap().set_modified(old).unwrap();
    assert_eq!(store.list("").unwrap().len(), 1);
    let _lock = store.lock("test").unwrap();
    assert!(!torn("99-0").exists(), "the old one is swept away");
    assert!(torn("99-1").exists(), "another process may be writing the young one");
    assert_eq!(store.list("").unwrap().len(), 1, "the lock is no object");
}

/// `Lock` holds nothing that could be shown.
fn refused(lock: Result<Lock>) -> Error {
    match lock {
        Ok(_) => panic!("the lock was given twice"),
        Err(e) => e,
    }
}

#[test]
fn a_second_owner_is_told_who_the_first_one_is() {
    let place = tempfile::tempdir().unwrap();
    let (one, two) = (Folder::open(place.path()).unwrap(), Folder::open(place.path()).unwrap());
    let lock = one.lock("millstream run clicks.sql").unwrap();
    let e = refused(two.lock("another"));
    assert_eq!(e.kind(), ErrorKind::Usage);
    let pid = format!("process {}", std::process::id());
    assert!(e.what().contains("millstream run clicks.sql") && e.what().contains(&pid), "{e}");
    assert!(e.help().is_some());
    drop(lock);
    drop(two.lock("another").unwrap());
    let _again = one.lock("millstream run clicks.sql").unwrap();
}

/// Set for the child process of the test below: the folder to lock.
const CHILD_FOLDER: &str = "MILLSTREAM_TEST_LOCK_FOLDER";

#[test]
fn a_process_that_is_killed_gives_the_lock_back() {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        let _lock = Folder::open(folder).unwrap().lock("the child").unwrap();
        println!("locked");
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
    }
    let place = tempfile::tempdir().unwrap();
    let store = Folder::open(place.path()).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::a_process_that_is_killed_gives_the_lock_back", "--nocapture"])
        .env(CHILD_FOLDER, place.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let locked = std::io::BufRead::lines(output).any(|line| line.unwrap().contains("locked"));
    let while_alive = store.lock("the parent").map(drop);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(locked, "the child has not taken the lock");
    let e = while_alive.expect_err("two live owners");
    assert!(e.what().contains("the child") && e.what().contains(&format!("process {}", child.id())), "{e}");
    drop(store.lock("the parent").unwrap());
}

#[test]
fn what_the_file_system_refuses_is_said_with_its_path() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("file"), b"x").unwrap();
    let e = Folder::open(place.path().join("file/below")).expect_err("a file is in the way");
    assert!(e.what().contains("/file is a file") && e.help().is_some(), "{e}");
    let store = Folder::open(place.path()).unwrap();
    let e = store.put("file/below", b"", Put::Create).expect_err("a file is in the way");
    assert!(e.what().contains("/file is a file"), "{e}");
    assert_eq!(store.get("file/below").unwrap(), None);
    let e = Folder::open("/proc/checkpoints").expect_err("nobody may write there");
    assert!(e.what().contains("/proc/checkpoints"), "{e}");
}

#[test]
fn a_full_disk_is_said_with_its_remedy() {
    // Every byte that is written to it comes back as "no space left".
    if !Path::new("/dev/full").exists() {
        return;
    }
    let e = std::fs::write("/dev/full", b"x").unwrap_err();
    let said = folder::failed("write", Path::new("/dev/full"), &e);
    assert!(said.help().is_some_and(|h| h.contains("make room")), "{said}");
}

#[test]
fn a_url_opens_its_store_or_says_why_not() {
    let place = tempfile::tempdir().unwrap();
    let none = BTreeMap::new();
    let path = place.path().join("a").display().to_string();
    for url in [path.clone(), format!("file://{path}"), format!("file://localhost{path}")] {
        let store = open(&url, &none).unwrap();
        assert_eq!(store.name(), path);
        let plain: Box<dyn Store> = store;
        plain.put("x", url.as_bytes(), Put::Replace).unwrap();
    }
    let options = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
    for (url, options, part) in [
        ("", &none, "empty"),
        ("file://host/x", &none, "names a host"),
        ("gs://bucket/x", &none, "gs://"),
        (path.as_str(), &options, "'region'"),
    ] {
        let e = match open(url, options) {
            Ok(store) => panic!("{url} opened {}", store.name()),
            Err(e) => e,
        };
        assert!(e.what().contains(part) && e.help().is_some(), "{e}");
    }
}
