//! Principal components as colours, on a thread of their own: the decomposition of a wide model's tokens takes longer
//! than a frame.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use eframe::egui;
use meddino::maps::{Basis, Moments, limits};
use meddino::{Result, Tensor};

/// Directions, and the scores that colours are spread between.
#[derive(Clone, Debug)]
pub struct Colours {
    basis: Basis,
    limits: (f32, f32),
}

impl Colours {
    /// Those of one slice's tokens [P, C]: as `meddino pca` has them.
    fn of(tokens: &Tensor) -> Result<Self> {
        let mut moments = Moments::new(tokens.cols());
        moments.add(tokens);
        let basis = moments.basis()?;
        let limits = limits(&basis.scores(tokens));
        Ok(Self { basis, limits })
    }

    /// A colour a patch.
    fn paint(&self, tokens: &Tensor) -> Vec<[u8; 3]> {
        let (lo, hi) = self.limits;
        let shade = |score: &f32| if hi > lo { (((score - lo) / (hi - lo)).clamp(0.0, 1.0) * 255.0).round() as u8 } else { 128 };
        let scores = self.basis.scores(tokens);
        scores.data().chunks_exact(3).map(|rgb| [shade(&rgb[0]), shade(&rgb[1]), shade(&rgb[2])]).collect()
    }
}

/// A slice in colours.
#[derive(Debug)]
pub struct Painted {
    /// Which.
    pub slice: usize,
    /// Which fit it was asked for.
    pub fit: u64,
    /// A colour a patch, and what they were made with.
    pub colours: Result<(Vec<[u8; 3]>, Arc<Colours>)>,
}

struct Ask {
    slice: usize,
    fit: u64,
    tokens: Arc<Tensor>,
    colours: Option<Arc<Colours>>,
}

/// The thread's other end.
pub struct Painter {
    asks: Sender<Ask>,
    answers: Receiver<Painted>,
}

impl Painter {
    /// Starts the thread. Every answer has the window drawn anew.
    pub fn start(context: &egui::Context) -> Self {
        let ((asks, asked), (answer, answers)) = (channel::<Ask>(), channel());
        let context = context.clone();
        thread::spawn(move || {
            for Ask { slice, fit, tokens, colours } in asked {
                let colours = colours.map_or_else(|| Colours::of(&tokens).map(Arc::new), Ok);
                let painted = colours.map(|colours| (colours.paint(&tokens), colours));
                if answer.send(Painted { slice, fit, colours: painted }).is_err() {
                    break;
                }
                context.request_repaint();
            }
        });
        Self { asks, answers }
    }

    /// Asks for a slice of `tokens` [P, C] in `colours`, or in its own; `fit` comes back with the answer.
    pub fn ask(&self, slice: usize, fit: u64, tokens: &Arc<Tensor>, colours: Option<&Arc<Colours>>) {
        // The thread ends with the channel, that is with the window.
        let _ = self.asks.send(Ask { slice, fit, tokens: Arc::clone(tokens), colours: colours.cloned() });
    }

    /// The next answer, if there is one.
    pub fn answer(&self) -> Option<Painted> {
        self.answers.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_that_differ_have_other_colours_and_equal_tokens_are_refused() {
        let tokens = Tensor::new([4, 3], vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        let colours = Colours::of(&tokens).expect("they differ");
        let painted = colours.paint(&tokens);
        assert_eq!(painted[0], painted[3]);
        assert!(painted[0] != painted[1] && painted[1] != painted[2]);
        assert!(painted.iter().flatten().any(|v| *v == 0) && painted.iter().flatten().any(|v| *v == 255), "the whole range is used");
        assert!(Colours::of(&Tensor::zeros([4, 3])).is_err());
    }
}
