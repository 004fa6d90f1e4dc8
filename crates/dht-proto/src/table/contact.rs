//! [`Contact`]: a node that answered us, in as few bytes as it takes.

use core::time::Duration;

use crate::addr::Addr;
use crate::config::Config;
use crate::id::{Distance, ID_LEN, NodeId, Target, bep42};
use crate::time::Instant;

/// First pause before a silent contact is asked again, in ticks; doubles with each failure.
const BACKOFF: u32 = 60 * TICKS_PER_SEC;
/// The pause doubles at most this often: 32 min.
const MAX_BACKOFF_SHIFT: u8 = 5;
/// A contact with this many failures in a row is not handed out (mldht: `failed < 2`).
const QUESTIONABLE_FAILS: u8 = 2;

/// The id fits the address (BEP 42).
const VALID_ID: u16 = 1;
/// A query of the contact took the place of one ping since the contact's last answer.
const EXTENDED: u16 = 2;
/// The contact asked us shortly before it first answered, and may have done so through the hole that
/// its own query made in its firewall: others may not reach it.
const DOUBTFUL: u16 = 4;

const TICKS_PER_SEC: u32 = 10;

/// Table time: tenths of a second since the origin. Saturates after thirteen years, at [`NEVER`].
pub(super) type Ticks = u32;

/// A tick that no clock reaches: what is due then never is.
pub(super) const NEVER: Ticks = Ticks::MAX;

pub(super) fn ticks(now: Instant) -> Ticks {
    u32::try_from(now.as_micros() / 100_000).unwrap_or(NEVER)
}

/// A period in ticks, at least one.
pub(super) fn period(duration: Duration) -> Ticks {
    let rest = u64::from(duration.subsec_millis().div_ceil(100));
    let ticks = duration.as_secs().saturating_mul(TICKS_PER_SEC.into()).saturating_add(rest);
    u32::try_from(ticks).unwrap_or(NEVER).max(1)
}

/// The first instant of a tick, [`Instant::FAR_FUTURE`] for [`NEVER`].
pub(super) fn instant(ticks: Ticks) -> Instant {
    if ticks == NEVER {
        Instant::FAR_FUTURE
    } else {
        Instant::from_micros(u64::from(ticks) * 100_000)
    }
}

/// A node that answered a query of ours: 34 bytes for IPv4, 46 for IPv6.
#[derive(Clone, Copy, Debug)]
pub struct Contact<A: Addr> {
    id: NodeId,
    compact: A::Compact,
    /// When the contact was last heard, in ticks.
    heard: [u8; 4],
    /// Smoothed round trip in milliseconds, and queries in a row that were not answered.
    rtt_and_fails: [u8; 2],
    /// Seconds from `heard` to our latest query that is still unanswered, or 0 if there is none; and
    /// flags.
    asked_and_flags: [u8; 2],
}

const _: () = assert!(size_of::<Contact<core::net::SocketAddrV4>>() == 34);
const _: () = assert!(size_of::<Contact<core::net::SocketAddrV6>>() == 46);

/// The bits of `rtt_and_fails` that count failures; the others are the round trip.
const FAILS: u16 = 0x1f;
/// The longest round trip that a contact remembers.
const MAX_RTT: u16 = u16::MAX >> FAILS.count_ones();
/// The bits of `asked_and_flags` that are flags; the others are the time.
const FLAGS: u16 = 7;
/// The longest silence that a contact remembers, in seconds.
const MAX_ASKED: u32 = (u16::MAX >> FLAGS.count_ones()) as u32;

impl<A: Addr> Contact<A> {
    pub(super) fn new(now: Ticks, id: NodeId, addr: A, rtt: u16) -> Self {
        let flags: u16 = if bep42::is_valid(id, addr.ip()) { VALID_ID } else { 0 };
        let mut contact = Self {
            id,
            compact: addr.compact(),
            heard: now.to_ne_bytes(),
            rtt_and_fails: [0; 2],
            asked_and_flags: flags.to_ne_bytes(),
        };
        contact.set_rtt_and_fails(rtt, 0);
        contact
    }

    fn set_rtt_and_fails(&mut self, rtt: u16, fails: u8) {
        let packed = rtt.min(MAX_RTT) << FAILS.count_ones() | u16::from(fails).min(FAILS);
        self.rtt_and_fails = packed.to_ne_bytes();
    }

    /// Seconds from when it was last heard to our latest query that is still unanswered.
    fn asked_after(&self) -> u16 {
        u16::from_ne_bytes(self.asked_and_flags) >> FLAGS.count_ones()
    }

    fn set_asked_after(&mut self, seconds: u16) {
        let packed = seconds << FLAGS.count_ones() | self.flags();
        self.asked_and_flags = packed.to_ne_bytes();
    }

    fn flags(&self) -> u16 {
        u16::from_ne_bytes(self.asked_and_flags) & FLAGS
    }

    fn set_flag(&mut self, flag: u16, on: bool) {
        let others = u16::from_ne_bytes(self.asked_and_flags) & !flag;
        self.asked_and_flags = (others | if on { flag } else { 0 }).to_ne_bytes();
    }

    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Where it answers.
    #[must_use]
    pub fn addr(&self) -> A {
        A::from_compact(self.compact)
    }

