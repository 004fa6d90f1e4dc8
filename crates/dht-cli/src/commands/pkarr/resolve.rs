//! `dht pkarr resolve`: finds the records of a key.

use super::{Session, done, save, show};
use crate::args::Global;
use crate::args::pkarr::ResolveArgs;
use crate::commands::Ended;
use crate::failure::Status;
use crate::output::{Done, Line, Output, pkarr};

pub(super) fn run(args: &ResolveArgs, global: &Global, out: &Output) -> Ended {
    let key = args.name.key;
    let session = Session::start(&args.through, global, out)?;
    let found =
        session.run("looking for the records", |client| client.resolve(&key, args.policy.into()));
    let (status, pkarr) = match found {
        Ok(found) => {
            let packet = &found.packet.packet;
            save(args.save.as_deref(), packet)?;
            let seen = Some((found.packet.last_seen, &found.origin));
            let records = show(out, packet, seen, args.name.below.as_deref())?;
            let timestamp = Some(packet.timestamp().as_micros());
            let none = records == 0 && args.name.below.is_some();
            if none {
                out.warn("the key has a packet, but no records of this name");
            }
            let pkarr = pkarr::Done { timestamp, records: Some(records), ..done(&key) };
            (none.then_some(Status::NotFound), pkarr)
        }
        Err(error) => {
            let failure = session.not_resolved(&key, &error);
            out.failure(&failure);
            (Some(failure.status), pkarr::Done { records: Some(0), ..done(&key) })
        }
    };
    let ok = Some(status.is_none());
    out.json(&Line::Done(Done { ok, pkarr: Some(Box::new(pkarr)), ..Done::default() }));
    Ok(status)
}
