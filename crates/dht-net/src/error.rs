//! One opaque error, with a kind to match on and a message that says what to do.

use core::{error, fmt};
use std::io;
use std::sync::Arc;

/// Why something did not work.
///
/// The message is for people and names the next step; [`Error::kind`] is for programs; `source()`
/// is what the operating system said.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

/// What sort of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument makes no sense: a bad host name, two addresses of one family, port 0.
    InvalidInput,
    /// The port to bind is in use.
    AddrInUse,
    /// The address to bind is not one of this machine's.
    AddrNotAvailable,
    /// The system forbids it.
    PermissionDenied,
    /// The state file cannot be read or written.
    State,
    /// Too many lookups or requests at a time.
    Busy,
    /// The node has stopped.
    Stopped,
    /// The event loop did not answer in time.
    TimedOut,
    /// The operating system failed in another way.
    System,
}

impl Error {
    /// What sort of thing went wrong.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// An error with a message that names the next step.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds what the operating system said.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        let source: Box<dyn error::Error + Send + Sync> = source.into();
        Self { source: Some(source.into()), ..self }
    }

    /// The node has stopped.
    #[must_use]
    pub fn stopped() -> Self {
        Self::new(ErrorKind::Stopped, "the node has stopped; start a new one")
    }

    /// The system refused to do `what`.
    #[must_use]
    pub fn system(what: &str, error: io::Error) -> Self {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let kind = if denied { ErrorKind::PermissionDenied } else { ErrorKind::System };
        Self::new(kind, format!("cannot {what}")).because(error)
    }

    /// A socket could not be bound.
    pub(crate) fn bind(addr: core::net::SocketAddr, error: io::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the list of kinds is open")]
        let (kind, hint) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                ErrorKind::AddrInUse,
                "the port is in use; stop the other program or choose another port (0 picks one)",
            ),
            io::ErrorKind::AddrNotAvailable => (
                ErrorKind::AddrNotAvailable,
                "this machine does not have that address; use one of its own, or 0.0.0.0 or [::]",
            ),
            io::ErrorKind::PermissionDenied => {
                (ErrorKind::PermissionDenied, "the system forbids it; use a port above 1023")
            }
            _ => (ErrorKind::System, "the system refuses"),
        };
        Self::new(kind, format!("cannot listen on {addr}: {hint}")).because(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<dht_proto::request::StartError> for Error {
    fn from(error: dht_proto::request::StartError) -> Self {
        use dht_proto::request::StartError;
        let (kind, hint) = match error {
            StartError::AtCapacity => {
                (ErrorKind::Busy, "; wait for one to end or raise Config::max_lookups")
            }
            StartError::NoSuchFamily(_) => {
                (ErrorKind::InvalidInput, "; bind an address of that family too")
            }
            StartError::BadPort | _ => (ErrorKind::InvalidInput, ""),
        };
        Self::new(kind, format!("{error}{hint}"))
    }
}
