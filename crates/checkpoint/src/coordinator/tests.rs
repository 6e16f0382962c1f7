//! Scripts: left what happens and when (ms), right what comes out. Then any order of events at all.

use super::*;
use proptest::prelude::*;

const A: TaskId = TaskId { stage: 0, task: 0 };
const B: TaskId = TaskId { stage: 1, task: 0 };

fn config() -> CoordinatorConfig {
    CoordinatorConfig {
        tasks: vec![A, B],
        interval: Some(10_000),
        timeout: 5_000,
        min_pause: 500,
        failures_max: 1,
        overtake_after: Some(2_000),
    }
}

fn only_asked() -> CoordinatorConfig {
    CoordinatorConfig { interval: None, ..config() }
}

fn task(name: &str) -> TaskId {
    match name {
        "a" => A,
        "b" => B,
        _ => TaskId { stage: 9, task: 9 },
    }
}

fn reason(text: &str) -> Reason {
    match text {
        "interval" => Reason::Interval,
        "micro-batch" => Reason::MicroBatch,
        "final" => Reason::Final,
        "stop" => Reason::Stop,
        name => Reason::Savepoint { name: name.to_owned() },
    }
}

/// What a task saved is told apart by `task` and `epoch`: `a1`.
fn event(words: &[&str], unwritten: &mut Vec<Save<String>>) -> Event<String> {
    let epoch = || words[1].parse().expect("an epoch");
    let why = || Error::io("the disk is full");
    match words[0] {
        "tick" => Event::Tick,
        "ask" => Event::Trigger(reason(words[1])),
        "saved" => {
            Event::TaskSaved { epoch: epoch(), task: task(words[2]), saved: format!("{}{}", words[2], words[1]) }
        }
        "failed" => Event::TaskFailed { epoch: epoch(), why: why() },
        "written" => Event::ManifestWritten { epoch: epoch() },
        "unwritten" => Event::ManifestFailed { epoch: epoch(), why: why(), saves: std::mem::take(unwritten) },
        "fenced" => Event::ManifestRefused { epoch: epoch(), why: Error::io("fenced") },
        "committed" => Event::Committed { epoch: epoch() },
        "uncommitted" => Event::CommitFailed { epoch: epoch(), why: why() },
        other => panic!("no event: {other}"),
    }
}

fn show(effect: &Effect<String>) -> String {
    let list = |reasons: &[Reason]| {
        let name = |r: &Reason| match r {
            Reason::Interval => "interval".to_owned(),
            Reason::Savepoint { name } => name.clone(),
            Reason::MicroBatch => "micro-batch".to_owned(),
            Reason::Final => "final".to_owned(),
            Reason::Stop => "stop".to_owned(),
        };
        reasons.iter().map(name).collect::<Vec<_>>().join("+")
    };
    match effect {
        Effect::Begin { epoch, reasons } => format!("begin {epoch} {}", list(reasons)),
        Effect::Overtake { epoch } => format!("overtake {epoch}"),
        Effect::WriteManifest { epoch, saves } => {
            format!("write {epoch} {}", saves.iter().map(|s| s.saved.as_str()).collect::<Vec<_>>().join("+"))
        }
        Effect::Commit { epoch } => format!("commit {epoch}"),
        Effect::GiveUp { epoch, .. } => format!("give-up {epoch}"),
        Effect::Done { epoch, reasons } => format!("done {epoch} {}", list(reasons)),
        Effect::Refuse { reason, .. } => format!("refuse {}", list(std::slice::from_ref(reason))),
        Effect::Stop(_) => "stop".to_owned(),
    }
}

fn play(config: CoordinatorConfig, epoch: u64, script: &str) {
    config.check().unwrap();
    let mut coordinator = Coordinator::new(config, epoch);
    let mut unwritten = Vec::new();
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (left, right) = line.split_once("->").unwrap_or((line, ""));
        let words: Vec<&str> = left.split_whitespace().collect();
        let now = words[0].parse().expect("a time");
        let effects = coordinator.step(event(&words[1..], &mut unwritten), now);
        assert_eq!(effects.iter().map(show).collect::<Vec<_>>().join(", "), right.trim(), "{line}");
        for effect in effects {
            if let Effect::WriteManifest { saves, .. } = effect {
                unwritten = saves;
            }
        }
    }
}

#[test]
fn a_checkpoint_is_written_after_the_last_save_and_committed_after_that() {
    play(
        config(),
        7,
        "
            0     tick
        9_999     tick
       10_000     tick          -> begin 8 interval
       10_010     saved 8 b
       10_020     tick
       10_030     saved 8 a     -> write 8 a8+b8
       15_500     tick
       15_600     written 8     -> commit 8
       15_700     committed 8   -> done 8 interval
       19_999     tick
       20_000     tick          -> begin 9 interval"
            .replace('_', "")
            .as_str(),
    );
}

