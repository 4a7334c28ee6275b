//! Running graphs on a GPU: the only room, with the facade, that knows wgpu. Graphs come in, tensors go out; [`Gpu`] and [`Scorer`] alone know the model.

mod autotune;
mod context;
mod devices;
mod executable;
#[cfg(test)]
pub(crate) mod faults;
mod model;
mod needs;
mod objects;
mod pace;
mod passes;
mod peak;
mod pipelines;
mod profile;
mod readback;
mod scorer;
mod stamps;
mod texture;
#[cfg(feature = "files")]
mod tile_cache;
mod tune;
mod weights;

pub use autotune::Trial;
pub use context::Context;
pub use devices::{Auto, DeviceReport, Devices, Kind, Selection, devices};
pub use executable::Executable;
pub use model::{Gpu, Pending};
pub use needs::{REQUIRED, Required, WANTED, Wanted, descriptor};
pub use profile::{Profile, Row, Timed};
pub use readback::Readback;
pub use scorer::{Scorer, Slice};
pub use stamps::Span;
pub(crate) use texture::TextureCopy;
#[cfg(feature = "files")]
pub use tile_cache::TileCache;
pub use weights::GpuWeights;
/// The version of wgpu whose devices a host may lend.
pub use wgpu;
