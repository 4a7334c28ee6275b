//! `convert` and `inspect`.

use std::fs;
use std::path::Path;

use crate::desk::Desk;

#[test]
fn a_converted_checkpoint_gives_the_same_features_and_its_hash() {
    let desk = Desk::new();
    assert_eq!(desk.succeed("convert seeded:0:micro -o micro.safetensors"), "micro.safetensors\n");
    desk.succeed("features phantom --size 32 -c seeded:0:micro -o a.safetensors");
    desk.succeed("features phantom --size 32 -c micro.safetensors -o b.safetensors");
    let ((a, _), (b, metadata)) = (desk.read("a.safetensors"), desk.read("b.safetensors"));
    assert!(a == b, "the same weights give the same features");
    let hash = sha256(&desk.path("micro.safetensors"));
    assert_eq!(metadata["checkpoint_sha256"], hash);
    for dtype in ["f16", "bf16"] {
        desk.succeed(&format!("convert seeded:0:micro -o half.safetensors --dtype {dtype}"));
        assert!(desk.succeed("inspect half.safetensors").contains(&format!("(33 {dtype})")));
    }
}

fn sha256(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    format!("{:x}", Sha256::digest(fs::read(path).expect("read")))
}

#[test]
fn inspect_prints_text_and_json() {
    let desk = Desk::new();
    assert!(desk.succeed("inspect seeded:0").contains("85641984"));
    let json: serde_json::Value = serde_json::from_str(&desk.succeed("inspect seeded:5:micro --json")).expect("JSON");
    assert_eq!(json["config"]["embed_dim"], 64);
    assert_eq!(json["config"]["norm_eps"], 1e-6);
    assert_eq!(json["parameters"], 149_568);
}
