//! I8: in which order, and in what amounts, outputs are polled changes nothing that anybody else
//! can see.

use super::replay::compare;
use crate::check::Violation;
use crate::options::Options;

/// The name of the invariant.
pub const NAME: &str = "I8 order";

/// Runs a world as usual and once more with outputs polled at random.
///
/// # Errors
/// The first event that differs.
pub fn check(options: &Options) -> Result<(), Box<Violation>> {
    compare((options, false), (options, true), NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_at_random_changes_nothing() {
        check(&Options::tiny(3)).unwrap();
    }

    #[test]
    fn what_does_change_something_is_caught() {
        let (one, other) = (Options::tiny(3), Options { alpha: 1, ..Options::tiny(3) });
        assert_ne!(one, other);
        let violation = compare((&one, false), (&other, true), NAME).unwrap_err();
        assert_eq!(violation.invariant, NAME);
    }
}
