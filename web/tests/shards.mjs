// Weights in shards from a URL: downloaded once, checked, gone on with.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { DESK, meddino, metadata, once } from "./files.mjs";

const MODEL = "seeded:2:tiny";

/** Divides the one shard of a small model into `count`, because the command writes shards of 16 MiB. */
function divide(from, to, count) {
    const bytes = readFileSync(`${from}/model-00001-of-00001.safetensors`);
    const length = Number(bytes.readBigUInt64LE(0));
    const { __metadata__, ...tensors } = JSON.parse(bytes.toString("utf8", 8, 8 + length));
    const names = Object.keys(tensors);
    const [shards, weight_map] = [{}, {}];
    mkdirSync(to, { recursive: true });
    for (let part = 0; part < count; part++) {
        const shard = `model-0000${part + 1}-of-0000${count}.safetensors`;
        const [header, values] = [{ __metadata__ }, []];
        let at = 0;
        for (const name of names.filter((_, i) => Math.floor((i * count) / names.length) === part)) {
            const { data_offsets: [start, end], ...rest } = tensors[name];
            header[name] = { ...rest, data_offsets: [at, (at += end - start)] };
            values.push(bytes.subarray(8 + length + start, 8 + length + end));
            weight_map[name] = shard;
        }
        const text = JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8);
        const size = Buffer.alloc(8);
        size.writeBigUInt64LE(BigInt(text.length));
        const content = Buffer.concat([size, Buffer.from(text), ...values]);
        writeFileSync(`${to}/${shard}`, content);
        shards[shard] = { size: content.length, sha256: createHash("sha256").update(content).digest("hex") };
    }
    writeFileSync(`${to}/model.safetensors.index.json`, JSON.stringify({ metadata: { shards }, weight_map }));
}