#[test]
fn one_that_takes_longer_than_the_interval_is_followed_after_a_pause() {
    play(
        config(),
        0,
        "
            0     tick
        10000     tick          -> begin 1 interval
        10010     saved 1 a
        10030     saved 1 b     -> write 1 a1+b1
        10040     written 1     -> commit 1
        30000     tick
        30001     committed 1   -> done 1 interval
        30500     tick
        30501     tick          -> begin 2 interval",
    );
}

#[test]
fn barriers_overtake_once_and_then_the_time_is_up() {
    play(
        config(),
        0,
        "
            0     tick
        10000     tick          -> begin 1 interval
        11999     saved 1 a
        12000     tick          -> overtake 1
        12001     tick
        14999     tick
        15000     tick          -> give-up 1
        15499     tick
        15500     tick          -> begin 2 interval
        15510     saved 1 b
        15520     saved 2 b
        15530     saved 2 a     -> write 2 a1+a2+b1+b2
        15540     written 2     -> commit 2
        15550     committed 2   -> done 2 interval",
    );
}

#[test]
fn requests_during_an_epoch_get_the_next_and_merge() {
    play(
        only_asked(),
        0,
        "
            0     tick
            1     ask before     -> begin 1 before
            2     ask nightly
            3     ask micro-batch
            4     ask nightly
            5     saved 1 a
            6     saved 1 b      -> write 1 a1+b1
            7     written 1      -> commit 1
            8     committed 1    -> done 1 before, begin 2 nightly+micro-batch
            9     failed 1
           10     failed 2       -> give-up 2
           11     ask final
          509     tick
          510     tick           -> begin 3 nightly+micro-batch+final",
    );
}

#[test]
fn the_last_epoch_takes_all_requests_and_nothing_comes_after_it() {
    play(
        config(),
        0,
        "
            0     tick
            1     ask stop       -> begin 1 stop
            2     ask nightly
            3     saved 1 a
            4     saved 1 b      -> write 1 a1+b1
            5     ask weekly
            6     written 1      -> commit 1
            7     committed 1    -> done 1 nightly+weekly+stop
            8     ask nightly    -> refuse nightly
        90000     tick",
    );
}

#[test]
fn another_run_has_taken_over() {
    play(
        config(),
        0,
        "
            0     ask micro-batch -> begin 1 micro-batch
            1     saved 1 a
            2     saved 1 b       -> write 1 a1+b1
            3     ask nightly
            4     fenced 1        -> stop, refuse nightly, refuse micro-batch
            5     written 1
            6     committed 1
        90000     tick",
    );
}

#[test]
fn an_unwritten_manifest_gives_its_saves_to_the_next_and_failures_are_counted_in_a_row() {
    play(
        only_asked(),
        0,
        "
            0     ask micro-batch -> begin 1 micro-batch
            1     saved 1 a
            2     saved 1 b       -> write 1 a1+b1
            3     unwritten 1     -> give-up 1
          503     tick            -> begin 2 micro-batch
          504     saved 2 b
          505     saved 2 a       -> write 2 a1+a2+b1+b2
          506     written 2       -> commit 2
          507     committed 2     -> done 2 micro-batch
          508     ask micro-batch -> begin 3 micro-batch
          509     failed 3        -> give-up 3
         1009     tick            -> begin 4 micro-batch
         1010     failed 4        -> stop, refuse micro-batch",
    );
}

#[test]
fn what_the_driver_cannot_have_seen_ends_the_job() {
    for wrong in ["saved 1 c", "saved 2 a", "written 1", "committed 1", "unwritten 1"] {
        play(only_asked(), 0, &format!("0 ask one -> begin 1 one\n 1 {wrong} -> stop, refuse one"));
    }
    play(only_asked(), 0, "0 ask one -> begin 1 one\n 1 saved 1 a\n 2 saved 1 a -> stop, refuse one");
    play(
        only_asked(),
        0,
        "0 ask one -> begin 1 one\n 1 saved 1 a\n 2 saved 1 b -> write 1 a1+b1\n 3 uncommitted 1 -> stop, refuse one",
    );
}

#[test]
fn the_missing_tasks_are_named() {
    let mut coordinator: Coordinator<()> = Coordinator::new(config(), 0);
    coordinator.step(Event::Trigger(Reason::MicroBatch), 0);
    coordinator.step(Event::TaskSaved { epoch: 1, task: A, saved: () }, 1);
    let effects = coordinator.step(Event::Tick, 5_000);
    let [Effect::GiveUp { epoch: 1, why }] = effects.as_slice() else { panic!("{effects:?}") };
    assert_eq!(why.what(), "epoch 1 was not saved within 5 s: 1 of 2 tasks are missing (stage 1 task 0)");
}

