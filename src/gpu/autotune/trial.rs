//! What a trial of a tile tells people.

/// One tile of one kernel, tried.
#[derive(Clone, Debug)]
pub struct Trial {
    /// `wide products`, `narrow products` or `attention`.
    pub kernel: &'static str,
    /// Rows of the products, tokens of the attention.
    pub rows: usize,
    /// The [`ProductTile`](crate::graph::ProductTile) or [`AttentionTile`](crate::graph::AttentionTile) as text.
    pub geometry: String,
    /// Seconds, the median of several measurements, or why the tile cannot be used on this device.
    pub outcome: Result<f64, String>,
    /// Floating-point operations in those seconds.
    pub flops: u64,
    /// Whether the device uses this tile from now on.
    pub taken: bool,
}
