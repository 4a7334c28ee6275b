// The engines that are compared, each in a page of its own. An engine has `start`, which loads the model, and `tokens`,
// which computes every token after the final norm from the image in memory. Both return when the result is in memory.

const bytes = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());

/** meddino on the GPU or the CPU (one thread), in f32. */
export async function meddino(backend) {
    const { Meddino } = await import("/meddino/meddino.js");
    const [scanFile, weights] = await Promise.all(["scan.npy", "weights.safetensors"].map(async (name) => new File([await (await fetch(`/${name}`)).blob()], name)));
    let engine, scan;
    return {
        async start() {
            const worker = new Meddino();
            scan = await worker.open([{ path: "scan.npy", file: scanFile }]);
            engine = await worker.load({ file: weights }, { backend, rope: "f32" });
            return { adapter: engine.adapter, tier: engine.tier, bytes: engine.weightBytes };
        },
        async tokens() {
            const features = await engine.features(scan, 0, { size: "native" });
            const { cls, storage, patches } = await features.tokens();
            await features.close();
            return [...cls, ...storage, ...patches];
        },
    };
}

/** ONNX Runtime Web with one of its providers, `wasm` or `webgpu`, and `threads` threads. */
export async function onnx(provider, threads) {
    const [graph, image] = await Promise.all([bytes("/model.onnx"), bytes("/image.f32")]);
    const side = Math.sqrt(image.length / 12);
    const data = await bytes("/model.onnx.data");
    let session, ort;
    return {
        async start() {
            ort = await import(`/ort/ort.${provider}.bundle.min.mjs`);
            ort.env.wasm.wasmPaths = "/ort/";
            ort.env.wasm.numThreads = threads;
            const externalData = [{ path: "model.onnx.data", data }];
            session = await ort.InferenceSession.create(graph, { executionProviders: [provider], externalData });
            return { version: ort.env.versions.web, threads: ort.env.wasm.numThreads };
        },
        async tokens() {
            const input = new ort.Tensor("float32", new Float32Array(image.buffer), [1, 3, side, side]);
            const { x } = await session.run({ image: input });
            return [...(await x.getData())];
        },
    };
}
