//! A checkpoint that an earlier version wrote is gone on from: `tests/fixtures/state-v1`, see the README there.

use crate::cli::{Folder, told};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// When the files in `in` were changed, as far as the job knows: a second apart, by their number.
const CHANGED: u64 = 1_704_067_200;

const OUTPUTS: [&str; 6] = ["tumbling", "hopping", "sessions", "running", "late", "bad"];

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/state-v1")
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.is_ok_and(|s| s.success()), "cp -r {} {}", from.display(), to.display());
}

/// Sets the times of the numbered files in `in`.
fn set_times(folder: &Path) {
    for number in 1..=4u64 {
        if let Ok(file) = std::fs::File::options().write(true).open(folder.join(format!("in/{number}.csv"))) {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(CHANGED + number);
            file.set_modified(at).expect("the time of a file of ours can be set");
        }
    }
}

fn millstream(folder: &Path, args: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    let output = command.args(args).current_dir(folder).stdin(Stdio::null()).output().expect("the binary runs");
    let (code, out, err) = told(&output);
    assert_eq!(code, 0, "{args:?}\n{out}{err}");
}

/// All rows of all outputs.
fn output(folder: &Path) -> String {
    let mut lines = Vec::new();
    for table in OUTPUTS {
        for entry in std::fs::read_dir(folder.join("out").join(table)).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with('.') {
                let text = std::fs::read_to_string(entry.path()).expect("a part file holds text");
                lines.extend(text.lines().map(|line| format!("{table} {line}\n")));
            }
        }
    }
    lines.sort();
    lines.concat()
}

#[test]
fn a_checkpoint_of_format_1_is_gone_on_from() {
    let expected = std::fs::read_to_string(fixture().join("expected.txt")).expect("the expected output");
    for table in OUTPUTS {
        let rows = expected.lines().filter(|l| l.starts_with(table)).count();
        assert!(rows >= 3, "{table} has {rows} rows");
    }
    for parallelism in ["1", "2", "5"] {
        let folder = Folder::new();
        let at = folder.path("job");
        copy(&fixture(), &at);
        assert!(!at.join("in/4.csv").exists());
        std::fs::rename(at.join("rest.csv"), at.join("in/4.csv")).expect("it can be moved");
        set_times(&at);
        let before = output(&at);
        assert!(before.lines().count() < expected.lines().count());
        millstream(&at, &["run", "job.sql", "--state", "state", "-p", parallelism, "--progress", "none"]);
        assert_eq!(output(&at), expected, "parallelism {parallelism}");

        // Without state and in one go it is the same.
        std::fs::remove_dir_all(at.join("out")).expect("the output can be removed");
        millstream(&at, &["run", "job.sql", "-p", parallelism, "--progress", "none"]);
        assert_eq!(output(&at), expected, "undisturbed, parallelism {parallelism}");
    }
}

/// Makes what can be made: see the README. Refuses to touch a fixture that is there.
#[test]
#[ignore = "makes the fixture, which is made once for each format"]
fn make() {
    let at = fixture();
    assert!(!at.join("state").exists(), "{} is there already", at.join("state").display());
    std::fs::create_dir_all(at.join("in")).expect("a folder can be made");
    let mut dice = Dice(7);
    for number in 1..=3u64 {
        std::fs::write(at.join(format!("in/{number}.csv")), rows(&mut dice, number)).expect("a file can be written");
        set_times(&at);
        let run = ["run", "job.sql", "--state", "whole", "--available-now", "-p", "2", "--progress", "none"];
        millstream(&at, &run);
    }
    millstream(&at, &["state", "copy", "whole", "state"]);
    std::fs::remove_dir_all(at.join("whole")).expect("it can be removed");
    std::fs::write(at.join("rest.csv"), rows(&mut dice, 4)).expect("a file can be written");

    let folder = Folder::new();
    let whole = folder.path("job");
    copy(&at, &whole);
    std::fs::remove_dir_all(whole.join("out")).expect("it can be removed");
    std::fs::rename(whole.join("rest.csv"), whole.join("in/4.csv")).expect("it can be moved");
    millstream(&whole, &["run", "job.sql", "-p", "1", "--progress", "none"]);
    std::fs::write(at.join("expected.txt"), output(&whole)).expect("a file can be written");
}

struct Dice(u64);

impl Dice {
    fn up_to(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A minute of events, one every other second; each may come up to 12 s late where 5 s are waited for, and one in twenty cannot be read.
fn rows(dice: &mut Dice, minute: u64) -> String {
    let mut text = String::new();
    for second in (0..60).step_by(2) {
        let at = (minute * 60 + second).saturating_sub(dice.up_to(13));
        let name = ["ann", "bob", "cy", "dee", "eve", "fay", "gus", "hal"][dice.up_to(8) as usize];
        let n = if dice.up_to(20) == 0 { "many".to_owned() } else { dice.up_to(9).to_string() };
        let (whole, cents) = (dice.up_to(100), dice.up_to(100));
        text += &format!(
            "2024-01-01 00:{:02}:{:02}.{:03},{name},{n},{whole}.{cents:02}\n",
            at / 60,
            at % 60,
            dice.up_to(1000)
        );
    }
    text
}
