//! `dht demo`: everything the DHT can do, on a network of real nodes on loopback.

mod network;
mod steps;

use std::time::Instant;

use crate::args::{DemoArgs, Global};
use crate::commands::Ended;
use crate::failure::{Failure, Status};
use crate::output::{Done, Line, Millis, Output, millis};
use crate::progress::Progress;

use self::network::Network;
use self::steps::{STEPS, World};

pub(super) fn run(args: &DemoArgs, global: &Global, out: &Output) -> Ended {
    let started = Instant::now();
    let mut stage = Stage { out, failed: 0, steps: 0 };
    let mut network = None;
    stage.step("network", || {
        let _progress = Progress::start(out.screen(), "starting the network", String::new);
        let (new, result) = Network::start(args.nodes.into(), global.timeout)?;
        network = Some(new);
        Ok(result)
    })?;
    let Some(network) = network else { unreachable!("a network that cannot start ends the demo") };
    let mut world = World::new(&network, global.timeout)?;
    for (name, step) in STEPS {
        let _progress = Progress::start(out.screen(), name, String::new);
        stage.step(name, || step(&mut world))?;
        out.check()?;
    }
    let total = Millis(millis(started.elapsed()));
    let ok = stage.failed == 0;
    if ok {
        out.words(format_args!("all {} steps worked, in {total}", stage.steps));
    } else {
        out.words(format_args!("{} of {} steps failed, in {total}", stage.failed, stage.steps));
    }
    out.json(&Line::Done(Done { ok: Some(ok), ..Done::default() }));
    Ok((!ok).then_some(Status::NotFound))
}

/// Where the steps are shown.
struct Stage<'a> {
    out: &'a Output,
    steps: u32,
    failed: u32,
}

impl Stage<'_> {
    /// Runs a step and tells how it went. Only what makes further steps senseless is an error.
    fn step(
        &mut self,
        name: &str,
        run: impl FnOnce() -> Result<String, StepError>,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let result = run();
        let duration_ms = millis(started.elapsed());
        let (ok, result) = match result {
            Ok(result) => (true, result),
            Err(StepError::Unexpected(result)) => (false, result),
            Err(StepError::Failure(failure)) => return Err(failure),
        };
        self.steps += 1;
        self.failed += u32::from(!ok);
        let mark = if ok { "ok  " } else { "FAIL" };
        self.out.result(
            format_args!("{mark} {name:<20} {:>7}  {result}", Millis(duration_ms)),
            &Line::Step { name, ok, result: &result, duration_ms },
        );
        Ok(())
    }
}

/// Why a step did not work.
enum StepError {
    /// The network answered something else than it should.
    Unexpected(String),
    /// This machine cannot run the demonstration.
    Failure(Failure),
}

impl From<Failure> for StepError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<dht_mio::Error> for StepError {
    fn from(error: dht_mio::Error) -> Self {
        Self::Failure(error.into())
    }
}
