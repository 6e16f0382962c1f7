//! ARCHITECTURE.md tells the truth about the crates: the arrows in its table are the real ones, all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate by its folder's name under `crates/`, with the crates of ours that it uses.
type Arrows = BTreeMap<String, BTreeSet<String>>;

#[test]
fn the_map_shows_every_arrow_and_no_other() {
    let (drawn, real) = (drawn_arrows(), real_arrows());
    let nothing = BTreeSet::new();
    let mut wrong = Vec::new();
    for name in drawn.keys().chain(real.keys()).collect::<BTreeSet<_>>() {
        match (drawn.get(name), real.get(name)) {
            (None, _) => wrong.push(format!("crate `{name}` has no row in the table")),
            (_, None) => wrong.push(format!("the table has a row for `{name}`, which is not a crate")),
            _ => {}
        }
        let (drawn, real) = (drawn.get(name).unwrap_or(&nothing), real.get(name).unwrap_or(&nothing));
        for to in real.difference(drawn) {
            wrong.push(format!("`{name}` uses `{to}`: take the arrow out, or argue for it in the table"));
        }
        for to in drawn.difference(real) {
            wrong.push(format!("the table lets `{name}` use `{to}`, and it does not: take it out of the table"));
        }
    }
    assert!(wrong.is_empty(), "ARCHITECTURE.md and the workspace disagree:\n  {}\n", wrong.join("\n  "));
}

#[test]
fn a_crate_that_decides_is_linted_against_clocks_threads_and_files() {
    for name in ["core", "formats", "state", "dataflow", "plan", "checkpoint"] {
        let lints = root().join("crates").join(name).join("clippy.toml");
        let text = std::fs::read_to_string(&lints).unwrap_or_else(|e| panic!("{}: {e}", lints.display()));
        assert!(text.contains("std::time::Instant::now"), "{} does not forbid clocks", lints.display());
        assert!(text.contains("std::thread::spawn"), "{} does not forbid threads", lints.display());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The rows of the table under `| crate | one line | may use |`.
fn drawn_arrows() -> Arrows {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let rows = text
        .lines()
        .skip_while(|line| *line != "| crate | one line | may use |")
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let names = |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_string).collect() };
    let arrows: Arrows = rows
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [name, _, uses] = cells.as_slice() else { panic!("a row of the table has not three cells: {row}") };
            let name = names(name).pop_first().unwrap_or_else(|| panic!("a row names no crate: {row}"));
            (name, names(uses))
        })
        .collect();
    assert!(!arrows.is_empty(), "ARCHITECTURE.md has no table `| crate | one line | may use |`");
    arrows
}

/// What the manifests say: normal dependencies on crates of this workspace. Those of tests alone do not count.
fn real_arrows() -> Arrows {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let told = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    assert!(told.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&told.stderr));
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).expect("cargo metadata writes JSON");
    let list = |of: &serde_json::Value| of.as_array().cloned().unwrap_or_default();
    let folder = |path: &serde_json::Value| {
        let path = Path::new(path.as_str().unwrap_or_default());
        path.file_name().map(|n| n.to_string_lossy().into_owned()).expect("a crate has a folder")
    };
    // `unify` has no code: every package depends on it for the sake of the build, and it stands below the table.
    let has_code = |name: &String| name != "unify";
    list(&told["packages"])
        .iter()
        .map(|package| {
            let manifest = package["manifest_path"].as_str().unwrap_or_default();
            let name = folder(&Path::new(manifest).parent().and_then(Path::to_str).into());
            let uses = list(&package["dependencies"]);
            let uses = uses.iter().filter(|d| d["kind"].is_null() && d["path"].is_string());
            (name, uses.map(|d| folder(&d["path"])).filter(has_code).collect())
        })
        .filter(|(name, _)| has_code(name))
        .collect()
}
