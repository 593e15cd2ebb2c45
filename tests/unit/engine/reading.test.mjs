// What received messages say: type, text, target and details of every kind, written with Baileys' own protobuf. Run by
// test_parts.py.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

const directory = process.env.ENGINE_DIRECTORY;
const load = name => import(pathToFileURL(join(directory, name)).href);
const { decodePlaintext, rawJson, read } = await load('reading.mjs');
const { around, peopleIn } = await load('context.mjs');
const { digitsOf } = await load('stanzas.mjs');
const require = createRequire(join(directory, 'x.js'));
const { proto } = await import(pathToFileURL(require.resolve('baileys')).href);

const PADDING = Buffer.of(1);
/** As it comes off the wire. */
const received = message => decodePlaintext(Buffer.concat([proto.Message.encode(proto.Message.fromObject(message)).finish(), PADDING]));
const said = message => read(received(message));

const NO_MEDIA = {
	mime: null, size: null, sha256: null, fileName: null, seconds: null, width: null, height: null, voice: false,
	animated: false, viewOnce: false
};
const image = (more = {}) => ({ media: { ...NO_MEDIA, kind: 'image', ...more } });
const place = (latitude, longitude, more = {}) => ({
	location: { latitude, longitude, name: null, address: null, live: false, ...more }
});
const poll = { name: 'Lunch?', options: [{ optionName: 'yes' }, { optionName: 'no' }], selectableOptionsCount: 1 };
const POLL = { poll: { name: 'Lunch?', options: ['yes', 'no'], selectable: 1 } };
const key = { id: 'A', remoteJid: 'x@s.whatsapp.net' };
const card = { displayName: 'Ada', vcard: 'BEGIN:VCARD\nTEL;waid=15550001:+1 555 0001\nEND:VCARD' };
const CARD = { name: 'Ada', phones: ['15550001'], vcard: card.vcard };

