//! Classifiers on frozen features: fits, predictions, and how good they are. All of it is arithmetic on the CPU; files
//! and devices are other rooms' work.
//!
//! ```
//! use meddino::Tensor;
//! use meddino::heads::{Logistic, Standard, Targets};
//!
//! let features = Tensor::new([4, 2], vec![0.0, 1.0, 0.2, 1.1, 1.0, 0.1, 1.2, 0.0]); // [N, D]
//! let targets = Targets::of_labels(&[0, 0, 1, 1], 2)?;
//! let fitted = Logistic::default().fit(&features, &targets, &Standard::of(&features)?)?;
//! let probabilities = fitted.linear.probabilities(&features)?; // [N, K]
//! assert!(probabilities[0] > 0.5 && probabilities[7] > 0.5);
//! # Ok::<(), meddino::Error>(())
//! ```
//!
//! - [`Rows`]: feature vectors, in memory or read block by block. [`Pooling`]: slices to scans. [`Targets`]: what is taught.
//! - [`Standard`]: standardisation. [`Linear`]: a linear classifier, fitted by [`Logistic`] regression or by [`LinearProbe`].
//! - [`Neighbours`]: nearest neighbours.
//! - [`Extent`]: the size of a fit, and from it the memory that the fit takes.
//! - [`Lattice`]: scores of patches at the pixels of a slice.
//! - [`metrics`]: how good predictions are. [`Bootstrap`]: how sure that is. [`split`]: parts without common patients.

mod bootstrap;
mod curvature;
mod design;
mod draw;
mod extent;
mod lattice;
mod lbfgs;
mod linear;
mod logistic;
pub mod metrics;
mod neighbours;
mod pool;
mod probe;
mod rows;
pub mod split;
mod standard;
mod targets;
mod whitener;

pub use bootstrap::{Bootstrap, Interval};
pub use draw::Draw;
pub use extent::Extent;
pub use lattice::Lattice;
pub use linear::{Linear, Link};
pub use logistic::{Fitted, Logistic, dinov3_cs};
pub use neighbours::Neighbours;
pub use pool::Pooling;
pub use probe::{LinearProbe, Optimiser};
pub use rows::{Chosen, Joined, Rows, check};
pub use standard::Standard;
pub use targets::Targets;
