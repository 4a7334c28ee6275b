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
use crate::body::Body;
use crate::cache::Cache;
use crate::device;
use crate::dialog::Output;
use crate::engine::{self, Engine, Loading, WeightsSource};
use crate::frames::Frames;
use crate::gate::Gate;
use crate::head::Subject;
use crate::labelling::{Labelling, colour_of};
use crate::overlay::{Mode, Overlay};
use crate::reader::{Read, Reader, Scan};
use crate::saver::{LabelSaver, Saved};
use crate::schedule::Schedule;
use crate::slice::Slice;
use crate::view::{self, Did, Mark, SliceView};

/// Both ends of a channel of the window's own.
type Channel<T> = (Sender<T>, Receiver<T>);

/// How long a slice must be shown before its features are computed, so that slices which the user only scrolls past are
/// not computed.
const PASSING: Duration = Duration::from_millis(150);

/// What would drop marks that no file has.
#[derive(Clone, Debug)]
pub enum Leave {
    /// Another scan.
    Open(PathBuf),
    /// Another model.
    Load(WeightsSource),
    /// The end.
    Close,
}

/// The state behind the window.
pub struct App {
    pub(super) device: RenderState,
    /// What uses the device on other threads.
    gate: Gate,
    frames: Frames,
    size: Size,
    /// Errors that the device reports.
    objections: Receiver<String>,
    pub(super) chosen: Channel<PathBuf>,
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
    pub(super) labelling: Labelling,
    /// The head of the body, if labels are cut to it.
    pub(super) body: Option<Arc<Body>>,
    /// What is labelled, once scan and model are loaded. There is none if the head of the body is for other features.
    pub(super) subject: Option<Arc<Subject>>,
    /// Where label map and head are saved; a dialog asks if there is no path.
    pub(super) places: (Option<PathBuf>, Option<PathBuf>),
    pub(super) picked: Channel<(Output, PathBuf)>,
    pub(super) saved: Channel<Saved>,
    /// The label map that is being written.
    pub(super) saving: Option<LabelSaver>,
    /// The file that was saved last.
    pub(super) last_saved: Option<PathBuf>,
    /// What waits until the user has said whether marks may be dropped.
    pub(super) leaving: Option<Leave>,
    /// Whether the window may close without a question.
    may_close: bool,
    /// The positions of the patches on the slices, once scan and model are loaded.
    pub(super) mesh: Option<Mesh>,
    /// The position of the mouse: (x, y) in pixels of the slice.
    pub(super) over: Option<(f64, f64)>,
    pub(super) notices: Vec<String>,
}

