//! `matmul`, with each epilogue.

use meddino::graph::{Elem, Limits, ProductSplit, ProductTile, TensorId, TileChoice};
use meddino::kernels::{Epilogue, product_defaults, product_tiles};
use meddino::vit::weights::Linear;
use meddino::{Tensor, cpu};

use crate::cases::{CPU_PANEL, Case, Checks, Family, Table, Tolerance, each, for_larger_subgroups, noise, noise_of};
use crate::device;

#[derive(Clone, Copy, Debug)]
enum Form {
    None,
    Bias,
    BiasGelu,
    BiasLayerScaleResidual,
}

const FORMS: [Form; 4] = [Form::None, Form::Bias, Form::BiasGelu, Form::BiasLayerScaleResidual];

struct Data {
    m: usize,
    n: usize,
    k: usize,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    gamma: Vec<f32>,
    residual: Vec<f32>,
}

impl Data {
    fn new(elem: Elem, [m, n, k]: [usize; 3]) -> Self {
        Self {
            m,
            n,
            k,
            x: noise_of(elem, 1, m * k),
            weight: noise_of(elem, 2, n * k),
            bias: noise(3, n),
            gamma: noise(4, n),
            residual: noise(5, m * n),
        }
    }

    fn oracle(&self, form: Form) -> Vec<f64> {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let mut want = Vec::with_capacity(self.m * self.n);
        for row in self.x.chunks_exact(self.k) {
            for (col, w) in self.weight.chunks_exact(self.k).enumerate() {
                let (sum, bias) = (dot(row, w), f64::from(self.bias[col]));
                want.push(match form {
                    Form::None => sum,
                    Form::Bias => sum + bias,
                    Form::BiasGelu => crate::elementwise::gelu(sum + bias),
                    Form::BiasLayerScaleResidual => f64::from(self.residual[want.len()]) + f64::from(self.gamma[col]) * (sum + bias),
                });
            }
        }
        want
    }

    fn twin(&self, form: Form) -> Tensor {
        let tensor = |shape: [usize; 2], values: &[f32]| Tensor::new(shape, values.to_vec());
        let bias = (!matches!(form, Form::None)).then(|| tensor([1, self.n], &self.bias));
        let linear = Linear { weight: tensor([self.n, self.k], &self.weight), bias };
        let gamma = tensor([1, self.n], &self.gamma);
        let epilogue = match form {
            Form::None | Form::Bias => cpu::LayerEpilogue::Bias,
            Form::BiasGelu => cpu::LayerEpilogue::BiasGelu,
            Form::BiasLayerScaleResidual => cpu::LayerEpilogue::LayerScaleResidual(&gamma),
        };
        // The residual stream. An epilogue that overwrites it must ignore its values.
        let mut y = tensor([self.m, self.n], &self.residual);
        cpu::matmul(&tensor([self.m, self.k], &self.x), &linear.into(), epilogue, &mut y);
        y
    }

    fn record(&self, case: &mut Case, form: Form) -> meddino::Result<Vec<TensorId>> {
        let (m, n, k) = (self.m, self.n, self.k);
        let x = case.handed("x", &[1, m, k], &self.x);
        let weight = case.handed("weight", &[n, k], &self.weight);
        let mut vector = |name: &str, values: &[f32]| case.input(name, &[n], values);
        let epilogue = match form {
            Form::None => Epilogue::None,
            Form::Bias => Epilogue::Bias(vector("bias", &self.bias)),
            Form::BiasGelu => Epilogue::BiasGelu(vector("bias", &self.bias)),
            Form::BiasLayerScaleResidual => {
                let (bias, gamma) = (vector("bias", &self.bias), vector("gamma", &self.gamma));
                Epilogue::BiasLayerScaleResidual { bias, gamma, residual: case.input("residual", &[1, m, n], &self.residual) }
            }
        };
        Ok(vec![case.recorder.matmul("matmul", x, weight, epilogue)?])
    }
}

