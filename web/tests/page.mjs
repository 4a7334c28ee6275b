// The page, as a user uses it. Screenshots are for eyes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { DESK, distance, fitted, nifti, reference, tensors, write } from "./files.mjs";

/** Waits until the map of `mode` lies over slice `index`. */
const laid = (page, mode, index) => page.waitForFunction((want) => document.getElementById("picture").dataset.laid === want, `${mode} ${index}`, { timeout: 180_000 });

/** The colours of the picture's canvas. As text, because a list of a million numbers takes seconds to come here. */
const colours = async (page) => {
    const text = await page.evaluate(() => {
        const { width, height } = document.getElementById("picture");
        return new Uint8Array(document.getElementById("picture").getContext("2d").getImageData(0, 0, width, height).data.buffer).toBase64();
    });
    return Buffer.from(text, "base64");
};

/** The colours of the map that lies over the slice. */
const pixels = async (page) => {
    const text = await page.evaluate(() => new Uint8Array(globalThis.meddinoPage.picture.map.pixels).toBase64());
    return Buffer.from(text, "base64");
};

/** Drops files of the test onto the page. */
async function drop(page, ...names) {
    const files = names.map((name) => [name, readFileSync(`${DESK}/files/${name}`).toString("base64")]);
    const transfer = await page.evaluateHandle((files) => {
        const transfer = new DataTransfer();
        for (const [name, text] of files) transfer.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
        return transfer;
    }, files);
    await page.dispatchEvent("#stage", "drop", { dataTransfer: transfer });
}

async function load(page, model, backend = "gpu") {
    await page.selectOption("#backend", backend);
    await page.selectOption("#size", "224");
    await page.selectOption("#seeded", model);
    await page.click("#load-seeded");
    await page.waitForFunction(() => globalThis.meddinoPage.now.model, undefined, { timeout: 180_000 });
}

