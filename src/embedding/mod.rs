//! Inside another program's wgpu device: features of what it shows, on the device that it shows it with.
//!
//! A viewer or a tool that owns a [device of wgpu](crate::gpu::wgpu::Device) lends it. A slice that lies in one of its buffers or textures becomes tokens in a
//! buffer that its shaders read; nothing comes to the host's memory in between, and no frame waits. `examples/embed.rs` is such a program, whole.
//!
//! ```no_run
//! use std::time::Duration;
//! use meddino::embedding::{Pass, Settings, Similarity, Source};
//! use meddino::gpu::{self, Context, Gpu, wgpu};
//! use meddino::vit::model::Model;
//!
//! # fn show(_: &wgpu::Buffer) {}
//! # fn host(adapter: &wgpu::Adapter, slice: &wgpu::TextureView) -> Result<(), Box<dyn std::error::Error>> {
//! // The host opens its device, with what it needs itself and what we ask for.
//! let (device, queue) = pollster::block_on(adapter.request_device(&gpu::descriptor(adapter)?))?;
//!
//! // Once a model: load it. This submits and waits, and may be done in a thread of its own.
//! let model = Model::open("MedDINOv3-B-CT3M.pth")?;
//! let context = Context::from_host(device.clone(), queue.clone())?;
//! let gpu = Gpu::new(&context, model.config(), &model.weights()?)?;
//!
//! // Once a size of slices: allocate.
//! let frame = Duration::from_millis(8);
//! let mut pass = Pass::new(&gpu, &Settings { frame: Some(frame), ..Settings::new(512, 512) })?;
//! let similarity = Similarity::new(&pass.map())?;
//!
//! // Every frame: the host's encoder, the host's submission.
//! let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
//! pass.encode_slice(&mut encoder, Source::Texture(slice))?; // when the slice is another
//! if pass.encode_some(&mut encoder, frame).is_finished() {
//!     similarity.encode(&mut encoder, pass.layout().prefix)?; // of the first patch to all
//! }
//! queue.submit([encoder.finish()]);
//! show(&similarity.map().buffer); // one f32 a token, for the host's shaders
//! # Ok(())
//! # }
//! ```
//!
//! # What the device must have
//! [`gpu::descriptor`](crate::gpu::descriptor) is what to ask for: the features of [`gpu::WANTED`](crate::gpu::WANTED) that the adapter has, none of which is
//! needed, and the adapter's limits. [`gpu::REQUIRED`](crate::gpu::REQUIRED) are the limits without which [`Context::from_host`](crate::gpu::Context::from_host)
//! refuses a device, by name; every WebGPU device has them. How much may be bound at once (`max_storage_buffer_binding_size`) must hold the largest tensor
//! that cannot be cut, and a slice; planning says so where it does not. `Context::tuned` chooses faster kernels where features allow.
//!
//! # Who owns what
//! Clones of a device, a queue or a buffer are handles of one object, as always in wgpu: nothing here borrows from the host. [`Context`](crate::gpu::Context)
//! holds the device, and compiled kernels for all that is made of it; [`Gpu`](crate::gpu::Gpu) a model's weights; [`Pass`] the buffers for slices of one
//! size. Several models live on one device, several passes on one model; each pass takes one slice at a time, and what it gave for the last one until then:
//! a host that keeps tokens copies them (`COPY_SRC`). There is no global state, and no handler is installed on the host's device.
//!
//! # Layout
//! [`Pass::tokens`] is [T, C], f32, row-major, from the buffer's first byte ([`Layout`]): the class token, the registers, then the patches, row by row.
//! [`Pass::mesh`] says which pixels of the slice a patch covers; what is right of or below the last whole patch was not seen. [`Similarity`] and [`Scores`]
//! give [T, 1] and [T, 3] in the same order, and [`Picture`] brings either to pixels, in a texture that can be sampled.
//!
//! # Threads
//! Everything is `Send` and `Sync` where wgpu's objects are, that is outside of browsers. A [`Pass`] is encoded through `&mut`, for it knows how far it has
//! come. Commands of one pass must be submitted in the order in which they were recorded: its dispatches share buffers.
//!
//! # Frames
//! Recording a pass takes no longer than recording its dispatches, submits nothing, polls nothing, and allocates nothing but a bind group where a texture is
//! read or written; [`Context::submissions`](crate::gpu::Context::submissions) and [`Context::polls`](crate::gpu::Context::polls) count, for those who want to
//! see. [`Pass::encode_some`] records as much as is planned to fit a budget, by the speed in products and attention that was measured when the model was
//! loaded; [`Settings::frame`] has dispatches cut that finely in the first place, as far as their bindings can be cut. A plan is no promise: small operations
//! and a device that is busy otherwise take longer, so a budget should leave room. In a browser nothing may wait, so nothing is measured there, and
//! [`Pass::encode_some`] records a dispatch at a time; a host that knows better calls it more often in a frame.
//!
//! Results come home without a wait: [`Pass::read`] and [`Map::read`] record a copy and are futures, ready after the host's submission is done and the device was
//! polled, which a browser does by itself. Loading (`Gpu::new`) and tuning (`Context::tuned`) do wait, except in a browser.
//!
//! # Memory
//! Weights are there once a model: 343 MB for ViT-B in f32, half in f16. [`Pass::bytes`] says what a pass takes besides, as planned before anything was
//! allocated. Weights and buffers go when the last handle does.

mod map;
mod pass;
mod source;

pub use map::{Map, Picture, Scores, Similarity};
pub use pass::{Layout, Pass, Progress, Settings};
pub use source::Source;
