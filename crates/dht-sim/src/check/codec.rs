//! I12: the codec. What is decoded encodes to something that decodes to the same, and a datagram
//! of a shipped node encodes to itself, byte for byte.

use dht_proto::time::Instant;
use dht_proto::wire::{self, MAX_DATAGRAM_READ, Message};

use super::{Checker, Happening, demand};

/// Longer than any datagram that is read, since canonical form is never longer than what it came
/// from by more than a few digits.
const ROOM: usize = 2 * MAX_DATAGRAM_READ;

/// See the module.
pub struct Codec {
    out: Box<[u8; ROOM]>,
    /// The length of what was found canonical last, which begins `out`: it is carried next.
    canonical: usize,
}

impl Default for Codec {
    fn default() -> Self {
        Self { out: Box::new([0; ROOM]), canonical: 0 }
    }
}

impl core::fmt::Debug for Codec {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Codec")
    }
}

impl Checker for Codec {
    fn name(&self) -> &'static str {
        "I12 codec"
    }

    fn happened(&mut self, _now: Instant, what: &Happening<'_>) -> Result<(), String> {
        match what {
            Happening::Carried { bytes, .. } => self.check_stable(bytes),
            Happening::Asked { bytes, .. } => self.check_canonical(bytes),
            Happening::Handled { reply: Some((_, reply)), .. } => self.check_canonical(reply),
            _ => Ok(()),
        }
    }
}

impl Codec {
    /// Whoever sent it: reading, writing and reading again gives what reading gave.
    fn check_stable(&mut self, bytes: &[u8]) -> Result<(), String> {
        let canonical = core::mem::take(&mut self.canonical);
        if !bytes.is_empty() && self.out.get(..canonical) == Some(bytes) {
            return Ok(());
        }
        let Ok(message) = wire::decode(bytes) else { return Ok(()) };
        let written = self.encode(&message)?;
        if written == bytes {
            return Ok(());
        }
        check_same(&message, written)
    }

    /// Sent by a shipped node.
    fn check_canonical(&mut self, bytes: &[u8]) -> Result<(), String> {
        let message =
            wire::decode(bytes).map_err(|e| format!("a node sent what cannot be read: {e}"))?;
        let written = self.encode(&message)?;
        demand(written == bytes, || format!("a node sent {message:?} in another form"))?;
        self.canonical = bytes.len();
        Ok(())
    }

    fn encode(&mut self, message: &Message<'_>) -> Result<&[u8], String> {
        let len = message.encode(&mut *self.out);
        let len = len.ok_or_else(|| format!("{message:?} cannot be written"))?;
        self.out.get(..len).ok_or_else(|| "a length beyond the buffer".to_owned())
    }
}

/// What was written for a message is read as that message.
fn check_same(message: &Message<'_>, written: &[u8]) -> Result<(), String> {
    let again = wire::decode(written)
        .map_err(|e| format!("a message that was written cannot be read: {e}"))?;
    let sorted = Message { unsorted: false, ..*message };
    demand(again == sorted, || format!("{sorted:?} turns into {again:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{ping, pong};
    use crate::world::HostId;

    #[test]
    fn a_node_that_sends_anything_but_canonical_form_is_caught() {
        let asked = |bytes: &[u8]| {
            let (host, local, to) = (HostId(0), Instant::ZERO, "1.2.3.4:5".parse().unwrap());
            Codec::default().happened(local, &Happening::Asked { host, local, to, bytes })
        };
        let good = ping(b"abcd");
        assert_eq!(asked(&good), Ok(()));
        let mut unknown_key = good.clone();
        unknown_key.splice(1..1, *b"1:!1:x");
        assert!(asked(&unknown_key).is_err());
        assert!(asked(&good[..good.len() - 1]).is_err());
        let (from, to) = ("1.2.3.4:5".parse().unwrap(), "1.2.3.4:6".parse().unwrap());
        let carried = Happening::Carried { from, to, bytes: &unknown_key };
        assert_eq!(Codec::default().happened(Instant::ZERO, &carried), Ok(()), "others may");
    }

    #[test]
    fn a_message_that_turns_into_another_is_caught() {
        let (query, reply) = (ping(b"abcd"), pong(b"abcd"));
        let message = wire::decode(&query).unwrap();
        assert_eq!(check_same(&message, &query), Ok(()));
        assert!(check_same(&message, &reply).is_err());
        assert!(check_same(&message, &ping(b"abce")).is_err());
        assert!(check_same(&message, &query[1..]).is_err());
    }
}
