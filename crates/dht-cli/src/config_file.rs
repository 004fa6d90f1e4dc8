//! The config file of `dht node`: TOML whose keys are the long flags.
//!
//! A key becomes the flag of the same name and is read by the same code, so that whatever the
//! command line can say, the file can say, with the same checks.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, CommandFactory as _, Parser as _};
use toml::{Table, Value};

use crate::Stop;
use crate::args::Cli;
use crate::failure::Failure;
use crate::value::read_bounded;

/// A config file is shorter than this, in bytes.
const MAX_LEN: u64 = 1 << 20;

/// Adds what the file named by `--config` says, if there is one. The command line wins.
pub(crate) fn with_config_file(cli: Cli, line: &[OsString]) -> Result<Cli, Stop> {
    let Some((command, path)) = cli.command.config_file() else { return Ok(cli) };
    let path = path.to_owned();
    let flags = match read(&path).and_then(|table| flags(command, &path, &table, line)) {
        Ok(flags) => flags,
        Err(failure) => return Err(Stop::Failure(Box::new(cli), failure)),
    };
    let whole = line.iter().cloned().chain(flags.into_iter().map(OsString::from));
    Cli::try_parse_from(whole).map_err(|error| {
        let text = error.render().to_string();
        let what = text.split("\n\n").next().unwrap_or_default();
        let what = what.strip_prefix("error: ").unwrap_or(what);
        let message = format!("in {}: {what}", path.display());
        Stop::Failure(Box::new(cli), Failure::input(message, format!("see dht {command} --help")))
    })
}

fn read(path: &Path) -> Result<Table, Failure> {
    let unreadable = |why: String| {
        Failure::input(
            format!("cannot read the config file {}: {why}", path.display()),
            "give a readable TOML file, or flags instead",
        )
    };
    let mut file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let bytes = read_bounded(&mut file, MAX_LEN)
        .map_err(|error| unreadable(error.to_string()))?
        .ok_or_else(|| unreadable("it is over 1 MiB long".to_owned()))?;
    let text = String::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
    text.parse().map_err(|error: toml::de::Error| {
        Failure::input(
            format!("{} is not TOML: {}", path.display(), error.to_string().trim_end()),
            "write key = value lines; --help shows an example",
        )
    })
}

