// A static server on loopback that a test can make fail: cut a download, change a byte.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".wasm": "application/wasm", ".json": "application/json" };

/**
 * Serves the first of `folders` that has a file. `faults` maps a path to `{cut: bytes}`, `{flip: offset}`, or `{hold}`, a
 * promise that the answer waits for; each once. Every answer has `headers`. `reported` is a promise of the first JSON that a
 * page posts.
 */
export async function serve(folders, headers = {}) {
    const faults = new Map();
    const requests = [];
    let report;
    const reported = new Promise((resolve) => (report = resolve));
    const server = createServer(async (request, response) => {
        const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
        requests.push({ path, range: request.headers.range });
        if (request.method === "POST") return hear(request, response, report);
        for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
        if (path === "/empty.html") return response.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>empty</title>");
        const name = path.endsWith("/") ? `${path}index.html` : path;
        for (const folder of folders) {
            const bytes = await readFile(join(folder, name)).catch(() => undefined);
            if (bytes) return answer(request, response, path, bytes, faults, TYPES[extname(name)] ?? "application/octet-stream");
        }
        response.writeHead(404).end();
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return { url: `http://127.0.0.1:${server.address().port}`, faults, requests, reported, close: () => server.close() };
}

async function hear(request, response, report) {
    const parts = [];
    for await (const part of request) parts.push(part);
    response.writeHead(204).end();
    report(JSON.parse(Buffer.concat(parts).toString()));
}

async function answer(request, response, path, bytes, faults, type) {
    const fault = faults.get(path);
    faults.delete(path);
    await fault?.hold;
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    let part = bytes.subarray(from);
    if (fault?.flip !== undefined) {
        part = Buffer.from(part);
        part[fault.flip - from] ^= 1;
    }
    const range = from > 0 ? { "Content-Range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {};
    response.writeHead(from > 0 ? 206 : 200, { "Content-Type": type, "Content-Length": part.length, ...range });
    if (fault?.cut === undefined) return response.end(part);
    response.write(part.subarray(0, fault.cut - from), () => setTimeout(() => response.destroy(), 100));
}
