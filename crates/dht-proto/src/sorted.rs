//! Looking something up in a sorted list whose reader knows about where it is.

/// How far from the guess the search looks first.
const STEP: usize = 4;

/// Like `partition_point`, looked for around a guess: the better that is, the fewer entries are read,
/// and those stand side by side. A bad one costs twice as many as none.
pub(crate) fn partition_point_near<T>(
    list: &[T],
    guess: usize,
    before: impl Fn(&T) -> bool,
) -> usize {
    let guess = guess.min(list.len());
    let mut step = STEP;
    // All in front of `low` come before, none from `top` on.
    let (mut low, mut top);
    if guess > 0 && list.get(guess - 1).is_some_and(|entry| !before(entry)) {
        top = guess - 1;
        low = top.saturating_sub(step);
        while low > 0 && list.get(low - 1).is_some_and(|entry| !before(entry)) {
            top = low - 1;
            step *= 2;
            low = top.saturating_sub(step);
        }
    } else {
        low = guess;
        top = list.len().min(low + step);
        while list.get(top).is_some_and(&before) {
            low = top + 1;
            step *= 2;
            top = list.len().min(low + step);
        }
    }
    low + list.get(low..top).unwrap_or_default().partition_point(before)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn finds_what_partition_point_finds_from_wherever_it_begins() {
        for len in 0..40 {
            let list: Vec<usize> = (0..len).map(|n| 2 * n).collect();
            for wanted in 0..2 * len + 2 {
                let expected = list.partition_point(|n| *n < wanted);
                for guess in 0..len + 3 {
                    assert_eq!(partition_point_near(&list, guess, |n| *n < wanted), expected);
                }
            }
        }
    }
}
