//! The rotary table against PyTorch's, bit for bit.

mod common;

use common::{data, read_safetensors};
use meddino::vit::config::{Config, Grid};
use meddino::vit::rope;

#[test]
fn bf16_tables_equal_pytorchs_bit_for_bit() {
    let (tensors, _) = read_safetensors(&data("golden/rope_bf16.safetensors"));
    let want = |name: String| &tensors.iter().find(|(n, _)| *n == name).expect("in the golden").1;
    let config = Config::vit_base();
    assert_eq!(rope::periods(&config), want("periods".into()).data());
    for n in [14, 56, 128] {
        // Not square, so that rows and columns cannot be mistaken for each other.
        let grid = Grid { rows: n, cols: 14 };
        let table = rope::table(&config, grid);
        assert_eq!(table.shape(), [2, grid.patches(), 32]);
        for (half, name) in table.data().chunks_exact(grid.patches() * 32).zip(["sin", "cos"]) {
            let (y, x) = (want(format!("{name}.{n}")), want(format!("{name}.14")));
            for (patch, angles) in half.chunks_exact(32).enumerate() {
                let (row, col) = (patch / grid.cols, patch % grid.cols);
                assert_eq!(angles[..16], y.data()[row * 16..][..16], "{name} of row {row} of {n}");
                assert_eq!(angles[16..], x.data()[col * 16..][..16], "{name} of column {col} of 14");
            }
        }
    }
}