/** Writes the model's shards, and opens a page that loads them as `shards()` and the seeded model as `want()`. */
async function start(page, server) {
    const folder = `${DESK}/files/shards`;
    await once(folder, async () => {
        await meddino("convert", MODEL, "--shards", `${DESK}/files/whole`);
        divide(`${DESK}/files/whole`, folder, 3);
    });
    server.faults.clear();
    server.requests.length = 0;
    await page.goto(`${server.url}/empty.html`);
    await page.evaluate(async (model) => {
        const { Meddino } = await import("/meddino/meddino.js");
        globalThis.meddino = new Meddino();
        const load = meddino.load.bind(meddino);
        meddino.load = (source, options) => load(source, { backend: "gpu", ...options });
        const tokens = async (source, options) => {
            const engine = await meddino.load(source, options);
            const of = await engine.features(await meddino.phantom(), 0, { size: 64 });
            const { patches } = await of.tokens();
            await engine.close();
            return [...patches];
        };
        globalThis.progress = [];
        globalThis.shards = (options) => tokens({ url: `${location.origin}/shards/model.safetensors.index.json` }, { onProgress: (said) => progress.push(said), ...options });
        globalThis.want = (options) => tokens({ seeded: model }, options);
        globalThis.refused = (promise) => promise.then(() => ({ message: "nothing was refused" }), ({ message, kind }) => ({ message, kind }));
    }, MODEL);
    const { metadata } = JSON.parse(readFileSync(`${folder}/model.safetensors.index.json`));
    const names = Object.keys(metadata.shards);
    return { path: `/shards/${names[0]}`, last: `/shards/${names.at(-1)}`, size: metadata.shards[names[0]].size, count: names.length };
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

    async "shards: those that are here are on the GPU while others download"({ page, server }) {
        const { last } = await start(page, server);
        let release;
        server.faults.set(last, { hold: new Promise((resolve) => (release = resolve)) });
        await page.evaluate(() => ((globalThis.got = shards()), undefined));
        await page.waitForFunction(() => progress.at(-1)?.uploaded > 0);
        const before = await page.evaluate(() => progress.at(-1));
        assert.ok(before.done < before.size, "the last shard is not here yet");
        release();
        const [got, want, after] = await page.evaluate(async () => [await got, await want(), progress.at(-1)]);
        assert.deepEqual(got, want);
        assert.ok(after.uploaded > before.uploaded && after.done === after.size);
    },

    async "shards: on the CPU, the same bits as one file"({ page, server }) {
        await start(page, server);
        copyFileSync(`${DESK}/files/whole/model-00001-of-00001.safetensors`, `${DESK}/files/cpu.safetensors`);
        const [got, want, identities] = await page.evaluate(async () => {
            const backend = "cpu";
            const got = await shards({ backend });
            const identity = async (source) => {
                const of = await (await meddino.load(source, { backend })).features(await meddino.phantom(), 0, { size: 64 });
                const bytes = await of.safetensors();
                const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
                return JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))).__metadata__.checkpoint_sha256;
            };
            const file = new File([await (await fetch("/cpu.safetensors")).blob()], "cpu.safetensors");
            return [got, await want({ backend }), [await identity({ url: "shards/model.safetensors.index.json" }), await identity({ file })]];
        });
        assert.deepEqual(got, want);
        for (const [i, name] of ["shards/model.safetensors.index.json", "cpu.safetensors"].entries()) {
            const command = `${DESK}/files/cpu-${i}.safetensors`;
            await meddino("features", "phantom", "-c", `${DESK}/files/${name}`, "--size", "64", "--backend", "cpu", "--overwrite", "-o", command);
            assert.equal(identities[i], metadata(readFileSync(command)).checkpoint_sha256, name);
        }
    },

    async "shards: the precision of the position embedding, a URL beside the page, and what identifies the weights"({ page, server }) {
        await start(page, server);
        copyFileSync(`${DESK}/files/whole/model-00001-of-00001.safetensors`, `${DESK}/files/one.safetensors`);
        const [got, want, bf16, saved] = await page.evaluate(async () => {
            const tokens = async (source, rope) => {
                const engine = await meddino.load(source, { rope });
                const { patches } = await (await engine.features(await meddino.phantom(), 0, { size: 64 })).tokens();
                return [...patches];
            };
            const url = "shards/model.safetensors.index.json";
            const known = await (await meddino.load({ url })).features(await meddino.phantom(), 0, { size: 64 });
            const file = new File([await (await fetch("/one.safetensors")).blob()], "one.safetensors");
            const ofFile = await (await meddino.load({ file })).features(await meddino.phantom(), 0, { size: 64 });
            const saved = [[...(await known.safetensors())], [...(await ofFile.safetensors())]];
            return [await tokens({ url }, "f32"), await tokens({ seeded: "seeded:2:tiny" }, "f32"), await tokens({ url }, "bf16"), saved];
        });
        // Files of features state what identifies the weights, as the command's do.
        for (const [name, bytes] of [["shards/model.safetensors.index.json", saved[0]], ["one.safetensors", saved[1]]]) {
            const command = `${DESK}/files/of-${name.replaceAll("/", "-")}.safetensors`;
            await meddino("features", "phantom", "-c", `${DESK}/files/${name}`, "--size", "64", "--backend", "cpu", "--overwrite", "-o", command);
            assert.ok(metadata(Buffer.from(bytes)).checkpoint_sha256, name);
            assert.equal(metadata(Buffer.from(bytes)).checkpoint_sha256, metadata(readFileSync(command)).checkpoint_sha256, name);
        }
        assert.deepEqual(got, want);
        assert.notDeepEqual(bf16, want);
    },

    async "shards: a missing index and one without sums are refused, and a download is cancelled"({ page, server }) {
        await start(page, server);
        writeFileSync(`${DESK}/files/without.json`, JSON.stringify({ metadata: { shards: { "a.safetensors": null } }, weight_map: { a: "a.safetensors" } }));
        const said = await page.evaluate(async () => {
            const stop = new AbortController();
            const cancelled = refused(shards({ signal: stop.signal, onProgress: () => stop.abort() }));
            return {
                missing: await refused(meddino.load({ url: `${location.origin}/no.json` })),
                page: await refused(meddino.load({ url: `${location.origin}/empty.html` })),
                without: await refused(meddino.load({ url: `${location.origin}/without.json` })),
                rope: await refused(meddino.load({ url: `${location.origin}/shards/model.safetensors.index.json` }, { rope: "f8" })),
                cancelled: await cancelled,
            };
        });
        assert.match(said.missing.message, /no.json: the server answered 404/);
        assert.match(said.page.message, /empty.html: no index of shards/);
        assert.match(said.without.message, /without.json: its index names no shards with sizes and SHA-256/);
        assert.match(said.rope.message, /^rope: 'f8' is neither f32 nor bf16/);
        assert.equal(said.cancelled.kind, "cancelled", said.cancelled.message);
    },
};
