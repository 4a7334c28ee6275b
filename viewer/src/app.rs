//! The viewer's state, the messages that it receives between frames, and the layout of a frame.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use eframe::egui::{self, Key};
use eframe::egui_wgpu::RenderState;
use meddino::ct::Size;
use meddino::maps::Mesh;
use meddino::{Error, Tensor};

use crate::args::Args;
use crate::cache::Cache;
use crate::device;
use crate::engine::{self, Engine, Loading, WeightsSource};
use crate::frames::Frames;
use crate::overlay::{Mode, Overlay};
use crate::reader::{Read, Reader, Scan};
use crate::schedule::Schedule;
use crate::slice::Slice;
use crate::view::{self, Did, SliceView};

/// How long a slice must be shown before its features are computed, so that slices which the user only scrolls past are
/// not computed.
const PASSING: Duration = Duration::from_millis(150);

/// The state behind the window.
pub struct App {
    pub(super) device: RenderState,
    frames: Frames,
    size: Size,
    /// Errors that the device reports.
    objections: Receiver<String>,
    pub(super) chosen: (Sender<PathBuf>, Receiver<PathBuf>),
    loading: (Sender<Loading>, Receiver<Loading>),
    /// The state of the model; `None` until the user chooses weights.
    pub(super) weights: Option<Loading>,
    reader: Reader,
    pub(super) scan: Option<Scan>,
    /// The name of the scan that is being opened.
    pub(super) opening: Option<String>,
    /// The slice that the user wants to see, and since when.
    pub(super) index: usize,
    since: Instant,
    /// Whether the reader has been asked for a slice and has not answered yet.
    asked: bool,
    /// The fraction of a slice that is left over from turning the wheel.
    turned: f32,
    pub(super) slice: Slice,
    pub(super) cache: Cache,
    pub(super) schedule: Schedule,
    pub(super) overlay: Overlay,
    /// The positions of the patches on the slices, once scan and model are loaded.
    pub(super) mesh: Option<Mesh>,
    /// The position of the mouse: (x, y) in pixels of the slice.
    pub(super) over: Option<(f64, f64)>,
    pub(super) notices: Vec<String>,
}

impl App {
    /// Opens the scan and the weights that `args` names.
    ///
    /// # Errors
    /// If wgpu does not draw the window.
    pub fn new(context: &eframe::CreationContext<'_>, args: Args, frames: Frames) -> Result<Self, String> {
        let device = context.wgpu_render_state.clone().ok_or("the window is not drawn by wgpu")?;
        let egui = &context.egui_ctx;
        egui.set_theme(egui::Theme::Dark);
        let (objection, objections) = channel();
        device::watch(&device, &objection);
        let mut app = Self {
            device,
            frames,
            size: args.size,
            objections,
            chosen: channel(),
            loading: channel(),
            weights: None,
            reader: Reader::start(egui, args.size),
            scan: None,
            opening: None,
            index: 0,
            since: Instant::now(),
            asked: false,
            turned: 0.0,
            slice: Slice::new(),
            cache: Cache::new(args.cache_bytes()),
            schedule: Schedule::new(args.budget()),
            overlay: Overlay::new(egui),
            mesh: None,
            over: None,
            notices: Vec::new(),
        };
        match args.checkpoint {
            Some(named) => app.load(WeightsSource::Named(named), egui),
            None if engine::cached().is_some() => app.load(WeightsSource::Released, egui),
            None => {}
        }
        if let Some(scan) = args.scan {
            app.open(&scan);
        }
        Ok(app)
    }

    /// Starts to open a scan, and drops the scan that is shown.
    pub(super) fn open(&mut self, path: &Path) {
        self.reader.open(path);
        (self.scan, self.mesh, self.over, self.asked) = (None, None, None, false);
        self.opening = Some(path.display().to_string());
        self.slice.clear();
        self.forget_features();
    }

    /// Starts to load a model, and drops the loaded one.
    pub(super) fn load(&mut self, source: WeightsSource, context: &egui::Context) {
        engine::load(source, &self.device, context, &self.loading.0);
        self.weights = Some(Loading::Opening);
        self.mesh = None;
        self.schedule.forget_model();
        self.forget_features();
    }

