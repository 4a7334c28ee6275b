//! The training settings in an nnU-Net checkpoint that prediction needs.

use pytorch_reader::PickleValue;

use super::names::printable;
use super::reader::Reader;
use crate::error::Problem;

/// How an nnU-Net checkpoint was trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Training {
    /// `trainer_name`: the trainer class.
    pub trainer: String,
    /// `init_args.configuration`: the configuration, among those in the plans, that the model was trained with.
    pub configuration: String,
    /// `inference_allowed_mirroring_axes`: the axes of an image (0 rows, 1 columns) along which it may be mirrored;
    /// empty if training did not mirror, or the file does not say.
    pub mirror_axes: Vec<usize>,
}

impl Training {
    pub(super) fn of(reader: &Reader, trainer: Option<&str>) -> Result<Self, Problem> {
        let missing = |key: &str| format!("holds no {key}: it is no whole nnU-Net checkpoint");
        let configuration = match reader.top_level("init_args")? {
            Some(PickleValue::Dict(mut args)) => args.remove("configuration"),
            _ => None,
        };
        let Some(PickleValue::String(configuration)) = configuration else { return Err(missing("init_args.configuration").into()) };
        let mirror_axes = match reader.top_level("inference_allowed_mirroring_axes")? {
            None | Some(PickleValue::None) => Vec::new(),
            Some(PickleValue::List(axes)) => axes.iter().map(axis).collect::<Result<_, _>>()?,
            Some(other) => return Err(wrong(&other).into()),
        };
        Ok(Self { trainer: trainer.ok_or_else(|| missing("trainer_name"))?.to_string(), configuration, mirror_axes })
    }
}

fn axis(value: &PickleValue) -> Result<usize, String> {
    match value {
        PickleValue::Int(axis @ (0 | 1)) => Ok(*axis as usize),
        other => Err(wrong(other)),
    }
}

fn wrong(value: &PickleValue) -> String {
    format!("says inference_allowed_mirroring_axes {}; expected some of the axes 0 and 1 of an image", printable(&format!("{value:?}")))
}
