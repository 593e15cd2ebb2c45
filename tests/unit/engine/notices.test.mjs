// What group notifications, calls and presence stanzas say; run by test_parts.py.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

const load = name => import(pathToFileURL(join(process.env.ENGINE_DIRECTORY, name)).href);
const { ACK_LOG } = await load('backlog.mjs');
const { readCall, RememberedCalls } = await load('calls.mjs');
const { Gate } = await load('gate.mjs');
const { Inbound } = await load('inbound.mjs');
const { readGroupChanges } = await load('group_changes.mjs');
const { Notices } = await load('notices.mjs');
const { Watching } = await load('watching.mjs');

const ME = { id: '15550001111:3@s.whatsapp.net', lid: '900111@lid' };
const ANA = { pn: '15550002222@s.whatsapp.net', lid: '900222@lid', digits: { phone: '15550002222', lid: '900222' } };
const BEN = { pn: '15550003333@s.whatsapp.net', lid: '900333@lid', digits: { phone: '15550003333', lid: '900333' } };
const GROUP = '120363000000000001@g.us';

const node = (tag, attrs = {}, content = undefined) => ({ tag, attrs, content });
const text = words => new TextEncoder().encode(words);
const person = (one, attrs = {}) => node('participant', { jid: one.lid, phone_number: one.pn, ...attrs });
const fromAna = { participant: ANA.lid, participant_pn: ANA.pn, addressing_mode: 'lid', notify: 'Ana' };
const notification = (changes, attrs = fromAna) =>
	node('notification', { from: GROUP, type: 'w:gp2', id: '77', t: '1700000000', ...attrs }, changes);
const changesOf = (...changes) => readGroupChanges(notification(changes), ME).map(body => body.details.group);

const SAID = [
	['a new group', node('create', { type: 'new' }, [node('group', { id: '1', subject: 'Ours' }, [person(ANA), person(BEN)])]), {
		action: 'create', participants: [ANA.digits, BEN.digits], subject: 'Ours', isNew: true, reason: null
	}],
	['an old group that was joined', node('create', { reason: 'invite' }, [node('group', { id: '1', subject: 'Ours' }, [])]), {
		action: 'create', participants: [], subject: 'Ours', isNew: false, reason: 'invite'
	}],
	['a create that says nothing', node('create'), { action: 'create', participants: [], subject: null, isNew: false, reason: null }],
	['add', node('add', { reason: 'linked_group_join' }, [person(BEN)]), {
		action: 'add', participants: [BEN.digits], subject: null, reason: 'linked_group_join'
	}],
	['remove', node('remove', {}, [person(BEN)]), { action: 'remove', participants: [BEN.digits], subject: null }],
	['remove by themselves', node('remove', {}, [person(ANA)]), { action: 'leave', participants: [ANA.digits], subject: null }],
	['remove of several, the author too', node('remove', {}, [person(ANA), person(BEN)]), {
		action: 'remove', participants: [ANA.digits, BEN.digits], subject: null
	}],
	['leave', node('leave', {}, [person(BEN)]), { action: 'leave', participants: [BEN.digits], subject: null }],
	['promote', node('promote', {}, [person(BEN)]), { action: 'promote', participants: [BEN.digits], subject: null }],
	['demote', node('demote', {}, [node('participant', { jid: BEN.pn, lid: BEN.lid })]), {
		action: 'demote', participants: [BEN.digits], subject: null
	}],
	['a hidden member', node('promote', {}, [node('participant', { jid: BEN.lid })]), {
		action: 'promote', participants: [{ phone: null, lid: '900333' }], subject: null
	}],
	['subject', node('subject', { subject: 'New' }), { action: 'subject', participants: [], subject: 'New' }],
	['description', node('description', { id: 'D1' }, [node('body', {}, text('Wörter'))]), {
		action: 'description', participants: [], subject: null, description: 'Wörter'
	}],
	['a description that was taken away', node('description', {}, [node('delete')]), {
		action: 'description', participants: [], subject: null, description: null
	}],
	['only admins write', node('announcement', { v_id: '1' }), {
		action: 'announcement', participants: [], subject: null, enabled: true
	}],
	['everybody writes', node('not_announcement'), { action: 'announcement', participants: [], subject: null, enabled: false }],
	['only admins change it', node('locked'), { action: 'locked', participants: [], subject: null, enabled: true }],
	['everybody changes it', node('unlocked'), { action: 'locked', participants: [], subject: null, enabled: false }],
	['messages vanish', node('ephemeral', { expiration: '86400' }), {
		action: 'ephemeral', participants: [], subject: null, seconds: 86400
	}],
	['messages stay', node('not_ephemeral'), { action: 'ephemeral', participants: [], subject: null, seconds: 0 }],
	['a new link', node('invite', { code: 'AbC' }), { action: 'invite', participants: [], subject: null, inviteCode: 'AbC' }],
	['a request to join', node('created_membership_requests', {}, [person(BEN)]), {
		action: 'other', participants: [BEN.digits], subject: null, change: 'created_membership_requests'
	}],
	['a name that every object has', node('constructor'), { action: 'other', participants: [], subject: null, change: 'constructor' }]
];

