//! Computes principal components as colours on a separate thread, because the decomposition of a wide model's tokens
//! takes longer than a frame.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use eframe::egui;
use meddino::maps::{Basis, Moments, limits};
use meddino::{Result, Tensor};

/// The principal directions, and the range of scores that the colours cover.
#[derive(Clone, Debug)]
pub struct Colours {
    basis: Basis,
    limits: (f32, f32),
}

impl Colours {
    /// Fits the colours to one slice's tokens [P, C], as `meddino pca` does.
    fn of(tokens: &Tensor) -> Result<Self> {
        let mut moments = Moments::new(tokens.cols());
        moments.add(tokens);
        let basis = moments.basis()?;
        let limits = limits(&basis.scores(tokens));
        Ok(Self { basis, limits })
    }

    /// Returns one colour per patch.
    fn paint(&self, tokens: &Tensor) -> Vec<[u8; 3]> {
        let (lo, hi) = self.limits;
        let shade = |score: &f32| if hi > lo { (((score - lo) / (hi - lo)).clamp(0.0, 1.0) * 255.0).round() as u8 } else { 128 };
        let scores = self.basis.scores(tokens);
        scores.data().chunks_exact(3).map(|rgb| [shade(&rgb[0]), shade(&rgb[1]), shade(&rgb[2])]).collect()
    }
}

/// The colours of a slice.
#[derive(Debug)]
pub struct Painted {
    /// The index of the slice.
    pub slice: usize,
    /// The number of the fit that the request named.
    pub fit: u64,
    /// One colour per patch, and the fit that the colours were made with.
    pub colours: Result<(Vec<[u8; 3]>, Arc<Colours>)>,
}

struct Ask {
    slice: usize,
    fit: u64,
    tokens: Arc<Tensor>,
    colours: Option<Arc<Colours>>,
}

/// The window's end of the channels to the thread.
pub struct Painter {
    asks: Sender<Ask>,
    answers: Receiver<Painted>,
}

impl Painter {
    /// Starts the thread. Every answer redraws the window.
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

    /// Requests the colours of a slice's `tokens` [P, C], by the fit `colours` or by a new fit to this slice. The
    /// answer repeats `fit`.
    pub fn ask(&self, slice: usize, fit: u64, tokens: &Arc<Tensor>, colours: Option<&Arc<Colours>>) {
        // The thread ends when the channel closes, together with the window.
        let _ = self.asks.send(Ask { slice, fit, tokens: Arc::clone(tokens), colours: colours.cloned() });
    }

    /// Returns the next answer, if there is one.
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
