//! Running a future to its end on the calling thread, which it blocks.

use std::future::Future;
use std::pin::Pin;

/// A boxed future. Outside a browser a device may be used from any thread, so the future is `Send`.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// A boxed future. A browser's device must stay on its thread, so the future is not `Send`.
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

    /// Runs a future to its end on this thread. Meanwhile the futures of this room poll the device on this thread, so
    /// that no poller thread is started or woken.
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

    /// Returns whether this thread is inside [`block_on`].
    pub(crate) fn is_blocking() -> bool {
        BLOCKING.get()
    }
}