/** name, message, type, text, what else is not empty */
const CASES = [
	['a text', { conversation: 'hi' }, 'text', 'hi'],
	['a long text', { extendedTextMessage: { text: 'hi' } }, 'text', 'hi'],
	['an image', { imageMessage: { caption: 'look' } }, 'image', 'look', { details: image() }],
	[
		'an image with all that is known',
		{
			imageMessage: {
				mimetype: 'image/jpeg', fileLength: 123456, fileSha256: Buffer.of(0xab, 0xcd), width: 640, height: 480, viewOnce: true
			}
		},
		'image', null,
		{ details: image({ mime: 'image/jpeg', size: 123456, sha256: 'abcd', width: 640, height: 480, viewOnce: true }) }
	],
	[
		'a video that loops', { videoMessage: { caption: 'x', seconds: 3, gifPlayback: true } }, 'video', 'x',
		{ details: { media: { ...NO_MEDIA, kind: 'video', seconds: 3, animated: true } } }
	],
	['a round video', { ptvMessage: { seconds: 3 } }, 'video', null, { details: { media: { ...NO_MEDIA, kind: 'video', seconds: 3 } } }],
	[
		'a voice note', { audioMessage: { ptt: true, seconds: 7 } }, 'audio', null,
		{ details: { media: { ...NO_MEDIA, kind: 'audio', seconds: 7, voice: true } } }
	],
	[
		'a document', { documentMessage: { fileName: 'a.pdf', mimetype: 'application/pdf' } }, 'document', null,
		{ details: { media: { ...NO_MEDIA, kind: 'document', fileName: 'a.pdf', mime: 'application/pdf' } } }
	],
	[
		'a document with a caption', { documentWithCaptionMessage: { message: { documentMessage: { caption: 'read this' } } } },
		'document', 'read this', { details: { media: { ...NO_MEDIA, kind: 'document' } } }
	],
	[
		'a sticker that moves', { stickerMessage: { isAnimated: true } }, 'sticker', null,
		{ details: { media: { ...NO_MEDIA, kind: 'sticker', animated: true } } }
	],
	[
		'a drawn sticker', { lottieStickerMessage: { message: { stickerMessage: { isLottie: true } } } }, 'sticker', null,
		{ details: { media: { ...NO_MEDIA, kind: 'sticker', animated: true } } }
	],
	[
		'a place', { locationMessage: { degreesLatitude: 52.52, degreesLongitude: -13.405, name: 'Here', address: 'Street' } },
		'location', 'Here', { details: place('52.52', '-13.405', { name: 'Here', address: 'Street' }) }
	],
	[
		'a place near null', { locationMessage: { degreesLatitude: -0.00000001, degreesLongitude: 100 } }, 'location', null,
		{ details: place('0', '100') }
	],
	[
		'a place that is none', { locationMessage: { degreesLatitude: Number.NaN, degreesLongitude: 1e300 } }, 'location', null,
		{ details: place(null, null) }
	],
	[
		'a live place', { liveLocationMessage: { degreesLatitude: 1.5, degreesLongitude: 2.25, caption: 'on my way' } },
		'location', 'on my way', { details: place('1.5', '2.25', { live: true }) }
	],
	['a contact', { contactMessage: card }, 'contact', 'Ada', { details: { contacts: [CARD] } }],
	[
		'contacts', { contactsArrayMessage: { displayName: '2 contacts', contacts: [card, card] } }, 'contact', '2 contacts',
		{ details: { contacts: [CARD, CARD] } }
	],
	['a reaction', { reactionMessage: { text: '👍', key } }, 'reaction', '👍', { target: 'A' }],
	['a reaction withdrawn', { reactionMessage: { text: '', key } }, 'reaction', '', { target: 'A' }],
	['a reaction withdrawn by saying nothing', { reactionMessage: { key } }, 'reaction', '', { target: 'A' }],
	['a poll', { pollCreationMessage: { ...poll, selectableOptionsCount: 0 } }, 'poll', 'Lunch?', { details: { poll: { ...POLL.poll, selectable: 0 } } }],
	['a poll, second kind', { pollCreationMessageV2: poll }, 'poll', 'Lunch?', { details: POLL }],
	['a poll, third kind', { pollCreationMessageV3: poll }, 'poll', 'Lunch?', { details: POLL }],
	['a poll, fourth kind', { pollCreationMessageV4: { message: { pollCreationMessage: poll } } }, 'poll', 'Lunch?', { details: POLL }],
	['a poll, fifth kind', { pollCreationMessageV5: poll }, 'poll', 'Lunch?', { details: POLL }],
	['a vote', { pollUpdateMessage: { pollCreationMessageKey: key } }, 'vote', null, { target: 'A' }],
	[
		'a button', { buttonsResponseMessage: { selectedButtonId: 'b1', selectedDisplayText: 'Yes' } }, 'button_reply', 'Yes',
		{ details: { reply: { id: 'b1', text: 'Yes' } } }
	],
	[
		'a button of a template', { templateButtonReplyMessage: { selectedId: 't1', selectedDisplayText: 'Yes' } }, 'button_reply',
		'Yes', { details: { reply: { id: 't1', text: 'Yes' } } }
	],
	[
		'a button of a flow',
		{ interactiveResponseMessage: { body: { text: 'Yes' }, nativeFlowResponseMessage: { name: 'quick_reply', paramsJson: '{"id":"f1"}' } } },
		'button_reply', 'Yes', { details: { reply: { id: 'f1', text: 'Yes' } } }
	],
	[
		'a flow that says no id', { interactiveResponseMessage: { nativeFlowResponseMessage: { name: 'flow', paramsJson: '{' } } },
		'button_reply', null, { details: { reply: { id: 'flow', text: null } } }
	],
	[
		'a row of a list', { listResponseMessage: { title: 'First', singleSelectReply: { selectedRowId: 'r1' } } }, 'list_reply',
		'First', { details: { reply: { id: 'r1', text: 'First' } } }
	],
	[
		'an event',
		{ eventMessage: { name: 'Party', description: 'at home', startTime: 1763715150, location: { degreesLatitude: 1, degreesLongitude: 2 } } },
		'event', 'Party',
		{
			details: {
				event: {
					name: 'Party', description: 'at home', startTime: 1763715150,
					location: { latitude: '1', longitude: '2', name: null, address: null }
				}
			}
		}
	],
	[
		'an event without a time', { eventMessage: { name: 'Party' } }, 'event', 'Party',
		{ details: { event: { name: 'Party', description: null, startTime: null, location: null } } }
	],
	[
		'an invitation', { groupInviteMessage: { groupJid: '1-2@g.us', groupName: 'Ours', caption: 'come' } }, 'invite', 'come',
		{ details: { invite: { groupId: '1-2@g.us', groupName: 'Ours' } } }
	],
	['a deletion', { protocolMessage: { type: 0, key } }, 'delete', null, { target: 'A' }],
	['an edit', { protocolMessage: { type: 14, key, editedMessage: { conversation: 'better' } } }, 'edit', 'better', { target: 'A' }],
	[
		'an edit in its wrapper',
		{ editedMessage: { message: { protocolMessage: { type: 14, key, editedMessage: { imageMessage: { caption: 'better' } } } } } },
		'edit', 'better', { target: 'A' }
	],
	['what disappears', { ephemeralMessage: { message: { conversation: 'soon gone' } } }, 'text', 'soon gone'],
	['what is seen once', { viewOnceMessage: { message: { imageMessage: {} } } }, 'image', null, { details: image({ viewOnce: true }) }],
	['the same, second kind', { viewOnceMessageV2: { message: { imageMessage: {} } } }, 'image', null, { details: image({ viewOnce: true }) }],
	[
		'the same of a voice', { viewOnceMessageV2Extension: { message: { audioMessage: { ptt: true } } } }, 'audio', null,
		{ details: { media: { ...NO_MEDIA, kind: 'audio', voice: true, viewOnce: true } } }
	],
	[
		'wrappers in wrappers', { ephemeralMessage: { message: { viewOnceMessageV2: { message: { imageMessage: { caption: 'x' } } } } } },
		'image', 'x', { details: image({ viewOnce: true }) }
	],
	['a picture of an album', { associatedChildMessage: { message: { imageMessage: { caption: 'x' } } } }, 'image', 'x', { details: image() }],
	['what mentions a group', { groupMentionedMessage: { message: { conversation: 'all' } } }, 'text', 'all'],
	['a comment', { commentMessage: { message: { conversation: 'nice' }, targetMessageKey: key } }, 'text', 'nice'],
	['a text with buttons', { buttonsMessage: { contentText: 'Choose', buttons: [] } }, 'text', 'Choose'],
	['a picture with buttons', { buttonsMessage: { contentText: 'Choose', imageMessage: {} } }, 'image', 'Choose', { details: image() }],
	['a template', { templateMessage: { hydratedTemplate: { hydratedContentText: 'Dear' } } }, 'text', 'Dear'],
	['a card', { interactiveMessage: { header: { title: 'T' }, body: { text: 'Body' } } }, 'text', 'Body'],
	['a card with a picture', { interactiveMessage: { header: { imageMessage: {} }, body: { text: 'Body' } } }, 'image', 'Body', { details: image() }],
	['a card in a template', { templateMessage: { interactiveMessageTemplate: { body: { text: 'Body' } } } }, 'text', 'Body'],
	['a list', { listMessage: { title: 'T', description: 'D' } }, 'text', 'D'],
	['an order', { orderMessage: { message: 'two of it' } }, 'text', 'two of it'],
	['an order that says nothing', { orderMessage: { itemCount: 1 } }, 'other', null],
	['what is not known here', { encReactionMessage: { targetMessageKey: key } }, 'other', null]
];

