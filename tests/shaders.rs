//! Every variant of every shader is valid WGSL, and within what each WebGPU device allows: told by naga, without a device.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use meddino::graph::{Kernel, Limits, Role};
use meddino::kernels::{Epilogue, Heads, Mask, Recorder};

/// Each operation in each of its forms, for rows of `c` elements (a multiple of 4 or not).
fn record(limits: Limits, c: usize) -> Recorder {
    let mut g = Recorder::new(limits);
    let mut tensor = |shape: &[usize]| g.tensor("t", shape, Role::Input);
    let (x, residual, weight, vector) = (tensor(&[2, 5, c]), tensor(&[2, 5, 7]), tensor(&[7, c]), tensor(&[7]));
    let (wide, one, storage, mask) = (tensor(&[c]), tensor(&[1, 1, c]), tensor(&[1, 2, c]), tensor(&[2, 5]));
    let (image, kernel) = (tensor(&[2, 3, 9, 8]), tensor(&[7, 3, 4, 4]));
    let (qkv, table) = (tensor(&[2, 5, 3 * 64]), tensor(&[2, 4, 16]));
    let heads = Heads { q: tensor(&[2, 2, 5, 32]), k: tensor(&[2, 2, 5, 32]), v: tensor(&[2, 2, 5, 32]) };
    let scaled = Epilogue::BiasLayerScaleResidual { bias: vector, gamma: vector, residual };
    for epilogue in [Epilogue::None, Epilogue::Bias(vector), Epilogue::BiasGelu(vector), scaled] {
        g.matmul("matmul", x, weight, epilogue).unwrap();
    }
    g.gelu("gelu", wide).unwrap();
    g.layernorm("layernorm", x, wide, wide, 1e-6).unwrap();
    g.tokens("tokens", x, one, None, None).unwrap();
    g.tokens("tokens", x, one, Some(storage), Some(Mask { mask, token: one })).unwrap();
    g.patch_embed("patch_embed", image, kernel, vector).unwrap();
    for bf16 in [false, true] {
        g.rope("rope", qkv, table, 2, bf16).unwrap();
    }
    g.attention("attention", heads).unwrap();
    g
}

/// The kernels of every form, for a GPU and for a software GPU, by their text.
fn variants() -> BTreeMap<String, Kernel> {
    let software = Limits { software: true, ..Limits::DEFAULT };
    let forms = [Limits::DEFAULT, software].into_iter().flat_map(|limits| [8, 7].map(|c| record(limits, c)));
    forms.flat_map(|g| g.graph().steps().iter().map(|s| (s.kernel.source(), s.kernel.clone())).collect::<Vec<_>>()).collect()
}

#[test]
fn every_variant_is_valid_and_fits_every_device() {
    let mut problems = Vec::new();
    for (source, kernel) in variants() {
        if let Err(problem) = check(&source) {
            problems.push(format!("{} {:?}: {problem}", kernel.name, kernel.constants));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn check(source: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::empty());
    validator.validate(&module).map_err(|e| e.emit_to_string(source))?;
    let [entry] = module.entry_points.as_slice() else { return Err("one entry point is wanted".to_owned()) };
    let invocations: u32 = entry.workgroup_size.iter().product();
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let workgroup = module.global_variables.iter().filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
    let memory: u32 = workgroup.map(|(_, v)| layouter[v.ty].size).sum();
    if entry.name != "main" || invocations > Limits::DEFAULT.max_invocations || memory > Limits::DEFAULT.workgroup_memory {
        return Err(format!("entry {}, {invocations} invocations, {memory} bytes of workgroup memory", entry.name));
    }
    Ok(())
}

#[test]
fn every_wgsl_file_is_part_of_a_variant() {
    let parts: BTreeSet<&str> = variants().values().flat_map(|kernel| kernel.parts.clone()).collect();
    let mut unused = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !parts.contains(std::fs::read_to_string(&path).unwrap().as_str()) {
                unused.push(path);
            }
        }
    }
    assert!(unused.is_empty(), "no variant uses {unused:?}");
}
