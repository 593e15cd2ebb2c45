// The yardstick: Baileys without a gateway, as a careful script would use it. One Node process, one socket per account,
// keys in memory, and on each socket the server's ack is awaited before the next message is sent.
//
// Lines of JSON come in on standard input and go out on standard output:
//   {do:"configure", url, trustRoot}
//   {do:"link", name}                         → {event:"qr", name, text} …, {event:"open", name}
//   {do:"burst", names, to, messages}         → {event:"done", began, ended}       epoch milliseconds
//   {do:"one", name, to, text}                → {event:"acked", began, ended}
//   {do:"listen", messages}                   → {event:"listening"}, and when so many different ones were received
//                                               {event:"received", times: {messageId: epoch milliseconds}}
//   {do:"collect"}                            → {event:"collected"}                after a garbage collection, if exposed
//   {do:"leave"}                              → {event:"left"}                     all sockets are closed for good
//   {do:"save", path}                         → {event:"saved"}                    all accounts, in one file
//   {do:"load", path, open}                   → {event:"open", name} …             opens that many of them at once
// It ends with its input. Usage: node plain_baileys.mjs, beside a node_modules that has baileys.

// libsignal prints sessions to the console; standard output is ours.
for (const method of ['log', 'info', 'warn', 'error', 'debug', 'trace']) {
	console[method] = () => {};
}

const { readFileSync, writeFileSync } = await import('node:fs');
const { createInterface } = await import('node:readline');
const { BufferJSON, DEFAULT_CONNECTION_CONFIG, generateMessageIDV2, initAuthCreds, makeWASocket, proto, WA_CERT_DETAILS } = await import('baileys');

const RESTART_REQUIRED = 515;
const ACK_TIMEOUT_MS = 20_000;

const say = line => process.stdout.write(`${JSON.stringify(line)}\n`);
const now = () => performance.timeOrigin + performance.now();
const silent = { level: 'silent', trace() {}, debug() {}, info() {}, warn() {}, error() {}, child: () => silent };

/** Keys in plain maps: the least that a store can cost. @param {Map<string, Map<string, any>>} kinds */
function keysInMemory(kinds) {
	const kind = type => kinds.get(type) ?? kinds.set(type, new Map()).get(type);
	return {
		get: async (type, ids) => {
			const found = {};
			for (const id of ids) {
				const value = kind(type).get(id);
				if (value) {
					found[id] = value;
				}
			}
			return found;
		},
		set: async changes => {
			for (const [type, values] of Object.entries(changes)) {
				for (const [id, value] of Object.entries(values)) {
					value ? kind(type).set(id, value) : kind(type).delete(id);
				}
			}
		}
	};
}

/** Keys of this kind are messages, as Baileys' own file store makes them when it reads. */
const asKey = (type, value) => (type === 'app-state-sync-key' ? proto.Message.AppStateSyncKeyData.fromObject(value) : value);

class Account {
	/** @param {string} name @param {string} url */
	constructor(name, url, creds = initAuthCreds(), kinds = new Map()) {
		this.name = name;
		this.url = url;
		this.kinds = kinds;
		this.auth = { creds, keys: keysInMemory(kinds) };
		this.waiting = new Map();
		this.left = false;
	}

	connect() {
		// The options of wahub's engine as far as a plain script would set them.
		this.sock = makeWASocket({
			version: DEFAULT_CONNECTION_CONFIG.version,
			waWebSocketUrl: this.url,
			auth: this.auth,
			logger: silent,
			markOnlineOnConnect: false,
			emitOwnEvents: false,
			syncFullHistory: false,
			shouldSyncHistoryMessage: () => false,
			generateHighQualityLinkPreview: false,
			getMessage: async () => undefined
		});
		this.sock.ws.on('CB:ack,class:message', ({ attrs }) => this.waiting.get(attrs.id)?.(attrs.error));
		this.sock.ev.on('messages.upsert', ({ messages }) => messages.forEach(heard));
		this.sock.ev.on('creds.update', update => Object.assign(this.auth.creds, update));
		this.sock.ev.on('connection.update', update => this.onConnection(update));
	}

