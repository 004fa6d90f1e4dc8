//! Why a command failed: what happened, what to do next, and the exit status.

use std::io;

use dht_mio::{Error, ErrorKind};
use dht_pkarr_client::StoreError;

/// Exit statuses other than success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Nothing found, or nobody acknowledged.
    NotFound = 1,
    /// The command line, a file or the system does not allow what was asked for.
    BadInput = 2,
    /// No node of any DHT answered.
    NoContact = 3,
}

/// A command that did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    /// What happened.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: String,
}

impl Failure {
    /// Bad input: exit status 2.
    pub(crate) fn input(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status: Status::BadInput, message: message.into(), hint: hint.into() }
    }

    /// No contact: exit status 3.
    pub(crate) fn no_contact(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status: Status::NoContact, message: message.into(), hint: hint.into() }
    }

    /// The reader of our output is gone: there is nobody left to tell.
    pub(crate) fn output(error: &io::Error) -> Self {
        Self::input(format!("cannot write to standard output: {error}"), "see where it goes")
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::input(error.to_string(), error.hint)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::InvalidInput
            | ErrorKind::AddrInUse
            | ErrorKind::AddrNotAvailable
            | ErrorKind::PermissionDenied
            | ErrorKind::State => Status::BadInput,
            ErrorKind::Busy | ErrorKind::Stopped | ErrorKind::TimedOut | ErrorKind::System | _ => {
                Status::NoContact
            }
        };
        // The runtime's messages are "what happened; what to do".
        let text = error.to_string();
        let (what, hint) = text.split_once("; ").unwrap_or((&text, "see --help"));
        let message = match core::error::Error::source(&error) {
            Some(source) => format!("{what} ({source})"),
            None => what.to_owned(),
        };
        Self { status, message, hint: hint.to_owned() }
    }
}
