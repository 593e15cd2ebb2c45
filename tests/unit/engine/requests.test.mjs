// Why a message could not be prepared; run by test_parts.py.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

const load = name => import(pathToFileURL(join(process.env.ENGINE_DIRECTORY, name)).href);
const { Requests } = await load('requests.mjs');
const { Sends } = await load('sends.mjs');

const GROUP = '120363000000000001@g.us';
const refused = data => Object.assign(new Error('forbidden'), { data });

/**
 * What becomes of a text when Baileys fails with `error` before it writes.
 * @param {(link: object) => Promise<object>} groupMetadata
 */
async function outcome(chat, error, groupMetadata) {
	const asked = [];
	const results = [];
	const link = { isOpen: true, ended: false, gate: {}, logger: undefined, watching: { met: () => {} } };
	link.sends = new Sends(60_000, result => results.push(result));
	link.sock = {
		ws: { isOpen: true },
		relayMessage: () => Promise.reject(error),
		groupMetadata: jid => {
			asked.push(jid);
			return groupMetadata(link);
		}
	};
	await new Requests(link).send({ id: '3EB01', chat, content: { kind: 'text', text: 'hello' } });
	const [{ outcome: what, reason, permanent, link_lost: lost }] = results;
	assert.equal(results.length, 1);
	return { what, reason, permanent, lost, asked };
}

test('group: who is refused its members is told so, for good', async () => {
	for (const [code, reason] of [[403, 'not_in_group'], [404, 'group_not_found']]) {
		assert.deepEqual(await outcome(GROUP, refused(code), () => Promise.reject(refused(code))), {
			what: 'not_started', reason, permanent: true, lost: false, asked: [GROUP]
		});
	}
	// The second answer counts: it is only about the group.
	const changed = await outcome(GROUP, refused(404), () => Promise.reject(refused(403)));
	assert.equal(changed.reason, 'not_in_group');
});

test('group: what was refused, but not the group, is tried again', async () => {
	const answers = [
		() => Promise.resolve({ participants: [] }),
		() => Promise.reject(refused(500)),
		() => Promise.reject(new Error('closed'))
	];
	for (const answer of answers) {
		assert.deepEqual(await outcome(GROUP, refused(403), answer), {
			what: 'not_started', reason: 'prepare_failed', permanent: false, lost: false, asked: [GROUP]
		});
	}
});

test('group: other errors are not asked about', async () => {
	for (const error of [refused(429), refused(500), refused(undefined), new Error('closed')]) {
		assert.deepEqual(await outcome(GROUP, error, () => Promise.reject(refused(403))), {
			what: 'not_started', reason: 'prepare_failed', permanent: false, lost: false, asked: []
		});
	}
});

test('group: a link that ends while it asks has lost the message, and ended nothing', async () => {
	const end = async link => {
		link.ended = true;
		throw new Error('closed');
	};
	assert.deepEqual(await outcome(GROUP, refused(403), end), {
		what: 'not_started', reason: 'link_lost', permanent: false, lost: true, asked: [GROUP]
	});
});
