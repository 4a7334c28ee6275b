// Compares meddino with ONNX Runtime Web in headless Chromium: the same weights and image, in turns. `run.sh` installs and
// prepares what it needs.

import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { distance } from "../tests/files.mjs";
import { serve } from "../tests/server.mjs";

const [desk, model, rounds, runs] = [process.env.DESK, process.env.MODEL, Number(process.env.ROUNDS), Number(process.env.RUNS)];
const { chromium } = createRequire(resolve(desk, "x.js"))("playwright-core");
const threads = availableParallelism();
const wasm = (count) => [`onnxruntime-web, WASM, ${count} thread${count > 1 ? "s" : ""}`, ["onnx", "wasm", count]];
const ENGINES = {
    gpu: [["meddino", ["meddino", "gpu"]], wasm(threads), ["onnxruntime-web, WebGPU", ["onnx", "webgpu", threads]]],
    cpu: [["meddino", ["meddino", "cpu"]], wasm(1), wasm(threads)],
};
/** Rounding alone: benches/peers has the same. */
const TOLERANCE = 2e-5;

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const shown = (seconds) => `${seconds.toFixed(3)} s`;

// Threads in WebAssembly need a page that is isolated from others.
const isolated = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const server = await serve(["target/web/site", "web/bench", model, `${desk}/served`], isolated);
const args = ["--enable-unsafe-webgpu", ...(process.env.GPU ? [process.env.GPU] : []), "--no-sandbox", "--disable-background-networking"];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });

/** How long the page takes from its address to the first picture, and what of that is the module. */
async function startUp() {
    const page = await browser.newPage();
    const begun = performance.now();
    await page.goto(`${server.url}/`);
    await page.waitForFunction(() => globalThis.meddinoPage, undefined, { polling: 10 });
    const opened = performance.now();
    await page.click("#phantom");
    await page.waitForFunction(() => globalThis.meddinoPage.picture.slice, undefined, { polling: 10 });
    const pictured = performance.now();
    await page.goto(`${server.url}/empty.html`);
    const module = await page.evaluate(async () => {
        const begun = performance.now();
        const { Meddino } = await import("/meddino/meddino.js");
        await new Meddino().memory();
        return performance.now() - begun;
    });
    await page.close();
    console.log(`start: page ${shown((opened - begun) / 1000)}, first picture ${shown((pictured - opened) / 1000)} after the click, module alone ${shown(module / 1000)}`);
}

/** Opens an engine in a page of its own, and computes the tokens once. */
async function open(name, [kind, ...options]) {
    const page = await browser.newPage();
    page.setDefaultTimeout(600_000);
    await page.goto(`${server.url}/empty.html`);
    const { about, start, first, tokens } = await page.evaluate(
        async ({ kind, options }) => {
            globalThis.engine = await (await import("/engines.js"))[kind](...options);
            const begun = performance.now();
            const about = await engine.start();
            const started = performance.now();
            const tokens = await engine.tokens();
            return { about, start: started - begun, first: performance.now() - started, tokens };
        },
        { kind, options },
    );
    console.log(`${name}: loaded in ${shown(start / 1000)}, first features ${shown(first / 1000)}; ${JSON.stringify(about)}`);
    return { name, page, tokens: Float32Array.from(tokens), rounds: [] };
}

/** Computes the tokens once unmeasured, then `runs` times; returns the median in seconds. */
async function turn({ page }) {
    await page.bringToFront();
    const times = await page.evaluate(async (runs) => {
        const times = [];
        for (let i = 0; i <= runs; i++) {
            const begun = performance.now();
            await engine.tokens();
            if (i > 0) times.push((performance.now() - begun) / 1000);
        }
        return times;
    }, runs);
    return median(times);
}

await startUp();
const engines = [];
for (const [name, how] of ENGINES[process.env.BACKEND]) {
    const engine = await open(name, how).catch((error) => console.log(`${name}: not measured: ${error.message.split("\n")[0]}`));
    if (engine) engines.push(engine);
}
const [ours] = engines;
let wrong = ours?.name !== "meddino";
for (const engine of engines) {
    const apart = distance(engine.tokens, ours.tokens);
    if (engine !== ours) console.log(`${engine.name} is ${apart.toExponential(1)} from ${ours.name} (relative L2)`);
    engine.right = apart <= TOLERANCE;
    wrong ||= !engine.right;
}
const right = engines.filter((engine) => engine.right);
for (let round = 0; round < rounds; round++) for (const engine of right) engine.rounds.push(await turn(engine));
for (const { name, rounds } of right) {
    const ratio = median(rounds.map((seconds, i) => seconds / ours.rounds[i]));
    console.log(`${name}: median ${shown(median(rounds))} of ${rounds.map((seconds) => seconds.toFixed(3)).join(", ")}; ${ratio.toFixed(2)} of meddino's time`);
}
await browser.close();
server.close();
process.exit(wrong ? 1 : 0);
