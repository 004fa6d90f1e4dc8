//! [`Profile`]: what an internet is like, under a name.

use core::fmt;
use core::time::Duration;

use crate::choices::Ratio;

/// What the network does to datagrams, how hosts are attached to it, and how they come and go.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Profile {
    /// What it is called.
    pub name: &'static str,
    /// Shortest and longest delay one way, where there is no [`geography`](Self::geography).
    pub delay: (Duration, Duration),
    /// Where delays come from: places and access links.
    pub geography: Option<Geography>,
    /// Datagrams lost, each by itself.
    pub loss: Ratio,
    /// Hosts whose access link loses many in a row.
    pub bursts: Bursts,
    /// Datagrams that arrive twice.
    pub duplicated: Ratio,
    /// Datagrams held back, so that later ones overtake them.
    pub reordered: Ratio,
    /// How long at most.
    pub held_back: Duration,
    /// Datagrams in which one bit is wrong.
    pub corrupted: Ratio,
    /// Datagrams that arrive cut short.
    pub truncated: Ratio,
    /// Datagrams of more bytes than this are lost.
    pub mtu: usize,
    /// What each host's access link carries; without limit if `None`.
    pub bandwidth: Option<Bandwidth>,
    /// What hosts are behind.
    pub mix: Mix,
    /// Share of all contacts in the tables of a network in equilibrium that are dead.
    pub dead: Ratio,
    /// How hosts come and go.
    pub turnover: Turnover,
}

/// Delays by distance and access link: a round trip is the distance on a square, plus the last
/// miles of both sides, each log-normal, times a little jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "parameters of a model")]
pub struct Geography {
    /// Round trip from one edge of the square to the opposite one, without last miles.
    pub across: Duration,
    /// Median of the part of a round trip that one access link takes.
    pub last_mile: Duration,
    /// Standard deviation of its logarithm.
    pub last_mile_sigma: Ratio,
    /// Standard deviation of the logarithm of what each single datagram's delay is multiplied by.
    pub jitter: Ratio,
}

/// Loss in bursts (Gilbert-Elliott): a link is good or bad, and may change with every datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "parameters of a model")]
pub struct Bursts {
    /// Share of hosts whose access link is like this.
    pub share: Ratio,
    /// How likely a good link turns bad.
    pub begin: Ratio,
    /// How likely a bad link turns good.
    pub end: Ratio,
    /// Datagrams that a bad link loses.
    pub loss: Ratio,
}

/// What an access link carries, each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "parameters of a model")]
pub struct Bandwidth {
    /// Bytes a second.
    pub bytes_per_sec: u32,
    /// What would wait longer than this is lost.
    pub queue: Duration,
}

/// How a NAT chooses the external port (RFC 4787, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "RFC 4787 has these three")]
pub enum Mapping {
    /// One for all destinations.
    EndpointIndependent,
    /// One for each destination address.
    AddressDependent,
    /// One for each destination address and port: a "symmetric" NAT.
    AddressAndPortDependent,
}

/// From whom a NAT or firewall lets datagrams in (RFC 4787, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "RFC 4787 has these three")]
pub enum Filtering {
    /// From everybody, while there is a mapping.
    Open,
    /// From addresses that were sent to.
    Address,
    /// From addresses and ports that were sent to.
    AddressAndPort,
}

/// A NAT, or a firewall that tracks who was sent to.
///
/// IPv6 is never translated: there it only filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "what RFC 4787 tells NATs apart by")]
pub struct Nat {
    /// How external ports are chosen; `None` is a firewall, which translates nothing.
    pub mapping: Option<Mapping>,
    /// Who gets in.
    pub filtering: Filtering,
    /// How long state lives without traffic.
    pub timeout: Duration,
    /// Whether what comes in counts as traffic, too, and not only what goes out.
    pub inbound_refresh: bool,
    /// Whether the external port is the host's own while that is free. Never where hosts share.
    pub preserves_port: bool,
    /// Whether hosts behind it reach each other by their external addresses.
    pub hairpin: bool,
    /// Hosts behind one external IPv4 address, at most [`Nat::MAX_SHARING`]: more than one makes a
    /// carrier's NAT.
    pub sharing: u16,
}

