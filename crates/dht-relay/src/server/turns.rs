//! Taking turns: there is one thread for everybody.

use futures_lite::future::yield_now;

/// What one task may do before it is another's turn.
const BATCH: u32 = 32;

/// Counts what a task does that it need not wait for, so that it lets others have a turn, too: a socket
/// that somebody keeps full is never waited for.
#[derive(Debug, Default)]
pub(super) struct Turns(u32);

impl Turns {
    /// Something was done.
    pub(super) async fn took_one(&mut self) {
        self.0 += 1;
        if self.0 >= BATCH {
            self.0 = 0;
            yield_now().await;
        }
    }
}
