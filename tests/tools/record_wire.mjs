// Records what the real Baileys writes and reads, for tests/fixtures/wire. Run it through record_wire.py.
//
// argv: <node_modules directory>; a JSON request on stdin, the answer on stdout.
// {op: "nodes", nodes} -> {encoded: [hex]}: encodeBinaryNode of each (content: string "hex:.." is bytes)
// {op: "decode", encoded: [hex]} -> {nodes}: decodeBinaryNode of each
// {op: "handshake", ephemeral, noise, payload, serverHello?, serverFrames?, send} -> {clientHello, clientFinish, frames, nodes}
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const [modules] = process.argv.slice(2);
const require = createRequire(pathToFileURL(path.join(modules, 'record.cjs')));
const baileys = await import(pathToFileURL(require.resolve('baileys')));
const { makeNoiseHandler, encodeBinaryNode, decodeBinaryNode, NOISE_WA_HEADER, proto, WA_CERT_DETAILS } = baileys;
const curve = require('libsignal').curve ?? require('libsignal/src/curve');

const bytes = (text) => Buffer.from(text, 'hex');
const fromJson = ({ tag, attrs, content }) => ({
  tag,
  attrs: attrs ?? {},
  content: Array.isArray(content)
    ? content.map(fromJson)
    : typeof content === 'string' && content.startsWith('hex:')
      ? bytes(content.slice(4))
      : content,
});
const toJson = ({ tag, attrs, content }) => ({
  tag,
  attrs: { ...attrs },
  content: Array.isArray(content)
    ? content.map(toJson)
    : content === undefined
      ? null
      : typeof content === 'string'
        ? content
        : `hex:${Buffer.from(content).toString('hex')}`,
});
const keyPair = (hex) => {
  const { pubKey, privKey } = curve.generateKeyPairFromPrivate
    ? curve.generateKeyPairFromPrivate(bytes(hex))
    : { pubKey: curve.getPublicFromPrivateKey(bytes(hex)), privKey: bytes(hex) };
  return { private: Buffer.from(privKey), public: Buffer.from(pubKey).subarray(-32) };
};
const quiet = { level: 'silent', child: () => quiet, trace() {}, debug() {}, info() {}, warn() {}, error() {} };

async function handshake({ root, ephemeral, noise: noiseKey, payload, routing, serverHello, serverFrames = [], send = [] }) {
  WA_CERT_DETAILS.PUBLIC_KEY = bytes(root);
  const handler = makeNoiseHandler({
    keyPair: keyPair(ephemeral),
    NOISE_HEADER: NOISE_WA_HEADER,
    logger: quiet,
    routingInfo: routing ? bytes(routing) : undefined,
  });
  const hello = proto.HandshakeMessage.encode({ clientHello: { ephemeral: keyPair(ephemeral).public } }).finish();
  const out = { clientHello: handler.encodeFrame(hello).toString('hex') };
  if (!serverHello) return out;
  const keyEnc = handler.processHandshake(proto.HandshakeMessage.decode(bytes(serverHello)), keyPair(noiseKey));
  const payloadEnc = handler.encrypt(bytes(payload));
  const finish = proto.HandshakeMessage.encode({ clientFinish: { static: keyEnc, payload: payloadEnc } }).finish();
  out.clientFinish = handler.encodeFrame(finish).toString('hex');
  await handler.finishInit();
  out.frames = send.map((node) => handler.encodeFrame(encodeBinaryNode(fromJson(node))).toString('hex'));
  out.nodes = [];
  for (const frame of serverFrames) await handler.decodeFrame(bytes(frame), (node) => out.nodes.push(toJson(node)));
  return out;
}

const operations = {
  nodes: ({ nodes }) => ({ encoded: nodes.map((node) => encodeBinaryNode(fromJson(node)).toString('hex')) }),
  decode: async ({ encoded }) => ({
    nodes: await Promise.all(encoded.map(async (hex) => toJson(await decodeBinaryNode(bytes(hex))))),
  }),
  handshake,
};

let input = '';
for await (const chunk of process.stdin) input += chunk;
const request = JSON.parse(input);
process.stdout.write(JSON.stringify(await operations[request.op](request)));
