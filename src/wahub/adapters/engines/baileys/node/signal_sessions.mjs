// Keeps a Signal session that could not read a message as it was. Imported before Baileys.
//
// Two devices that write to each other for the first time, and every renewed session, leave several sessions under one
// address. libsignal tries them in turn, and one that fails has already stepped its ratchet for a message that was not its own
// (source: libsignal src/session_cipher.js decryptWithSessions, doDecryptWhisperMessage). The damage is stored together
// with the success of the next session: what is then sent through the damaged one cannot be read by the other side.

import { createRequire } from 'node:module';

const require = createRequire(createRequire(import.meta.url).resolve('libsignal'));
const { prototype } = require('./src/session_cipher.js');
const tryInTurn = prototype.decryptWithSessions;

prototype.decryptWithSessions = async function (data, sessions) {
	if (sessions.length < 2) {
		return tryInTurn.call(this, data, sessions);
	}
	let failure;
	for (const session of sessions) {
		const before = session.serialize();
		try {
			return await tryInTurn.call(this, data, [session]);
		} catch (error) {
			Object.assign(session, session.constructor.deserialize(before));
			failure = error;
		}
	}
	throw failure;
};
