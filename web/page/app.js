// The page: opens scans and weights, and shows a slice with what the model sees in it.

import { Meddino } from "./meddino/meddino.js";
import { dropped, isHead, save } from "./files.js";
import { PRESETS, Picture } from "./picture.js";
import { Volume } from "./volume.js";

const $ = (id) => document.getElementById(id);
const picture = new Picture($("picture"));

/**
 * What is open now. `opened` opens the scan again, and `source` are the weights, to load them again. `opening` and
 * `loading` are the last that were asked for. `headFile` is the file of the head.
 */
const now = { meddino: new Meddino(), scan: undefined, opened: undefined, opening: undefined, index: 0, model: undefined, source: undefined, loading: undefined, volume: undefined, head: undefined, headFile: undefined, mode: "nothing" };
/** The scale of a map's values, the colours that slices share, the token that is held, and where the mouse is. */
const over = { scale: undefined, colours: undefined, held: undefined, place: undefined };

function notice(text) {
    const item = document.createElement("li");
    const close = Object.assign(document.createElement("button"), { textContent: "×", title: "close", onclick: () => item.remove() });
    item.append(Object.assign(document.createElement("span"), { textContent: text }), close);
    $("notices").append(item);
}

/** Shows an error, and gets over a worker or a device that is gone. */
async function failed(error) {
    if (error.kind === "cancelled") return;
    notice(error.message);
    const isBroken = error.kind === "broken" && now.meddino.ended;
    const isLost = error.failure === "Lost" && now.model;
    // Several calls fail together; the first of them does this for all.
    if (!isBroken && !isLost) return;
    // What fails twice is not tried a third time.
    if (failed.recovering) return isBroken && blank();
    failed.recovering = true;
    try {
        await (isBroken ? restart() : reload());
    } catch (again) {
        if (again.kind !== "cancelled") notice(again.message);
        if (now.meddino.ended) blank();
    } finally {
        failed.recovering = false;
    }
}

/** Shows an empty page with a new worker. */
function blank() {
    now.meddino.close();
    Object.assign(now, { meddino: new Meddino(), scan: undefined, opening: undefined, model: undefined, loading: undefined, volume: undefined, head: undefined });
    Object.assign(over, { scale: undefined, colours: undefined, held: undefined });
    picture.clear();
    state("no weights");
    for (const id of ["slice", "whole", "save-features", "save-picture", "save-labels"]) $(id).disabled = true;
    $("picture").hidden = true;
    $("welcome").hidden = false;
    for (const id of ["scan-name", "scan-size", "slice-said"]) $(id).textContent = "";
    $("badge").replaceChildren();
}

/** Replaces a worker that gave up, and opens the scan and the weights that were in it again. */
async function restart() {
    const { scan, opened, index, model, source, head, headFile } = now;
    blank();
    if (head) await openHead(headFile);
    if (scan) await openScan(opened, index);
    if (model) await load(...source);
}

/** Loads the weights again, onto another device. */
async function reload() {
    now.volume?.close();
    now.model.close();
    now.model = now.volume = undefined;
    await load(...now.source);
}

const guarded = (work) => async (...args) => {
    try {
        return await work(...args);
    } catch (error) {
        await failed(error);
    }
};

const state = (text) => ($("state").textContent = text);

// Scans.

const open = guarded((files) => openScan(() => now.meddino.open(files)));
const phantom = guarded(() => openScan(() => now.meddino.phantom()));

/** Shows slice `index` of the scan that `opened` returns, or the one in the middle. */
async function openScan(opened, index) {
    now.opening = opened;
    const scan = await opened();
    // The user may have opened another one meanwhile.
    if (now.opening !== opened) return scan.close();
    now.volume?.close();
    now.scan?.close();
    Object.assign(now, { scan, opened, index: index ?? Math.floor((scan.slices - 1) / 2), volume: undefined });
    over.held = over.colours = picture.mark = undefined;
    picture.lay(undefined);
    scan.warnings.forEach(notice);
    $("scan-name").textContent = scan.name;
    $("scan-size").textContent = `${scan.slices} x ${scan.height} x ${scan.width}`;
    $("slice").max = scan.slices;
    $("slice").disabled = scan.slices === 1;
    $("welcome").hidden = true;
    $("picture").hidden = false;
    $("picture").focus();
    $("save-picture").disabled = false;
    prepare();
    await turned(now.index);
}

