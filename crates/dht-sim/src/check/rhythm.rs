//! I11: out of step. Nodes that were left alone do not send all at the same time.
//!
//! What is compared is how much the traffic of all nodes varies from one moment to the next, and how
//! much it would vary if they knew nothing of each other: then variances add up. If all move in step
//! the traffic of n nodes varies n times as much. Autocorrelation then tells how often a storm comes.

use std::time::Duration;

use dht_proto::time::Instant;

use super::{Checker, Happening, PerHost, demand};

/// Users, births and deaths count as a disturbance for this long: buckets are refreshed and the own
/// id is looked for within it.
const CALM: Duration = Duration::from_secs(45 * 60);
/// Traffic may vary this many times as much as that of nodes that know nothing of each other.
const LIMIT: u128 = 3;
/// Queries in a window of which anything is said.
const ENOUGH: u64 = 300;
/// Storms within a quarter of a minute and within a whole one: seconds of a moment, moments of a
/// window. Shorter moments would tell of timers with a common grid, which is no storm.
const BEATS: [(u64, usize); 2] = [(15, 180), (60, 60)];

/// What a node sent.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    window: u64,
    all: u64,
    moment: u64,
    in_moment: u64,
}

/// One window after another, in moments of one length.
#[derive(Debug)]
struct Beat {
    width: u64,
    nodes: PerHost<Sent>,
    /// Seconds at which the present window began; 0 before the first.
    began: u64,
    /// Queries of everybody in each moment.
    moments: Vec<u64>,
    /// Over all nodes: the squares of what each sent in each moment, and of what it sent in all.
    squares: u128,
    whole_squares: u128,
    windows: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Rhythm {
    disturbed: Instant,
    beats: [Beat; 2],
}

impl Default for Rhythm {
    fn default() -> Self {
        let beats = BEATS.map(|(width, moments)| Beat::new(width, moments));
        Self { disturbed: Instant::ZERO, beats }
    }
}

impl Rhythm {
    /// Windows in which traffic was looked at so far, short ones and long ones.
    #[must_use]
    pub fn windows(&self) -> [u32; 2] {
        [&self.beats[0], &self.beats[1]].map(|beat| beat.windows)
    }
}

impl Checker for Rhythm {
    fn name(&self) -> &'static str {
        "I11 rhythm"
    }

    fn happened(&mut self, now: Instant, what: &Happening<'_>) -> Result<(), String> {
        match what {
            Happening::Started { .. } | Happening::Born { .. } | Happening::Died { .. } => {
                self.disturbed = now;
                self.beats.iter_mut().for_each(Beat::restart);
                Ok(())
            }
            Happening::Asked { .. } if now >= self.disturbed + CALM => {
                self.beats.iter_mut().try_for_each(|beat| beat.asked(now.as_secs(), what))
            }
            _ => Ok(()),
        }
    }
}

impl Beat {
    fn new(width: u64, moments: usize) -> Self {
        Self {
            width,
            nodes: PerHost::default(),
            began: 0,
            moments: vec![0; moments],
            squares: 0,
            whole_squares: 0,
            windows: 0,
        }
    }

    fn restart(&mut self) {
        if self.began != 0 {
            self.began = 0;
            self.moments.fill(0);
            (self.squares, self.whole_squares) = (0, 0);
        }
    }

    fn asked(&mut self, second: u64, what: &Happening<'_>) -> Result<(), String> {
        if self.began != 0 && second >= self.began + self.width * self.moments.len() as u64 {
            self.windows += 1;
            self.judge()?;
            self.restart();
        }
        if self.began == 0 {
            self.began = second;
        }
        let moment = (second - self.began) / self.width;
        let Some(sent) = self.nodes.at(what) else { return Ok(()) };
        if sent.window != self.began {
            *sent = Sent { window: self.began, moment, ..Sent::default() };
        }
        if sent.moment != moment {
            (sent.moment, sent.in_moment) = (moment, 0);
        }
        // (n + 1)^2 = n^2 + 2 n + 1.
        self.squares += u128::from(2 * sent.in_moment + 1);
        self.whole_squares += u128::from(2 * sent.all + 1);
        (sent.in_moment, sent.all) = (sent.in_moment + 1, sent.all + 1);
        if let Some(count) = self.moments.get_mut(moment as usize) {
            *count += 1;
        }
        Ok(())
    }

