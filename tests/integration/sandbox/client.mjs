// Unmodified Baileys, driven line by line: a JSON command on stdin, JSON events on stdout. Test tooling only.
//
// argv: <node_modules directory> <websocket url> <trust root, hex>
// commands: {op: "start", name, dir, options?} | {op: "send", name, to, text, id?} | {op: "presence", name, type, to?}
//           | {op: "query", name, tag, node} | {op: "node", name, node} | {op: "read", name, to, id}
//           | {op: "code", name, number} | {op: "logout" | "end", name} | {op: "media", name, to, base64} | {op: "exit"}
//           | {op: "forget", name}: ends every socket; nothing more is said of them
// events:   {event, name, ...}: qr, code, open, close {code}, message, ack, receipt, update, presence, sent, error, result,
//           forgotten
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

// libsignal prints sessions to the console; stdout is ours.
for (const level of ['log', 'info', 'warn', 'error', 'debug']) console[level] = () => {};

const [modules, url, trustRoot] = process.argv.slice(2);
const require = createRequire(pathToFileURL(path.join(modules, 'client.cjs')));
const baileys = await import(pathToFileURL(require.resolve('baileys')));
const { default: makeWASocket, useMultiFileAuthState, WA_CERT_DETAILS } = baileys;
const { downloadMediaMessage, normalizeMessageContent } = baileys;
WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(trustRoot, 'hex');

const silent = { level: 'silent', child: () => silent };
for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal']) silent[level] = () => {};
if (process.env.CLIENT_DEBUG) {
  silent.level = process.env.CLIENT_DEBUG === 'trace' ? 'trace' : 'debug';
  for (const level of ['trace', 'info', 'warn', 'error']) {
    silent[level] = (...args) => {
      const text = (value) => (value instanceof Error ? value.stack : value);
      process.stderr.write(`${level} ${JSON.stringify(args, (key, value) => text(value))?.slice(0, 2000)}\n`);
    };
  }
}

const sockets = new Map();
const sentMessages = new Map();
const saving = new Set();
/** Counts the tests that had this process; what is left of an earlier one says nothing any more. */
let round = 0;
const voice = () => {
  const mine = round;
  return (event, name, values) => {
    if (mine === round) process.stdout.write(`${JSON.stringify({ event, name, ...values })}\n`);
  };
};
// It would end the process, and with it the tests that follow; a test that waits in vain says that it was there.
process.on('unhandledRejection', (error) => voice()('unhandled', null, { message: String(error?.stack ?? error) }));
const textOf = (message) => message?.conversation ?? message?.extendedTextMessage?.text ?? null;
const FILES = ['imageMessage', 'videoMessage', 'audioMessage', 'documentMessage', 'stickerMessage'];
const hasFile = (content) => FILES.some((field) => content?.[field]);

