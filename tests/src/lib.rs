//! The shared test harness.

pub mod interop;
