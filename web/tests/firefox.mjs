// Another browser's engine. Playwright cannot drive the Firefox of a system, so a page computes by itself and posts what it
// found.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { portable, write } from "./files.mjs";

const PAGE = `<!doctype html><title>meddino</title><script type="module">
const post = (found) => fetch("/report", { method: "POST", body: JSON.stringify(found) });
try {
    const { Meddino } = await import("/meddino/meddino.js");
    const meddino = new Meddino();
    const scan = await meddino.phantom();
    const found = { models: {} };
    for (const [name, size] of [["seeded:0:micro", 128], ["seeded:0:tiny", 224], ["seeded:0", 224]]) {
        const model = await meddino.load({ seeded: name }, { backend: "cpu", rope: "f32" });
        const begun = performance.now();
        const features = await model.features(scan, 0, { size });
        const seconds = (performance.now() - begun) / 1000;
        const { cls, patches } = await features.tokens();
        const colours = await (await features.colours()).paint(features);
        found.models[name] = { device: model.device, seconds, size, cls: [...cls], patches: [...patches], colours: new Set(colours).size };
    }
    const { backend, why } = await meddino.load({ seeded: "seeded:0:micro" });
    await post({ ...found, best: { backend, why } });
} catch (error) {
    await post({ error: error.message });
}
</script>`;

/** Nothing but the page: no updates, no reports, no questions. */
const PREFERENCES = {
    "dom.webgpu.enabled": false,
    "browser.shell.checkDefaultBrowser": false,
    "datareporting.policy.dataSubmissionEnabled": false,
    "toolkit.telemetry.enabled": false,
    "app.normandy.enabled": false,
    "app.update.auto": false,
    "browser.safebrowsing.downloads.remote.enabled": false,
    "network.captive-portal-service.enabled": false,
    "network.connectivity-service.enabled": false,
    "browser.startup.homepage_override.mstone": "ignore",
    "datareporting.policy.firstRunURL": "",
};

export const tests = {
    async "Firefox: the CPU computes the same bits as the command"({ server, measured }) {
        if (!process.env.FIREFOX) return measured("SKIPPED: there is no firefox-esr or firefox");
        write("firefox.html", PAGE);
        const profile = mkdtempSync(join(tmpdir(), "meddino-firefox-"));
        writeFileSync(join(profile, "user.js"), Object.entries(PREFERENCES).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});\n`).join(""));
        const firefox = spawn(process.env.FIREFOX, ["--headless", "--no-remote", "--profile", profile, `${server.url}/firefox.html`], { stdio: "ignore" });
        const ended = once(firefox, "exit");
        try {
            const late = new Promise((_, reject) => setTimeout(reject, 240_000, new Error("Firefox posted nothing in four minutes")).unref());
            const found = await Promise.race([server.reported, late, ended.then(([code]) => Promise.reject(new Error(`Firefox ended with ${code}`)))]);
            assert.equal(found.error, undefined);
            for (const [model, { device, seconds, size, cls, patches, colours }] of Object.entries(found.models)) {
                const want = await portable(`firefox-${model.replaceAll(":", "-")}`, "phantom", "-c", model, "--rope", "f32", "--size", String(size));
                assert.deepEqual(cls, [...want.x_norm_clstoken.values], model);
                assert.deepEqual(patches, [...want.x_norm_patchtokens.values], model);
                assert.ok(colours > 10, `${colours} values in the colours of ${model}`);
                measured(`${model}, ${size}: ${seconds.toFixed(2)} s (${device})`);
            }
            measured(`best: ${found.best.backend}, ${found.best.why}`);
            assert.equal(found.best.backend, "cpu");
        } finally {
            firefox.kill("SIGKILL");
            await ended.catch(() => {});
            rmSync(profile, { recursive: true, force: true });
        }
    },
};
