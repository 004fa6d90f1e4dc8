//! What blocks, on threads of their own: waiting for a disk or for DNS would stall the loop.

use std::sync::Weak;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use dht_driver::Rejected;
use dht_net::{Error, ErrorKind, Resolver, Saver};

use crate::handle::{Asked, Inner};

/// A state to save, and who waits for that.
type Job = (Vec<u8>, Vec<Asked>);

/// The thread that saves the state.
#[derive(Debug)]
pub(crate) struct SaverThread {
    /// `None` once no more is to come.
    jobs: Option<mpsc::SyncSender<Job>>,
    /// `None` once it has been waited for. Returns how the last save went.
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl SaverThread {
    pub(crate) fn spawn(mut saver: Saver) -> Result<Self, Error> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(1);
        let work = move |(bytes, asked)| {
            let result = saver.save(bytes);
            answer(asked, &result);
            result
        };
        let thread = thread::Builder::new()
            .name("dht-saver".to_owned())
            .spawn(move || queue.iter().map(work).last().unwrap_or(Ok(())))
            .map_err(|error| Error::system("start the thread that saves the state", error))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Saves this state soon, and tells whoever asked for it. If the disk has not caught up with the
    /// last one, those who asked come back.
    pub(crate) fn offer(&self, bytes: Vec<u8>, asked: Vec<Asked>) -> Result<(), Vec<Asked>> {
        let Some(jobs) = &self.jobs else { return Err(asked) };
        jobs.try_send((bytes, asked)).map_err(|error| match error {
            mpsc::TrySendError::Full((_, asked)) | mpsc::TrySendError::Disconnected((_, asked)) => {
                asked
            }
        })
    }

    /// Saves this state and waits for it.
    pub(crate) fn finish(mut self, bytes: Vec<u8>, asked: Vec<Asked>) -> Result<(), Error> {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send((bytes, asked)).is_ok());
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

/// Tells whoever asked for a save how it went.
pub(crate) fn answer(asked: Vec<Asked>, result: &Result<(), Error>) {
    for asked in asked {
        // Whoever asked may have stopped waiting.
        drop(asked.try_send(result.clone()));
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
            drop(saver.offer(vec![n], Vec::new()));
        }
        saver.finish(b"last".to_vec(), Vec::new()).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"last");
        drop(std::fs::remove_dir_all(&dir));
    }
}
