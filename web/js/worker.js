// The worker of meddino.js: it has the WebAssembly module, the scans, the models and the features. A message names a
// call and its arguments; the answer has the same number.

import start, { Colours, Engine, Head, Loader, Scan, ShardFiles, Weights, sha256Of } from "./wasm/meddino.js";
import { missing, ofAdapter } from "./gpu.js";
import { eachShard, readIndex } from "./shards.js";

/** Objects of the module by the number that the page knows them by. */
const kept = new Map();
let next = 1;

function keep(object) {
    kept.set(next, object);
    return next++;
}

function get(handle, what) {
    const object = kept.get(handle);
    if (!object) throw new Error(`this ${what} was closed`);
    return object;
}

/** The work that still uses an object. */
const uses = new Map();

/** Runs `work` on an object of the module, which is not freed before the work ends. */
async function using(object, work) {
    const running = work(object);
    const others = uses.get(object) ?? new Set();
    uses.set(object, others.add(running));
    try {
        return await running;
    } finally {
        others.delete(running);
        if (others.size === 0) uses.delete(object);
    }
}

/** The last pass of each model on the CPU. */
const passes = new Map();

/** Runs `work` after the passes before it: side by side, each would take as long as all, and all their memory. */
function inOrder(engine, work) {
    const running = (passes.get(engine) ?? Promise.resolve()).then(work);
    const settled = running.then(() => {}, () => {});
    passes.set(engine, settled);
    settled.then(() => passes.get(engine) === settled && passes.delete(engine));
    return running;
}

/** What ends the running calls, by their numbers. */
const stops = new Map();

/** Runs `work` with a signal that is aborted when the call of this number is cancelled. */
async function stoppable(id, work) {
    const stop = new AbortController();
    stops.set(id, stop);
    try {
        return await work(stop.signal);
    } finally {
        stops.delete(id);
    }
}

/** Lets messages that have arrived have their turn. */
const turn = () =>
    new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => (port1.close(), resolve());
        port2.postMessage(undefined);
    });

/**
 * Loads a model on the backend that is asked for, `gpu` or `cpu`. With `auto`, that is the GPU, if there is one that is no
 * software and that takes the model; else the CPU. Returns the model, and why the CPU was taken.
 */
async function load(source, backend, options, id, signal) {
    if (!["auto", "gpu", "cpu"].includes(backend)) throw Object.assign(new Error(`backend: '${backend}' is none of auto, gpu, cpu`), { kind: "option" });
    if (backend !== "auto") return { engine: await loadOn(backend, source, options, id, signal) };
    let why = await missing();
    if (!why) {
        try {
            return { engine: await after(await loadOn("gpu", source, options, id, signal), (engine) => engine.tryOut()) };
        } catch (error) {
            if (error.kind !== "gpu" || error.failure === "Misuse") throw error;
            why = `The GPU is not used: ${error.message}`;
        }
    }
    try {
        return { engine: await loadOn("cpu", source, options, id, signal), why };
    } catch (error) {
        // Options that only a GPU has.
        if (error.kind === "option") error.message += `. ${why}`;
        throw error;
    }
}

/** Returns a model after `work` on it; if that fails, the model is freed. */
async function after(engine, work) {
    try {
        await work(engine);
        return engine;
    } catch (error) {
        engine.free();
        throw error;
    }
}

/** Loads a model: `{seeded}`, `{file}`, or `{url}` of an index of shards. */
async function loadOn(backend, source, options, id, signal) {
    const opened = (weights) => (backend === "gpu" ? Engine.load(weights, ...options) : Engine.onCpu(weights, ...options));
    if (source.seeded !== undefined) return opened(Weights.seeded(source.seeded));
    if (source.file !== undefined) {
        const name = source.file.name ?? "weights";
        return after(await opened(Weights.file(name, source.file)), (engine) => engine.identify(sha256Of(name, source.file)));
    }
    const index = await readIndex(source.url, signal);
    let shards = await (backend === "gpu" ? Loader.open(source.url, index.bytes, ...options) : ShardFiles.open(source.url, index.bytes));
    try {
        let uploaded = 0;
        const report = (progress) => postMessage({ id, progress: { ...progress, uploaded } });
        let done = { done: 0, size: index.size, cached: true };
        const take = async ({ name, sha256 }, content) => {
            if (backend === "cpu") return shards.add(name, sha256, content);
            await shards.add(name, sha256, new Uint8Array(await content.arrayBuffer()));
            uploaded = shards.bytes();
            report(done);
        };
        await eachShard(index, signal, (progress) => report((done = progress)), take);
        signal.throwIfAborted();
        const whole = shards;
        shards = undefined;
        return await (backend === "gpu" ? whole.finish() : opened(whole.finish()));
    } finally {
        shards?.free();
    }
}