for (const [name, change, said] of SAID) {
	test(`group: ${name}`, () => assert.deepEqual(changesOf(change), [said]));
}

test('group: who did it, where and when', () => {
	const [body] = readGroupChanges(notification([node('locked')]), ME);
	assert.deepEqual({ ...body, details: null }, {
		message_id: '77', chat: GROUP, chat_phone: null, chat_lid: null, sender: ANA.lid, sender_phone: '15550002222',
		sender_lid: '900222', from_me: false, push_name: 'Ana', timestamp: 1700000000, type: 'group_update', text: null, target: null,
		details: null, raw: null
	});
});

test('group: the account itself, by number and by LID', () => {
	for (const participant of ['15550001111@s.whatsapp.net', '900111@lid', '15550001111:9@s.whatsapp.net']) {
		assert.ok(readGroupChanges(notification([node('locked')], { participant }), ME)[0].from_me, participant);
	}
});

test('group: by nobody, several at once, and what is no group', () => {
	const [first, second] = readGroupChanges(notification([node('locked'), node('subject', { subject: 'New' })], {}), ME);
	const { sender, sender_phone: phone, sender_lid: lid, from_me: mine, push_name: name } = first;
	assert.deepEqual([sender, phone, lid, mine, name], [GROUP, null, null, false, null]);
	assert.deepEqual([first.message_id, second.message_id], ['77', '77.2']);
	assert.deepEqual(readGroupChanges(notification([node('locked')], { from: ANA.pn }), ME), []);
	assert.deepEqual(readGroupChanges(notification(undefined), ME), []);
	assert.deepEqual(readGroupChanges(notification([node('locked')], { id: undefined }), ME), []);
});

// --- calls ------------------------------------------------------------------------------------------------------------------

const call = (signal, attrs = {}) => node('call', { from: ANA.lid, id: 'S1', t: '1700000000', notify: 'Ana', ...attrs }, [signal]);
const signalOf = (tag, attrs = {}, content = []) => node(tag, { 'call-id': 'C1', 'call-creator': ANA.lid, ...attrs }, content);
const detailsOf = bodies => bodies.map(body => body.details.call);

const ENDS = [
	[signalOf('accept'), 'accept', null],
	[signalOf('reject'), 'reject', null],
	[signalOf('terminate'), 'terminate', null],
	[signalOf('terminate', { reason: 'timeout' }), 'timeout', 'timeout'],
	[signalOf('terminate', { reason: 'accepted_elsewhere' }), 'terminate', 'accepted_elsewhere']
];

