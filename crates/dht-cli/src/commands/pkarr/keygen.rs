//! `dht pkarr keygen`: a secret key in a file of its own.

use dht_pkarr::Keypair;

use super::done;
use crate::args::pkarr::PkarrKeygenArgs;
use crate::commands::{Ended, keygen};
use crate::output::{Done, Line, Output};
use crate::parse::to_hex;

pub(super) fn run(args: &PkarrKeygenArgs, out: &Output) -> Ended {
    let key = Keypair::from_secret(&keygen::make(&args.file)?).public_key();
    out.words(format_args!("key file  {}", args.file.display()));
    out.words(format_args!("key       {key}"));
    out.json(&Line::Done(Done {
        public_key: Some(to_hex(key.as_bytes())),
        path: Some(args.file.display().to_string()),
        pkarr: Some(Box::new(done(&key))),
        ..Done::default()
    }));
    Ok(None)
}
