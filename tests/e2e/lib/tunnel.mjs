// Runs in another network namespace: carries what comes to a socket of the file system, which all namespaces see, to a port of its
// own machine. Ends with its standard input.

import { connect, createServer } from 'node:net';

const [socket, port] = process.argv.slice(2);

createServer((client) => {
  const near = connect(Number(port), '127.0.0.1');
  client.on('error', () => near.destroy()).on('close', () => near.destroy());
  near.on('error', () => client.destroy()).on('close', () => client.destroy());
  client.pipe(near).pipe(client);
}).listen(socket);
process.stdin.on('end', () => process.exit(0)).resume();
