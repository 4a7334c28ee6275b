//! The flags of `segment`.

use std::path::{Path, PathBuf};

use meddino::ct::LabelFormat;
use meddino::jobs::{HeadRecipe, ModelChoice, SegmentRecipe, Shard};
use meddino::nnunet::Folds;
use meddino::output::{SegCodes, SegKind, SegSettings};
use meddino::picture::Gray;
use meddino::{Error, Result};

use super::cohort::Cohort;
use super::look::Series;
use super::memory::Memory;
use super::model::{Compute, Rope};

/// Segment scans with a network that was fine-tuned in nnU-Net, into label maps on the scans' voxel grids
///
/// Reads the results folder of one of MedDINOv3's Primus trainers (a 2D configuration with one CT channel) and works as
/// nnUNetv2_predict does: same preprocessing, tiles, mirroring and folds. Prints the path of each label map and a table
/// of its labels on stdout.
///
/// In a folder of outputs, case_0000.nii.gz becomes case.nii.gz. If several scans have the same file name, folder names
/// are added: s0001/ct.nii.gz becomes s0001_ct.nii.gz. Cases that an earlier run finished with the same input, settings
/// and weights are skipped. If a case fails, the others still run, and the exit code is 3. A case that was interrupted
/// starts again. Labels that somebody has edited are not replaced without --overwrite.
#[derive(clap::Args)]
pub struct Segment {
    /// The results folder, TRAINER__PLANS__CONFIGURATION: plans.json, dataset.json and fold_K/checkpoint_final.pth
    #[arg(short, long, value_name = "RESULTS_FOLDER", required_unless_present = "head")]
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub by_head: ByHead,
    /// The scans: NIfTI, NRRD, MetaImage, DICOM, or a folder of those, such as nnU-Net's imagesTs
    ///
    /// NIfTI is .nii, .nii.gz, or .hdr with .img. NRRD is .nrrd or .nhdr, MetaImage .mha or .mhd. DICOM is a file, or a
    /// folder with one series.
    #[arg(short, long, required = true, num_args = 1.., value_name = "INPUT")]
    pub input: Vec<PathBuf>,
    #[command(flatten)]
    pub cohort: Cohort,
    /// Folder for the label maps, created if missing; or, for a single scan, a .nii.gz, .nii, .nrrd or
    /// .mha file
    ///
    /// In a folder, label maps have the format that the network's dataset.json names (file_ending).
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Replace any existing output
    ///
    /// Without this flag, meddino replaces a file only if meddino wrote the file from the same input and nobody has
    /// changed the file since. Inputs are never replaced.
    #[arg(long)]
    pub overwrite: bool,
    /// Which folds to average: numbers, or all for fold_all [default: every fold_K, else fold_all]
    #[arg(short, long, num_args = 1.., value_delimiter = ',', value_name = "FOLDS|all")]
    pub folds: Vec<String>,
    /// The checkpoint file of each fold
    #[arg(long, value_name = "NAME", default_value = "checkpoint_final.pth", alias = "checkpoint")]
    pub chk: String,
    /// Step from one tile to the next as a fraction of a tile, from 0.01 to 1
    #[arg(long, value_name = "STEP", default_value = "0.5")]
    pub step_size: f64,
    /// Do not mirror the tiles: up to four times as fast, but less accurate
    #[arg(long)]
    pub disable_tta: bool,
    #[command(flatten)]
    pub also: Also,
    #[command(flatten)]
    pub dicom_seg: DicomSeg,
    /// Process part I of N of the cases, for job arrays; the parts may share an output folder
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    #[command(flatten)]
    pub series: Series,
    #[command(flatten)]
    pub compute: Compute,
    #[command(flatten)]
    pub memory: Memory,
    /// Number of a slice's tiles in a batch, regardless of memory
    #[arg(long, value_name = "N", conflicts_with = "max_memory", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: Option<u32>,
}

/// A head on patch tokens, in place of a results folder.
#[derive(clap::Args)]
pub struct ByHead {
    /// Label by this head on patch tokens, as `meddino probe fit --masks` wrote it, in place of a results folder
    ///
    /// Slices are prepared as those that the head was fitted to. Scores are interpolated between the patches' centres.
    #[arg(
        long,
        value_name = "HEAD.safetensors",
        conflicts_with_all = [
            "model", "folds", "chk", "step_size", "disable_tta", "save_probabilities", "overlay", "gray", "statistics", "seg", "labelmap",
            "seg_codes"
        ]
    )]
    pub head: Option<PathBuf>,
    /// Head of the body, as `meddino probe fit --masks --foreground` wrote it: what is around the body becomes label 0
    ///
    /// Its scores are smoothed by a median of 3 x 3 patches first. A head whose labels were painted in the viewer will do,
    /// too, if 0 is around the body.
    #[arg(long, value_name = "BODY.safetensors", requires = "head", conflicts_with = "model")]
    pub foreground: Option<PathBuf>,
    /// The weights whose tokens the head was fitted to, with --head [default: the released checkpoint]
    #[arg(long, value_name = "FILE|seeded:N", requires = "head", conflicts_with = "model")]
    pub weights: Option<PathBuf>,
    /// Arithmetic of the position embedding, with --head
    #[arg(long, default_value = "auto", requires = "head", conflicts_with = "model")]
    pub rope: Rope,
    /// Passes along each side with the image moved by a fraction of a patch, with --head: 1, 2 or 4
    ///
    /// 2 moves the image by 8 pixels and takes four times as long as 1; 4 takes sixteen times as long.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "head", conflicts_with = "model")]
    pub shifts: usize,
    /// Format of label maps in a folder, with --head: nii.gz, nii, nrrd or mha
    #[arg(
        long,
        value_name = "ENDING",
        default_value = "nii.gz",
        value_parser = LabelFormat::ENDINGS.map(|ending| &ending[1..]),
        requires = "head",
        conflicts_with = "model"
    )]
    pub ending: String,
}

