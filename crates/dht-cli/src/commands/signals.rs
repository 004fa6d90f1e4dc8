//! The signals that end a daemon.

use crate::failure::Failure;

/// Calls `stop` at the first of SIGINT, SIGTERM and SIGHUP; if that worked, a second one ends the
/// program at once: whoever asks twice does not want to wait.
#[cfg(unix)]
pub(super) fn forward(stop: impl FnOnce() -> bool + Send + 'static) -> Result<(), Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    let cannot = |error: std::io::Error| {
        Failure::input(format!("cannot watch for signals: {error}"), "see the system's limits")
    };
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(cannot)?;
    let watch = move || {
        let mut signals = signals.forever();
        if signals.next().is_some() && stop() {
            for signal in signals {
                drop(signal_hook::low_level::emulate_default_handler(signal));
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(cannot)?;
    Ok(())
}

/// Without Unix signals the system ends the program itself.
#[cfg(not(unix))]
pub(super) fn forward(_stop: impl FnOnce() -> bool + Send + 'static) -> Result<(), Failure> {
    Ok(())
}
