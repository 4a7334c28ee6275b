//! The flags, as they are typed and as `--help` explains them.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use meddino::backbone::{self, Choice, Tuning};
use meddino::checkpoint::Dtype;
use meddino::ct::{Orient, Size, Window};
use meddino::gpu::Selection;
use meddino::graph::Tier;
use meddino::output::{Format, Output};
use meddino::vit::config::RopePrecision;
use meddino::{Error, Result};

use super::memory::Bytes;
use super::names::Names;
use super::picture_args::{Pca, Similarity};
use super::search::Glob;
use super::segment_args::Segment;
use super::shard::Shard;
use super::slices::Slices;

/// MedDINOv3 features from CT scans, on any GPU or none.
///
/// Research software, not a medical device.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
    /// No notes and no progress on stderr; warnings and errors remain
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum Command {
    Features(Box<Features>),
    Pca(Box<Pca>),
    Similarity(Box<Similarity>),
    Segment(Box<Segment>),
    Inspect(Inspect),
    Convert(Convert),
    Verify(Verify),
    /// List the GPUs of this machine, and which backend `--backend auto` takes
    Devices,
    /// Put the released checkpoint into the cache, check its SHA-256 and print its path
    ///
    /// This is what a command without -c does by itself, for machines that will have no network later. It comes from the Hugging Face hub, into
    /// the cache that Python's huggingface_hub keeps, in HF_HUB_CACHE or HF_HOME/hub or ~/.cache/huggingface/hub; a download that was cut
    /// is resumed. HF_ENDPOINT names another hub, HF_TOKEN a token for it; with HF_HUB_OFFLINE=1 only the cache is looked at.
    Download,
    Demo(Demo),
    Bench(Bench),
    Tune(Tune),
}

/// Compute the features of a scan's slices and write them to a file
///
/// The file's path is printed on stdout. Every slice is one image: HU are clamped to [-1000, 1000] and normalised as the authors of MedDINOv3
/// do, then resized (antialiased bilinear) to --size. With S slices, P patches, R storage tokens, T = 1 + R + P tokens and C channels, the
/// file holds x_norm_clstoken [S, C], x_storage_tokens [S, R, C], x_norm_patchtokens [S, P, C], x_prenorm [S, T, C] and layers.N [S, T, C],
/// and in its metadata what is needed to interpret them.
///
/// Several inputs, or folders of them, go into --out-dir. Each case keeps its name, as in nnU-Net: case_0000.nii.gz
/// becomes case_0000.safetensors. Where several scans are called ct, their folders tell them apart: s0001/ct.nii.gz
/// becomes s0001_ct.safetensors. Cases that an earlier run finished with the same input, settings and weights are
/// left as they are. A case that fails does not stop the others; the exit code is 3 then. A run that was killed is
/// continued by the same command, and gives the same file as an undisturbed one; Ctrl-C leaves nothing behind.
#[derive(clap::Args)]
pub struct Features {
    /// What to look at: NIfTI (.nii, .nii.gz, .hdr and .img); a DICOM file, or a folder with one series of them; .npy of HU, [H, W] or
    /// [S, H, W]; .safetensors holding `image` [B, C, H, W], normalised already; a folder of any of those; or the word phantom, a built-in
    /// synthetic thorax slice
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub cohort: Cohort,
    #[command(flatten)]
    pub model: Model,
    /// Where the features of a single input go [default: its name with .features.safetensors, in the current folder]
    #[arg(short, long, value_name = "OUT", conflicts_with = "out_dir")]
    pub output: Option<PathBuf>,
    /// Where the features of every input go, and a manifest of what is finished; made if it does not exist
    #[arg(long, value_name = "DIR")]
    pub out_dir: Option<PathBuf>,
    /// Do the Ith of N parts of the cases: for job arrays, which may share --out-dir
    #[arg(long, value_name = "I/N", requires = "out_dir")]
    pub shard: Option<Shard>,
    /// Also replace files that meddino did not write, that were changed since, or that it made of another scan.
    /// Inputs are never replaced
    #[arg(long)]
    pub overwrite: bool,
    /// The kind of file: safetensors; npz, an array for each tensor and `metadata`, a text that is JSON; or npy, one array, and a .json beside it
    /// [default: by the output's ending, else safetensors]
    #[arg(long)]
    pub format: Option<Format>,
    /// Type of the values in the file; f16 takes half the space and three digits
    #[arg(long, default_value = "f32")]
    pub dtype: Written,
    #[command(flatten)]
    pub look: Look,
    /// Which slices: all, A:B or A:B:STEP (B is not among them), or a list; negative numbers count from the end
    #[arg(long, default_value = "all", value_name = "SLICES", allow_hyphen_values = true)]
    pub slices: Slices,
    /// Which tokens to write: cls, storage and patch after the final norm, prenorm for all of them before it
    #[arg(long, value_delimiter = ',', default_value = "cls,storage,patch", value_name = "LIST")]
    pub tokens: Vec<Tokens>,
    /// One vector an image in place of tokens: cls, or mean, of the patch tokens after the final norm
    #[arg(long, conflicts_with = "tokens")]
    pub pool: Option<Pool>,
    /// Blocks whose output to write as well, all tokens through the final norm; segmentation takes 2,5,8,11
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub layers: Vec<usize>,
    /// Memory that may be taken, from which the batch follows, as 4GiB; on a GPU the device's [default: on a GPU 4GiB, else half of what is free]
    #[arg(long, value_name = "SIZE", conflicts_with = "batch")]
    pub max_memory: Option<Bytes>,
    /// How many slices go through the model at once, whatever memory that takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: Option<u32>,
    /// Say on stderr where the GPU's time goes, by kernel and by block
    #[arg(long)]
    pub profile: bool,
    /// The same as JSON, into a file
    #[arg(long, value_name = "FILE", conflicts_with = "out_dir")]
    pub profile_json: Option<PathBuf>,
}

