// SPDX-License-Identifier: Apache-2.0
// One CONNECT over HTTP/2 by Node: standard input goes up the tunnel, what comes down is printed, then a line on
// standard error says the status.
//
//   node h2-client.mjs PORT AUTHORITY CA CERT KEY
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { pipeline } from 'node:stream/promises';

const [port, authority, ca, cert, key] = process.argv.slice(2);
const session = http2.connect(`https://127.0.0.1:${port}`, {
	ca: readFileSync(ca),
	cert: readFileSync(cert),
	key: readFileSync(key),
	checkServerIdentity: () => undefined,
});

function fail(error) {
	console.error(`error ${error.code ?? error.message}`);
	process.exit(1);
}

session.on('error', fail);
const stream = session.request({ ':method': 'CONNECT', ':authority': authority }, { endStream: false });
stream.on('error', fail);
stream.on('response', async (headers) => {
	console.error(`status ${headers[':status']}`);
	if (headers[':status'] !== 200) {
		stream.close();
		session.close();
		return;
	}
	const down = (async () => {
		for await (const chunk of stream) process.stdout.write(chunk);
	})();
	await pipeline(process.stdin, stream);
	await down;
	session.close();
});