for (const [signal, status, reason] of ENDS) {
	test(`call: rings, then ${reason ?? status}`, () => {
		const calls = new RememberedCalls();
		const [rings] = readCall(call(signalOf('offer', { caller_pn: ANA.pn }, [node('audio'), node('video')])), ME, calls);
		const [ends] = readCall(call(signal, { id: 'S2' }), ME, calls);
		assert.deepEqual(detailsOf([rings, ends]), [
			{ callId: 'C1', status: 'offer', video: true, group: false, reason: null },
			{ callId: 'C1', status, video: true, group: false, reason }
		]);
		for (const body of [rings, ends]) {
			assert.deepEqual([body.chat, body.sender, body.from_me, body.push_name], [ANA.lid, ANA.lid, false, 'Ana']);
			assert.deepEqual([body.chat_phone, body.chat_lid], ['15550002222', '900222']);
			assert.deepEqual([body.sender_phone, body.sender_lid], ['15550002222', '900222']);
		}
	});
}

test('call: of what nobody remembers the kind is not known', () => {
	const [body] = readCall(call(signalOf('terminate', { reason: 'timeout' })), ME, new RememberedCalls());
	assert.deepEqual(body.details.call, { callId: 'C1', status: 'timeout', video: null, group: null, reason: 'timeout' });
	assert.equal(body.sender_phone, null);
});

test('call: in a group, by a notice', () => {
	const calls = new RememberedCalls();
	const notice = signalOf('offer_notice', { 'group-jid': GROUP, media: 'video', type: 'group', caller_pn: ANA.pn });
	const bodies = [notice, signalOf('terminate')].flatMap(signal => readCall(call(signal, { from: 'C1@call' }), ME, calls));
	const said = detailsOf(bodies).map(({ status, video, group }) => [status, video, group]);
	assert.deepEqual(said, [['offer', true, true], ['terminate', true, true]]);
	for (const { chat, chat_lid: lid, sender, sender_phone: phone } of bodies) {
		assert.deepEqual([chat, lid, sender, phone], [GROUP, null, ANA.lid, '15550002222']);
	}
});

test('call: that the account itself began is with whom it called', () => {
	const own = { 'call-creator': ME.lid };
	const [body] = readCall(call(signalOf('reject', own)), ME, new RememberedCalls());
	assert.deepEqual([body.chat, body.sender, body.from_me], [ANA.lid, ANA.lid, false]);
	const [mine] = readCall(call(signalOf('accept'), { from: ME.lid }), ME, new RememberedCalls());
	assert.deepEqual([mine.chat, mine.sender, mine.from_me], [ANA.lid, ME.lid, true]);
});

test('call: what the apps tell each other meanwhile, and what is no call', () => {
	for (const tag of ['preaccept', 'relaylatency', 'transport', 'mute_v2', 'toString']) {
		assert.deepEqual(readCall(call(signalOf(tag)), ME, new RememberedCalls()), [], tag);
	}
	assert.deepEqual(readCall(call(node('offer')), ME, new RememberedCalls()), []);
	assert.deepEqual(readCall(node('call', { from: ANA.pn, id: 'S1' }), ME, new RememberedCalls()), []);
	const byNobody = call(signalOf('offer', { 'call-creator': 'C1@call' }), { from: 'C1@call' });
	assert.deepEqual(readCall(byNobody, ME, new RememberedCalls()), []);
});

test('call: so many are remembered and no more', () => {
	const calls = new RememberedCalls();
	for (let count = 0; count < 1000; count += 1) {
		readCall(call(signalOf('offer', { 'call-id': `C${count}` })), ME, calls);
	}
	assert.ok(calls.kinds.size <= 64);
	assert.equal(calls.get('C999').video, false);
	assert.equal(calls.get('C0').video, null);
});

// --- keeping ----------------------------------------------------------------------------------------------------------------

/** Some turns of the event loop: all that is ready has run. */
const turn = () => new Promise(setImmediate);

/** @param {Record<string, string>} mapping what the account knows of numbers and LIDs @param {string[][]} asked what was looked up */
function keysWith(mapping, asked = []) {
	const known = ids => Object.fromEntries(ids.filter(id => mapping[id]).map(id => [id, mapping[id]]));
	return { get: async (_, ids) => (asked.push(ids), known(ids)) };
}

