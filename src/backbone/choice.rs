//! The choice of a backend and its device.

use std::collections::VecDeque;

use super::Tuning;
#[cfg(feature = "cpu")]
use crate::cpu;
use crate::error::{Error, GpuFailure, Result};
#[cfg(feature = "files")]
use crate::gpu::TileCache;
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::block_on;
use crate::gpu::{Context, Selection, devices_async};
use crate::graph::{Elem, Tier};

/// The backend that a caller asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The best GPU that works, else the CPU, which is faster than a software rasteriser. GPUs are tried in the order
    /// of [`Devices::before_cpu`](crate::gpu::Devices::before_cpu). A GPU that cannot be opened, fails its self-test,
    /// cannot hold the model or fails while the model is loaded is named in a warning, and the next one is tried.
    #[default]
    Auto,
    /// The selected adapter, which may be a software rasteriser; an error if there is no such adapter.
    Gpu(Selection),
    /// The CPU; an error in a build without the feature `cpu`.
    Cpu,
}

impl Choice {
    /// Opens the chosen GPU with the kernels that `tuning` asks for and the default tile geometries. `None` if the
    /// choice is the CPU.
    ///
    /// # Errors
    /// If no adapter matches the selection, or the adapter does not support the precision or the tier of `tuning`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn context(self, tuning: Tuning) -> Result<Option<Context>> {
        block_on(self.context_async(tuning))
    }

    /// [`Choice::context`] as a future.
    ///
    /// # Errors
    /// If no adapter matches the selection, or the adapter does not support the precision or the tier of `tuning`.
    pub async fn context_async(self, tuning: Tuning) -> Result<Option<Context>> {
        let mut attempts = self.attempts(tuning).await;
        let context = attempts.open().await?;
        Ok(context.map(|context| context.warned(attempts.warnings)))
    }

    /// Lists the devices that may be meant, best first.
    pub(crate) async fn attempts(self, tuning: Tuning) -> Attempts {
        let (candidates, is_auto) = match self {
            Self::Cpu => ([Candidate::Cpu].into(), false),
            Self::Gpu(selection) => ([Candidate::Gpu(selection)].into(), false),
            Self::Auto => {
                let devices = devices_async().await;
                let gpus = devices.before_cpu().map(|device| Candidate::Gpu(Selection::Index(device.index)));
                (gpus.chain([Candidate::Cpu]).collect(), true)
            }
        };
        Attempts { candidates, is_auto, tuning, warnings: Vec::new() }
    }
}

/// A device that is still to be tried.
#[derive(Clone, Debug)]
enum Candidate {
    Gpu(Selection),
    Cpu,
}

/// The devices that a [`Choice`] may mean, which are tried one after another.
///
/// A caller takes a device from [`Attempts::device`] and loads a model. If that fails, the caller passes the error to
/// [`Attempts::failed`], which returns it if the choice allows no other device, and takes the next device.
#[derive(Debug)]
pub(crate) struct Attempts {
    candidates: VecDeque<Candidate>,
    is_auto: bool,
    tuning: Tuning,
    warnings: Vec<String>,
}

impl Attempts {
    /// Opens the next device that works, for the precision and tier of the tuning.
    pub async fn device(&mut self) -> Result<Device> {
        let Some(context) = self.open().await? else { return Device::cpu(self.tuning) };
        #[cfg(feature = "files")]
        let context = context.with_best_tiles_async(TileCache::from_env().as_ref()).await;
        Ok(Device::Gpu(Box::new(context)))
    }

    /// Opens the next GPU that works, with the default tile geometries. `None` if the CPU is next.
    async fn open(&mut self) -> Result<Option<Context>> {
        while let Some(Candidate::Gpu(selection)) = self.candidates.pop_front() {
            match self.opened(&selection).await {
                Ok(context) => return Ok(Some(context)),
                Err(error) => self.failed(error)?,
            }
        }
        Ok(None)
    }

    /// Opens one GPU. `auto` also tests the plainest kernels, which [`Context::tuned`] trusts. Other tiers that an
    /// earlier process has tested with this driver are not tested again.
    async fn opened(&self, selection: &Selection) -> Result<Context> {
        let device = Context::open(selection, None).await?;
        let context = device.tuned_unless_known(self.tuning.elem()?, self.tuning.tier, &known_tiers(&device)).await?;
        if self.is_auto && context.has_plain_kernels() {
            context.self_test_async().await?;
        }
        Ok(context)
    }

    /// Turns the failure of the last device into a warning if there is another device.
    ///
    /// # Errors
    /// Returns `error` if it is no failure of the device, or the choice allows no other device.
    pub fn failed(&mut self, error: Error) -> Result<()> {
        let is_devices = matches!(&error, Error::Gpu { kind, .. } if *kind != GpuFailure::Misuse);
        let next = match self.candidates.front() {
            Some(Candidate::Gpu(_)) => "the next GPU is tried",
            Some(Candidate::Cpu) => "the CPU is used",
            None => return Err(error),
        };
        if !is_devices {
            return Err(error);
        }
        let warning = format!("a GPU is not used, and {next}: {error}");
        log::warn!("{warning}");
        self.warnings.push(warning);
        Ok(())
    }

