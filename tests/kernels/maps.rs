//! `similarity` and `basis`.

use meddino::Tensor;
use meddino::graph::Limits;
use meddino::maps::{Moments, cosine};

use crate::cases::{Table, Tolerance, ULP, noise};

fn check_similarity(table: &mut Table, limits: Limits, rows: usize, c: usize) {
    // The lengths of the tokens differ by orders of magnitude. One token is zero, one is the query, one is its
    // opposite.
    let mut x: Vec<f32> = noise(1, rows * c).iter().enumerate().map(|(i, v)| v * [1.0, 1e-3, 30.0][i / c % 3]).collect();
    let query = noise(2, c);
    for (row, factor) in [(1, 0.0), (2, 1.0), (3, -2.0)] {
        if let Some(token) = x.chunks_exact_mut(c).nth(row) {
            token.iter_mut().zip(&query).for_each(|(v, q)| *v = factor * q);
        }
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let length = |a: &[f32]| dot(a, a).sqrt().max(1e-8);
    let want: Vec<f64> = x.chunks_exact(c).map(|token| dot(token, &query) / (length(token) * length(&query))).collect();
    let tolerance = Tolerance { atol: 1.5e-7 * (1.0 + c as f64 / 256.0).sqrt(), rtol: 3e-7, l2: 4e-7 };
    // WGSL allows inverseSqrt 2 units in the last place and a division 2.5. sqrt(x) is 1 / inverseSqrt(x), so the two
    // square roots may be off by 4.5 each, their product by 0.5, and the last division by 2.5: 12 in all. The sum of
    // products is rounded as if the cosine were 1, however small it is, so by half a unit of 1.
    let units = 12.0 * ULP;
    let size = want.iter().map(|v| v * v).sum::<f64>().sqrt() / (rows as f64).sqrt();
    let on_device = Tolerance { rtol: units, l2: units + ULP / 2.0 / size, ..tolerance };
    table.twin(&format!("{rows} x {c}"), tolerance, &want, cosine(&Tensor::new([rows, c], x.clone()), &query).data());
    let name = format!("{}, {rows} x {c}, bindings of {}", limits.tier, limits.max_binding);
    table.check(&name, limits, on_device, &want, |case| {
        let (x, query) = (case.input("x", &[1, rows, c], &x), case.input("query", &[c], &query));
        Ok(vec![case.recorder.similarity("similarity", x, query)?])
    });
}

#[test]
fn similarity_of_tokens_of_any_width() {
    let mut table = Table::new("similarity");
    for (_, own) in table.variants() {
        for c in [1, 4, 5, 63, 64, 65, 252, 256, 512, 516, 768] {
            for rows in [1, 5, 67] {
                check_similarity(&mut table, own, rows, c);
            }
        }
        check_similarity(&mut table, own, 201, 768);
        check_similarity(&mut table, own, 1029, 128);
        check_similarity(&mut table, Limits { max_work: Some(50_000), ..own }, 201, 68);
    }
    for (_, tier) in table.tiers() {
        for c in [4, 65, 256, 768] {
            check_similarity(&mut table, tier, 67, c);
        }
    }
    for (_, forced) in table.forced(32 << 10, 64) {
        for c in [65, 20, 128] {
            check_similarity(&mut table, forced, 331, c);
        }
    }
    table.finish();
}

fn check_basis(table: &mut Table, limits: Limits, rows: usize, c: usize, components: usize) {
    let x: Vec<f32> = noise(1, rows * c).iter().map(|v| 2.0 + v).collect();
    let (mean, directions) = (noise(2, c), noise(3, components * c));
    let score = |token: &[f32], direction: &[f32]| -> f64 {
        token.iter().zip(&mean).zip(direction).map(|((&t, &m), &d)| (f64::from(t) - f64::from(m)) * f64::from(d)).sum()
    };
    let want: Vec<f64> = x.chunks_exact(c).flat_map(|t| directions.chunks_exact(c).map(move |d| score(t, d)).collect::<Vec<_>>()).collect();
    let sums = Tolerance::of_sums(c, c.max(64));
    let tolerance = Tolerance { atol: 4.0 * sums.atol, l2: 2.0 * sums.l2, ..sums };
    let name = format!("{}, {rows} x {c} to {components}, bindings of {}", limits.tier, limits.max_binding);
    table.check(&name, limits, tolerance, &want, |case| {
        let (x, mean) = (case.input("x", &[1, rows, c], &x), case.input("mean", &[c], &mean));
        let directions = case.input("directions", &[components, c], &directions);
        Ok(vec![case.recorder.basis("basis", x, mean, directions)?])
    });
}

#[test]
fn scores_along_any_number_of_directions() {
    let mut table = Table::new("basis");
    for (_, own) in table.variants() {
        for c in [1, 4, 5, 63, 64, 65, 256, 512, 516, 768] {
            for components in [1, 2, 3, 4] {
                check_basis(&mut table, own, 5, c, components);
            }
            check_basis(&mut table, own, 67, c, 3);
        }
        check_basis(&mut table, own, 201, 768, 3);
        check_basis(&mut table, Limits { max_work: Some(50_000), ..own }, 201, 68, 3);
    }
    for (_, tier) in table.tiers() {
        for c in [4, 65, 256, 768] {
            check_basis(&mut table, tier, 67, c, 3);
        }
    }
    for (_, forced) in table.forced(32 << 10, 64) {
        for c in [65, 20, 128] {
            check_basis(&mut table, forced, 331, c, 3);
        }
    }
    table.finish();
}

/// The kernel's scores on a fitted basis are the CPU's.
#[test]
fn whitened_scores_are_those_of_the_fitted_basis() {
    let mut table = Table::new("basis");
    let [(_, own), _] = table.variants();
    let (rows, c) = (150, 68);
    let mut tokens = noise(4, rows * c);
    tokens.chunks_exact_mut(c).enumerate().for_each(|(i, token)| token[3] += (i % 7) as f32);
    let tokens = Tensor::new([rows, c], tokens);
    let mut moments = Moments::new(c);
    moments.add(&tokens);
    let basis = moments.basis().expect("directions");
    let mut want = Vec::new();
    for token in tokens.data().chunks_exact(c) {
        for (direction, variance) in basis.components().data().chunks_exact(c).zip(basis.variance().data()) {
            let terms = token.iter().zip(basis.mean().data()).zip(direction);
            let along: f64 = terms.map(|((&t, &m), &d)| (f64::from(t) - f64::from(m)) * f64::from(d)).sum();
            want.push(along / f64::from(*variance).sqrt());
        }
    }
    let tolerance = Tolerance { atol: 1e-6, rtol: 1e-6, l2: 5e-7 };
    table.twin("fitted", tolerance, &want, basis.scores(&tokens).data());
    table.check("fitted", own, tolerance, &want, |case| {
        let x = case.input("x", &[rows, c], tokens.data());
        let mean = case.input("mean", &[c], basis.mean().data());
        let directions = case.input("directions", &[3, c], basis.whitened().data());
        Ok(vec![case.recorder.basis("basis", x, mean, directions)?])
    });
    table.finish();
}