    /// Smoothed round-trip time, to the millisecond; 2,047 ms if it is longer.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        Duration::from_millis(u64::from(self.rtt_millis()))
    }

    /// When it was last heard, to a tenth of a second.
    #[must_use]
    pub fn last_heard(&self) -> Instant {
        instant(self.heard())
    }

    /// Queries in a row that it did not answer.
    #[must_use]
    pub fn fails(&self) -> u8 {
        (u16::from_ne_bytes(self.rtt_and_fails) & FAILS) as u8
    }

    /// When a query of ours to it was last counted as lost, or our latest ping left, to the second.
    #[must_use]
    pub fn last_asked(&self) -> Instant {
        instant(self.asked_at())
    }

    /// Whether the id fits the address (BEP 42).
    #[must_use]
    pub fn has_valid_id(&self) -> bool {
        self.flags() & VALID_ID != 0
    }

    /// Whether it is handed out to others and asked by our own lookups.
    #[must_use]
    #[inline]
    pub fn is_good(&self) -> bool {
        self.fails() < QUESTIONABLE_FAILS
    }

    /// Like [`NodeId::distance`], without a copy of the id.
    #[inline]
    pub(super) fn distance(&self, target: Target) -> Distance {
        Distance::between(self.id.as_bytes(), target.node_id().as_bytes())
    }

    /// Writes the compact node into `record`, which is [`Addr::NODE_LEN`] long.
    #[inline]
    pub(super) fn write_node(&self, record: &mut [u8]) {
        let (id, addr) = record.split_at_mut(ID_LEN);
        id.copy_from_slice(self.id.as_bytes());
        addr.copy_from_slice(self.compact.as_ref());
    }

    #[inline]
    pub(super) fn compact(&self) -> &A::Compact {
        &self.compact
    }

    pub(super) fn rtt_millis(&self) -> u16 {
        u16::from_ne_bytes(self.rtt_and_fails) >> FAILS.count_ones()
    }

    pub(super) fn heard(&self) -> Ticks {
        Ticks::from_ne_bytes(self.heard)
    }

    /// It may be reachable for us only: it is asked again when [`Config::verify_delay`] has passed
    /// in silence.
    pub(super) fn doubt(&mut self) {
        self.set_flag(DOUBTFUL, true);
    }

    /// The contact answered.
    pub(super) fn replied(&mut self, now: Ticks, rtt: u16, config: &Config) {
        if now >= self.heard().saturating_add(period(config.verify_delay)) {
            self.set_flag(DOUBTFUL, false);
        }
        self.heard = now.to_ne_bytes();
        self.set_asked_after(0);
        self.set_flag(EXTENDED, false);
        // Two thirds old, one third new, as libtorrent does; halves are rounded towards the old.
        let smoothed = (u32::from(self.rtt_millis()) * 2 + u32::from(rtt)) / 3;
        self.set_rtt_and_fails(smoothed as u16, 0);
    }

    /// The contact, or somebody who forges its address, asked us something.
    ///
    /// BEP 5 lets a query keep a contact good. Since a query proves no reachability, it does so
    /// once: the next word that counts is an answer. Nor does it excuse an unanswered query.
    pub(super) fn queried(&mut self, now: Ticks) {
        if self.fails() == 0 && self.asked_after() == 0 && self.flags() & EXTENDED == 0 {
            self.heard = now.to_ne_bytes();
            self.set_flag(EXTENDED, true);
        }
    }

    /// A query leaves for the contact, or one was lost.
    pub(super) fn asked(&mut self, now: Ticks) {
        // A longer silence than can be remembered counts as the longest that can.
        let heard = self.heard().max(now.saturating_sub(MAX_ASKED * TICKS_PER_SEC));
        self.heard = heard.to_ne_bytes();
        let silence = now.saturating_sub(heard).div_ceil(TICKS_PER_SEC);
        self.set_asked_after((silence as u16).max(1));
    }

    /// A query was not answered.
    pub(super) fn failed(&mut self, now: Ticks) {
        self.asked(now);
        // Silence of a doubtful one is no lost datagram: it is not handed out any more.
        let least = if self.flags() & DOUBTFUL == 0 { 1 } else { QUESTIONABLE_FAILS };
        self.set_rtt_and_fails(self.rtt_millis(), self.fails().saturating_add(1).max(least));
    }

    fn asked_at(&self) -> Ticks {
        self.heard().saturating_add(u32::from(self.asked_after()) * TICKS_PER_SEC)
    }

    /// When the table should ping the contact.
    pub(super) fn due(&self, config: &Config) -> Ticks {
        self.due_after(Pauses::of(config))
    }

    /// The same, for whoever asks many contacts.
    #[inline]
    pub(super) fn due_after(&self, pauses: Pauses) -> Ticks {
        if self.asked_after() == 0 {
            let doubtful = self.flags() & DOUBTFUL != 0;
            let pause = if doubtful { pauses.doubtful } else { pauses.usual };
            return self.heard().saturating_add(pause);
        }
        let asked_at = self.asked_at();
        asked_at.saturating_add(BACKOFF << self.fails().min(MAX_BACKOFF_SHIFT))
    }
}

/// How long a contact may be silent before it is pinged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    usual: Ticks,
    doubtful: Ticks,
}

impl Pauses {
    pub(super) fn of(config: &Config) -> Self {
        let usual = period(config.ping_after);
        Self { usual, doubtful: period(config.verify_delay).min(usual) }
    }
}

/// A round trip in whole milliseconds, saturating.
pub(super) fn millis(rtt: Duration) -> u16 {
    u16::try_from(rtt.as_millis()).unwrap_or(u16::MAX)
}

/// Whether two compact addresses have the same IP address.
pub(super) fn same_ip<A: Addr>(a: &A::Compact, b: &A::Compact) -> bool {
    a.as_ref().get(..A::COMPACT_LEN - 2) == b.as_ref().get(..A::COMPACT_LEN - 2)
}
