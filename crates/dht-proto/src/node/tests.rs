//! Rules of one node that need no network.
