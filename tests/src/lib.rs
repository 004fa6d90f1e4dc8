//! The shared test harness: the simulated world as tests use it, and the drivers of other
//! implementations.

#![allow(
    clippy::missing_panics_doc,
    clippy::exhaustive_structs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "the harness says what went wrong by panicking, and tests build what they need"
)]

pub mod ask;
pub mod hand;
pub mod interop;
pub mod populate;
pub mod script;
pub mod suite;
pub mod world;

/// The examples of the README run as doctests, so that they stay true.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