fn check<S: AsRef<str>>(table: &mut Table, shape @ [m, n, k]: [usize; 3], forms: &[Form], variants: &[(S, Limits)]) {
    for (elem, &form) in [Elem::F32, Elem::F16].iter().flat_map(|elem| forms.iter().map(move |form| (*elem, form))) {
        let data = Data::new(elem, shape);
        let want = data.oracle(form);
        if elem == Elem::F32 {
            table.twin(&format!("{form:?} {m} x {n} x {k}"), Tolerance::of_sums(k, CPU_PANEL), &want, data.twin(form).data());
        }
        for (variant, limits) in variants.iter().filter(|(_, limits)| limits.elem == elem) {
            let name = format!("{} {form:?} {m} x {n} x {k}, bindings of {}", variant.as_ref(), limits.max_binding);
            let stored = if matches!(form, Form::BiasLayerScaleResidual) { Elem::F32 } else { elem };
            let tolerance = table.sums(k, limits).stored(stored);
            table.check(&name, *limits, tolerance, &want, |case| data.record(case, form));
        }
    }
}

/// How a shader reads its operands: by fours if K is a multiple of four, otherwise by ones. Without tiles, software
/// Vulkan takes seconds to compile each way, so each way has its own tests there.
#[derive(Clone, Copy, PartialEq)]
enum Operands {
    ByOnes,
    ByFours,
}

fn check_tiers(family: Family, operands: Operands, checks: Checks) {
    let mut table = Table::new("matmul");
    table.run(checks);
    let tiers = table.tiers_of(family);
    let depths = if operands == Operands::ByFours { [32, 36] } else { [1, 31] };
    for (at, m) in [1, 8, 64, 65].into_iter().enumerate() {
        for (and, n) in [1, 15, 66].into_iter().enumerate() {
            for k in depths {
                check(&mut table, [m, n, k], &[FORMS[(at + and + k) % 4]], &tiers);
            }
        }
    }
    // Weights of 6 KiB or more in bindings of 4 KiB, rows in several pieces, at most 2 workgroups along an axis.
    let forced = each(&tiers, "forced", force);
    if operands == Operands::ByFours {
        check(&mut table, [129, 130, 132], &FORMS, &tiers);
        check(&mut table, [9, 65, 3072], &[Form::BiasGelu, Form::BiasLayerScaleResidual], &tiers);
        check(&mut table, [70, 150, 20], &FORMS, &forced);
    } else {
        check(&mut table, [70, 16, 13], &FORMS, &forced);
    }
    table.finish();
}

#[test]
fn every_tier_with_tiles() {
    check_tiers(Family::TiledTiers, Operands::ByOnes, Checks::Both);
    check_tiers(Family::TiledTiers, Operands::ByFours, Checks::Both);
}

#[test]
fn every_tier_without_tiles_by_ones_with_checks() {
    check_tiers(Family::DirectTiers, Operands::ByOnes, Checks::With);
}

#[test]
fn every_tier_without_tiles_by_ones_without_checks() {
    check_tiers(Family::DirectTiers, Operands::ByOnes, Checks::Without);
}

#[test]
fn every_tier_without_tiles_by_fours_with_checks() {
    check_tiers(Family::DirectTiers, Operands::ByFours, Checks::With);
}

#[test]
fn every_tier_without_tiles_by_fours_without_checks() {
    check_tiers(Family::DirectTiers, Operands::ByFours, Checks::Without);
}

#[test]
fn every_tier_of_cooperative_matrices() {
    check_tiers(Family::CooperativeTiers, Operands::ByOnes, Checks::Both);
    check_tiers(Family::CooperativeTiers, Operands::ByFours, Checks::Both);
}

/// The default tiles have one buffer. Two tiles with two: one step along K, several, and a ragged last one.
#[test]
fn every_tier_of_cooperative_matrices_with_two_buffers() {
    let mut table = Table::new("matmul");
    let is_double = |tile: &ProductTile| matches!(tile.split, ProductSplit::Cooperative { buffers: 2, .. });
    let double = |own: &Limits| product_tiles(own, own.elem).into_iter().filter(is_double).skip(1).step_by(2).take(2).collect();
    let tiles = table.geometries(Family::CooperativeTiers, double, TileChoice::of_products);
    table.run(Checks::Without);
    for shape in [[1, 15, 4], [65, 66, 36], [65, 66, 132]] {
        check(&mut table, shape, &[Form::BiasLayerScaleResidual], &tiles);
    }
    table.finish();
}

