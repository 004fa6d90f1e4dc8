//! `dht pkarr publish`: signs records and stores them.

use dht_pkarr::publish::PublishError as Reason;
use dht_pkarr::record::Record;
use dht_pkarr::{BuildError, Keypair, PublicKey, SignedPacket, zone};
use dht_pkarr_client::{PublishError, Published, now};

use super::{Session, done, save, show};
use crate::args::Global;
use crate::args::pkarr::PublishArgs;
use crate::commands::{Ended, code_words, counts_words, nodes};
use crate::failure::{Failure, Status};
use crate::output::{Done, Line, Output, Summary, pkarr};
use crate::value;

/// A zone file is shorter than this, in bytes: a packet has no room for more than a part of it.
const MAX_ZONE: u64 = 1 << 20;
/// No clock is so far ahead, in seconds.
const MAX_AHEAD: u64 = 24 * 3_600;

pub(super) fn run(args: &PublishArgs, global: &Global, out: &Output) -> Ended {
    let (key, exposed) = value::read_key(&args.key)?;
    if exposed {
        let file = args.key.display();
        out.warn(format_args!("warning: others can read {file}; run chmod 600 {file}"));
    }
    let keypair = Keypair::from_secret(&key.to_bytes());
    let records = records(args, &keypair.public_key())?;
    let timestamp = args.timestamp.unwrap_or_else(now);
    if timestamp.secs_since(now()) > MAX_AHEAD {
        let date = dht_pkarr_client::http_date(timestamp.as_secs());
        out.warn(format_args!(
            "warning: until {date} nothing replaces this packet but a later --timestamp"
        ));
    }
    let packet =
        SignedPacket::sign(&keypair, timestamp, records).map_err(|error| not_signed(&error))?;
    save(args.save.as_deref(), &packet)?;
    if args.dry_run {
        let records = show(out, &packet, None, None)?;
        let pkarr = pkarr::Done { records: Some(records), ..done(&packet.public_key()) };
        out.json(&Line::Done(Done { pkarr: Some(Box::new(pkarr)), ..Done::default() }));
        return Ok(None);
    }
    let session = Session::start(&args.through, global, out)?;
    let published = session.run("storing", |client| match args.cas {
        Some(cas) => client.publish_after(&packet, cas),
        None => client.publish(&packet),
    });
    Ok(match published {
        Ok(published) => {
            tell(out, &published, true);
            None
        }
        Err(error) => {
            let failure = failure(&session, &error);
            out.failure(&failure);
            tell(out, &error.report, false);
            Some(failure.status)
        }
    })
}

fn records(args: &PublishArgs, key: &PublicKey) -> Result<Vec<Record>, Failure> {
    let mut records = Vec::new();
    if let Some(path) = &args.zone {
        let text = value::read_text(path, MAX_ZONE).map_err(|why| {
            Failure::input(
                format!("cannot read the zone {}: {why}", path.display()),
                "give a readable text file, or - for standard input",
            )
        })?;
        records = zone::parse(&text, key)
            .map_err(|error| Failure::input(format!("{}: {error}", path.display()), error.hint))?;
    }
    for text in &args.records {
        let more = zone::parse(text, key).map_err(|error| {
            Failure::input(format!("the record {text:?}: {}", error.message), error.hint)
        })?;
        records.extend(more);
    }
    Ok(records)
}

fn not_signed(error: &BuildError) -> Failure {
    let hint = match error {
        BuildError::TooLarge { .. } | BuildError::NoMessage => {
            "publish fewer or shorter records, or put some under another key"
        }
        BuildError::Name(_) | _ => "use shorter names",
    };
    Failure::input(error.to_string(), hint)
}

fn failure(session: &Session<'_>, error: &PublishError) -> Failure {
    let message = error.to_string();
    let (status, hint) = match error.reason {
        Reason::NoAnswer => return session.nobody_answered(&message),
        Reason::NoTarget | Reason::TooLarge { .. } => {
            (Status::BadInput, "see dht pkarr publish --help")
        }
        Reason::Newer { .. } | Reason::NotMostRecent => (
            Status::NotFound,
            "see what it says with dht pkarr resolve; if yours is to replace it, check this \
             machine's clock, or give a later --timestamp",
        ),
        Reason::CasMismatch { .. } => (
            Status::NotFound,
            "somebody else was faster: see dht pkarr resolve, and publish again on top of that",
        ),
        Reason::Refused | _ => (
            Status::NotFound,
            "see the counts by error code; try again, or other --bootstrap nodes",
        ),
    };
    Failure { status, message, hint: hint.to_owned() }
}

/// Says who stored the packet.
fn tell(out: &Output, published: &Published, ok: bool) {
    let summary = published.outcome.as_ref().map(|outcome| Summary::of(outcome));
    out.words(format_args!("key        {}", published.public_key));
    out.words(format_args!("timestamp  {}", published.timestamp));
    if let Some(summary) = &summary {
        let counts = counts_words(published.stored, &published.refused);
        out.words(format_args!("{counts}: {summary}"));
    }
    let refusals = published.outcome.iter().flat_map(|outcome| &outcome.refusals);
    for refusal in refusals.clone() {
        let (node, why) = (refusal.node.addr, code_words(refusal.code));
        out.words(format_args!("{node}: {why}"));
    }
    for (url, answer) in &published.relays {
        match answer {
            Ok(stored) => out.words(format_args!("{url}: stored at {}", nodes(*stored))),
            Err(error) => out.words(format_args!("{url}: {error}")),
        }
    }
    let relays = published.relays.iter().map(|(url, answer)| pkarr::Relay {
        url: url.clone(),
        stored: answer.as_ref().ok().copied(),
        error: answer.as_ref().err().map(ToString::to_string),
    });
    let pkarr = pkarr::Done {
        timestamp: Some(published.timestamp.as_micros()),
        relays: relays.collect(),
        refusals: refusals.map(pkarr::Refusal::of).collect(),
        ..done(&published.public_key)
    };
    out.json(&Line::Done(Done {
        stored: Some(published.copies()),
        errors: Some(published.refused.clone()),
        ok: Some(ok),
        pkarr: Some(Box::new(pkarr)),
        lookup: summary,
        ..Done::default()
    }));
}