for (const [name, message, type, text, more = {}] of CASES) {
	test(`reading: ${name}`, () => {
		assert.deepEqual(said(message), { type, text, target: null, details: {}, context: null, ...more });
	});
}

const NOTHING = {
	'an empty message': {},
	'the key of a group': { senderKeyDistributionMessage: { groupId: 'g' } },
	'history': { protocolMessage: { type: 5 } },
	'keys between devices': { messageContextInfo: {}, protocolMessage: { type: 6 } },
	'a deletion of nothing': { protocolMessage: { type: 0 } },
	'the frame of an album': { albumMessage: { expectedImageCount: 2 } },
	'a deletion hidden in nothing': { ephemeralMessage: { message: {} } }
};
for (const [name, message] of Object.entries(NOTHING)) {
	test(`reading: ${name} says nothing`, () => assert.equal(said(message), null));
}

test('reading: a message with the key of its group is a message', () => {
	assert.equal(said({ senderKeyDistributionMessage: { groupId: 'g' }, conversation: 'hi' }).text, 'hi');
});

test('reading: the copy from another own device, with the secret that stands beside it', () => {
	const inner = received({
		deviceSentMessage: { destinationJid: 'x', message: { conversation: 'mine' } },
		messageContextInfo: { messageSecret: Buffer.alloc(32, 3) }
	});
	assert.equal(inner.conversation, 'mine');
	assert.deepEqual(Buffer.from(inner.messageContextInfo.messageSecret), Buffer.alloc(32, 3));
});

