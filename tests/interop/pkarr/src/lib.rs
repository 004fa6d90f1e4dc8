//! Only tests: see `tests/clients`.
