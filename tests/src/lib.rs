//! The shared test harness: an in-memory network of real nodes, and the drivers of other
//! implementations.

pub mod interop;
pub mod populate;
pub mod world;