    fn forget_features(&mut self) {
        self.schedule.clear();
        self.cache.clear();
        self.overlay.clear();
    }

    /// Returns the model, once it is loaded.
    pub(super) fn engine(&self) -> Option<&Arc<Engine>> {
        if let Some(Loading::Ready(engine)) = &self.weights { Some(engine) } else { None }
    }

    /// Returns the bytes that the features of a slice take.
    pub(super) fn slice_bytes(&self) -> Option<usize> {
        Some(self.mesh?.grid.patches() * self.engine()?.gpu.config().embed_dim * size_of::<f32>())
    }

    /// Shows slice `index` as soon as it has been read.
    pub(super) fn go_to(&mut self, index: usize) {
        let last = self.scan.as_ref().map_or(0, |scan| scan.shape[0] - 1);
        let index = index.min(last);
        if index != self.index {
            (self.index, self.since) = (index, Instant::now());
        }
    }

    /// Shows a notice above the slice until the user closes it.
    pub(super) fn notice(&mut self, text: &impl ToString) {
        let text = text.to_string();
        if !self.notices.contains(&text) {
            self.notices.push(text);
        }
    }

    fn check(&mut self, done: Result<(), Error>) {
        if let Err(problem) = done {
            self.notice(&problem);
        }
    }

    /// Handles everything that threads, dialogs and the device have sent.
    fn hear(&mut self, context: &egui::Context) {
        let objections: Vec<String> = self.objections.try_iter().collect();
        objections.into_iter().for_each(|text| self.notice(&text));
        let dropped = context.input(|input| input.raw.dropped_files.first().map(|file| file.path().to_path_buf()));
        if let Some(path) = self.chosen.1.try_iter().last().or(dropped) {
            self.open(&path);
        }
        while let Ok(word) = self.loading.1.try_recv() {
            if let Loading::Ready(engine) = &word {
                let warnings = engine.warnings.clone();
                warnings.into_iter().for_each(|text| self.notice(&text));
            }
            self.weights = Some(word);
            self.lay_mesh();
        }
        while let Some(read) = self.reader.answer() {
            self.take(read, context);
        }
        let heard = self.overlay.hear();
        self.check(heard);
    }

    /// Handles an answer of the reader.
    fn take(&mut self, read: Read, context: &egui::Context) {
        match read {
            Read::Opened(scan) => {
                scan.warnings.iter().for_each(|text| self.notice(&format!("{}: {text}", scan.name)));
                self.opening = None;
                (self.index, self.since) = (scan.shape[0] / 2, Instant::now());
                self.scan = Some(scan);
                self.lay_mesh();
            }
            Read::Refused(problem) => {
                self.opening = None;
                self.notice(&problem);
            }
            Read::Slice { index, hu } => {
                self.asked = false;
                match hu {
                    Ok(hu) => self.slice.show(index, hu),
                    Err(problem) => {
                        self.slice.show(index, Arc::new(self.blank()));
                        self.notice(&problem);
                    }
                }
            }
            Read::Image { index, image } => {
                if let Some(engine) = self.engine().cloned() {
                    let read = self.schedule.read(index, image, &engine, context);
                    self.check(read);
                }
            }
        }
    }

    /// Returns the slice that is shown in place of an unreadable one: air.
    fn blank(&self) -> Tensor {
        let [_, height, width] = self.scan.as_ref().map_or([1, 1, 1], |scan| scan.shape);
        Tensor::new([height, width], vec![-1024.0; height * width])
    }

    /// Computes the positions of the patches on the slices, once scan and model are loaded.
    fn lay_mesh(&mut self) {
        let (Some(scan), Some(engine)) = (&self.scan, self.engine()) else { return };
        let [_, height, width] = scan.shape;
        let image = self.size.of(height, width);
        let config = engine.gpu.config();
        match config.grid(image.0, image.1) {
            Ok(grid) => self.mesh = Some(Mesh::new(grid, config.patch_size, image, (height, width))),
            Err(problem) => self.notice(&problem),
        }
    }

