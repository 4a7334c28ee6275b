//! A device and its queue, opened by us or lent by a host, and the one place where its failures become errors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(not(target_arch = "wasm32"))]
use super::blocking::block_on;
use super::devices::{self, Selection};
use super::needs;
use super::pipelines::Pipelines;
#[cfg(not(target_arch = "wasm32"))]
use super::poller::Poller;
use crate::error::{Error, GpuFailure, Problem, Result};
use crate::graph::{Abilities, Elem, Limits, Tier};

/// A device, its queue, and what they allow. Clones share all of it.
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
    /// [`crate::graph::Cost::work`] a second, where it was measured.
    pub(super) speed: Option<f64>,
    pub(super) pipelines: Arc<Pipelines>,
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) poller: Arc<Poller>,
}

/// What the device said outside any call of ours.
#[derive(Debug, Default)]
struct Faults {
    lost: Mutex<Option<String>>,
    uncaptured: Mutex<Option<(GpuFailure, Problem)>>,
    /// Objects that are made before one fails, for tests.
    #[cfg(test)]
    left: Mutex<Option<usize>>,
}

/// How often this context and its clones have done what a host may want to do alone.
#[derive(Debug, Default)]
struct Counts {
    submissions: AtomicU64,
    polls: AtomicU64,
}

fn set<T>(slot: &Mutex<Option<T>>, first: T) {
    slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(first);
}

