//! Decides which slice to compute next, and tracks its progress. The shown slice comes first, then the other slices if
//! the user requests the whole volume.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use eframe::egui;
use meddino::error::GpuFailure;
use meddino::{Error, Result, Tensor};

use crate::cache::Cache;
use crate::engine::Engine;
use crate::gate::Gate;
use crate::pass::{SlicePass, Step};
use crate::reader::Reader;

/// The slice that is being computed, and the slices that follow it.
pub struct Schedule {
    /// The device's time for features in one frame.
    budget: Duration,
    /// What prepares a pass uses the device.
    gate: Gate,
    state: State,
    /// The pass for the most recent size of slices.
    pass: Option<SlicePass>,
    /// Slices that failed. They are not retried automatically.
    failed: HashSet<usize>,
    whole: Option<Whole>,
}

/// The state of the current slice.
#[derive(Default)]
enum State {
    #[default]
    Idle,
    /// The slice is being read.
    Reading(usize),
    /// A pass for the slice's size is being prepared.
    Preparing(usize, Tensor, Receiver<Result<SlicePass>>),
    /// The device computes. The number is the share of the work that has been submitted, 0 to 1.
    Running(usize, f32),
}

/// The remaining slices of a volume.
struct Whole {
    total: usize,
    left: VecDeque<usize>,
}

impl Schedule {
    /// Makes a schedule without work. `budget` is the device's time for features in one frame.
    pub fn new(budget: Duration, gate: Gate) -> Self {
        Self { budget, gate, state: State::Idle, pass: None, failed: HashSet::new(), whole: None }
    }

    /// Drops all work, because the scan changes.
    pub fn clear(&mut self) {
        (self.state, self.whole) = (State::Idle, None);
        self.failed.clear();
    }

    /// Also drops the prepared pass, because the model changes.
    pub fn forget_model(&mut self) {
        self.clear();
        self.pass = None;
    }

    /// Requests the features of up to `room` of `slices` slices, starting with those nearest to `shown`.
    pub fn want_whole(&mut self, slices: usize, shown: usize, room: usize, cache: &Cache) {
        let mut all: Vec<usize> = (0..slices).collect();
        all.sort_by_key(|slice| slice.abs_diff(shown));
        all.truncate(room);
        let total = all.len();
        all.retain(|slice| !cache.holds(*slice));
        self.retry();
        self.whole = Some(Whole { total, left: all.into() });
    }

    /// Drops the request for the whole volume. Only the shown slice is still computed.
    pub fn stop_whole(&mut self) {
        self.whole = None;
    }

    /// Returns how many slices of the requested volume are done, and their total. Returns `None` if no volume is
    /// requested.
    pub fn whole(&self) -> Option<(usize, usize)> {
        self.whole.as_ref().map(|whole| (whole.total - whole.left.len(), whole.total))
    }

    /// Returns the current slice and the share of it that is done. The share is `None` before the device begins.
    pub fn progress(&self) -> Option<(usize, Option<f32>)> {
        match self.state {
            State::Idle => None,
            State::Reading(slice) | State::Preparing(slice, ..) => Some((slice, None)),
            State::Running(slice, share) => Some((slice, Some(share))),
        }
    }

    /// Returns whether the device is computing, so that the next frame should follow at once.
    pub fn computing(&self) -> bool {
        matches!(self.state, State::Running(..))
    }

    /// Takes a slice that the reader has read for the schedule.
    ///
    /// # Errors
    /// If the slice cannot be read, or the pass cannot start.
    pub fn read(&mut self, index: usize, image: Result<Tensor>, engine: &Arc<Engine>, context: &egui::Context) -> Result<()> {
        if !matches!(self.state, State::Reading(slice) if slice == index) {
            return Ok(());
        }
        let begun = image.and_then(|image| self.begin(index, image, engine, context));
        begun.inspect_err(|_| self.fail(index))
    }

    /// Lets slices that failed be computed again.
    pub fn retry(&mut self) {
        self.failed.clear();
    }

