//! The flags of `features`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use meddino::checkpoint::Dtype;
use meddino::jobs::{ByteSize, Recipe, Shard, Slices};
use meddino::output::{Format, Output};
use meddino::{Error, Result};

use super::cohort::Cohort;
use super::look::Look;
use super::model::Model;

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
    pub max_memory: Option<ByteSize>,
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

impl Features {
    /// What the flags set.
    pub fn recipe(&self) -> Result<Recipe> {
        let tokens: Vec<Output> = match self.pool {
            Some(pool) => vec![pool.into()],
            None => self.tokens.iter().map(|&tokens| tokens.into()).collect(),
        };
        let mut outputs = Vec::new();
        for output in tokens.into_iter().chain(self.layers.iter().map(|&n| Output::Layer(n))) {
            if !outputs.contains(&output) {
                outputs.push(output);
            }
        }
        let format = format(self.format, self.output.as_deref())?;
        format.check(&outputs)?;
        Ok(Recipe {
            model: self.model.choice()?,
            view: self.look.view(),
            slices: self.slices.clone(),
            outputs,
            format,
            dtype: self.dtype.into(),
            batch: self.batch.map(|batch| batch as usize),
            max_memory: self.max_memory,
        })
    }
}

/// The `wanted` format, else the one that the output's ending names, else `.safetensors`.
fn format(wanted: Option<Format>, output: Option<&Path>) -> Result<Format> {
    match (wanted, output.and_then(Format::of)) {
        (Some(wanted), Some(named)) if wanted != named => {
            Err(Error::option("--format", format!("is {wanted}, but the output's name ends in .{named}; leave one of them out")))
        }
        (wanted, named) => Ok(wanted.or(named).unwrap_or_default()),
    }
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
