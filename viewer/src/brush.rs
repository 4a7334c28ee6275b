//! The brush: which patches a stroke of the mouse touches.

use meddino::maps::Mesh;

/// The widest brush, in patches.
pub const WIDEST: u32 = 9;

/// Returns the patches under a brush that moved from `from` to `to`, (x, y) in pixels of the slice: the patch under its
/// middle, and each patch whose centre is within half of `width`, in patches. They are ascending.
pub fn touched(mesh: &Mesh, from: (f64, f64), to: (f64, f64), width: u32) -> Vec<usize> {
    let (rows, cols) = (mesh.grid.rows, mesh.grid.cols);
    let (height, across) = mesh.covered();
    let cells = |(x, y): (f64, f64)| (x * cols as f64 / across, y * rows as f64 / height);
    let (from, to) = (cells(from), cells(to));
    let steps = ((to.0 - from.0).hypot(to.1 - from.1) * 4.0).ceil().clamp(1.0, 4096.0) as usize;
    let radius = f64::from(width.clamp(1, WIDEST)) / 2.0;
    let mut found = Vec::new();
    for step in 0..=steps {
        let way = step as f64 / steps as f64;
        let (x, y) = (from.0 + (to.0 - from.0) * way, from.1 + (to.1 - from.1) * way);
        let near = |at: f64, cells: usize| (at - radius).floor().max(0.0) as usize..((at + radius).ceil().max(0.0) as usize).min(cells);
        for (row, col) in near(y, rows).flat_map(|row| near(x, cols).map(move |col| (row, col))) {
            let is_under = (0.0..1.0).contains(&(x - col as f64)) && (0.0..1.0).contains(&(y - row as f64));
            let distance = (col as f64 + 0.5 - x).hypot(row as f64 + 0.5 - y);
            if is_under || (width > 1 && distance <= radius) {
                found.push(row * cols + col);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use meddino::vit::config::Grid;

    use super::*;

    #[test]
    fn a_stroke_touches_the_patches_on_its_way() {
        // 4 x 6 patches of 8 x 8 pixels; 4 columns of pixels on the right belong to no patch.
        let mesh = Mesh::new(Grid { rows: 4, cols: 6 }, 16, (64, 104), (32, 52));
        let point = |x, y, width| touched(&mesh, (x, y), (x, y), width);
        assert_eq!(point(0.0, 0.0, 1), [0]);
        assert_eq!(point(47.9, 31.9, 1), [23]);
        assert_eq!(point(7.9, 8.1, 1), [6]);
        for (x, y) in [(48.1, 4.0), (4.0, 33.0), (-1.0, 4.0), (4.0, -0.1)] {
            assert!(point(x, y, 1).is_empty(), "{x},{y}");
        }
        assert_eq!(point(20.0, 12.0, 2), [2, 7, 8, 9, 14], "those whose centres are one patch away");
        assert_eq!(point(20.0, 12.0, 3), [1, 2, 3, 7, 8, 9, 13, 14, 15]);
        assert_eq!(touched(&mesh, (4.0, 4.0), (44.0, 4.0), 1), [0, 1, 2, 3, 4, 5]);
        assert_eq!(touched(&mesh, (4.0, 4.0), (28.0, 28.0), 1), [0, 7, 14, 21]);
        assert_eq!(touched(&mesh, (-100.0, 12.0), (1000.0, 12.0), 1), [6, 7, 8, 9, 10, 11], "it may come from outside");
    }
}
