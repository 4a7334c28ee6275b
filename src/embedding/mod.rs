//! Inside another program's wgpu device: features of what the program shows, on the device that shows it.
//!
//! A viewer or a tool that owns a [wgpu device](wgpu::Device) lends the device to this crate. A slice that lies in a
//! buffer or texture of the host's becomes tokens in a buffer that the host's shaders read. Nothing passes through the
//! host's memory in between, and no frame waits. `examples/embed.rs` is such a program, whole; the window in `viewer/`
//! is another.
//!
//! ```no_run
//! use std::time::Duration;
//! use meddino::embedding::{self, Context, Gpu, Pass, PassSettings, Similarity, SliceInput, SliceSource, wgpu};
//! use meddino::vit::model::Model;
//!
//! # fn show(_: &wgpu::Buffer) {}
//! # fn host(adapter: &wgpu::Adapter, slice: &wgpu::TextureView) -> Result<(), Box<dyn std::error::Error>> {
//! // The host opens its device with what this crate asks for, and with what the host needs itself.
//! let (device, queue) = pollster::block_on(adapter.request_device(&embedding::descriptor(adapter)?))?;
//!
//! // Once a model: load it. Loading submits and waits, and may be done on a thread of its own.
//! let model = Model::open("MedDINOv3-B-CT3M.pth")?;
//! let context = Context::from_host(device.clone(), queue.clone())?;
//! let gpu = Gpu::new(&context, model.config(), &model.weights()?)?;
//!
//! // Once a size of slices: allocate.
//! let frame = Duration::from_millis(8);
//! let settings = PassSettings { frame: Some(frame), ..PassSettings::new(SliceInput::new(512, 512)) };
//! let mut pass = Pass::new(&gpu, &settings)?;
//! let similarity = Similarity::new(&pass.map())?;
//!
//! // Every frame: the host's encoder, the host's submission.
//! let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
//! pass.encode_slice(&mut encoder, 0, SliceSource::Texture(slice))?; // only where the slice has changed
//! if !pass.is_busy() && pass.encode_some(&mut encoder, frame).is_finished() {
//!     similarity.encode(&mut encoder, pass.layout().patch_row(0, 0))?; // of all tokens to the first patch
//! }
//! queue.submit([encoder.finish()]);
//! show(&similarity.map().buffer); // one f32 a token, for the host's shaders
//! # Ok(())
//! # }
//! ```
//!
//! # What the device must have
//! [`descriptor`] says what a host should ask for: the adapter's limits, and the features of [`WANTED`] that the
//! adapter has. No feature is needed. [`REQUIRED`] lists the limits below which [`Context::from_host`] refuses a device
//! by name; every WebGPU device has them. The device must bind at once (`max_storage_buffer_binding_size`) the largest
//! tensor that cannot be cut, and the slices of a batch; planning gives an error where it does not. [`Context::tuned`]
//! chooses faster kernels where the device has the features.
//!
//! # What goes in
//! A pass takes either kind of [`PassInput`]. With a [`SliceInput`] the host gives slices in the units of the scan,
//! from a buffer or texture ([`Pass::encode_slice`]) or from its memory ([`Pass::write`]), and the device normalises
//! and resizes them. With an [`ImageInput`] the host gives images that are prepared already, by
//! [`ct::prepare`](crate::ct::prepare). Slices save the host's time; prepared images are bit by bit those that the
//! command line gives the model.
//!
//! A pass computes [`PassSettings::batch`] slices or images at once. With [`PassSettings::masked`] the model sees its
//! `mask_token` in place of the patches that [`Pass::encode_mask`] or [`Pass::write_mask`] names.
//!
//! # Who owns what
//! Clones of a device, a queue or a buffer are handles of one object, as always in wgpu, so that nothing here borrows
//! from the host. [`Context`] holds the device, and the compiled kernels for all that is made on it; [`Gpu`] holds a
//! model's weights; [`Pass`] holds the buffers for input of one size. Several models may live on one device, and
//! several passes on one model. A pass takes one batch at a time, and its tokens last until the next: a host that keeps
//! tokens copies them (`COPY_SRC`). There is no global state, and this crate installs no handler on the host's device.
//!
//! # Layout
//! [`Pass::tokens`] is [B, T, C] of f32, row-major, from the buffer's first byte ([`TokenLayout`]): for each image the
//! class token, the registers, then the patches, row by row. [`Pass::mesh`] says which pixels of a slice a patch
//! covers; the model does not see what is right of or below the last whole patch. [`Similarity`] and [`Components`]
//! give [B, T, 1] and [B, T, 3] in the same order, and [`MapTexture`] brings one image of either to a texture that can
//! be sampled.
//!
//! # Threads
//! Everything is `Send` and `Sync` where wgpu's objects are, that is outside of browsers. A [`Pass`] is encoded through
//! `&mut`, because it knows how far it is recorded. A host submits the commands of one pass in the order in which they
//! were recorded, because its dispatches share buffers.
//!
//! # Frames
//! meddino only records into the host's encoder: it submits nothing, polls nothing, and allocates nothing but a
//! callback and, where a texture is read or written, a bind group. [`Context::submissions`] and [`Context::polls`]
//! count, for hosts that want to see.
//!
//! [`Pass::encode_some`] records as much as is planned to fit a budget. The plan goes by the speed in products and
//! attention that was measured when the model was loaded. Where it was not measured, a pass measures how long the
//! device takes for each piece that it records, and plans the next piece by that. [`PassSettings::frame`] has
//! dispatches cut to the budget in the first place, as far as their bindings can be cut and the speed is known. A plan
//! is no promise: small operations and a device that is busy otherwise take longer. A budget should leave room, and a
//! host that asks [`Pass::is_busy`] before it records more never has two pieces on their way.
//!
//! Results come to the host's memory without a wait: [`Pass::read`] and [`TokenMap::read`] record a copy and are
//! futures. They are ready after the device has done the host's submission and the host has polled the device, which a
//! browser does by itself. [`Pass::read`] gives an error where the features are not finite. Loading ([`Gpu::new`]),
//! tuning ([`Context::tuned`]) and preparing ([`Pass::new`]) do wait, and have forms that are futures, as a browser
//! demands ([`Gpu::new_async`]).
//!
//! # Memory
//! Weights are there once a model: 343 MB for ViT-B in f32, half of that in f16. [`Pass::bytes`] says what a pass takes
//! besides, as planned before anything was allocated. Weights and buffers go with the last handle.

mod input;
mod layout;
mod map;
mod pace;
mod pass;
mod reading;
mod settings;
mod source;
mod texture;

pub use crate::gpu::{Context, Gpu, REQUIRED, Readback, WANTED, descriptor, wgpu};
pub use crate::graph::Elem;
pub use input::{ImageInput, PassInput, SliceInput};
pub use layout::TokenLayout;
pub use map::{Components, Similarity, TokenMap};
pub use pace::PassProgress;
pub use pass::Pass;
pub use reading::Reading;
pub use settings::PassSettings;
pub use source::SliceSource;
pub use texture::MapTexture;
