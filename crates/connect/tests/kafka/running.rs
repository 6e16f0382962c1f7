//! Rows that are sent while their epoch runs: the transaction is open until the checkpoint is safe, and may be lost on the way.

use crate::broker::{Broker, PATIENCE, broker};
use crate::writing::{appends, commit_until_done, committer, outbox, pairs, run};
use millstream_connect::Registry;
use millstream_core::table::Connectors;
use millstream_core::{Committable, Committer, JobRun, Sink, SinkContext, TableSpec};
use rdkafka::producer::Producer;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A job's committer and writers of a table, as one process has them.
struct Job {
    // Dropped first, as when a job ends: the writers may still be at work.
    committer: Box<dyn Committer>,
    writers: Vec<Box<dyn Sink>>,
}

impl Job {
    fn start(spec: &TableSpec, run: &JobRun, writers: usize) -> Job {
        let registry = Registry::new();
        let committer = registry.open_committer(spec, run).expect("opened").expect("exactly once has one");
        let context = |index| SinkContext { index, writers, job: Some(run.clone()) };
        let writers = (0..writers).map(|index| registry.open_sink(spec, &context(index)).expect("opened")).collect();
        Job { committer, writers }
    }

    fn write(&mut self, writer: usize, rows: &[(i64, &str, i8)]) {
        self.writers[writer].write(&pairs(rows)).expect("written");
    }

    fn prepare(&mut self, writer: usize, epoch: u64) -> Committable {
        let prepared = self.writers[writer].prepare(epoch).expect("prepared");
        Committable { data: prepared.committable, outbox: prepared.outbox }
    }

    fn prepare_all(&mut self, epoch: u64) -> Vec<Committable> {
        (0..self.writers.len()).map(|writer| self.prepare(writer, epoch)).collect()
    }
}

/// What stands in a topic, committed or not.
fn all(broker: &Broker, topic: &str) -> Vec<String> {
    let mut values: Vec<_> = broker.records_as(topic, "read_uncommitted").into_iter().filter_map(|r| r.value).collect();
    values.sort();
    values
}

/// What readers of committed records are given now, without waiting for a transaction to end.
fn seen(broker: &Broker, topic: &str) -> usize {
    broker.records_as(topic, "read_committed").len()
}

fn wait_for(broker: &Broker, topic: &str, wanted: &[&str]) {
    let until = Instant::now() + PATIENCE;
    while all(broker, topic) != wanted {
        assert!(Instant::now() < until, "{:?} and not {wanted:?}", all(broker, topic));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn rows_are_there_before_the_checkpoint_and_seen_behind_it() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("running", 2, &[]);
    let spec = appends(&broker, &topic, &[]);
    let mut job = Job::start(&spec, &run(&broker.name("job"), 1, 0), 2);
    job.write(0, &[(1, "a", 0), (2, "b", 0)]);
    job.write(1, &[(3, "c", 0)]);
    wait_for(&broker, &topic, &["1,a", "2,b", "3,c"]);
    assert_eq!(seen(&broker, &topic), 0);
    let first = job.prepare(0, 1);
    // Behind its barrier a writer goes on, and so does the other before its own: what they give is of two epochs.
    job.write(0, &[(4, "d", 0)]);
    job.write(1, &[(5, "e", 0)]);
    wait_for(&broker, &topic, &["1,a", "2,b", "3,c", "5,e"]);
    let second = job.prepare(1, 1);
    job.committer.commit(1, &[first, second]).expect("committed");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b", "3,c", "5,e"]);
    // What waited is sent as soon as the writer has a moment.
    job.writers[0].flush().expect("sent");
    wait_for(&broker, &topic, &["1,a", "2,b", "3,c", "4,d", "5,e"]);
    assert_eq!(seen(&broker, &topic), 4);
    let of = job.prepare_all(2);
    job.committer.commit(2, &of).expect("committed");
    job.committer.commit(2, &of).expect("nothing to do");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b", "3,c", "4,d", "5,e"]);
    assert_eq!(all(&broker, &topic), ["1,a", "2,b", "3,c", "4,d", "5,e"], "each was sent once");
    // An epoch without rows, and then one with some: its writer may send again.
    let of = job.prepare_all(3);
    job.committer.commit(3, &of).expect("nothing to commit");
    job.write(1, &[(6, "f", 0)]);
    wait_for(&broker, &topic, &["1,a", "2,b", "3,c", "4,d", "5,e", "6,f"]);
    let of = job.prepare_all(4);
    job.committer.commit(4, &of).expect("committed");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b", "3,c", "4,d", "5,e", "6,f"]);
}

#[test]
fn an_epoch_that_was_given_up_is_committed_with_the_next_one() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("given-up", 1, &[]);
    let mut job = Job::start(&appends(&broker, &topic, &[]), &run(&broker.name("job"), 1, 0), 2);
    job.write(0, &[(1, "a", 0)]);
    wait_for(&broker, &topic, &["1,a"]);
    // The other writer never comes to the barrier of epoch 1.
    let first = job.prepare(0, 1);
    job.write(0, &[(2, "b", 0)]);
    job.write(1, &[(3, "c", 0)]);
    let of: Vec<_> = std::iter::once(first).chain(job.prepare_all(2)).collect();
    job.committer.commit(2, &of).expect("committed");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b", "3,c"]);
    assert_eq!(all(&broker, &topic), ["1,a", "2,b", "3,c"]);
}

