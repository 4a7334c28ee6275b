// Weights in shards from a URL: downloaded once, checked by SHA-256, and kept in the browser's own storage (OPFS). A
// download that was cut goes on where it ended.

/** The most bytes that a download keeps in memory before it writes them. */
const PIECE = 4 << 20;

/** Fetches an index of shards. Returns its URL and bytes, each shard's name, size and SHA-256, and the size of all. */
export async function readIndex(url, signal) {
    const bytes = new Uint8Array(await (await answered(url, { signal })).arrayBuffer());
    const shards = parsed(url, bytes);
    return { url, bytes, shards, size: shards.reduce((sum, shard) => sum + shard.size, 0) };
}

/**
 * Passes each shard to `take(shard, content)` as soon as it is here; meanwhile the next one is downloaded. `progress` is
 * called with `{done, size, cached}` in bytes.
 */
export async function eachShard({ url, shards, size }, signal, progress, take) {
    const folder = await storage();
    let done = 0;
    let taken = Promise.resolve();
    try {
        for (const shard of shards) {
            const report = (part, cached) => progress({ done: done + part, size, cached });
            const content = await kept(folder, new URL(shard.name, url), shard, signal, report);
            done += shard.size;
            report(0, true);
            await taken;
            taken = take(shard, content);
            // Its error is thrown where it is awaited, after the next download.
            taken.catch(() => {});
        }
        await taken;
    } finally {
        // Whatever failed, nothing goes on behind the caller's back.
        await taken.catch(() => {});
    }
}

/** Returns the folder of shards. */
async function storage() {
    try {
        return await (await navigator.storage.getDirectory()).getDirectoryHandle("meddino-weights", { create: true });
    } catch (error) {
        throw new Error(`the browser gives no storage for weights, as in some private windows: open a file of weights instead (${error.message})`);
    }
}

/** Returns each shard's name, size and SHA-256, which `meddino convert` writes into the index. */
function parsed(url, bytes) {
    let index;
    try {
        index = JSON.parse(new TextDecoder().decode(bytes));
    } catch (error) {
        throw new Error(`${url}: no index of shards, expected JSON as meddino convert writes it (${error.message})`);
    }
    const shards = Object.entries(index?.metadata?.shards ?? {}).map(([name, shard]) => ({ name, size: shard?.size, sha256: shard?.sha256 }));
    const isShard = ({ name, size, sha256 }) => /^[\w.-]+$/.test(name) && Number.isSafeInteger(size) && size > 0 && /^[0-9a-f]{64}$/.test(sha256);
    if (shards.length === 0 || !shards.every(isShard)) {
        throw new Error(`${url}: its index names no shards with sizes and SHA-256; write it with meddino convert and \`shards\``);
    }
    return shards;
}

/** Returns the content of a shard: from storage, or downloaded from where an earlier download ended. */
async function kept(folder, url, { name, size, sha256 }, signal, report) {
    signal.throwIfAborted();
    const whole = `${sha256}.safetensors`;
    const stored = await folder.getFileHandle(whole).then((handle) => handle.getFile(), () => undefined);
    if (stored?.size === size) {
        if ((await hash(stored)) === sha256) return stored;
        await folder.removeEntry(whole);
    }
    const part = `${sha256}.part`;
    const handle = await folder.getFileHandle(part, { create: true });
    const file = await handle.createSyncAccessHandle().catch((error) => {
        throw new Error(`shard ${name}: another page or tab is loading it; wait until it is there, and load it again (${error.message})`);
    });
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
        write(file, value, at);
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

/** Writes all of `bytes`, or says that there is no room. */
function write(file, bytes, at) {
    const full = (why) => new Error(`the browser's storage has no room for the weights: remove data of other pages, or open a file of weights (${why})`);
    let written;
    try {
        written = file.write(bytes, { at });
    } catch (error) {
        throw full(error.message);
    }
    if (written !== bytes.length) throw full(`${written} of ${bytes.length} bytes were written`);
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

/** Returns the SHA-256 of a blob, in hexadecimal. */
export async function hash(blob) {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
    return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