impl Nat {
    /// The most hosts behind one external address: each has a block of ports of its own.
    pub const MAX_SHARING: u16 = 64;

    /// A home router: endpoint-independent mapping, filters by address and port, holds state for
    /// two minutes.
    #[must_use]
    pub const fn home() -> Self {
        Self {
            mapping: Some(Mapping::EndpointIndependent),
            filtering: Filtering::AddressAndPort,
            timeout: Duration::from_secs(120),
            inbound_refresh: false,
            preserves_port: true,
            hairpin: false,
            sharing: 1,
        }
    }

    /// A firewall that lets in who was sent to, within a minute.
    #[must_use]
    pub const fn firewall() -> Self {
        Self { mapping: None, timeout: Duration::from_secs(60), ..Self::home() }
    }

    /// A carrier's NAT: symmetric, and several hosts behind one address.
    #[must_use]
    pub const fn carrier() -> Self {
        Self {
            mapping: Some(Mapping::AddressAndPortDependent),
            timeout: Duration::from_secs(60),
            preserves_port: false,
            sharing: 16,
            ..Self::home()
        }
    }

    /// Whether hosts behind it are seen at their own port.
    #[must_use]
    pub fn keeps_port(&self) -> bool {
        match self.mapping {
            None => true,
            Some(Mapping::EndpointIndependent) => self.preserves_port && self.sharing <= 1,
            Some(Mapping::AddressDependent | Mapping::AddressAndPortDependent) => false,
        }
    }

    /// Whether strangers reach a host behind it at its own port as long as it sends anything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.filtering == Filtering::Open && self.keeps_port()
    }
}

/// What shares of hosts are behind what; the rest is public.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "parameters of a model")]
pub struct Mix {
    /// Shares behind NATs and firewalls.
    pub behind: Vec<(Ratio, Nat)>,
    /// Share of those behind a firewall that say that they are read-only (BEP 43).
    pub read_only: Ratio,
}

/// How long hosts stay, and whether they come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "parameters of a model")]
pub struct Turnover {
    /// Shape of the Weibull distribution of session lengths, from 1/5 to 2.
    pub shape: Ratio,
    /// Its scale.
    pub scale: Duration,
    /// How far the rate of arrivals swings in a day, as a share of its mean.
    pub swing: Ratio,
    /// Share of arrivals that were here before.
    pub returning: Ratio,
    /// Share of those that keep their id.
    pub keeps_id: Ratio,
    /// Share of those, in turn, that still have their whole snapshot.
    pub keeps_table: Ratio,
}

/// No profile has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownProfile {
    name: String,
}

impl fmt::Display for UnknownProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no profile is called {:?}; there are {}", self.name, Profile::NAMES.join(", "))
    }
}

impl core::error::Error for UnknownProfile {}

const WORLDWIDE: Geography = Geography {
    across: Duration::from_millis(114),
    last_mile: Duration::from_micros(13_900),
    last_mile_sigma: Ratio::percent(152),
    jitter: Ratio::percent(5),
};

/// Half of all sessions are over after 200 minutes, 3 % last more than 150 hours.
const SESSIONS: Turnover = Turnover {
    shape: Ratio::percent(43),
    scale: Duration::from_secs(473 * 60),
    swing: Ratio::percent(30),
    returning: Ratio::percent(80),
    keeps_id: Ratio::percent(80),
    keeps_table: Ratio::percent(90),
};

/// Bad for a quarter of the time, and then four of five are lost: 20 % in all.
const BURSTS: Bursts = Bursts {
    share: Ratio::ZERO,
    begin: Ratio { num: 1, den: 15 },
    end: Ratio { num: 1, den: 5 },
    loss: Ratio::percent(80),
};

impl Default for Profile {
    fn default() -> Self {
        Self::simple((Duration::from_millis(20), Duration::from_millis(80)), Ratio::ZERO)
    }
}

