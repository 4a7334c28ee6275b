//! Loads the model onto the window's device, on its own thread, because weights are large and shaders take time to
//! compile.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use eframe::egui;
use eframe::egui_wgpu::RenderState;
use meddino::embedding::{Context, Elem, Gpu};
use meddino::hub::{Event, Hub, RELEASED};
use meddino::vit::source::ModelSource;
use meddino::{Error, Result};

use crate::gate::Gate;

/// A model on the device.
#[derive(Debug)]
pub struct Engine {
    /// The name that the user gave the weights.
    pub name: String,
    /// The identity of the weights; none of seeded ones.
    pub sha256: Option<String>,
    /// The weights on the device, and the model's sizes.
    pub gpu: Gpu,
    /// Warnings about the weights and the device, for the user.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Loads `checkpoint` onto the window's device.
    fn open(checkpoint: &str, device: RenderState) -> Result<Self> {
        let model = ModelSource::parse(checkpoint).and_then(|source| source.open())?;
        let context = Context::from_host(device.device, device.queue)?;
        // `tuned` compares faster kernels with the plainest ones, and trusts those.
        context.self_test()?;
        let context = context.tuned(Elem::F32, None)?;
        let gpu = Gpu::open(&context, &model)?;
        let warnings = [model.checkpoint().warnings(), model.warnings(), context.warnings()].concat();
        Ok(Self { name: checkpoint.into(), sha256: model.checkpoint().sha256()?, gpu, warnings })
    }

    /// Returns the device's name and API, for display.
    pub fn device(&self) -> String {
        let info = self.gpu.context().info();
        format!("{} ({:?})", info.name, info.backend)
    }
}

/// The source of the weights.
#[derive(Clone, Debug)]
pub enum WeightsSource {
    /// A file, or `seeded:N`.
    Named(String),
    /// The released weights, from the cache or, if the cache lacks them, from the hub.
    Released,
}

/// The state of the weights.
#[derive(Debug)]
pub enum Loading {
    /// `done` bytes of `size` are downloaded.
    Download { done: u64, size: u64 },
    /// The download waits. The text is the reason.
    Waiting(String),
    /// The model is being loaded onto the device.
    Opening,
    /// The model is on the device.
    Ready(Arc<Engine>),
    /// The model cannot be loaded.
    Failed(Error),
}

/// Returns the path of the released checkpoint, if the cache holds it.
pub fn cached() -> Option<PathBuf> {
    Hub::from_env().ok()?.cached(&RELEASED)
}

/// Starts to load a model. Each change of state goes to `words` and redraws the window. The window waits at `gate` for
/// what uses the device, and not for a download, which goes on where it ended the next time.
pub fn load(source: WeightsSource, device: &RenderState, gate: &Gate, context: &egui::Context, words: &Sender<Loading>) {
    let (device, gate, context, words) = (device.clone(), gate.clone(), context.clone(), words.clone());
    thread::spawn(move || {
        let mut tell = |word: Loading| {
            // If the receiver is gone, the window is closing.
            let _ = words.send(word);
            context.request_repaint();
        };
        let found = checkpoint(source, &mut tell);
        gate.enter(move || {
            let opened = found.and_then(|checkpoint| {
                tell(Loading::Opening);
                Engine::open(&checkpoint, device)
            });
            tell(match opened {
                Ok(engine) => Loading::Ready(Arc::new(engine)),
                Err(problem) => Loading::Failed(problem),
            });
        });
    });
}

fn checkpoint(source: WeightsSource, tell: &mut dyn FnMut(Loading)) -> Result<String> {
    let WeightsSource::Named(name) = source else {
        let path = Hub::from_env()?.fetch(&RELEASED, &mut |event| match event {
            Event::Receiving { done, size } => tell(Loading::Download { done, size }),
            Event::Retrying { problem, pause } => tell(Loading::Waiting(format!("{problem}; retrying in {} s", pause.as_secs()))),
            Event::Waiting => tell(Loading::Waiting("another program is downloading the same file".into())),
            _ => {}
        })?;
        let unicode = |path: std::ffi::OsString| {
            Error::checkpoint(path.display(), "expected a path in Unicode; set HF_HOME to a folder with such a name")
        };
        return path.into_os_string().into_string().map_err(unicode);
    };
    Ok(name)
}