	onConnection({ qr, connection, lastDisconnect }) {
		if (qr) {
			say({ event: 'qr', name: this.name, text: qr });
		}
		if (connection === 'open') {
			say({ event: 'open', name: this.name });
		}
		if (connection === 'close') {
			const code = lastDisconnect?.error?.output?.statusCode;
			if (code === RESTART_REQUIRED) {
				this.connect();
			} else if (!this.left) {
				say({ event: 'failed', text: `${this.name} was disconnected with code ${code}` });
			}
		}
	}

	/** Send a text and wait for the server's ack. */
	async send(to, text) {
		const messageId = generateMessageIDV2(this.sock.user?.id);
		const acked = new Promise((resolve, reject) => {
			const timer = setTimeout(() => reject(new Error('no ack')), ACK_TIMEOUT_MS);
			this.waiting.set(messageId, error => {
				clearTimeout(timer);
				error ? reject(new Error(`refused with ${error}`)) : resolve();
			});
		});
		try {
			await Promise.all([this.sock.sendMessage(`${to}@s.whatsapp.net`, { text }, { messageId }), acked]);
		} finally {
			this.waiting.delete(messageId);
		}
	}
}

const accounts = new Map();
let target = null;
let listener = null;

/** What a script would do with a received message: look whether it is one, and from somebody else. */
function heard({ key, message }) {
	if (!listener || key.fromMe || !message || listener.times.has(key.id)) {
		return;
	}
	listener.times.set(key.id, now());
	if (listener.times.size === listener.messages) {
		say({ event: 'received', times: Object.fromEntries(listener.times) });
		listener = null;
	}
}

const commands = {
	configure({ url, trustRoot }) {
		target = url;
		WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(trustRoot, 'hex');
	},
	link({ name }) {
		accounts.set(name, new Account(name, target));
		accounts.get(name).connect();
	},
	async burst({ names, to, messages }) {
		const began = now();
		await Promise.all(
			names.map(async (name, account) => {
				for (let number = 0; number < messages; number++) {
					await accounts.get(name).send(to[(account + number) % to.length], `Message ${number} of ${name}, ${began}`);
				}
			})
		);
		say({ event: 'done', began, ended: now() });
	},
	async one({ name, to, text }) {
		const began = now();
		await accounts.get(name).send(to, text);
		say({ event: 'acked', began, ended: now() });
	},
	listen({ messages }) {
		listener = { messages, times: new Map() };
		say({ event: 'listening' });
	},
	collect() {
		globalThis.gc?.();
		say({ event: 'collected' });
	},
	async leave() {
		for (const account of accounts.values()) {
			account.left = true;
			await account.sock?.end(undefined);
		}
		say({ event: 'left' });
	},
	save({ path }) {
		const all = [...accounts.values()].map(({ name, auth, kinds }) => [
			name,
			auth.creds,
			[...kinds].map(([type, values]) => [type, [...values]])
		]);
		writeFileSync(path, JSON.stringify(all, BufferJSON.replacer));
		say({ event: 'saved' });
	},
	load({ path, open }) {
		const all = JSON.parse(readFileSync(path, 'utf8'), BufferJSON.reviver);
		for (const [name, creds, kinds] of all) {
			const maps = kinds.map(([type, values]) => [type, new Map(values.map(([id, value]) => [id, asKey(type, value)]))]);
			accounts.set(name, new Account(name, target, creds, new Map(maps)));
		}
		for (const account of [...accounts.values()].slice(0, open)) {
			account.connect();
		}
	}
};

createInterface({ input: process.stdin })
	.on('line', line => {
		const command = JSON.parse(line);
		Promise.resolve(commands[command.do](command)).catch(error => say({ event: 'failed', text: error.message }));
	})
	.on('close', () => process.exit(0));
