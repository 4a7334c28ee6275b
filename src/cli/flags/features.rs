//! The flags of `features`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use meddino::checkpoint::Dtype;
use meddino::jobs::{Recipe, Shard, Slices};
use meddino::output::{Format, Output};
use meddino::{Error, Result};

use super::cohort::Cohort;
use super::look::Look;
use super::memory::Memory;
use super::model::Model;

/// Compute the features of a scan's slices and write them to a file
///
/// Each slice is one image: HU are clamped to [-1000, 1000], normalised as MedDINOv3's authors do, and resized
/// (antialiased bilinear) to --size. Prints the file's path on stdout.
///
/// With S slices, P patches, R storage tokens, T = 1 + R + P tokens and C channels, the file holds
/// x_norm_clstoken [S, C], x_storage_tokens [S, R, C], x_norm_patchtokens [S, P, C], x_prenorm [S, T, C] and
/// layers.N [S, T, C]. Its metadata describe the scan, the preprocessing and the model.
///
/// Several inputs, or folders of scans, need --out-dir. Outputs keep the names of the scans: case_0000.nii.gz becomes
/// case_0000.safetensors. If several scans have the same file name, folder names are added: s0001/ct.nii.gz becomes
/// s0001_ct.safetensors. Cases that an earlier run finished with the same input, settings and weights are skipped. If
/// a case fails, the others still run, and the exit code is 3.
///
/// To resume a killed run, repeat its command: the file equals that of an uninterrupted run. Ctrl-C removes the
/// unfinished file.
#[derive(clap::Args)]
pub struct Features {
    /// The scan: NIfTI, NRRD, MetaImage, DICOM, .npy, .safetensors, a folder of those, or phantom
    ///
    /// NIfTI is .nii, .nii.gz, or .hdr with .img. NRRD is .nrrd or .nhdr, MetaImage .mha or .mhd. DICOM is a file, or a
    /// folder with one series. A .npy file holds HU as [H, W] or [S, H, W]. A .safetensors file holds `image`
    /// [B, C, H, W], already normalised. The word phantom stands for a built-in synthetic thorax slice.
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub cohort: Cohort,
    #[command(flatten)]
    pub model: Model,
    /// File for the features of a single input [default: NAME.features.safetensors in the current folder]
    #[arg(short, long, value_name = "OUT", conflicts_with = "out_dir")]
    pub output: Option<PathBuf>,
    /// Folder for the features of all inputs and a manifest of finished cases; created if missing
    #[arg(long, value_name = "DIR")]
    pub out_dir: Option<PathBuf>,
    /// Process part I of N of the cases, for job arrays; the parts may share --out-dir
    #[arg(long, value_name = "I/N", requires = "out_dir")]
    pub shard: Option<Shard>,
    /// Replace any existing output
    ///
    /// Without this flag, meddino replaces a file only if meddino wrote the file from the same input and nobody has
    /// changed the file since. Inputs are never replaced.
    #[arg(long)]
    pub overwrite: bool,
    /// File format: safetensors, npz or npy [default: by the output's extension, else safetensors]
    ///
    /// npz holds one array for each tensor, and `metadata` as JSON text. npy holds a single array, with its metadata in
    /// a .json file beside it.
    #[arg(long)]
    pub format: Option<Format>,
    /// Data type of the values in the file; f16 takes half the space and keeps about three digits
    #[arg(long, default_value = "f32")]
    pub dtype: Written,
    #[command(flatten)]
    pub look: Look,
    /// Which slices: all, A:B or A:B:STEP (B excluded), or a list; negative numbers count from the end
    #[arg(long, default_value = "all", value_name = "SLICES", allow_hyphen_values = true)]
    pub slices: Slices,
    /// Which tokens to write: cls, storage and patch (after the final norm), prenorm (all tokens before it)
    #[arg(long, value_delimiter = ',', default_value = "cls,storage,patch", value_name = "LIST")]
    pub tokens: Vec<Tokens>,
    /// Write one vector per image instead of tokens: the cls token, or the mean of the patch tokens
    ///
    /// Both are taken after the final norm.
    #[arg(long, conflicts_with = "tokens")]
    pub pool: Option<Pool>,
    /// Also write the output of these blocks: all tokens, after the final norm; segmentation uses 2,5,8,11
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub layers: Vec<usize>,
    #[command(flatten)]
    pub memory: Memory,
    /// Number of slices in a batch, regardless of memory
    #[arg(long, value_name = "N", conflicts_with = "max_memory", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: Option<u32>,
    /// Print the GPU's time by kernel and by block on stderr
    #[arg(long)]
    pub profile: bool,
    /// Write the profile to a file, as JSON
    #[arg(long, value_name = "FILE", conflicts_with = "out_dir")]
    pub profile_json: Option<PathBuf>,
}

impl Features {
    /// Returns the recipe that the flags describe.
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
            view: self.look.view.view(),
            slices: self.slices.clone(),
            outputs,
            format,
            dtype: self.dtype.into(),
            batch: self.batch.map(|batch| batch as usize),
            max_memory: self.memory.max_memory,
        })
    }
}

/// Returns the `wanted` format, else the format of the output's extension, else safetensors.
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

/// The vector that an image is pooled to.
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

/// The data type of written features.
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