function stage(keys = keysWith({})) {
	const kept = [];
	const held = [];
	const logged = [];
	const offline = new Set();
	const inbound = {
		keepNotices: async (bodies, complete) => void (await complete, kept.push(...bodies)),
		offline: { expect: stanza => offline.add(stanza) },
		passed: stanza => offline.delete(stanza)
	};
	const notices = new Notices({ me: () => ME, keys, inbound, hold: until => held.push(until), log: words => logged.push(words) });
	const listeners = {};
	notices.listen({ prependListener: (event, listener) => (listeners[event] = listener) });
	const acked = stanza => notices.read({ recv: { tag: stanza.tag, attrs: stanza.attrs } }, ACK_LOG);
	return { kept, held, logged, offline, acked, notices, notify: listeners['CB:notification,type:w:gp2'], ring: listeners['CB:call'] };
}

test('notices: kept when their turn is over, while nothing may leave', async () => {
	const { kept, held, notify, acked, notices } = stage();
	const first = notification([node('locked'), node('subject', { subject: 'New' })]);
	notify(first);
	assert.equal(first.attrs.offline, '0', 'it waits in the line of the messages');
	await turn();
	assert.deepEqual([kept.length, held.length], [0, 0]);
	notices.read({ recv: { tag: 'notification', attrs: { ...first.attrs } } }, ACK_LOG);
	notices.read({ recv: { tag: 'notification', attrs: first.attrs } }, 'something else');
	notices.read(undefined, ACK_LOG);
	assert.equal(held.length, 0, 'only the very stanza counts');
	acked(first);
	acked(first);
	assert.equal(held.length, 1);
	await held[0];
	assert.deepEqual(kept.map(body => body.details.group.action), ['locked', 'subject']);
});

test('notices: the offline queue is not through before they are kept', async () => {
	const { held, offline, notify, ring, acked } = stage();
	const live = notification([node('locked')]);
	const waited = [notification([node('locked')]), call(signalOf('offer')), call(signalOf('transport'))];
	waited.forEach(stanza => (stanza.attrs.offline = '1'));
	notify(live);
	notify(waited[0]);
	waited.slice(1).forEach(stanza => ring(stanza));
	assert.equal(offline.size, 2);
	[live, ...waited].forEach(acked);
	assert.equal(offline.size, 2);
	await Promise.all(held);
	assert.equal(offline.size, 0);
});

test('notices: a spool that fails fails what holds the gate', async () => {
	const { held, notify, acked, notices } = stage();
	notices.link.inbound.keepNotices = async () => {
		throw new Error('disk full');
	};
	const stanza = notification([node('locked')]);
	notify(stanza);
	acked(stanza);
	await assert.rejects(held[0], /disk full/);
});

test('notices: a stanza that cannot be read is acknowledged, logged without a word of it, and nothing else', () => {
	const { held, logged, notify, acked } = stage();
	const odd = notification([null]);
	notify(odd);
	acked(odd);
	assert.deepEqual([held.length, logged.length], [0, 1]);
	assert.ok(!/\d{5}/.test(logged[0]));
});

test('notices: the other name of those who are named by one is looked up, once, and may fail', async () => {
	const asked = [];
	const keys = keysWith({ '900333_reverse': '15550003333', 15550002222: '900222' }, asked);
	const { kept, held, notify, acked } = stage(keys);
	const half = notification([node('promote', {}, [node('participant', { jid: BEN.lid }), person(ANA)])], { participant: ANA.pn });
	notify(half);
	acked(half);
	await held[0];
	assert.deepEqual([kept[0].sender_phone, kept[0].sender_lid], ['15550002222', '900222']);
	assert.deepEqual(kept[0].details.group.participants, [BEN.digits, ANA.digits]);
	assert.deepEqual(asked, [['15550002222', '900333_reverse']]);
	const failing = stage({ get: () => Promise.reject(new Error('link closed')) });
	failing.notify(half);
	failing.acked(half);
	await failing.held[0];
	assert.equal(failing.kept[0].sender_lid, null);
});

