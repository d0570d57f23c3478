// SPDX-License-Identifier: Apache-2.0
// Many CONNECT streams on one HTTP/2 connection, to an echo server of this program: each sends a few bytes, reads them
// back, ends its half and waits for the other's end. With HOLD all stay open until a line comes on standard input.
//
//   node h2-many.mjs PORT CA CERT KEY TOTAL AT-ONCE [HOLD]
//
// Prints "open N" when N are open (HOLD only), "done N most=M", or "error WHAT".
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import net from 'node:net';

const [port, ca, cert, key, total, atOnce, hold] = process.argv.slice(2);
const origin = net.createServer({ allowHalfOpen: true }, (s) => {
	s.on('error', fail);
	s.pipe(s);
});
const waiting = [];
let started = 0;
let open = 0;
let most = 0;
let done = 0;

function fail(error) {
	console.log(`error ${error.code ?? error.message} after ${done} of ${started}`);
	process.exit(1);
}

function start(session) {
	const stream = session.request(
		{ ':method': 'CONNECT', ':authority': `127.0.0.1:${origin.address().port}` }, { endStream: false });
	const text = `stream ${++started}`;
	let got = '';
	most = Math.max(most, ++open);
	stream.setEncoding('latin1');
	stream.on('error', fail);
	stream.on('response', (headers) => {
		if (headers[':status'] !== 200) fail(new Error(`status ${headers[':status']}`));
	});
	stream.write(text);
	stream.on('data', (piece) => {
		got += piece;
		if (got !== text) return;
		if (!hold) {
			stream.end();
			return;
		}
		waiting.push(stream);
		if (waiting.length === Number(total)) {
			console.log(`open ${total}`);
			process.stdin.once('data', () => waiting.forEach((s) => s.end()));
		}
	});
	stream.on('close', () => {
		if (got !== text || stream.rstCode !== 0) fail(new Error(`stream ended with ${stream.rstCode}, "${got}"`));
		open--;
		if (++done === Number(total)) {
			console.log(`done ${done} most=${most}`);
			process.exit(0);
		}
		if (started < Number(total)) start(session);
	});
}

origin.on('error', fail);
origin.listen({ host: '127.0.0.1', port: 0, backlog: 8192 }, () => {
	const session = http2.connect(`https://127.0.0.1:${port}`, {
		ca: readFileSync(ca),
		cert: readFileSync(cert),
		key: readFileSync(key),
		checkServerIdentity: () => undefined,
		maxSessionMemory: 1000,
	});
	session.on('error', fail);
	session.on('goaway', (code) => fail(new Error(`GOAWAY ${code}`)));
	session.once('remoteSettings', () => {
		for (let i = 0; i < Number(atOnce); i++) start(session);
	});
});
