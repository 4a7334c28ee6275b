// The worker of meddino.js: it has the WebAssembly module, the scans, the models and the features. A message names a
// call and its arguments; the answer has the same number.

import start, { Colours, Engine, Head, Loader, Scan, Weights } from "./wasm/meddino.js";
import { eachShard, hash, readIndex } from "./shards.js";

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

/** The running downloads, by the number of their call. */
const downloads = new Map();

/** Loads a model: `{seeded}`, `{file}`, or `{url}` of an index of shards. */
async function load(source, options, id) {
    if (source.seeded !== undefined) return Engine.load(Weights.seeded(source.seeded), ...options);
    if (source.file !== undefined) {
        const engine = await Engine.load(Weights.file(source.file.name ?? "weights", source.file), ...options);
        engine.identify(await hash(source.file));
        return engine;
    }
    const stop = new AbortController();
    downloads.set(id, stop);
    let loader;
    try {
        const index = await readIndex(source.url, stop.signal);
        loader = await Loader.open(source.url, index.bytes, ...options);
        let uploaded = 0;
        const report = (progress) => postMessage({ id, progress: { ...progress, uploaded } });
        let done = { done: 0, size: index.size, cached: true };
        const upload = async ({ name, sha256 }, content) => {
            await loader.add(name, sha256, new Uint8Array(await content.arrayBuffer()));
            uploaded = loader.bytes();
            report(done);
        };
        await eachShard(index, stop.signal, (progress) => report((done = progress)), upload);
        stop.signal.throwIfAborted();
        const whole = loader;
        loader = undefined;
        return await whole.finish();
    } finally {
        loader?.free();
        downloads.delete(id);
    }
}

/** What the browser tells of its GPU. */
async function adapter() {
    const { vendor, architecture, description } = (await navigator.gpu.requestAdapter())?.info ?? {};
    return description || [vendor, architecture].filter(Boolean).join(" ") || "GPU";
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
    async load({ source, precision, tier, rope }, id) {
        const engine = await load(source, [precision, tier, rope], id);
        return { handle: keep(engine), about: { ...engine.about(), adapter: await adapter() } };
    },
    plannedBytes: ({ model, height, width }) => get(model, "model").plannedBytes(height, width),
    async features({ model, scan, index, size, layers }) {
        const engine = get(model, "model");
        const image = get(scan, "scan").image(index, size);
        const features = await using(engine, () => engine.features(image, Uint32Array.from(layers)));
        return { handle: keep(features), about: features.about() };
    },
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
    cancel: ({ call }) => downloads.get(call)?.abort(),
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
