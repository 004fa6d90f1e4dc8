//! A line on the terminal that shows that a command is alive.

use core::time::Duration;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// Nothing is shown for what takes less than this.
const PATIENCE: Duration = Duration::from_millis(700);
/// The line is drawn this often.
const PERIOD: Duration = Duration::from_millis(150);
const FRAMES: [&str; 4] = ["|", "/", "-", "\\"];

/// Standard output and error, kept from writing into each other's lines.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// Whether the progress line is there to be erased.
    drawn: Mutex<bool>,
}

impl Screen {
    /// Runs `write` while no progress line is on the screen.
    pub(crate) fn with_results<T>(&self, write: impl FnOnce() -> T) -> T {
        let mut drawn = self.lock();
        erase(&mut drawn);
        write()
    }

    /// Writes to standard error. Nobody can be told if that fails.
    pub(crate) fn stderr(&self, text: &str) {
        let mut drawn = self.lock();
        erase(&mut drawn);
        drop(io::stderr().write_all(text.as_bytes()));
    }

    fn draw(&self, text: &str) {
        let mut drawn = self.lock();
        erase(&mut drawn);
        drop(io::stderr().write_all(text.as_bytes()));
        *drawn = true;
    }

    fn clear(&self) {
        erase(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn erase(drawn: &mut bool) {
    if core::mem::take(drawn) {
        // Return to the start of the line and erase to its end.
        drop(io::stderr().write_all(b"\r\x1b[K"));
    }
}

/// Shows a line until it is dropped, if standard error is a terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Dropping it ends the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts showing `what`, the time passed and whatever `detail` says.
    pub(crate) fn start(
        screen: Arc<Screen>,
        what: &str,
        detail: impl Fn() -> String + Send + 'static,
    ) -> Self {
        if !io::stderr().is_terminal() {
            return Self { stop: None, thread: None };
        }
        let (stop, stopped) = mpsc::channel();
        let what = what.to_owned();
        // Without a thread there is no progress line, which is no reason to fail.
        let thread = thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || show(&screen, &what, &detail, &stopped))
            .ok();
        Self { stop: Some(stop), thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn show(screen: &Screen, what: &str, detail: &dyn Fn() -> String, stopped: &mpsc::Receiver<()>) {
    let started = Instant::now();
    let mut wait = PATIENCE;
    for frame in FRAMES.iter().cycle() {
        match stopped.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
        wait = PERIOD;
        let detail = detail();
        let comma = if detail.is_empty() { "" } else { ", " };
        screen.draw(&format!("{frame} {what} {} s{comma}{detail}", started.elapsed().as_secs()));
    }
    screen.clear();
}
