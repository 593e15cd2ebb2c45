// Puts Baileys' ratchet steps in an order that survives a crash.
//
// No frame leaves before the key changes that were made before it are durable (keystore.mjs, gate.mjs). What is left to do:
//
// Outbound: Baileys runs a whole send in one key transaction, whose changes it hands over after the socket write
// (source: Socket/messages-send.js relayMessage). Each step that moves a ratchet therefore runs outside that transaction's
// async context and opens and ends its own: change, then frame.
//
// Inbound: Baileys hands the ratchet step over, sends the receipt and reports the message last. Here the plaintext becomes
// durable inside the transaction that consumed it (`inbound.keep`): spool, commit, receipt. The gateway is told at once; the
// next message is read while the commit is under way, and several share one. What a crash leaves:
//   after the spool write   the message is replayed, the server delivers it again and it decrypts again
//   after the commit        it is replayed; the server's second copy no longer decrypts and is answered from the spool
//   after the receipt       it is replayed
// The first holds also when the gateway has stored the message by then: it knows it at its second arrival.
//
// Steps on one address never overlap, whatever name the address goes by (phone number or LID): Baileys' own locks go by
// the name, and two names of one session would overwrite each other's step.

import { AsyncResource } from 'node:async_hooks';
import { DEFAULT_CONNECTION_CONFIG } from 'baileys';
import { reach } from './faults.mjs';
import { GroupKeys } from './group_keys.mjs';
import { KeyedMutex } from './mutex.mjs';
import { decodePlaintext } from './reading.mjs';

const makeRepository = DEFAULT_CONNECTION_CONFIG.makeSignalRepository;

/** Made while no transaction is open: what runs in it belongs to none. */
const outside = new AsyncResource('wahub-ratchet');

/**
 * @param {import('./inbound.mjs').Inbound} inbound
 * @returns what Baileys' option `makeSignalRepository` takes
 */
export function orderedRepository(inbound) {
	return (auth, logger, pnToLid) => {
		const inner = makeRepository(auth, logger, pnToLid);
		const groupKeys = new GroupKeys(inner);
		tellMappings(inner.lidMapping, pairs => inbound.link.learn(pairs));
		const steps = new KeyedMutex();
		const alone = (key, task) => outside.runInAsyncScope(() => steps.run(key, task));

		const onAddress = async (jid, task) => {
			const lid = jid.includes('@s.whatsapp.net') ? await inner.lidMapping.getLIDForPN(jid) : null;
			return steps.run(inner.jidToSignalProtocolAddress(lid ?? jid), task);
		};
		const outbound = (jid, task) => outside.runInAsyncScope(() => onAddress(jid, task));

		const consume = async (ciphertext, lockKey, decrypt) => {
			const arrival = await inbound.arrivalOf(ciphertext, auth.keys);
			if (!arrival) {
				return decrypt();
			}
			let kept = [];
			let plaintext;
			try {
				plaintext = await auth.keys.transaction(async () => {
					const decrypted = await decrypt();
					const message = readable(decrypted);
					await groupKeys.take(message, arrival.author);
					kept = await inbound.keep(arrival, decrypted, message);
					return decrypted;
				}, lockKey);
			} catch (error) {
				await inbound.discard(kept);
				const known = inbound.knownPlaintext(arrival, error);
				if (known) {
					return known;
				}
				throw error;
			}
			inbound.link.stored().then(() => reach('after_key_commit'), () => {});
			inbound.committed(arrival, kept);
			return plaintext;
		};

		return {
			...inner,
			processSenderKeyDistributionMessage: options => groupKeys.process(options),
			encryptMessage: options => outbound(options.jid, () => inner.encryptMessage(options)),
			injectE2ESession: options => outbound(options.jid, () => inner.injectE2ESession(options)),
			encryptGroupMessage: options => alone(options.group, () => inner.encryptGroupMessage(options)),
			getSenderKeyDistributionMessage: options =>
				alone(options.group, () => inner.getSenderKeyDistributionMessage(options)),
			decryptMessage: options =>
				outbound(options.jid, () => consume(options.ciphertext, options.jid, () => inner.decryptMessage(options))),
			decryptGroupMessage: options =>
				alone(options.group, () => consume(options.msg, options.group, () => inner.decryptGroupMessage(options)))
		};
	};
}

/** All ways in which a number and a LID come together end here: stanzas, queries, the phone's news (source: Signal/lid-mapping.js). */
function tellMappings(lidMapping, learn) {
	const store = lidMapping.storeLIDPNMappings.bind(lidMapping);
	lidMapping.storeLIDPNMappings = pairs => {
		learn(pairs);
		return store(pairs);
	};
}

function readable(plaintext) {
	try {
		return decodePlaintext(plaintext);
	} catch {
		return null;
	}
}
