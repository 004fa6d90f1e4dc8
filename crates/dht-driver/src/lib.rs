//! The event loop shared by the DHT runtimes, over a small Io trait.