/// How a scan becomes images.
#[derive(clap::Args)]
pub struct Look {
    /// Size of the image that the model sees: native (the slice's own; what is left over beyond a multiple of 16 is not
    /// seen), N (for N x N) or HxW
    #[arg(long, default_value = "native")]
    pub size: Size,
    /// From HU to what the model sees: demo (clamped to [-1000, 1000], the authors' mean and deviation), LO,HI,MEAN,STD in HU, or none
    #[arg(long, default_value = "demo", allow_hyphen_values = true)]
    pub window: Window,
    /// How slices lie: lps (axial, as DICOM shows them, from inferior to superior, whatever the storage order) or stored
    #[arg(long, default_value = "lps")]
    pub orient: Orient,
    /// Which stack of slices of a DICOM folder that holds several: its number (2, or 2.1 for the first of several
    /// stacks in series 2), the end of its series' UID, or largest, the one with most slices. Without this, the error
    /// lists them with their numbers. Where outputs go into a folder, all makes a case NAME_seriesN of each
    #[arg(long, value_name = "NUMBER|UID|largest|all")]
    pub series: Option<String>,
}

/// Which of the scans in folders are cases, and what those are called.
#[derive(clap::Args, Default)]
pub struct Cohort {
    /// Take only those scans in folders that match GLOB; may be given several times. A GLOB without a / is compared
    /// with the names of files and folders. One with a / is compared with paths below INPUT ('*/ct.nii.gz'), and **
    /// stands for any number of folders. Folders of labels (labelsTr, segmentations, masks, ...) and files that
    /// meddino wrote are passed over, unless such a path names them
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<Glob>,
    /// Leave out files and folders that match GLOB, a folder with all that is in it; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<Glob>,
    /// How a case's outputs are called in a folder: file, by the scan's file name alone; parent, with the folder that
    /// it lies in, as s0001_ct; path, with all folders below INPUT; auto, with as many folders as tell all cases
    /// apart. With auto, names may change when scans are added
    #[arg(long, value_enum, value_name = "auto|file|parent|path", default_value = "auto", hide_possible_values = true)]
    pub names: Names,
}

/// Which model runs, and on what.
#[derive(clap::Args)]
pub struct Model {
    /// The weights: a .pth or .safetensors file, or seeded:N for untrained ones to try things out (seeded:N:tiny, seeded:N:micro: small)
    /// [default: the released ones, as `meddino download` has them; for bench seeded:0]
    #[arg(short, long, value_name = "FILE|seeded:N")]
    pub checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub compute: Compute,
    /// Arithmetic of the position embedding: auto is what this kind of checkpoint was trained with (bf16 for MedDINOv3, f32 for Meta's)
    #[arg(long, default_value = "auto")]
    pub rope: Rope,
}

