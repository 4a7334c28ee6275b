// The page: opens scans and weights, and shows a slice with what the model sees in it.

import { Meddino } from "./meddino/meddino.js";
import { dropped, save } from "./files.js";
import { PRESETS, Picture } from "./picture.js";
import { Volume } from "./volume.js";

const $ = (id) => document.getElementById(id);
const picture = new Picture($("picture"));

/** What is open now. `source` are the weights, to load them again. */
const now = { meddino: new Meddino(), scan: undefined, index: 0, model: undefined, source: undefined, volume: undefined, mode: "nothing" };
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
    if (error.kind === "broken") return restart();
    if (error.failure === "Lost" && now.source) {
        now.volume?.close();
        now.model = now.volume = undefined;
        await load(...now.source);
    }
}

/** Replaces a worker that gave up. The scan and the weights were in it. */
function restart() {
    now.meddino.close();
    Object.assign(now, { meddino: new Meddino(), scan: undefined, model: undefined, volume: undefined });
    Object.assign(over, { scale: undefined, colours: undefined, held: undefined });
    state("no weights");
    $("picture").hidden = true;
    $("welcome").hidden = false;
    $("badge").replaceChildren();
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

const open = guarded(async (files) => show(await now.meddino.open(files)));
const phantom = guarded(async () => show(await now.meddino.phantom()));

async function show(scan) {
    now.volume?.close();
    now.scan?.close();
    Object.assign(now, { scan, index: Math.floor((scan.slices - 1) / 2), volume: undefined });
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
    await turn(now.index);
}

/** Shows slice `index`; slices that are passed on the way to another are not read. */
const turn = guarded(async (index) => {
    if (!now.scan) return;
    now.index = Math.min(Math.max(index, 0), now.scan.slices - 1);
    $("slice").value = now.index + 1;
    $("slice-said").textContent = `${now.index + 1} / ${now.scan.slices}`;
    if (turn.running) return;
    turn.running = true;
    try {
        for (let shown; shown !== now.index; ) {
            shown = now.index;
            const { scan } = now;
            const hu = await scan.slice(shown);
            if (scan !== now.scan) continue;
            picture.map = undefined;
            picture.show({ hu, height: scan.height, width: scan.width, spacing: scan.spacing });
        }
    } finally {
        turn.running = false;
    }
    await lay();
});

// Weights.

async function load(source, options) {
    now.source = [source, options];
    const stop = new AbortController();
    $("stop-download").onclick = () => stop.abort();
    state("loading the model");
    const onProgress = ({ done, size }) => {
        $("download").hidden = $("stop-download").hidden = false;
        $("download").value = done / size;
        $("download-said").textContent = `${(done / 1e6).toFixed(1)} of ${(size / 1e6).toFixed(1)} MB`;
    };
    try {
        const model = await now.meddino.load(source, { ...options, onProgress, signal: stop.signal });
        now.volume?.close();
        now.model?.close();
        now.volume = undefined;
        now.model = model;
        over.scale ??= await now.meddino.scale();
    } catch (error) {
        state(now.model ? "" : "no weights");
        throw error;
    } finally {
        $("download").hidden = $("stop-download").hidden = true;
    }
    over.held = over.colours = picture.mark = undefined;
    badge(now.model);
    prepare();
    await lay();
}

const use = guarded((source) => load(source, { precision: $("precision").value }));

/** What computes, and what it could not have. */
function badge(model) {
    const line = (text) => Object.assign(document.createElement("p"), { textContent: text });
    const mega = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
    const whole = model.maxBinding > 128 * 2 ** 20 ? `the GPU binds ${mega(model.maxBinding)} at once` : "default limits: 128 MiB at once, larger work is split";
    const without = ["f16", "subgroups"].filter((ability) => !model.abilities.includes(ability));
    $("badge").replaceChildren(
        line(`${model.weights}: ${(model.parameters / 1e6).toFixed(1)} million parameters`),
        line(`${model.adapter} · ${model.tier} · ${model.precision}`),
        line(`${mega(model.weightBytes)} of GPU memory for the weights; ${whole}`),
        ...(without.length > 0 ? [line(`without ${without.join(" and ")}, which this browser does not give for this GPU`)] : []),
        ...model.warnings.map(line),
    );
}

// Features.

/** Makes ready for the features of this scan with this model. */
function prepare() {
    now.volume?.close();
    now.volume = now.scan && now.model ? new Volume(now.scan, now.model, $("size").value) : undefined;
    over.colours = undefined;
    $("whole").disabled = $("save-features").disabled = !now.volume;
    if (now.model) state(now.volume ? "this slice: not yet" : "no scan");
}

/** Computes this slice's map, and lays it over the slice. */
const lay = guarded(async () => {
    const { volume, index, mode } = now;
    if (!volume || !picture.slice) return;
    if (!volume.has(index)) state(`slice ${index + 1}: computing`);
    const features = await volume.features(index);
    const isNow = () => volume === now.volume && index === now.index && mode === now.mode;
    if (!isNow()) return;
    const pixels = await map(features, mode);
    if (!isNow()) return;
    picture.lay(pixels && { pixels, rows: features.rows, cols: features.cols, covered: features.covered });
    state(`this slice: done; ${volume.count} of ${now.scan.slices} slices kept`);
    $("picture").dataset.laid = `${mode} ${index}`;
});

/** The colours of each patch, or nothing. */
async function map(features, mode) {
    $("scale").hidden = mode !== "similarity";
    $("scale-said").textContent = "";
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
        await volume.whole(now.index, (done) => {
            bar.value = done / volume.scan.slices;
            state(`volume: ${done} of ${volume.scan.slices}`);
        });
    } finally {
        bar.hidden = $("stop").hidden = true;
        $("whole").disabled = !now.volume;
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
$("stop").onclick = () => now.volume?.stop();

$("open-files").onclick = () => $("files").click();
$("open-folder").onclick = () => $("folder").click();
for (const id of ["files", "folder"]) $(id).onchange = () => open([...$(id).files]);
$("phantom").onclick = phantom;
$("load-seeded").onclick = () => use({ seeded: $("seeded").value });
$("load-file").onclick = () => $("weights").click();
$("weights").onchange = () => use({ file: $("weights").files[0] });
$("load-url").onclick = () => use({ url: new URL($("url").value, location.href).href });

$("save-features").onclick = guarded(async () => {
    const { scan, index, model, volume } = now;
    const features = await volume.features(index);
    const about = { input: scan.name, checkpoint: model.weights, slices: `[${index}]`, grid: `[${features.rows},${features.cols}]`, size: volume.size, backend: model.device };
    save(`${stem(scan.name)}_${index + 1}.safetensors`, new Blob([await features.safetensors(about)]));
});
$("save-picture").onclick = guarded(async () => save(`${stem(now.scan.name)}_${now.index + 1}.png`, await picture.png()));
const stem = (name) => name.split("/").pop().replace(/(\.nii)?\.\w+$/, "") || "scan";

addEventListener("dragover", (event) => (event.preventDefault(), $("stage").classList.add("over")));
addEventListener("dragleave", () => $("stage").classList.remove("over"));
addEventListener("drop", guarded(async (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    const files = await dropped(event.dataTransfer);
    const [only] = files;
    if (files.length === 1 && only.path.endsWith(".safetensors")) return use({ file: only.file });
    await open(files);
}));

windowed();
const missing = await Meddino.missing();
if (missing) notice(`${missing} Slices are shown; features need WebGPU.`);
const adapter = await navigator.gpu?.requestAdapter();
if (!adapter?.features.has("shader-f16")) {
    $("precision").options[1].disabled = true;
    $("precision").title = "f16 is not there: this browser does not give it for this GPU";
}
globalThis.meddinoPage = { now, over, picture };
