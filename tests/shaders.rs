//! naga checks, without a device, that every variant of every shader is valid WGSL and within the limits of every
//! WebGPU device.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use meddino::gpu::REQUIRED;
use meddino::graph::{Constant, Elem, Kernel, Limits, Role, Tier, TileChoice, Tiles};
use meddino::kernels::{
    Columns, Epilogue, Field, Mask, Mosaic, Recorder, Rotation, Values, attention_tiles, default_products, product_tiles, texture_read,
    texture_write,
};
use naga::back::hlsl::ShaderModel;

/// Records each operation in each of its forms, for rows of `c` elements (a multiple of 4 or not). Products have 7 and 8
/// columns.
fn record(limits: Limits, c: usize) -> Recorder {
    let mut g = Recorder::new(limits);
    let mut operand = |shape: &[usize]| g.tensor_of(limits.elem, "t", shape, Role::Input);
    let (x, qkv) = (operand(&[2, 5, c]), operand(&[3 * 64, c]));
    let layers = [7, 8].map(|n| (n, operand(&[n, c])));
    let pixels = operand(&[32, 7]);
    let heads = [(); 3].map(|()| operand(&[2, 2, 5, 32]));
    let mut tensor = |shape: &[usize]| g.tensor("t", shape, Role::Input);
    let (stream, vector) = (tensor(&[2, 5, c]), tensor(&[7]));
    let layers = layers.map(|(n, weight)| (weight, tensor(&[n]), tensor(&[2, 5, n])));
    let (wide, one, storage, mask) = (tensor(&[c]), tensor(&[1, 1, c]), tensor(&[1, 2, c]), tensor(&[2, 5]));
    let (weights, places) = (tensor(&[4, 8]), tensor(&[1, 4]));
    let (rows, long) = (tensor(&[3, 512]), tensor(&[512]));
    let (image, kernel) = (tensor(&[2, 3, 9, 8]), tensor(&[7, 3, 4, 4]));
    let (directions, taps) = (tensor(&[3, c]), tensor(&[2, 5]));
    let (table, qkv_bias) = (tensor(&[2, 4, 16]), tensor(&[3 * 64]));
    for (weight, bias, residual) in layers {
        let scaled = Epilogue::BiasLayerScaleResidual { bias, gamma: bias, residual };
        for epilogue in [Epilogue::None, Epilogue::Bias(bias), Epilogue::BiasGelu(bias), scaled] {
            g.matmul("matmul", x, weight, epilogue).unwrap();
        }
    }
    g.gelu("gelu", wide).unwrap();
    g.layernorm("layernorm", stream, wide, wide, 1e-6).unwrap();
    g.layernorm("layernorm", rows, long, long, 1e-6).unwrap();
    g.layernorm_gelu("layernorm_gelu", x, wide, wide, 1e-6).unwrap();
    let joined = g.joined(limits.elem, "joined", [8, 2 * c]);
    g.layernorm_patches("patches", stream, [wide; 2], 1e-6, &Columns { patches: 0..8, of_each: 4, joined, column: c }).unwrap();
    let sums = g.joined(Elem::F32, "sums", [7, 4, 8]);
    g.mosaic("mosaic", pixels, &(0..2), &Mosaic { sums, weights, places, grid: [1, 2], side: 4 }).unwrap();
    g.tokens("tokens", stream, one, None, None).unwrap();
    g.tokens("tokens", stream, one, Some(storage), Some(Mask { mask, token: one })).unwrap();
    g.patch_embed("patch_embed", image, kernel, vector).unwrap();
    for (tokens, query) in [(stream, wide), (rows, long)] {
        g.similarity("similarity", tokens, query).unwrap();
    }
    g.basis("basis", stream, wide, directions).unwrap();
    g.resize("resize", image, Field { first: 72, height: 9, width: 8, channels: 1 }, [taps; 2], Values::SAME, [1, 1, 2, 2]).unwrap();
    for bf16 in [false, true] {
        for bias in [None, Some(qkv_bias)] {
            g.rope("rope", x, qkv, bias, Rotation { table, heads: 2, bf16 }).unwrap();
        }
    }
    let heads = g.heads("attention", heads);
    g.attention("attention", heads).unwrap();
    g
}

