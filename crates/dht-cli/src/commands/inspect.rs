//! `dht inspect`: explains a datagram.

use std::io;

use crate::args::InspectArgs;
use crate::commands::Ended;
use crate::failure::{Failure, Status};
use crate::inspect::Explained;
use crate::output::{Done, Line, Output};
use crate::parse::hex;
use crate::value::read_bounded;

/// The longest UDP payload there is, as hex with a space between bytes.
const MAX_INPUT: u64 = 3 * 65_536;

pub(super) fn run(args: &InspectArgs, out: &Output) -> Ended {
    let datagram = match args.datagram.as_str() {
        "-" => from_stdin()?,
        text => digits(text.as_bytes()).ok_or_else(|| {
            Failure::input(
                "the datagram is not an even number of hexadecimal digits",
                "give digits such as 64313a74..., or - and the raw bytes on standard input",
            )
        })?,
    };
    let explained = Explained::new(&datagram);
    out.words(words(&explained).trim_end());
    out.json(&Line::Message(&explained));
    out.json(&Line::Done(Done { ok: Some(explained.valid), ..Done::default() }));
    Ok((!explained.valid).then_some(Status::NotFound))
}

fn from_stdin() -> Result<Vec<u8>, Failure> {
    let input = read_bounded(&mut io::stdin().lock(), MAX_INPUT).map_err(|error| {
        Failure::input(format!("cannot read standard input: {error}"), "give the digits instead")
    })?;
    let input = input.ok_or_else(|| {
        Failure::input("standard input is longer than any datagram", "give one datagram")
    })?;
    // No message of the DHT consists of hexadecimal digits alone.
    Ok(digits(&input).filter(|bytes| !bytes.is_empty()).unwrap_or(input))
}

/// Hex with blanks between the digits.
fn digits(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.iter().copied().filter(|c| !c.is_ascii_whitespace()).collect();
    hex(core::str::from_utf8(&text).ok()?)
}

fn words(explained: &Explained) -> String {
    let what = match (explained.kind, &explained.method) {
        (Some(kind), Some(method)) => format!("{kind} {method}"),
        (Some(kind), None) => kind.to_owned(),
        (None, _) => "no message".to_owned(),
    };
    let mut text = format!("{what}, {} bytes\n", explained.bytes);
    if let Some(tree) = &explained.tree {
        tree.write(0, &mut text);
    }
    if explained.problems.is_empty() {
        text.push_str("no problems\n");
    }
    for problem in &explained.problems {
        text = format!("{text}problem: {problem}\n");
    }
    text
}