impl Profile {
    /// The names that [`Profile::named`] knows.
    pub const NAMES: [&'static str; 5] = ["ideal", "lan", "internet", "mobile", "lossy"];

    /// Any delay between the shortest and the longest is as likely, and some datagrams are lost;
    /// nothing else happens.
    #[must_use]
    pub const fn simple(delay: (Duration, Duration), loss: Ratio) -> Self {
        Self {
            name: "simple",
            delay,
            geography: None,
            loss,
            bursts: BURSTS,
            duplicated: Ratio::ZERO,
            reordered: Ratio::ZERO,
            held_back: Duration::ZERO,
            corrupted: Ratio::ZERO,
            truncated: Ratio::ZERO,
            mtu: 1_472,
            bandwidth: None,
            mix: Mix { behind: Vec::new(), read_only: Ratio::ZERO },
            dead: Ratio::ZERO,
            turnover: SESSIONS,
        }
    }

    /// Whether every datagram that nothing stands in the way of arrives.
    #[must_use]
    pub const fn is_lossless(&self) -> bool {
        self.loss.num == 0 && self.bursts.share.num == 0
    }

    /// A profile by its name.
    ///
    /// # Errors
    /// [`UnknownProfile`] if there is none: it lists those there are.
    pub fn named(name: &str) -> Result<Self, UnknownProfile> {
        match name {
            "ideal" => Ok(Self::ideal()),
            "lan" => Ok(Self::lan()),
            "internet" => Ok(Self::internet()),
            "mobile" => Ok(Self::mobile()),
            "lossy" => Ok(Self::lossy()),
            _ => Err(UnknownProfile { name: name.to_owned() }),
        }
    }

    /// Fifty milliseconds one way, always; nothing is lost and nobody is behind anything.
    #[must_use]
    pub fn ideal() -> Self {
        let delay = Duration::from_millis(50);
        Self { name: "ideal", ..Self::simple((delay, delay), Ratio::ZERO) }
    }

    /// A fraction of a millisecond, and nothing is lost.
    #[must_use]
    pub fn lan() -> Self {
        let delay = (Duration::from_micros(100), Duration::from_micros(500));
        Self { name: "lan", ..Self::simple(delay, Ratio::ZERO) }
    }

    /// What is known of the hosts of Mainline, and plausible where nothing is: round trips with
    /// median 110 ms, p95 350 ms and p99 800 ms, 1 % loss, fewer than half of the hosts public.
    #[must_use]
    pub fn internet() -> Self {
        let symmetric = Nat { sharing: 1, ..Nat::carrier() };
        Self {
            name: "internet",
            geography: Some(WORLDWIDE),
            loss: Ratio::percent(1),
            bursts: Bursts { share: Ratio::per_mille(5), ..BURSTS },
            duplicated: Ratio::per_mille(1),
            reordered: Ratio::per_mille(5),
            held_back: Duration::from_millis(50),
            mix: Mix {
                behind: vec![
                    (Ratio::percent(25), Nat { filtering: Filtering::Address, ..Nat::home() }),
                    (Ratio::percent(10), symmetric),
                    (Ratio::percent(5), Nat::carrier()),
                    (Ratio::percent(15), Nat::firewall()),
                ],
                read_only: Ratio::percent(50),
            },
            dead: Ratio::percent(20),
            ..Self::default()
        }
    }

    /// Telephones: longer and less even round trips (median 180 ms, p99 1.5 s), 3 % loss, most behind
    /// a carrier's NAT, short sessions.
    #[must_use]
    pub fn mobile() -> Self {
        Self {
            name: "mobile",
            geography: Some(Geography {
                across: Duration::from_millis(222),
                last_mile: Duration::from_millis(13),
                last_mile_sigma: Ratio::percent(180),
                jitter: Ratio::percent(15),
            }),
            loss: Ratio::percent(3),
            bursts: Bursts { share: Ratio::percent(10), ..BURSTS },
            bandwidth: Some(Bandwidth {
                bytes_per_sec: 125_000,
                queue: Duration::from_millis(500),
            }),
            mix: Mix {
                behind: vec![
                    (Ratio::percent(20), Nat::home()),
                    (Ratio::percent(50), Nat::carrier()),
                    (Ratio::percent(10), Nat::firewall()),
                ],
                read_only: Ratio::percent(50),
            },
            dead: Ratio::percent(40),
            turnover: Turnover { scale: Duration::from_secs(60 * 60), ..SESSIONS },
            ..Self::internet()
        }
    }

    /// The internet on a bad day: one in ten is lost, others come twice, late, damaged or cut short.
    #[must_use]
    pub fn lossy() -> Self {
        Self {
            name: "lossy",
            loss: Ratio::percent(10),
            bursts: Bursts { share: Ratio::percent(10), ..BURSTS },
            duplicated: Ratio::percent(1),
            reordered: Ratio::percent(5),
            held_back: Duration::from_secs(1),
            corrupted: Ratio::percent(1),
            truncated: Ratio::per_mille(5),
            dead: Ratio::percent(40),
            ..Self::internet()
        }
    }
}

impl fmt::Display for Profile {
    /// Every parameter, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "profile {}", self.name)?;
        match &self.geography {
            None => writeln!(f, "  delay {:?} to {:?}", self.delay.0, self.delay.1)?,
            Some(g) => writeln!(
                f,
                "  across {:?}\n  last mile {:?} sigma {}\n  jitter {}",
                g.across, g.last_mile, g.last_mile_sigma, g.jitter
            )?,
        }
        let bursts = &self.bursts;
        writeln!(f, "  loss {}", self.loss)?;
        writeln!(
            f,
            "  bursts {} begin {} end {} loss {}",
            bursts.share, bursts.begin, bursts.end, bursts.loss
        )?;
        writeln!(f, "  duplicated {}", self.duplicated)?;
        writeln!(f, "  reordered {} by up to {:?}", self.reordered, self.held_back)?;
        writeln!(f, "  corrupted {}\n  truncated {}", self.corrupted, self.truncated)?;
        writeln!(f, "  mtu {} bytes", self.mtu)?;
        match &self.bandwidth {
            None => writeln!(f, "  bandwidth unlimited")?,
            Some(b) => {
                writeln!(f, "  bandwidth {} bytes/s queue {:?}", b.bytes_per_sec, b.queue)?;
            }
        }
        for (share, nat) in &self.mix.behind {
            writeln!(f, "  behind {share} {nat}")?;
        }
        writeln!(f, "  read-only {} of the firewalled", self.mix.read_only)?;
        writeln!(f, "  dead contacts {}", self.dead)?;
        let t = &self.turnover;
        writeln!(f, "  sessions Weibull shape {} scale {:?}", t.shape, t.scale)?;
        writeln!(f, "  daily swing {}", t.swing)?;
        write!(f, "  returning {} keep id {} keep table {}", t.returning, t.keeps_id, t.keeps_table)
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mapping {
            None => f.write_str("firewall")?,
            Some(mapping) => write!(f, "nat mapping {mapping:?}")?,
        }
        write!(f, " filtering {:?} timeout {:?}", self.filtering, self.timeout)?;
        write!(f, " inbound refresh {}", self.inbound_refresh)?;
        write!(f, " preserves port {} hairpin {}", self.preserves_port, self.hairpin)?;
        write!(f, " sharing {}", self.sharing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_name_and_say_all_they_are() {
        let mut texts: Vec<_> = Profile::NAMES
            .iter()
            .map(|name| {
                let profile = Profile::named(name).unwrap();
                assert_eq!(profile.name, *name);
                profile.to_string()
            })
            .collect();
        texts.push(Profile::default().to_string());
        for text in &texts {
            for word in ["loss", "mtu", "sessions", "returning", "dead contacts"] {
                assert!(text.contains(word), "{word} in {text}");
            }
        }
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 6);
        let unknown = Profile::named("moon").unwrap_err().to_string();
        assert!(Profile::NAMES.iter().all(|name| unknown.contains(name)), "{unknown}");
    }
}
