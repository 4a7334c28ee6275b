//! A device and its queue, opened by this crate or lent by a host. All failures of the device become errors here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
#[cfg(not(target_arch = "wasm32"))]
use std::time::{Duration, Instant};

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::devices::{self, Selection};
use super::needs;
use super::pipelines::Pipelines;
#[cfg(not(target_arch = "wasm32"))]
use super::poller::Poller;
use super::report;
use crate::advice::{AGAIN, CPU, LESS, OTHER};
use crate::error::{Error, GpuFailure, Problem, Result};
use crate::graph::{Abilities, Elem, Limits, Tier};

/// A device with its queue, its limits and its compiled kernels. Clones share all of them.
#[derive(Clone, Debug)]
pub struct Context {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    pub(super) limits: Limits,
    abilities: Abilities,
    pub(super) warnings: Vec<String>,
    faults: Arc<Faults>,
    counts: Arc<Counts>,
    /// [`crate::graph::Cost::work`] per second, if it was measured.
    pub(super) speed: Option<f64>,
    pub(super) pipelines: Arc<Pipelines>,
    /// Whether every shader has naga's run-time checks.
    checks_shaders: bool,
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) poller: Arc<Poller>,
}

/// Failures that the device reported outside our error scopes.
#[derive(Debug, Default)]
struct Faults {
    lost: Mutex<Option<String>>,
    uncaptured: Mutex<Option<(GpuFailure, Problem)>>,
    /// For tests: how many objects the context still creates before one fails.
    #[cfg(test)]
    left: Mutex<Option<usize>>,
}

/// Counts of the submissions and polls by this context and its clones, which a host may want to do itself.
#[derive(Debug, Default)]
struct Counts {
    submissions: AtomicU64,
    polls: AtomicU64,
}

/// Stores `first` unless the slot already holds a value.
fn set<T>(slot: &Mutex<Option<T>>, first: T) {
    slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(first);
}

