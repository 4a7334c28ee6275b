//! Compositions that assemble a parameter's values from the tensors in the file.

use std::collections::BTreeMap;

use super::reader::Reader;
use crate::archive::{Dtype, TensorHeader};
use crate::error::Problem;

/// Name, shape and stored type of one parameter of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, as in [`vit::weights`](crate::vit::weights). A tensor that no layout knows keeps its name in the file.
    pub name: String,
    /// The shape, outermost axis first.
    pub shape: Vec<usize>,
    /// The type in which the file stores the parameter.
    pub dtype: Dtype,
}

impl Entry {
    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns whether the parameter has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The raw tensors that a parameter is assembled from, and how.
#[derive(Clone, Debug)]
pub(super) enum Composition {
    /// One tensor, unchanged.
    Whole(String),
    /// One tensor without its first axis, which has extent 1: `mask_token` [1, 1, C] -> [1, C].
    Squeezed(String),
    /// q, k and v, stacked along the first axis. An absent part (k's bias) becomes zeros.
    Stacked([Option<String>; 3]),
    /// A bias times its mask, element by element, because DINOv3 trains a bias for k and then masks it out.
    Masked { bias: String, mask: String },
}

impl Composition {
    /// Returns the names of the raw tensors that the composition reads.
    pub fn sources(&self) -> Vec<&String> {
        match self {
            Self::Whole(raw) | Self::Squeezed(raw) => vec![raw],
            Self::Stacked(parts) => parts.iter().flatten().collect(),
            Self::Masked { bias, mask } => vec![bias, mask],
        }
    }

    /// Returns name, shape and type of the assembled parameter, and checks that its parts have equal shapes.
    pub fn entry(&self, name: &str, tensors: &BTreeMap<String, TensorHeader>) -> Result<Entry, String> {
        let sources = self.sources();
        let first = &tensors[sources[0]];
        if let Some(other) = sources.iter().find(|s| tensors[**s].shape != first.shape) {
            let (a, b) = (&first.shape, &tensors[*other].shape);
            return Err(format!("{name} is made of {} {a:?} and {other} {b:?}, whose shapes must be equal", sources[0]));
        }
        let mut shape = first.shape.clone();
        match self {
            Self::Whole(_) | Self::Masked { .. } => {}
            Self::Squeezed(_) => drop(shape.remove(0)),
            Self::Stacked(_) => {
                let rows = shape.first_mut().ok_or_else(|| format!("{} is a scalar where {name} needs rows", sources[0]))?;
                *rows = rows.checked_mul(3).ok_or_else(|| format!("{} has too many rows", sources[0]))?;
            }
        }
        Ok(Entry { name: name.into(), shape, dtype: first.dtype })
    }

    /// Reads the values, row-major.
    pub fn read(&self, reader: &Reader) -> Result<Vec<f32>, Problem> {
        let read = |raw: &String| {
            reader.read(raw).map_err(|problem| {
                let text = format!("({raw} in the file) {problem}");
                problem.reworded(text)
            })
        };
        match self {
            Self::Whole(raw) | Self::Squeezed(raw) => read(raw),
            Self::Stacked(parts) => {
                let mut values = Vec::new();
                // `entry` has checked that all parts have the same shape, so an absent part is as long as the present
                // ones.
                let len = reader.tensors()[self.sources()[0]].shape.iter().product::<usize>();
                values.reserve_exact(3 * len);
                for part in parts {
                    match part {
                        Some(raw) => values.extend(read(raw)?),
                        None => values.resize(values.len() + len, 0.0),
                    }
                }
                Ok(values)
            }
            Self::Masked { bias, mask } => {
                let (mut values, mask_values) = (read(bias)?, read(mask)?);
                if let Some(v) = mask_values.iter().find(|v| !v.is_finite()) {
                    let text = format!("cannot be made: its mask {mask} holds {v}, as of a model whose weights were never initialised");
                    return Err(text.into());
                }
                values.iter_mut().zip(mask_values).for_each(|(v, m)| *v *= m);
                Ok(values)
            }
        }
    }
}