#[test]
fn waking_only_when_told_misses_nothing() {
    let mut coordinator: Coordinator<()> = Coordinator::new(config(), 0);
    assert!(coordinator.step(Event::Tick, 100).is_empty());
    let mut seen = Vec::new();
    let mut now = 100;
    for _ in 0..4 {
        let wake = coordinator.wake().expect("something is due");
        assert!(wake > now, "it would spin at {now}");
        assert!(coordinator.step(Event::Tick, wake - 1).is_empty(), "too late at {wake}");
        now = wake;
        seen.push((now, coordinator.step(Event::Tick, now)));
    }
    let kinds: Vec<_> = seen.iter().map(|(at, e)| (*at, e.len())).collect();
    assert_eq!(kinds, [(10_100, 1), (12_100, 1), (15_100, 1), (15_600, 1)]);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for wrong in [
        CoordinatorConfig { interval: Some(0), ..config() },
        CoordinatorConfig { timeout: 0, ..config() },
        CoordinatorConfig { min_pause: -1, ..config() },
        CoordinatorConfig { overtake_after: Some(-1), ..config() },
    ] {
        assert!(wrong.check().is_err(), "{wrong:?}");
    }
}

/// A step of the world around the coordinator. Numbers choose among what can happen.
#[derive(Debug, Clone)]
enum Turn {
    Wait(i64),
    Ask(u8),
    /// A task works on the oldest barrier that it was handed: saves, or skips an epoch that was given up.
    Save(usize),
    Fail,
    /// The manifest or the commit under way ends well, or (`false`) it does not.
    Settle(bool),
    Fence,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let one = prop_oneof![
        4 => (0i64..6_000).prop_map(Turn::Wait),
        3 => (0u8..5).prop_map(Turn::Ask),
        1 => prop::bool::weighted(0.05).prop_map(|stop| Turn::Ask(if stop { 5 } else { 0 })),
        12 => (0usize..3).prop_map(Turn::Save),
        1 => Just(Turn::Fail),
        8 => prop::bool::weighted(0.9).prop_map(Turn::Settle),
        1 => prop::bool::weighted(0.02).prop_map(|fence| if fence { Turn::Fence } else { Turn::Settle(true) }),
    ];
    prop::collection::vec(one, 0..300)
}

/// The world: it keeps to what is asked of a driver, and checks what is promised to it.
struct World {
    coordinator: Coordinator<u64>,
    tasks: Vec<TaskId>,
    /// Barriers on their way, for each task.
    barriers: Vec<std::collections::VecDeque<u64>>,
    /// What each task has saved, told apart by a count of all saves; and what manifests hold of it.
    count: u64,
    saved: Vec<Vec<u64>>,
    safe: Vec<Vec<u64>>,
    writing: Option<(u64, Vec<Save<u64>>)>,
    committing: Option<u64>,
    written: Vec<u64>,
    begun: u64,
    open: bool,
    asked: Vec<Reason>,
    over: bool,
    now: i64,
}