/** Shows slice `index`; slices that are passed on the way to another are not read. */
async function turned(index) {
    if (!now.scan) return;
    now.index = Math.min(Math.max(index, 0), now.scan.slices - 1);
    $("slice").value = now.index + 1;
    $("slice-said").textContent = `${now.index + 1} / ${now.scan.slices}`;
    if (now.volume) now.volume.center = now.index;
    if (turned.running) return;
    turned.running = true;
    try {
        for (let shown = {}; now.scan && (shown.scan !== now.scan || shown.index !== now.index); ) {
            shown = { scan: now.scan, index: now.index };
            const hu = await slice(shown);
            if (!hu || shown.scan !== now.scan) continue;
            const { height, width, spacing } = shown.scan;
            picture.map = undefined;
            picture.show({ hu, height, width, spacing });
        }
    } finally {
        turned.running = false;
    }
    await laid();
}
const turn = guarded(turned);

/** Reads a slice. Where it cannot be read, no other slice stays in its place. */
async function slice({ scan, index }) {
    try {
        return await scan.slice(index);
    } catch (error) {
        // The scan was closed for another one.
        if (scan !== now.scan) return undefined;
        picture.clear();
        throw error;
    }
}

// Weights.

async function load(source, options) {
    now.loading?.abort();
    const stop = (now.loading = new AbortController());
    $("stop-download").onclick = () => stop.abort();
    state("loading the model");
    const onProgress = ({ done, size }) => {
        if (now.loading !== stop) return;
        $("download").hidden = $("stop-download").hidden = false;
        $("download").value = done / size;
        $("download-said").textContent = `${(done / 1e6).toFixed(1)} of ${(size / 1e6).toFixed(1)} MB`;
    };
    try {
        const model = await now.meddino.load(source, { ...options, onProgress, signal: stop.signal });
        // The user may have chosen others meanwhile.
        if (now.loading !== stop) return model.close();
        now.volume?.close();
        now.model?.close();
        Object.assign(now, { volume: undefined, model, source: [source, options] });
        over.scale ??= await now.meddino.scale();
    } catch (error) {
        if (now.loading === stop) state(now.model ? "" : "no weights");
        throw error;
    } finally {
        if (now.loading === stop) $("download").hidden = $("stop-download").hidden = true;
    }
    over.held = over.colours = picture.mark = undefined;
    badge(now.model);
    prepare();
    await laid();
}

const use = guarded((source) => load(source, { backend: $("backend").value, precision: $("precision").value }));

/** Shows what computes. */
function badge(model) {
    const line = (text) => Object.assign(document.createElement("p"), { textContent: text });
    const mega = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
    const weights = `${model.weights}: ${(model.parameters / 1e6).toFixed(1)} million parameters`;
    const lines = model.backend === "gpu" ? ofGpu(model, mega) : [`${model.adapter} · ${model.precision}`, `${mega(model.weightBytes)} of memory for the weights`];
    $("badge").replaceChildren(...[weights, ...lines, ...(model.why ? [model.why] : []), ...model.warnings].map(line));
}

/** What the GPU is, and what it could not have. */
function ofGpu({ adapter, tier, precision, weightBytes, maxBinding, abilities }, mega) {
    const whole = maxBinding > 128 * 2 ** 20 ? `the GPU binds ${mega(maxBinding)} at once` : "default limits: 128 MiB at once, larger work is split";
    const without = ["f16", "subgroups"].filter((ability) => !abilities.includes(ability));
    const lacking = without.length > 0 ? [`without ${without.join(" and ")}, which this browser does not give for this GPU`] : [];
    return [`${adapter} · ${tier} · ${precision}`, `${mega(weightBytes)} of GPU memory for the weights; ${whole}`, ...lacking];
}

// Features.