/// As where the driver chooses subgroups of half the size that they may have. Every geometry, because each divides its
/// work among its subgroups in its own way.
#[test]
fn every_tier_of_cooperative_matrices_with_smaller_subgroups() {
    let mut table = Table::new("matmul");
    table.run(Checks::Without);
    let is_cooperative = |tile: &ProductTile| matches!(tile.split, ProductSplit::Cooperative { .. });
    let tiles = |own: &Limits| product_tiles(&for_larger_subgroups(own), own.elem).into_iter().filter(is_cooperative).collect();
    let all = table.geometries(Family::CooperativeTiers, tiles, TileChoice::of_products);
    let all = each(&all, "subgroups of half the size", |own| for_larger_subgroups(&own));
    if all.is_empty() && !table.tiers_of(Family::CooperativeTiers).is_empty() {
        device::say_skipped("no tile fits subgroups of twice the size");
    }
    check(&mut table, [65, 66, 132], &[Form::BiasLayerScaleResidual], &all);
    table.finish();
}

/// Returns the limits with small bindings, and at most 2 workgroups along an axis.
fn force(own: Limits) -> Limits {
    Limits { max_binding: 4 << 10, max_workgroups: 2, ..own }
}

/// Returns the geometries but for the default of these shapes, which all other tests have.
fn geometries(own: &Limits) -> Vec<ProductTile> {
    let mut tiles = product_tiles(own, own.elem);
    let default = product_defaults(own, own.elem).few.narrow.unwrap_or(tiles[0]);
    tiles.retain(|tile| *tile != default);
    tiles
}

/// Checks a family's geometries, each with two of the epilogues. Epilogues do not depend on tiles, so the geometries
/// take turns at them: each has one epilogue with checks over operands by ones, and another without checks over
/// operands by fours.
fn check_geometries(family: Family, operands: Operands) {
    let mut table = Table::new("matmul");
    let all = table.geometries(family, geometries, TileChoice::of_products);
    for turn in 0..FORMS.len() {
        let own: Vec<_> = all.iter().skip(turn).step_by(FORMS.len()).cloned().collect();
        // Rows and weights are cut into pieces that end within a tile.
        let forced = each(&own, "forced", force);
        // The long K is a multiple of every tile's depth, so that no step along K is past its end.
        let (first, checks, shapes, in_pieces) = match operands {
            Operands::ByOnes => (turn, Checks::With, &[[1, 15, 31], [140, 64, 130]][..], [70, 16, 13]),
            Operands::ByFours => (turn + 2, Checks::Without, &[[65, 66, 36], [129, 130, 132], [49, 36, 3072]][..], [70, 150, 20]),
        };
        let form = [FORMS[first % FORMS.len()]];
        table.run(checks);
        for &shape in shapes {
            check(&mut table, shape, &form, &own);
        }
        check(&mut table, in_pieces, &form, &forced);
    }
    table.finish();
}

#[test]
fn every_tile_geometry() {
    check_geometries(Family::Tiled, Operands::ByOnes);
    check_geometries(Family::Tiled, Operands::ByFours);
}

#[test]
fn every_geometry_without_tiles_by_ones() {
    check_geometries(Family::Direct, Operands::ByOnes);
}

#[test]
fn every_geometry_without_tiles_by_fours() {
    check_geometries(Family::Direct, Operands::ByFours);
}

#[test]
fn every_tile_geometry_of_a_tier() {
    check_geometries(Family::TiledTiers, Operands::ByOnes);
    check_geometries(Family::TiledTiers, Operands::ByFours);
}

#[test]
fn every_geometry_of_a_tier_without_tiles_by_ones() {
    check_geometries(Family::DirectTiers, Operands::ByOnes);
}

