//! What a user can do about a GPU that fails, in the words of messages. A page in a browser has no driver to install, one
//! device and one image at a time.

/// What computes where no GPU does, as in "use ...".
pub(crate) const CPU: &str =
    if cfg!(all(target_arch = "wasm32", not(feature = "cpu"))) { "the meddino command on a CPU" } else { "`backend` cpu" };

/// How a pass takes less memory.
pub(crate) const LESS: &str = choice("use a smaller image (`size`) or `batch`", "use a smaller image (`size`)");

/// What follows a lost device.
pub(crate) const AGAIN: &str = choice("open it again", "load the model again");

/// How a GPU is found where there is none.
pub(crate) const ADAPTER: &str = choice(
    "install a Vulkan, Metal or DX12 driver (Mesa's software Vulkan is enough), check that WGPU_BACKEND does not exclude it",
    "open the page in a browser that gives it a GPU",
);

/// Another device, where there is a choice, before another piece of advice.
pub(crate) const OTHER: &str = choice("choose another with `device`, or ", "");

/// The precisions of the CPU, as in "take ...".
#[cfg(feature = "cpu")]
pub(crate) const PRECISIONS: &str = choice("f32 or bf16", "f32");

const fn choice(system: &'static str, page: &'static str) -> &'static str {
    if cfg!(target_arch = "wasm32") { page } else { system }
}