impl World {
    fn new() -> World {
        let tasks = vec![A, B, TaskId { stage: 1, task: 1 }];
        let config = CoordinatorConfig { tasks: tasks.clone(), failures_max: 2, ..config() };
        World {
            coordinator: Coordinator::new(config, 40),
            barriers: vec![Default::default(); 3],
            count: 0,
            saved: vec![Vec::new(); 3],
            safe: vec![Vec::new(); 3],
            tasks,
            writing: None,
            committing: None,
            written: vec![40],
            begun: 40,
            open: false,
            asked: Vec::new(),
            over: false,
            now: 0,
        }
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::Wait(ms) => {
                self.now += ms;
                self.send(Event::Tick);
            }
            Turn::Ask(which) => {
                let reason = match which {
                    0 => Reason::Interval,
                    1 => Reason::MicroBatch,
                    5 => Reason::Stop,
                    n => Reason::Savepoint { name: format!("s{n}") },
                };
                if !self.asked.contains(&reason) {
                    self.asked.push(reason.clone());
                }
                self.send(Event::Trigger(reason));
            }
            Turn::Save(at) => {
                let Some(epoch) = self.barriers[at].pop_front() else { return };
                self.count += 1;
                // A task learns that an epoch was given up and skips it, or does not.
                if (epoch < self.begun || !self.open) && self.count.is_multiple_of(2) {
                    return;
                }
                self.saved[at].push(self.count);
                self.send(Event::TaskSaved { epoch, task: self.tasks[at], saved: self.count });
            }
            Turn::Fail => {
                let why = Error::io("a piece could not be put");
                self.send(Event::TaskFailed { epoch: self.begun, why });
            }
            Turn::Settle(well) => {
                if let Some((epoch, saves)) = self.writing.take() {
                    match well {
                        true => {
                            self.written.push(epoch);
                            for save in saves {
                                let at = self.tasks.iter().position(|t| *t == save.task).unwrap();
                                self.safe[at].push(save.saved);
                            }
                            self.send(Event::ManifestWritten { epoch });
                        }
                        false => self.send(Event::ManifestFailed { epoch, why: Error::io("away"), saves }),
                    }
                } else if let Some(epoch) = self.committing.take() {
                    match well {
                        true => self.send(Event::Committed { epoch }),
                        false => self.send(Event::CommitFailed { epoch, why: Error::io("away") }),
                    }
                }
            }
            Turn::Fence => {
                if let Some((epoch, _)) = self.writing.take() {
                    self.send(Event::ManifestRefused { epoch, why: Error::io("fenced") });
                }
            }
        }
    }

    fn send(&mut self, event: Event<u64>) {
        for effect in self.coordinator.step(event, self.now) {
            assert!(!self.over || matches!(effect, Effect::Refuse { .. }), "{effect:?} after the end");
            match effect {
                Effect::Begin { epoch, reasons } => {
                    assert!(!self.open, "epoch {epoch} begins while {} is open", self.begun);
                    assert!(epoch > self.begun, "epochs only grow");
                    self.asked.retain(|r| !reasons.contains(r));
                    assert!(self.asked.is_empty(), "{:?} has to wait for another", self.asked);
                    (self.open, self.begun) = (true, epoch);
                    self.barriers.iter_mut().for_each(|b| b.push_back(epoch));
                }
                Effect::Overtake { epoch } => assert!(self.open && epoch == self.begun),
                Effect::WriteManifest { epoch, saves } => {
                    assert!(self.open && epoch == self.begun && !self.written.contains(&epoch));
                    for (at, task) in self.tasks.clone().into_iter().enumerate() {
                        let of: Vec<_> = saves.iter().filter(|s| s.task == task).collect();
                        assert_eq!(of.last().map(|s| s.epoch), Some(epoch), "{task} has not saved");
                        assert!(of.iter().is_sorted_by_key(|s| s.epoch));
                        let all: Vec<u64> = self.safe[at].iter().copied().chain(of.iter().map(|s| s.saved)).collect();
                        assert_eq!(all, self.saved[at], "{task}: a save is in no manifest");
                    }
                    self.writing = Some((epoch, saves));
                }
                Effect::Commit { epoch } => {
                    assert_eq!(self.written.last(), Some(&epoch), "sinks commit what no manifest names");
                    self.committing = Some(epoch);
                }
                Effect::GiveUp { epoch, .. } => {
                    assert!(self.open && epoch == self.begun);
                    self.open = false;
                }
                Effect::Done { epoch, reasons } => {
                    assert!(self.open && self.written.last() == Some(&epoch));
                    self.open = false;
                    if reasons.contains(&Reason::Stop) {
                        self.over = true;
                        assert!(self.asked.iter().all(|r| reasons.contains(r)), "{:?} is forgotten", self.asked);
                    }
                }
                Effect::Refuse { reason, .. } => {
                    assert!(self.over);
                    self.asked.retain(|r| *r != reason);
                }
                Effect::Stop(why) => {
                    assert!(why.kind() != millstream_core::ErrorKind::Internal, "{why}");
                    self.over = true;
                }
            }
        }
        assert_eq!(self.coordinator.open().is_some(), self.open && !self.over);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn in_any_order_of_events_what_is_always_true_holds(turns in turns()) {
        let mut world = World::new();
        for turn in turns {
            world.turn(turn);
        }
    }

    #[test]
    fn when_nothing_fails_every_request_is_done(asks in prop::collection::vec((0i64..3_000, 0u8..5), 1..20)) {
        let mut world = World::new();
        let mut wanted = 0;
        for (wait, which) in asks {
            world.turn(Turn::Wait(wait));
            world.turn(Turn::Ask(which));
            wanted += 1;
            for at in 0..3 {
                world.turn(Turn::Save(at));
            }
            // Half of the time the manifest is still being written when the next one asks.
            for _ in 0..wanted % 3 {
                world.turn(Turn::Settle(true));
            }
        }
        for _ in 0..3 {
            for at in 0..3 {
                world.turn(Turn::Save(at));
            }
            world.turn(Turn::Settle(true));
            world.turn(Turn::Settle(true));
            world.turn(Turn::Wait(500));
        }
        prop_assert!(!world.over);
        let waiting: Vec<_> = world.asked.iter().filter(|r| **r != Reason::Interval).collect();
        prop_assert!(waiting.is_empty(), "{waiting:?} is still waiting");
    }
}
