//! Weights from a seed.

use meddino::vit::config::ModelSize;
use meddino::vit::model::Model;
use meddino::vit::source::ModelSource;

use crate::{ensure, table};

#[test]
fn seeded_weights_are_those_of_the_generator() {
    // (seed, tensor of vit_base, flat index, bits), computed by tests/golden/seeded.py.
    const CASES: [(u64, &str, usize, u32); 28] = [
        (0, "cls_token", 0, 0xBE44_2D14),
        (0, "storage_tokens", 3071, 0x3EC0_4912),
        (0, "mask_token", 5, 0x3ED2_BDD4),
        (0, "patch_embed.proj.weight", 123_456, 0x3BEA_4248),
        (0, "patch_embed.proj.bias", 7, 0x3C96_6180),
        (0, "blocks.0.norm1.weight", 12, 0x3F40_060E),
        (0, "blocks.0.norm1.weight", 13, 0x409B_CF7B),
        (0, "blocks.3.norm2.weight", 110, 0x409B_32E0),
        (0, "norm.weight", 304, 0x4092_705D),
        (0, "norm.bias", 13, 0xBDF1_FEB8),
        (0, "blocks.0.attn.qkv.weight", 1_769_471, 0xBCD0_A040),
        (0, "blocks.11.attn.proj.weight", 1, 0xBCD5_35E0),
        (0, "blocks.4.attn.proj.bias", 767, 0x3D96_1702),
        (0, "blocks.2.mlp.fc1.weight", 3843, 0x3D48_7B70),
        (0, "blocks.2.mlp.fc1.bias", 3071, 0xBDAE_3FB4),
        (0, "blocks.2.mlp.fc2.weight", 5 * 3072, 0x4156_B7E0),
        (0, "blocks.2.mlp.fc2.weight", 5 * 3072 + 3071, 0xC03F_F910),
        (0, "blocks.2.mlp.fc2.weight", 6 * 3072, 0xBB97_5358),
        (0, "blocks.2.mlp.fc2.weight", 321 * 3072 + 17, 0xC111_1634),
        (0, "blocks.2.mlp.fc2.weight", 320 * 3072 + 17, 0xBC40_80C0),
        (0, "blocks.1.mlp.fc2.weight", 5 * 3072, 0xBCB7_678A),
        (0, "blocks.9.ls1.gamma", 0, 0x3E33_F16A),
        (0, "blocks.9.ls2.gamma", 400, 0x3E9C_4546),
        (12_345_678_901_234_567_890, "cls_token", 0, 0x3E63_0FB0),
        (12_345_678_901_234_567_890, "blocks.0.norm1.weight", 13, 0x4064_A06E),
        (12_345_678_901_234_567_890, "blocks.3.norm2.weight", 110, 0x406E_E7FA),
        (12_345_678_901_234_567_890, "norm.bias", 13, 0x3BC1_BB80),
        (12_345_678_901_234_567_890, "blocks.9.ls1.gamma", 0, 0x3E7D_C51A),
    ];
    table(
        &CASES,
        |c| format!("{c:?}"),
        |(seed, name, index, want)| {
            let model = Model::seeded(*seed, ModelSize::Base);
            let found = model.checkpoint().load(name).unwrap().data()[*index];
            ensure(found.to_bits() == *want, || format!("{found} = {:#010X}", found.to_bits()))
        },
    );
    // Checksums of whole tensors: the wrapping sum of bits[i] * (2654435761 i + 1).
    let sums = [
        (0u64, "blocks.2.mlp.fc2.weight", 0xf2e7_bc6a_e280_8a26u64),
        (0, "patch_embed.proj.weight", 0x045c_4dc4_c753_94ae),
        (0, "norm.weight", 0x4165_2fb2_bda3_bfb6),
        (12_345_678_901_234_567_890, "blocks.2.mlp.fc2.weight", 0x2c01_9f4f_8f4a_d614),
    ];
    table(
        &sums,
        |c| format!("{c:?}"),
        |(seed, name, want)| {
            let tensor = Model::seeded(*seed, ModelSize::Base).checkpoint().load(name).unwrap();
            let add = |sum: u64, (v, i): (&f32, u64)| {
                sum.wrapping_add(u64::from(v.to_bits()).wrapping_mul(i.wrapping_mul(2_654_435_761).wrapping_add(1)))
            };
            let found = tensor.data().iter().zip(0u64..).fold(0, add);
            ensure(found == *want, || format!("{found:#x}"))
        },
    );
}

#[test]
fn seeded_sources_are_read_strictly() {
    let cases = [("seeded:0", 85_641_984), ("seeded:18446744073709551615:micro", 149_568), ("seeded:3:tiny", 693_888)];
    table(
        &cases,
        |c| c.0.into(),
        |(source, parameters)| {
            let model = ModelSource::parse(source).and_then(|source| source.open()).map_err(|e| e.to_string())?;
            ensure(model.parameters() == *parameters, || format!("{} parameters", model.parameters()))?;
            ensure(model.warnings().iter().any(|w| w.contains("untrained")), || "no word that it is untrained".into())?;
            ensure(model.checkpoint().source_name() == *source && model.checkpoint().sha256().unwrap().is_none(), || "misnamed".into())
        },
    );
    let bad = ["seeded:", "seeded:-1", "seeded:x", "seeded:0:huge", "seeded:0:", "seeded:18446744073709551616"];
    table(
        &bad,
        |c| (*c).into(),
        |source| {
            let error = ModelSource::parse(source).and_then(|source| source.open()).err().map(|e| e.to_string()).unwrap_or_default();
            ensure(error.contains("expected seeded:N"), || format!("error {error:?}"))
        },
    );
}
