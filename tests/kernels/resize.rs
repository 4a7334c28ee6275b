//! `resize`: resizes a slice to an image for the model, and a map of patches to pixels.

use meddino::Tensor;
use meddino::ct::{self, Size, Window, prepare};
use meddino::graph::Limits;
use meddino::kernels::{Field, Values, taps};
use meddino::maps::Mesh;
use meddino::vit::config::Grid;

use crate::cases::{Table, Tolerance, ULP, noise};

type Lines = Vec<(usize, Vec<f32>)>;

fn changed(v: f32, values: Values) -> f64 {
    let Values { scale, shift, lo, hi, mean, divisor } = values;
    let v = f64::from(v) * f64::from(scale) + f64::from(shift);
    (v.clamp(f64::from(lo), f64::from(hi)) - f64::from(mean)) / f64::from(divisor)
}

/// Computes the resize in f64, straight from the definition.
fn oracle(x: &[f32], field: Field, [down, across]: [&Lines; 2], values: Values) -> Vec<f64> {
    let Field { first, width, channels, .. } = field;
    let mut y = Vec::new();
    for (top, tall) in down {
        for (left, wide) in across {
            for k in 0..channels {
                let source = |a: usize, b: usize| changed(x[first + ((top + a) * width + left + b) * channels + k], values);
                let line = |a: usize| wide.iter().enumerate().map(|(b, &w)| f64::from(w) * source(a, b)).sum::<f64>();
                y.push(tall.iter().enumerate().map(|(a, &w)| f64::from(w) * line(a)).sum());
            }
        }
    }
    y
}

fn check(
    table: &mut Table,
    name: &str,
    limits: Limits,
    (x, field): (&[f32], Field),
    lines: [&Lines; 2],
    values: Values,
    twin: Option<&[f32]>,
) {
    let want = oracle(x, field, lines, values);
    let tolerance = Tolerance { atol: 2e-6, rtol: 1e-6, l2: 3e-7 };
    if let Some(twin) = twin {
        table.twin(name, tolerance, &want, twin);
    }
    // WGSL allows a division 2.5 units in the last place. All values have the same divisor, so their errors may be the
    // same, and an average keeps them. Scale, shift and mean are three operations that round, by half a unit. A sum of
    // n taps is a random walk of n such roundings.
    let longest = lines.map(|lines| lines.iter().map(|(_, weights)| weights.len()).max().unwrap_or(0)).iter().sum::<usize>();
    let on_device = Tolerance { l2: ULP * (2.5 + 1.5 + 0.5 * (longest as f64).sqrt()), ..tolerance };
    let name = format!("{name}, bindings of {}, grids of {}", limits.max_binding, limits.max_workgroups);
    table.check(&name, limits, on_device, &want, |case| {
        let x = case.input("x", &[x.len()], x);
        let tables = lines.map(|lines| {
            let values = taps(lines);
            case.input("taps", &[lines.len(), values.len() / lines.len()], &values)
        });
        let shape = [lines[0].len(), lines[1].len(), field.channels];
        Ok(vec![case.recorder.resize("resize", x, field, tables, values, shape)?])
    });
}

/// Checks that a slice in HU, partly beyond the window, becomes the same image as `prepare` makes of it.
fn check_slice(table: &mut Table, limits: Limits, window: Window, from: (usize, usize), to: (usize, usize)) {
    let x: Vec<f32> = noise(5, from.0 * from.1).iter().map(|v| v * 1500.0).collect();
    let image = prepare(&Tensor::new([from.0, from.1], x.clone()), &window, Size::Exact { height: to.0, width: to.1 });
    let (down, across) = (ct::taps(from.0, to.0), ct::taps(from.1, to.1));
    let field = Field { first: 0, height: from.0, width: from.1, channels: 1 };
    let divisor = (f64::from(window.std) + 1e-8) as f32;
    let values = Values { lo: window.lo, hi: window.hi, mean: window.mean, divisor, ..Values::SAME };
    check(table, &format!("{from:?} to {to:?}"), limits, (&x, field), [&down, &across], values, Some(image.data()));
}