/** An inbound whose spool is written by hand. */
function spooling() {
	const writes = [];
	const told = [];
	const failures = [];
	let last = 0;
	const inbound = new Inbound({
		stored: async () => {},
		answered: async () => {},
		spool: {
			nextSequence: () => (last += 1),
			write: (seq, entry) => new Promise((resolve, reject) => writes.push({ seq, entry, resolve, reject })),
			remove: async () => {},
			load: async () => []
		},
		me: () => ME,
		report: (seq, body) => told.push([seq, body.message_id]),
		pollOf: async () => undefined,
		onSpoolFailure: error => failures.push(error.message),
		log: () => {},
		backlog: { note: () => {}, reporting: () => () => {} }
	});
	return { inbound, writes, told, failures };
}

const bodyOf = id => ({ chat: GROUP, sender: ANA.lid, message_id: id, type: 'group_update' });

test('inbound: a notice is told when it is kept, once, and before what came after it', async () => {
	const { inbound, writes, told } = spooling();
	const looked = Promise.withResolvers();
	const kept = inbound.keepNotices([bodyOf('1'), bodyOf('2')], looked.promise);
	// A message that came later was faster.
	inbound.reports.add(inbound.link.spool.nextSequence(), { ...bodyOf('later'), type: 'text' }, { conversation: 'hi' });
	await turn();
	assert.deepEqual([writes.length, told.length], [0, 0]);
	looked.resolve();
	await turn();
	writes[0].resolve();
	await turn();
	assert.deepEqual(told, []);
	writes[1].resolve();
	await kept;
	await turn();
	assert.deepEqual(told, [[1, '1'], [2, '2'], [3, 'later']]);
	assert.deepEqual(writes.map(({ seq, entry }) => [seq, entry.body.message_id]), [[1, '1'], [2, '2']]);
	await inbound.keepNotices([bodyOf('1')], Promise.resolve());
	await inbound.acknowledged([1]);
	await inbound.keepNotices([bodyOf('1')], Promise.resolve());
	await turn();
	assert.equal(writes.length, 2, 'the server brings again what it has no ack for');
});

test('inbound: a notice that cannot be kept is not told, and ends the link', async () => {
	const { inbound, writes, told, failures } = spooling();
	const kept = inbound.keepNotices([bodyOf('1'), bodyOf('2')], Promise.resolve());
	await turn();
	writes[0].reject(new Error('disk full'));
	await assert.rejects(kept, /disk full/);
	await turn();
	assert.deepEqual([told, failures, writes.length], [[], ['disk full'], 1]);
});

test('gate: a write waits for what held the gate before it, and for nothing later', async () => {
	const written = [];
	const gate = new Gate({ readyState: 1, send: data => written.push(data) }, () => true);
	const one = Promise.withResolvers();
	const two = Promise.withResolvers();
	gate.hold(one.promise);
	gate.send('a');
	gate.hold(two.promise);
	gate.send('b');
	two.promise.catch(() => {});
	assert.deepEqual(written, []);
	one.resolve();
	await turn();
	assert.deepEqual(written, ['a']);
	two.reject(new Error('its owner ends the link'));
	await turn();
	gate.send('c');
	assert.deepEqual(written, ['a', 'b', 'c']);
	gate.hold(Promise.resolve());
	gate.send('d');
	await turn();
	assert.deepEqual(written, ['a', 'b', 'c', 'd']);
});

// --- presence ---------------------------------------------------------------------------------------------------------------

function watching(keys = { get: async () => ({}) }) {
	const asked = [];
	const told = [];
	const watch = new Watching({ me: () => ME, keys, subscribe: async jid => void asked.push(jid), tell: news => told.push(news) });
	const listeners = {};
	watch.listen({ prependListener: (event, listener) => (listeners[event] = listener) });
	return { watch, asked, told, presence: listeners['CB:presence'], typing: listeners['CB:chatstate'] };
}

