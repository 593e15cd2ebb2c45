// Keeps a Signal session that could not read a message as it was, and all sessions small. Imported before Baileys.
//
// Two devices that write to each other for the first time, and every renewed session, leave several sessions under one
// address. libsignal tries them in turn, and one that fails has already stepped its ratchet for a message that was not its own
// (source: libsignal src/session_cipher.js decryptWithSessions, doDecryptWhisperMessage). The damage is stored together
// with the success of the next session: what is then sent through the damaged one cannot be read by the other side.
//
// Each time the other side answers, a session gets a receiving chain, and libsignal never forgets one (source: maybeStepRatchet,
// calculateRatchet): the record of a long talk, read and written with each message, would grow for ever. Signal's own library
// keeps five.

import { createRequire } from 'node:module';

const require = createRequire(createRequire(import.meta.url).resolve('libsignal'));
const { prototype } = require('./src/session_cipher.js');
const { RECEIVING } = require('./src/chain_type.js');
const tryInTurn = prototype.decryptWithSessions;
const stepRatchet = prototype.maybeStepRatchet;

/** Of the other side's latest turns: what is under way from an older one is asked for again. */
const CHAINS_KEPT = 10;

prototype.maybeStepRatchet = function (session, remoteKey, previousCounter) {
	if (session.getChain(remoteKey)) {
		return;
	}
	stepRatchet.call(this, session, remoteKey, previousCounter);
	// In the order they were made, also after they were stored.
	const received = [...session.chains()].filter(([, { chainType }]) => chainType === RECEIVING);
	received.slice(0, -CHAINS_KEPT).forEach(([key]) => session.deleteChain(key));
};

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
