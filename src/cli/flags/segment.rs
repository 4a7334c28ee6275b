//! The flags of `segment`.

use std::path::PathBuf;

use meddino::jobs::{ByteSize, SegmentRecipe, Shard};
use meddino::nnunet::Folds;
use meddino::picture::Gray;
use meddino::{Error, Result};

use super::cohort::Cohort;
use super::model::Compute;

/// Segment scans with a network that was fine-tuned within nnU-Net: label maps as NIfTI, lying exactly where the scans lie
///
/// Takes the results folder of a Primus trainer of MedDINOv3 (a configuration for slices of one CT channel), and does what nnUNetv2_predict does with it: the
/// same preparation, tiles, mirroring and folds. The path of each label map and a table of its labels are printed on stdout.
///
/// Into a folder, case_0000.nii.gz becomes case.nii.gz. Where several scans are called ct, their folders tell them
/// apart: s0001/ct.nii.gz becomes s0001_ct.nii.gz. Cases that an earlier run finished with the same input, settings
/// and weights are left as they are. A case that fails does not stop the others; the exit code is 3 then. A case that
/// was cut off begins anew. Labels that somebody corrected are not replaced without --overwrite.
#[derive(clap::Args)]
pub struct Segment {
    /// The results folder, TRAINER__PLANS__CONFIGURATION: plans.json, dataset.json and fold_K/checkpoint_final.pth
    #[arg(short, long, value_name = "RESULTS_FOLDER")]
    pub model: PathBuf,
    /// What to segment: NIfTI (.nii, .nii.gz, .hdr and .img); a DICOM file, or a folder with one series of them; or a folder of any of those, as nnU-Net's
    /// imagesTs
    #[arg(short, long, required = true, num_args = 1.., value_name = "INPUT")]
    pub input: Vec<PathBuf>,
    #[command(flatten)]
    pub cohort: Cohort,
    /// Where the labels go: a folder, made if it does not exist, or for a single input a file that ends in .nii.gz or .nii
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Also replace files that meddino did not write, that were changed since, or that it made of another scan.
    /// Inputs are never replaced
    #[arg(long)]
    pub overwrite: bool,
    /// Which folds' networks to take, their scores' mean: numbers, or all for fold_all [default: every fold_K there is, else fold_all]
    #[arg(short, long, num_args = 1.., value_delimiter = ',', value_name = "FOLDS|all")]
    pub folds: Vec<String>,
    /// Which checkpoint of a fold to take
    #[arg(long, value_name = "NAME", default_value = "checkpoint_final.pth", alias = "checkpoint")]
    pub chk: String,
    /// How far a tile is from the next, in tiles: above 0, at most 1
    #[arg(long, value_name = "STEP", default_value = "0.5")]
    pub step_size: f64,
    /// Do not mirror: up to four times as fast, and less exact
    #[arg(long)]
    pub disable_tta: bool,
    #[command(flatten)]
    pub also: Also,
    /// Do the Ith of N parts of the cases: for job arrays, which may share an output folder
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Which stack of slices of a DICOM folder that holds several: its number (2, or 2.1 for the first of several
    /// stacks in series 2), the end of its series' UID, or largest, the one with most slices. Without this, the error
    /// lists them with their numbers. Where outputs go into a folder, all makes a case NAME_seriesN of each
    #[arg(long, value_name = "NUMBER|UID|largest|all")]
    pub series: Option<String>,
    #[command(flatten)]
    pub compute: Compute,
    /// Memory that may be taken, from which the number of tiles at a time follows, as 4GiB; on a GPU the device's [default: on a GPU 4GiB, else half of what is
    /// free]
    #[arg(long, value_name = "SIZE", conflicts_with = "batch")]
    pub max_memory: Option<ByteSize>,
    /// How many tiles of a slice go through the network at once, whatever memory that takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: Option<u32>,
}

/// What is given beside the labels.
#[derive(clap::Args)]
pub struct Also {
    /// Write the probability of every class at every voxel, too, as NAME.npz: large
    #[arg(long)]
    pub save_probabilities: bool,
    /// Draw the labels over the axial slice that has most of them, beside the slice alone, as NAME.png
    #[arg(long)]
    pub overlay: bool,
    /// How the CT is shown there, in HU: the middle gray, and how far it is from black to white
    #[arg(long, value_name = "LEVEL,WIDTH", default_value = "40,400", allow_hyphen_values = true)]
    pub gray: Gray,
    /// As JSON, a line for each case
    #[arg(long)]
    pub json: bool,
}

impl Segment {
    /// The folds that the flags mean.
    pub fn folds(&self) -> Result<Folds> {
        let number = |text: &String| {
            let wrong = || Error::option("folds", format!("'{text}' is no number; expected numbers, or all for fold_all alone"));
            text.parse().map_err(|_| wrong())
        };
        match &self.folds[..] {
            [] => Ok(Folds::Found),
            [all] if all == "all" => Ok(Folds::All),
            numbers => Ok(Folds::These(numbers.iter().map(number).collect::<Result<_>>()?)),
        }
    }

    /// What the flags set.
    pub fn recipe(&self) -> Result<SegmentRecipe> {
        let recipe = SegmentRecipe {
            backend: self.compute.choice()?,
            tuning: self.compute.kernels.tuning(),
            step_size: self.step_size,
            mirror: !self.disable_tta,
            probabilities: self.also.save_probabilities,
            batch: self.batch.map(|batch| batch as usize),
            max_memory: self.max_memory,
        };
        recipe.check()?;
        Ok(recipe)
    }
}