    /// Requests the reading of missing slices, and computes one frame's share of the missing features.
    fn go_on(&mut self, context: &egui::Context) {
        if self.scan.is_none() {
            return;
        }
        if !self.asked && self.slice.index() != Some(self.index) {
            self.reader.slice(self.index);
            self.asked = true;
        }
        if self.mesh.is_none() {
            return;
        }
        let looked_at = self.since.elapsed();
        let shown = (looked_at >= PASSING).then_some(self.index);
        if let Some(left) = PASSING.checked_sub(looked_at) {
            context.request_repaint_after(left);
        }
        let done = self.schedule.go_on(&self.reader, &mut self.cache, shown);
        if self.schedule.computing() || matches!(done, Ok(Some(_)) | Err(_)) {
            context.request_repaint();
        }
        self.check(done.map(|_| ()));
    }

    /// Handles the keys that step through the slices or close the overlay.
    fn keys(&mut self, context: &egui::Context) {
        if context.memory(|memory| memory.focused().is_some()) {
            return;
        }
        let steps = [(Key::ArrowUp, -1), (Key::ArrowDown, 1), (Key::PageUp, -10), (Key::PageDown, 10)];
        let by: isize = context.input(|input| steps.iter().filter(|(key, _)| input.key_pressed(*key)).map(|(_, by)| by).sum());
        self.go_to(self.index.saturating_add_signed(by));
        if context.input(|input| input.key_pressed(Key::Escape)) {
            self.overlay.mode = Mode::Nothing;
        }
    }

    /// Draws the slice and its overlay.
    fn picture(&mut self, ui: &mut egui::Ui) {
        let Some(scan) = &self.scan else { return };
        let (size, pixel) = ((scan.shape[1], scan.shape[2]), scan.pixel);
        let Some(gray) = self.slice.texture(ui.ctx()).map(egui::TextureHandle::id) else { return };
        let shown = self.slice.index().unwrap_or(self.index);
        let tokens = self.cache.get(shown).cloned();
        let overlay = self.mesh.zip(tokens.as_ref()).and_then(|(mesh, tokens)| {
            let texture = self.overlay.texture(ui.ctx(), shown, &mesh, tokens)?.id();
            Some((texture, mesh, self.overlay.opacity))
        });
        let chosen = self.overlay.query().filter(|query| self.overlay.mode == Mode::Similarity && query.slice == shown);
        let picture = SliceView { slice: size, pixel, gray, overlay, mark: chosen.map(|query| query.place) };
        let did = view::show(ui, &picture);
        self.answer(&did, shown, tokens.as_deref(), ui.ctx());
    }

    /// Applies the mouse's actions on slice `shown`, whose tokens are [P, C].
    fn answer(&mut self, did: &Did, shown: usize, tokens: Option<&Tensor>, context: &egui::Context) {
        self.over = did.over;
        self.turned += did.scrolled;
        let whole = self.turned.trunc();
        self.turned -= whole;
        self.go_to(self.index.saturating_add_signed(whole as isize));
        if let Some((by, side)) = did.dragged {
            self.slice.adjust(by, side);
        }
        let mut choose = self.overlay.mode == Mode::Similarity && self.overlay.following;
        if did.clicked {
            // The click that fixes a patch also chooses it.
            self.overlay.following = !choose;
            self.overlay.mode = Mode::Similarity;
            choose = true;
        }
        if let (true, Some(place), Some(mesh), Some(tokens)) = (choose, did.over, &self.mesh, tokens) {
            let before = self.overlay.query().map(|query| (query.slice, query.place));
            if before != Some((shown, place)) {
                self.overlay.ask(shown, place, mesh, tokens);
                // The map of this place is drawn in the next frame.
                context.request_repaint();
            }
        }
    }
}

impl eframe::App for App {
    fn logic(&mut self, context: &egui::Context, _frame: &mut eframe::Frame) {
        self.frames.begin();
        self.hear(context);
        self.go_on(context);
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        self.keys(ui.ctx());
        self.bars(ui);
        egui::CentralPanel::no_frame().show(ui, |ui| {
            self.notices(ui);
            if self.scan.is_some() { self.picture(ui) } else { self.welcome(ui) }
        });
        self.frames.end(self.schedule.computing(), self.cache.len());
    }
}