impl Context {
    /// Opens the selected adapter with its own limits and the best tier of kernels for f32 that [`Context::tuned`]
    /// finds.
    ///
    /// # Errors
    /// If no adapter matches the selection, or the driver refuses to open it.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(selection: &Selection) -> Result<Self> {
        block_on(Self::new_async(selection))
    }

    /// [`Context::new`] as a future.
    ///
    /// # Errors
    /// If no adapter matches the selection, or the driver refuses to open it.
    pub async fn new_async(selection: &Selection) -> Result<Self> {
        Self::new_tuned_async(selection, Elem::F32, None).await
    }

    /// Opens the selected adapter with its own limits and the kernels that [`Context::tuned`] finds.
    ///
    /// # Errors
    /// As [`Context::new`] and [`Context::tuned`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new_tuned(selection: &Selection, elem: Elem, tier: Option<Tier>) -> Result<Self> {
        block_on(Self::new_tuned_async(selection, elem, tier))
    }

    /// [`Context::new_tuned`] as a future.
    ///
    /// # Errors
    /// As [`Context::new_async`] and [`Context::tuned_async`].
    pub async fn new_tuned_async(selection: &Selection, elem: Elem, tier: Option<Tier>) -> Result<Self> {
        Self::open(selection, None).await?.tuned_async(elem, tier).await
    }

    /// Opens the selected adapter with limits no wider than `limits`, so that tests can simulate a smaller device. The
    /// kernels' tier is [`Tier::Direct`] if `limits.tier` is, else [`Tier::Baseline`], whatever tier suits the adapter.
    ///
    /// # Errors
    /// As [`Context::new`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with_limits(selection: &Selection, limits: Limits) -> Result<Self> {
        block_on(Self::with_limits_async(selection, limits))
    }

    /// [`Context::with_limits`] as a future.
    ///
    /// # Errors
    /// As [`Context::new_async`].
    pub async fn with_limits_async(selection: &Selection, limits: Limits) -> Result<Self> {
        Self::open(selection, Some(limits)).await
    }

    /// Opens the selected adapter with the plainest kernels, over f32, and with limits no wider than `limits`.
    pub(crate) async fn open(selection: &Selection, limits: Option<Limits>) -> Result<Self> {
        let (list, adapters) = devices::adapters().await;
        let chosen = list.select(&devices::resolve(selection))?;
        let adapter = &adapters[chosen.index];
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("meddino"),
            required_features: adapter.features() & OPTIONAL_FEATURES,
            required_limits: narrowed(adapter.limits(), limits),
            experimental_features: experimental(adapter.features() & OPTIONAL_FEATURES),
            ..Default::default()
        };
        let refused = |e| {
            let text = format!("{chosen} cannot be opened: {e}; {OTHER}use {CPU}");
            Error::gpu(GpuFailure::NoDevice, caused_by(text, e))
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(refused)?;
        let mut context = Self::from_host(device, queue)?;
        context.abilities = report::abilities(&context.info, context.device.features(), &adapter.cooperative_matrix_properties());
        context.watch();
        if let Some(Limits { tier, max_work, .. }) = limits {
            context.limits.tier = if tier == Tier::Direct { tier } else { Tier::Baseline };
            context.limits.max_work = max_work;
        }
        Ok(context)
    }

    /// Uses a host's device and queue. The context changes nothing about them, installs no handler, and creates every
    /// buffer on the host's device. Kernels are the plainest, over f32, until [`Context::tuned`]. Cooperative matrices
    /// are used only on devices that this crate opens. [`super::descriptor`] gives the features and limits that the
    /// host should open the device with; under narrower limits, plans split the work into smaller pieces.
    ///
    /// # Errors
    /// If a limit of the device is below [`super::REQUIRED`].
    pub fn from_host(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        let mut info = device.adapter_info();
        if info.name.is_empty() {
            // Browsers do not tell what could identify a machine.
            info.name = "the browser's GPU".into();
        }
        needs::check(&info.name, &device.limits())?;
        Ok(Self {
            limits: report::limits_of(&device.limits(), report::software_tier(&info)),
            abilities: report::abilities(&info, device.features(), &[]),
            warnings: Vec::new(),
            faults: Arc::default(),
            counts: Arc::default(),
            speed: None,
            pipelines: Arc::default(),
            checks_shaders: true,
            #[cfg(not(target_arch = "wasm32"))]
            poller: Arc::default(),
            info,
            device,
            queue,
        })
    }

    /// Returns the device. A device that this crate opens has wgpu's experimental cooperative matrices enabled if its
    /// adapter has them. Nothing checks their bounds: a caller that compiles shaders with cooperative matrices on this
    /// device must keep the contract of `wgpu::ExperimentalFeatures::enabled`.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// Returns the queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// Returns the adapter's name, kind and driver.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// Returns a readable name of the device, with the precision unless it is f32: `NVIDIA H100 (Vulkan, f16)`.
    pub fn name(&self) -> String {
        let precision = match self.limits.elem {
            Elem::F32 => "",
            Elem::F16 => ", f16",
        };
        format!("{} ({:?}{precision})", self.info.name, self.info.backend)
    }

    /// Returns the device's limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the optional shader features that the device supports.
    pub fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// Returns warnings for the user, such as tiers of kernels that failed their self-test on this device.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The same device, whose warnings begin with `first`.
    #[must_use]
    pub(crate) fn warned(mut self, first: Vec<String>) -> Self {
        self.warnings.splice(..0, first);
        self
    }

    /// Returns the same device, which compiles the kernels of this crate without naga's run-time checks (bounds of
    /// arrays, ends of loops) and without zeroing workgroup memory. On a GPU the checks cost a good part of a matrix
    /// product's time.
    ///
    /// Steps that a caller pushes into a [`Graph`](crate::graph::Graph) keep their checks, unless the caller pushes
    /// them with [`Graph::push_unchecked`](crate::graph::Graph::push_unchecked).
    #[must_use]
    pub fn without_shader_checks(&self) -> Self {
        Self { checks_shaders: false, ..self.clone() }
    }

    /// Returns whether every shader has naga's run-time checks.
    pub(super) fn checks_shaders(&self) -> bool {
        self.checks_shaders
    }

    /// Installs handlers that record failures outside our error scopes. Only for a device that this crate opened,
    /// because a host installs its own handlers.
    fn watch(&self) {
        let faults = Arc::downgrade(&self.faults);
        self.device.set_device_lost_callback(move |reason, message| {
            if let Some(faults) = faults.upgrade() {
                set(&faults.lost, format!("{reason:?}: {message}"));
            }
        });
        let faults = Arc::downgrade(&self.faults);
        self.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            if let Some(faults) = faults.upgrade() {
                set(&faults.uncaptured, (kind_of(&error), caused_by(error.to_string(), error)));
            }
        }));
    }

    /// Runs `work`, which must not wait for the device, and returns the device's error if there was one. The error's
    /// text begins with `doing`.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn checked<T>(&self, doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        block_on(self.checked_async(doing, work))
    }

    /// Runs `work` in a browser, where errors arrive only later. The device's handler records such an error, and the
    /// next call returns it.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn checked<T>(&self, doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.alive(doing).and_then(|()| work())
    }

    /// Runs `work`, and awaits the device's error scopes. Returns the device's error if there was one. The error's text
    /// begins with `doing`.
    pub(super) async fn checked_async<T>(&self, doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.alive(doing)?;
        // A thread has one stack of error scopes, in a browser the device has, and other tasks use it too. So nothing
        // may be awaited between a push and its pop.
        let (value, memory, validation, internal) = {
            let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
            let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
            let value = work();
            let (internal, validation) = (internal.pop(), validation.pop());
            (value, memory.pop(), validation, internal)
        };
        let (internal, validation, memory) = (internal.await, validation.await, memory.await);
        // The out-of-memory error takes precedence, because it causes the validation errors that follow.
        let Some(error) = memory.or(internal).or(validation) else { return self.alive(doing).and(value) };
        self.news_of_loss(doing)?;
        Err(self.explain(doing, error))
    }

    /// Returns the error of a device that is lost. A lost device first makes every call invalid. It reports the loss
    /// only when it is polled, and perhaps to another thread that polls at the moment, so this waits a little.
    #[cfg(not(target_arch = "wasm32"))]
    fn news_of_loss(&self, doing: &str) -> Result<()> {
        const LONG_ENOUGH: Duration = Duration::from_millis(50);
        let started = Instant::now();
        while started.elapsed() < LONG_ENOUGH {
            self.poll(doing, wgpu::PollType::Poll)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        self.alive(doing)
    }

    #[cfg(target_arch = "wasm32")]
    fn news_of_loss(&self, doing: &str) -> Result<()> {
        self.alive(doing)
    }

    /// Returns whether the creation of the next object should fail. Only tests let objects fail.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "the version for tests reads the context")]
    pub(super) const fn should_fail(&self) -> bool {
        false
    }

    #[cfg(test)]
    pub(super) fn should_fail(&self) -> bool {
        let mut left = self.faults.left.lock().unwrap_or_else(PoisonError::into_inner);
        let fails = *left == Some(0);
        *left = left.and_then(|left| left.checked_sub(1));
        fails
    }

    /// Replaces the device's limits, for tests.
    #[cfg(test)]
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Lets one object fail after `left` others, counted over this context, its clones and all that uses them; `None`
    /// lets none fail. Returns how many objects were left before the one that should fail, `None` if that one has
    /// failed.
    #[cfg(test)]
    pub(crate) fn fail_after(&self, left: Option<usize>) -> Option<usize> {
        std::mem::replace(&mut *self.faults.left.lock().unwrap_or_else(PoisonError::into_inner), left)
    }

    /// Turns wgpu's error into ours, with advice for the user. The text begins with `doing`.
    pub(super) fn explain(&self, doing: &str, error: wgpu::Error) -> Error {
        let name = &self.info.name;
        let text = match &error {
            wgpu::Error::OutOfMemory { .. } => {
                format!("{doing}: {name} is out of memory; {LESS}, close other programs that use it, or use {CPU}")
            }
            wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                format!("{doing}: {name} refuses the work; update its driver or use {CPU}, and report this:\n{description}")
            }
        };
        Error::gpu(kind_of(&error), caused_by(text, error))
    }

    /// Checks that the device is not lost and has reported no error since the last check. The error's text begins with
    /// `doing`.
    pub(super) fn alive(&self, doing: &str) -> Result<()> {
        if let Some(reason) = &*self.faults.lost.lock().unwrap_or_else(PoisonError::into_inner) {
            let name = &self.info.name;
            let text = format!(
                "{doing}: {name} was lost ({reason}); {AGAIN}, with a smaller image (`size`) if a time limit of its driver was the cause, or use {CPU}"
            );
            return Err(Error::gpu(GpuFailure::Lost, text));
        }
        match self.faults.uncaptured.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some((kind, problem)) => {
                let place = format!("{doing}: an earlier call failed on {}", self.info.name);
                Err(Error::gpu(kind, problem.within(place)))
            }
            None => Ok(()),
        }
    }

    /// Returns the number of submissions so far by this context, its clones and all that uses them. Work that a host
    /// encodes into its own encoder adds none.
    pub fn submissions(&self) -> u64 {
        self.counts.submissions.load(Ordering::Relaxed)
    }

    /// Returns the number of polls of the device so far by this context, its clones and all that uses them.
    pub fn polls(&self) -> u64 {
        self.counts.polls.load(Ordering::Relaxed)
    }

    /// Returns the measured [`crate::graph::Cost::work`] per second of a model's large operations; `None` if it was not
    /// measured.
    pub(crate) fn speed(&self) -> Option<f64> {
        self.speed
    }

    /// Submits commands and counts the submission. All submissions of this crate go through here.
    pub(super) fn submit(&self, commands: impl IntoIterator<Item = wgpu::CommandBuffer>) -> wgpu::SubmissionIndex {
        self.counts.submissions.fetch_add(1, Ordering::Relaxed);
        self.queue.submit(commands)
    }

    /// Polls the device, once or until it has finished the submitted work, as `how` says.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn poll(&self, doing: &str, how: wgpu::PollType) -> Result<()> {
        self.counts.polls.fetch_add(1, Ordering::Relaxed);
        // wgpu panics if the device is lost during the wait.
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.device.poll(how)));
        if polled.is_err() {
            set(&self.faults.lost, "while meddino waited for it".to_owned());
        }
        self.alive(doing)?;
        match polled {
            Ok(Err(problem)) => {
                let text = format!("{doing}: {problem}; open the device again, or use `backend` cpu");
                Err(Error::gpu(GpuFailure::Lost, Problem::caused_by(text, problem)))
            }
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

/// Returns the kind of failure that wgpu's error stands for.
fn kind_of(error: &wgpu::Error) -> GpuFailure {
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuFailure::OutOfMemory,
        wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => GpuFailure::Refused,
    }
}