#[test]
fn every_geometry_of_a_tier_without_tiles_by_fours() {
    check_geometries(Family::DirectTiers, Operands::ByFours);
}

#[test]
fn every_geometry_of_cooperative_matrices() {
    check_geometries(Family::CooperativeTiers, Operands::ByOnes);
    check_geometries(Family::CooperativeTiers, Operands::ByFours);
}

/// Checks one of the two families of variants. Operands by fours run without checks, and operands by ones with checks,
/// because `check_forced` runs each of these shaders both ways.
fn check_edges(variant: usize, operands: Operands) {
    let mut table = Table::new("matmul");
    let variant = [table.variants()[variant]];
    let (depths, checks) = match operands {
        Operands::ByOnes => (&[1, 15, 17][..], Checks::With),
        Operands::ByFours => (&[16, 20][..], Checks::Without),
    };
    table.run(checks);
    for m in [1, 7, 8, 9, 47, 48, 49] {
        for n in [1, 31, 32, 65] {
            for &k in depths {
                check(&mut table, [m, n, k], &[FORMS[(m + n + k) % 4]], &variant);
            }
        }
    }
    if operands == Operands::ByFours {
        check(&mut table, [129, 130, 132], &FORMS, &variant);
    }
    table.finish();
}

#[test]
fn edges_of_tiles_in_every_form() {
    check_edges(0, Operands::ByOnes);
    check_edges(0, Operands::ByFours);
}

#[test]
fn edges_without_tiles_in_every_form_by_ones() {
    check_edges(1, Operands::ByOnes);
}

#[test]
fn edges_without_tiles_in_every_form_by_fours() {
    check_edges(1, Operands::ByFours);
}

#[test]
fn layers_of_a_real_model() {
    let mut table = Table::new("matmul");
    let variants = table.variants();
    check(&mut table, [201, 96, 768], &[Form::BiasLayerScaleResidual], &variants);
    check(&mut table, [66, 130, 3072], &[Form::BiasGelu], &variants);
    check(&mut table, [1029, 64, 128], &[Form::Bias], &variants);
    table.finish();
}

/// Checks one of the two families of variants with lower limits.
fn check_forced(variant: usize, operands: Operands) {
    let mut table = Table::new("matmul");
    // Weights of 20 KiB in bindings of 4 KiB, rows in several pieces, at most 2 workgroups along an axis.
    let forced = [table.forced(4 << 10, 2)[variant]];
    if operands == Operands::ByOnes {
        check(&mut table, [70, 16, 13], &FORMS, &forced);
    } else {
        check(&mut table, [70, 150, 20], &FORMS, &forced);
        let (name, own) = table.variants()[variant];
        check(&mut table, [70, 150, 20], &FORMS, &[(name, Limits { max_work: Some(400_000), ..own })]);
        // fc1 of ViT-B: its weight takes 9.4 MB.
        let forced = [table.forced(8 << 20, 65_535)[variant]];
        check(&mut table, [9, 3072, 768], &[Form::BiasGelu], &forced);
    }
    table.finish();
}

#[test]
fn forced_down_limits_give_the_same_numbers() {
    check_forced(0, Operands::ByOnes);
    check_forced(0, Operands::ByFours);
}

#[test]
fn forced_down_limits_give_the_same_numbers_without_tiles_by_ones() {
    check_forced(1, Operands::ByOnes);
}

#[test]
fn forced_down_limits_give_the_same_numbers_without_tiles_by_fours() {
    check_forced(1, Operands::ByFours);
}

#[test]
fn a_row_that_cannot_be_bound_is_an_error() {
    let table = Table::new("matmul");
    for (variant, limits) in table.forced(1 << 10, 65_535) {
        let data = Data::new(Elem::F32, [2, 3, 300]);
        let problem = data.record(&mut Case::new(limits), Form::None).unwrap_err().to_string();
        assert!(problem.contains("matmul") && problem.contains("1200 bytes") && problem.contains("`backend` cpu"), "{variant}: {problem}");
    }
}
