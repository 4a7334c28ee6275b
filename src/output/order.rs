//! Axes in another order than the scan's.

/// Which axis of the scan (0 slices, 1 rows, 2 columns) each axis is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order(pub [usize; 3]);

impl Order {
    /// Whether the order is the scan's.
    pub fn is_own(self) -> bool {
        self.0 == [0, 1, 2]
    }

    /// The scan's `shape` in this order.
    pub fn of(self, shape: [usize; 3]) -> [usize; 3] {
        self.0.map(|axis| shape[axis])
    }

    /// The inverse order.
    pub fn back(self) -> [usize; 3] {
        [0, 1, 2].map(|axis| self.0.iter().position(|from| *from == axis).expect("an order of 0, 1 and 2"))
    }
}
