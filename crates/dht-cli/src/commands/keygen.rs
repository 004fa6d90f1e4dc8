//! `dht keygen`: an ed25519 seed in a file of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use ed25519_dalek::SigningKey;

use crate::args::KeygenArgs;
use crate::commands::Ended;
use crate::failure::Failure;
use crate::output::{Done, Line, Output};
use crate::parse::to_hex;

pub(super) fn run(args: &KeygenArgs, out: &Output) -> Ended {
    let path = &args.file;
    let seed = make(path)?;
    let public_key = to_hex(SigningKey::from_bytes(&seed).verifying_key().as_bytes());
    out.words(format_args!("key file    {}", path.display()));
    out.words(format_args!("public key  {public_key}"));
    out.json(&Line::Done(Done {
        public_key: Some(public_key),
        path: Some(path.display().to_string()),
        ..Done::default()
    }));
    Ok(None)
}

/// Makes a seed, and a file with it.
pub(super) fn make(path: &Path) -> Result<[u8; 32], Failure> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| {
        Failure::input(format!("cannot get random bytes from the system: {error}"), "try again")
    })?;
    let mut file = create(path).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            Failure::input(
                format!("{} exists already and is not overwritten", path.display()),
                "give another file name; the old key would be lost for good",
            )
        } else {
            Failure::input(
                format!("cannot create {}: {error}", path.display()),
                "give a file in a directory that exists and is writable",
            )
        }
    })?;
    let written = writeln!(file, "{}", to_hex(&seed)).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key must not be left behind; if removing fails too, the message names the file.
        drop(fs::remove_file(path));
        return Err(Failure::input(
            format!("cannot write {}: {error}", path.display()),
            "free some space and try again",
        ));
    }
    Ok(seed)
}

/// Creates a file that was not there, for the user alone.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}
