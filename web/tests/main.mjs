// Runs the tests of the browser's part in headless Chromium. `run.sh` builds and installs what they need.

import { createRequire } from "node:module";
import { mkdirSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { DESK } from "./files.mjs";
import { serve } from "./server.mjs";
import { tests as library } from "./library.mjs";
import { tests as ofPage } from "./page.mjs";
import { tests as shards } from "./shards.mjs";

const { chromium } = createRequire(resolve(DESK, "x.js"))("playwright-core");
const wanted = process.argv.slice(2);
const tests = Object.entries({ ...library, ...shards, ...ofPage }).filter(([name]) => wanted.length === 0 || wanted.some((word) => name.includes(word)));

rmSync(`${DESK}/files`, { recursive: true, force: true });
for (const folder of ["files", "shots"]) mkdirSync(`${DESK}/${folder}`, { recursive: true });
const server = await serve(["target/web/site", `${DESK}/files`]);
/** Starts Chromium, with a GPU that it computes itself unless it is told otherwise. */
const launch = (gpu = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]) =>
    chromium.launch({ executablePath: process.env.CHROMIUM, args: [...gpu, "--no-sandbox", "--disable-background-networking"] });
const browser = await launch();
let failed = 0;
for (const [name, test] of tests) {
    const context = await browser.newContext({ acceptDownloads: true, viewport: { width: 1200, height: 800 } });
    const page = await context.newPage();
    page.setDefaultTimeout(120_000);
    // Nothing leaves the machine.
    const elsewhere = [];
    context.on("request", (request) => {
        const { protocol, origin } = new URL(request.url());
        if (!["blob:", "data:"].includes(protocol) && origin !== server.url) elsewhere.push(request.url());
    });
    const said = [];
    page.on("console", (message) => said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error)));
    const started = performance.now();
    try {
        await test({ page, context, server, launch, shots: `${DESK}/shots` });
        if (elsewhere.length > 0) throw new Error(`requests went elsewhere: ${elsewhere.join(", ")}`);
        console.log(`ok      ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
    } catch (error) {
        failed++;
        console.log(`FAILED  ${name}: ${error.stack}\n${said.slice(-10).join("\n")}`);
    }
    await context.close();
}
await browser.close();
server.close();
if (tests.length === 0) console.log("no test has such a name");
console.log(`${tests.length - failed} of ${tests.length} tests passed`);
process.exit(failed > 0 || tests.length === 0 ? 1 : 0);
