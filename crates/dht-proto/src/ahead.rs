//! Saying what memory will be read soon.

/// Bytes that a processor reads at a time.
const LINE: usize = 64;

/// Whoever is told what memory will be read soon, see [`Dht::read_ahead`](crate::Dht::read_ahead):
/// processors have an instruction that fetches it meanwhile, and waits for nothing.
pub trait ReadAhead {
    /// The line of memory in which this value begins will be read. Nothing reads it now.
    fn line<T>(&mut self, of: &T);

    /// The first `N` lines of a list will be read, as far as there are so many. Always the same number,
    /// or guessing it wrong would cost more than is gained.
    #[inline]
    fn lines<T, const N: usize>(&mut self, of: &[T]) {
        let per_line = LINE.checked_div(size_of::<T>()).unwrap_or(LINE).max(1);
        for i in 0..N {
            if let Some(value) = of.get(i * per_line) {
                self.line(value);
            }
        }
    }
}