/** Makes ready for the features of this scan with this model. */
function prepare() {
    now.volume?.close();
    now.volume = now.scan && now.model ? new Volume(now.scan, now.model, $("size").value) : undefined;
    if (now.volume) now.volume.center = now.index;
    over.colours = undefined;
    $("whole").disabled = $("save-features").disabled = !now.volume;
    $("save-labels").disabled = !now.volume || !now.head;
    if (now.model) state(now.volume ? "this slice: not yet" : "no scan");
}

/** Computes this slice's map, and lays it over the slice. */
async function laid() {
    const { volume, index, mode } = now;
    if (!volume || !picture.slice) return;
    const isNow = () => volume === now.volume && index === now.index && mode === now.mode;
    volume.only(index);
    if (!volume.has(index)) state(`slice ${index + 1}: computing`);
    let layer;
    try {
        const features = await volume.features(index);
        layer = isNow() ? await map(features, mode) : undefined;
    } catch (error) {
        // What was closed for something else is no error; a worker or a device that is gone is one.
        if (volume === now.volume || error.kind !== "error") throw error;
    }
    if (!isNow()) return;
    picture.lay(layer);
    state(`this slice: done; ${volume.count} of ${now.scan.slices} slices kept`);
    $("picture").dataset.laid = `${mode} ${index}`;
}
const lay = guarded(laid);

/** What is laid over the slice, or nothing: the colours of each patch, or of each pixel's label. */
async function map(features, mode) {
    $("scale").hidden = mode !== "similarity";
    $("scale-said").textContent = "";
    if (mode === "labels") {
        if (!now.head) return undefined;
        const { height, width } = now.scan;
        return { pixels: labelled(await now.head.labelsOf(features)), rows: height, cols: width, covered: [height, width], sharp: true };
    }
    const pixels = await patches(features, mode);
    return pixels && { pixels, rows: features.rows, cols: features.cols, covered: features.covered };
}

/** The colours of each patch, or nothing. */
async function patches(features, mode) {
    if (mode === "components") {
        if (!over.colours || !$("share").checked) {
            over.colours?.close();
            over.colours = await features.colours();
        }
        return opaque(await over.colours.paint(features), (i) => 3 * i, features.rows * features.cols);
    }
    if (mode !== "similarity") return undefined;
    const token = over.held ?? (await under(features));
    if (!token) {
        $("scale-said").textContent = "move the mouse over the slice";
        return undefined;
    }
    const values = await features.similarity(token);
    const [low, high] = values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
    $("scale-said").textContent = `cosine ${low.toFixed(2)} to ${high.toFixed(2)}`;
    const step = (v) => (high > low ? Math.round(((v - low) / (high - low)) * 255) : 128);
    $("scale").getContext("2d").putImageData(new ImageData(opaque(over.scale, (i) => 3 * i, 256), 256, 1), 0, 0);
    return opaque(over.scale, (i) => 3 * step(values[i]), values.length);
}

/** The colours of labels, RGBA; label 0 is transparent. */
function labelled(labels) {
    const colours = new Map(now.head.labels.map((label, i) => [label, now.head.colours[i]]));
    const pixels = new Uint8ClampedArray(4 * labels.length);
    labels.forEach((label, i) => label > 0 && pixels.set([...colours.get(label), 255], 4 * i));
    return pixels;
}

/** The token of the patch under the mouse. */
async function under(features) {
    if (!over.place) return undefined;
    const patch = await features.patchAt(...over.place);
    return patch === null ? undefined : features.token(patch);
}

function opaque(colours, at, count) {
    const pixels = new Uint8ClampedArray(4 * count).fill(255);
    for (let i = 0; i < count; i++) pixels.set(colours.subarray(at(i), at(i) + 3), 4 * i);
    return pixels;
}

const whole = guarded(async () => {
    const { volume } = now;
    const bar = $("volume");
    bar.hidden = $("stop").hidden = false;
    $("whole").disabled = true;
    try {
        let computed = 0;
        const why = await volume.whole((done) => {
            computed = done;
            bar.value = done / volume.scan.slices;
            state(`volume: ${done} of ${volume.scan.slices}`);
        });
        if (why && volume === now.volume) state(`volume: ${computed} of ${volume.scan.slices}, ${why}`);
    } finally {
        bar.hidden = $("stop").hidden = true;
        $("whole").disabled = !now.volume;
    }
});