/// Outputs beside the labels.
#[derive(clap::Args)]
pub struct Also {
    /// Also write the probability of every class at every voxel to NAME.npz, a large file
    #[arg(long)]
    pub save_probabilities: bool,
    /// Also draw the axial slice with the most labelled voxels, with and without labels, to NAME.png
    #[arg(long)]
    pub overlay: bool,
    /// Also write a table of all cases to a .csv file: volume, mean HU, extent and components of each label
    ///
    /// The extent is that of the bounding box along the file's columns, rows and slices, in mm and as the first and
    /// the last of them, counted from 0. Voxels that share a side, an edge or a corner are of one component. The table
    /// has the cases of this run, those that an earlier run finished included. An existing table is replaced only if
    /// the new one holds all of its lines, or with --overwrite.
    #[arg(long, value_name = "FILE.csv")]
    pub statistics: Option<PathBuf>,
    /// Gray window of the CT in the overlay, in HU: the level of middle gray, and the width from black to white
    #[arg(long, value_name = "LEVEL,WIDTH", default_value = "40,400", allow_hyphen_values = true)]
    pub gray: Gray,
    /// Print JSON, one line per case
    #[arg(long)]
    pub json: bool,
}

/// DICOM SEG beside the labels.
#[derive(clap::Args)]
pub struct DicomSeg {
    /// Also write the labels as DICOM SEG to NAME.dcm, for a DICOM series
    ///
    /// The file refers to every image of the series, takes over patient and study, and holds one binary segment for each
    /// label that is found.
    #[arg(long)]
    pub seg: bool,
    /// Write the DICOM SEG as Label Map Segmentation, of DICOM 2024, which few viewers read yet
    #[arg(long, requires = "seg")]
    pub labelmap: bool,
    /// Names and codes of the labels in the DICOM SEG: a JSON file such as dcmqi's itkimage2segimage reads
    ///
    /// A label that the file does not describe has the SNOMED code of its name, for common organs and lesions, or else
    /// the code of any tissue.
    #[arg(long, value_name = "FILE", requires = "seg")]
    pub seg_codes: Option<PathBuf>,
}

impl DicomSeg {
    /// Returns the settings of the DICOM SEG, if the flags ask for one.
    fn settings(&self) -> Result<Option<SegSettings>> {
        if !self.seg {
            return Ok(None);
        }
        let kind = if self.labelmap { SegKind::LabelMap } else { SegKind::Binary };
        let codes = self.seg_codes.as_ref().map(SegCodes::open).transpose()?.unwrap_or_default();
        Ok(Some(SegSettings { kind, codes }))
    }
}

impl Segment {
    /// Returns the recipe of a segmentation by `head`.
    pub fn head_recipe(&self, head: &Path) -> Result<HeadRecipe> {
        let (backend, tuning) = (self.compute.choice()?, self.compute.kernels.tuning());
        Ok(HeadRecipe {
            head: head.into(),
            foreground: self.by_head.foreground.clone(),
            model: ModelChoice { checkpoint: self.by_head.weights.clone(), rope: self.by_head.rope.precision(), backend, tuning },
            shifts: self.by_head.shifts,
            batch: self.batch.map(|batch| batch as usize),
            max_memory: self.memory.max_memory,
        })
    }

    /// Returns the results folder.
    pub fn results(&self) -> &Path {
        self.model.as_deref().unwrap_or(Path::new(""))
    }

    /// Returns the folds that the flags choose.
    pub fn folds(&self) -> Result<Folds> {
        let number = |text: &String| {
            let error = || Error::option("folds", format!("'{text}' is not a number; give the numbers of folds, or all for fold_all"));
            text.parse().map_err(|_| error())
        };
        match &self.folds[..] {
            [] => Ok(Folds::Found),
            [all] if all == "all" => Ok(Folds::All),
            numbers => Ok(Folds::These(numbers.iter().map(number).collect::<Result<_>>()?)),
        }
    }

    /// Returns the recipe that the flags describe.
    pub fn recipe(&self) -> Result<SegmentRecipe> {
        let recipe = SegmentRecipe {
            backend: self.compute.choice()?,
            tuning: self.compute.kernels.tuning(),
            step_size: self.step_size,
            mirror: !self.disable_tta,
            probabilities: self.also.save_probabilities,
            seg: self.dicom_seg.settings()?,
            batch: self.batch.map(|batch| batch as usize),
            max_memory: self.memory.max_memory,
        };
        recipe.check()?;
        Ok(recipe)
    }
}
