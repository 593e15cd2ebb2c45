// The way out through a proxy, for the socket and for media. Loaded only when a link has one.
//
// Promised: every connection of the link is made by the proxy (CONNECT also for ws:// and http://), names are looked up by it
// and not here, and nothing goes around a proxy that is down. The address holds a password: no error of ours repeats it.

import { EventEmitter } from 'node:events';
import { HttpsProxyAgent } from 'https-proxy-agent';
import { SocksProxyAgent } from 'socks-proxy-agent';
import { Agent as Dispatcher } from 'undici';

const CONNECTED = 200;
const WHO_ARE_YOU = 407;

/**
 * @param {string} address `http://`, `https://` or `socks5://` URL
 * @param {boolean} secure whether the socket speaks TLS
 * @param {AbortSignal} signal ends connections that are still being made
 * @returns {{agent: object, fetchAgent: object, dispatcher: object}}
 */
export function throughProxy(address, secure, signal) {
	const fetchAgent = agentFor(address, signal, true);
	return { agent: agentFor(address, signal, secure), fetchAgent, dispatcher: new Dispatcher({ connect: connector(fetchAgent) }) };
}

function agentFor(address, signal, secure) {
	const agent = makeAgent(address, signal);
	const connect = agent.connect.bind(agent);
	agent.connect = (request, options) => connectOrSayWhy(connect, request, options);
	// Else it looks for Node's https module in a stack trace, and there are none here (silence.mjs).
	agent.isSecureEndpoint = options => options?.secureEndpoint ?? secure;
	return agent;
}

function makeAgent(address, signal) {
	const url = URL.parse(address);
	switch (url?.hostname && url.protocol) {
		case 'http:':
		case 'https:':
			return new HttpsProxyAgent(url, { signal });
		case 'socks5:':
			// 5h: the proxy looks the name up. One that hangs is let go by the library after 30 s.
			return new SocksProxyAgent(address.replace(/^socks5:/i, 'socks5h:'));
		default:
			throw new Error('no proxy address');
	}
}

/**
 * A proxy that does not want us is no WhatsApp that does not: the agents would hand the proxy's answer on as if it came from
 * there, and their own errors hold the password.
 */
async function connectOrSayWhy(connect, request, options) {
	let status = CONNECTED;
	request.once('proxyConnect', ({ statusCode }) => (status = statusCode));
	let socket;
	try {
		socket = await connect(request, options);
	} catch (error) {
		throw socksRefusal(error) ?? error;
	}
	if (status === CONNECTED) {
		return socket;
	}
	socket.destroy();
	throw new ProxyRefused(status === WHO_ARE_YOU ? 'proxy_auth_failed' : 'proxy_refused');
}

/** The SOCKS library tells by its texts only (source: socks, constants.js). */
function socksRefusal(error) {
	const text = String(error?.message);
	if (/authentication (failed|type)/i.test(text)) {
		return new ProxyRefused('proxy_auth_failed');
	}
	return /rejected connection/i.test(text) ? new ProxyRefused('proxy_refused') : null;
}

/** The proxy answered, and made no connection; `code` says why, as ending.mjs knows it. */
class ProxyRefused extends Error {
	constructor(code) {
		super(code);
		this.code = code;
	}
}

/** How undici, which is Node's fetch, gets a connection. */
function connector(agent) {
	return ({ hostname, port, protocol, servername }, done) => {
		const secureEndpoint = protocol === 'https:';
		const options = { host: hostname, port: Number(port) || (secureEndpoint ? 443 : 80), secureEndpoint };
		if (servername) {
			options.servername = servername;
		}
		agent.connect(new Request(), options).then(socket => {
			if (!secureEndpoint) {
				done(null, socket);
				return;
			}
			socket.once('secureConnect', () => done(null, socket));
			socket.once('error', done);
		}, done);
	};
}

/** The agents talk to the request that wants the connection: here there is none. */
class Request extends EventEmitter {
	destroy() {}
}