#[test]
fn rows_that_are_not_of_the_epoch_are_not_committed_with_it() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("others", 1, &[]);
    let mut job = Job::start(&appends(&broker, &topic, &[]), &run(&broker.name("job"), 1, 0), 2);
    job.write(0, &[(1, "a", 0)]);
    job.write(1, &[(2, "b", 0)]);
    wait_for(&broker, &topic, &["1,a", "2,b"]);
    let of = [job.prepare(0, 1)];
    // The transaction holds more than that: it is given up, and what is of the epoch sent anew.
    job.committer.commit(1, &of).expect("committed");
    assert_eq!(broker.sorted(&topic), ["1,a"]);
    let of = job.prepare_all(2);
    job.committer.commit(2, &of).expect("committed");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b"]);
}

#[test]
fn a_transaction_that_somebody_ends_is_made_again_from_the_outbox() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("fenced", 2, &[]);
    let name = broker.name("job");
    let mut job = Job::start(&appends(&broker, &topic, &[]), &run(&name, 1, 0), 1);
    for (epoch, row) in [(1, (1, "a", 0)), (2, (2, "b", 0))] {
        job.write(0, &[row]);
        let until = Instant::now() + PATIENCE;
        while all(&broker, &topic).len() < 2 * epoch as usize - 1 {
            assert!(Instant::now() < until, "it is not sent");
            std::thread::sleep(Duration::from_millis(20));
        }
        // By another program, before and behind the barrier.
        let end = || {
            let id = format!("millstream-{name}-{topic}-t");
            broker.producer(&[("transactional.id", &id)]).init_transactions(PATIENCE).expect("taken over");
        };
        if epoch == 1 {
            end();
        }
        job.write(0, &[(row.0 + 10, row.1, 0)]);
        let of = job.prepare_all(epoch);
        if epoch == 2 {
            end();
        }
        let tries = commit_until_done(job.committer.as_mut(), epoch, &of);
        assert!(tries > 1, "nobody noticed");
    }
    assert_eq!(broker.sorted(&topic), ["1,a", "11,a", "12,b", "2,b"]);
}

#[test]
fn a_transaction_that_takes_too_long_is_made_again_from_the_outbox() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("too-long", 1, &[]);
    let spec = appends(&broker, &topic, &[("properties.transaction.timeout.ms", "2000")]);
    let mut job = Job::start(&spec, &run(&broker.name("job"), 1, 0), 1);
    job.write(0, &[(1, "a", 0)]);
    wait_for(&broker, &topic, &["1,a"]);
    // The brokers look every ten seconds which transactions are too old.
    std::thread::sleep(Duration::from_secs(13));
    job.write(0, &[(2, "b", 0)]);
    let of = job.prepare_all(1);
    job.committer.commit(1, &of).expect("that an epoch is long is no failure");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b"]);
    // Epochs are too long here: nothing is sent before the checkpoint.
    job.write(0, &[(3, "c", 0)]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(all(&broker, &topic), ["1,a", "1,a", "2,b"]);
    let of = job.prepare_all(2);
    job.committer.commit(2, &of).expect("committed");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b", "3,c"]);
}

#[test]
fn a_job_that_ends_leaves_no_transaction_open() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("ends", 1, &[]);
    let mut job = Job::start(&appends(&broker, &topic, &[]), &run(&broker.name("job"), 1, 0), 1);
    job.write(0, &[(1, "a", 0)]);
    wait_for(&broker, &topic, &["1,a"]);
    let begun = Instant::now();
    drop(job);
    broker.values(&topic, 0, &["theirs"]);
    assert_eq!(broker.sorted(&topic), ["theirs"]);
    assert!(begun.elapsed() < Duration::from_secs(30), "readers waited for the brokers to give it up");
}

/// The topic and the job of the process that is killed.
const KILLED: &str = "MILLSTREAM_TEST_KILLED";

#[test]
fn a_job_that_is_killed_in_the_middle_loses_and_doubles_nothing() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("killed", 1, &[]);
    let name = broker.name("job");
    let mut child = Command::new(std::env::current_exe().expect("this one"))
        .args(["--exact", "running::it_is_killed_in_the_middle", "--nocapture"])
        .env(KILLED, format!("{topic} {name}"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let said = BufReader::new(child.stdout.take().expect("piped"));
    assert!(said.lines().map_while(Result::ok).any(|line| line.ends_with("prepared")), "it did not come so far");
    wait_for(&broker, &topic, &["1,a", "2,b", "3,c"]);
    assert_eq!(seen(&broker, &topic), 1, "epoch 1");
    child.kill().expect("SIGKILL");
    child.wait().expect("it is over");
    // Epoch 2 is in its checkpoint, and 3,c behind it is not.
    let spec = appends(&broker, &topic, &[]);
    let mut next = committer(&spec, &run(&name, 2, 2)).expect("opened");
    let two = outbox(&spec, &[(2, "b", 0)]);
    next.commit(2, &two).expect("committed");
    next.commit(2, &two).expect("nothing to do");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b"]);
    assert_eq!(all(&broker, &topic), ["1,a", "2,b", "2,b", "3,c"]);
}

/// The process that the test above kills; in any other it does nothing.
#[test]
fn it_is_killed_in_the_middle() {
    let Ok(said) = std::env::var(KILLED) else { return };
    let (topic, name) = said.split_once(' ').expect("a topic and a job");
    let broker = broker().expect("the same broker");
    let mut job = Job::start(&appends(&broker, topic, &[]), &run(name, 1, 0), 2);
    job.write(0, &[(1, "a", 0)]);
    let of = job.prepare_all(1);
    job.committer.commit(1, &of).expect("committed");
    job.write(0, &[(2, "b", 0)]);
    job.write(1, &[(3, "c", 0)]);
    job.prepare(0, 2);
    println!("prepared");
    std::thread::sleep(2 * PATIENCE);
}
