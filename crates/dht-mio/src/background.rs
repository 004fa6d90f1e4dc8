//! What blocks, on threads of their own: waiting for a disk or for DNS would stall the loop.

use std::sync::Weak;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use dht_driver::Rejected;
use dht_net::{Error, ErrorKind, Resolver, Saver};

use crate::handle::Inner;

/// The thread that saves the state.
#[derive(Debug)]
pub(crate) struct SaverThread {
    /// `None` once no more is to come.
    jobs: Option<mpsc::SyncSender<Vec<u8>>>,
    /// `None` once it has been waited for. Returns how the last save went.
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl SaverThread {
    pub(crate) fn spawn(mut saver: Saver) -> Result<Self, Error> {
        let (jobs, queue) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("dht-saver".to_owned())
            .spawn(move || queue.iter().map(|bytes| saver.save(bytes)).last().unwrap_or(Ok(())))
            .map_err(|error| Error::system("start the thread that saves the state", error))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Saves this state soon. Returns whether it does: not if the disk has not caught up with the
    /// last one.
    pub(crate) fn offer(&self, bytes: Vec<u8>) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(bytes).is_ok())
    }

    /// Saves this state and waits for it.
    pub(crate) fn finish(mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(bytes).is_ok());
        match self.join() {
            Some(result) if sent => result,
            Some(_) | None => {
                Err(Error::new(ErrorKind::State, "the thread that saves the state has died"))
            }
        }
    }

    fn join(&mut self) -> Option<Result<(), Error>> {
        self.jobs = None;
        self.thread.take()?.join().ok()
    }
}

impl Drop for SaverThread {
    fn drop(&mut self) {
        // The file stays locked until its thread has ended.
        drop(self.join());
    }
}

/// Ends the resolver thread when dropped, at the latest when its current try is over.
#[derive(Debug)]
pub(crate) struct ResolverThread {
    _stop: mpsc::Sender<()>,
}

impl ResolverThread {
    pub(crate) fn spawn(mut resolver: Resolver, to: Weak<Inner>) -> Result<Self, Error> {
        let (stop, stopped) = mpsc::channel();
        let work = move || {
            while let Some(due) = resolver.due() {
                match stopped.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
                resolver.turn(&|command| match to.upgrade() {
                    Some(inner) => inner.offer(command).map_err(|(why, _)| why),
                    None => Err(Rejected::Closed),
                });
            }
        };
        thread::Builder::new()
            .name("dht-resolver".to_owned())
            .spawn(work)
            .map_err(|error| Error::system("start the resolver thread", error))?;
        Ok(Self { _stop: stop })
    }
}

#[cfg(test)]
mod tests {
    use crate::Builder;

    #[test]
    fn the_last_state_is_on_disk_when_the_thread_has_ended() {
        let dir = std::env::temp_dir().join(format!("dht-saver-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir(&dir).unwrap();
        let file = dir.join("state");
        let builder = Builder::new().bind("127.0.0.1:0".parse().unwrap()).no_bootstrap();
        let mut event_loop = builder.state_file(&file).build().unwrap();
        let saver = event_loop.take_saver().unwrap();
        for n in 0..50 {
            saver.offer(vec![n]);
        }
        saver.finish(b"last".to_vec()).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"last");
        drop(std::fs::remove_dir_all(&dir));
    }
}