impl Context {
    /// Opens the selected adapter with its own limits and, as [`Context::tuned`] finds it, the best tier of kernels for f32.
    ///
    /// # Errors
    /// If no adapter answers to the selection, or it refuses to be opened.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(selection: &Selection) -> Result<Self> {
        block_on(Self::new_async(selection))
    }

    /// [`Context::new`] as a future.
    ///
    /// # Errors
    /// If no adapter answers to the selection, or it refuses to be opened.
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

    /// Opens the selected adapter with limits no wider than `limits`, so that tests can simulate a smaller device. Kernels are of [`Tier::Direct`] if
    /// `limits` says so and else of [`Tier::Baseline`], whatever suits the adapter.
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

    /// Opens the selected adapter with the plainest kernels, over f32; `limits` narrows what it allows.
    async fn open(selection: &Selection, limits: Option<Limits>) -> Result<Self> {
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
            let text = format!("{chosen} cannot be opened: {e}; choose another with `device`, or use `backend` cpu");
            Error::gpu(GpuFailure::NoDevice, caused_by(text, e))
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(refused)?;
        let mut context = Self::from_host(device, queue)?;
        context.abilities = devices::abilities(&context.info, context.device.features(), &adapter.cooperative_matrix_properties());
        context.watch();
        if let Some(Limits { tier, max_work, .. }) = limits {
            context.limits.tier = if tier == Tier::Direct { tier } else { Tier::Baseline };
            context.limits.max_work = max_work;
        }
        Ok(context)
    }

    /// Uses a host's device and queue: nothing about them is changed, no handler is installed, and every buffer is the host's device's.
    /// Kernels are the plainest, over f32, until [`Context::tuned`]; cooperative matrices are for devices of our own.
    /// [`super::descriptor`] says what the host should ask for when it opens the device; with narrower limits plans are cut smaller.
    ///
    /// # Errors
    /// If the device lacks what [`super::REQUIRED`] lists.
    pub fn from_host(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        let info = device.adapter_info();
        needs::check(&info.name, &device.limits())?;
        Ok(Self {
            limits: devices::limits_of(&device.limits(), info.device_type),
            abilities: devices::abilities(&info, device.features(), &[]),
            warnings: Vec::new(),
            faults: Arc::default(),
            counts: Arc::default(),
            speed: None,
            pipelines: Arc::default(),
            #[cfg(not(target_arch = "wasm32"))]
            poller: Arc::default(),
            info,
            device,
            queue,
        })
    }

    /// The device. One of ours has wgpu's experimental cooperative matrices where its adapter has them: nothing checks their bounds, and who compiles shaders on
    /// it that use them takes on what `wgpu::ExperimentalFeatures::enabled` asks for.
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// The queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// The adapter's name, kind and driver.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// The device for people, with the precision where it is not f32: `NVIDIA H100 (Vulkan, f16)`.
    pub fn name(&self) -> String {
        let precision = match self.limits.elem {
            Elem::F32 => "",
            Elem::F16 => ", f16",
        };
        format!("{} ({:?}{precision})", self.info.name, self.info.backend)
    }

    /// What the device allows.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the device's shaders can.
    pub fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// What a user should know and may not expect: tiers of kernels that were not to be trusted on this device.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The same device with pipelines of its own, in which the kernels of this crate are compiled without naga's run-time checks (bounds of arrays,
    /// ends of loops) and without zeroing workgroup memory. On a GPU the checks cost a good part of a matrix product's time.
    ///
    /// What a caller pushes into a [`Graph`](crate::graph::Graph) keeps its checks, here too: only
    /// [`Graph::push_unchecked`](crate::graph::Graph::push_unchecked) gives them up.
    #[must_use]
    pub fn without_shader_checks(&self) -> Self {
        Self { pipelines: Arc::new(Pipelines::unchecked()), ..self.clone() }
    }

    /// Records what goes wrong outside our calls. Only for a device of our own: a host's handlers are the host's.
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

    /// Does `work`, which waits for nothing, and returns what the device objected to, if it did. `doing` opens the error's text.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn checked<T>(&self, doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        block_on(self.checked_async(doing, work))
    }

    /// The same in a browser, which answers only later: what the device objects to goes to its handler, and whatever is asked next says so.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn checked<T>(&self, doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.alive(doing).and_then(|()| work())
    }

    /// Does `work`, and waits for what the device objected to, if it did. `doing` opens the error's text.
    pub(super) async fn checked_async<T>(&self, doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.alive(doing)?;
        // A device has one stack of scopes: nothing may be awaited between a push and its pop.
        let (value, memory, validation, internal) = {
            let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
            let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
            let internal = self.device.push_error_scope(wgpu::ErrorFilter::Internal);
            let value = work();
            let (internal, validation) = (internal.pop(), validation.pop());
            (value, memory.pop(), validation, internal)
        };
        let (internal, validation, memory) = (internal.await, validation.await, memory.await);
        // Want of memory comes first: what is invalid after it is its consequence.
        let Some(error) = memory.or(internal).or(validation) else { return self.alive(doing).and(value) };
        // The loss of a device is told when it is polled, and makes all else invalid before that.
        self.poll(doing, wgpu::PollType::Poll)?;
        Err(self.explain(doing, error))
    }

    /// Whether the next object is to fail: never but in tests.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "a test asks the context")]
    pub(super) const fn is_to_fail(&self) -> bool {
        false
    }

    #[cfg(test)]
    pub(super) fn is_to_fail(&self) -> bool {
        let mut left = self.faults.left.lock().unwrap_or_else(PoisonError::into_inner);
        let fails = *left == Some(0);
        *left = left.and_then(|left| left.checked_sub(1));
        fails
    }

    /// Other limits than the device's, for tests.
    #[cfg(test)]
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Has one object fail that this context, its clones or what was made of them make: the first after `left` others; `None` for none. Gives what was left to
    /// be made before, `None` where one did fail.
    #[cfg(test)]
    pub(crate) fn fail_after(&self, left: Option<usize>) -> Option<usize> {
        std::mem::replace(&mut *self.faults.left.lock().unwrap_or_else(PoisonError::into_inner), left)
    }

    pub(super) fn explain(&self, doing: &str, error: wgpu::Error) -> Error {
        let name = &self.info.name;
        let text = match &error {
            wgpu::Error::OutOfMemory { .. } => format!(
                "{doing}: {name} is out of memory; use a smaller image (`size`) or `batch`, close other programs that use it, or use `backend` cpu"
            ),
            wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                format!("{doing}: {name} refuses the work; update its driver or use `backend` cpu, and report this:\n{description}")
            }
        };
        Error::gpu(kind_of(&error), caused_by(text, error))
    }

    /// Whether the device is still there and has had nothing to say since it was last asked.
    pub(super) fn alive(&self, doing: &str) -> Result<()> {
        if let Some(reason) = &*self.faults.lost.lock().unwrap_or_else(PoisonError::into_inner) {
            let name = &self.info.name;
            let text = format!(
                "{doing}: {name} was lost ({reason}); open it again, with a smaller image (`size`) if a time limit of its driver was the cause, or use `backend` cpu"
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

    /// Submissions by this context, its clones and what was made of them, so far. A host that encodes into its own encoder sees none added.
    pub fn submissions(&self) -> u64 {
        self.counts.submissions.load(Ordering::Relaxed)
    }

    /// Polls of the device by the same, so far.
    pub fn polls(&self) -> u64 {
        self.counts.polls.load(Ordering::Relaxed)
    }

    /// [`crate::graph::Cost::work`] a second in a model's large operations; `None` where it was not measured.
    pub(crate) fn speed(&self) -> Option<f64> {
        self.speed
    }

    /// The one way by which work of ours is submitted.
    pub(super) fn submit(&self, commands: impl IntoIterator<Item = wgpu::CommandBuffer>) -> wgpu::SubmissionIndex {
        self.counts.submissions.fetch_add(1, Ordering::Relaxed);
        self.queue.submit(commands)
    }

    /// Polls the device, once or until it has done what was submitted; in a browser it returns at once.
    pub(super) fn poll(&self, doing: &str, how: wgpu::PollType) -> Result<()> {
        self.counts.polls.fetch_add(1, Ordering::Relaxed);
        // wgpu panics when the device is lost while it waits.
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.device.poll(how)));
        if polled.is_err() {
            set(&self.faults.lost, "while it was waited for".to_owned());
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

fn kind_of(error: &wgpu::Error) -> GpuFailure {
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuFailure::OutOfMemory,
        wgpu::Error::Validation { .. } | wgpu::Error::Internal { .. } => GpuFailure::Refused,
    }
}

/// The problem that `text` describes, with wgpu's error as its cause.
#[cfg(not(target_arch = "wasm32"))]
fn caused_by(text: String, cause: impl Into<crate::error::Cause>) -> Problem {
    Problem::caused_by(text, cause)
}

/// The same in a browser, where wgpu's errors hold objects of JavaScript's, which must not leave their thread: the text says what they say.
#[cfg(target_arch = "wasm32")]
fn caused_by<T>(text: String, _: T) -> Problem {
    text.into()
}

/// What the engine makes use of where it is there: finer kernels, and timing.
const OPTIONAL_FEATURES: wgpu::Features = wgpu::Features::SUBGROUP
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::TIMESTAMP_QUERY)
    .union(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);

/// wgpu's leave to use features that it calls experimental, where `features` has one.
#[expect(
    unsafe_code,
    reason = "wgpu wants a word that its experimental features may have errors: kernels that use them are tested on the device first"
)]
fn experimental(features: wgpu::Features) -> wgpu::ExperimentalFeatures {
    if features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        // SAFETY: the only one is cooperative matrices, in kernels of this crate that stay inside their bindings and tiles.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}

/// The adapter's limits, no wider than `bound`.
fn narrowed(mut limits: wgpu::Limits, bound: Option<Limits>) -> wgpu::Limits {
    let Some(bound) = bound else { return limits };
    let tight = bound.min(devices::limits_of(&limits, wgpu::DeviceType::Other));
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