/// What a model runs on.
#[derive(clap::Args)]
pub struct Compute {
    /// What to compute on: auto takes a real GPU if there is one, else the CPU
    #[arg(long, default_value = "auto")]
    pub backend: Backend,
    /// Which GPU: a number or a part of a name as `meddino devices` lists them, low-power or high-performance. Implies --backend gpu
    #[arg(long, value_name = "NUMBER|NAME")]
    pub device: Option<Selection>,
    #[command(flatten)]
    pub kernels: Kernels,
}

/// How it is computed.
#[derive(clap::Args)]
pub struct Kernels {
    /// In what the factors of products are held, sums being f32 always: f32; f16, on a GPU (features within 3e-3 of f32's); bf16, on a CPU with
    /// AVX512-BF16 (about 1e-2, as by PyTorch's autocast); or auto, which is f32
    #[arg(long, default_value = "auto")]
    pub precision: Precision,
    /// How the GPU's kernels are written: baseline, direct (for software GPUs), subgroups, cooperative8 or cooperative16 (tensor cores)
    /// [default: the best that the device runs]
    #[arg(long, value_name = "NAME")]
    pub tier: Option<Tier>,
}

impl Kernels {
    /// What the flags mean.
    pub fn tuning(&self) -> Tuning {
        let precision = match self.precision {
            Precision::Auto | Precision::F32 => backbone::Precision::F32,
            Precision::F16 => backbone::Precision::F16,
            Precision::Bf16 => backbone::Precision::Bf16,
        };
        Tuning { precision, tier: self.tier }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Precision {
    Auto,
    F32,
    F16,
    Bf16,
}

/// Compare the backends with each other, and with PyTorch's outputs, tap by tap
///
/// Runs one image on the GPU and on the CPU and prints, for the patch embedding, each block and each output, how far they are apart. With
/// --golden both are compared with a file of PyTorch's outputs too. Exit code 1 if any tap is beyond the tolerance that is printed.
#[derive(clap::Args)]
pub struct Verify {
    /// What to look at, as for `features` [default: the golden's image if it holds one, else phantom]
    pub input: Option<PathBuf>,
    /// The weights: a .pth or .safetensors file, or seeded:N
    #[arg(short, long, value_name = "FILE|seeded:N", default_value = "seeded:0")]
    pub checkpoint: PathBuf,
    /// Size of the image, as for `features`; a golden's own image keeps its size
    #[arg(long, default_value = "224")]
    pub size: Size,
    /// A .safetensors file of PyTorch's outputs, as tests/golden/from_original.py makes it
    #[arg(long, value_name = "FILE")]
    pub golden: Option<PathBuf>,
    /// Which GPU, as for `features`; a software one will do
    #[arg(long, value_name = "NUMBER|NAME")]
    pub device: Option<Selection>,
    /// Arithmetic of the position embedding, as for `features`; a golden that names its own is followed
    #[arg(long, default_value = "auto")]
    pub rope: Rope,
    #[command(flatten)]
    pub kernels: Kernels,
}

/// Say what a checkpoint holds: layout, sizes, number of parameters, types, and what is ignored
///
/// Names, shapes and types are read; the weights are not.
#[derive(clap::Args)]
pub struct Inspect {
    /// A .pth or .safetensors file, or seeded:N
    pub checkpoint: PathBuf,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Write a checkpoint of any known layout as .safetensors, under the names of MedDINOv3
///
/// The model's configuration goes into the metadata, so that the result is the same model. The file's path is printed on stdout.
#[derive(clap::Args)]
pub struct Convert {
    /// A .pth or .safetensors file, or seeded:N
    pub checkpoint: PathBuf,
    /// Where the result goes
    #[arg(short, long, value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// Also replace files that meddino did not write, that were changed since, or that it made of another scan.
    /// Inputs are never replaced
    #[arg(long)]
    pub overwrite: bool,
    /// Type of the stored weights
    #[arg(long, default_value = "f32")]
    pub dtype: Stored,
}

/// Try it without data or weights: a synthetic thorax slice through an untrained model, to features and pictures
#[derive(clap::Args)]
pub struct Demo {
    /// Where its files go; made if it does not exist
    #[arg(short, long, value_name = "DIR", default_value = "meddino-demo")]
    pub output: PathBuf,
    /// Also replace files that meddino did not write, that were changed since, or that it made of another scan.
    /// Inputs are never replaced
    #[arg(long)]
    pub overwrite: bool,
}

/// Say how fast the model runs here: seconds an image, GFLOP/s, memory
///
/// Runs the built-in thorax slice once to warm up, then --runs times, each run timed from the image on the host to the features on the host; on a GPU then
/// as often with the image on the device already and the features left there (device_s). The GFLOP/s count the model's matrix products alone, and are also
/// given as a share of what one large product reaches there (on a CPU in f32).
///
/// With --slices it takes that slice as a volume of so many, --batch at a time, as `features` does: slices are prepared, computed and written into a
/// temporary file (TMPDIR) at the same time. Slices a second are told and, on a GPU with timestamps, the share of the time between the first pass's begin
/// and the last one's end in which no pass ran.
#[derive(clap::Args)]
pub struct Bench {
    /// The weights as for `features` [default: seeded:0]
    #[command(flatten)]
    pub model: Model,
    /// Side of the square image in pixels
    #[arg(long, value_name = "N", default_value = "224")]
    pub size: usize,
    /// How many images go through the model at once
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: u32,
    /// How many runs are timed
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runs: u32,
    /// Take a volume of N slices instead
    #[arg(long, value_name = "N", conflicts_with = "runs", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub slices: Option<u32>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Find the fastest tile geometries of the GPU's kernels, and keep them for later runs
///
/// Every geometry that the device allows is run over as many rows as images of 224 and of 896 pixels have (512 on a slow device); times are medians of rounds
/// in which each has its turn. What is found is kept in MEDDINO_CACHE, else in the user's folder for caches, for this adapter, driver and version. On a
/// real GPU the first command that uses it does the same by itself, which takes some seconds; with MEDDINO_CACHE set to nothing that is left out.
#[derive(clap::Args)]
pub struct Tune {
    #[command(flatten)]
    pub compute: Compute,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Tokens {
    Cls,
    Storage,
    Patch,
    Prenorm,
}

impl From<Tokens> for Output {
    fn from(tokens: Tokens) -> Self {
        match tokens {
            Tokens::Cls => Self::Cls,
            Tokens::Storage => Self::Storage,
            Tokens::Patch => Self::Patch,
            Tokens::Prenorm => Self::Prenorm,
        }
    }
}

/// What an image is pooled to.
#[derive(Clone, Copy, ValueEnum)]
pub enum Pool {
    Cls,
    Mean,
}

impl From<Pool> for Output {
    fn from(pool: Pool) -> Self {
        match pool {
            Pool::Cls => Self::Cls,
            Pool::Mean => Self::PatchMean,
        }
    }
}

/// What features are written as.
#[derive(Clone, Copy, ValueEnum)]
pub enum Written {
    F32,
    F16,
}

impl From<Written> for Dtype {
    fn from(written: Written) -> Self {
        match written {
            Written::F32 => Self::F32,
            Written::F16 => Self::F16,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Backend {
    Auto,
    Gpu,
    Cpu,
}

impl Compute {
    /// The backend that the flags mean.
    pub fn choice(&self) -> Result<Choice> {
        match (self.backend, &self.device) {
            (Backend::Cpu, Some(_)) => Err(Error::option("--device", "chooses a GPU, but --backend is cpu; leave one of them out")),
            (Backend::Cpu, None) => Ok(Choice::Cpu),
            (Backend::Auto, None) => Ok(Choice::Auto),
            (_, device) => Ok(Choice::Gpu(device.clone().unwrap_or_default())),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Rope {
    Auto,
    Bf16,
    F32,
}

impl Rope {
    /// The precision to use in place of the checkpoint's, if any.
    pub fn precision(self) -> Option<RopePrecision> {
        match self {
            Self::Auto => None,
            Self::Bf16 => Some(RopePrecision::Bf16),
            Self::F32 => Some(RopePrecision::F32),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Stored {
    F32,
    F16,
    Bf16,
}

impl From<Stored> for Dtype {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::F32 => Self::F32,
            Stored::F16 => Self::F16,
            Stored::Bf16 => Self::Bf16,
        }
    }
}
