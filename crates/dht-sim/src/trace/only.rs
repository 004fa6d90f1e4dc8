//! The events of one host.

use std::net::SocketAddr;
use std::sync::PoisonError;

use super::{Record, Recorder};
use crate::swarm::Places;

/// Passes on what one host sends and is sent, wherever it is or was.
#[derive(Debug)]
pub struct Only {
    places: Places,
    recorder: Box<dyn Recorder>,
}

impl Only {
    /// Passes on to `recorder` what concerns one of the places.
    #[must_use]
    pub const fn new(places: Places, recorder: Box<dyn Recorder>) -> Self {
        Self { places, recorder }
    }
}

impl Recorder for Only {
    fn record(&mut self, record: &Record<'_>) {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let is_here = |addr: SocketAddr| places.iter().any(|p| p.iter().any(|own| own == addr));
        if is_here(record.from) || is_here(record.to) {
            self.recorder.record(record);
        }
    }
}