/// `base` with the default tile geometries, and with every other geometry.
fn geometries(base: Limits) -> Vec<Limits> {
    let product = |tile| TileChoice::of_products(tile);
    let attention = |tile| TileChoice::of_attention(tile);
    let products = product_tiles(&base, base.elem).into_iter().map(product);
    let others = products.chain(attention_tiles(&base, 32, base.elem).into_iter().map(attention));
    std::iter::once(base).chain(others.map(|choice| Limits { tiles: Tiles::all(choice), ..base })).collect()
}

/// The kernels of a tier in every form, in f32 and f16, keyed by their source.
fn variants_of(tier: Tier) -> BTreeMap<String, Kernel> {
    let limits = [Elem::F32, Elem::F16].map(|elem| Limits { tier, elem, subgroup_size: 32, ..Limits::DEFAULT });
    let forms = limits.into_iter().flat_map(geometries).flat_map(|limits| [8, 7].map(|c| record(limits, c)));
    let kernels = forms.flat_map(|g| g.graph().steps().iter().map(|s| s.kernel.clone()).collect::<Vec<_>>());
    let copies = [1, 2, 3, 4].map(texture_write).into_iter().chain([texture_read()]);
    kernels.chain(copies).map(|kernel| (kernel.source(), kernel)).collect()
}

/// The kernels of every tier.
fn variants() -> BTreeMap<String, Kernel> {
    Tier::ALL.into_iter().flat_map(variants_of).collect()
}