/// The keys of the file as flags, without those that the command line has.
fn flags(
    command: &str,
    path: &Path,
    table: &Table,
    line: &[OsString],
) -> Result<Vec<String>, Failure> {
    let given = Cli::command()
        .try_get_matches_from(line)
        .ok()
        .and_then(|matches| matches.subcommand().map(|(_, matches)| matches.clone()))
        .unwrap_or_default();
    let known = known(command);
    let mut flags = Vec::new();
    for (key, value) in table {
        let Some(flag) = known.iter().find(|flag| flag.name == *key) else {
            let names: Vec<_> = known.iter().map(|flag| flag.name.as_str()).collect();
            return Err(Failure::input(
                format!("{}: there is no key {key:?}", path.display()),
                format!("the keys are {}", names.join(", ")),
            ));
        };
        if flag.is_given(&given) {
            continue;
        }
        let bad = |wanted: &str| {
            Failure::input(
                format!("{}: {key} is {}", path.display(), value.type_str()),
                format!("give {wanted}"),
            )
        };
        match (flag.takes_value, value) {
            (false, Value::Boolean(true)) => flags.push(format!("--{key}")),
            (false, Value::Boolean(false)) => {}
            (false, _) => return Err(bad("true or false")),
            (true, Value::Array(values)) if flag.repeats => {
                for value in values {
                    let text = scalar(value).ok_or_else(|| bad("a list of texts"))?;
                    flags.push(format!("--{key}={text}"));
                }
            }
            (true, value) => {
                let text = scalar(value).ok_or_else(|| bad("one text or number"))?;
                flags.push(format!("--{key}={text}"));
            }
        }
    }
    Ok(flags)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// A flag that a file may set.
struct Flag {
    id: String,
    name: String,
    takes_value: bool,
    repeats: bool,
    /// `--no-bootstrap` on the command line also overrides `bootstrap` in the file, and back.
    conflicts: Vec<String>,
}

impl Flag {
    fn is_given(&self, matches: &ArgMatches) -> bool {
        core::iter::once(&self.id).chain(&self.conflicts).any(|id| {
            // Asking for an id that is not defined would panic.
            matches.try_contains_id(id).is_ok()
                && matches.value_source(id) == Some(ValueSource::CommandLine)
        })
    }
}

fn known(command: &str) -> Vec<Flag> {
    let mut cli = Cli::command();
    // Building passes the global flags down to the commands.
    cli.build();
    let Some(command) = cli.find_subcommand(command) else { return Vec::new() };
    let flags = command.get_arguments().filter_map(|arg| {
        let name = arg.get_long()?.to_owned();
        let id = arg.get_id().to_string();
        let conflicts = match id.as_str() {
            "bootstrap" => vec!["no_bootstrap".to_owned()],
            "no_bootstrap" => vec!["bootstrap".to_owned()],
            _ => Vec::new(),
        };
        let takes_value = arg.get_action().takes_values();
        let repeats = matches!(arg.get_action(), ArgAction::Append);
        // The file cannot name another file, and help is no setting.
        let is_setting = !matches!(name.as_str(), "config" | "help" | "version");
        is_setting.then_some(Flag { id, name, takes_value, repeats, conflicts })
    });
    flags.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    fn flags_of(toml: &str, args: &str) -> Result<Vec<String>, Failure> {
        let line = line(args);
        let command = line.iter().find(|word| *word == "relay").map_or("node", |_| "relay");
        flags(command, Path::new("x.toml"), &toml.parse().unwrap(), &line)
    }

    #[test]
    fn keys_become_flags() {
        let toml = "bind = [\"127.0.0.1:1\", \"[::1]:1\"]\nmode = \"server\"\nmax-items = 5\n\
                    no-bootstrap = true\njson = false";
        let mut flags = flags_of(toml, "dht node --config x.toml").unwrap();
        flags.sort();
        assert_eq!(
            flags,
            [
                "--bind=127.0.0.1:1",
                "--bind=[::1]:1",
                "--max-items=5",
                "--mode=server",
                "--no-bootstrap"
            ]
        );
    }

    #[test]
    fn the_command_line_wins() {
        let toml = "mode = \"server\"\nbootstrap = [\"a:1\"]\nmax-items = 5";
        let args = "dht --no-bootstrap node --mode client";
        assert_eq!(flags_of(toml, args).unwrap(), ["--max-items=5"]);
        let args = "dht node --bootstrap b:1 --mode client --max-items 6";
        assert_eq!(flags_of(toml, args).unwrap(), [""; 0]);
    }

    #[test]
    fn unknown_keys_are_named_with_the_valid_ones() {
        let failure = flags_of("max-item = 5", "dht node").unwrap_err();
        assert!(failure.message.contains("\"max-item\""), "{failure:?}");
        for key in ["max-items", "data-dir", "bootstrap", "timeout"] {
            assert!(failure.hint.contains(key), "{failure:?}");
        }
        for key in ["config = \"x\"", "help = true", "version = true"] {
            assert!(flags_of(key, "dht node").is_err(), "{key}");
        }
    }

    #[test]
    fn a_relay_has_keys_of_its_own() {
        let toml = "http = [\"127.0.0.1:1\"]\nwork-quota = \"1r/m\"\nbehind-proxy = \"forwarded\"";
        let mut flags = flags_of(toml, "dht relay --config x.toml").unwrap();
        flags.sort();
        assert_eq!(flags, ["--behind-proxy=forwarded", "--http=127.0.0.1:1", "--work-quota=1r/m"]);
        assert_eq!(flags_of(toml, "dht relay --http 127.0.0.1:2").unwrap().len(), 2);
        assert!(flags_of(toml, "dht node").is_err());
    }

    #[test]
    fn wrong_types_are_refused() {
        for toml in
            ["json = 1", "mode = [\"server\"]", "mode = true", "bind = [[1]]", "max-items = {}"]
        {
            assert!(flags_of(toml, "dht node").is_err(), "{toml}");
        }
    }
}