// Labels.

/** Opens a head, and prepares slices as those that it was fitted to. */
async function openHead(file) {
    const head = await now.meddino.head(file);
    now.head?.close();
    Object.assign(now, { head, headFile: file });
    if (![...$("size").options].some(({ value }) => value === head.size)) $("size").add(new Option(head.size));
    $("size").value = head.size;
    $("head-said").textContent = `${head.name}: labels ${head.labels.join(", ")}; images of ${head.size}`;
    document.querySelector("input[name=mode][value=labels]").disabled = false;
    prepare();
}

const useHead = guarded(async (file) => {
    await openHead(file);
    await choose("labels");
});

/** Labels every slice, and saves the map on the grid of the scan's file. */
const saveLabels = guarded(async () => {
    const { scan, model, head, volume } = now;
    const map = await scan.labelMap();
    const bar = $("volume");
    const stop = (saveLabels.stop = new AbortController());
    bar.hidden = $("stop").hidden = false;
    $("save-labels").disabled = true;
    try {
        for (let index = 0; index < scan.slices; index++) {
            if (stop.signal.aborted || volume !== now.volume) return state("no labels were saved: stopped");
            // Features that are kept stay; others go when their slice has its labels.
            const isKept = volume.has(index);
            const features = await (isKept ? volume.features(index) : model.features(scan, index, { size: volume.size, signal: stop.signal }));
            await map.put(index, await head.labelsOf(features));
            if (!isKept) features.close();
            bar.value = (index + 1) / scan.slices;
            state(`labels: ${index + 1} of ${scan.slices}`);
        }
        const packed = new Blob([await map.nifti()]).stream().pipeThrough(new CompressionStream("gzip"));
        save(`${stem(scan.name)}_labels.nii.gz`, await new Response(packed).blob());
    } catch (error) {
        if (!stop.signal.aborted) throw error;
        state("no labels were saved: stopped");
    } finally {
        map.close();
        bar.hidden = $("stop").hidden = true;
        $("save-labels").disabled = !now.volume || !now.head;
    }
});

// The mouse and the keys.

/** Runs `work` with the last of what arrives while it runs. */
function latest(work) {
    let [running, waits] = [false, false];
    return async () => {
        waits = true;
        if (running) return;
        running = true;
        for (; waits; ) {
            waits = false;
            await work();
        }
        running = false;
    };
}

const follow = latest(lay);

function point(event) {
    over.place = picture.at(event);
    if (!over.place) return;
    const [x, y] = over.place;
    $("place").textContent = `x ${Math.floor(x)}  y ${Math.floor(y)}  ${picture.hu(over.place).toFixed(0)} HU`;
    if (now.mode === "similarity" && !over.held) follow();
}

$("picture").addEventListener("pointermove", (event) => {
    if (event.buttons & 2) {
        picture.adjust(event.movementX, event.movementY);
        windowed();
    } else point(event);
});
$("picture").addEventListener("contextmenu", (event) => event.preventDefault());
$("picture").addEventListener("click", guarded(async (event) => {
    point(event);
    if (!over.place || !now.volume) return;
    if (now.mode !== "similarity") choose("similarity");
    const isHeld = over.held !== undefined;
    over.held = isHeld ? undefined : await under(await now.volume.features(now.index));
    picture.mark = over.held && over.place;
    await lay();
    picture.draw();
}));
$("picture").addEventListener("wheel", (event) => {
    event.preventDefault();
    // A notch of a wheel is one slice; a touch pad gives many small steps.
    wheel.sum += event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? event.deltaY / 100 : event.deltaY / 3;
    const by = Math.trunc(wheel.sum);
    wheel.sum -= by;
    if (by !== 0) turn(now.index + by);
}, { passive: false });
const wheel = { sum: 0 };

addEventListener("keydown", (event) => {
    if (/^(INPUT|SELECT)$/.test(event.target.tagName) && event.target.type !== "radio") return;
    const by = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key];
    if (by !== undefined) {
        event.preventDefault();
        turn(now.index + by);
    } else if (event.key === "Escape") choose("nothing");
});

