// SPDX-License-Identifier: Apache-2.0
// HBONE server on Node's http2 with mutual TLS: dials the authority of each CONNECT and answers 200 once connected, 503
// when that fails. Prints "listening PORT", then a line for each session and request.
//
//   node h2-server.mjs CA CERT KEY [STREAMS] [FROM=TO]...
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import net from 'node:net';

const [ca, cert, key, streams = '100', ...maps] = process.argv.slice(2);
const map = new Map(maps.map((m) => m.split('=')));
const server = http2.createSecureServer({
	ca: readFileSync(ca),
	cert: readFileSync(cert),
	key: readFileSync(key),
	requestCert: true,
	rejectUnauthorized: true,
	minVersion: 'TLSv1.3',
	settings: { maxConcurrentStreams: Number(streams), initialWindowSize: 1 << 20 },
});
let sessions = 0;

server.on('session', (session) => {
	session.number = ++sessions;
	console.log(`session ${session.number}`);
	session.setLocalWindowSize(1 << 24);
	session.on('error', (e) => console.log(`session error ${e.code}`));
});

server.on('stream', (stream, headers) => {
	const peer = stream.session.socket.getPeerCertificate().subjectaltname;
	console.log(`request ${stream.session.number} ${headers[':method']} ${headers[':authority']} peer=${peer} ` +
		`baggage=${headers.baggage} forwarded=${headers.forwarded} network=${headers['x-forwarded-network']}`);
	const target = map.get(headers[':authority']) ?? headers[':authority'];
	const socket = net.connect({
		host: target.slice(0, target.lastIndexOf(':')),
		port: Number(target.slice(target.lastIndexOf(':') + 1)),
		allowHalfOpen: true,
	});
	let connected = false;
	socket.on('connect', () => {
		connected = true;
		stream.respond({ ':status': 200 });
		stream.pipe(socket);
		socket.pipe(stream);
	});
	socket.on('error', () => {
		if (stream.destroyed) return;
		if (connected) stream.close(http2.constants.NGHTTP2_CONNECT_ERROR);
		else stream.respond({ ':status': 503 }, { endStream: true });
	});
	stream.on('error', () => socket.resetAndDestroy());
	stream.on('aborted', () => socket.resetAndDestroy());
});

server.on('tlsClientError', (e) => console.log(`tls error ${e.code}`));
server.listen(0, '127.0.0.1', () => console.log(`listening ${server.address().port}`));
