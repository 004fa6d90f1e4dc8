//! I2: the drain rule and the progress rule of the core. A node that says that nothing is due has
//! no output waiting, and a node that was drained is due later, not now: no sleeping on queued
//! work, no spinning.

use dht_proto::time::Instant;

use super::{Checker, Happening, PerHost, demand};

/// The name of the invariant; the world itself reports nodes that spin.
pub(crate) const NAME: &str = "I2 drain";

/// See the module.
#[derive(Debug, Default)]
pub struct Drain {
    /// The latest time that each node was told: a clock that is set back stands still for it.
    latest: PerHost<Instant>,
}

impl Checker for Drain {
    fn name(&self) -> &'static str {
        NAME
    }

    fn happened(&mut self, _now: Instant, what: &Happening<'_>) -> Result<(), String> {
        let Some(latest) = self.latest.at(what) else { return Ok(()) };
        match what {
            Happening::Born { local, .. } => *latest = *local,
            Happening::Polled { local, promised, yielded, .. } => {
                *latest = (*latest).max(*local);
                let slept = *yielded && promised.is_none_or(|due| due > *latest);
                demand(!slept, || {
                    format!("output waited at {latest:?}, and the timeout was {promised:?}")
                })?;
            }
            Happening::Drained { local, due, .. } => {
                // Whoever's clock was set back is driven when it has caught up.
                let spins = due.is_some_and(|due| due <= *local);
                demand(!spins, || format!("drained at {local:?}, and due at {due:?} again"))?;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::HostId;

    #[test]
    fn output_behind_a_later_timeout_is_caught() {
        let polled = |promised, yielded| {
            let local = Instant::from_secs(5);
            let what = Happening::Polled { host: HostId(0), local, promised, yielded };
            Drain::default().happened(local, &what)
        };
        assert_eq!(polled(Some(Instant::from_secs(5)), true), Ok(()));
        assert_eq!(polled(Some(Instant::from_secs(4)), false), Ok(()));
        assert_eq!(polled(None, false), Ok(()));
        assert!(polled(None, true).is_err());
        assert!(polled(Some(Instant::from_secs(6)), true).is_err());
    }

    #[test]
    fn a_clock_set_back_since_the_node_began_stands_still_for_it() {
        let (host, dht, mut drain) = (HostId(0), crate::check::testing::server(), Drain::default());
        let (born, local) = (Instant::from_secs(9), Instant::from_secs(5));
        drain.happened(born, &Happening::Born { host, local: born, dht: &dht }).unwrap();
        let (promised, yielded) = (Some(born), true);
        let what = Happening::Polled { host, local, promised, yielded };
        assert_eq!(drain.happened(born, &what), Ok(()));
        let promised = Some(Instant::from_secs(10));
        let what = Happening::Polled { host, local, promised, yielded };
        assert!(drain.happened(born, &what).is_err());
    }

    #[test]
    fn a_node_that_is_due_though_drained_is_caught() {
        let mut config = dht_proto::config::Config::default();
        config.bootstrap = vec!["1.2.3.4:5".parse().unwrap()];
        let seed = dht_proto::seed::Seed::from_bytes([1; 32]);
        let (config, now) = (std::sync::Arc::new(config), Instant::from_secs(1));
        // Nobody has polled it: its first lookup is due.
        let dht = dht_proto::Dht::new(config, dht_proto::Networks::V4, &seed, now);
        let due = dht.poll_timeout();
        let what = Happening::Drained { host: HostId(0), local: now, due, dht: &dht };
        assert!(Drain::default().happened(now, &what).is_err());
    }
}
