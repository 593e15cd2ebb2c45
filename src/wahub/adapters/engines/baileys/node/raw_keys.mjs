// Spares keys a detour. Imported before the libraries.
//
// Node 24 learns that a key is bytes, and no KeyObject, from two errors that it catches (source: lib/internal/crypto/keys.js
// prepareSecretKey): more than the digest itself costs, and ten keys are used for each received message. To make a
// KeyObject first costs a fifth of it.

import { createRequire, syncBuiltinESMExports } from 'node:module';

const crypto = createRequire(import.meta.url)('node:crypto');
const { createSecretKey } = crypto;

for (const name of ['createHmac', 'createCipheriv', 'createDecipheriv']) {
	const make = crypto[name];
	crypto[name] = (algorithm, key, ...rest) =>
		make(algorithm, key instanceof Uint8Array ? createSecretKey(key) : key, ...rest);
}
syncBuiltinESMExports();
