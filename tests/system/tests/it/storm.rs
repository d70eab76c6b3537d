//! The engine killed with -9 at random moments under a mixed load of every operation on containers; after each start
//! what was acknowledged holds, what is shown is what the kernel has, and nothing is left over.
//!
//! The names V1, V2 … are those of the invariants in the security catalogue: each listed once and as the kernel has it
//! (V1), survivors keep their process (V2), exact exit codes (V3), logs without a gap (V4), unique names (V7), nothing
//! is left (V10), ready in time (V11), a second start changes nothing (V12).

mod invariants;
mod load;

use crate::support::{engine, nothing_is_left};
use anyhow::{Context as _, Result, ensure};
use havre_testkit::Engine;
use havre_testkit::http::Body;
use invariants::{Witnesses, settled_violations, standing};
use load::{Gate, Worker};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const KILLS: usize = 200;
const WORKERS: u64 = 4;
/// A start takes no longer (V11).
const READY: Duration = Duration::from_secs(5);
/// Every so many kills, the engine is started twice (V12).
const TWICE: usize = 20;

/// A small generator: the seed is printed, so that a failing order can be had again.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn two_hundred_kills_under_every_operation() -> Result<()> {
    let mut engine = engine()?;
    let seed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs();
    println!("seed {seed}");
    let mut witnesses = Witnesses::begin(&engine)?;
    let gate = Arc::new(Gate::default());
    let threads: Vec<_> = (0..WORKERS)
        .map(|number| {
            let mut worker = Worker::new(number, Chance::new(seed + number), engine.caller());
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                worker.work(&gate);
                worker
            })
        })
        .collect();
    let outcome = kills(
        &mut engine,
        &gate,
        &mut witnesses,
        Chance::new(seed ^ 0xffff),
    );
    gate.finish();
    let mut done = 0;
    let mut failures = Vec::new();
    for thread in threads {
        let worker = thread.join().ok().context("a worker has panicked")?;
        done += worker.answered;
        failures.extend(worker.failures);
    }
    let slowest = outcome?;
    println!("{done} operations were answered, the slowest start took {slowest:?}");
    ensure!(
        failures.is_empty(),
        "{} failures: {:#?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    ensure!(done > KILLS, "only {done} operations were answered");
    witnesses.finish(&engine)?;
    remove_all(&engine)?;
    nothing_is_left(&engine)
}

/// Kills and starts the engine again and again; answers how long the slowest start took.
fn kills(
    engine: &mut Engine,
    gate: &Gate,
    witnesses: &mut Witnesses,
    mut chance: Chance,
) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for kill in 0..KILLS {
        let moment = Instant::now() + Duration::from_millis(chance.below(60));
        witnesses.call(engine, &mut chance)?;
        while Instant::now() < moment {
            engine.api("GET", "/containers/json", &Body::Empty)?;
        }
        engine.kill9()?;
        let models = gate.hold();
        let began = Instant::now();
        engine.restart()?;
        let took = began.elapsed();
        slowest = slowest.max(took);
        ensure!(took < READY, "V11: start {kill} took {took:?}");
        let wrong = settled_violations(engine, &models, witnesses)?;
        ensure!(
            wrong.is_empty(),
            "after kill {kill}: {wrong:#?}\n{}",
            engine.log()
        );
        if kill % TWICE == 0 {
            let before = standing(engine)?;
            engine.kill9()?;
            engine.restart()?;
            let after = standing(engine)?;
            ensure!(before == after, "V12: {before:?} became {after:?}");
        }
        if kill + 1 < KILLS {
            gate.release();
        }
    }
    Ok(slowest)
}

fn remove_all(engine: &Engine) -> Result<()> {
    let listed = engine.docker(&["ps", "-aq"])?;
    let mut words = vec!["rm", "-f"];
    words.extend(listed.lines());
    engine.docker(&words).map(drop)
}