/// Makes a problem from `text`, with wgpu's error as its cause.
#[cfg(not(target_arch = "wasm32"))]
fn caused_by(text: String, cause: impl Into<crate::error::Cause>) -> Problem {
    Problem::caused_by(text, cause)
}

/// Makes a problem from `text` alone. In a browser, wgpu's errors hold JavaScript objects that must not leave their
/// thread, so they cannot be kept as a cause; `text` includes their text.
#[cfg(target_arch = "wasm32")]
fn caused_by<T>(text: String, _: T) -> Problem {
    text.into()
}

/// Features that the engine uses if the adapter has them: for faster kernels, and for timing.
const OPTIONAL_FEATURES: wgpu::Features = wgpu::Features::SUBGROUP
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::TIMESTAMP_QUERY)
    .union(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);

/// Returns the opt-in token that wgpu requires for experimental features, if `features` has one.
#[expect(
    unsafe_code,
    reason = "wgpu requires an opt-in, because its experimental features may have errors; kernels that use them are tested on the device first"
)]
fn experimental(features: wgpu::Features) -> wgpu::ExperimentalFeatures {
    if features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        // SAFETY: cooperative matrices are the only experimental feature, and the kernels of this crate that use them
        // stay within their bindings and tiles.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}

/// Returns the adapter's limits, cut to `bound`.
fn narrowed(mut limits: wgpu::Limits, bound: Option<Limits>) -> wgpu::Limits {
    let Some(bound) = bound else { return limits };
    let tight = bound.min(report::limits_of(&limits, None));
    limits.max_storage_buffer_binding_size = tight.max_binding;
    limits.max_buffer_size = tight.max_buffer;
    limits.min_storage_buffer_offset_alignment = tight.alignment as u32;
    limits.max_compute_workgroups_per_dimension = tight.max_workgroups;
    limits.max_compute_invocations_per_workgroup = tight.max_invocations;
    limits.max_compute_workgroup_size_x = limits.max_compute_workgroup_size_x.min(tight.max_invocations);
    limits.max_compute_workgroup_size_y = limits.max_compute_workgroup_size_y.min(tight.max_invocations);
    limits.max_compute_workgroup_size_z = limits.max_compute_workgroup_size_z.min(tight.max_invocations);
    limits.max_compute_workgroup_storage_size = tight.workgroup_memory;
    limits
}