const STATES = [
	['available', 'presence', {}, undefined, 'available', null],
	['available by name', 'presence', { type: 'available' }, undefined, 'available', null],
	['unavailable', 'presence', { type: 'unavailable', last: '1700000000' }, undefined, 'unavailable', 1700000000],
	['unavailable, does not say since when', 'presence', { type: 'unavailable', last: 'deny' }, undefined, 'unavailable', null],
	['composing', 'typing', {}, [node('composing')], 'composing', null],
	['recording', 'typing', {}, [node('composing', { media: 'audio' })], 'recording', null],
	['paused', 'typing', {}, [node('paused')], 'paused', null]
];

for (const [name, kind, attrs, content, state, lastSeen] of STATES) {
	test(`presence: ${name}`, async () => {
		const stage = watching();
		stage.watch.set(true);
		stage[kind](node(kind === 'presence' ? 'presence' : 'chatstate', { from: ANA.pn, ...attrs }, content));
		await turn();
		assert.deepEqual(stage.told, [
			{ chat: ANA.pn, sender: ANA.pn, sender_phone: '15550002222', sender_lid: null, state, last_seen: lastSeen }
		]);
	});
}

test('presence: what is none of another person, or not asked for, is not told', async () => {
	const { watch, told, presence, typing } = watching();
	presence(node('presence', { from: ANA.pn }));
	watch.set(true);
	presence(node('presence', { from: ME.lid }));
	presence(node('presence', { from: GROUP, count: '3' }));
	presence(node('presence', { from: ANA.pn, type: 'error' }));
	typing(node('chatstate', { from: GROUP }, [node('composing')]));
	typing(node('chatstate', { from: ANA.pn }, []));
	typing(node('chatstate', { from: ANA.pn }));
	typing(node('chatstate', { from: ANA.pn }, [node('other')]));
	presence(node('presence', { from: ANA.pn }));
	watch.set(false);
	await turn();
	assert.deepEqual(told, []);
});

test('presence: order stays, also when a name is looked up; a flood is cut', async () => {
	const look = Promise.withResolvers();
	const { watch, told, typing } = watching({ get: () => look.promise });
	watch.set(true);
	for (let count = 0; count < 500; count += 1) {
		typing(node('chatstate', { from: ANA.lid }, [node(count % 2 ? 'paused' : 'composing')]));
	}
	look.resolve({ '900222_reverse': '15550002222' });
	await turn();
	assert.equal(told.length, 100);
	assert.deepEqual(told.slice(0, 3).map(({ state, sender_phone: phone }) => [state, phone]), [
		['composing', '15550002222'], ['paused', '15550002222'], ['composing', '15550002222']
	]);
});

test('presence: everybody once, with pauses, when the link is open; only people, and not all the world', t => {
	t.mock.timers.enable({ apis: ['setTimeout'] });
	const { watch, asked } = watching();
	watch.met(ANA.pn);
	watch.set(true);
	[ANA.pn, BEN.lid, ANA.pn, GROUP, ME.id, 'status@broadcast'].forEach(jid => watch.met(jid));
	assert.deepEqual(asked, []);
	watch.start();
	assert.deepEqual(asked, [ANA.pn]);
	t.mock.timers.tick(100);
	t.mock.timers.tick(1000);
	assert.deepEqual(asked, [ANA.pn, BEN.lid]);
	for (let count = 0; count < 2000; count += 1) {
		watch.met(`${count + 1}@lid`);
		t.mock.timers.tick(100);
	}
	assert.equal(asked.length, 1000);
	watch.set(false);
	watch.set(true);
	watch.met(ANA.pn);
	t.mock.timers.tick(100);
	assert.equal(asked.length, 1001);
	watch.close();
	watch.met(BEN.lid);
	t.mock.timers.tick(1000);
	assert.equal(asked.length, 1001);
});
