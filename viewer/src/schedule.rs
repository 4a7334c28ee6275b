//! Which slice is computed next, and how far it is: the shown slice first, then, if the user asks for the whole volume,
//! the other slices.

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
use crate::pass::{SlicePass, Step};
use crate::reader::Reader;

/// The one slice that is being computed, and the slices that come after it.
pub struct Schedule {
    /// The device's time in one frame.
    budget: Duration,
    state: State,
    /// The pass for slices of the size that was computed last.
    pass: Option<SlicePass>,
    /// Slices that failed are not tried again by themselves.
    failed: HashSet<usize>,
    whole: Option<Whole>,
}

/// What is being done for the slice.
#[derive(Default)]
enum State {
    #[default]
    Idle,
    /// The slice is being read.
    Reading(usize),
    /// A pass for the slice's size is being prepared.
    Preparing(usize, Tensor, Receiver<Result<SlicePass>>),
    /// The device computes; the share that it was given, 0 to 1.
    Running(usize, f32),
}

/// The slices of a volume that are still to be computed.
struct Whole {
    total: usize,
    left: VecDeque<usize>,
}

impl Schedule {
    /// Nothing to do yet; `budget` is the device's time in one frame.
    pub fn new(budget: Duration) -> Self {
        Self { budget, state: State::Idle, pass: None, failed: HashSet::new(), whole: None }
    }

    /// Forgets all work: another scan is looked at.
    pub fn clear(&mut self) {
        (self.state, self.whole) = (State::Idle, None);
        self.failed.clear();
    }

    /// Forgets the prepared pass too: another model computes.
    pub fn forget_model(&mut self) {
        self.clear();
        self.pass = None;
    }

    /// Wants the features of up to `room` of `slices` slices, those nearest to `shown` first.
    pub fn want_whole(&mut self, slices: usize, shown: usize, room: usize, cache: &Cache) {
        let mut all: Vec<usize> = (0..slices).collect();
        all.sort_by_key(|slice| slice.abs_diff(shown));
        all.truncate(room);
        let total = all.len();
        all.retain(|slice| !cache.holds(*slice));
        self.failed.clear();
        self.whole = Some(Whole { total, left: all.into() });
    }

    /// Wants no more than the shown slice.
    pub fn stop_whole(&mut self) {
        self.whole = None;
    }

    /// How many slices of the whole volume are done, of how many; none if it is not wanted.
    pub fn whole(&self) -> Option<(usize, usize)> {
        self.whole.as_ref().map(|whole| (whole.total - whole.left.len(), whole.total))
    }

    /// The slice that is worked on, and its share that is done; none before the device begins.
    pub fn progress(&self) -> Option<(usize, Option<f32>)> {
        match self.state {
            State::Idle => None,
            State::Reading(slice) | State::Preparing(slice, ..) => Some((slice, None)),
            State::Running(slice, share) => Some((slice, Some(share))),
        }
    }

    /// Whether the device is computing: the next frame should come at once.
    pub fn computing(&self) -> bool {
        matches!(self.state, State::Running(..))
    }

    /// Takes a slice that was read for it.
    ///
    /// # Errors
    /// If it could not be read, or the pass does not begin.
    pub fn read(&mut self, index: usize, image: Result<Tensor>, engine: &Arc<Engine>, context: &egui::Context) -> Result<()> {
        if !matches!(self.state, State::Reading(slice) if slice == index) {
            return Ok(());
        }
        let begun = image.and_then(|image| self.begin(index, image, engine, context));
        begun.inspect_err(|_| self.fail(index))
    }

    /// Goes on for one frame. `shown`: the slice that is looked at, once it is looked at for a while. Gives the slice
    /// whose features have come into `cache`.
    ///
    /// # Errors
    /// If a slice cannot be computed; it is not tried again, and the others go on.
    pub fn go_on(&mut self, reader: &Reader, cache: &mut Cache, shown: Option<usize>) -> Result<Option<usize>> {
        match std::mem::take(&mut self.state) {
            State::Idle => {
                if let Some(next) = self.next(cache, shown) {
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
            State::Running(slice, _) if self.whole.is_some() || shown.is_none_or(|shown| shown == slice) => {
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
            // Nobody looks at it any more: `Idle` takes the next one.
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
        let (engine, context, budget) = (Arc::clone(engine), context.clone(), self.budget);
        let shape = image.shape().try_into().expect("images are [1, 1, H, W]");
        thread::spawn(move || {
            // If nobody waits any more, another scan is looked at.
            let _ = prepared.send(SlicePass::new(&engine, shape, budget));
            context.request_repaint();
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

    fn next(&mut self, cache: &Cache, shown: Option<usize>) -> Option<usize> {
        let open = |slice: &usize| !cache.holds(*slice) && !self.failed.contains(slice);
        shown.filter(open).or_else(|| self.whole.as_ref().and_then(|whole| whole.left.iter().copied().find(open)))
    }
}
