//! The flag that limits the memory of a batch.

use meddino::jobs::ByteSize;

/// The memory of a batch.
#[derive(clap::Args)]
pub struct Memory {
    /// Memory limit that sets the batch, such as 4GiB [default: on a GPU 4GiB, else half of what is free]
    ///
    /// On a GPU, this is the device's memory.
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<ByteSize>,
}