    fn judge(&self) -> Result<(), String> {
        let n = self.moments.len() as u128;
        let all: u64 = self.moments.iter().sum();
        let squares: u128 = self.moments.iter().map(|count| u128::from(count * count)).sum();
        // Variances, times the number of moments squared.
        let together = n * squares - u128::from(all) * u128::from(all);
        let apart = n * self.squares - self.whole_squares;
        demand(all < ENOUGH || together <= LIMIT * apart, || {
            let (times, width) = (together / apart.max(1), self.width);
            let lag = self.strongest_lag() * width;
            format!(
                "nodes are in step: in moments of {width} s their traffic varies {times} times as \
                 much as if they knew nothing of each other, most alike every {lag} s"
            )
        })
    }

    /// After how many moments traffic is most like itself.
    fn strongest_lag(&self) -> u64 {
        let product = |lag: usize| -> u64 {
            self.moments.iter().zip(self.moments.iter().skip(lag)).map(|(a, b)| a * b).sum()
        };
        // Of equal ones the shortest.
        let lags = (2..self.moments.len() / 2).rev();
        lags.max_by_key(|lag| product(*lag)).unwrap_or(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::HostId;

    /// Five hours of so many nodes, each of which sends five queries within a second once every
    /// five minutes, at the moment that is its own.
    fn five_hours(nodes: u32, moment: impl Fn(u32) -> u64) -> (Rhythm, Result<(), String>) {
        let mut checker = Rhythm::default();
        let mut all: Vec<(u64, u32)> = (0..60)
            .flat_map(|round| (0..nodes).map(move |host| (round * 300, host)))
            .map(|(start, host)| (start + moment(host), host))
            .collect();
        all.sort_unstable();
        let result = all.into_iter().try_for_each(|(second, host)| {
            let (host, to) = (HostId(host), "1.2.3.4:5".parse().unwrap());
            let at = Instant::from_secs(second);
            let what = Happening::Asked { host, local: at, to, bytes: &[] };
            (0..5).try_for_each(|_| checker.happened(at, &what))
        });
        (checker, result)
    }

    #[test]
    fn nodes_out_of_step_are_fine_and_were_looked_at() {
        let (checker, result) = five_hours(100, |host| u64::from(host) * 7_919 % 300);
        assert_eq!(result, Ok(()));
        let [short, long] = checker.windows();
        assert!(short >= 5 && long >= 4, "{short} {long}");
    }

    #[test]
    fn nodes_in_step_are_caught() {
        let words = five_hours(100, |_| 40).1.unwrap_err();
        assert!(words.contains("100 times") && words.contains("every 300 s"), "{words}");
        // Not within a moment, but within three.
        let words = five_hours(100, |host| u64::from(host) * 7_919 % 45).1.unwrap_err();
        assert!(words.contains("30 times"), "{words}");
        // One in ten.
        let few = |host: u32| if host < 10 { 40 } else { u64::from(host) * 7_919 % 300 };
        assert_eq!(five_hours(100, few).1, Ok(()));
        let many = |host: u32| if host < 50 { 40 } else { u64::from(host) * 7_919 % 300 };
        assert!(five_hours(100, many).1.is_err());
    }

    #[test]
    fn nothing_is_said_of_a_network_that_was_disturbed() {
        let mut checker = Rhythm::default();
        for second in 0..20_000 {
            let at = Instant::from_secs(second);
            if second % 2_000 == 0 {
                checker.happened(at, &Happening::Died { host: HostId(1) }).unwrap();
            }
            let to = "1.2.3.4:5".parse().unwrap();
            let what = Happening::Asked { host: HostId(0), local: at, to, bytes: &[] };
            checker.happened(at, &what).unwrap();
        }
        assert_eq!(checker.windows(), [0, 0]);
    }
}