#[test]
fn a_slice_becomes_the_image_that_the_cpu_makes() {
    let mut table = Table::new("resize");
    let [(_, own), _] = table.variants();
    let sizes = [((1, 1), (1, 1)), ((16, 16), (16, 16)), ((40, 57), (40, 57)), ((512, 512), (224, 224)), ((70, 333), (64, 48))];
    for (from, to) in sizes.into_iter().chain([((7, 5), (33, 64)), ((300, 9), (8, 9)), ((513, 2), (1, 1)), ((31, 64), (32, 63))]) {
        check_slice(&mut table, own, Window::DEMO, from, to);
    }
    check_slice(&mut table, own, Window { lo: -160.0, hi: 240.0, mean: 40.0, std: 80.5 }, (100, 90), (48, 64));
    let [(_, forced), _] = table.forced(64 << 10, 12);
    check_slice(&mut table, forced, Window::DEMO, (120, 128), (90, 96));
    check_slice(&mut table, Limits { max_binding: 8 << 10, ..forced }, Window::DEMO, (40, 50), (90, 68));
    check_slice(&mut table, Limits { max_work: Some(20_000), ..own }, Window::DEMO, (120, 128), (90, 96));
    table.finish();
}

#[test]
fn a_map_comes_to_pixels() {
    let mut table = Table::new("resize");
    let [(_, own), _] = table.variants();
    for channels in [1, 2, 3, 4] {
        for (grid, slice) in [((14, 14), (64, 70)), ((3, 5), (48, 80)), ((2, 3), (9, 100)), ((1, 1), (5, 4))] {
            let grid = Grid { rows: grid.0, cols: grid.1 };
            // Some pixels at the right and at the bottom are in no whole patch.
            let mesh = Mesh::new(grid, 16, (16 * grid.rows + 9, 16 * grid.cols + 4), slice);
            // The first five tokens are not patches.
            let map = noise(6, (5 + grid.patches()) * channels);
            let field = Field { first: 5 * channels, height: grid.rows, width: grid.cols, channels };
            let [down, across] = mesh.lines();
            let values = Values { scale: 0.5, shift: 0.25, lo: 0.0, hi: 0.6, mean: 0.1, divisor: 0.7 };
            let name = format!("{grid:?} to {slice:?}, {channels} channels");
            check(&mut table, &name, own, (&map, field), [&down, &across], values, None);
            let twin: Vec<f32> = (0..slice.0 * slice.1)
                .flat_map(|i| {
                    let around = mesh.around((i % slice.1) as f64 + 0.5, (i / slice.1) as f64 + 0.5);
                    let value = |k: usize| around.iter().flatten().map(|&(p, w)| w * map[(5 + p) * channels + k]).sum();
                    (0..channels).map(value).collect::<Vec<f32>>()
                })
                .collect();
            check(&mut table, &name, own, (&map, field), [&down, &across], Values::SAME, Some(&twin));
        }
    }
    table.finish();
}

/// A table names lines that do not exist, and more weights than it holds. The kernel reads the last line instead, and
/// only the weights that exist.
#[test]
fn a_table_that_makes_no_sense_reads_nothing_else() {
    let mut table = Table::new("resize");
    let field = Field { first: 2, height: 3, width: 4, channels: 1 };
    let x: Vec<f32> = (0..14).map(|i| i as f32).collect();
    for (first, count, want) in [(2.0, 1.0, 12.0), (1e9, 1e9, 13.0), (f32::MAX, f32::INFINITY, 13.0), (-3.0, 1.0, 2.0), (0.0, -1.0, 0.0)] {
        for (name, limits) in table.variants() {
            let tolerance = Tolerance { atol: 0.0, rtol: 0.0, l2: 0.0 };
            table.check(&format!("{name}, {count} lines from {first}"), limits, tolerance, &[want], |case| {
                let x = case.input("x", &[14], &x);
                let tables = [(); 2].map(|()| case.input("taps", &[1, 3], &[first, count, 1.0]));
                Ok(vec![case.recorder.resize("resize", x, field, tables, Values::SAME, [1])?])
            });
        }
    }
    table.finish();
}
