//! Runs the model inside another program's wgpu device: it computes features of the data that the program displays, on
//! the device that displays it.
//!
//! A viewer or a tool that owns a [wgpu device](wgpu::Device) lends the device to this crate. The crate turns a slice
//! in one of the host's buffers or textures into tokens in a buffer that the host's shaders read. No data passes
//! through the host's memory in between, and no frame waits. `examples/embed.rs` is a complete program of this kind;
//! the window in `viewer/` is another.
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
//! let gpu = Gpu::open(&context, &model)?;
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
//! [`descriptor`] returns the request that a host should make: the adapter's limits, and the features of [`WANTED`]
//! that the adapter has. No feature is required. [`REQUIRED`] lists the minimum limits, which every WebGPU device
//! meets. [`Context::from_host`] refuses a device below a limit, and its error names the limit. A single binding
//! (`max_storage_buffer_binding_size`) must hold the largest tensor that cannot be cut, and the slices of a batch.
//! Otherwise planning gives an error. [`Context::tuned`] chooses faster kernels if the device has the features.
//!
//! # What goes in
//! A pass takes either kind of [`PassInput`]. With a [`SliceInput`] the host gives slices in the units of the scan,
//! from a buffer or texture ([`Pass::encode_slice`]) or from its memory ([`Pass::write`]), and the device normalises
//! and resizes them. With an [`ImageInput`] the host gives images that [`ct::prepare`](crate::ct::prepare) has
//! prepared. Slices save the host's time. Prepared images are bit-identical to the images that the command line gives
//! the model.
//!
//! A pass computes [`PassSettings::batch`] slices or images at once. With [`PassSettings::masked`] the model sees its
//! `mask_token` in place of the patches that [`Pass::encode_mask`] or [`Pass::write_mask`] names.
//!
//! # Who owns what
//! Clones of a device, a queue or a buffer are handles of one object, as always in wgpu, so nothing here borrows from
//! the host. [`Context`] holds the device and the compiled kernels of everything that uses it; [`Gpu`] holds a model's
//! weights; [`Pass`] holds the buffers for input of one size. Several models may share one device, and several passes
//! one model. A pass takes one batch at a time, and the next batch overwrites its tokens. A host that keeps tokens
//! copies them (`COPY_SRC`). There is no global state, and this crate installs no handler on the host's device.
//!
//! # Layout
//! [`Pass::tokens`] is [B, T, C] of f32, row-major, from the buffer's first byte ([`TokenLayout`]): for each image the
//! class token, the registers, then the patches, row by row. [`Pass::mesh`] returns the pixels of a slice that each
//! patch covers. The model does not see pixels to the right of the last whole patch, or below it. [`Similarity`] and
//! [`Components`] give [B, T, 1] and [B, T, 3] in the same order, and [`MapTexture`] writes one image of either into a
//! texture that can be sampled.
//!
//! # Threads
//! Everything is `Send` and `Sync` where wgpu's objects are, which is everywhere except in browsers. Encoding a
//! [`Pass`] takes `&mut`, because the pass tracks how many dispatches it has recorded. A host must submit the commands
//! of one pass in the order in which they were recorded, because the dispatches share buffers.
//!
//! # Frames
//! meddino only records into the host's encoder. It submits nothing, polls nothing, and allocates only a callback and,
//! if it reads or writes a texture, a bind group. A host can check this with the counts of [`Context::submissions`] and
//! [`Context::polls`].
//!
//! [`Pass::encode_some`] records as many dispatches as are planned to fit a budget. The plan uses the speed of products
//! and attention that was measured when the model was loaded. If no speed was measured, a pass times each piece that it
//! records on the device, and uses this time to plan the next piece. [`PassSettings::frame`] cuts dispatches to the
//! budget in advance, as far as their bindings can be cut and the speed is known. A plan is not a guarantee: small
//! operations and a device that is busy with other work take longer. A budget should leave room. A host that checks
//! [`Pass::is_busy`] before it records more never has two pieces in flight.
//!
//! A host reads results into its memory without a wait: [`Pass::read`] and [`TokenMap::read`] record a copy and return
//! futures. They are ready after the device has run the host's submission and the host has polled the device; a browser
//! polls on its own. [`Pass::read`] gives an error if the features are not finite. Loading ([`Gpu::open`]), tuning
//! ([`Context::tuned`]) and preparing ([`Pass::new`]) do wait. They also have forms that return futures, which a
//! browser requires ([`Gpu::open_async`]).
//!
//! # Memory
//! The weights of a model are on the device once: 343 MB for ViT-B in f32, half of that in f16. [`Pass::bytes`] returns
//! the additional memory of a pass, which is planned before anything is allocated. Weights and buffers are freed when
//! their last handle is dropped.

mod input;
mod layout;
mod map;
mod pace;
mod pass;
mod reading;
mod settings;
mod source;
mod texture;

pub use crate::gpu::{Context, Devices, Gpu, REQUIRED, Readback, Selection, WANTED, descriptor, wgpu};
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
