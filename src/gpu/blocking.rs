//! Futures on a thread that they may block.

use std::future::Future;
use std::pin::Pin;

/// A future on the heap, which may change threads where the device may.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// A future on the heap; a browser's devices stay on their thread.
#[cfg(target_arch = "wasm32")]
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{block_on, is_blocking};

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::cell::Cell;
    use std::future::Future;

    thread_local! {
        static BLOCKING: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs a future to its end on this thread. The futures of this room poll the device themselves meanwhile, so that no other thread is
    /// started or woken.
    pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
        struct Restored(bool);
        impl Drop for Restored {
            fn drop(&mut self) {
                BLOCKING.set(self.0);
            }
        }
        let _restored = Restored(BLOCKING.replace(true));
        pollster::block_on(future)
    }

    /// Whether this thread is in [`block_on`].
    pub(crate) fn is_blocking() -> bool {
        BLOCKING.get()
    }
}