    /// Returns whether the model on a device should be tried before it is used, because there is another device.
    pub fn may_go_on(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// Returns a warning for each device that failed, before the warnings of the backend that works.
    pub fn warnings(self, of_backend: &[String]) -> Vec<String> {
        self.warnings.into_iter().chain(of_backend.iter().cloned()).collect()
    }
}

/// The tiers that an earlier process has tested, because it kept their tiles.
#[cfg(feature = "files")]
fn known_tiers(device: &Context) -> Vec<(Tier, Elem)> {
    TileCache::from_env().map_or_else(Vec::new, |cache| cache.known(device))
}

#[cfg(not(feature = "files"))]
fn known_tiers(_: &Context) -> Vec<(Tier, Elem)> {
    Vec::new()
}

/// Judges a device by the first batch of a model on it.
///
/// # Errors
/// Returns the batch's error if it is the GPU's. Values out of range are no failure of the device.
pub(crate) fn judged<T>(first_batch: Result<T>) -> Result<()> {
    match first_batch {
        Err(error @ Error::Gpu { .. }) => Err(error),
        _ => Ok(()),
    }
}

/// The backend that a [`Choice`] resolves to: the CPU with its precision, or an opened GPU.
pub(crate) enum Device {
    #[cfg(feature = "cpu")]
    Cpu(cpu::FactorType),
    Gpu(Box<Context>),
}

impl Device {
    #[cfg(feature = "cpu")]
    fn cpu(tuning: Tuning) -> Result<Self> {
        tuning.on_the_cpu().map(Self::Cpu)
    }

    #[cfg(not(feature = "cpu"))]
    fn cpu(_: Tuning) -> Result<Self> {
        Err(Error::option(
            "backend",
            "this build has no CPU backend (cargo feature cpu), and no GPU that works was found; build it with that feature, or add a GPU",
        ))
    }
}

#[cfg(test)]
#[cfg(feature = "cpu")]
mod tests {
    use std::io::Write;

    use super::*;

    fn attempts(gpus: &[usize], is_auto: bool) -> Attempts {
        let gpus = gpus.iter().map(|&index| Candidate::Gpu(Selection::Index(index)));
        let cpu = is_auto.then_some(Candidate::Cpu);
        Attempts { candidates: gpus.chain(cpu).collect(), is_auto, tuning: Tuning::default(), warnings: Vec::new() }
    }

    fn refused(kind: GpuFailure) -> Error {
        Error::gpu(kind, "made up")
    }

    #[test]
    fn auto_goes_on_to_the_next_device_and_the_cpu_comes_last() {
        for kind in [GpuFailure::NoDevice, GpuFailure::Unsupported, GpuFailure::FailedSelfTest, GpuFailure::Lost, GpuFailure::TooLarge] {
            let mut two = attempts(&[900, 901], true);
            two.candidates.pop_front();
            two.failed(refused(kind)).unwrap();
            assert!(matches!(block_on(two.device()).unwrap(), Device::Cpu(_)), "no machine has an adapter 901");
            let warnings = two.warnings(&["of the backend".to_owned()]);
            let [first, second, last] = &warnings[..] else { panic!("one warning a device: {warnings:?}") };
            assert!(first.contains("the next GPU is tried: gpu: made up"), "{first}");
            assert!(second.contains("the CPU is used: gpu: no adapter"), "{second}");
            assert_eq!(last, "of the backend");
        }
    }

    #[test]
    fn an_error_of_the_caller_or_of_the_only_device_is_returned() {
        let mut one = attempts(&[900], false);
        assert!(block_on(one.device()).is_err() && one.warnings.is_empty());
        let mut auto = attempts(&[], true);
        assert!(auto.failed(Error::option("precision", "made up")).is_err());
        assert!(auto.failed(refused(GpuFailure::Misuse)).is_err());
        assert!(auto.failed(refused(GpuFailure::Lost)).is_ok());
    }

    /// A real adapter, software or not, whose objects fail once it is opened.
    #[test]
    fn a_device_that_fails_while_a_model_is_loaded_is_passed_over() {
        let mut auto = attempts(&[0], true);
        let Device::Gpu(context) = block_on(auto.device()).unwrap() else {
            assert!(std::env::var_os("MEDDINO_REQUIRE_GPU").is_none_or(|v| v != "1"), "MEDDINO_REQUIRE_GPU=1, but {:?}", auto.warnings);
            let _ = writeln!(std::io::stderr(), "SKIPPED: {:?}", auto.warnings);
            return;
        };
        context.fail_after(Some(0));
        let model = crate::vit::model::Model::seeded(0, crate::vit::config::ModelSize::Tiny);
        let error = block_on(super::super::Backbone::on_device(&model, Device::Gpu(context), true)).err().unwrap();
        auto.failed(error).unwrap();
        assert!(matches!(block_on(auto.device()).unwrap(), Device::Cpu(_)));
        assert_eq!(auto.warnings.len(), 1, "{:?}", auto.warnings);
    }
}
