//! The studio: a thread that prepares pictures, one after the other, so that they take the memory of one and a part of
//! the processors.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{mpsc, oneshot};

use super::{FileKind, NotAPicture, Picture, prepare};
use crate::lasting;

/// The most pictures that wait. One takes a fraction of a second, so the last of them waits for some seconds.
const QUEUE_MAX: usize = 32;

struct Job {
    kind: FileKind,
    file: Vec<u8>,
    answer: oneshot::Sender<Result<Picture, NotAPicture>>,
}

/// The way to the thread, which ends with it. Cheap to clone.
#[derive(Clone)]
pub struct Studio(mpsc::Sender<Job>);

/// A picture that was not prepared.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StudioError {
    /// It is none.
    #[error(transparent)]
    NotAPicture(#[from] NotAPicture),
    /// Too many wait.
    #[error("too many pictures wait")]
    Busy,
}

impl Studio {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(QUEUE_MAX);
        lasting::thread("pictures", move || {
            while let Some(job) = waiting.blocking_recv() {
                // A client that has gone needs it no more.
                if job.answer.is_closed() {
                    continue;
                }
                let prepared = catch_unwind(AssertUnwindSafe(|| prepare(job.kind, &job.file)));
                let prepared = prepared.unwrap_or(Err(NotAPicture::Broken));
                drop(job.file);
                let _ = job.answer.send(prepared);
            }
        })?;
        Ok(Self(jobs))
    }

    /// Prepares a picture.
    ///
    /// # Errors
    ///
    /// [`StudioError`].
    pub async fn prepare(&self, kind: FileKind, file: Vec<u8>) -> Result<Picture, StudioError> {
        let (answer, prepared) = oneshot::channel();
        let job = Job { kind, file, answer };
        self.0.try_send(job).map_err(|_| StudioError::Busy)?;
        Ok(prepared.await.map_err(|_| StudioError::Busy)??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pictures_take_turns_and_too_many_are_refused() {
        let studio = Studio::start().unwrap();
        let mut picture = std::io::Cursor::new(Vec::new());
        let pixels = image::DynamicImage::new_rgb8(600, 400);
        pixels
            .write_to(&mut picture, image::ImageFormat::Png)
            .unwrap();
        let picture = picture.into_inner();
        let all = (0..QUEUE_MAX * 4).map(|_| studio.prepare(FileKind::Png, picture.clone()));
        let all = futures_util::future::join_all(all).await;
        let prepared = all.iter().filter(|done| done.is_ok()).count();
        let is_busy = |done: &Result<Picture, StudioError>| matches!(done, Err(StudioError::Busy));
        assert!(prepared >= QUEUE_MAX, "{prepared}");
        assert_eq!(
            prepared + all.iter().filter(|done| is_busy(done)).count(),
            all.len()
        );
        let none = studio.prepare(FileKind::Jpeg, picture).await.unwrap_err();
        assert_eq!(none, StudioError::NotAPicture(NotAPicture::Broken));
    }
}
