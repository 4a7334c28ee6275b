//! `tokens`: the class token, the storage tokens, the patches, and the mask token in place of masked patches.

use meddino::graph::Limits;
use meddino::kernels::Mask;
use meddino::{Tensor, cpu};

use crate::cases::{EXACT, Table, noise, wide};

fn check(table: &mut Table, [batch, storage, patches, c]: [usize; 4], masked: bool, limits: Limits) {
    let (cls, storage_tokens, mask_token) = (noise(1, c), noise(2, storage * c), noise(3, c));
    let x = noise(4, batch * patches * c);
    let mask: Vec<f32> = noise(5, batch * patches).iter().map(|&v| f32::from(v > 0.3)).collect();
    let mut want = Vec::new();
    for b in 0..batch {
        want.extend(wide(&cls));
        want.extend(wide(&storage_tokens));
        for p in b * patches..(b + 1) * patches {
            want.extend(wide(if masked && mask[p] > 0.0 { &mask_token } else { &x[p * c..(p + 1) * c] }));
        }
    }
    let tensor = |shape: [usize; 3], values: &[f32]| Tensor::new(shape, values.to_vec());
    let flags: Vec<bool> = mask.iter().map(|&m| m > 0.0).collect();
    let token = tensor([1, 1, c], &mask_token);
    let stored = (storage > 0).then(|| tensor([1, storage, c], &storage_tokens));
    let twin =
        cpu::tokens(&tensor([batch, patches, c], &x), &tensor([1, 1, c], &cls), stored.as_ref(), masked.then_some((&flags[..], &token)));
    table.twin(&format!("{batch} x (1 + {storage} + {patches}) x {c}, masked {masked}"), EXACT, &want, twin.data());
    let name = format!("{batch} x (1 + {storage} + {patches}) x {c}, masked {masked}, bindings of {}", limits.max_binding);
    table.check(&name, limits, EXACT, &want, |case| {
        let x = case.input("patches", &[batch, patches, c], &x);
        let cls = case.input("cls_token", &[1, 1, c], &cls);
        let storage = (storage > 0).then(|| case.input("storage_tokens", &[1, storage, c], &storage_tokens));
        let mask = masked
            .then(|| Mask { mask: case.input("mask", &[batch, patches], &mask), token: case.input("mask_token", &[1, c], &mask_token) });
        Ok(vec![case.recorder.tokens("tokens", x, cls, storage, mask)?])
    });
}

#[test]
fn every_token_has_its_place() {
    let mut table = Table::new("tokens");
    let [(_, own), _] = table.variants();
    for masked in [false, true] {
        for (batch, storage, patches) in [(1, 4, 1), (3, 4, 6), (2, 0, 5), (1, 1, 64)] {
            for c in [1, 3, 4, 64, 65] {
                check(&mut table, [batch, storage, patches, c], masked, own);
            }
        }
        check(&mut table, [1, 4, 196, 768], masked, own);
    }
    table.finish();
}

#[test]
fn forced_down_limits_give_the_same_numbers() {
    let mut table = Table::new("tokens");
    for masked in [false, true] {
        for (binding, workgroups) in [(3 << 10, 64), (5 << 10, 2), (64 << 10, 1)] {
            let [(_, forced), _] = table.forced(binding, workgroups);
            check(&mut table, [3, 4, 17, 64], masked, forced);
            check(&mut table, [3, 4, 17, 20], masked, forced);
        }
    }
    table.finish();
}
