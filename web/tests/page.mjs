// The page, as a user uses it. Screenshots are for eyes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { DESK, distance, nifti, reference, tensors, write } from "./files.mjs";

/** Waits until the map of `mode` lies over slice `index`. */
const laid = (page, mode, index) => page.waitForFunction((want) => document.getElementById("picture").dataset.laid === want, `${mode} ${index}`, { timeout: 180_000 });

/** The colours of a square of the picture's canvas around a place in pixels of the slice. */
const colours = (page) =>
    page.evaluate(() => {
        const { width, height } = document.getElementById("picture");
        return [...document.getElementById("picture").getContext("2d").getImageData(0, 0, width, height).data];
    });

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

async function load(page, model) {
    await page.selectOption("#size", "224");
    await page.selectOption("#seeded", model);
    await page.click("#load-seeded");
    await page.waitForFunction(() => globalThis.meddinoPage.now.model, undefined, { timeout: 180_000 });
}

export const tests = {
    async "page: the phantom, its components and similarity"({ page, server, shots }) {
        await page.goto(`${server.url}/`);
        await page.waitForFunction(() => globalThis.meddinoPage);
        await page.screenshot({ path: `${shots}/welcome.png` });
        const started = performance.now();
        await page.click("#phantom");
        await page.waitForFunction(() => globalThis.meddinoPage.picture.slice, undefined, { polling: 10 });
        console.log(`        first picture ${(performance.now() - started).toFixed(0)} ms after the click`);
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
            maps.push(await page.evaluate(() => [...globalThis.meddinoPage.picture.map.pixels]));
        }
        assert.notDeepEqual(maps[0], maps[1], "the map follows the mouse");
        await page.mouse.click(...at(256, 256));
        await page.waitForFunction(() => globalThis.meddinoPage.over.held);
        await page.waitForTimeout(300);
        const held = await page.evaluate(() => [...globalThis.meddinoPage.picture.map.pixels]);
        assert.deepEqual(held, maps[0], "a click holds the patch");
        await page.mouse.move(...at(120, 300));
        await page.waitForTimeout(300);
        assert.deepEqual(await page.evaluate(() => [...globalThis.meddinoPage.picture.map.pixels]), held, "what is held stays");
        await page.screenshot({ path: `${shots}/similarity.png` });
        await page.keyboard.press("Escape");
        await laid(page, "nothing", 0);
        assert.deepEqual(await colours(page), gray, "Esc shows the slice alone");
        assert.match(await page.textContent("#badge"), /baseline · f32.*GPU memory/);

        const download = page.waitForEvent("download");
        await page.click("#save-features");
        const saved = tensors(readFileSync(await (await download).path()));
        const want = reference("page", "phantom", "-c", "seeded:0:tiny", "--size", "224");
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