#[test]
fn every_variant_is_valid_and_fits_every_device() {
    let mut problems = Vec::new();
    for (source, kernel) in variants() {
        for text in [source, kernel.unrolled_source()] {
            if let Err(problem) = check(&text) {
                problems.push(format!("{} {:?}: {problem}", kernel.name, kernel.constants));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A tile is offered to a device with just as much workgroup memory as its kernel takes, and to none with less.
#[test]
fn attention_tiles_know_their_memory() {
    let tiers = [(Tier::Baseline, 0), (Tier::Cooperative8, 8), (Tier::Cooperative16, 32), (Tier::Cooperative16, 64)];
    for ((tier, subgroup_size), elem) in tiers.into_iter().flat_map(|tier| [(tier, Elem::F32), (tier, Elem::F16)]) {
        let roomy = Limits { tier, elem, subgroup_size, workgroup_memory: 1 << 20, max_invocations: 1024, ..Limits::DEFAULT };
        for head_dim in [4, 12, 20, 64, 80, 128, 256] {
            for tile in attention_tiles(&roomy, head_dim, elem) {
                let mut g = Recorder::new(Limits { tiles: Tiles::all(TileChoice::of_attention(tile)), ..roomy });
                let qkv = [(); 3].map(|()| g.tensor_of(elem, "t", [1, 1, 5, head_dim], Role::Input));
                let heads = g.heads("attention", qkv);
                g.attention("attention", heads).unwrap();
                let (module, _) = parsed(&g.graph().steps()[0].kernel.source()).unwrap();
                let memory: u32 = workgroup_variables(&module).map(|(_, size)| size).sum();
                let offered = |memory| attention_tiles(&Limits { workgroup_memory: memory, ..roomy }, head_dim, elem).contains(&tile);
                assert!(offered(memory) && !offered(memory - 1), "{tier}, heads of {head_dim}, {tile}: {memory} bytes");
            }
        }
    }
    for head_dim in [64, 128, 256, 480] {
        assert!(!attention_tiles(&Limits::DEFAULT, head_dim, Elem::F32).is_empty(), "heads of {head_dim} fit every device");
    }
}

/// A marked loop that is not understood would stay a loop, and be slow.
#[test]
fn every_marked_loop_is_unrolled() {
    let all = variants();
    assert!(all.keys().any(|source| source.contains("{ // unroll")), "the mark is another one");
    for kernel in all.values() {
        let text = kernel.unrolled_source();
        let left: Vec<&str> = text.lines().filter(|line| line.contains("// unroll")).collect();
        assert!(left.is_empty(), "{} {:?}: {left:?}", kernel.name, kernel.constants);
    }
}

/// The capabilities that a source may use beyond plain WebGPU: those that it enables, and subgroups.
fn needs(source: &str) -> naga::valid::Capabilities {
    use naga::valid::Capabilities as C;
    [("enable f16;", C::SHADER_FLOAT16), ("enable wgpu_cooperative_matrix;", C::COOPERATIVE_MATRIX), ("subgroup", C::SUBGROUP)]
        .into_iter()
        .filter(|(word, _)| source.contains(word))
        .fold(C::empty(), |capabilities, (_, capability)| capabilities | capability)
}

fn check(source: &str) -> Result<(), String> {
    let (module, _) = parsed(source)?;
    let bound = module.global_variables.iter().filter(|(_, v)| matches!(v.space, naga::AddressSpace::Storage { .. })).count() as u64;
    let required = |name: &str| REQUIRED.iter().find(|r| r.limit == name).expect("it is required").least;
    if bound > required("max_storage_buffers_per_shader_stage") {
        return Err(format!("{bound} storage buffers"));
    }
    let [entry] = module.entry_points.as_slice() else { return Err("one entry point is wanted".to_owned()) };
    let invocations: u32 = entry.workgroup_size.iter().product();
    let memory: u32 = workgroup_variables(&module).map(|(_, size)| size).sum();
    let axes = [required("max_compute_workgroup_size_x"), required("max_compute_workgroup_size_y"), 1];
    if entry.workgroup_size.iter().zip(axes).any(|(&size, limit)| u64::from(size) > limit) {
        return Err(format!("workgroups of {:?}", entry.workgroup_size));
    }
    if entry.name != "main" || invocations > Limits::DEFAULT.max_invocations || memory > Limits::DEFAULT.workgroup_memory {
        return Err(format!("entry {}, {invocations} invocations, {memory} bytes of workgroup memory", entry.name));
    }
    Ok(())
}

/// Matrices are loaded from rows that begin at multiples of 16 bytes. A driver packs workgroup variables one after another,
/// so each must have such a size, or the next begins elsewhere.
#[test]
fn workgroup_variables_beside_matrices_have_multiples_of_16_bytes() {
    let mut odd = Vec::new();
    for (tier, elem) in [
        (Tier::Cooperative8, Elem::F32),
        (Tier::Cooperative8, Elem::F16),
        (Tier::Cooperative16, Elem::F32),
        (Tier::Cooperative16, Elem::F16),
    ] {
        let roomy = Limits { tier, elem, subgroup_size: 32, workgroup_memory: 48 << 10, max_invocations: 1024, ..Limits::DEFAULT };
        let kernels = geometries(roomy).into_iter().flat_map(|limits| {
            let g = record(limits, 8);
            g.graph().steps().iter().map(|step| step.kernel.clone()).filter(has_matrices).collect::<Vec<_>>()
        });
        for kernel in kernels {
            let (module, _) = parsed(&kernel.source()).unwrap();
            odd.extend(
                workgroup_variables(&module)
                    .filter(|(_, size)| !size.is_multiple_of(16))
                    .map(|(name, size)| format!("{tier}, {} {:?}: {name} has {size} bytes", kernel.name, kernel.constants)),
            );
        }
    }
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}

/// The name and the bytes of each variable in workgroup memory.
fn workgroup_variables(module: &naga::Module) -> impl Iterator<Item = (&str, u32)> {
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).expect("types of a valid module have a layout");
    let variables = module.global_variables.iter().filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup);
    variables.map(move |(_, v)| (v.name.as_deref().unwrap_or("?"), layouter[v.ty].size))
}

/// Every kernel that Metal or DX12 can be given is written in their languages. Software GPUs, which DX12 has too, get the
/// text before its loops are unrolled.
#[test]
fn every_kernel_of_a_portable_tier_is_written_for_metal_and_dx12() {
    let mut problems = Vec::new();
    for tier in Tier::ALL.into_iter().filter(|tier| !tier.needs_vulkan()) {
        for (source, kernel) in variants_of(tier) {
            if has_matrices(&kernel) {
                problems.push(format!("{tier}, {}: cooperative matrices are for Vulkan alone", kernel.name));
            }
            for text in [source, kernel.unrolled_source()] {
                let written = [("Metal", to_msl(&text)), ("DX12", to_hlsl(&text, ShaderModel::V6_2, true))];
                let failed = written.into_iter().filter_map(|(api, written)| Some((api, written.err()?)));
                problems
                    .extend(failed.map(|(api, problem)| format!("{tier}, {} for {api}: {problem} {:?}", kernel.name, kernel.constants)));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// DXC compiles what DX12 is given. wgpu takes DXC where its library is found.
#[test]
#[ignore = "needs Microsoft's compilers, which tests/windows/hlsl.sh brings"]
fn kernels_of_portable_tiers_compile_by_dxc() {
    let tiers = Tier::ALL.into_iter().filter(|tier| !tier.needs_vulkan());
    let limits = tiers.flat_map(|tier| [Elem::F32, Elem::F16].map(|elem| Limits { tier, elem, ..Limits::DEFAULT }));
    compile_hlsl("MEDDINO_DXC", limits, ShaderModel::V6_2);
}

/// wgpu takes FXC otherwise, which is part of every Windows and knows neither f16 nor subgroups. Kernels for software GPUs are
/// not tried, because it needs minutes for each.
#[test]
#[ignore = "needs Microsoft's compilers, which tests/windows/hlsl.sh brings"]
fn kernels_of_the_plainest_tier_compile_by_fxc() {
    compile_hlsl("MEDDINO_FXC", [Limits::DEFAULT].into_iter(), ShaderModel::V5_1);
}

/// Compiles the kernels under these limits, with the tiles that they have by default; with every tile if
/// `MEDDINO_HLSL_TILES` is `all`. The command in the variable `compiler` compiles the files *.hlsl of its folder.
fn compile_hlsl(compiler: &str, limits: impl Iterator<Item = Limits>, model: ShaderModel) {
    let all = std::env::var("MEDDINO_HLSL_TILES").is_ok_and(|tiles| tiles == "all");
    let tiles = |base: Limits| {
        let choices = default_products(&base, base.elem).into_iter().map(TileChoice::of_products);
        let default = || choices.map(|choice| Limits { tiles: Tiles::all(choice), ..base }).collect::<Vec<_>>();
        if all { geometries(base) } else { default() }
    };
    // Software GPUs, which take the tier without tiles, get the text before its loops are unrolled.
    let text = |limits: &Limits, kernel: &Kernel| if limits.tier == Tier::Direct { kernel.source() } else { kernel.unrolled_source() };
    let mut texts = BTreeMap::new();
    for (at, limits) in limits.flat_map(|base| tiles(base).into_iter().enumerate()) {
        // K is a multiple of four and of a tile's depth, of four alone, or of neither. Operands by ones do not depend on tiles.
        let mut recorded: Vec<Recorder> =
            [64, 8, 7].into_iter().take(if at == 0 || all { 3 } else { 1 }).map(|c| record(limits, c)).collect();
        recorded.push(record_sizes_of_models(limits));
        for g in recorded {
            texts.extend(g.graph().steps().iter().map(|step| (text(&limits, &step.kernel), step.kernel.name)));
        }
    }
    texts.extend([1, 2, 3, 4].map(texture_write).into_iter().chain([texture_read()]).map(|kernel| (kernel.source(), kernel.name)));
    compile_texts(compiler, &texts, model);
}

/// Patches of 14 and 16 pixels, and heads of 64.
fn record_sizes_of_models(limits: Limits) -> Recorder {
    let mut g = Recorder::new(limits);
    for patch in [14, 16] {
        let image = g.tensor("t", [1, 1, 2 * patch, 2 * patch], Role::Input);
        let (weight, bias) = (g.tensor("t", [8, 3, patch, patch], Role::Input), g.tensor("t", [8], Role::Input));
        g.patch_embed("patch_embed", image, weight, bias).unwrap();
    }
    let qkv = [(); 3].map(|()| g.tensor_of(limits.elem, "t", [1, 2, 5, 64], Role::Input));
    let heads = g.heads("attention", qkv);
    g.attention("attention", heads).unwrap();
    g
}

fn compile_texts(compiler: &str, texts: &BTreeMap<String, &str>, model: ShaderModel) {
    let command = std::env::var(compiler).unwrap_or_else(|_| panic!("{compiler} names no compiler"));
    let mut words = command.split(' ');
    let folder = tempfile::tempdir().unwrap();
    for (number, (text, name)) in texts.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{name}-{number}.hlsl")), to_hlsl(text, model, false).unwrap()).unwrap();
    }
    let mut command = std::process::Command::new(words.next().unwrap());
    let output = command.args(words).current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let all = format!("{0} of {0} files compile", texts.len());
    assert!(output.status.success() && said.contains(&all), "{all} is not what it says:\n{said}");
    println!("{said}");
}

/// The rule of the tiers excludes what naga cannot write for DX12, and nothing else. For Metal naga writes these kernels
/// too, but passes a pointer to a vec4 where `simdgroup_load` wants one to a scalar.
#[test]
fn kernels_with_matrices_are_for_vulkan_alone() {
    for tier in Tier::ALL.into_iter().filter(|tier| tier.needs_vulkan()) {
        let (with, without): (Vec<Kernel>, Vec<Kernel>) = variants_of(tier).into_values().partition(has_matrices);
        assert!(!with.is_empty(), "{tier} has kernels with matrices");
        let written = |kernel: &Kernel| to_hlsl(&kernel.unrolled_source(), ShaderModel::V6_2, true).is_ok();
        assert!(!with.iter().any(written) && without.iter().all(written), "{tier}");
    }
}

fn has_matrices(kernel: &Kernel) -> bool {
    kernel.constants.iter().any(|(_, value)| matches!(value, Constant::Matrix(..)))
}

fn parsed(source: &str) -> Result<(naga::Module, naga::valid::ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), needs(source));
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(source))?;
    Ok((module, info))
}

/// Metal 3.0: what a Mac with macOS 13 runs.
fn to_msl(source: &str) -> Result<String, String> {
    use naga::back::msl;
    let (module, info) = parsed(source)?;
    let options = msl::Options { lang_version: (3, 0), zero_initialize_workgroup_memory: false, ..msl::Options::default() };
    msl::write_string(&module, &info, &options, &msl::PipelineOptions::default()).map(|(text, _)| text).map_err(|e| e.to_string())
}

/// Shader model 6.2 is the first that has f16. Models run without `checks`.
fn to_hlsl(source: &str, shader_model: ShaderModel, checks: bool) -> Result<String, String> {
    use naga::back::hlsl;
    let (module, info) = parsed(source)?;
    let options = hlsl::Options {
        shader_model,
        restrict_indexing: checks,
        force_loop_bounding: checks,
        zero_initialize_workgroup_memory: false,
        ..hlsl::Options::default()
    };
    let (mut text, pipeline) = (String::new(), hlsl::PipelineOptions::default());
    let reflection = hlsl::Writer::new(&mut text, &options, &pipeline).write(&module, &info, None).map_err(|e| e.to_string())?;
    reflection.entry_point_names.into_iter().collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    Ok(text)
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

/// Grids and parameters must not overflow on a device that reports no limits.
#[test]
fn operations_are_counted_without_overflow_at_the_widest_limits() {
    let boundless = Limits { max_binding: u64::MAX, max_buffer: u64::MAX, max_workgroups: u32::MAX, ..Limits::DEFAULT };
    for tier in Tier::ALL {
        let for_tier = |limits| Limits { tier, subgroup_size: 32, ..limits };
        // The largest grids have 2^32 invocations along an axis, or nearly, with workgroups of 8 and of 64 per side.
        let grids = [1 << 26, 1 << 29, u32::MAX].map(|max_workgroups| Limits { max_workgroups, ..boundless });
        for limits in grids.into_iter().chain([Limits { max_work: Some(u64::MAX), ..boundless }]) {
            let [usual, wide] = [Limits::DEFAULT, limits].map(|limits| record(for_tier(limits), 8));
            assert_eq!(usual.graph().steps().len(), wide.graph().steps().len(), "{tier}");
            for (usual, wide) in usual.graph().steps().iter().zip(wide.graph().steps()) {
                let summary = |step: &meddino::graph::Dispatch| (step.label.clone(), step.workgroups, step.params.clone(), step.cost);
                assert_eq!(summary(usual), summary(wide), "{tier}");
            }
        }
    }
}

/// A stage of 2^32 invocations along an axis, the largest possible, is split into pieces and never wraps around.
#[test]
fn a_row_more_than_the_largest_grid_is_two_dispatches() {
    let limits = Limits { max_binding: u64::MAX, max_buffer: u64::MAX, max_workgroups: 1 << 26, ..Limits::DEFAULT };
    let mut g = Recorder::new(limits);
    let x = g.tensor("x", [1, 8], Role::Input);
    let rows = g.tensor("down", [(1 << 29) + 8, 3], Role::Input);
    let cols = g.tensor("across", [1, 3], Role::Input);
    let field = Field { first: 0, height: 1, width: 8, channels: 1 };
    g.resize("resize", x, field, [rows, cols], Values::SAME, [(1 << 29) + 8]).unwrap();
    let grids: Vec<[u32; 3]> = g.graph().steps().iter().map(|step| step.workgroups).collect();
    assert_eq!(grids, [[1, 1 << 26, 1], [1, 1, 1]]);
}
