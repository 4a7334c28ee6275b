// Weights in shards from a URL: downloaded once, checked by SHA-256, and kept in the browser's own storage (OPFS). A
// download that was cut goes on where it ended.

/** The most bytes that a download keeps in memory before it writes them. */
const PIECE = 4 << 20;

/**
 * Returns the name of the weights, the bytes of their index, and each shard's name and content. `url` is that of the
 * index, beside which the shards are. `progress` is called with `{done, size, cached}` in bytes.
 */
export async function shards(url, signal, progress) {
    const index = new Uint8Array(await (await answered(url, { signal })).arrayBuffer());
    const listed = parsed(url, index);
    const size = listed.reduce((sum, shard) => sum + shard.size, 0);
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("meddino-weights", { create: true });
    const files = [];
    let done = 0;
    for (const shard of listed) {
        const report = (part, cached) => progress({ done: done + part, size, cached });
        files.push([shard.name, await kept(folder, new URL(shard.name, new URL(url, location.href)), shard, signal, report)]);
        done += shard.size;
        report(0, true);
    }
    return { name: url, index, files };
}

/** Returns each shard's name, size and SHA-256, which `meddino convert` writes into the index. */
function parsed(url, bytes) {
    let index;
    try {
        index = JSON.parse(new TextDecoder().decode(bytes));
    } catch (error) {
        throw new Error(`${url}: no index of shards, expected JSON as meddino convert writes it (${error.message})`);
    }
    const shards = index.metadata?.shards;
    const isShard = ([name, { size, sha256 } = {}]) => /^[\w.-]+$/.test(name) && Number.isSafeInteger(size) && size > 0 && /^[0-9a-f]{64}$/.test(sha256);
    if (!shards || !Object.entries(shards).every(isShard)) {
        throw new Error(`${url}: its index names no shards with sizes and SHA-256; write it with meddino convert and \`shards\``);
    }
    return Object.entries(shards).map(([name, { size, sha256 }]) => ({ name, size, sha256 }));
}

/** Returns the content of a shard: from storage, or downloaded from where an earlier download ended. */
async function kept(folder, url, { name, size, sha256 }, signal, report) {
    const whole = `${sha256}.safetensors`;
    const stored = await folder.getFileHandle(whole).then((handle) => handle.getFile(), () => undefined);
    if (stored?.size === size) {
        if ((await hash(stored)) === sha256) return stored;
        await folder.removeEntry(whole);
    }
    const part = `${sha256}.part`;
    const handle = await folder.getFileHandle(part, { create: true });
    const file = await handle.createSyncAccessHandle();
    try {
        await download(file, url, size, signal, report);
    } finally {
        file.close();
    }
    const content = await handle.getFile();
    const found = await hash(content);
    if (found !== sha256) {
        await folder.removeEntry(part);
        throw new Error(`shard ${name}: expected SHA-256 ${sha256}, found ${found}; the file at ${url} is damaged or another one: load it again`);
    }
    await handle.move(folder, whole);
    return (await folder.getFileHandle(whole)).getFile();
}

/** Downloads what is missing of a file of `size` bytes. */
async function download(file, url, size, signal, report) {
    let at = file.getSize();
    if (at > size) file.truncate((at = 0));
    report(at, false);
    if (at === size) return;
    const headers = at > 0 ? { Range: `bytes=${at}-` } : {};
    const answer = await answered(url, { signal, headers });
    // A server that does not know ranges sends the whole file.
    if (at > 0 && answer.status !== 206) file.truncate((at = 0));
    const reader = answer.body.getReader();
    let unflushed = 0;
    for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (at + value.length > size) throw new Error(`${url}: longer than the ${size} bytes that its index promises`);
        file.write(value, { at });
        at += value.length;
        unflushed += value.length;
        if (unflushed > PIECE) {
            file.flush();
            unflushed = 0;
        }
        report(at, false);
    }
    file.flush();
    if (at < size) throw new Error(`${url}: the download ended after ${at} of ${size} bytes; load it again, and it goes on from there`);
}

async function answered(url, options) {
    let answer;
    try {
        answer = await fetch(url, options);
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Error(`${url}: cannot be fetched (${error.message})`);
    }
    if (!answer.ok) throw new Error(`${url}: the server answered ${answer.status} ${answer.statusText}`);
    return answer;
}

async function hash(blob) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
    return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
