//! Write tokens: proof that a requester receives what is sent to its address (BEP 5, BEP 44).

use crate::addr::Addr;
use crate::id::Target;
use crate::seed::{Domain, PrfKey, Seed};
use crate::time::Instant;

/// Length of the tokens handed out. jech/dht keeps at most 39 bytes of a token.
pub(super) const TOKEN_LEN: usize = 8;

/// Makes and checks tokens without remembering any.
///
/// A token is a keyed hash of the rotation period, the requester's IP address and the target. It
/// is bound neither to the port (a NAT may change it), nor to the node id (some clients announce
/// under a fresh one), nor to the method: a token from `get` serves an announce and the reverse.
/// Being bound to the target, it cannot be collected once and then used to write anywhere.
#[derive(Debug)]
pub(super) struct Tokens {
    key: PrfKey,
}

impl Tokens {
    pub(super) fn new(seed: &Seed) -> Self {
        Self { key: seed.key(Domain::Token) }
    }

    /// The token for `from` to write under `target`.
    pub(super) fn issue<A: Addr>(
        &self,
        period: Period,
        from: A,
        target: Target,
    ) -> [u8; TOKEN_LEN] {
        self.hash(period.0, from, target).to_be_bytes()
    }

    /// Whether this is the token of the current period or of the one before.
    ///
    /// BEP 5: "tokens up to ten minutes old are accepted", with a secret that "changes every five
    /// minutes".
    pub(super) fn accepts<A: Addr>(
        &self,
        period: Period,
        from: A,
        target: Target,
        token: &[u8],
    ) -> bool {
        let Ok(token) = token.try_into().map(u64::from_be_bytes) else { return false };
        let current = self.hash(period.0, from, target) ^ token;
        let previous = self.hash(period.0.saturating_sub(1), from, target) ^ token;
        // Whole words are compared, both at once, so that timing tells nothing about either.
        current.min(previous) == 0
    }

    fn hash<A: Addr>(&self, period: u64, from: A, target: Target) -> u64 {
        let compact = from.compact();
        let ip = compact.as_ref().get(..A::COMPACT_LEN - 2).unwrap_or_default();
        self.key.hash(&[&period.to_le_bytes(), target.as_bytes(), ip])
    }
}

/// Number of the period in which a token is made: the "secret" that rotates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period(u64);

impl Period {
    /// The period of `now`, if one lasts as long as `rotation`.
    pub(super) fn at(now: Instant, rotation: core::time::Duration) -> Self {
        let micros = u64::try_from(rotation.as_micros()).unwrap_or(u64::MAX).max(1);
        Self(now.as_micros() / micros)
    }
}

#[cfg(test)]
mod tests {
    use core::net::{SocketAddrV4, SocketAddrV6};
    use core::time::Duration;

    use super::*;

    const ROTATION: Duration = Duration::from_secs(300);

    fn period(secs: u64) -> Period {
        Period::at(Instant::from_secs(secs), ROTATION)
    }

    fn tokens() -> Tokens {
        Tokens::new(&Seed::from_bytes([1; 32]))
    }

    fn target(byte: u8) -> Target {
        Target::from_bytes([byte; 20])
    }

    /// anacrolix/dht `TestTokenServer`.
    #[test]
    fn token_server() {
        let from: SocketAddrV4 = "1.2.3.4:5".parse().unwrap();
        let tokens = tokens();
        let token = tokens.issue(period(299), from, target(1));
        for secs in [0, 299, 300, 599] {
            assert!(tokens.accepts(period(secs), from, target(1), &token), "{secs}");
        }
        assert!(!tokens.accepts(period(600), from, target(1), &token));
        assert!(!tokens.accepts(period(900), from, target(1), &token));
        let later = tokens.issue(period(300), from, target(1));
        assert!(!tokens.accepts(period(0), from, target(1), &later), "from the future");
    }

    #[test]
    fn tokens_bind_the_ip_and_the_target_but_not_the_port() {
        let from: SocketAddrV4 = "1.2.3.4:5".parse().unwrap();
        let tokens = tokens();
        let token = tokens.issue(period(1), from, target(1));
        assert!(tokens.accepts(period(1), from.with_port(6), target(1), &token));
        let neighbour: SocketAddrV4 = "1.2.3.5:5".parse().unwrap();
        assert!(!tokens.accepts(period(1), neighbour, target(1), &token));
        assert!(!tokens.accepts(period(1), from, target(2), &token));
        let other = Tokens::new(&Seed::from_bytes([2; 32]));
        assert!(!other.accepts(period(1), from, target(1), &token));
        let v6: SocketAddrV6 = "[2600::1]:5".parse().unwrap();
        let v6_token = tokens.issue(period(1), v6, target(1));
        assert!(tokens.accepts(period(1), v6.with_port(9), target(1), &v6_token));
    }

    /// Literature 3.5, "token forgery": at least eight bytes, and nothing shorter passes.
    #[test]
    fn token_forgery() {
        let from: SocketAddrV4 = "1.2.3.4:5".parse().unwrap();
        let tokens = tokens();
        let token = tokens.issue(period(1), from, target(1));
        for len in 0..TOKEN_LEN {
            assert!(!tokens.accepts(period(1), from, target(1), &token[..len]));
        }
        let longer: std::vec::Vec<u8> = token.iter().copied().chain([0]).collect();
        assert!(!tokens.accepts(period(1), from, target(1), &longer));
        for bit in 0..64 {
            let forged = (u64::from_be_bytes(token) ^ (1 << bit)).to_be_bytes();
            assert!(!tokens.accepts(period(1), from, target(1), &forged));
        }
        let mut guesses = Seed::from_bytes([9; 32]).stream(Domain::Jitter);
        for _ in 0..100_000 {
            let guess = guesses.next().to_be_bytes();
            assert!(!tokens.accepts(period(1), from, target(1), &guess));
        }
    }
}
