//! Whether the network answers at all: nobody is blamed for silence while we are offline.

use core::time::Duration;

use crate::health::{Problem, Trouble};
use crate::time::Instant;

/// Input that comes this much later than the deadline means that time jumped: the machine slept, or
/// the process was stopped. What was in flight then says nothing about the nodes asked.
pub(super) const JUMP: Duration = Duration::from_secs(10);
/// How long a jump is mentioned in the health report.
const JUMP_NEWS: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Link {
    /// When the first query left since the latest answer to one.
    unanswered_since: Option<Instant>,
    jump: Option<(Instant, Duration)>,
    pub(super) trouble: Option<Trouble>,
    /// Whether anybody ever told us of a node whose address can be true.
    pub(super) anybody_named: bool,
    /// Whether there ever was a contact.
    pub(super) had_contacts: bool,
}

impl Link {
    pub(super) const fn new() -> Self {
        Self {
            unanswered_since: None,
            jump: None,
            trouble: None,
            anybody_named: false,
            had_contacts: false,
        }
    }

    pub(super) fn on_sent(&mut self, now: Instant) {
        self.unanswered_since.get_or_insert(now);
    }

    pub(super) const fn on_answered(&mut self) {
        self.unanswered_since = None;
    }

    pub(super) fn is_offline(&self, now: Instant, after: Duration) -> bool {
        self.unanswered_since.is_some_and(|since| now.since(since) >= after)
    }

    /// Whether `now` lies so far behind the deadline that queries in flight are void. The deadline is
    /// not before the last input: what waited for its turn since then did not make us late.
    pub(super) fn notice_jump(&mut self, now: Instant, deadline: Option<Instant>) -> bool {
        let late = deadline.map_or(Duration::ZERO, |deadline| now.since(deadline));
        if late < JUMP {
            return false;
        }
        self.jump = Some((now, late));
        self.unanswered_since = None;
        true
    }

    /// What the runtime reported, if it did.
    pub(super) fn trouble_problem(&self) -> Option<Problem> {
        self.trouble.map(|trouble| match trouble {
            Trouble::Unresolved => Problem::Unresolved,
            Trouble::Socket => Problem::Socket,
        })
    }

    /// What is wrong although contacts are known.
    pub(super) fn problem(&self, now: Instant, offline_after: Duration) -> Option<Problem> {
        if let (Some(since), true) = (self.unanswered_since, self.is_offline(now, offline_after)) {
            return Some(Problem::Offline { silence: now.since(since) });
        }
        let (at, by) = self.jump?;
        (now.since(at) < JUMP_NEWS).then_some(Problem::ClockJumped { by })
    }
}
