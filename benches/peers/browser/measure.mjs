// Seconds of meddino and of onnxruntime-web in one headless Chromium, in turns. `run.sh` installs and builds.
//
//   node measure.mjs MODEL SIDE TURNS   MODEL is tiny or vit_base

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { serve } from "../../../web/tests/server.mjs";

const [size, side, turns] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const desk = "target/web-peers";
const { chromium } = createRequire(resolve("target/web-tests", "x.js"))("playwright-core");
const server = await serve(["target/web/site", desk, `${desk}/node_modules/onnxruntime-web/dist`]);
const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--no-sandbox", "--disable-background-networking"],
});
const version = JSON.parse(readFileSync(`${desk}/node_modules/onnxruntime-web/package.json`)).version;
const page = await browser.newPage();
page.setDefaultTimeout(0);
page.on("pageerror", (error) => console.error(String(error)));

// The page of the project: how long it takes to be there, and the first picture.
const loads = [];
for (let i = 0; i < 5; i++) {
    const fresh = await (await browser.newContext()).newPage();
    const started = performance.now();
    await fresh.goto(`${server.url}/`);
    await fresh.waitForFunction(() => globalThis.meddinoPage, undefined, { polling: 5 });
    const ready = performance.now() - started;
    const picture = await fresh.evaluate(async () => {
        const started = performance.now();
        document.getElementById("phantom").click();
        while (!globalThis.meddinoPage.picture.slice) await new Promise((resolve) => setTimeout(resolve, 1));
        return performance.now() - started;
    });
    loads.push({ ready, picture });
    await fresh.context().close();
}
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const ms = (key) => median(loads.map((load) => load[key])).toFixed(0);
console.log(`page ready after ${ms("ready")} ms, first picture ${ms("picture")} ms after the click (medians of ${loads.length})`);

await page.goto(`${server.url}/empty.html`);
const result = await page.evaluate(
    async ({ size, side, turns }) => {
        const { Meddino } = await import("/meddino/meddino.js");
        const meddino = new Meddino();
        const began = performance.now();
        const file = new File([await (await fetch("/weights.safetensors")).blob()], "weights.safetensors");
        const engine = await meddino.load({ file }, { rope: "f32" });
        const loaded = performance.now() - began;

        // A slice of the image's size, so that both get the same image: every few pixels of the phantom.
        const phantom = await meddino.phantom();
        const all = await phantom.slice(0);
        const pick = (i) => Math.floor(((i + 0.5) * phantom.width) / side);
        const hu = Float32Array.from({ length: side * side }, (_, i) => all[pick(Math.floor(i / side)) * phantom.width + pick(i % side)]);
        const header = `{'descr': '<f4', 'fortran_order': False, 'shape': (${side}, ${side}), }\n`;
        const npy = new Blob([new Uint8Array([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, header.length, 0]), header, hu]);
        const scan = await meddino.open([{ path: "slice.npy", file: npy }]);
        const image = hu.map((v) => (Math.min(Math.max(v, -1000), 1000) - 65.1084213256836) / 178.01663208007812);
        const three = new Float32Array(3 * side * side);
        for (let c = 0; c < 3; c++) three.set(image, c * side * side);
        const ort = await import("/ort.webgpu.min.mjs");
        ort.env.wasm.wasmPaths = `${location.origin}/`;
        ort.env.wasm.numThreads = 1;
        const bytes = new Uint8Array(await (await fetch("/model.onnx")).arrayBuffer());
        const peers = { meddino: async () => (await (await engine.features(scan, 0)).tokens()).patches };
        const failed = {};
        for (const backend of ["webgpu", "wasm"]) {
            try {
                const session = await ort.InferenceSession.create(bytes, { executionProviders: [backend] });
                const feed = { image: new ort.Tensor("float32", three, [1, 3, side, side]) };
                peers[`onnxruntime-web, ${backend}`] = async () => (await session.run(feed)).x.data;
            } catch (error) {
                failed[`onnxruntime-web, ${backend}`] = error.message;
            }
        }
        const seconds = Object.fromEntries(Object.keys(peers).map((name) => [name, []]));
        const outputs = {};
        for (let turn = 0; turn <= turns; turn++) {
            for (const [name, run] of Object.entries(peers)) {
                const started = performance.now();
                outputs[name] = await run();
                // The first turn compiles shaders.
                if (turn > 0) seconds[name].push((performance.now() - started) / 1000);
            }
        }
        const patches = outputs.meddino;
        const apart = {};
        for (const [name, x] of Object.entries(outputs)) {
            const tail = x.subarray(x.length - patches.length);
            let [off, all] = [0, 0];
            for (let i = 0; i < patches.length; i++) {
                off += (tail[i] - patches[i]) ** 2;
                all += patches[i] ** 2;
            }
            apart[name] = Math.sqrt(off / all);
        }
        return { seconds, apart, failed, loaded, memory: await meddino.memory(), device: engine.device, tier: engine.tier, parameters: engine.parameters };
    },
    { size, side, turns },
);
const { seconds, apart, failed, loaded, memory, device, tier, parameters } = result;
console.log(`${size}, ${side} x ${side}, ${(parameters / 1e6).toFixed(1)} million parameters, f32, ${device}, tier ${tier}, onnxruntime-web ${version}`);
console.log(`meddino loads its weights in ${(loaded / 1000).toFixed(1)} s; its worker's memory ends at ${(memory / 2 ** 20).toFixed(0)} MiB`);
const of = median(seconds.meddino);
for (const [name, times] of Object.entries(seconds)) {
    console.log(`${name}: ${median(times).toFixed(3)} s (median of ${times.length}), ${(median(times) / of).toFixed(2)} of meddino's, ${apart[name].toExponential(1)} from meddino`);
}
for (const [name, why] of Object.entries(failed)) console.log(`${name}: failed, ${why}`);
await browser.close();
server.close();
process.exit(0);
