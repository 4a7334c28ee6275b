// Runs the tests of the browser's part in headless Chromium. `run.sh` builds and installs what they need.

import { createRequire } from "node:module";
import { mkdirSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import { DESK } from "./files.mjs";
import { serve } from "./server.mjs";
import { tests as firefox } from "./firefox.mjs";
import { tests as library } from "./library.mjs";
import { tests as ofPage } from "./page.mjs";
import { tests as shards } from "./shards.mjs";

const { chromium } = createRequire(resolve(DESK, "x.js"))("playwright-core");
const wanted = process.argv.slice(2);
const tests = Object.entries({ ...ofPage, ...library, ...shards, ...firefox }).filter(([name]) => wanted.length === 0 || wanted.some((word) => name.includes(word)));

/** Starts Chromium, with a GPU that it computes itself unless it is told otherwise. */
const launch = (gpu = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]) =>
    chromium.launch({ executablePath: process.env.CHROMIUM, args: [...gpu, "--no-sandbox", "--disable-background-networking"] });

/** Runs a test in a context and with a server of its own. Returns whether it passed, and tells so in one piece. */
async function run(name, test, browser) {
    const server = await serve(["target/web/site", `${DESK}/files`]);
    const context = await browser.newContext({ acceptDownloads: true, viewport: { width: 1200, height: 800 } });
    const page = await context.newPage();
    page.setDefaultTimeout(120_000);
    // Nothing leaves the machine.
    const elsewhere = [];
    context.on("request", (request) => {
        const { protocol, origin } = new URL(request.url());
        if (!["blob:", "data:"].includes(protocol) && origin !== server.url) elsewhere.push(request.url());
    });
    const [said, measured] = [[], []];
    page.on("console", (message) => said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error)));
    const started = performance.now();
    const told = (line) => console.log([line, ...measured.map((text) => `        ${text}`)].join("\n"));
    try {
        await test({ page, context, server, launch, shots: `${DESK}/shots`, measured: (text) => measured.push(text) });
        if (elsewhere.length > 0) throw new Error(`requests went elsewhere: ${elsewhere.join(", ")}`);
        told(`ok      ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
        return true;
    } catch (error) {
        told(`FAILED  ${name}: ${error.stack}\n${said.slice(-10).join("\n")}`);
        return false;
    } finally {
        await context.close();
        server.close();
    }
}

/** Runs tests one after the other in a browser of their own, and returns how many failed. Several calls share `queue`. */
async function runAll(queue) {
    const browser = await launch();
    let failed = 0;
    for (let next; (next = queue.shift()); ) failed += (await run(...next, browser)) ? 0 : 1;
    await browser.close();
    return failed;
}

rmSync(`${DESK}/files`, { recursive: true, force: true });
for (const folder of ["files", "shots"]) mkdirSync(`${DESK}/${folder}`, { recursive: true });
// Chromium compiles shaders on one core, so two browsers side by side are faster. A test that measures time runs alone.
const isTimed = ([name]) => name.startsWith("time: ");
const [timed, others] = [tests.filter(isTimed), tests.filter((test) => !isTimed(test))];
let failed = await runAll(timed);
const shared = Array.from({ length: Math.min(2, availableParallelism()) }, () => runAll(others));
failed += (await Promise.all(shared)).reduce((sum, count) => sum + count, 0);
if (tests.length === 0) console.log("no test has such a name");
console.log(`${tests.length - failed} of ${tests.length} tests passed`);
process.exit(failed > 0 || tests.length === 0 ? 1 : 0);