impl App {
    /// Opens the scan and the weights that `args` names. Labels are cut to the `body`, if there is one.
    ///
    /// # Errors
    /// If wgpu does not draw the window.
    pub fn new(context: &eframe::CreationContext<'_>, args: Args, body: Option<Arc<Body>>, frames: Frames) -> Result<Self, String> {
        let device = context.wgpu_render_state.clone().ok_or("the window is not drawn by wgpu")?;
        let egui = &context.egui_ctx;
        egui.set_theme(egui::Theme::Dark);
        let (objection, objections) = channel();
        device::watch(&device, &objection);
        let gate = Gate::new();
        let mut app = Self {
            device,
            gate: gate.clone(),
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
            schedule: Schedule::new(args.budget(), gate),
            overlay: Overlay::new(egui),
            labelling: Labelling::new(egui),
            body,
            subject: None,
            places: (args.save_labels, args.save_head),
            picked: channel(),
            saved: channel(),
            saving: None,
            last_saved: None,
            leaving: None,
            may_close: false,
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

    /// Does what drops the marks; if no file has them, once the user has agreed.
    pub(super) fn leave(&mut self, leave: Leave, context: &egui::Context) {
        if self.labelling.is_unsaved() || self.saving.is_some() {
            self.leaving = Some(leave);
        } else {
            self.drop_marks(leave, context);
        }
    }

    /// Does what drops the marks.
    pub(super) fn drop_marks(&mut self, leave: Leave, context: &egui::Context) {
        match leave {
            Leave::Open(path) => self.open(&path),
            Leave::Load(source) => self.load(source, context),
            Leave::Close => {
                self.may_close = true;
                context.send_viewport_cmd(egui::ViewportCommand::Close);
            }
        }
    }

    /// Starts to open a scan, and drops the scan that is shown.
    fn open(&mut self, path: &Path) {
        self.reader.open(path);
        (self.scan, self.mesh, self.over, self.asked) = (None, None, None, false);
        self.opening = Some(path.display().to_string());
        self.slice.clear();
        self.forget_features();
    }

    /// Starts to load a model, and drops the loaded one.
    fn load(&mut self, source: WeightsSource, context: &egui::Context) {
        engine::load(source, &self.device, &self.gate, context, &self.loading.0);
        self.weights = Some(Loading::Opening);
        self.mesh = None;
        self.schedule.forget_model();
        self.forget_features();
    }

    fn forget_features(&mut self) {
        self.schedule.clear();
        self.cache.clear();
        self.overlay.clear();
        self.labelling.clear();
        (self.subject, self.saving, self.last_saved) = (None, None, None);
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

    pub(super) fn check(&mut self, done: Result<(), Error>) {
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
            self.leave(Leave::Open(path), context);
        }
        let is_closing = context.input(|input| input.viewport().close_requested());
        if is_closing && !self.may_close && (self.labelling.is_unsaved() || self.saving.is_some()) {
            context.send_viewport_cmd(egui::ViewportCommand::CancelClose);
            self.leaving = Some(Leave::Close);
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
        let heard = self.labelling.hear(context);
        self.check(heard);
        self.hear_saved(context);
    }

    /// Handles an answer of the reader.
    fn take(&mut self, read: Read, context: &egui::Context) {
        match read {
            Read::Opened(scan) => {
                let scan = *scan;
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
            Ok(grid) => {
                let mesh = Mesh::new(grid, config.patch_size, image, (height, width));
                let subject = Subject::new(scan, engine, self.size, &mesh, self.body.clone());
                self.mesh = Some(mesh);
                match subject {
                    Ok(subject) => self.subject = Some(Arc::new(subject)),
                    Err(problem) => self.notice(&problem),
                }
            }
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
        let marked = self.labelling.wanted().filter(|slice| !self.schedule.has_failed(*slice));
        let wanted = marked.or_else(|| self.saving.as_ref().and_then(LabelSaver::next));
        let done = self.schedule.go_on(&self.reader, &mut self.cache, shown, wanted);
        if self.schedule.computing() || matches!(done, Ok(Some(_)) | Err(_)) {
            context.request_repaint();
        }
        self.check(done.map(|_| ()));
        if let Some(subject) = &self.subject {
            self.labelling.go_on(&mut self.cache, subject);
        }
        self.save_on(context);
    }

    /// Handles the keys that step through the slices, choose a label, undo, save, close the overlay, or quit.
    fn keys(&mut self, context: &egui::Context) {
        if context.memory(|memory| memory.focused().is_some()) {
            return;
        }
        let steps = [(Key::ArrowUp, -1), (Key::ArrowDown, 1), (Key::PageUp, -10), (Key::PageDown, 10)];
        let by: isize = context.input(|input| steps.iter().filter(|(key, _)| input.key_pressed(*key)).map(|(_, by)| by).sum());
        self.go_to(self.index.saturating_add_signed(by));
        self.label_keys(context);
        if context.input(|input| input.key_pressed(Key::Escape)) {
            self.overlay.mode = Mode::Nothing;
        }
        let quit = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, Key::Q);
        if context.input_mut(|input| input.consume_shortcut(&quit)) {
            context.send_viewport_cmd(egui::ViewportCommand::Close);
        }
    }

    /// Draws the slice and its overlay.
    fn picture(&mut self, ui: &mut egui::Ui) {
        let Some(scan) = &self.scan else { return };
        let (size, pixel) = ((scan.shape[1], scan.shape[2]), scan.pixel);
        let Some(gray) = self.slice.texture(ui.ctx()).map(egui::TextureHandle::id) else { return };
        let shown = self.slice.index().unwrap_or(self.index);
        let tokens = self.cache.get(shown).cloned();
        let is_labelling = self.overlay.mode == Mode::Labels;
        let overlay = self.mesh.zip(tokens.as_ref()).and_then(|(mesh, tokens)| {
            let (texture, mesh) = if is_labelling {
                (self.labelling.texture(shown, tokens)?.id(), None)
            } else {
                (self.overlay.texture(ui.ctx(), shown, &mesh, tokens)?.id(), Some(mesh))
            };
            Some((texture, mesh, self.overlay.opacity))
        });
        let marks = if is_labelling { self.marks(shown) } else { Vec::new() };
        let chosen = self.overlay.query().filter(|query| self.overlay.mode == Mode::Similarity && query.slice == shown);
        let picture = SliceView { slice: size, pixel, gray, overlay, marks, mark: chosen.map(|query| query.place) };
        let did = view::show(ui, &picture);
        self.answer(&did, shown, tokens.as_deref(), ui.ctx());
    }

    /// Returns the marks on slice `shown`: each in the middle of its patch, and half as wide.
    fn marks(&self, shown: usize) -> Vec<Mark> {
        let Some(mesh) = &self.mesh else { return Vec::new() };
        let (down, across) = mesh.covered();
        let (height, width) = (down / mesh.grid.rows as f64, across / mesh.grid.cols as f64);
        let middle = |patch: usize| ((patch % mesh.grid.cols) as f64 + 0.5, (patch / mesh.grid.cols) as f64 + 0.5);
        let of_patch = |(patch, label)| {
            let (x, y) = middle(patch);
            Mark { middle: (x * width, y * height), size: (width / 2.0, height / 2.0), colour: colour_of(label) }
        };
        self.labelling.marks.of_slice(shown).map(of_patch).collect()
    }

    /// Paints labels on slice `shown`.
    fn paint(&mut self, did: &Did, shown: usize) {
        let Some(mesh) = &self.mesh else { return };
        if let Some(place) = did.down {
            return self.labelling.paint(shown, place, mesh);
        }
        // The button may have been pressed and released, or moved, since the last frame.
        if let Some(place) = did.over.filter(|_| did.clicked || self.labelling.is_painting()) {
            self.labelling.paint(shown, place, mesh);
        }
        self.labelling.lift();
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
        if self.overlay.mode == Mode::Labels {
            return self.paint(did, shown);
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
        self.ask_to_leave(ui.ctx());
        self.bars(ui);
        egui::CentralPanel::no_frame().show(ui, |ui| {
            self.notices(ui);
            if self.scan.is_some() { self.picture(ui) } else { self.welcome(ui) }
        });
        self.frames.end(self.schedule.computing(), self.cache.len());
    }

    fn on_exit(&mut self) {
        // A label map that is being written is finished or removed.
        self.saving = None;
        self.gate.close();
    }
}