test('reading: sizes that JavaScript cannot hold exactly are not known', () => {
	const huge = said({ imageMessage: { fileLength: '18446744073709551615' } });
	assert.equal(huge.details.media.size, null);
	assert.equal(said({ imageMessage: { fileLength: '9007199254740991' } }).details.media.size, Number.MAX_SAFE_INTEGER);
});

test('reading: the numbers of a contact card, however they are written', () => {
	const vcard = [
		'BEGIN:VCARD', 'item1.TEL;waid=15550001:+1 555-0001', 'TEL;type=CELL:+49 (30) 12', ' 34', 'tel:+1 555 0001', 'TEL:', 'NOTE:TEL:9', 'END:VCARD'
	].join('\r\n');
	assert.deepEqual(said({ contactMessage: { vcard } }).details.contacts, [{ name: null, phones: ['15550001', '49301234'], vcard }]);
});

test('reading: bytes that are not UTF-8 leave valid text in the raw message', () => {
	// Protobuf's reader takes half a surrogate pair; UTF-8 forbids it. The last byte is the padding.
	const message = decodePlaintext(Uint8Array.of(0x0a, 0x04, 0x61, 0xed, 0xa0, 0x80, 0x01));
	assert.equal(message.conversation.isWellFormed(), false);
	assert.equal(JSON.parse(rawJson(message)).conversation, 'a\ufffd');
});

const WHO = { 'a@lid': { phone: '1', lid: 'a' }, 'b@lid': { phone: null, lid: 'b' }, '3@s.whatsapp.net': { phone: '3', lid: null } };
const who = jid => WHO[jid] ?? { phone: null, lid: null };

test('context: what is answered, who is named, forwarded, disappearing', () => {
	const { context } = said({
		imageMessage: {
			contextInfo: {
				stanzaId: 'Q', participant: 'a@lid', quotedMessage: { imageMessage: { caption: 'old' } },
				mentionedJid: ['a@lid', 'b@lid', '3@s.whatsapp.net', 'a@lid', '1-2@g.us'], isForwarded: true, expiration: 86400
			}
		}
	});
	assert.deepEqual(peopleIn(context), ['a@lid', 'b@lid', '3@s.whatsapp.net', '1-2@g.us']);
	assert.deepEqual(around(context, who), {
		quoted: { messageId: 'Q', from: '1', fromLid: 'a', type: 'image', text: 'old' },
		mentions: ['1', 'b', '3'],
		forwarded: true,
		ephemeralSeconds: 86400
	});
});

test('context: nothing where there is nothing', () => {
	assert.deepEqual(around(null, who), {});
	assert.deepEqual(around(said({ extendedTextMessage: { text: 'x', contextInfo: { expiration: 0 } } }).context, who), {});
	const lost = said({ extendedTextMessage: { text: 'x', contextInfo: { stanzaId: 'Q' } } }).context;
	assert.deepEqual(around(lost, who), { quoted: { messageId: 'Q', from: null, fromLid: null, type: null, text: null } });
});

test('context: of an edit it is that of the new text', () => {
	const edited = { extendedTextMessage: { text: 'new', contextInfo: { mentionedJid: ['a@lid'] } } };
	assert.deepEqual(peopleIn(said({ protocolMessage: { type: 14, key, editedMessage: edited } }).context), ['a@lid']);
});

test('an address that is no number names nobody', () => {
	const contextInfo = { mentionedJid: ['Ada@s.whatsapp.net', '15550001@s.whatsapp.net'], stanzaId: 'Q', participant: '*@lid' };
	const { context } = said({ extendedTextMessage: { text: 'hi', contextInfo } });
	const { mentions, quoted } = around(context, jid => digitsOf(jid));
	assert.deepEqual([mentions, quoted.from, quoted.fromLid], [['15550001'], null, null]);
});