const calls = {
    open({ name, paths, blobs, series, orient }) {
        const scan = Scan.open(name, paths, blobs, series, orient);
        return { handle: keep(scan), about: scan.about() };
    },
    phantom() {
        const scan = Scan.phantom();
        return { handle: keep(scan), about: scan.about() };
    },
    slice: ({ scan, index }) => get(scan, "scan").slice(index),
    async load({ source, backend = "auto", precision, tier, rope }, id) {
        const { engine, why } = await stoppable(id, (signal) => load(source, backend, [precision, tier, rope], id, signal));
        const about = engine.about();
        const adapter = about.backend === "gpu" ? ofAdapter(await navigator.gpu.requestAdapter().catch(() => null)) : about.device;
        return { handle: keep(engine), about: { ...about, adapter, why } };
    },
    plannedBytes: ({ model, height, width }) => get(model, "model").plannedBytes(height, width) ?? null,
    features: ({ model, scan, index, size, layers }, id) => stoppable(id, async (signal) => {
        const engine = get(model, "model");
        // On the CPU a pass has the worker to itself: other calls have their turn between two blocks of the model.
        const pause = () => turn().then(() => !signal.aborted);
        const pass = () => {
            signal.throwIfAborted();
            return engine.features(get(scan, "scan").image(index, size), Uint32Array.from(layers), pause);
        };
        const features = await using(engine, () => (engine.about().backend === "cpu" ? inOrder(engine, pass) : pass()));
        return { handle: keep(features), about: features.about() };
    }),
    tokens({ features }) {
        const of = get(features, "set of features");
        return { cls: of.cls(), storage: of.storage(), patches: of.patches() };
    },
    layer: ({ features, index }) => get(features, "set of features").layer(index),
    patchAt: ({ features, x, y }) => get(features, "set of features").patchAt(x, y) ?? null,
    token: ({ features, patch }) => get(features, "set of features").token(patch),
    similarity: ({ features, token }) => get(features, "set of features").similarity(token),
    safetensors: ({ features, metadata }) => get(features, "set of features").safetensors(Object.entries(metadata).flat().map(String)),
    colours: ({ features }) => ({ handle: keep(Colours.of(get(features, "set of features"))) }),
    scores: ({ colours, features }) => get(colours, "set of colours").scores(get(features, "set of features")),
    paint: ({ colours, features }) => get(colours, "set of colours").paint(get(features, "set of features")),
    head({ name, file }) {
        const head = Head.open(name, file);
        return { handle: keep(head), about: head.about() };
    },
    labels: ({ head, features }) => get(head, "head").labels(get(features, "set of features")),
    labelMap: ({ scan }) => ({ handle: keep(get(scan, "scan").labelMap()) }),
    putLabels: ({ map, index, labels }) => get(map, "label map").put(index, labels),
    nifti: ({ map }) => get(map, "label map").nifti(),
    scale: () => Colours.scale(),
    async close({ handle }) {
        const object = kept.get(handle);
        kept.delete(handle);
        await Promise.allSettled([...(uses.get(object) ?? [])]);
        object?.free();
    },
    loseDevice: ({ model }) => get(model, "model").loseDevice(),
    cancel: ({ call }) => stops.get(call)?.abort(),
    memory: () => module.memory.buffer.byteLength,
};

/** The buffers in an answer, which are handed over instead of copied. */
function buffers(answer) {
    const values = ArrayBuffer.isView(answer) ? [answer] : Object.values(answer ?? {});
    return values.filter(ArrayBuffer.isView).map((view) => view.buffer);
}

let module;
const ready = start().then((started) => (module = started));

onmessage = async ({ data: { id, call, args } }) => {
    try {
        await ready;
        const answer = await calls[call](args, id);
        postMessage({ id, answer }, buffers(answer));
    } catch (error) {
        // A module that trapped is in no state to go on.
        const broken = error instanceof WebAssembly.RuntimeError;
        const message = broken ? `the program gave up, on a damaged file or for want of memory (${error.message})` : error.message;
        const { kind = broken ? "broken" : error.name === "AbortError" ? "cancelled" : "error", failure } = error;
        postMessage({ id, error: { message, kind, failure }, broken });
    }
};