async function start({ name, dir, options = {} }, emit) {
  const { state, saveCreds } = await useMultiFileAuthState(dir);
  const sock = makeWASocket({
    auth: state,
    logger: silent,
    version: [2, 3000, 1043857760],
    waWebSocketUrl: url,
    shouldSyncHistoryMessage: () => false,
    markOnlineOnConnect: false,
    getMessage: async (key) => sentMessages.get(key.id),
    ...options,
  });
  sockets.set(name, sock);
  sock.ev.on('creds.update', () => {
    const saved = saveCreds().finally(() => saving.delete(saved));
    saving.add(saved);
  });
  sock.ev.on('connection.update', (update) => {
    if (update.qr) emit('qr', name, { qr: update.qr });
    if (update.connection === 'open') emit('open', name, { me: sock.authState.creds.me });
    if (update.receivedPendingNotifications) emit('drained', name, {});
    if (update.connection === 'close') emit('close', name, { code: update.lastDisconnect?.error?.output?.statusCode });
  });
  sock.ev.on('messages.upsert', async ({ messages, type }) => {
    for (const m of messages) {
      const content = normalizeMessageContent(m.message);
      let media = null;
      let mediaError;
      try {
        if (hasFile(content)) {
          media = (await downloadMediaMessage(m, 'buffer', {}, { logger: silent })).toString('base64');
        }
      } catch (error) {
        mediaError = error?.output?.statusCode ?? String(error);
      }
      const seen = { id: m.key.id, key: m.key, type, text: textOf(m.message), stub: m.messageStubType, media };
      emit('message', name, { ...seen, mediaError, stubParameters: m.messageStubParameters, content: content?.toJSON?.() ?? content });
    }
  });
  sock.ev.on('messages.update', (updates) => emit('update', name, { updates }));
  for (const event of ['groups.upsert', 'groups.update', 'group-participants.update', 'lid-mapping.update', 'call']) {
    sock.ev.on(event, (value) => emit(event, name, { value }));
  }
  sock.ev.on('presence.update', (presence) => emit('presence', name, { presence }));
  sock.ws.on('CB:ack,class:message', (node) => emit('ack', name, node.attrs));
  sock.ws.on('CB:receipt', (node) => emit('receipt', name, node.attrs));
}

const plain = (node) => ({
  ...node,
  content: Array.isArray(node.content) ? node.content.map(plain) : node.content && Buffer.from(node.content).toString(),
});

const operations = {
  start,
  async send({ name, to, text, id }, emit) {
    const sent = await sockets.get(name).sendMessage(to, { text }, { messageId: id, linkPreview: null });
    sentMessages.set(sent.key.id, sent.message);
    emit('sent', name, { id: sent.key.id });
  },
  async code({ name, number, code }, emit) {
    emit('code', name, { code: await sockets.get(name).requestPairingCode(number, code) });
  },
  async media({ name, to, base64, kind = 'image', more = { mimetype: 'image/png' } }, emit) {
    const content = { [kind]: Buffer.from(base64, 'base64'), jpegThumbnail: '', ...more };
    const sent = await sockets.get(name).sendMessage(to, content, { linkPreview: null });
    emit('sent', name, { id: sent.key.id });
  },
  async presence({ name, type, to }) {
    await sockets.get(name).sendPresenceUpdate(type, to);
  },
  async say({ name, to, content, id }, emit) {
    const sent = await sockets.get(name).sendMessage(to, content, { messageId: id, linkPreview: null });
    sentMessages.set(sent.key.id, sent.message);
    const secret = sent.message.messageContextInfo?.messageSecret;
    emit('sent', name, { id: sent.key.id, key: sent.key, secret: secret && Buffer.from(secret).toString('base64') });
  },
  async subscribe({ name, to }) {
    await sockets.get(name).presenceSubscribe(to);
  },
  async read({ name, to, id }) {
    await sockets.get(name).readMessages([{ remoteJid: to, id, fromMe: false }]);
  },
  async query({ name, tag, node }, emit) {
    emit('result', name, { tag, node: plain(await sockets.get(name).query(node)) });
  },
  async call({ name, tag, method, args = [] }, emit) {
    emit('result', name, { tag, value: (await sockets.get(name)[method](...args)) ?? null });
  },
  async node({ name, node }) {
    await sockets.get(name).sendNode(node);
  },
  async logout({ name }) {
    await sockets.get(name).logout();
  },
  async end({ name }) {
    sockets.get(name).end(undefined);
  },
  async forget({ name }) {
    round += 1;
    const emit = voice();
    for (const sock of sockets.values()) sock.end(undefined);
    sockets.clear();
    sentMessages.clear();
    await Promise.allSettled([...saving]);
    emit('forgotten', name, {});
  },
  async exit() {
    process.exit(0);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const emit = voice();
  operations[command.op](command, emit).catch((error) => {
    emit('error', command.name, { op: command.op, message: String(error?.message ?? error), data: error?.data ?? null });
  });
}
process.exit(0);