// Controls.

function windowed() {
    $("level").value = picture.level;
    $("width").value = Math.log2(picture.width);
    $("level-said").textContent = picture.level.toFixed(0);
    $("width-said").textContent = picture.width.toFixed(0);
    const same = Object.entries(PRESETS).find(([, [level, width]]) => level === picture.level && width === picture.width);
    $("presets").value = same?.[0] ?? "as set";
}

function choose(mode) {
    now.mode = mode;
    document.querySelector(`input[name=mode][value=${mode}]`).checked = true;
    if (mode !== "similarity") over.held = picture.mark = undefined;
    return lay();
}

for (const name of ["as set", ...Object.keys(PRESETS)]) $("presets").add(new Option(name));
$("presets").onchange = () => {
    [picture.level, picture.width] = PRESETS[$("presets").value] ?? [picture.level, picture.width];
    picture.shade();
    windowed();
};
$("level").oninput = () => ((picture.level = Number($("level").value)), picture.shade(), windowed());
$("width").oninput = () => ((picture.width = 2 ** Number($("width").value)), picture.shade(), windowed());
for (const radio of document.querySelectorAll("input[name=mode]")) radio.onchange = () => choose(radio.value);
$("opacity").oninput = () => ((picture.opacity = Number($("opacity").value)), picture.draw());
$("smooth").onchange = () => ((picture.smooth = $("smooth").checked), picture.draw());
$("share").onchange = () => lay();
$("slice").oninput = () => turn(Number($("slice").value) - 1);
$("size").onchange = () => (prepare(), lay());
$("whole").onclick = whole;
$("stop").onclick = () => (saveLabels.stop?.abort(), now.volume?.stop());
$("open-head").onclick = () => $("head").click();
$("head").onchange = () => useHead(chosen($("head"))[0]);
$("save-labels").onclick = saveLabels;

$("open-files").onclick = () => $("files").click();
$("open-folder").onclick = () => $("folder").click();
/** The files that were chosen. The next choice may be the same again. */
function chosen(input) {
    const files = [...input.files];
    input.value = "";
    return files;
}
for (const id of ["files", "folder"]) $(id).onchange = () => open(chosen($(id)));
$("phantom").onclick = phantom;
$("load-seeded").onclick = () => use({ seeded: $("seeded").value });
$("load-file").onclick = () => $("weights").click();
$("weights").onchange = () => use({ file: chosen($("weights"))[0] });
$("load-url").onclick = () => use({ url: new URL($("url").value, location.href).href });

$("save-features").onclick = guarded(async () => {
    const { scan, index, volume } = now;
    const features = await volume.features(index);
    save(`${stem(scan.name)}_${index + 1}.safetensors`, new Blob([await features.safetensors()]));
});
$("save-picture").onclick = guarded(async () => picture.slice && save(`${stem(now.scan.name)}_${now.index + 1}.png`, await picture.png()));
const stem = (name) => name.split("/").pop().replace(/(\.nii)?\.\w+$/, "") || "scan";

addEventListener("dragover", (event) => (event.preventDefault(), $("stage").classList.add("over")));
addEventListener("dragleave", () => $("stage").classList.remove("over"));
addEventListener("drop", guarded(async (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    const files = await dropped(event.dataTransfer);
    const [only] = files;
    if (files.length === 1 && (await isHead(only.file))) return useHead(only.file);
    if (files.length === 1 && /\.(safetensors|pth|pt|bin|ckpt)$/i.test(only.path)) return use({ file: only.file });
    await open(files);
}));

windowed();
const missing = await Meddino.missing();
if (missing) notice(`${missing} So features are computed on the CPU, by one thread: for ViT-B choose small images.`);
const adapter = await navigator.gpu?.requestAdapter();
if (!adapter?.features.has("shader-f16")) {
    $("precision").options[1].disabled = true;
    $("precision").title = "f16 is not there: this browser does not give it for this GPU";
}
globalThis.meddinoPage = { now, over, picture };
