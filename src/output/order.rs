//! Conversion between the scan's axis order and another one.

/// An axis order. Entry i is the axis of the scan (0 slices, 1 rows, 2 columns) that becomes axis i.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order(pub [usize; 3]);

impl Order {
    /// Returns whether the order is the scan's own.
    pub fn is_own(self) -> bool {
        self.0 == [0, 1, 2]
    }

    /// Returns the scan's `shape` in this order.
    pub fn of(self, shape: [usize; 3]) -> [usize; 3] {
        self.0.map(|axis| shape[axis])
    }

    /// Returns the inverse order.
    pub fn back(self) -> [usize; 3] {
        [0, 1, 2].map(|axis| self.0.iter().position(|from| *from == axis).expect("an order of 0, 1 and 2"))
    }
}
