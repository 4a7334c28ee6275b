// Weights in shards from a URL: downloaded once, checked, gone on with.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { DESK, meddino } from "./files.mjs";

const MODEL = "seeded:2:tiny";

/** Writes the model's shards, and opens a page that loads them as `shards()` and the seeded model as `want()`. */
async function start(page, server) {
    const folder = `${DESK}/files/shards`;
    if (!existsSync(folder)) meddino("convert", MODEL, "--shards", folder);
    server.faults.clear();
    server.requests.length = 0;
    await page.goto(`${server.url}/empty.html`);
    await page.evaluate(async (model) => {
        const { Meddino } = await import("/meddino/meddino.js");
        globalThis.meddino = new Meddino();
        const tokens = async (source, options) => {
            const engine = await meddino.load(source, options);
            const of = await engine.features(await meddino.phantom(), 0, { size: 64 });
            const { patches } = await of.tokens();
            await engine.close();
            return [...patches];
        };
        globalThis.progress = [];
        globalThis.shards = (options) => tokens({ url: `${location.origin}/shards/model.safetensors.index.json` }, { onProgress: (said) => progress.push(said), ...options });
        globalThis.want = () => tokens({ seeded: model });
        globalThis.refused = (promise) => promise.then(() => ({ message: "nothing was refused" }), ({ message, kind }) => ({ message, kind }));
    }, MODEL);
    const { metadata } = JSON.parse(readFileSync(`${folder}/model.safetensors.index.json`));
    const [[name, { size }]] = Object.entries(metadata.shards);
    return { path: `/shards/${name}`, size, count: Object.keys(metadata.shards).length };
}

const asked = (server) => server.requests.filter(({ path }) => path.endsWith(".safetensors"));

export const tests = {
    async "shards: the same bits as one file; a second start takes them from storage"({ page, server }) {
        const { count } = await start(page, server);
        const [got, want, progress] = await page.evaluate(async () => [await shards(), await want(), progress]);
        assert.deepEqual(got, want);
        assert.equal(asked(server).length, count);
        assert.ok(progress.at(-1).done === progress.at(-1).size && progress.every(({ done }, i) => i === 0 || done >= progress[i - 1].done));
        await page.reload();
        await start(page, server);
        assert.deepEqual(await page.evaluate(() => shards()), want);
        assert.equal(asked(server).length, 0, "nothing is downloaded twice");
    },

    async "shards: a download that was cut goes on where it ended"({ page, server }) {
        const { path, size } = await start(page, server);
        const half = Math.floor(size / 2);
        server.faults.set(path, { cut: half });
        const refused = await page.evaluate(() => refused(shards()));
        assert.notEqual(refused.message, "nothing was refused");
        const [got, want] = await page.evaluate(async () => [await shards(), await want()]);
        assert.deepEqual(got, want);
        const [first, second] = asked(server).filter((request) => request.path === path);
        assert.equal(first.range, undefined);
        const from = Number(/^bytes=(\d+)-$/.exec(second.range)?.[1]);
        assert.ok(from > 0 && from <= half, `it goes on from ${second.range}`);
    },

    async "shards: a wrong byte is an error that names the shard, and is not kept"({ page, server }) {
        const { path, size } = await start(page, server);
        server.faults.set(path, { flip: size - 5 });
        const refused = await page.evaluate(() => refused(shards()));
        assert.match(refused.message, /^shard model-00001-of-\d+.safetensors: expected SHA-256 [0-9a-f]{64}, found [0-9a-f]{64}/);
        const [got, want] = await page.evaluate(async () => [await shards(), await want()]);
        assert.deepEqual(got, want);
    },

    async "shards: a missing index and one without sums are refused, and a download is cancelled"({ page, server }) {
        await start(page, server);
        const said = await page.evaluate(async () => {
            const stop = new AbortController();
            const cancelled = refused(shards({ signal: stop.signal, onProgress: () => stop.abort() }));
            return {
                missing: await refused(meddino.load({ url: `${location.origin}/no.json` })),
                page: await refused(meddino.load({ url: `${location.origin}/empty.html` })),
                cancelled: await cancelled,
            };
        });
        assert.match(said.missing.message, /no.json: the server answered 404/);
        assert.match(said.page.message, /empty.html: no index of shards/);
        assert.equal(said.cancelled.kind, "cancelled", said.cancelled.message);
    },
};