export const tests = {
    async "time: the first picture after the click"({ page, server, measured }) {
        await page.goto(`${server.url}/`);
        await page.waitForFunction(() => globalThis.meddinoPage);
        const started = performance.now();
        await page.click("#phantom");
        await page.waitForFunction(() => globalThis.meddinoPage.picture.slice, undefined, { polling: 10 });
        measured(`${(performance.now() - started).toFixed(0)} ms`);
    },

    async "page: the phantom, its components and similarity"({ page, server, shots }) {
        await page.goto(`${server.url}/`);
        await page.waitForFunction(() => globalThis.meddinoPage);
        await page.screenshot({ path: `${shots}/welcome.png` });
        await page.click("#phantom");
        await page.waitForFunction(() => globalThis.meddinoPage.picture.slice);
        const gray = await colours(page);
        assert.ok(gray.some((v, i) => i % 4 === 0 && v > 100) && gray.every((v, i) => i % 4 > 1 || v === gray[i - (i % 4)]), "shades of gray");
        await load(page, "seeded:0:tiny");
        await page.check("input[value=components]");
        await laid(page, "components", 0);
        const coloured = await colours(page);
        assert.ok(coloured.some((v, i) => i % 4 === 0 && Math.abs(v - coloured[i + 1]) > 30), "components are coloured");
        await page.screenshot({ path: `${shots}/components.png` });

        // Hover: each patch has a map of its own, in which it is most like itself.
        await page.check("input[value=similarity]");
        const box = await page.locator("#picture").boundingBox();
        const at = (x, y) => [box.x + box.width / 2 + (x - 256) * (box.height / 512), box.y + y * (box.height / 512)];
        const maps = [];
        for (const place of [[256, 256], [120, 300]]) {
            await page.mouse.move(...at(...place));
            await page.waitForFunction(() => document.getElementById("scale-said").textContent.endsWith("to 1.00"));
            await page.waitForTimeout(300);
            maps.push(await pixels(page));
        }
        assert.notDeepEqual(maps[0], maps[1], "the map follows the mouse");
        await page.mouse.click(...at(256, 256));
        await page.waitForFunction(() => globalThis.meddinoPage.over.held);
        await page.waitForTimeout(300);
        const held = await pixels(page);
        assert.deepEqual(held, maps[0], "a click holds the patch");
        await page.mouse.move(...at(120, 300));
        await page.waitForTimeout(300);
        assert.deepEqual(await pixels(page), held, "what is held stays");
        await page.screenshot({ path: `${shots}/similarity.png` });
        await page.keyboard.press("Escape");
        await laid(page, "nothing", 0);
        assert.deepEqual(await colours(page), gray, "Esc shows the slice alone");
        assert.match(await page.textContent("#badge"), /baseline · f32.*GPU memory/);

        const download = page.waitForEvent("download");
        await page.click("#save-features");
        const saved = tensors(readFileSync(await (await download).path()));
        const want = await reference("page", "phantom", "-c", "seeded:0:tiny", "--size", "224");
        // The page keeps the model's own precision of RoPE, bf16, where a last bit may become a rounding.
        assert.ok(distance(saved.x_norm_patchtokens.values, want.x_norm_patchtokens.values) < 2e-4);
        const picture = page.waitForEvent("download");
        await page.click("#save-picture");
        assert.equal(readFileSync(await (await picture).path()).toString("latin1", 1, 4), "PNG");
    },

    async "page: a volume is turned by wheel and keys, windowed, and computed as a whole"({ page, server, shots }) {
        write("volume.nii.gz", nifti(12, 96, 96));
        await page.goto(`${server.url}/`);
        await page.waitForFunction(() => globalThis.meddinoPage);
        await drop(page, "volume.nii.gz");
        const shown = (index) => page.waitForFunction((want) => document.getElementById("slice-said").textContent === want, `${index + 1} / 12`);
        await shown(5);
        await page.hover("#picture");
        await page.mouse.wheel(0, 100);
        await shown(6);
        await page.keyboard.press("ArrowUp");
        await shown(5);
        await page.keyboard.press("PageDown");
        await shown(11);
        await page.keyboard.press("Home");
        await shown(0);
        const box = await page.locator("#picture").boundingBox();
        await page.mouse.move(box.x + 300, box.y + 300);
        await page.mouse.down({ button: "right" });
        await page.mouse.move(box.x + 400, box.y + 250, { steps: 4 });
        await page.mouse.up({ button: "right" });
        const [level, width] = await page.evaluate(() => [globalThis.meddinoPage.picture.level, globalThis.meddinoPage.picture.width]);
        assert.ok(level > 40 && width > 400, `level ${level}, width ${width}`);

        await load(page, "seeded:0:micro");
        await page.click("#whole");
        await page.waitForFunction(() => globalThis.meddinoPage.now.volume.count >= 3, undefined, { timeout: 180_000 });
        await page.click("#stop");
        await page.waitForFunction(() => document.getElementById("stop").hidden);
        const stopped = await page.evaluate(() => globalThis.meddinoPage.now.volume.count);
        assert.ok(stopped < 12, `${stopped} slices were computed before the stop`);
        await page.click("#whole");
        await page.waitForFunction(() => globalThis.meddinoPage.now.volume.count === 12, undefined, { timeout: 120_000 });
        await page.screenshot({ path: `${shots}/volume.png` });
    },

    async "page: a tab in the background goes on"({ page, server }) {
        write("background.nii.gz", nifti(12, 96, 96));
        // Playwright keeps every tab in the foreground. So the test takes from the page what a browser takes from a tab in
        // the background: no frames, timers once a second, and fewer after some minutes. Workers keep theirs.
        await page.addInitScript(() => {
            const timer = globalThis.setTimeout;
            globalThis.setTimeout = (work, delay, ...args) => timer(work, Math.max(delay ?? 0, 60_000), ...args);
            globalThis.requestAnimationFrame = () => 0;
            Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
            Object.defineProperty(document, "hidden", { get: () => true });
        });
        await page.goto(`${server.url}/`);
        const until = async (holds) => {
            for (let tries = 0; !(await page.evaluate(holds)); tries++) {
                assert.ok(tries < 600, `a minute went by, and not ${holds}`);
                await page.waitForTimeout(100);
            }
        };
        await until(() => globalThis.meddinoPage !== undefined);
        await drop(page, "background.nii.gz");
        await page.selectOption("#size", "224");
        await page.selectOption("#seeded", "seeded:0:micro");
        for (const backend of ["cpu", "gpu"]) {
            await page.selectOption("#backend", backend);
            await page.evaluate(() => document.getElementById("load-seeded").click());
            await until(() => globalThis.meddinoPage.now.model?.backend === document.getElementById("backend").value && globalThis.meddinoPage.now.volume);
            await page.evaluate(() => document.getElementById("whole").click());
            await until(() => globalThis.meddinoPage.now.volume.count === 12);
            assert.equal(await page.evaluate(() => document.visibilityState), "hidden");
        }
    },

    async "page: labels by a head that is dropped, saved for the whole scan"({ page, server, shots }) {
        await fitted();
        await page.goto(`${server.url}/`);
        await page.waitForFunction(() => globalThis.meddinoPage);
        await drop(page, "scans/a.nii.gz");
        await load(page, "seeded:0:micro");
        await drop(page, "head.safetensors");
        await laid(page, "labels", 1);
        assert.equal(await page.inputValue("#size"), "128");
        const [rows, cols] = await page.evaluate(() => [globalThis.meddinoPage.picture.map.rows, globalThis.meddinoPage.picture.map.cols]);
        assert.deepEqual([rows, cols], [96, 80]);
        const alphas = [...(await pixels(page))].filter((_, i) => i % 4 === 3);
        assert.ok(alphas.includes(0) && alphas.includes(255), "the body is coloured, and air is not");
        await page.screenshot({ path: `${shots}/labels.png` });
        const download = page.waitForEvent("download");
        await page.click("#save-labels");
        const saved = await download;
        assert.equal(saved.suggestedFilename(), "a_labels.nii.gz");
        const labels = gunzipSync(readFileSync(await saved.path())).subarray(352);
        assert.equal(labels.length, 3 * 96 * 80);
        // The file's axes run to the right and to the front, those of the page to the left and to the back.
        const shown = alphas.map((alpha) => alpha > 0);
        const stored = labels.subarray(96 * 80, 2 * 96 * 80);
        assert.ok(shown.every((v, i) => v === stored[(95 - Math.floor(i / 80)) * 80 + 79 - (i % 80)] > 0), "the file has the labels that are shown");
        // Another size is another preprocessing.
        await page.selectOption("#size", "224");
        await page.waitForFunction(() => document.getElementById("notices").textContent.includes("but the features that the head was fitted to have"));
    },

    async "page: a worker that gives up is replaced, with its scan and its weights"({ page, server }) {
        write("replaced.nii.gz", nifti(12, 96, 96));
        await page.goto(`${server.url}/`);
        await page.waitForFunction(() => globalThis.meddinoPage);
        await drop(page, "replaced.nii.gz");
        await load(page, "seeded:0:micro");
        await page.check("input[value=components]");
        await laid(page, "components", 5);
        const before = await pixels(page);
        const breakWorker = async () => {
            const worker = page.workers().at(-1);
            await worker.evaluate(() => setTimeout(() => { throw new Error("made up"); }));
            await page.waitForFunction(() => globalThis.meddinoPage.now.meddino.ended);
        };
        await breakWorker();
        await page.keyboard.press("ArrowDown");
        // The slice that was asked for is shown, of the same scan, by the same model.
        await laid(page, "components", 6);
        assert.match(await page.textContent("#notices"), /the worker cannot run: .*made up/);
        // The other one says that this GPU is software.
        assert.equal(await page.locator("#notices li").count(), 2);
        await page.keyboard.press("ArrowUp");
        await laid(page, "components", 5);
        assert.deepEqual(await pixels(page), before);
        // A worker that gives up at once again leaves an empty page that works, and no loop.
        await page.evaluate(() => (globalThis.meddinoPage.now.opened = () => Promise.reject(Object.assign(new Error("again"), { kind: "error" }))));
        await breakWorker();
        await page.keyboard.press("ArrowDown");
        await page.waitForFunction(() => document.getElementById("notices").textContent.includes("again"));
        assert.ok(await page.isVisible("#welcome"));
        await page.click("#phantom");
        await page.waitForFunction(() => globalThis.meddinoPage.picture.slice?.width === 512);
    },

    async "page: a slice that cannot be read leaves no other in its place, and the last choice wins"({ page, server }) {
        const whole = nifti(12, 96, 96);
        write("cut.nii.gz", whole.subarray(0, Math.floor(whole.length * 0.7)));
        write("whole.nii.gz", whole);
        write("dropped.pth", Buffer.from("PK\x03\x04 and more"));
        await page.goto(`${server.url}/`);
        await page.waitForFunction(() => globalThis.meddinoPage);
        await drop(page, "cut.nii.gz");
        await page.waitForFunction(() => globalThis.meddinoPage.picture.slice);
        await page.keyboard.press("End");
        await page.waitForFunction(() => document.getElementById("notices").textContent.includes("cut.nii.gz"));
        assert.ok(await page.evaluate(() => !globalThis.meddinoPage.picture.slice));
        assert.ok((await colours(page)).every((v) => v === 0), "nothing is drawn");

        // Two scans and two models that are asked for at once.
        await page.evaluate(() => (document.getElementById("phantom").click(), undefined));
        await drop(page, "whole.nii.gz");
        await page.selectOption("#seeded", "seeded:0:tiny");
        await page.evaluate(() => document.getElementById("load-seeded").click());
        await page.selectOption("#seeded", "seeded:0:micro");
        await page.click("#load-seeded");
        await page.waitForFunction(() => globalThis.meddinoPage.now.model, undefined, { timeout: 180_000 });
        await page.waitForFunction(() => document.getElementById("scan-name").textContent === "whole.nii.gz");
        await page.waitForTimeout(500);
        assert.deepEqual(await page.evaluate(() => [globalThis.meddinoPage.now.model.weights, globalThis.meddinoPage.now.scan.slices]), ["seeded:0:micro", 12]);

        await drop(page, "dropped.pth");
        await page.waitForFunction(() => document.getElementById("notices").textContent.includes("dropped.pth: its zip archive is damaged"));
    },

    async "page: without WebGPU it says so, and computes on the CPU"({ server, launch, shots }) {
        const browser = await launch([]);
        try {
            const page = await browser.newPage({ viewport: { width: 1200, height: 800 } });
            await page.goto(`${server.url}/`);
            await page.waitForFunction(() => globalThis.meddinoPage);
            assert.match(await page.textContent("#notices"), /^This browser .* So features are computed on the CPU, by one thread/);
            await page.click("#phantom");
            await page.waitForFunction(() => globalThis.meddinoPage.picture.slice);
            await load(page, "seeded:0:tiny", "auto");
            await page.check("input[value=components]");
            await laid(page, "components", 0);
            assert.match(await page.textContent("#badge"), /CPU \(1 thread, simd128\) · f32.*of memory for the weights.*This browser /);
            await page.screenshot({ path: `${shots}/cpu.png` });
            // A pass for what was left for something else ends.
            const left = await page.evaluate(async () => {
                const { volume } = globalThis.meddinoPage.now;
                const other = new volume.constructor(volume.scan, volume.model, "896");
                const computing = other.features(0).then(() => "computed", ({ kind }) => kind);
                other.close();
                return computing;
            });
            assert.equal(left, "cancelled");
            // Slices that are passed by are not computed.
            const passed = await page.evaluate(async () => {
                const { volume } = globalThis.meddinoPage.now;
                const asked = [];
                const model = { features: (...args) => (asked.push(args), volume.model.features(volume.scan, 0, args[2])) };
                const many = new volume.constructor(volume.scan, model, "448");
                const ends = [0, 1, 2, 3].map((index) => (many.only(index), many.features(index).then(() => "computed", ({ kind }) => kind)));
                const said = await Promise.all(ends);
                many.close();
                return [said, asked.length];
            });
            assert.deepEqual(passed, [["cancelled", "cancelled", "cancelled", "computed"], 4]);
            await page.selectOption("#backend", "gpu");
            await page.click("#load-seeded");
            await page.waitForFunction(() => document.querySelectorAll("#notices li").length === 2);
            const said = await page.textContent("#notices li:last-child span");
            assert.match(said, /^gpu: no adapter found; open the page in a browser that gives it a GPU, or use `backend` cpu/);
        } finally {
            await browser.close();
        }
    },

    async "page: what is no scan is refused, and a lost GPU comes back"({ page, server, shots }) {
        write("bad.nii", "no scan");
        await page.goto(`${server.url}/`);
        await page.waitForFunction(() => globalThis.meddinoPage);
        await drop(page, "bad.nii");
        await page.waitForFunction(() => document.getElementById("notices").textContent.includes("bad.nii"));
        await page.click("#phantom");
        await load(page, "seeded:0:micro");
        const before = await page.evaluate(async () => {
            const { model } = globalThis.meddinoPage.now;
            await model.loseDevice();
            return model.handle;
        });
        await page.waitForTimeout(300);
        await page.selectOption("#size", "448");
        await page.check("input[value=components]");
        await page.waitForFunction((before) => (globalThis.meddinoPage.now.model?.handle ?? before) !== before, before, { timeout: 180_000 });
        await laid(page, "components", 0);
        assert.match(await page.textContent("#notices"), /was lost/);
        await page.screenshot({ path: `${shots}/lost.png` });
    },
};
