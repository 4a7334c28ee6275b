//! Products of sizes. On a 32-bit machine, as in a browser, `usize` counts to 2^32, which the bytes of a large scan and
//! the operations of a pass over a large image exceed.

/// Returns the product of `factors`, or `u64::MAX` if it is more.
pub fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| product.saturating_mul(factor as u64))
}

/// Returns the number of values of a tensor of `shape`, or `None` if this machine cannot count them.
pub fn values_in(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |values, &side| values.checked_mul(side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_exact_or_the_largest_number() {
        assert_eq!(product(&[]), 1);
        assert_eq!(product(&[3141, 3072, 768]), 7_410_548_736, "more than 32 bits");
        assert_eq!(product(&[1 << 24, 1 << 14, 1 << 14, 1 << 14]), u64::MAX);
        assert_eq!(values_in(&[2, 3, 4]), Some(24));
        assert_eq!(values_in(&[usize::MAX, 2]), None);
        assert_eq!(values_in(&[1 << (usize::BITS / 2), 1 << (usize::BITS / 2)]), None, "a product that would wrap to 0");
    }
}
