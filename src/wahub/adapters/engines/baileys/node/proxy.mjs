// The way out through a proxy, for the socket and for media. Loaded only when a link has one.
//
// Promised: every connection of the link is made by the proxy (CONNECT also for ws:// and http://), names are looked up by it
// and not here, and nothing goes around a proxy that is down. The address holds a password: no error of ours repeats it.

import { EventEmitter } from 'node:events';
import { HttpsProxyAgent } from 'https-proxy-agent';
import { SocksProxyAgent } from 'socks-proxy-agent';
import { Agent as Dispatcher } from 'undici';

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

/** How undici, which is Node's fetch, gets a connection. */
function connector(agent) {
	return ({ hostname, port, protocol, servername }, done) => {
		const secureEndpoint = protocol === 'https:';
		const options = { host: hostname, port: Number(port) || (secureEndpoint ? 443 : 80), secureEndpoint };
		if (servername) {
			options.servername = servername;
		}
		const request = new Request();
		agent.connect(request, options).then(socket => {
			if (request.refused) {
				done(new Error('the proxy refused'));
				return;
			}
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
	constructor() {
		super();
		/** Whether the proxy answered something else than a connection, which the agent would hand on as if it were one. */
		this.refused = false;
		this.once('proxyConnect', ({ statusCode }) => (this.refused = statusCode !== 200));
	}

	destroy() {}
}
