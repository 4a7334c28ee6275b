// The worker of meddino.js: it has the WebAssembly module, the scans, the models and the features. A message names a
// call and its arguments; the answer has the same number.

import start, { Colours, Engine, Scan, ShardList, Weights } from "./wasm/meddino.js";
import { shards } from "./shards.js";

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

/** The running downloads, by the number of their call. */
const downloads = new Map();

/** Opens weights: `{seeded}`, `{file}`, or `{url}` of an index of shards. */
async function weights(source, id) {
    if (source.seeded !== undefined) return Weights.seeded(source.seeded);
    if (source.file !== undefined) return Weights.file(source.file.name ?? "weights", source.file);
    const stop = new AbortController();
    downloads.set(id, stop);
    try {
        const { name, index, files } = await shards(source.url, stop.signal, (progress) => postMessage({ id, progress }));
        const list = new ShardList(name, index);
        for (const [file, blob] of files) list.add(file, blob);
        return list.finish();
    } finally {
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
        const opened = await weights(source, id);
        const engine = await Engine.load(opened, precision, tier, rope);
        return { handle: keep(engine), about: { ...engine.about(), adapter: await adapter() } };
    },
    plannedBytes: ({ model, height, width }) => get(model, "model").plannedBytes(height, width),
    async features({ model, scan, index, size, layers }) {
        const image = get(scan, "scan").image(index, size);
        const features = await get(model, "model").features(image, Uint32Array.from(layers));
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
    scale: () => Colours.scale(),
    close({ handle }) {
        kept.get(handle)?.free();
        kept.delete(handle);
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