    /// Returns whether the features of `slice` could not be computed.
    pub fn has_failed(&self, slice: usize) -> bool {
        self.failed.contains(&slice)
    }

    /// Continues for one frame. `shown` is the slice that the user looks at, once it has been shown for a while, and
    /// `wanted` one that labels need. Returns the slice whose features were added to `cache`.
    ///
    /// # Errors
    /// If a slice cannot be computed. That slice is not retried, and the others continue.
    pub fn go_on(&mut self, reader: &Reader, cache: &mut Cache, shown: Option<usize>, wanted: Option<usize>) -> Result<Option<usize>> {
        match std::mem::take(&mut self.state) {
            State::Idle => {
                if let Some(next) = self.next(cache, shown, wanted) {
                    reader.image(next);
                    self.state = State::Reading(next);
                }
            }
            State::Preparing(slice, image, prepared) => match prepared.try_recv() {
                Err(TryRecvError::Empty) => self.state = State::Preparing(slice, image, prepared),
                Err(TryRecvError::Disconnected) => {
                    self.fail(slice);
                    return Err(Error::gpu(
                        GpuFailure::Refused,
                        format!("the model could not be prepared for images of {:?}; try another --size", image.shape()),
                    ));
                }
                Ok(pass) => {
                    let begun = pass.and_then(|mut pass| pass.begin(&image).map(|()| pass));
                    self.pass = Some(begun.inspect_err(|_| self.fail(slice))?);
                    self.state = State::Running(slice, 0.0);
                }
            },
            State::Running(slice, _) if self.whole.is_some() || wanted.is_some() || shown.is_none_or(|shown| shown == slice) => {
                let pass = self.pass.as_mut().expect("what runs is prepared");
                match pass.step().inspect_err(|_| self.fail(slice))? {
                    Step::Working(share) => self.state = State::Running(slice, share),
                    Step::Done(tokens) => {
                        cache.insert(slice, tokens);
                        self.finished(slice);
                        return Ok(Some(slice));
                    }
                }
            }
            // The user has left this slice, and no other is requested. The state is now `Idle`, so the next call takes
            // the next slice.
            State::Running(..) => {}
            reading @ State::Reading(_) => self.state = reading,
        }
        Ok(None)
    }

    fn begin(&mut self, slice: usize, image: Tensor, engine: &Arc<Engine>, context: &egui::Context) -> Result<()> {
        if let Some(pass) = self.pass.as_mut().filter(|pass| pass.image() == image.shape()) {
            pass.begin(&image)?;
            self.state = State::Running(slice, 0.0);
            return Ok(());
        }
        self.pass = None;
        let (prepared, receiver) = channel();
        let (engine, context, budget, gate) = (Arc::clone(engine), context.clone(), self.budget, self.gate.clone());
        let shape = image.shape().try_into().expect("images are [1, 1, H, W]");
        thread::spawn(move || {
            gate.enter(move || {
                let pass = SlicePass::new(&engine, shape, budget);
                drop(engine);
                // If the receiver is gone, another scan has been opened.
                let _ = prepared.send(pass);
                context.request_repaint();
            });
        });
        self.state = State::Preparing(slice, image, receiver);
        Ok(())
    }

    fn fail(&mut self, slice: usize) {
        self.state = State::Idle;
        self.failed.insert(slice);
        self.finished(slice);
    }

    fn finished(&mut self, slice: usize) {
        let Some(whole) = &mut self.whole else { return };
        whole.left.retain(|left| *left != slice);
        if whole.left.is_empty() {
            self.whole = None;
        }
    }

    fn next(&self, cache: &Cache, shown: Option<usize>, wanted: Option<usize>) -> Option<usize> {
        let open = |slice: &usize| !cache.holds(*slice) && !self.failed.contains(slice);
        shown
            .filter(open)
            .or_else(|| wanted.filter(open))
            .or_else(|| self.whole.as_ref().and_then(|whole| whole.left.iter().copied().find(open)))
    }
}
