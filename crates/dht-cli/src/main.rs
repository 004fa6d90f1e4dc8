//! The `dht` command: uses and serves the BitTorrent Mainline DHT.

mod args;
mod client;
mod commands;
mod config_file;
mod failure;
mod inspect;
mod metrics;
mod output;
mod parse;
mod progress;
mod value;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::Cli;
use crate::failure::{Failure, Status};
use crate::output::{Line, Output};

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let parsed = Cli::try_parse_from(&line)
        .map_err(Stop::Clap)
        .and_then(|cli| on_one_side(cli, &line))
        .and_then(|cli| config_file::with_config_file(cli, &line));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(Stop::Clap(error)) => return usage(&error, &line),
        Err(Stop::Failure(cli, failure)) => {
            Output::new(&cli.global).failure(&failure);
            return ExitCode::from(failure.status as u8);
        }
    };
    let out = Output::new(&cli.global);
    let result = commands::run(&cli, &out).and_then(|status| out.check().map(|()| status));
    if out.reader_is_gone() {
        return ExitCode::SUCCESS;
    }
    match result {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(status)) => ExitCode::from(status as u8),
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.status as u8)
        }
    }
}

/// Why there is nothing to run.
pub(crate) enum Stop {
    /// The command line is wrong, or asks for help.
    Clap(clap::Error),
    /// The config file is wrong.
    Failure(Box<Cli>, Failure),
}

/// Refuses a repeatable flag that stands before the command and after it: clap keeps only the
/// latter, and nothing that a user types may be dropped in silence.
fn on_one_side(cli: Cli, line: &[OsString]) -> Result<Cli, Stop> {
    let flags = [("--bootstrap", cli.global.bootstrap.len()), ("--bind", cli.global.bind.len())];
    for (flag, kept) in flags {
        let is_flag = |arg: &&OsString| {
            let rest = arg.to_str().and_then(|arg| arg.strip_prefix(flag));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        if line.iter().take_while(|arg| *arg != "--").filter(is_flag).count() > kept {
            let failure = Failure::input(
                format!("{flag} stands before the command and after it"),
                format!("put every {flag} on the same side"),
            );
            return Err(Stop::Failure(Box::new(cli), failure));
        }
    }
    Ok(cli)
}

/// Prints help, or what is wrong with the command line.
fn usage(error: &clap::Error, line: &[OsString]) -> ExitCode {
    // Nobody can be told if this fails.
    drop(error.print());
    if error.exit_code() == 0 {
        return ExitCode::SUCCESS;
    }
    let shows_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !shows_help && line.iter().any(|arg| arg == "--json") {
        let text = error.render().to_string();
        let mut parts = text.split("\n\n").map(str::trim).filter(|part| !part.is_empty());
        let message = parts.next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let hint = parts.collect::<Vec<_>>().join(" ");
        let line = Line::Error { code: Status::BadInput as u8, message, hint: &hint };
        if let Ok(json) = serde_json::to_string(&line) {
            drop(writeln!(std::io::stdout(), "{json}"));
        }
    }
    ExitCode::from(Status::BadInput as u8)
}
