// Fetches an address as Baileys fetches media, through the engine's own way out; prints the status.
// Usage: node fetch.mjs <engine directory> <address>; the proxy's address on standard input.

import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { request } from 'node:https';

const [directory, address] = process.argv.slice(2);
await import(pathToFileURL(join(directory, 'silence.mjs')).href);
const { throughProxy } = await import(pathToFileURL(join(directory, 'proxy.mjs')).href);
const { dispatcher, fetchAgent } = throughProxy(readFileSync(0, 'utf8').trim(), true, new AbortController().signal);
const downloaded = await fetch(address, { dispatcher }).then(({ status }) => status, () => 'failed');
// As Baileys uploads: no protocol among the options.
const { hostname, port, pathname: path } = new URL(address);
const uploaded = await new Promise(resolve => {
	const sending = request({ hostname, port, path, method: 'POST', agent: fetchAgent }, answer => resolve(answer.resume().statusCode));
	sending.on('error', () => resolve('failed'));
	sending.end('x');
});
process.stdout.write(JSON.stringify([downloaded, uploaded]), () => process.exit(0));
